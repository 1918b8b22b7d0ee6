//! The source in postcopy: sends what it is asked for first, and behind that all the rest.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use stream::Control;

use super::Chunks;
use crate::channel::Cutter;
use crate::outgoing::OutgoingError;
use crate::pace::Pacer;
use crate::peer::Peer;
use crate::rounds::Rounds;
use crate::statistics::Progress;

/// How often the bound is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// After how many chunks that nobody has asked for what has gathered is sent.
const BATCH: usize = 64;

/// How long the last word of the other side is waited for when it takes nothing more.
const LAST_WORD: Duration = Duration::from_secs(1);

/// One connection's part of it.
pub(crate) struct Push<'a> {
    pub(crate) rounds: &'a mut Rounds,
    pub(crate) peer: &'a mut Peer,
    pub(crate) cutter: &'a Cutter,
    pub(crate) progress: &'a Progress,
    /// Most bytes a second of what nobody has asked for; 0 is no bound.
    pub(crate) most: &'a dyn Fn() -> u64,
}

/// What the other side has said.
struct Inbox {
    heard: Mutex<Heard>,
    news: Condvar,
}

struct Heard {
    asked: VecDeque<usize>,
    /// What is to be sent and was not asked for yet.
    unasked: Chunks,
    end: Option<Result<(), OutgoingError>>,
}

enum Next {
    Asked(usize),
    /// Nothing is asked for.
    Idle,
    /// It has everything, or the connection is lost.
    End,
}

impl Inbox {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing to do; waits for it until `until`.
    fn next(&self, until: Option<Instant>) -> Next {
        let mut heard = self.heard();
        loop {
            if heard.end.is_some() {
                return Next::End;
            }
            if let Some(chunk) = heard.asked.pop_front() {
                return Next::Asked(chunk);
            }
            heard = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => return Next::Idle,
                Some(left) => self.news.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.news.wait(heard).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Waits until there is an end, but no longer than `patience`.
    fn wait_for_end(&self, patience: Duration) {
        let heard = self.heard();
        let ended = self.news.wait_timeout_while(heard, patience, |heard| heard.end.is_none());
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes what the other side says, to its end.
    fn listen(&self, peer: &mut Peer, progress: &Progress) -> Result<(), OutgoingError> {
        loop {
            match peer.word()? {
                Control::PageRequest { chunk, count } => {
                    progress.postcopy_requests.add(1);
                    let mut heard = self.heard();
                    let first = usize::try_from(chunk).unwrap_or(usize::MAX);
                    // Each is asked for once, however often it is.
                    let mut next = first;
                    while let Some(chunk) = heard.unasked.next(next) {
                        if chunk - first >= count as usize {
                            break;
                        }
                        heard.unasked.remove(chunk);
                        heard.asked.push_back(chunk);
                        next = chunk + 1;
                    }
                    drop(heard);
                    self.news.notify_all();
                }
                Control::Done => return Ok(()),
                Control::Refused { text } => return Err(OutgoingError::Refused(text)),
                _ => return Err(OutgoingError::Misplaced("a word that does not belong into postcopy")),
            }
        }
    }
}

impl Push<'_> {
    /// Sends `left` until the other side says that it has everything.
    pub(crate) fn run(self, left: Chunks) -> Result<(), OutgoingError> {
        let Push { rounds, peer, cutter, progress, most } = self;
        progress.remaining.set(left.len() as u64 * ram::CHUNK_SIZE as u64);
        let heard = Heard { asked: VecDeque::new(), unasked: left.clone(), end: None };
        let inbox = Inbox { heard: Mutex::new(heard), news: Condvar::new() };
        thread::scope(|scope| {
            let listener = thread::Builder::new().name("postcopy".to_owned()).spawn_scoped(scope, || {
                let end = inbox.listen(peer, progress);
                inbox.heard().end.get_or_insert(end);
                inbox.news.notify_all();
                // A sender that waits for the other side need not wait any more.
                cutter.cut();
            });
            let sent = match listener {
                Ok(_) => send(rounds, &inbox, left, progress, most),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = sent {
                // Who does not take more may have said that it needs none.
                inbox.wait_for_end(LAST_WORD);
                inbox.heard().end.get_or_insert(Err(error));
            }
            cutter.cut();
        });
        let heard = inbox.heard.into_inner().unwrap_or_else(PoisonError::into_inner);
        heard.end.unwrap_or(Ok(()))
    }
}

/// Sends until there is an end.
fn send(
    rounds: &mut Rounds,
    inbox: &Inbox,
    mut left: Chunks,
    progress: &Progress,
    most: &dyn Fn() -> u64,
) -> Result<(), OutgoingError> {
    let before = progress.transferred.get() - progress.postcopy_bytes.get();
    let mut pacer = Pacer::new(Instant::now());
    let (mut cursor, mut gathered, mut unasked) = (0, 0, 0);
    loop {
        let next = left.next(cursor).or_else(|| left.next(0));
        let now = Instant::now();
        let due = pacer.due(std::mem::take(&mut unasked), most(), now);
        // The bound may be changed meanwhile.
        let until = next.map(|_| due.min(now + GLANCE));
        let chunk = match (inbox.next(until), next) {
            (Next::End, _) => return Ok(()),
            (Next::Asked(chunk), _) if !left.has(chunk) => continue,
            (Next::Asked(chunk), _) => {
                send_chunk(rounds, chunk)?;
                rounds.flush()?;
                chunk
            }
            (Next::Idle, Some(_)) if Instant::now() < due => continue,
            (Next::Idle, Some(chunk)) => {
                let bytes = rounds.bytes();
                send_chunk(rounds, chunk)?;
                gathered += 1;
                if gathered % BATCH == 0 {
                    rounds.flush()?;
                }
                unasked = rounds.bytes() - bytes;
                chunk
            }
            (Next::Idle, None) => continue,
        };
        left.remove(chunk);
        // What is behind one that was needed is needed next.
        cursor = chunk + 1;
        if left.is_empty() {
            rounds.flush()?;
        }
        rounds.count();
        progress.postcopy_bytes.set(progress.transferred.get() - before);
    }
}

fn send_chunk(rounds: &mut Rounds, chunk: usize) -> Result<(), OutgoingError> {
    rounds.chunk(chunk).map(drop)
}
