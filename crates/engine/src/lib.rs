//! The engine: runs any [`vmcore::Machine`] as [`runstate`] says.
//!
//! ```text
//!   clients ─ Engine::manage ─┐                        ┌─► Subscriber (monitor sessions)
//!   harts ─── exits ──────────┼─► queue ─► machine ────┼─► harts: park, unpark, start, reset
//!   devices ─ Port ───────────┘            thread      ├─► timers: freeze, thaw, sleep
//!                                                      └─► devices: stop, start, sleep, wake, reset
//! ```
//!
//! Threads: one machine thread, one a hart, one for timers; one worker if there are devices that keep data, one a job.
//! The machine thread is the only one that changes the machine's life and the only one that publishes; queries are
//! answered from what it published, on the thread of whoever asks.
//!
//! The machine thread does no I/O. While the worker prepares or flushes for one request the others wait behind it, but
//! neither queries nor `quit` do: a disk that hangs cannot keep the process.
//!
//! Every publication is one [`Record`], numbered without a gap; [`Status::fold`] makes the published [`Status`] out of
//! them, here and for whoever follows. The last few thousand are kept ([`Engine::replay`]).
//!
//! Invariants (design, section 5): refusals change nothing; harts execute exactly while the machine is live and the
//! guest awake; events caused by a request are with every subscriber before its reply; requests that an effect yields
//! are handled before that reply too; a request made before a reset does nothing after it.

#![forbid(unsafe_code)]

mod arrival;
mod capture;
mod debug;
mod effects;
mod hart;
mod images;
mod job;
mod journal;
mod lost;
mod machine;
mod metrics;
mod patience;
mod publish;
mod queue;
mod record;
mod state;
mod status;
mod throttle;
mod timer;
mod wakes;
mod work;

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clock::{CountedSource, GuestClock, HostClock, TimerQueue};
use runstate::{DeviceRequest, Fault, Lifecycle, ManagementRequest, Refusal};
use vmcore::park::flag;
use vmcore::{HsmState, Machine, PlaceError, Storage, StorageError, Vcpu};

pub use arrival::Arrival;
pub use capture::HartRegisters;
pub use debug::{DebugError, DebugStatus, DebugStop, Debugger, Resume};
pub use job::{Job, JobControl, JobReport, JobWork};
pub use journal::Replay;
pub use metrics::{Durations, HartFigures, Latencies};
pub use patience::with_patience;
pub use publish::{Subscriber, SubscriptionId};
pub use queue::Port;
pub use record::{By, Cause, Failure, Notes, Origin, Record, Situation, Stamp};
pub use state::{GuestState, Refill, SavedClock, Staged, StateError};
pub use status::{Gap, Held, Last, Spent, Status, power_name};
pub use throttle::Throttle;
pub use wakes::{WakeCounts, WakeInfo, WakeRecord, WakeReport};

use arrival::ArrivalBook;
use hart::{Counted, Hart, HartThread};
use lost::LostPages;
use machine::{MachineThread, Parts};
use metrics::Clocked;
use publish::Publisher;
use queue::{Message, Receiver, Reply, Sender};
use record::Clocks;
use timer::{Bell, TimerThread};
use wakes::WakeBook;
use work::Worker;

/// How long the end of the machine waits, in all, for threads that should end at once.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// How long a hart's thread executes at a time where others want its processor. Longer than an ordinary thread's (0.7 to
/// 3 ms, as the kernel is), so that whatever wakes, be it a monitor's thread here or the client there, takes the processor
/// from a hart at once and not at the next tick; no longer than needed, because harts wait as long for one another.
const HART_SLICE: Duration = Duration::from_millis(5);

