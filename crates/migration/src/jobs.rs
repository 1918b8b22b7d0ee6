//! Jobs as managers see them: begun under an id of theirs, followed by `query-jobs` and events, cancelled, dismissed.
//!
//! ```text
//!   created ──► running ──► waiting ──► pending ──► concluded ──► null (dismissed, and no more)
//!                  └──────► aborting ─────────────────▲
//! ```
//!
//! Not to be confused with [`engine::Job`], which is what holds the machine: a job here may have the machine held for a
//! moment of its life, or never.
//!
//! Invariants: an id names one job at a time; there are at most [`MOST_JOBS`]; the events of a job come in the order of the
//! drawing, each with the status that [`Jobs::list`] shows from then on; a job ends also when its thread panics.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Jobs that there can be at a time, those included that wait to be dismissed.
pub const MOST_JOBS: usize = 256;

/// Most bytes of an id.
const MAX_ID: usize = 255;

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// A snapshot is saved.
    SnapshotSave,
    /// A snapshot is loaded.
    SnapshotLoad,
    /// A snapshot is deleted.
    SnapshotDelete,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// It is known, and has done nothing.
    Created,
    /// It works.
    Running,
    /// It has done its work.
    Waiting,
    /// What it has done is made final.
    Pending,
    /// It has failed or was cancelled, and puts things back.
    Aborting,
    /// It has ended and waits to be dismissed.
    Concluded,
    /// It was dismissed.
    Null,
}

impl JobStatus {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            JobStatus::Created => "created",
            JobStatus::Running => "running",
            JobStatus::Waiting => "waiting",
            JobStatus::Pending => "pending",
            JobStatus::Aborting => "aborting",
            JobStatus::Concluded => "concluded",
            JobStatus::Null => "null",
        }
    }
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// Its id.
    pub id: String,
    /// What it does.
    pub kind: JobKind,
    /// Where it stands.
    pub status: JobStatus,
    /// Bytes done.
    pub current: u64,
    /// Bytes to do.
    pub total: u64,
    /// Why it has failed.
    pub error: Option<String>,
}

/// Why something asked of jobs is refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Not a letter followed by letters, digits, `-`, `.` and `_`.
    #[error("Invalid job ID '{0}'")]
    BadId(String),
    /// Another job has that id.
    #[error("Job ID '{0}' already in use")]
    IdInUse(String),
    /// As many as there can be.
    #[error("There are {MOST_JOBS} jobs already; dismiss those that have concluded")]
    TooMany,
    /// There is no such job.
    #[error("Job not found")]
    NotFound,
    /// Not as the job stands.
    #[error("Job '{id}' in state '{}' cannot accept command verb '{verb}'", status.as_str())]
    NotNow {
        /// Which job.
        id: String,
        /// Where it stands.
        status: JobStatus,
        /// What was asked.
        verb: &'static str,
    },
}

/// How far something is that takes long, and whether it is to end.
#[derive(Debug, Default)]
pub struct Work {
    cancelled: AtomicBool,
    current: AtomicU64,
    total: AtomicU64,
}

impl Work {
    /// Has it end soon.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// Whether it is to end soon.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    pub(crate) fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.current.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Is told of each change of a job's status, in order: its id, and the status. Must not block.
pub type Follower = Box<dyn Fn(&str, JobStatus) + Send + Sync>;

/// The jobs of a machine. Clones are the same.
#[derive(Clone, Default)]
pub struct Jobs {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    list: Mutex<Vec<Entry>>,
    follower: OnceLock<Follower>,
}

struct Entry {
    id: Arc<str>,
    kind: JobKind,
    status: JobStatus,
    work: Arc<Work>,
    error: Option<String>,
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("count", &self.shared.list().len()).finish_non_exhaustive()
    }
}

