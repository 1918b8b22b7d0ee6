//! A machine is asked to move.

use std::time::Duration;

use serde_json::{Value, json};

use super::RemoteError;
use super::bar::{Bar, bytes};
use super::monitor::Monitor;

/// How often it is looked how far it is.
const GLANCE: Duration = Duration::from_millis(100);

pub(crate) fn run(monitor: &mut Monitor, uri: &str) -> Result<(), RemoteError> {
    monitor.ask("migrate", json!({ "uri": uri }))?;
    let bar = Bar::new();
    let mut cancelled = false;
    let mut told = String::new();
    loop {
        let info = monitor.ask("query-migrate", json!({}))?;
        let status = info.get("status").and_then(Value::as_str).unwrap_or("none");
        match status {
            "completed" => {
                bar.end(&format!("moved to {uri}: {}", summary(&info)));
                return Ok(());
            }
            "failed" => {
                let reason = info.get("error-desc").and_then(Value::as_str);
                return Err(RemoteError::Failed(format!(
                    "the machine stays: {}",
                    reason.unwrap_or("the migration failed without a reason")
                )));
            }
            "cancelled" => return Err(RemoteError::Cancelled),
            _ => {}
        }
        if status != told && matches!(status, "pre-switchover" | "postcopy-paused") {
            bar.say(waits_for(status));
        }
        status.clone_into(&mut told);
        let (done, total) = done_of(&info);
        bar.show(done, total, message(&info));
        monitor.pause(GLANCE)?;
        if monitor.interrupted() {
            if std::mem::replace(&mut cancelled, true) {
                return Err(RemoteError::Left);
            }
            monitor.ask("migrate_cancel", json!({}))?;
        }
    }
}

fn waits_for(status: &str) -> &'static str {
    match status {
        "pre-switchover" => "the machine stands and waits for migrate-continue",
        _ => "the link is broken: it waits for migrate-recover there, and migrate with resume here",
    }
}

fn number(info: &Value, part: &str, name: &str) -> u64 {
    info.get(part).and_then(|part| part.get(name)).and_then(Value::as_u64).unwrap_or(0)
}

/// Bytes of memory that the other side has, and all of it.
pub(crate) fn done_of(info: &Value) -> (u64, u64) {
    let total = number(info, "ram", "total");
    (total.saturating_sub(number(info, "ram", "remaining")), total)
}

/// What is to be seen beside the bar.
pub(crate) fn message(info: &Value) -> String {
    let status = info.get("status").and_then(Value::as_str).unwrap_or("none");
    let mbps = info.get("ram").and_then(|ram| ram.get("mbps")).and_then(Value::as_f64).unwrap_or(0.0);
    let rate = (mbps.max(0.0) * 1e6 / 8.0) as u64;
    let pass = number(info, "ram", "dirty-sync-count").max(1);
    format!("{status}, pass {pass}, {} sent, {}/s", bytes(number(info, "ram", "transferred")), bytes(rate))
}

/// What there is to say at the end.
pub(crate) fn summary(info: &Value) -> String {
    let ms = |name: &str| info.get(name).and_then(Value::as_u64).unwrap_or(0);
    format!(
        "{} sent in {} ms, {} passes; the guest stood for {} ms",
        bytes(number(info, "ram", "transferred")),
        ms("total-time"),
        number(info, "ram", "dirty-sync-count").max(1),
        ms("downtime")
    )
}
