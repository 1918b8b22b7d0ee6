//! The weight of a thread against others.

use std::io;
use std::time::Duration;

/// Sets the nice value of the calling thread alone (-20 to 19; a higher value is a lower weight).
///
/// Lifecycle rule 5.16: with more busy harts than cores, control threads answer in time only if harts weigh less.
///
/// # Errors
/// As the system reports; lowering the value needs a privilege.
pub fn set_thread_nice(nice: i32) -> io::Result<()> {
    // On Linux PRIO_PROCESS with a thread's number means that thread, not its process.
    rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice)?;
    Ok(())
}

/// Sets how long the calling thread wants to execute at a time once it is its turn, in ns. Threads that it starts
/// inherit that.
///
/// This is no weight: the thread's share of the processor stays what it is. But a thread that wakes takes the processor
/// at once from one that has a longer slice, and waits for the next tick otherwise (Linux 6.12 and later; earlier ones
/// accept the value and do not look at it).
///
/// # Errors
/// As the system reports. It needs no privilege.
pub fn set_thread_slice(slice: Duration) -> io::Result<()> {
    let nice = rustix::process::getpriority_process(Some(rustix::thread::gettid()))?;
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX),
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the system call reads `size` bytes at the address, which are the structure's, and keeps nothing of them. Thread
    // 0 is the calling thread.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_gets_lighter() {
        let before = rustix::process::getpriority_process(None).unwrap();
        std::thread::spawn(move || {
            set_thread_nice(before + 3).unwrap();
            let mine = rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
            assert_eq!(mine, before + 3);
        })
        .join()
        .unwrap();
        assert_eq!(rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap(), before);
    }
    #[test]
    fn a_slice_changes_no_weight() {
        let before = rustix::process::getpriority_process(None).unwrap();
        std::thread::spawn(move || {
            set_thread_nice(before + 2).unwrap();
            set_thread_slice(Duration::from_millis(5)).unwrap();
            let nice = rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
            assert_eq!(nice, before + 2);
        })
        .join()
        .unwrap();
    }
}