impl Shared {
    fn list(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told under the lock of the list, so that events and answers agree.
    fn tell(&self, id: &str, status: JobStatus) {
        if let Some(follower) = self.follower.get() {
            follower(id, status);
        }
    }

    fn set(&self, id: &Arc<str>, status: JobStatus) {
        let mut list = self.list();
        if let Some(entry) = list.iter_mut().find(|entry| Arc::ptr_eq(&entry.id, id)) {
            entry.status = status;
            self.tell(id, status);
        }
    }
}

impl Jobs {
    /// Has `follower` told of every change from now on. Only the first one counts.
    pub fn follow(&self, follower: Follower) {
        let _ = self.shared.follower.set(follower);
    }

    /// All jobs, in the order in which they began.
    pub fn list(&self) -> Vec<JobInfo> {
        let info = |entry: &Entry| JobInfo {
            id: entry.id.to_string(),
            kind: entry.kind,
            status: entry.status,
            current: entry.work.current.load(Ordering::Relaxed),
            total: entry.work.total.load(Ordering::Relaxed),
            error: entry.error.clone(),
        };
        self.shared.list().iter().map(info).collect()
    }

    /// Ends a job before its time. It concludes a moment later, unless it was done just before.
    pub fn cancel(&self, id: &str) -> Result<(), JobError> {
        let list = self.shared.list();
        let entry = list.iter().find(|entry| *entry.id == *id).ok_or(JobError::NotFound)?;
        match entry.status {
            JobStatus::Aborting | JobStatus::Concluded => Err(not_now(entry, "cancel")),
            _ => {
                entry.work.cancel();
                Ok(())
            }
        }
    }

    /// Forgets a job that has concluded.
    pub fn dismiss(&self, id: &str) -> Result<(), JobError> {
        let mut list = self.shared.list();
        let at = list.iter().position(|entry| *entry.id == *id).ok_or(JobError::NotFound)?;
        if list[at].status != JobStatus::Concluded {
            return Err(not_now(&list[at], "dismiss"));
        }
        list.remove(at);
        self.shared.tell(id, JobStatus::Null);
        Ok(())
    }