/// What the engine runs.
pub struct EngineConfig {
    /// The machine.
    pub machine: Arc<dyn Machine>,
    /// Its harts, by ascending id: as many as `machine.harts()`.
    pub vcpus: Vec<Box<dyn Vcpu>>,
    /// Guest time and its timers.
    pub timers: Arc<TimerQueue>,
    /// The host's clocks, as the guest's time sees them.
    pub host: Arc<dyn HostClock>,
    /// The machine's life as it begins, held.
    pub lifecycle: Lifecycle,
    /// Where retired instructions are counted, when guest time is made of them.
    pub counted: Option<CountedSource>,
    /// Nice value of the hart threads (0 to 19), to keep control fast where harts outnumber cores; `None` leaves it.
    pub hart_nice: Option<i32>,
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The boot images do not fit.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The host refused a thread or a descriptor.
    #[error("the host refuses a {what}")]
    Host {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// The number of harts differs from the machine's.
    #[error("the machine has {expected} harts and was given {found}")]
    Harts {
        /// How many the machine has.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

/// The machine refuses, cannot, or is gone.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManageError {
    /// A typed refusal, which changed nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A device cannot be started: the machine is held as before.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The images of a machine that is live are its own.
    #[error("the machine is running")]
    Live,
    /// The host refuses the thread of a job; nothing has changed.
    #[error("the host refuses a thread")]
    NoThread,
    /// The machine has ended.
    #[error("the machine has ended")]
    Ended,
}

/// One hart as queries show it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HartInfo {
    /// Hart id.
    pub id: u32,
    /// Host thread id.
    pub thread_id: i32,
    /// HSM state.
    pub state: HsmState,
}

/// An engine that is not started yet: its devices' port exists, its machine does not.
pub struct Builder {
    sender: Sender,
    receiver: Receiver,
    port: Arc<Port>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An engine without a machine.
    pub fn new() -> Self {
        let (sender, receiver) = queue::channel();
        let port = Port::new(sender.clone());
        Self { sender, receiver, port }
    }

    /// Where the machine's devices post.
    pub fn port(&self) -> Arc<Port> {
        Arc::clone(&self.port)
    }

    /// Brings the machine to power-on and starts its threads. It is held as `config.lifecycle` says.
    pub fn start(self, config: EngineConfig) -> Result<Engine, StartError> {
        let Self { sender, receiver, port } = self;
        let harts = config.machine.harts().clone();
        if harts.len() != config.vcpus.len() {
            return Err(StartError::Harts { expected: harts.len(), found: config.vcpus.len() });
        }
        port.connect(&harts);
        let host_error = |what| move |source| StartError::Host { what, source };
        // Where time is made of instructions, a hart that arms an earlier deadline has to look at its budget again.
        let budgeted = config.counted.as_ref().and(harts.get(0)).map(Arc::clone);
        let sooner = move || {
            if let Some(hart) = &budgeted {
                hart.gate().raise(flag::CONTROL);
            }
        };
        let failed = {
            let (queue, harts) = (sender.clone(), harts.clone());
            move || queue.post_device(harts.epoch(), DeviceRequest::HartFailed { what: Fault::Effect })
        };
        let clocks = Clocks { host: Arc::clone(&config.host), guest: Arc::clone(config.timers.clock()) };
        let ram = config.machine.ram().map(Arc::clone);
        let look = {
            let (mut lost, queue) = (LostPages::new(ram.clone()), sender.clone());
            move || {
                if lost.news() {
                    queue.post(Message::Device);
                }
            }
        };
        let timer = TimerThread::new(Arc::clone(&config.timers), config.host, sooner, look, failed)
            .map_err(host_error("descriptor for timers"))?;
        let bell = timer.bell();
        if let Some(ram) = &ram {
            lost::watch(ram, &harts, Arc::clone(&bell), sender.clone());
        }
        let publisher = Arc::new(Publisher::new(&config.lifecycle, clocks));
        let cores: Vec<_> = harts
            .iter()
            .zip(config.vcpus)
            .map(|(shared, vcpu)| Hart::new(Arc::clone(shared), vcpu))
            .collect();
        let wakes = Arc::new(WakeBook::default());
        wakes.set(&config.lifecycle);
        let arrivals = Arc::new(ArrivalBook::default());
        let vm = Arc::clone(&config.machine);
        let (worker, work) = Worker::new(&*config.machine, sender.clone());
        let storages = worker.storages();
        let mut owner = MachineThread::new(Parts {
            lifecycle: config.lifecycle,
            machine: config.machine,
            harts: cores.clone(),
            timers: Arc::clone(&config.timers),
            publisher: Arc::clone(&publisher),
            receiver,
            wakes: Arc::clone(&wakes),
            arrivals: Arc::clone(&arrivals),
            worker,
            lost: LostPages::new(ram.clone()),
        });
        owner.boot()?;
        let counted = config.counted.map(|source| Counted { source, timers: config.timers });
        let (alive, ended) = channel::<Infallible>();
        let mut threads = Vec::new();
        for hart in &cores {
            let body = HartThread {
                hart: Arc::clone(hart),
                harts: harts.clone(),
                queue: sender.clone(),
                counted: counted.clone(),
                ram: ram.clone(),
            };
            let (name, nice) = (format!("hart{}", hart.shared.id()), config.hart_nice);
            let run = while_alive(&alive, move || hart_thread(body, nice));
            threads.push(spawn(name, run).map_err(host_error("thread"))?);
        }
        let run = while_alive(&alive, move || timer.run());
        threads.push(spawn("timers".to_owned(), run).map_err(host_error("thread"))?);
        if let Some(work) = work {
            threads
                .push(spawn("worker".to_owned(), while_alive(&alive, work)).map_err(host_error("thread"))?);
        }
        let machine = spawn("machine".to_owned(), move || owner.run()).map_err(host_error("thread"))?;
        Ok(Engine {
            inner: Arc::new(Inner {
                sender,
                publisher,
                vm,
                storages,
                wakes,
                arrivals,
                clocked: Clocked::default(),
                harts: cores,
                bell,
                machine: Mutex::new(Some(machine)),
                threads: Mutex::new(threads),
                ended: Mutex::new(ended),
            }),
        })
    }
}

fn spawn<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name).spawn(body)
}

