//! Raw mode of the user's terminal, and putting it back on every way out.

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, isatty,
    tcgetattr, tcsetattr,
};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// A terminal in raw mode; dropping it puts the terminal back as it was.
#[derive(Debug)]
pub struct RawMode {
    saved: Arc<Saved>,
}

#[derive(Debug)]
struct Saved {
    fd: OwnedFd,
    termios: Termios,
}

/// Terminals in raw mode, for exits without destructors.
static RAW: Mutex<Vec<Arc<Saved>>> = Mutex::new(Vec::new());

impl RawMode {
    /// Sets raw mode if `fd` is a terminal; nothing otherwise. With `signals` the interrupt and suspend keys keep their meaning.
    ///
    /// # Errors
    /// As the system reports.
    pub fn enter(fd: BorrowedFd<'_>, signals: bool) -> io::Result<Option<Self>> {
        if !isatty(fd) {
            return Ok(None);
        }
        let termios = tcgetattr(fd)?;
        let saved = Arc::new(Saved { fd: fd.try_clone_to_owned()?, termios: termios.clone() });
        crate::clean_up_at_exit();
        // Registered first: whatever happens after the change finds what to put back.
        RAW.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&saved));
        let guard = Self { saved };
        tcsetattr(fd, OptionalActions::Now, &raw(termios, signals))?;
        Ok(Some(guard))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let mut all = RAW.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = all.iter().position(|saved| Arc::ptr_eq(saved, &self.saved)) {
            all.swap_remove(at).restore();
        }
    }
}

impl Saved {
    fn restore(&self) {
        let _ = tcsetattr(self.fd.as_fd(), OptionalActions::Now, &self.termios);
    }
}

/// Puts every terminal back. Idempotent; for the way out on a signal, and run when the process ends.
pub fn restore_all() {
    let all = std::mem::take(&mut *RAW.lock().unwrap_or_else(PoisonError::into_inner));
    for saved in all.iter().rev() {
        saved.restore();
    }
}

/// Every key reaches the guest as typed. Output processing stays on, so that our own lines and the guest's bare line feeds
/// both start at the left edge.
fn raw(mut termios: Termios, signals: bool) -> Termios {
    termios.input_modes &= !(InputModes::IGNBRK
        | InputModes::BRKINT
        | InputModes::PARMRK
        | InputModes::ISTRIP
        | InputModes::INLCR
        | InputModes::IGNCR
        | InputModes::ICRNL
        | InputModes::IXON);
    termios.output_modes |= OutputModes::OPOST;
    termios.local_modes &= !(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN);
    if !signals {
        termios.local_modes &= !LocalModes::ISIG;
    }
    termios.control_modes &= !(ControlModes::CSIZE | ControlModes::PARENB);
    termios.control_modes |= ControlModes::CS8;
    termios.special_codes[SpecialCodeIndex::VMIN] = 1;
    termios.special_codes[SpecialCodeIndex::VTIME] = 0;
    termios
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::OpenptFlags;

    fn terminal() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = rustix::pty::openpt(flags).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
        (master, slave)
    }

    #[test]
    fn a_terminal_goes_raw_and_comes_back() {
        let (_master, slave) = terminal();
        let before = tcgetattr(&slave).unwrap().local_modes;
        let guard = RawMode::enter(slave.as_fd(), false).unwrap().unwrap();
        let raw = tcgetattr(&slave).unwrap();
        assert!(!raw.local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG));
        assert!(raw.output_modes.contains(OutputModes::OPOST));
        drop(guard);
        assert_eq!(tcgetattr(&slave).unwrap().local_modes, before);

        let guard = RawMode::enter(slave.as_fd(), true).unwrap().unwrap();
        assert!(tcgetattr(&slave).unwrap().local_modes.contains(LocalModes::ISIG));
        restore_all();
        assert_eq!(tcgetattr(&slave).unwrap().local_modes, before);
        // The guard has nothing left to do, and does nothing.
        drop(guard);
        assert_eq!(tcgetattr(&slave).unwrap().local_modes, before);
    }

    #[test]
    fn a_panic_puts_the_terminal_back() {
        let (_master, slave) = terminal();
        let before = tcgetattr(&slave).unwrap().local_modes;
        let dup = slave.try_clone().unwrap();
        let joined = std::thread::spawn(move || {
            let _guard = RawMode::enter(dup.as_fd(), false).unwrap();
            std::panic::resume_unwind(Box::new(()));
        })
        .join();
        assert!(joined.is_err());
        assert_eq!(tcgetattr(&slave).unwrap().local_modes, before);
    }

    #[test]
    fn what_is_no_terminal_is_left_alone() {
        let (reader, _writer) = io::pipe().unwrap();
        assert!(RawMode::enter(reader.as_fd(), false).unwrap().is_none());
    }
}
