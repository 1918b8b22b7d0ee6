//! What a connection has of its own, for the commands that come over it.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qmp::CommandSet;

use crate::access::AllowList;
use crate::commands::Qmp;

/// Descriptors that may wait for the command that takes them. A later one closes the oldest.
const MOST_WAITING: usize = 16;
/// Descriptors that a connection may have given names.
const MOST_NAMED: usize = 256;

/// A connection as its commands see it.
pub(crate) struct Client {
    /// The commands that it may use.
    pub(crate) commands: Arc<CommandSet<&'static Qmp>>,
    /// Which those are, if not all.
    pub(crate) allow: Option<Arc<AllowList>>,
    /// Its name in the machine's records.
    pub(crate) name: Arc<str>,
    /// Whether it wants X_LIFECYCLE. Takes effect with the reply that says so.
    lifecycle: AtomicBool,
    descriptors: Mutex<Descriptors>,
}

/// What the client has sent beside its bytes. All of it is closed when the connection ends.
#[derive(Default)]
struct Descriptors {
    /// Came with bytes, the oldest first; for the next `getfd` or `add-fd`.
    waiting: VecDeque<OwnedFd>,
    /// Named by `getfd`.
    named: BTreeMap<String, OwnedFd>,
}

/// Too many descriptors have names.
#[derive(Debug, thiserror::Error)]
#[error("a connection cannot name more than {MOST_NAMED} file descriptors")]
pub(crate) struct TooManyNamed;

impl Client {
    pub(crate) fn new(
        commands: Arc<CommandSet<&'static Qmp>>,
        allow: Option<Arc<AllowList>>,
        name: Arc<str>,
    ) -> Self {
        Self { commands, allow, name, lifecycle: AtomicBool::new(false), descriptors: Mutex::default() }
    }

    /// The client says whether it wants X_LIFECYCLE.
    pub(crate) fn set_lifecycle(&self, wanted: bool) {
        self.lifecycle.store(wanted, Ordering::Relaxed);
    }

    /// What it said last.
    pub(crate) fn wants_lifecycle(&self) -> bool {
        self.lifecycle.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Descriptors> {
        self.descriptors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps descriptors that have come with bytes, perhaps with mere white space.
    pub(crate) fn keep(&self, fds: &mut Vec<OwnedFd>) {
        if fds.is_empty() {
            return;
        }
        let mut descriptors = self.lock();
        descriptors.waiting.extend(fds.drain(..));
        let excess = descriptors.waiting.len().saturating_sub(MOST_WAITING);
        descriptors.waiting.drain(..excess);
    }

    /// The oldest descriptor that waits.
    pub(crate) fn take_waiting(&self) -> Option<OwnedFd> {
        self.lock().waiting.pop_front()
    }

    /// Names a descriptor; one of that name before is closed.
    pub(crate) fn name(&self, name: &str, fd: OwnedFd) -> Result<(), TooManyNamed> {
        let named = &mut self.lock().named;
        if named.len() >= MOST_NAMED && !named.contains_key(name) {
            return Err(TooManyNamed);
        }
        named.insert(name.to_owned(), fd);
        Ok(())
    }

    /// Takes the descriptor of that name, for a command that uses it up (`fd:NAME`), or to close it.
    pub(crate) fn take_named(&self, name: &str) -> Option<OwnedFd> {
        self.lock().named.remove(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, Read as _};

    fn client() -> Client {
        Client::new(Arc::new(CommandSet::new([], [])), None, "test".into())
    }

    fn pipe() -> (PipeReader, OwnedFd) {
        let (reader, writer) = std::io::pipe().unwrap();
        (reader, writer.into())
    }

    fn is_closed(reader: &mut PipeReader) -> bool {
        reader.read(&mut [0]).unwrap() == 0
    }

    #[test]
    fn what_waits_is_bounded_and_taken_in_order() {
        let client = client();
        let (mut first, fd) = pipe();
        client.keep(&mut vec![fd]);
        let others: Vec<_> = (0..MOST_WAITING).map(|_| pipe()).collect();
        let (_readers, fds): (Vec<_>, Vec<_>) = others.into_iter().unzip();
        for fd in fds {
            client.keep(&mut vec![fd]);
        }
        assert!(is_closed(&mut first), "the oldest has made room");
        assert_eq!(std::iter::from_fn(|| client.take_waiting()).count(), MOST_WAITING);
    }

    #[test]
    fn names_are_bounded_and_a_name_given_anew_closes_what_had_it() {
        let client = client();
        let (mut reader, fd) = pipe();
        client.name("a", fd).unwrap();
        client.name("a", pipe().1).unwrap();
        assert!(is_closed(&mut reader));
        for at in 1..MOST_NAMED {
            client.name(&format!("n{at}"), pipe().1).unwrap();
        }
        assert!(client.name("one too many", pipe().1).is_err());
        client.name("a", pipe().1).unwrap();
        assert!(client.take_named("a").is_some() && client.take_named("a").is_none());
    }

    #[test]
    fn the_end_of_the_connection_closes_what_is_left() {
        let client = client();
        let ((mut named, one), (mut waiting, other)) = (pipe(), pipe());
        client.name("a", one).unwrap();
        client.keep(&mut vec![other]);
        drop(client);
        assert!(is_closed(&mut named) && is_closed(&mut waiting));
    }
}
