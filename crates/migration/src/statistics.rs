//! What is told of a migration: counters that its job raises and anybody may read, and the moments that times are made of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use stream::Form;

use crate::open::Listening;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = ram::PAGE_SIZE;

/// A number that only its job writes, from one thread or several.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Raises it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Lowers it, to 0 at most.
    pub fn take(&self, less: u64) {
        let lower = |value: u64| Some(value.saturating_sub(less));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower);
    }

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Which way the guest goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// Away.
    Outgoing,
    /// Here.
    Incoming,
}

/// A migration's progress, shared by its job and those who ask.
#[derive(Debug)]
pub struct Progress {
    direction: Direction,
    listening: Option<Listening>,
    moments: Mutex<Moments>,
    error: OnceLock<Arc<str>>,
    /// What is wrong now, and may come right.
    trouble: Mutex<Option<Arc<str>>>,
    /// Bytes of guest memory.
    pub total: Counter,
    /// Bytes of memory that are still to be sent.
    pub remaining: Counter,
    /// Bytes sent, of everything.
    pub transferred: Counter,
    /// Of them, while the guest ran here.
    pub precopy_bytes: Counter,
    /// Of them, while it was held.
    pub downtime_bytes: Counter,
    /// Of them, while it ran there.
    pub postcopy_bytes: Counter,
    /// Of them, over further connections.
    pub multifd_bytes: Counter,
    /// Pages of zeros.
    pub duplicate: Counter,
    /// Other pages.
    pub normal: Counter,
    /// How often it was looked which pages the guest had written.
    pub dirty_sync_count: Counter,
    /// Pages that the guest writes in a second.
    pub dirty_pages_rate: Counter,
    /// Pages that the other side has asked for.
    pub postcopy_requests: Counter,
    /// ms that the rest would take now.
    pub expected_downtime: Counter,
    /// Percent of their time that harts are kept from running; 0 while they are not.
    pub throttle: Counter,
}

#[derive(Debug)]
struct Moments {
    begin: Instant,
    setup: Option<Duration>,
    stopped: Option<Instant>,
    downtime: Option<Duration>,
    total: Option<Duration>,
}

impl Progress {
    /// A migration that begins now. One that is listened for says where.
    pub fn new(direction: Direction, listening: Option<Listening>, now: Instant) -> Self {
        let moments = Moments { begin: now, setup: None, stopped: None, downtime: None, total: None };
        Self {
            direction,
            listening,
            moments: Mutex::new(moments),
            error: OnceLock::new(),
            trouble: Mutex::default(),
            total: Counter::default(),
            remaining: Counter::default(),
            transferred: Counter::default(),
            precopy_bytes: Counter::default(),
            downtime_bytes: Counter::default(),
            postcopy_bytes: Counter::default(),
            multifd_bytes: Counter::default(),
            duplicate: Counter::default(),
            normal: Counter::default(),
            dirty_sync_count: Counter::default(),
            dirty_pages_rate: Counter::default(),
            postcopy_requests: Counter::default(),
            expected_downtime: Counter::default(),
            throttle: Counter::default(),
        }
    }

    /// Which way.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    fn moments(&self) -> MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many pages have been sent in this form.
    pub(crate) fn sent(&self, pages: u64, form: Form) {
        match form {
            Form::Zero => self.duplicate.add(pages),
            _ => self.normal.add(pages),
        }
        self.remaining.take(pages * PAGE_SIZE);
    }

    /// The connection stands; memory begins to flow.
    pub fn set_up(&self, now: Instant) {
        let mut moments = self.moments();
        moments.setup = Some(now.saturating_duration_since(moments.begin));
    }

    /// So many bytes have gone in all.
    pub fn count_bytes(&self, bytes: u64) {
        self.transferred.set(bytes);
        if self.moments().stopped.is_none() {
            self.precopy_bytes.set(bytes);
        }
    }

    /// The machine stands, or is about to.
    pub fn stopped(&self, now: Instant) {
        self.moments().stopped = Some(now);
    }

    /// The guest may run again, here or there.
    pub fn restarted(&self, now: Instant) {
        let mut moments = self.moments();
        moments.downtime = moments.stopped.map(|stopped| now.saturating_duration_since(stopped));
    }

    /// It has ended.
    pub fn ended(&self, now: Instant) {
        let mut moments = self.moments();
        let total = now.saturating_duration_since(moments.begin);
        moments.total.get_or_insert(total);
    }

    /// It fails for this reason; the first one counts.
    pub fn fail(&self, reason: &str) {
        let _ = self.error.set(Arc::from(reason));
    }

    /// It stands still for this reason; or it goes on.
    pub fn trouble(&self, reason: Option<&str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = reason.map(Arc::from);
    }

