//! Memory that is still on the other side, as this side's RAM asks for it.
//!
//! ```text
//!   hart: fill ────► wanted ──► whoever asks ──► PageRequest     (take.rs)
//!     ▲  waits                                       │
//!     └──────────── mail ◄── give ◄── Memory ◄───────┘
//! ```
//! Nobody who needs a chunk touches the connection, so nobody is kept by it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ram::{ChunkSource, FillError, OpenError, Ram};

use super::Chunks;

/// How long a hart waits for a chunk before it looks what else is wanted of it.
const GLANCE: Duration = Duration::from_millis(4);

/// What is absent here, on its way.
pub(crate) struct Pull {
    state: Mutex<State>,
    /// Something is to be asked for, or there is nothing more to ask.
    asks: Condvar,
    /// A chunk has come, for who waits for it.
    came: Condvar,
    /// The same for those who are told later.
    tells: Condvar,
}

struct State {
    /// To be asked for, each once for each connection.
    wanted: VecDeque<usize>,
    asked: Chunks,
    /// The chunk that has come, until it is put where it belongs.
    mail: Option<(usize, Option<Vec<u8>>)>,
    /// How many wait for one.
    waiting: usize,
    /// Counts connections.
    connection: u64,
    /// Nothing is absent any more.
    over: bool,
    /// Nobody brings anything any more.
    abandoned: bool,
    /// Something has come since it was last told.
    news: bool,
    /// Nobody wants to be told.
    released: bool,
}

/// What the one who asks is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    /// Ask for this chunk.
    For(usize),
    /// Say that nothing is absent any more.
    Done,
    /// Nothing more: the connection is not the one that there is.
    End,
}

impl Pull {
    /// For a machine with `count` chunks. Nothing was asked for yet.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let state = State {
            wanted: VecDeque::new(),
            asked: Chunks::none(count),
            mail: None,
            waiting: 0,
            connection: 0,
            over: false,
            abandoned: false,
            news: false,
            released: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            asks: Condvar::new(),
            came: Condvar::new(),
            tells: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a new connection, over which nothing was asked for; gives its number. Or there is none: the same.
    pub(crate) fn connect(&self) -> u64 {
        let mut state = self.state();
        state.connection += 1;
        state.wanted.clear();
        state.asked.clear();
        self.asks.notify_all();
        state.connection
    }

