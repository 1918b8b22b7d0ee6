//! Connections that nobody knows yet: each is heard on a thread of its own, so that one that says nothing, or nonsense, keeps no
//! other waiting.
//!
//! Bounded: at most [`MOST_STRANGERS`] are heard at a time; for one more the one that has been heard longest has to go.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};

use super::reason;
use crate::channel::{Channel, Cutter};

/// Most connections that are heard at a time.
const MOST_STRANGERS: usize = 16;

/// Hears whoever connects to a listener, and gives those that are welcome.
pub(crate) struct Reception<'a, T> {
    listener: BorrowedFd<'a>,
    cutter: Cutter,
    hear: Arc<Hear<T>>,
    strangers: VecDeque<Stranger>,
    count: u64,
    tell: Sender<(u64, io::Result<T>)>,
    told: Receiver<(u64, io::Result<T>)>,
    /// Readable when something was told.
    bell: Arc<OwnedFd>,
}

/// What makes a stranger welcome, or the reason why it is not.
pub(crate) type Hear<T> = dyn Fn(Channel) -> io::Result<T> + Send + Sync;

struct Stranger {
    number: u64,
    cutter: Cutter,
    thread: JoinHandle<()>,
}

impl<'a, T: Send + 'static> Reception<'a, T> {
    /// Nobody has been heard yet. The listener must not block.
    pub(crate) fn new(listener: BorrowedFd<'a>, cutter: &Cutter, hear: Arc<Hear<T>>) -> io::Result<Self> {
        let (tell, told) = mpsc::channel();
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (strangers, bell) = (VecDeque::new(), Arc::new(bell));
        Ok(Self { listener, cutter: cutter.clone(), hear, strangers, count: 0, tell, told, bell })
    }

    /// Waits for the next one that is welcome. None: `also` has become readable.
    pub(crate) fn next(&mut self, also: Option<BorrowedFd<'_>>) -> io::Result<Option<T>> {
        loop {
            // Before it is looked what was told, so that what is told later rings again.
            let _ = rustix::io::read(&self.bell, &mut [0; 8]);
            while let Ok((number, heard)) = self.told.try_recv() {
                self.strangers.retain(|stranger| stranger.number != number);
                match heard {
                    Ok(welcome) => return Ok(Some(welcome)),
                    Err(error) => tracing::error!("a connection is refused: {}", reason(&error)),
                }
            }
            if let Some(channel) = self.accept()? {
                self.hear(channel)?;
                continue;
            }
            if let Some(also) = also
                && is_readable(also)?
            {
                return Ok(None);
            }
            let bell = Arc::clone(&self.bell);
            let any: Vec<_> = [self.listener, bell.as_fd()].into_iter().chain(also).collect();
            self.cutter.wait_any(&any, PollFlags::IN, None)?;
        }
    }

    /// A connection, if there is one.
    fn accept(&self) -> io::Result<Option<(Channel, Cutter)>> {
        match accept_with(self.listener, SocketFlags::CLOEXEC) {
            Ok(fd) => {
                // A Unix socket has no such option and needs none.
                let _ = sockopt::set_tcp_nodelay(&fd, true);
                let cutter = self.cutter.part()?;
                Ok(Some((Channel::new(fd, &cutter)?, cutter)))
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn hear(&mut self, (channel, cutter): (Channel, Cutter)) -> io::Result<()> {
        if self.strangers.len() >= MOST_STRANGERS
            && let Some(oldest) = self.strangers.pop_front()
        {
            oldest.cutter.cut();
        }
        self.count += 1;
        let number = self.count;
        let (hear, tell, bell) = (Arc::clone(&self.hear), self.tell.clone(), Arc::clone(&self.bell));
        let thread = thread::Builder::new().name("reception".to_owned()).spawn(move || {
            // Nobody may want to know any more.
            let _ = tell.send((number, hear(channel)));
            let _ = rustix::io::write(&bell, &1u64.to_ne_bytes());
        })?;
        self.strangers.push_back(Stranger { number, cutter, thread });
        Ok(())
    }
}

impl<T> Drop for Reception<'_, T> {
    fn drop(&mut self) {
        for stranger in self.strangers.drain(..) {
            stranger.cutter.cut();
            // It waits for nothing any more.
            let _ = stranger.thread.join();
        }
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    use rustix::event::{PollFd, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&now)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
