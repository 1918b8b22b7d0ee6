//! Conversations on a monitor: how long one reply takes, and how many come in a second.

use std::time::Instant;

use anyhow::Result;

use super::figures::{p50_and_p99, prompt, quantile, us};
use super::qmp::Qmp;
use super::vm::{Peer, Vm};
use super::{Bench, Value};

/// The guest idle at its prompt, and a negotiated connection.
fn idle_and_connected(bench: &Bench, peer: &Peer) -> Result<(Vm, Qmp)> {
    let vm = prompt(bench, peer, None, &[])?;
    let mut qmp = vm.connect()?;
    qmp.negotiate()?;
    Ok((vm, qmp))
}

/// From connecting to the greeting, and on to the end of negotiation, one connection after the other.
pub fn connect(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let vm = prompt(bench, peer, None, &[])?;
    let (mut greetings, mut negotiations) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        let start = Instant::now();
        let mut qmp = vm.connect()?;
        greetings.push(us(start.elapsed()));
        qmp.negotiate()?;
        negotiations.push(us(start.elapsed()));
    }
    let mut values = p50_and_p99("connect to greeting", &mut greetings);
    values.extend(p50_and_p99("connect to negotiated", &mut negotiations));
    Ok(values)
}

/// Round trips of `query-status`.
pub fn query(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    const COUNT: usize = 5000;
    let (_vm, mut qmp) = idle_and_connected(bench, peer)?;
    for _ in 0..500 {
        qmp.call("query-status")?;
    }
    let mut times = Vec::with_capacity(COUNT);
    let begin = Instant::now();
    for _ in 0..COUNT {
        let start = Instant::now();
        qmp.call("query-status")?;
        times.push(us(start.elapsed()));
    }
    let rate = COUNT as f64 / begin.elapsed().as_secs_f64();
    let mut values = p50_and_p99("query-status", &mut times);
    values.push(Value::new("synchronous commands", rate, "/s"));
    Ok(values)
}

/// A thousand `query-status` written at once.
pub fn pipeline(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    const DEPTH: usize = 1000;
    const ROUNDS: usize = 10;
    let (_vm, mut qmp) = idle_and_connected(bench, peer)?;
    let batch = "{\"execute\":\"query-status\"}".repeat(DEPTH);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        qmp.send(&batch)?;
        for _ in 0..DEPTH {
            qmp.reply()?;
        }
    }
    let rate = (DEPTH * ROUNDS) as f64 / start.elapsed().as_secs_f64();
    Ok(vec![Value::new("pipelined by 1000", rate, "/s")])
}

/// Commands that there are not, one after the other.
pub fn unknown(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    const COUNT: usize = 2000;
    let (_vm, mut qmp) = idle_and_connected(bench, peer)?;
    let start = Instant::now();
    for _ in 0..COUNT {
        qmp.refused("no-such")?;
    }
    Ok(vec![Value::new("unknown commands", COUNT as f64 / start.elapsed().as_secs_f64(), "/s")])
}

/// The whole schema: one great reply. Its size is for information: the programs have different commands.
pub fn schema(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let (_vm, mut qmp) = idle_and_connected(bench, peer)?;
    let (mut times, mut size) = (Vec::new(), 0);
    for _ in 0..20 {
        let start = Instant::now();
        qmp.send("{\"execute\":\"query-qmp-schema\"}")?;
        size = qmp.answer()?.len();
        times.push(us(start.elapsed()));
    }
    Ok(vec![
        Value::new("query-qmp-schema p50", quantile(&mut times, 0.5), "us"),
        Value::new("size of the schema", size as f64 / 1024.0, "KiB"),
    ])
}