    /// Waits for what is to be asked over `connection`.
    pub(crate) fn next(&self, connection: u64) -> Ask {
        let mut state = self.state();
        loop {
            if state.connection != connection {
                return Ask::End;
            }
            if state.over {
                return Ask::Done;
            }
            if let Some(chunk) = state.wanted.pop_front() {
                return Ask::For(chunk);
            }
            state = self.asks.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until `connection` is no more, but no longer than `patience`. Whether it is.
    pub(crate) fn wait_gone(&self, connection: u64, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.state();
        while state.connection == connection {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.asks.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Puts a chunk that has come where it belongs, if it is absent. `None`: it is zero.
    pub(crate) fn give(&self, ram: &Ram, chunk: usize, bytes: Option<&[u8]>) -> Result<(), OpenError> {
        let mut state = self.state();
        state.mail = Some((chunk, bytes.map(<[u8]>::to_vec)));
        state.news = true;
        if state.waiting > 0 {
            self.came.notify_all();
        }
        drop(state);
        let filled = ram.fill_chunk(chunk);
        self.state().mail = None;
        self.tells.notify_all();
        filled
    }

    /// Waits until something has come since the last call. False: nothing will.
    pub(crate) fn wait_news(&self) -> bool {
        let mut state = self.state();
        while !state.news {
            if state.over || state.released {
                return false;
            }
            state = self.tells.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.news = false;
        true
    }

    /// Devices are to ask anew for what they wait for.
    pub(crate) fn make_news(&self) {
        self.state().news = true;
        self.tells.notify_all();
    }

    /// Nobody is told any more of what comes.
    pub(crate) fn release(&self) {
        self.state().released = true;
        self.tells.notify_all();
    }

    /// Whether nothing is absent any more.
    pub(crate) fn is_over(&self) -> bool {
        self.state().over
    }

    /// Nobody will bring anything: what is absent is lost.
    pub(crate) fn abandon(&self) {
        self.state().abandoned = true;
        self.came.notify_all();
    }

    fn ask_for(&self, state: &mut State, chunk: usize) {
        if state.asked.add(chunk) {
            state.wanted.push_back(chunk);
            self.asks.notify_all();
        }
    }

    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        let until = Instant::now() + GLANCE;
        let mut state = self.state();
        loop {
            match &state.mail {
                Some((come, bytes)) if *come == chunk => {
                    if let Some(bytes) = bytes.as_ref().filter(|bytes| bytes.len() == into.len()) {
                        into.copy_from_slice(bytes);
                    }
                    return Ok(());
                }
                _ if state.abandoned => return Err(FillError::Failed("the migration has ended".into())),
                _ => {}
            }
            self.ask_for(&mut state, chunk);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(FillError::Interrupted);
            }
            state.waiting += 1;
            state = self.came.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }
}

/// What RAM has of it: gone when nothing is absent any more, or when what is absent was given up.
pub(crate) struct InRam(pub(crate) Arc<Pull>);

impl ChunkSource for InRam {
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        self.0.fill(chunk, into)
    }

    fn is_far(&self) -> bool {
        true
    }

    fn want(&self, chunk: usize) {
        let mut state = self.0.state();
        self.0.ask_for(&mut state, chunk);
    }
}

impl Drop for InRam {
    fn drop(&mut self) {
        self.0.state().over = true;
        self.0.asks.notify_all();
        self.0.tells.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ram::{CHUNK_SIZE, Portion, RamError};

    const BASE: u64 = 0x8000_0000;

    /// Four chunks, of which the last two are absent.
    fn absent() -> (Arc<Ram>, Arc<Pull>) {
        let ram = Arc::new(Ram::new(BASE, 4 * CHUNK_SIZE as u64).unwrap());
        let pull = Pull::new(ram.chunk_count());
        ram.replace(Portion::Chunks(&[0b1100]), Arc::new(InRam(Arc::clone(&pull))), || {});
        (ram, pull)
    }

    fn first(ram: &Ram, chunk: usize) -> Result<u8, RamError> {
        let mut byte = [0];
        ram.read(BASE + (chunk * CHUNK_SIZE) as u64, &mut byte).map(|()| byte[0])
    }

    #[test]
    fn what_has_come_is_not_written_again() {
        let (ram, pull) = absent();
        pull.give(&ram, 2, Some(&[7; CHUNK_SIZE])).unwrap();
        assert_eq!(first(&ram, 2).unwrap(), 7);
        ram.write(BASE + 2 * CHUNK_SIZE as u64, &[8]).unwrap();
        pull.give(&ram, 2, Some(&[7; CHUNK_SIZE])).unwrap();
        pull.give(&ram, 2, None).unwrap();
        pull.give(&ram, 0, Some(&[7; CHUNK_SIZE])).unwrap();
        assert_eq!((first(&ram, 2).unwrap(), first(&ram, 0).unwrap()), (8, 0));
        assert!(!pull.is_over());
        pull.give(&ram, 3, None).unwrap();
        assert_eq!((first(&ram, 3).unwrap(), pull.is_over(), ram.absent()), (0, true, 0));
    }

    #[test]
    fn a_chunk_is_asked_for_once_for_each_connection_until_nothing_is_needed() {
        let (ram, pull) = absent();
        let connection = pull.connect();
        for _ in 0..3 {
            assert!(matches!(first(&ram, 3), Err(RamError::Delayed { .. })));
        }
        assert!(!ram.memory().is_here(BASE, 4 * CHUNK_SIZE));
        assert_eq!([pull.next(connection), pull.next(connection)], [Ask::For(3), Ask::For(2)]);
        let again = pull.connect();
        assert_eq!(pull.next(connection), Ask::End, "of the connection that was");
        assert!(first(&ram, 3).is_err());
        assert_eq!(pull.next(again), Ask::For(3));
        ram.give_up_absent();
        assert_eq!((pull.next(again), pull.wait_news()), (Ask::Done, false));
        assert!(!pull.wait_gone(again, Duration::ZERO));
    }

    #[test]
    fn who_waits_gets_it_from_the_hand_of_who_brings_it() {
        let (ram, pull) = absent();
        let connection = pull.connect();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                loop {
                    if let Ok(byte) = first(&ram, 3) {
                        return byte;
                    }
                }
            });
            assert_eq!(pull.next(connection), Ask::For(3));
            pull.give(&ram, 3, Some(&[9; CHUNK_SIZE])).unwrap();
            assert_eq!(waits.join().unwrap(), 9);
        });
        assert!(pull.wait_news());
    }

    #[test]
    fn what_nobody_brings_any_more_is_lost() {
        let (ram, pull) = absent();
        pull.abandon();
        assert!(matches!(first(&ram, 3), Err(RamError::Lost(_))));
        assert!(ram.missing().unwrap().to_string().contains("the migration has ended"));
        assert_eq!(first(&ram, 0).unwrap(), 0, "what is here is here");
    }
}
