//! How a migration stands.

use migration::{Direction, Listening, RamReport, Report};
use qmp::qapi_struct;
use qmp::schema::QapiEnum as _;

use super::MigrationStatus;
use super::place::SocketAddressType;
use crate::commands::Env;
use crate::hmp::{HmpError, Screen};

qapi_struct! {
    /// What is told of guest memory.
    MigrationStats {
        /// Bytes sent.
        transferred: u64 = "transferred",
        /// Bytes still to be sent.
        remaining: u64 = "remaining",
        /// Bytes of guest memory.
        total: u64 = "total",
        /// Pages of zeros.
        duplicate: u64 = "duplicate",
        /// Other pages sent.
        normal: u64 = "normal",
        /// Their bytes.
        normal_bytes: u64 = "normal-bytes",
        /// Pages that the guest writes in a second.
        dirty_pages_rate: u64 = "dirty-pages-rate",
        /// Sent, in 10^6 bits a second.
        mbps: f64 = "mbps",
        /// How often it was looked which pages the guest had written.
        dirty_sync_count: u64 = "dirty-sync-count",
        /// Pages that the other side has asked for.
        postcopy_requests: u64 = "postcopy-requests",
        /// Bytes in a page.
        page_size: u64 = "page-size",
        /// Bytes sent over further connections.
        multifd_bytes: u64 = "multifd-bytes",
        /// Pages sent in a second.
        pages_per_second: u64 = "pages-per-second",
        /// Bytes sent while the guest ran here.
        precopy_bytes: u64 = "precopy-bytes",
        /// Bytes sent while it stood.
        downtime_bytes: u64 = "downtime-bytes",
        /// Bytes sent while it ran over there.
        postcopy_bytes: u64 = "postcopy-bytes",
        /// Always 0.
        dirty_sync_missed_zero_copy: u64 = "dirty-sync-missed-zero-copy",
    }
}

qapi_struct! {
    /// Where a migration is listened for.
    SocketAddress {
        /// The kind of socket.
        ty: SocketAddressType = "type",
        /// The path, of `unix`.
        path: Option<String> = "path",
        /// The address, of `inet`.
        host: Option<String> = "host",
        /// The port, of `inet`.
        port: Option<String> = "port",
    }
}

qapi_struct! {
    /// How a migration stands; nothing when there was none.
    MigrationInfo {
        /// How it stands.
        status: Option<MigrationStatus> = "status",
        /// What is told of guest memory.
        ram: Option<MigrationStats> = "ram",
        /// ms since its begin, or until its end.
        total_time: Option<i64> = "total-time",
        /// ms that the guest would stand if it were stopped now.
        expected_downtime: Option<i64> = "expected-downtime",
        /// ms that the guest stood.
        downtime: Option<i64> = "downtime",
        /// ms until memory began to flow.
        setup_time: Option<i64> = "setup-time",
        /// Percent of their time that harts are kept from running (`auto-converge`).
        cpu_throttle_percentage: Option<i64> = "cpu-throttle-percentage",
        /// Why it has failed.
        error_desc: Option<String> = "error-desc",
        /// Where it is listened for.
        socket_address: Option<Vec<SocketAddress>> = "socket-address",
    }
}

impl From<RamReport> for MigrationStats {
    fn from(ram: RamReport) -> Self {
        Self {
            transferred: ram.transferred,
            remaining: ram.remaining,
            total: ram.total,
            duplicate: ram.duplicate,
            normal: ram.normal,
            normal_bytes: ram.normal_bytes,
            dirty_pages_rate: ram.dirty_pages_rate,
            mbps: ram.mbps,
            dirty_sync_count: ram.dirty_sync_count,
            postcopy_requests: ram.postcopy_requests,
            page_size: ::ram::PAGE_SIZE,
            multifd_bytes: ram.multifd_bytes,
            pages_per_second: ram.pages_per_second,
            precopy_bytes: ram.precopy_bytes,
            downtime_bytes: ram.downtime_bytes,
            postcopy_bytes: ram.postcopy_bytes,
            dirty_sync_missed_zero_copy: 0,
        }
    }
}

impl From<&Listening> for SocketAddress {
    fn from(listening: &Listening) -> Self {
        match listening {
            Listening::Unix(path) => Self {
                ty: SocketAddressType::Unix,
                path: Some(path.display().to_string()),
                host: None,
                port: None,
            },
            Listening::Tcp(address) => Self {
                ty: SocketAddressType::Inet,
                path: None,
                host: Some(address.ip().to_string()),
                port: Some(address.port().to_string()),
            },
        }
    }
}

/// What this client may know of it: the status is that of the events which it has been sent.
pub(super) fn now(env: &Env<'_>) -> MigrationInfo {
    let report = env.context.migrations.report();
    let status = env.status.migration.map(MigrationStatus::from);
    of(status, report.as_ref())
}

