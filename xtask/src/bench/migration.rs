//! A guest moves from one process to another of the same program over a unix socket.
//!
//! Same guest, same sizes, same `downtime-limit`, bandwidth without a limit. Times are taken from outside: from
//! `migrate` to the event that tells the end, and between the last dot that the guest prints at the source and the first
//! at the destination.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::figures::us;
use super::qmp::{Qmp, is_event};
use super::vm::{PATIENCE, Peer, Vm};
use super::{Bench, Value};
use crate::host;

/// What both sides of both programs are told.
const PARAMETERS: &str = "{\"execute\":\"migrate-set-parameters\",\"arguments\":\
    {\"downtime-limit\":50,\"max-bandwidth\":9223372036853727232}}";
const CAPABILITIES: &str = "{\"execute\":\"migrate-set-capabilities\",\"arguments\":\
    {\"capabilities\":[{\"capability\":\"events\",\"state\":true}]}}";

/// How often the guest prints a dot while it churns.
const BEAT: Duration = Duration::from_micros(200);

/// 1 GiB that the guest has never written.
pub fn zero_1g(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    zero(bench, peer, "1G")
}

/// 4 GiB that the guest has never written.
pub fn zero_4g(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    zero(bench, peer, "4G")
}

fn zero(bench: &Bench, peer: &Peer, memory: &str) -> Result<Vec<Value>> {
    let mut pair = Pair::start(bench, peer, memory)?;
    let total = pair.migrate()?;
    Ok(vec![Value::new(&format!("migrate {memory} of zeros"), us(total) / 1000.0, "ms")])
}

/// 512 MiB that cannot be compressed, 64 MiB of it rewritten at 100 MiB a second meanwhile.
pub fn working_set(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    const MIB: f64 = 512.0;
    let mut pair = Pair::start(bench, peer, "1G")?;
    pair.source.type_text("fill 512\n")?;
    pair.source.expect("filled ")?;
    pair.source.type_text(&format!("churn 64 100 {}\n", BEAT.as_micros()))?;
    pair.source.expect("churning until a key is pressed")?;
    std::thread::sleep(Duration::from_millis(500));
    let total = pair.migrate()?;
    let first = pair.destination.next_output()?;
    let last = pair.source.last_output().context("the source was silent")?;
    pair.destination.type_text("\ncheck\n")?;
    let churned = pair.destination.expect("dormouse> ")?;
    let checked = pair.destination.expect(" wrong")?;
    if !churned.contains(" 0 wrong, clocks went back 0 times") || !checked.ends_with(" 0 wrong") {
        bail!("the guest has lost something: {churned:?} {checked:?}");
    }
    Ok(vec![
        Value::new("migrate 512 MiB busy", us(total) / 1000.0, "ms"),
        Value::new("migration rate", MIB / total.as_secs_f64(), "MiB/s"),
        Value::new("downtime", us(first.saturating_duration_since(last)) / 1000.0, "ms"),
    ])
}

/// Source and destination.
struct Pair {
    source: Vm,
    destination: Vm,
    monitor: Qmp,
    socket: String,
    _arrival: Qmp,
}

impl Pair {
    /// Both processes, the guest at its prompt in the first.
    fn start(bench: &Bench, peer: &Peer, memory: &str) -> Result<Pair> {
        let folder = bench.folder.join("destination");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let image = host::embedded_guest();
        let common = ["-m", memory, "-kernel", image.to_str().context("odd path")?];
        let mut source = Vm::start(peer, &bench.folder, &common)?;
        source.expect("dormouse> ")?;
        let mut monitor = source.connect()?;
        let destination = Vm::start(peer, &folder, &[&common[..], &["-incoming", "defer"]].concat())?;
        let mut arrival = destination.connect()?;
        for qmp in [&mut monitor, &mut arrival] {
            qmp.negotiate()?;
            for command in [PARAMETERS, CAPABILITIES] {
                qmp.send(command)?;
                qmp.reply()?;
            }
        }
        let socket = format!("unix:{}", folder.join("migrate.sock").display());
        let listen = format!("{{\"execute\":\"migrate-incoming\",\"arguments\":{{\"uri\":\"{socket}\"}}}}");
        arrival.send(&listen)?;
        arrival.reply()?;
        Ok(Pair { source, destination, monitor, socket, _arrival: arrival })
    }

    /// From the command to the event that tells the end.
    fn migrate(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let command = format!("{{\"execute\":\"migrate\",\"arguments\":{{\"uri\":\"{}\"}}}}", self.socket);
        self.monitor.send(&command)?;
        loop {
            let line = self.monitor.line()?;
            if is_event(&line, "MIGRATION") {
                if is_event(&line, "completed") {
                    return Ok(start.elapsed());
                }
                if is_event(&line, "failed") {
                    bail!("the migration failed");
                }
            } else {
                Qmp::is_reply(&line)?;
            }
            if start.elapsed() > PATIENCE {
                bail!("the migration does not end");
            }
        }
    }
}