/// `body`, with a sign of life that lasts as long as it runs.
fn while_alive(
    alive: &mpsc::Sender<Infallible>,
    body: impl FnOnce() + Send + 'static,
) -> impl FnOnce() + Send + 'static {
    let alive = alive.clone();
    move || {
        body();
        drop(alive);
    }
}

fn hart_thread(body: HartThread, nice: Option<i32>) {
    let id = rustix::thread::gettid();
    body.hart.thread_id.store(id.as_raw_nonzero().get(), Ordering::Relaxed);
    if let Some(nice) = nice
        && let Err(error) = rustix::process::setpriority_process(Some(id), nice)
    {
        tracing::warn!(%error, nice, "cannot set the weight of a hart's thread");
    }
    if let Err(error) = sys::set_thread_slice(HART_SLICE) {
        tracing::debug!(%error, "a hart's thread keeps the usual slice");
    }
    body.run();
}

/// A machine that runs. Cheap to clone; all clones are the same machine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    sender: Sender,
    publisher: Arc<Publisher>,
    vm: Arc<dyn Machine>,
    storages: Arc<[Arc<dyn Storage>]>,
    wakes: Arc<WakeBook>,
    arrivals: Arc<ArrivalBook>,
    clocked: Clocked,
    harts: Vec<Arc<Hart>>,
    bell: Arc<Bell>,
    machine: Mutex<Option<JoinHandle<i32>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Disconnected once none of `threads` runs any more.
    ended: Mutex<mpsc::Receiver<Infallible>>,
}

impl Engine {
    /// Asks something of the machine's life and waits until it has happened, with everything that it led to.
    pub fn manage(&self, request: ManagementRequest) -> Result<(), ManageError> {
        self.manage_by(By::Unnamed, request)
    }

    /// The same; records say that it was `by` who asked.
    pub fn manage_by(&self, by: By, request: ManagementRequest) -> Result<(), ManageError> {
        let begin = self.inner.publisher.host_ns();
        self.ask(|reply| Message::Management { request, by, reply })?;
        self.inner.clocked.note(request, self.inner.publisher.host_ns().saturating_sub(begin));
        Ok(())
    }

    /// Asks for a job, and returns when it has begun: the machine stands if the job wants that. `work` then runs on a
    /// thread of its own, without the machine thread waiting for it.
    pub fn begin(&self, by: By, request: ManagementRequest, work: JobWork) -> Result<Job, ManageError> {
        let (sender, storages) = (self.inner.sender.clone(), Arc::clone(&self.inner.storages));
        let (go, job) = job::job(work, sender, storages).map_err(|_| ManageError::NoThread)?;
        self.ask(|reply| Message::Begin { request, by, go, reply })?;
        Ok(job)
    }

    fn ask(&self, message: impl FnOnce(Reply) -> Message) -> Result<(), ManageError> {
        let (reply, answer) = sync_channel(1);
        self.inner.sender.post(message(reply));
        patience::wait(&answer).unwrap_or(Err(ManageError::Ended))
    }

