//! Errors of host memory (SIGBUS) under memory that somebody watches: noted, and survived.
//!
//! ```text
//!   access ─► SIGBUS ─► in a watched range? ─ no ─► whoever had the signal before (as a rule, the process dies)
//!                          │ yes
//!                          ├─ an empty page takes the place of the bad one, so the access ends: it reads zeros
//!                          ├─ noted, with its address: for the thread if it answers for itself, for the range otherwise
//!                          └─ the range's alarm is rung
//! ```
//!
//! The signal comes for a page that the hardware has lost (`BUS_MCEERR_AR`, `BUS_MCEERR_AO`), for a file that ends before
//! its mapping does (`BUS_ADRERR`), and for an error of what is mapped (`BUS_OBJERR`): see sigaction(2).
//!
//! Ranges are nodes of a list that only grows; a node whose range is gone is used again. The handler walks the list with
//! atomics alone. It marks a node as in use while it looks at it, and who gives up a range waits for that to end.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What is called when there was an error, in the signal's handler: it may only do what signal-safety(7) allows, which is
/// atomics and plain system calls. It must not panic, and one that does ends the process.
pub type Alarm = Arc<dyn Fn() + Send + Sync>;

struct Node {
    /// Null or another node; never changed once the node is in the list.
    next: AtomicPtr<Node>,
    taken: AtomicBool,
    /// Handlers that look at the node.
    in_use: AtomicU32,
    start: AtomicUsize,
    /// 0: no range at present.
    len: AtomicUsize,
    /// Errors, whoever has met them.
    met: AtomicU64,
    /// Those of threads that do not answer for their own.
    errors: AtomicU64,
    /// Where the last of them was.
    last: AtomicUsize,
    /// A box of an [`Alarm`], or null.
    alarm: AtomicPtr<Alarm>,
}

static NODES: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

/// What was done about the signal before, and the size of the host's pages.
struct Before {
    action: libc::sigaction,
    page: usize,
}

static BEFORE: OnceLock<Before> = OnceLock::new();

/// The thread answers for its errors, and has met none.
const NONE: usize = 0;
/// The thread does not answer for its errors.
const UNASKED: usize = usize::MAX;

thread_local! {
    // Without a destructor and with a constant to begin with, so that a handler may touch it.
    static OWN: AtomicUsize = const { AtomicUsize::new(UNASKED) };
}

/// The errors that this thread meets from here on are its own to report, by [`take_own_error`].
pub fn answer_for_own_errors() {
    OWN.with(|own| own.store(NONE, Ordering::Relaxed));
}

/// The host address of the last error that this thread, which answers for its errors, has met since it last asked.
pub fn take_own_error() -> Option<usize> {
    OWN.with(|own| match own.load(Ordering::Relaxed) {
        NONE | UNASKED => None,
        _ => Some(own.swap(NONE, Ordering::Relaxed)),
    })
}

/// A range of memory whose errors are survived, for as long as this lives.
pub struct Watched {
    node: &'static Node,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("len", &self.node.len).field("errors", &self.errors()).finish()
    }
}

impl Watched {
    /// Watches `len` bytes at `start`.
    ///
    /// # Errors
    /// When the range is not made of whole pages of the host, or the system refuses the handler.
    ///
    /// # Safety
    /// The whole range is a writable mapping that stays for as long as this value lives, and no Rust reference but to atomics
    /// points into it: any page of it may be replaced at any time by one full of zeros.
    pub unsafe fn new(start: *mut u8, len: usize) -> io::Result<Self> {
        let page = before()?.page;
        if !start.addr().is_multiple_of(page) || !len.is_multiple_of(page) || len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let node = free_node();
        node.met.store(0, Ordering::SeqCst);
        node.errors.store(0, Ordering::SeqCst);
        node.start.store(start.expose_provenance(), Ordering::SeqCst);
        node.len.store(len, Ordering::SeqCst);
        Ok(Self { node })
    }

    /// Errors met by any thread.
    pub fn met(&self) -> u64 {
        self.node.met.load(Ordering::SeqCst)
    }