fn of(status: Option<MigrationStatus>, report: Option<&Report>) -> MigrationInfo {
    let status = status.zip(report);
    let Some((status, report)) = status else { return MigrationInfo::default() };
    use MigrationStatus::{
        Cancelled, Completed, Failed, PostcopyActive, PostcopyPaused, PostcopyRecover, PostcopyRecoverSetup,
        Setup,
    };
    let over = matches!(status, Completed | Failed | Cancelled);
    let outgoing = report.direction == Direction::Outgoing;
    let flows = outgoing && !matches!(status, Setup | Failed | Cancelled);
    let stood = matches!(
        status,
        Completed | PostcopyActive | PostcopyPaused | PostcopyRecover | PostcopyRecoverSetup
    );
    let ms = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    MigrationInfo {
        status: Some(status),
        ram: flows.then(|| report.ram.into()),
        total_time: flows.then(|| ms(report.total_time)),
        expected_downtime: (flows && !over && !stood).then(|| ms(report.expected_downtime)),
        downtime: report.downtime.filter(|_| (over || stood) && outgoing).map(ms),
        setup_time: report.setup.filter(|_| flows).map(ms),
        cpu_throttle_percentage: report.throttle.map(i64::from),
        error_desc: report.error.as_deref().filter(|_| over || stood).map(str::to_owned),
        socket_address: report.listening.as_ref().map(|listening| vec![listening.into()]),
    }
}

impl Default for MigrationInfo {
    /// There was none.
    fn default() -> Self {
        Self {
            status: None,
            ram: None,
            total_time: None,
            expected_downtime: None,
            downtime: None,
            setup_time: None,
            cpu_throttle_percentage: None,
            error_desc: None,
            socket_address: None,
        }
    }
}

/// `info migrate`.
pub(super) fn show(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
    let info = now(screen.env);
    let Some(status) = info.status else { return Ok(()) };
    match info.error_desc {
        Some(error) => screen.print(&format!("Migration status: {} ({error})", status.name())),
        None => screen.print(&format!("Migration status: {}", status.name())),
    }
    let mut time = |name: &str, ms: Option<i64>| {
        if let Some(ms) = ms {
            screen.print(&format!("{name}: {ms} ms"));
        }
    };
    time("total time", info.total_time);
    time("expected downtime", info.expected_downtime);
    time("downtime", info.downtime);
    time("setup", info.setup_time);
    if let Some(ram) = info.ram {
        let kib = |bytes: u64| bytes >> 10;
        for line in [
            format!("transferred ram: {} kbytes", kib(ram.transferred)),
            format!("throughput: {:.2} mbps", ram.mbps),
            format!("remaining ram: {} kbytes", kib(ram.remaining)),
            format!("total ram: {} kbytes", kib(ram.total)),
            format!("duplicate: {} pages", ram.duplicate),
            format!("normal: {} pages", ram.normal),
            format!("normal bytes: {} kbytes", kib(ram.normal_bytes)),
            format!("dirty sync count: {}", ram.dirty_sync_count),
            format!("page size: {} kbytes", kib(ram.page_size)),
            format!("dirty pages rate: {} pages", ram.dirty_pages_rate),
        ] {
            screen.print(&line);
        }
    }
    if let Some(percent) = info.cpu_throttle_percentage {
        screen.print(&format!("cpu throttle percentage: {percent}"));
    }
    for address in info.socket_address.into_iter().flatten() {
        let SocketAddress { path, host, port, .. } = address;
        let host = host.map(|host| if host.contains(':') { format!("[{host}]") } else { host });
        match (path, host, port) {
            (Some(path), ..) => screen.print(&format!("socket address: unix:{path}")),
            (_, Some(host), Some(port)) => screen.print(&format!("socket address: tcp:{host}:{port}")),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use migration::Progress;
    use qmp::schema::Qapi as _;
    use std::time::Instant;

    fn keys(info: &MigrationInfo) -> Vec<String> {
        info.to_value().as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn each_status_has_the_members_that_it_has_in_qemu() {
        let begin = Instant::now();
        let progress = Progress::new(Direction::Outgoing, None, begin);
        assert_eq!(keys(&of(None, None)), [""; 0]);
        assert_eq!(keys(&of(Some(MigrationStatus::Setup), Some(&progress.report(begin)))), ["status"]);
        progress.set_up(begin);
        let active = of(Some(MigrationStatus::Active), Some(&progress.report(begin)));
        assert_eq!(keys(&active), ["status", "ram", "total-time", "expected-downtime", "setup-time"]);
        progress.stopped(begin);
        progress.restarted(begin);
        let completed = of(Some(MigrationStatus::Completed), Some(&progress.report(begin)));
        assert_eq!(keys(&completed), ["status", "ram", "total-time", "downtime", "setup-time"]);
        let failing = Progress::new(Direction::Outgoing, None, begin);
        failing.fail("why");
        let failed = of(Some(MigrationStatus::Failed), Some(&failing.report(begin)));
        assert_eq!(keys(&failed), ["status", "error-desc"]);
        let listening = Some(Listening::Unix("/a".into()));
        let waiting = Progress::new(Direction::Incoming, listening, begin).report(begin);
        let setup = of(Some(MigrationStatus::Setup), Some(&waiting));
        assert_eq!(
            setup.to_value(),
            serde_json::json!({"status": "setup", "socket-address": [{"type": "unix", "path": "/a"}]})
        );
    }
}
