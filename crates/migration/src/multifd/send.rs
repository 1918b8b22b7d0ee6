//! The source's side: channels that take runs of pages from one queue.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use ram::{PAGE_SIZE, Ram};
use stream::{Control, Header};

use super::AHEAD;
use crate::channel::Cutter;
use crate::open::{Opened, Target};
use crate::outgoing::OutgoingError;
use crate::peer::Peer;
use crate::rounds::Meter;
use crate::statistics::Progress;

/// What channels are opened for.
pub(crate) struct Plan {
    pub(crate) ram: Arc<Ram>,
    /// The main channel's.
    pub(crate) header: Header,
    /// Of compression.
    pub(crate) level: i32,
    pub(crate) progress: Arc<Progress>,
    /// How many.
    pub(crate) count: u16,
}

/// Channels at work. Dropped, they are cut and their threads have ended.
pub(crate) struct Lanes {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    cutter: Cutter,
}

struct Shared {
    ram: Arc<Ram>,
    progress: Arc<Progress>,
    gauges: Vec<Gauge>,
    state: Mutex<State>,
    news: Condvar,
}

/// What one channel has sent.
#[derive(Default)]
struct Gauge {
    bytes: AtomicU64,
    busy_ns: AtomicU64,
}

#[derive(Default)]
struct State {
    /// First page and count.
    queue: VecDeque<(usize, usize)>,
    /// The mark that each channel writes when the queue is empty; the first round's is 1.
    marks: u32,
    /// The last mark is the end.
    last: bool,
    /// Channels that have written it.
    marked: usize,
    failed: Option<OutgoingError>,
    /// Nobody waits for what is left.
    given_up: bool,
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("count", &self.shared.gauges.len()).finish_non_exhaustive()
    }
}

impl Lanes {
    /// Connects all of them, each taken by the other side.
    pub(crate) fn open(plan: Plan, target: &Target, cutter: &Cutter) -> Result<Self, OutgoingError> {
        let cutter = cutter.part()?;
        let shared = Arc::new(Shared {
            ram: Arc::clone(&plan.ram),
            progress: Arc::clone(&plan.progress),
            gauges: (0..plan.count).map(|_| Gauge::default()).collect(),
            state: Mutex::default(),
            news: Condvar::new(),
        });
        let mut lanes = Self { shared, threads: Vec::new(), cutter };
        for channel in 1..=plan.count {
            let lane = Lane::open(&plan, channel, target, &lanes.cutter)
                .map_err(|error| OutgoingError::Lane { channel, error: Box::new(error) })?;
            let shared = Arc::clone(&lanes.shared);
            let name = format!("multifdsend_{channel}");
            lanes.threads.push(thread::Builder::new().name(name).spawn(move || shared.work(lane))?);
        }
        Ok(lanes)
    }

    /// Has a run of pages of one chunk sent, as it is when its turn comes.
    pub(crate) fn send(&self, first: usize, count: usize) -> Result<(), OutgoingError> {
        let most = self.shared.gauges.len() * AHEAD;
        let mut state = self.shared.wait(|state| state.queue.len() < most)?;
        state.queue.push_back((first, count));
        self.shared.news.notify_all();
        Ok(())
    }

    /// Waits until all has been sent; then each channel says that the round is over, whose number is given, or that all is.
    pub(crate) fn mark(&self, last: bool) -> Result<u32, OutgoingError> {
        let mut state = self.shared.state();
        state.marks += 1;
        (state.marked, state.last) = (0, last);
        self.shared.news.notify_all();
        drop(state);
        let state = self.shared.wait(|state| state.marked == self.shared.gauges.len())?;
        Ok(state.marks)
    }

