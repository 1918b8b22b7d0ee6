//! The records of the machine's life in a file, one line each: what a monitor gets as X_LIFECYCLE.
//!
//! The machine thread never waits for the file: a thread of its own writes. A disk that is too slow, or full, costs
//! records, which their numbers show; the machine goes on.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine::{Engine, Record, Status, Subscriber, SubscriptionId};

use crate::events;

/// Records that may wait for the disk.
const WAITING: usize = 4096;
/// The file grows to about this many bytes; a guest that resets in a loop must not fill the disk.
const MOST: u64 = 256 << 20;

/// A log that is being written. Ends with [`EventLog::finish`].
pub struct EventLog {
    engine: Engine,
    subscription: SubscriptionId,
    follower: Arc<Follower>,
    writer: JoinHandle<()>,
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLog").finish_non_exhaustive()
    }
}

impl EventLog {
    /// Begins a log in the file at `path`, which is made anew, with the records that there are already.
    ///
    /// # Errors
    /// The file cannot be made, or the host has no thread.
    pub fn begin(engine: &Engine, path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let (lines, waiting) = mpsc::sync_channel(WAITING);
        let writer =
            thread::Builder::new().name("event-log".to_owned()).spawn(move || write(file, &waiting))?;
        let follower = Arc::new(Follower(Mutex::new(Some(lines))));
        let subscription = engine.subscribe_from(1, Arc::clone(&follower) as _);
        Ok(Self { engine: engine.clone(), subscription, follower, writer })
    }

    /// Ends the log: all that was told is in the file, unless the disk needs longer than `patience`.
    pub fn finish(self, patience: Duration) {
        self.engine.unsubscribe(self.subscription);
        drop(self.follower.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        let until = Instant::now() + patience;
        while !self.writer.is_finished() {
            if Instant::now() >= until {
                return tracing::error!("the event log is not finished: its disk is too slow");
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Follower(Mutex<Option<SyncSender<String>>>);

impl Subscriber for Follower {
    fn publish(&self, _status: &Arc<Status>, record: Option<&Arc<Record>>) {
        let Some(record) = record else { return };
        let (event, when) = events::lifecycle(record);
        if let Some(lines) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // One that finds no room is missing in the file, and its number shows it.
            let _ = lines.try_send(event.render(when));
        }
    }
}

fn write(file: File, waiting: &Receiver<String>) {
    let mut file = BufWriter::new(file);
    let mut written = 0_u64;
    while let Ok(first) = waiting.recv() {
        let batch = std::iter::once(first).chain(waiting.try_iter());
        for line in batch {
            if written >= MOST {
                return tracing::warn!(bytes = written, "the event log is full: it ends here");
            }
            let line = line.trim_ascii_end();
            written += u64::try_from(line.len()).unwrap_or(u64::MAX) + 1;
            if let Err(error) = writeln!(file, "{line}") {
                return tracing::error!(%error, "the event log cannot be written: it ends here");
            }
        }
        if let Err(error) = file.flush() {
            return tracing::error!(%error, "the event log cannot be written: it ends here");
        }
    }
}
