//! A machine is asked to save itself, to go back to a snapshot, or to forget one.

use std::time::Duration;

use serde_json::{Value, json};

use super::RemoteError;
use super::bar::{Bar, bytes};
use super::monitor::Monitor;

/// How often it is looked how far it is.
const GLANCE: Duration = Duration::from_millis(100);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Save,
    Load,
    Delete,
}

impl Deed {
    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "save" => Some(Self::Save),
            "load" => Some(Self::Load),
            "delete" => Some(Self::Delete),
            _ => None,
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Save => "x-snapshot-save",
            Self::Load => "x-snapshot-load",
            Self::Delete => "x-snapshot-delete",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Save => "saved",
            Self::Load => "loaded",
            Self::Delete => "deleted",
        }
    }
}

pub(crate) fn run(monitor: &mut Monitor, deed: Deed, name: &str) -> Result<(), RemoteError> {
    // Others may have jobs there, too.
    let id = format!("cli{}", std::process::id());
    monitor.ask(deed.command(), json!({ "job-id": id, "name": name }))?;
    let bar = Bar::new();
    let mut cancelled = false;
    loop {
        let jobs = monitor.ask("query-jobs", json!({}))?;
        let of_id = |job: &&Value| job.get("id").and_then(Value::as_str) == Some(&id);
        let Some(job) = jobs.as_array().and_then(|jobs| jobs.iter().find(of_id)) else {
            return Err(RemoteError::Failed("somebody else has dismissed the job".to_owned()));
        };
        let number = |name: &str| job.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (done, total) = (number("current-progress"), number("total-progress"));
        let status = job.get("status").and_then(Value::as_str).unwrap_or("");
        if status == "concluded" {
            let error = job.get("error").and_then(Value::as_str).map(str::to_owned);
            monitor.ask("job-dismiss", json!({ "id": id }))?;
            return match error {
                Some(_) if cancelled => Err(RemoteError::Cancelled),
                Some(error) => Err(RemoteError::Failed(error)),
                None => {
                    bar.end(&format!("snapshot '{name}' {}", deed.done()));
                    Ok(())
                }
            };
        }
        bar.show(done, total, format!("{status}, {} of {}", bytes(done), bytes(total)));
        monitor.pause(GLANCE)?;
        if monitor.interrupted() {
            if std::mem::replace(&mut cancelled, true) {
                return Err(RemoteError::Left);
            }
            monitor.ask("job-cancel", json!({ "id": id }))?;
        }
    }
}
