//! What a device has of a node: workers that do its I/O, its error policy, its counters.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::file::OpenError;
use crate::lock;
use crate::node::Node;
use crate::policy::{IoStatus, Policy, is_no_space};
use crate::stats::{Kind, Stats};

/// Threads that do a disk's I/O.
const WORKERS: usize = 4;

/// What is to be done. Ranges are checked against the node's size before they come here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Read `len` bytes.
    Read {
        /// First byte.
        offset: u64,
        /// How many.
        len: usize,
    },
    /// Write.
    Write {
        /// First byte.
        offset: u64,
        /// What.
        data: Vec<u8>,
        /// Make it durable before it is called done.
        durable: bool,
    },
    /// Make durable what was written before.
    Flush,
    /// What these bytes hold matters no more.
    Discard {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// These bytes are zero from now on.
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
        /// Their space may be given back.
        unmap: bool,
        /// Make it durable before it is called done.
        durable: bool,
    },
}

impl Operation {
    /// As what it is counted.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { .. } => Kind::Read,
            Self::Write { .. } | Self::WriteZeroes { .. } => Kind::Write,
            Self::Flush => Kind::Flush,
            Self::Discard { .. } => Kind::Unmap,
        }
    }

    /// First byte, and how many.
    fn range(&self) -> (u64, u64) {
        match self {
            Self::Read { offset, len } => (*offset, *len as u64),
            Self::Write { offset, data, .. } => (*offset, data.len() as u64),
            Self::Flush => (0, 0),
            Self::Discard { offset, len } | Self::WriteZeroes { offset, len, .. } => (*offset, *len),
        }
    }
}

/// How an operation ended; with the bytes of a read.
pub type Outcome = io::Result<Vec<u8>>;

/// Called with the outcome, once, on a worker's thread.
type Done = Box<dyn FnOnce(Outcome) + Send>;

struct Job {
    operation: Operation,
    since: Instant,
    done: Done,
}

/// What a disk is made of.
pub struct DiskConfig {
    /// The drive's name (`-drive id=`), empty if it has none.
    pub name: String,
    /// Name of the device that it belongs to, or its path in the object tree.
    pub qdev: String,
    /// The node on top.
    pub node: Arc<Node>,
    /// What is done about errors.
    pub policy: Policy,
    /// Whether writes may stay in the host's cache until a flush, unless the guest wants it otherwise.
    pub writeback: bool,
}

/// A disk. Its workers end with it, once what was submitted is done.
pub struct Disk {
    config: DiskConfig,
    shared: Arc<Shared>,
}

struct Shared {
    node: Arc<Node>,
    stats: Stats,
    status: Mutex<IoStatus>,
    queue: Mutex<Queue>,
    /// There is work, or an end to it.
    work: Condvar,
    /// Nothing is under way any more.
    idle: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    running: usize,
    ended: bool,
}

impl Disk {
    /// A disk on `config.node`, with its workers. Other processes are kept from writing to the image.
    pub fn new(config: DiskConfig) -> Result<Self, OpenError> {
        config.node.attach()?;
        let shared = Arc::new(Shared {
            node: Arc::clone(&config.node),
            stats: Stats::default(),
            status: Mutex::default(),
            queue: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
        });
        // Made first, so that the threads there are end with it when one more is refused.
        let disk = Self { config, shared };
        for index in 0..WORKERS {
            let shared = Arc::clone(&disk.shared);
            let spawned = thread::Builder::new().name(format!("disk-io{index}")).spawn(move || shared.run());
            spawned.map_err(|error| OpenError::Thread { name: disk.config.qdev.clone(), error })?;
        }
        Ok(disk)
    }

    /// Has a worker do `operation` and call `done`, soon. The caller bounds how much it submits.
    pub fn submit(&self, operation: Operation, done: impl FnOnce(Outcome) + Send + 'static) {
        let job = Job { operation, since: Instant::now(), done: Box::new(done) };
        lock(&self.shared.queue).jobs.push_back(job);
        self.shared.work.notify_one();
    }

    /// Waits until nothing is under way, then makes everything durable. Blocks.
    pub fn flush(&self) -> io::Result<()> {
        self.drain();
        if self.config.node.is_read_only() {
            return Ok(());
        }
        self.shared.flush()
    }

    /// Has the image used by this process from here on. Blocks.
    pub fn activate(&self) -> Result<(), OpenError> {
        self.config.node.activate()
    }

    /// Waits until nothing is under way, makes everything durable, and leaves the image to others. Blocks.
    pub fn inactivate(&self) -> io::Result<()> {
        self.drain();
        self.config.node.inactivate()
    }

    fn drain(&self) {
        let busy = |queue: &mut Queue| queue.running > 0 || !queue.jobs.is_empty();
        let queue = lock(&self.shared.queue);
        drop(self.shared.idle.wait_while(queue, busy).unwrap_or_else(PoisonError::into_inner));
    }

    /// What it is made of.
    pub fn config(&self) -> &DiskConfig {
        &self.config
    }

    /// The node on top.
    pub fn node(&self) -> &Arc<Node> {
        &self.config.node
    }

    /// What it has done so far.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// What stopped the machine last.
    pub fn io_status(&self) -> IoStatus {
        *lock(&self.shared.status)
    }

    /// `error` stops the machine.
    pub fn stopped_by(&self, error: &io::Error) {
        let status = if is_no_space(error) { IoStatus::NoSpace } else { IoStatus::Failed };
        *lock(&self.shared.status) = status;
    }

    /// The machine goes on.
    pub fn reset_status(&self) {
        *lock(&self.shared.status) = IoStatus::Ok;
    }
}

impl Drop for Disk {
    /// Does not wait: a worker may hang with its host.
    fn drop(&mut self) {
        lock(&self.shared.queue).ended = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    /// A worker's body.
    fn run(&self) {
        while let Some(Job { operation, since, done }) = self.next() {
            let (kind, range) = (operation.kind(), operation.range());
            let outcome = self.carry_out(operation);
            self.stats.done(kind, outcome.is_ok(), range, since.elapsed());
            done(outcome);
            let mut queue = lock(&self.queue);
            queue.running -= 1;
            if queue.running == 0 && queue.jobs.is_empty() {
                self.idle.notify_all();
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let waits = |queue: &mut Queue| queue.jobs.is_empty() && !queue.ended;
        let mut queue =
            self.work.wait_while(lock(&self.queue), waits).unwrap_or_else(PoisonError::into_inner);
        let job = queue.jobs.pop_front()?;
        queue.running += 1;
        Some(job)
    }

    fn flush(&self) -> io::Result<()> {
        if self.node.flushes() { self.node.backend().flush() } else { Ok(()) }
    }

    fn carry_out(&self, operation: Operation) -> Outcome {
        let backend = self.node.backend();
        let durable = match operation {
            Operation::Read { offset, len } => {
                let mut bytes = vec![0; len];
                return backend.read(offset, &mut bytes).map(|()| bytes);
            }
            Operation::Write { offset, data, durable } => {
                backend.write(offset, &data)?;
                durable
            }
            Operation::Flush => true,
            Operation::Discard { offset, len } => {
                if self.node.discards() {
                    backend.discard(offset, len)?;
                }
                false
            }
            Operation::WriteZeroes { offset, len, unmap, durable } => {
                backend.write_zeroes(offset, len, unmap && self.node.discards())?;
                durable
            }
        };
        if durable {
            self.flush()?;
        }
        Ok(Vec::new())
    }
}
