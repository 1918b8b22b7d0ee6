//! Jobs: what was begun under an id, and goes on while other commands are answered.

use migration::jobs::{self, JobError, JobKind};
use qmp::schema::{Type, arg};
use qmp::{Args, QmpError, qapi_enum, qapi_struct};

use super::{Command, Env, command};

qapi_enum! {
    /// What a job does.
    JobType {
        /// A snapshot is loaded.
        Load = "snapshot-load",
        /// A snapshot is saved.
        Save = "snapshot-save",
        /// A snapshot is deleted.
        Delete = "snapshot-delete",
    }
}

qapi_enum! {
    /// Where a job stands.
    JobStatus {
        /// It is known, and has done nothing.
        Created = "created",
        /// It works.
        Running = "running",
        /// It has done its work.
        Waiting = "waiting",
        /// What it has done is made final.
        Pending = "pending",
        /// It has failed or was cancelled, and puts things back.
        Aborting = "aborting",
        /// It has ended and waits for `job-dismiss`.
        Concluded = "concluded",
        /// It was dismissed and is no more.
        Null = "null",
    }
}

qapi_struct! {
    /// A job.
    JobInfo {
        /// Its id.
        id: String = "id",
        /// What it does.
        kind: JobType = "type",
        /// Where it stands.
        status: JobStatus = "status",
        /// Bytes done.
        current_progress: i64 = "current-progress",
        /// Bytes to do.
        total_progress: i64 = "total-progress",
        /// Why it has failed.
        error: Option<String> = "error",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// All jobs that have not been dismissed.
        "query-jobs" [] -> Vec<JobInfo> = |env: &Env<'_>, _: &Args| {
            Ok(env.config().snapshots.jobs().list().into_iter().map(JobInfo::from).collect())
        }
    },
    command! {
        /// Ends a job before its time. It concludes a moment later.
        "job-cancel" [arg("id", Type::Str, "Which job.")] -> () = |env: &Env<'_>, args: &Args| {
            env.config().snapshots.jobs().cancel(args.str("id")).map_err(refused)
        }
    },
    command! {
        /// Forgets a job that has concluded.
        "job-dismiss" [arg("id", Type::Str, "Which job.")] -> () = |env: &Env<'_>, args: &Args| {
            env.config().snapshots.jobs().dismiss(args.str("id")).map_err(refused)
        }
    },
];

fn refused(error: JobError) -> QmpError {
    // As in QEMU: a job that is not there has a class of its own nowhere else.
    let class = match error {
        JobError::NotFound => qmp::ErrorClass::DeviceNotActive,
        _ => qmp::ErrorClass::GenericError,
    };
    QmpError::new(class, error.to_string())
}

impl From<jobs::JobStatus> for JobStatus {
    fn from(status: jobs::JobStatus) -> Self {
        match status {
            jobs::JobStatus::Created => Self::Created,
            jobs::JobStatus::Running => Self::Running,
            jobs::JobStatus::Waiting => Self::Waiting,
            jobs::JobStatus::Pending => Self::Pending,
            jobs::JobStatus::Aborting => Self::Aborting,
            jobs::JobStatus::Concluded => Self::Concluded,
            jobs::JobStatus::Null => Self::Null,
        }
    }
}

impl From<jobs::JobInfo> for JobInfo {
    fn from(job: jobs::JobInfo) -> Self {
        let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        Self {
            id: job.id,
            kind: match job.kind {
                JobKind::SnapshotSave => JobType::Save,
                JobKind::SnapshotLoad => JobType::Load,
                JobKind::SnapshotDelete => JobType::Delete,
            },
            status: job.status.into(),
            current_progress: bytes(job.current),
            total_progress: bytes(job.total),
            error: job.error,
        }
    }
}