    fn reason(&self) -> Option<Arc<str>> {
        let trouble = || self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.error.get().cloned().or_else(trouble)
    }

    /// The whole of it, now.
    pub fn report(&self, now: Instant) -> Report {
        let moments = self.moments();
        let total_time = moments.total.unwrap_or_else(|| now.saturating_duration_since(moments.begin));
        let setup = moments.setup;
        let flowing = total_time.saturating_sub(setup.unwrap_or_default()).as_secs_f64();
        let pages = self.duplicate.get() + self.normal.get();
        let rate = |count: f64| if flowing > 0.0 { count / flowing } else { 0.0 };
        let transferred = self.transferred.get();
        let ram = RamReport {
            total: self.total.get(),
            remaining: self.remaining.get(),
            transferred,
            duplicate: self.duplicate.get(),
            normal: self.normal.get(),
            normal_bytes: self.normal.get().saturating_mul(PAGE_SIZE),
            dirty_pages_rate: self.dirty_pages_rate.get(),
            mbps: rate(transferred as f64) * 8.0 / 1e6,
            dirty_sync_count: self.dirty_sync_count.get(),
            postcopy_requests: self.postcopy_requests.get(),
            multifd_bytes: self.multifd_bytes.get(),
            pages_per_second: rate(pages as f64) as u64,
            precopy_bytes: self.precopy_bytes.get(),
            downtime_bytes: self.downtime_bytes.get(),
            postcopy_bytes: self.postcopy_bytes.get(),
        };
        Report {
            direction: self.direction,
            total_time,
            setup,
            downtime: moments.downtime,
            expected_downtime: Duration::from_millis(self.expected_downtime.get()),
            throttle: u8::try_from(self.throttle.get()).ok().filter(|percent| *percent > 0),
            error: self.reason(),
            listening: self.listening.clone(),
            ram,
        }
    }
}

/// A migration as it is at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Which way.
    pub direction: Direction,
    /// Since its begin, or until its end.
    pub total_time: Duration,
    /// Until memory began to flow.
    pub setup: Option<Duration>,
    /// For how long the guest stood, once that is over.
    pub downtime: Option<Duration>,
    /// For how long it would stand if it were stopped now.
    pub expected_downtime: Duration,
    /// Percent that harts are slowed down.
    pub throttle: Option<u8>,
    /// Why it has failed, or stands still.
    pub error: Option<Arc<str>>,
    /// Where it is listened for.
    pub listening: Option<Listening>,
    /// Memory.
    pub ram: RamReport,
}

/// What is told of memory, in bytes and pages.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RamReport {
    /// Bytes of guest memory.
    pub total: u64,
    /// Bytes still to be sent.
    pub remaining: u64,
    /// Bytes sent.
    pub transferred: u64,
    /// Pages of zeros.
    pub duplicate: u64,
    /// Other pages.
    pub normal: u64,
    /// Their bytes.
    pub normal_bytes: u64,
    /// Pages that the guest writes in a second.
    pub dirty_pages_rate: u64,
    /// 10^6 bits a second.
    pub mbps: f64,
    /// How often it was looked for written pages.
    pub dirty_sync_count: u64,
    /// Pages that the other side has asked for.
    pub postcopy_requests: u64,
    /// Bytes over further connections.
    pub multifd_bytes: u64,
    /// Pages sent in a second.
    pub pages_per_second: u64,
    /// Bytes sent while the guest ran here.
    pub precopy_bytes: u64,
    /// Bytes sent while it was held.
    pub downtime_bytes: u64,
    /// Bytes sent while it ran there.
    pub postcopy_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_made_of_moments() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let progress = Progress::new(Direction::Outgoing, None, begin);
        assert_eq!(progress.report(at(3)).total_time, Duration::from_millis(3));
        progress.set_up(at(10));
        progress.transferred.set(1_000_000);
        progress.normal.set(200);
        progress.stopped(at(100));
        assert_eq!(progress.report(at(105)).downtime, None, "not over yet");
        progress.restarted(at(107));
        progress.ended(at(110));
        let report = progress.report(at(5000));
        assert_eq!(report.setup, Some(Duration::from_millis(10)));
        assert_eq!(report.downtime, Some(Duration::from_millis(7)));
        assert_eq!(report.total_time, Duration::from_millis(110));
        assert!((report.ram.mbps - 80.0).abs() < 1e-6, "8 Mbit in 0.1 s: {}", report.ram.mbps);
        assert_eq!((report.ram.pages_per_second, report.ram.normal_bytes), (2000, 819_200));
    }

    #[test]
    fn the_first_reason_counts() {
        let progress = Progress::new(Direction::Incoming, None, Instant::now());
        progress.fail("first");
        progress.fail("second");
        assert_eq!(progress.report(Instant::now()).error.as_deref(), Some("first"));
    }
}
