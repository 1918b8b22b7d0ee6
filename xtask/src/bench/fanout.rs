//! One event to many monitors.
//!
//! All clients are in one thread that polls: a thread for each would measure how the host wakes sixteen threads.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::figures::{prompt, quantile, us};
use super::life::{PAUSE, STOP_AND_CONT};
use super::qmp::{Qmp, is_event};
use super::vm::{PATIENCE, Peer};
use super::{Bench, Value};

const MONITORS: usize = 16;
const PAIRS: usize = 500;

/// Every monitor's times, in microseconds.
struct Times {
    /// From the request to this monitor's event.
    request: Vec<f64>,
    /// From the first monitor's event to this one's.
    first: Vec<f64>,
}

/// Sixteen monitors, one of which stops and continues the guest: until each has read the event.
pub fn events(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    deliver(bench, peer, None, "events")
}

/// The same with a busy hart on every core but one.
pub fn busy_events(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    deliver(bench, peer, Some(bench.spare()), "busy events")
}

fn deliver(bench: &Bench, peer: &Peer, busy: Option<usize>, label: &str) -> Result<Vec<Value>> {
    let sockets: Vec<_> = (1..MONITORS).map(|n| bench.folder.join(format!("qmp{n}.sock"))).collect();
    let mut options = Vec::new();
    for socket in &sockets {
        // As with the first monitor's: one left behind would be connected to, in vain.
        let _ = std::fs::remove_file(socket);
        options.extend(["-qmp".to_owned(), format!("unix:{},server=on,wait=off", socket.display())]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let vm = prompt(bench, peer, busy, &options)?;
    let mut monitors = vec![vm.connect()?];
    for socket in &sockets {
        monitors.push(Qmp::connect(socket, PATIENCE)?);
    }
    monitors.iter_mut().try_for_each(Qmp::negotiate)?;
    let mut times: Vec<Times> =
        monitors.iter().map(|_| Times { request: Vec::new(), first: Vec::new() }).collect();
    for _ in 0..PAIRS {
        for (command, event) in STOP_AND_CONT {
            let read = round(&mut monitors, command, event)?;
            let first = read.iter().copied().fold(f64::INFINITY, f64::min);
            for (times, read) in times.iter_mut().zip(read) {
                times.request.push(read);
                times.first.push(read - first);
            }
            std::thread::sleep(PAUSE);
        }
    }
    let mut values = of_all(&format!("{label} of request"), times.iter().map(|times| &times.request));
    values.extend(of_all(&format!("{label} after first"), times.iter().map(|times| &times.first)));
    Ok(values)
}

/// The first monitor's command, until every monitor has read the event and the first one its reply.
fn round(monitors: &mut [Qmp], command: &str, event: &str) -> Result<Vec<f64>> {
    let mut read = vec![None; monitors.len()];
    let mut replied = false;
    let start = Instant::now();
    monitors.first_mut().context("no monitors")?.send(&format!("{{\"execute\":\"{command}\"}}"))?;
    while !replied || read.iter().any(Option::is_none) {
        for index in readable(monitors)? {
            let Some((qmp, read)) = monitors.get_mut(index).zip(read.get_mut(index)) else { continue };
            loop {
                let line = qmp.line()?;
                if is_event(&line, event) {
                    *read = Some(us(start.elapsed()));
                } else if Qmp::is_reply(&line)? {
                    replied = true;
                }
                if !qmp.has_line() {
                    break;
                }
            }
        }
    }
    Ok(read.into_iter().flatten().collect())
}

/// Waits until monitors can be read, and says which.
fn readable(monitors: &[Qmp]) -> Result<Vec<usize>> {
    let limit = Timespec::try_from(PATIENCE).context("odd patience")?;
    let mut polled: Vec<_> = monitors.iter().map(|qmp| PollFd::new(qmp.stream(), PollFlags::IN)).collect();
    if poll(&mut polled, Some(&limit)).context("cannot poll the monitors")? == 0 {
        bail!("a monitor did not get the event");
    }
    let ready = polled.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
}

/// The median and the greatest of all monitors' times; of their tails the worst monitor's.
fn of_all<'a>(label: &str, times: impl Iterator<Item = &'a Vec<f64>>) -> Vec<Value> {
    let (mut all, mut worst) = (Vec::new(), 0.0);
    for times in times {
        let mut times = times.clone();
        worst = f64::max(worst, quantile(&mut times, 0.99));
        all.extend(times);
    }
    vec![
        Value::new(&format!("{label} p50"), quantile(&mut all, 0.5), "us"),
        Value::new(&format!("{label} p99"), worst, "us"),
        Value::new(&format!("{label} max"), quantile(&mut all, 1.0), "us"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_that_of_the_worst_monitor() {
        let (quick, slow) = (vec![1.0; 100], vec![9.0; 2]);
        let values = of_all("x", [&quick, &slow].into_iter());
        let values: Vec<f64> = values.iter().map(|value| value.value).collect();
        assert_eq!(values, [1.0, 9.0, 9.0]);
    }
}
