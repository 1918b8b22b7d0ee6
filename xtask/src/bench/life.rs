//! A machine's life from outside: start, rest, stop and cont, reset, quit.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::figures::{embedded, p50_and_p99, prompt, quantile, us};
use super::qmp::{Qmp, is_event};
use super::vm::Peer;
use super::{Bench, Value};

/// Between two commands, so that the harts are really busy, or really at rest, when the next one comes.
pub const PAUSE: Duration = Duration::from_millis(3);

/// From the start of the process to the greeting on its monitor, and to the first reply to `query-status`; the machine
/// waits for `cont`.
pub fn greeting(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let (mut greetings, mut replies) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let vm = embedded(bench, peer, &["-S"])?;
        let mut qmp = vm.connect()?;
        greetings.push(us(vm.started().elapsed()) / 1000.0);
        qmp.negotiate()?;
        qmp.call("query-status")?;
        replies.push(us(vm.started().elapsed()) / 1000.0);
    }
    Ok(vec![
        Value::new("start to greeting", quantile(&mut greetings, 0.5), "ms"),
        Value::new("start to first reply", quantile(&mut replies, 0.5), "ms"),
    ])
}

/// From `quit` until the process is gone.
pub fn quit(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut vm = prompt(bench, peer, None, &[])?;
        let mut qmp = vm.connect()?;
        qmp.negotiate()?;
        let start = Instant::now();
        qmp.send("{\"execute\":\"quit\"}")?;
        vm.wait()?;
        times.push(us(start.elapsed()) / 1000.0);
    }
    Ok(vec![Value::new("quit to process gone", quantile(&mut times, 0.5), "ms")])
}

/// `system_reset` to its reply.
pub fn reset(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let vm = prompt(bench, peer, None, &[])?;
    let mut qmp = vm.connect()?;
    qmp.negotiate()?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        qmp.call("system_reset")?;
        times.push(us(start.elapsed()));
        std::thread::sleep(PAUSE);
    }
    Ok(p50_and_p99("system_reset", &mut times))
}

/// `stop` and `cont` with a busy hart on every core but one.
pub fn stop(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    stop_and_cont(bench, peer, Some(bench.spare()), 300, "", &[])
}

/// The same, the guest waiting at its prompt.
pub fn resting(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    stop_and_cont(bench, peer, None, 300, "resting ", &[])
}

/// Busy again, with less weight for our hart threads; QEMU has no such option.
pub fn weighted(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    stop_and_cont(bench, peer, Some(bench.spare()), 300, "weighted ", weight(peer))
}

/// The same with twice as many busy harts as cores.
pub fn crowded(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    stop_and_cont(bench, peer, Some(2 * bench.cores), 200, "crowded ", weight(peer))
}

fn weight(peer: &Peer) -> &'static [&'static str] {
    if peer.name == "dormouse" { &["-x-hart-nice", "10"] } else { &[] }
}

/// The commands, and what each is followed by.
pub const STOP_AND_CONT: [(&str, &str); 2] = [("stop", "STOP"), ("cont", "RESUME")];

fn stop_and_cont(
    bench: &Bench,
    peer: &Peer,
    busy: Option<usize>,
    pairs: usize,
    label: &str,
    options: &[&str],
) -> Result<Vec<Value>> {
    let vm = prompt(bench, peer, busy, options)?;
    let mut qmp = vm.connect()?;
    qmp.negotiate()?;
    let mut times = STOP_AND_CONT.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..pairs {
        for ((command, event), (events, replies)) in STOP_AND_CONT.iter().zip(&mut times) {
            let (to_event, to_reply) = event_and_reply(&mut qmp, command, event)?;
            events.push(to_event);
            replies.push(to_reply);
            std::thread::sleep(PAUSE);
        }
    }
    let mut values = Vec::new();
    for ((command, _), (events, replies)) in STOP_AND_CONT.iter().zip(&mut times) {
        values.extend(p50_and_p99(&format!("{label}{command}"), replies));
        values.extend(p50_and_p99(&format!("{label}{command} to event"), events));
    }
    Ok(values)
}

/// Executes a command and gives the times to its event and to its reply, whichever comes first.
fn event_and_reply(qmp: &mut Qmp, command: &str, event: &str) -> Result<(f64, f64)> {
    let start = Instant::now();
    qmp.send(&format!("{{\"execute\":\"{command}\"}}"))?;
    let (mut to_event, mut to_reply) = (None, None);
    loop {
        let line = qmp.line()?;
        let now = us(start.elapsed());
        if is_event(&line, event) {
            to_event = Some(now);
        } else if Qmp::is_reply(&line)? {
            to_reply = Some(now);
        }
        match (to_event, to_reply) {
            (Some(to_event), Some(to_reply)) => return Ok((to_event, to_reply)),
            _ if start.elapsed() > super::vm::PATIENCE => bail!("no {event}"),
            _ => {}
        }
    }
}

/// What a machine costs whose guest waits at its prompt: memory, and CPU time in two seconds; threads and descriptors
/// for information.
pub fn idle(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    const WINDOW: Duration = Duration::from_secs(2);
    let vm = prompt(bench, peer, None, &[])?;
    std::thread::sleep(WINDOW / 4);
    let before = vm.cpu_seconds()?;
    std::thread::sleep(WINDOW);
    let ms = (vm.cpu_seconds()? - before) * 1000.0 / WINDOW.as_secs_f64();
    Ok(vec![
        Value::new("idle resident memory", vm.status("VmRSS:")? / 1024.0, "MiB"),
        Value::new("idle anonymous memory", vm.status("RssAnon:")? / 1024.0, "MiB"),
        Value::new("idle CPU per second", ms, "ms"),
        Value::new("idle threads", vm.status("Threads:")?, ""),
        Value::new("idle descriptors", vm.descriptors()?, ""),
    ])
}