    /// Bytes sent.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.gauges.iter().map(|gauge| gauge.bytes.load(Ordering::Relaxed)).sum()
    }

    /// Bytes a second that all of them together take.
    pub(crate) fn speed(&self) -> f64 {
        let speed = |gauge: &Gauge| {
            let busy = gauge.busy_ns.load(Ordering::Relaxed) as f64 / 1e9;
            gauge.bytes.load(Ordering::Relaxed) as f64 / busy.max(1e-6)
        };
        self.shared.gauges.iter().map(speed).sum()
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.shared.state().given_up = true;
        self.shared.news.notify_all();
        self.cutter.cut();
        for thread in self.threads.drain(..) {
            // It waits for nothing any more.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is` so, or one has failed.
    fn wait(&self, is: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, OutgoingError> {
        let mut state = self.state();
        loop {
            if let Some(error) = state.failed.take() {
                // The others are not to send any more, and nobody is to wait for this one again.
                state.given_up = true;
                return Err(error);
            }
            if state.given_up {
                return Err(OutgoingError::Cancelled);
            }
            if is(&state) {
                return Ok(state);
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A channel's thread.
    fn work(&self, mut lane: Lane) {
        let done = self.send_all(&mut lane);
        let Err(error) = done else { return };
        // It has hung up: perhaps it has said why.
        let why = if error.is_hang_up() { lane.peer.reason() } else { None };
        let error = Box::new(why.unwrap_or(error));
        let mut state = self.state();
        state.failed.get_or_insert(OutgoingError::Lane { channel: lane.channel, error });
        self.news.notify_all();
    }

    fn send_all(&self, lane: &mut Lane) -> Result<(), OutgoingError> {
        let mut marks = 0;
        loop {
            match self.next(marks) {
                Next::Run(first, count) => lane.run(self, first, count)?,
                Next::Mark(number, last) => {
                    lane.mark(self, number, last)?;
                    marks = number;
                    self.state().marked += 1;
                    self.news.notify_all();
                    if last {
                        return Ok(());
                    }
                }
                Next::Nothing => return Ok(()),
            }
        }
    }

    /// What a channel that has written so many marks is to do next.
    fn next(&self, marks: u32) -> Next {
        let mut state = self.state();
        loop {
            if state.given_up {
                return Next::Nothing;
            }
            if let Some((first, count)) = state.queue.pop_front() {
                self.news.notify_all();
                return Next::Run(first, count);
            }
            if state.marks > marks {
                return Next::Mark(state.marks, state.last);
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

enum Next {
    Run(usize, usize),
    Mark(u32, bool),
    Nothing,
}

/// One channel, on its thread.
struct Lane {
    channel: u16,
    writer: stream::Writer<Meter>,
    peer: Peer,
    page: Vec<u8>,
}

impl Lane {
    fn open(plan: &Plan, channel: u16, target: &Target, cutter: &Cutter) -> Result<Self, OutgoingError> {
        let target = target.again().ok_or(OutgoingError::NoReturnPath)?;
        let Opened::Channel(mut opened) = target.open(cutter)? else {
            return Err(OutgoingError::NoReturnPath);
        };
        let mut peer = Peer::new(opened.take_reader()?);
        let header = Header { channel, ..plan.header.clone() };
        let meter = Meter::new(opened.take_writer()?);
        let begun = stream::Writer::at_level(meter, &header, plan.level).and_then(|mut writer| {
            writer.flush()?;
            Ok(writer)
        });
        let writer = match begun {
            Ok(writer) => writer,
            Err(error) => return Err(peer.reason().unwrap_or(error.into())),
        };
        peer.expect("Accepted", |word| matches!(word, Control::Accepted { .. }))?;
        Ok(Self { channel, writer, peer, page: vec![0; ram::CHUNK_SIZE] })
    }

    fn run(&mut self, shared: &Shared, first: usize, count: usize) -> Result<(), OutgoingError> {
        let bytes = count * PAGE_SIZE as usize;
        let Some(page) = self.page.get_mut(..bytes) else { return Err(OutgoingError::Misplaced("too much")) };
        shared.ram.read(shared.ram.base() + first as u64 * PAGE_SIZE, page)?;
        let form = self.writer.memory(first as u64, page)?;
        shared.progress.sent(count as u64, form);
        self.count(shared);
        Ok(())
    }

    fn mark(&mut self, shared: &Shared, number: u32, last: bool) -> Result<(), OutgoingError> {
        if last {
            self.writer.finish()?;
        } else {
            self.writer.control(&Control::Round { number })?;
        }
        self.count(shared);
        Ok(())
    }

    fn count(&self, shared: &Shared) {
        let Some(gauge) = shared.gauges.get(usize::from(self.channel) - 1) else { return };
        gauge.bytes.store(self.writer.totals().bytes, Ordering::Relaxed);
        let busy = u64::try_from(self.writer.get_ref().busy().as_nanos()).unwrap_or(u64::MAX);
        gauge.busy_ns.store(busy, Ordering::Relaxed);
    }
}