    /// A new job.
    pub(crate) fn create(&self, id: &str, kind: JobKind) -> Result<Running, JobError> {
        if !is_well_formed(id) {
            return Err(JobError::BadId(id.chars().take(MAX_ID).collect()));
        }
        let mut list = self.shared.list();
        if list.iter().any(|entry| *entry.id == *id) {
            return Err(JobError::IdInUse(id.to_owned()));
        }
        if list.len() >= MOST_JOBS {
            return Err(JobError::TooMany);
        }
        let (id, work): (Arc<str>, _) = (id.into(), Arc::default());
        let status = JobStatus::Created;
        list.push(Entry { id: Arc::clone(&id), kind, status, work: Arc::clone(&work), error: None });
        self.shared.tell(&id, status);
        drop(list);
        Ok(Running { shared: Arc::clone(&self.shared), id, work, ended: false })
    }
}

fn not_now(entry: &Entry, verb: &'static str) -> JobError {
    JobError::NotNow { id: entry.id.to_string(), status: entry.status, verb }
}

/// As QEMU wants ids: a letter first; then letters, digits, `-`, `.` and `_`.
pub(crate) fn is_well_formed(id: &str) -> bool {
    id.len() <= MAX_ID
        && id.starts_with(|first: char| first.is_ascii_alphabetic())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

/// A job that has not ended. Dropped, it has failed.
pub(crate) struct Running {
    shared: Arc<Shared>,
    id: Arc<str>,
    work: Arc<Work>,
    ended: bool,
}

impl Running {
    /// How far it is.
    pub(crate) fn work(&self) -> &Arc<Work> {
        &self.work
    }

    /// It begins to work.
    pub(crate) fn run(&self) {
        self.shared.set(&self.id, JobStatus::Running);
    }

    /// It ends, well or with the text of an error.
    pub(crate) fn conclude(mut self, result: Result<(), String>) {
        self.end(result);
    }

    fn end(&mut self, result: Result<(), String>) {
        self.ended = true;
        match result {
            Ok(()) => {
                self.shared.set(&self.id, JobStatus::Waiting);
                self.shared.set(&self.id, JobStatus::Pending);
            }
            Err(error) => {
                let mut list = self.shared.list();
                if let Some(entry) = list.iter_mut().find(|entry| Arc::ptr_eq(&entry.id, &self.id)) {
                    entry.error = Some(error);
                }
                drop(list);
                self.shared.set(&self.id, JobStatus::Aborting);
            }
        }
        self.shared.set(&self.id, JobStatus::Concluded);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Err("the job has met a fault of this program".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs whose events are noted as `id status`.
    fn followed() -> (Jobs, Arc<Mutex<Vec<String>>>) {
        let (jobs, events) = (Jobs::default(), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&events);
        jobs.follow(Box::new(move |id, status| {
            seen.lock().unwrap().push(format!("{id} {}", status.as_str()));
        }));
        (jobs, events)
    }

    #[test]
    fn a_job_goes_through_its_states_in_order() {
        let (jobs, events) = followed();
        let job = jobs.create("good", JobKind::SnapshotSave).unwrap();
        job.run();
        job.work().set_total(10);
        job.work().advance(4);
        let info = &jobs.list()[0];
        assert_eq!((info.status, info.current, info.total), (JobStatus::Running, 4, 10));
        job.conclude(Ok(()));
        jobs.dismiss("good").unwrap();
        let expected = ["created", "running", "waiting", "pending", "concluded", "null"];
        assert_eq!(*events.lock().unwrap(), expected.map(|status| format!("good {status}")));
        assert_eq!((jobs.list(), jobs.dismiss("good")), (vec![], Err(JobError::NotFound)));
    }

    #[test]
    fn a_job_that_fails_says_why_and_one_that_is_lost_has_failed() {
        let (jobs, events) = followed();
        jobs.create("bad", JobKind::SnapshotLoad).unwrap().conclude(Err("no".into()));
        drop(jobs.create("lost", JobKind::SnapshotDelete).unwrap());
        let errors: Vec<_> = jobs.list().into_iter().map(|job| (job.status, job.error.unwrap())).collect();
        assert_eq!(errors[0], (JobStatus::Concluded, "no".to_owned()));
        assert!(errors[1].1.contains("fault"));
        let ends = ["created", "aborting", "concluded"];
        let expected: Vec<_> =
            ["bad", "lost"].iter().flat_map(|id| ends.map(|s| format!("{id} {s}"))).collect();
        assert_eq!(*events.lock().unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_is_refused_in_qemus_words() {
        let (jobs, events) = followed();
        let text = |result: Result<Running, JobError>| result.err().map(|error| error.to_string()).unwrap();
        for id in ["", "1", "a b", "a/b", "ä"] {
            assert_eq!(text(jobs.create(id, JobKind::SnapshotSave)), format!("Invalid job ID '{id}'"));
        }
        let job = jobs.create("a-1.b_2", JobKind::SnapshotSave).unwrap();
        assert_eq!(text(jobs.create("a-1.b_2", JobKind::SnapshotSave)), "Job ID 'a-1.b_2' already in use");
        job.run();
        assert_eq!(
            jobs.dismiss("a-1.b_2").unwrap_err().to_string(),
            "Job 'a-1.b_2' in state 'running' cannot accept command verb 'dismiss'"
        );
        assert!(!job.work().is_cancelled());
        jobs.cancel("a-1.b_2").unwrap();
        assert!(job.work().is_cancelled());
        job.conclude(Err("Operation canceled".into()));
        assert_eq!(
            jobs.cancel("a-1.b_2").unwrap_err().to_string(),
            "Job 'a-1.b_2' in state 'concluded' cannot accept command verb 'cancel'"
        );
        let count = events.lock().unwrap().len();
        let all: Vec<_> =
            (1..MOST_JOBS).map(|n| jobs.create(&format!("j{n}"), JobKind::SnapshotSave)).collect();
        assert!(all.iter().all(Result::is_ok));
        assert!(text(jobs.create("more", JobKind::SnapshotSave)).starts_with("There are 256 jobs already"));
        assert_eq!(events.lock().unwrap().len(), count + MOST_JOBS - 1);
    }
}