    /// Errors met by threads that do not answer for their own.
    pub fn errors(&self) -> u64 {
        self.node.errors.load(Ordering::SeqCst)
    }

    /// Where in the range the last of them was, in bytes from its start.
    pub fn last_error(&self) -> Option<usize> {
        (self.errors() > 0).then(|| self.offset_of(self.node.last.load(Ordering::SeqCst)))?
    }

    /// How far into the range host address `addr` is.
    pub fn offset_of(&self, addr: usize) -> Option<usize> {
        let offset = addr.wrapping_sub(self.node.start.load(Ordering::SeqCst));
        (offset < self.node.len.load(Ordering::SeqCst)).then_some(offset)
    }

    /// Has `alarm` called at each error from now on, whichever thread meets it. The first one stays.
    pub fn set_alarm(&self, alarm: Alarm) {
        let new = Box::into_raw(Box::new(alarm));
        let set = self.node.alarm.compare_exchange(ptr::null_mut(), new, Ordering::SeqCst, Ordering::SeqCst);
        if set.is_err() {
            // SAFETY: the pointer was made by `into_raw` above, and nobody else has got it.
            drop(unsafe { Box::from_raw(new) });
        }
    }

    /// Makes the page `offset` bytes into the range one that cannot be read or written, as if a file behind it had been cut
    /// short: the next access is an error. For tests of what follows.
    ///
    /// # Errors
    /// When the offset is outside of the range, or the system refuses.
    pub fn spoil(&self, offset: usize) -> io::Result<()> {
        if offset >= self.node.len.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let page = before()?.page;
        let empty = rustix::fs::memfd_create("empty", rustix::fs::MemfdFlags::CLOEXEC)?;
        let at = (self.node.start.load(Ordering::SeqCst) + offset) & !(page - 1);
        let file = empty.as_fd().as_raw_fd();
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        // SAFETY: `new`'s caller has promised that each page of the range may be replaced; an access to this one comes to
        // the handler, which is installed.
        let mapped = unsafe { libc::mmap(ptr::with_exposed_provenance_mut(at), page, prot, flags, file, 0) };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.node.len.store(0, Ordering::SeqCst);
        // From here on no handler finds the range; one that has found it is in use of the node for some microseconds.
        while self.node.in_use.load(Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
        let alarm = self.node.alarm.swap(ptr::null_mut(), Ordering::SeqCst);
        if !alarm.is_null() {
            // SAFETY: `set_alarm` has made the pointer by `into_raw`, it is no longer in the node, and no handler that could
            // have read it there is still at it.
            drop(unsafe { Box::from_raw(alarm) });
        }
        self.node.taken.store(false, Ordering::SeqCst);
    }
}

/// A node without a range, for the caller alone.
fn free_node() -> &'static Node {
    let claim =
        |node: &&Node| node.taken.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    if let Some(node) = nodes().find(claim) {
        return node;
    }
    let node: &'static Node = Box::leak(Box::new(Node {
        next: AtomicPtr::new(ptr::null_mut()),
        taken: AtomicBool::new(true),
        in_use: AtomicU32::new(0),
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        met: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        last: AtomicUsize::new(0),
        alarm: AtomicPtr::new(ptr::null_mut()),
    }));
    let mut first = NODES.load(Ordering::SeqCst);
    loop {
        node.next.store(first, Ordering::SeqCst);
        match NODES.compare_exchange(
            first,
            ptr::from_ref(node).cast_mut(),
            Ordering::SeqCst,
            Ordering::SeqCst,
        ) {
            Ok(_) => return node,
            Err(now) => first = now,
        }
    }
}

fn nodes() -> impl Iterator<Item = &'static Node> {
    let mut next = NODES.load(Ordering::SeqCst);
    std::iter::from_fn(move || {
        // SAFETY: a pointer in the list is null or a leaked node, never freed and only ever shared.
        let node = unsafe { next.as_ref() }?;
        next = node.next.load(Ordering::SeqCst);
        Some(node)
    })
}