    /// The published status.
    pub fn status(&self) -> Arc<Status> {
        self.inner.publisher.status()
    }

    /// All about wakes: the sources, armed or not, the policy, what became of those that came. Only looks.
    pub fn wakes(&self) -> WakeReport {
        self.inner.wakes.report(self.inner.vm.wake_sources())
    }

    /// The last guest that came into this machine, by a load or a migration.
    pub fn arrival(&self) -> Option<Arrival> {
        self.inner.arrivals.last()
    }

    /// This moment, for [`Status::until`] of the status with this sequence number; never later than the record after it.
    pub fn now_after(&self, sequence: u64) -> Stamp {
        self.inner.publisher.now_after(sequence)
    }

    /// The guest's clock, to look at.
    pub fn guest_clock(&self) -> &GuestClock {
        self.inner.publisher.guest_clock()
    }

    /// The records from number `from` up to number `until`, or the first of them: as far as they are still kept.
    pub fn replay(&self, from: u64, until: u64) -> Replay {
        self.inner.publisher.replay(from, until)
    }

    /// Has `subscriber` follow the machine; it hears the present status first.
    pub fn subscribe(&self, subscriber: Arc<dyn Subscriber>) -> SubscriptionId {
        self.inner.publisher.subscribe(subscriber, None)
    }

    /// The same, after the records from number `from` on that are still kept.
    pub fn subscribe_from(&self, from: u64, subscriber: Arc<dyn Subscriber>) -> SubscriptionId {
        self.inner.publisher.subscribe(subscriber, Some(from))
    }

    /// Ends a subscription. Nothing is published to it after this returns.
    pub fn unsubscribe(&self, id: SubscriptionId) {
        self.inner.publisher.unsubscribe(id);
    }

    /// How long `stop` and `cont` took so far.
    pub fn latencies(&self) -> Latencies {
        self.inner.clocked.get()
    }

    /// What the harts have done so far. Each that executes leaves the guest for a moment.
    pub fn hart_figures(&self) -> Vec<HartFigures> {
        metrics::figures(&self.inner.harts)
    }

    /// How often each event was told, by its name.
    pub fn event_counts(&self) -> Vec<(&'static str, u64)> {
        self.inner.publisher.event_counts()
    }

    /// The harts.
    pub fn harts(&self) -> Vec<HartInfo> {
        let info = |hart: &Arc<Hart>| HartInfo {
            id: hart.shared.id(),
            thread_id: hart.thread_id.load(Ordering::Relaxed),
            state: hart.shared.hsm_state(),
        };
        self.inner.harts.iter().map(info).collect()
    }

    /// Has the thread of a hart panic, as a fault of this program would, once it may execute: for tests of what follows.
    /// `false`: there is no such hart.
    pub fn fail_hart(&self, hart: u32) -> bool {
        let found = self.inner.harts.iter().find(|other| other.shared.id() == hart);
        found.is_some_and(|hart| {
            hart.fails.store(true, Ordering::SeqCst);
            hart.shared.gate().raise(flag::CONTROL);
            true
        })
    }

    /// Registers of a hart in words, `None` if there is no such hart or the machine has ended. The hart is parked for
    /// the look.
    pub fn describe_hart(&self, hart: u32) -> Option<String> {
        let (reply, answer) = sync_channel(1);
        self.inner.sender.post(Message::Describe { hart, reply });
        answer.recv().ok().flatten()
    }

    /// Waits until the machine ends, ends its threads, and returns the process's exit status. Only the first call gets
    /// the status of the machine; later ones return 0. A thread that hangs, through a fault of this program, is left
    /// behind after a second.
    pub fn wait(&self) -> i32 {
        let machine = lock(&self.inner.machine).take();
        let code = machine.map_or(0, |thread| thread.join().unwrap_or(1));
        self.inner.bell.exit();
        for hart in &self.inner.harts {
            hart.shared.gate().raise(flag::EXIT);
        }
        if let Err(RecvTimeoutError::Timeout) = lock(&self.inner.ended).recv_timeout(END_PATIENCE) {
            tracing::error!("a thread of the machine hangs and is left behind");
            return code;
        }
        for thread in lock(&self.inner.threads).drain(..) {
            // Its panic, if any, has been reported already.
            let _ = thread.join();
        }
        code
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
