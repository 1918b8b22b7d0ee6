//! What is done about a request that failed on the host: `werror` and `rerror`.

use std::io;
use std::str::FromStr;

use rustix::io::Errno;

/// What an operator wants done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnError {
    /// Tell the guest.
    Report,
    /// Tell the guest that all is well.
    Ignore,
    /// Hold the machine.
    Stop,
    /// Hold the machine when there is no space left, else tell the guest.
    Enospc,
}

impl FromStr for OnError {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "report" => Ok(Self::Report),
            "ignore" => Ok(Self::Ignore),
            "stop" => Ok(Self::Stop),
            "enospc" => Ok(Self::Enospc),
            _ => Err(()),
        }
    }
}

/// What is done about one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The guest is told.
    Report,
    /// The guest is told that all is well.
    Ignore,
    /// The machine is held, and the request made again when it goes on.
    Stop,
}

/// For writes (flushes and discards count as such) and for reads. The default is QEMU's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// `werror`.
    pub write: OnError,
    /// `rerror`.
    pub read: OnError,
}

impl Default for Policy {
    fn default() -> Self {
        Self { write: OnError::Enospc, read: OnError::Report }
    }
}

impl Policy {
    /// What to do about `error`.
    pub fn action(self, is_read: bool, error: &io::Error) -> Action {
        match if is_read { self.read } else { self.write } {
            OnError::Report => Action::Report,
            OnError::Ignore => Action::Ignore,
            OnError::Stop => Action::Stop,
            OnError::Enospc if is_no_space(error) => Action::Stop,
            OnError::Enospc => Action::Report,
        }
    }
}

/// Whether the host has no space left.
pub fn is_no_space(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOSPC.raw_os_error())
}

/// How a disk stands with its host: what stopped the machine last.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IoStatus {
    /// All is well.
    #[default]
    Ok,
    /// A request failed.
    Failed,
    /// There was no space left.
    NoSpace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_the_machine_only_for_want_of_space() {
        let (space, other) = (io::Error::from(Errno::NOSPC), io::Error::from(Errno::IO));
        let policy = Policy::default();
        assert_eq!(policy.action(false, &space), Action::Stop);
        assert_eq!(policy.action(false, &other), Action::Report);
        assert_eq!(policy.action(true, &space), Action::Report);
        let policy = Policy { write: OnError::Ignore, read: OnError::Stop };
        assert_eq!(
            (policy.action(false, &space), policy.action(true, &other)),
            (Action::Ignore, Action::Stop)
        );
    }
}