// ---- the signal ----

/// Installs the handler, once in the life of the process.
fn before() -> io::Result<&'static Before> {
    static INSTALLING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(before) = BEFORE.get() {
        return Ok(before);
    }
    // SAFETY: all zeros is a value of this structure of integers, pointers and an optional function.
    let (mut action, mut old) = unsafe { (std::mem::zeroed::<libc::sigaction>(), std::mem::zeroed()) };
    // SAFETY: both pointers are to structures of ours; a null pointer asks without changing anything.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut old) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let before = BEFORE.get_or_init(|| Before { action: old, page: rustix::param::page_size() });
    action.sa_sigaction = handler as extern "C" fn(_, _, _) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the mask is ours to write.
    unsafe { libc::sigemptyset(&raw mut action.sa_mask) };
    // SAFETY: the action is complete, and the handler has the signature that SA_SIGINFO asks for; it keeps to what
    // signal-safety(7) allows and preserves `errno`.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(before)
}

extern "C" fn handler(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the C library gives each thread an `errno` of its own, always valid.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: with SA_SIGINFO the kernel gives a valid siginfo for the length of the call.
    let code = unsafe { (*info).si_code };
    // SAFETY: as above; for a SIGBUS of the kernel's own the address is there, for others it is not looked at.
    let addr = unsafe { (*info).si_addr() }.addr();
    // A misaligned access is a fault of the program, and not of the memory.
    let memory = code > 0 && code != libc::BUS_ADRALN;
    if !(memory && nodes().any(|node| node.meets(addr))) {
        pass_on(code);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

impl Node {
    /// In the handler: survives an error at `addr` if that is in this range.
    fn meets(&self, addr: usize) -> bool {
        self.in_use.fetch_add(1, Ordering::SeqCst);
        let (start, len) = (self.start.load(Ordering::SeqCst), self.len.load(Ordering::SeqCst));
        let survived = addr.wrapping_sub(start) < len && replace(addr);
        if survived {
            self.note(addr);
        }
        self.in_use.fetch_sub(1, Ordering::SeqCst);
        survived
    }

    fn note(&self, addr: usize) {
        self.met.fetch_add(1, Ordering::SeqCst);
        let own = OWN.with(|own| {
            let answers = own.load(Ordering::Relaxed) != UNASKED;
            if answers {
                own.store(addr, Ordering::Relaxed);
            }
            answers
        });
        if !own {
            self.last.store(addr, Ordering::SeqCst);
            self.errors.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: null or a box's pointer, which is not freed while the node is in use.
        if let Some(alarm) = unsafe { self.alarm.load(Ordering::SeqCst).as_ref() } {
            alarm();
        }
    }
}

/// In the handler: puts an empty page in the place of the one at `addr`, which is in a watched range.
fn replace(addr: usize) -> bool {
    let Some(Before { page, .. }) = BEFORE.get() else { return false };
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    let at = ptr::with_exposed_provenance_mut(addr & !(page - 1));
    // SAFETY: the page is in a range of which `Watched::new`'s caller has promised that it may be replaced, and which is
    // still mapped: whoever gives it up first waits until the node is not in use.
    unsafe { libc::mmap(at, *page, prot, flags, -1, 0) != libc::MAP_FAILED }
}

/// In the handler: not ours. Whoever had the signal before has it again, and gets it again: from the access itself when this
/// returns, or, if a process has sent it, from here.
fn pass_on(code: libc::c_int) {
    let Some(Before { action, .. }) = BEFORE.get() else { return };
    let sent = code <= 0;
    if sent && action.sa_sigaction == libc::SIG_IGN {
        return;
    }
    // SAFETY: the action is the one that the system has given out, and `raise` is safe in a handler.
    unsafe {
        libc::sigaction(libc::SIGBUS, action, ptr::null_mut());
        if sent {
            libc::raise(libc::SIGBUS);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Some pages of this process's, never unmapped.
    fn pages(count: usize) -> (*mut u8, usize) {
        let len = count * rustix::param::page_size();
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: asks for new memory, wherever the kernel likes.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        (at.cast(), len)
    }

    fn watched(count: usize) -> (Watched, *mut u8) {
        let (at, len) = pages(count);
        // SAFETY: the mapping stays, and nobody makes a reference into it.
        (unsafe { Watched::new(at, len) }.unwrap(), at)
    }

    fn read(at: *mut u8) -> u8 {
        // SAFETY: the tests read within their pages only.
        unsafe { at.read_volatile() }
    }

    fn write(at: *mut u8, value: u8) {
        // SAFETY: the tests write within their pages only.
        unsafe { at.write_volatile(value) };
    }

    #[test]
    fn an_error_is_survived_noted_and_told_and_no_other_page_is_touched() {
        let (memory, at) = watched(3);
        let page = rustix::param::page_size();
        let rung = Arc::new(AtomicU32::new(0));
        let bell = Arc::clone(&rung);
        memory.set_alarm(Arc::new(move || {
            bell.fetch_add(1, Ordering::SeqCst);
        }));
        for n in 0..3 {
            write(at.wrapping_add(n * page), 7);
        }
        memory.spoil(page + 5).unwrap();
        assert_eq!((memory.errors(), rung.load(Ordering::SeqCst), memory.last_error()), (0, 0, None));
        assert_eq!(read(at.wrapping_add(page)), 0);
        assert_eq!((memory.errors(), rung.load(Ordering::SeqCst)), (1, 1));
        assert_eq!(memory.last_error(), Some(page));
        assert_eq!((read(at), read(at.wrapping_add(2 * page))), (7, 7));
        // The page is an ordinary one now.
        write(at.wrapping_add(page), 9);
        assert_eq!((read(at.wrapping_add(page)), memory.errors()), (9, 1));
        assert!(memory.spoil(3 * page).is_err());
        drop(memory);
        assert_eq!(Arc::strong_count(&rung), 1, "the alarm is kept");
    }

    #[test]
    fn a_thread_that_answers_for_itself_has_its_errors_to_itself() {
        let (memory, at) = watched(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                answer_for_own_errors();
                assert_eq!(take_own_error(), None);
                memory.spoil(0).unwrap();
                let at = memory.node.start.load(Ordering::SeqCst);
                write(ptr::with_exposed_provenance_mut(at), 1);
                assert_eq!((take_own_error(), take_own_error()), (Some(at), None));
            });
        });
        assert_eq!((memory.errors(), memory.met(), read(at)), (0, 1, 1));
        assert_eq!(take_own_error(), None);
    }

    #[test]
    fn a_range_must_be_whole_pages() {
        let (at, len) = pages(2);
        for (start, len) in [(at.wrapping_add(1), len), (at, len - 1), (at, 0)] {
            // SAFETY: refused, and mapped in any case.
            assert!(unsafe { Watched::new(start, len) }.is_err());
        }
    }

    /// The test that runs itself in a process of its own, which has to die.
    #[test]
    fn an_error_elsewhere_and_a_signal_that_was_sent_end_the_process_as_ever() {
        use std::os::unix::process::ExitStatusExt as _;
        const HOW: &str = "DORMOUSE_TEST_SIGBUS";
        match std::env::var(HOW).as_deref() {
            Ok("elsewhere") => {
                let (memory, at) = watched(1);
                memory.spoil(0).unwrap();
                drop(memory);
                read(at);
            }
            Ok(_) => {
                let (_memory, _) = watched(1);
                // The handler of Rust's own runtime swallows the first one that was sent, here as without a handler of ours.
                for _ in 0..2 {
                    // SAFETY: a signal to this process itself.
                    unsafe { libc::raise(libc::SIGBUS) };
                }
            }
            Err(_) => {
                for how in ["elsewhere", "sent"] {
                    let name = std::thread::current().name().unwrap().to_owned();
                    let mut child = Command::new(std::env::current_exe().unwrap());
                    let output = child.args(["--exact", &name]).env(HOW, how).output().unwrap();
                    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{how}: {output:?}");
                }
            }
        }
    }
}
