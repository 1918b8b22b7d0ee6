//! Memory on its way out: all of it once, then, as often as it takes, what was written since.
//!
//! ```text
//!   round 1   every chunk                            zero chunks are marks, a run of them one mark
//!   round n   pages written since round n-1 began    in runs inside their chunk
//!   last      the same, while the machine stands
//! ```
//! Rounds end when what is left would go, at the speed that was measured, within `downtime-limit`.

use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ram::{DirtyLog, PAGE_SIZE, PAGES_PER_CHUNK, PageSet, Ram, Residency};
use stream::{Form, Header};

use crate::channel::{Cutter, Writer};
use crate::outgoing::OutgoingError;
use crate::statistics::Progress;

/// Below this many bytes a second of a connection is not believed: too little was sent to tell.
const FEW: u64 = 1 << 20;
/// The speed that is then assumed.
const ASSUMED: f64 = 1e9;

/// Counts bytes and the time in which they were taken.
pub(crate) struct Meter {
    writer: Writer,
    bytes: u64,
    busy: Duration,
}

impl Meter {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer, bytes: 0, busy: Duration::ZERO }
    }

    fn timed(&mut self, write: impl FnOnce(&mut Writer) -> io::Result<usize>) -> io::Result<usize> {
        let begin = Instant::now();
        let written = write(&mut self.writer);
        self.busy += begin.elapsed();
        self.bytes += *written.as_ref().unwrap_or(&0) as u64;
        written
    }

    /// Bytes a second that the other side takes, without pauses of ours.
    fn speed(&self) -> f64 {
        if self.bytes < FEW { ASSUMED } else { self.bytes as f64 / self.busy.as_secs_f64().max(1e-6) }
    }
}

impl Write for Meter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.timed(|writer| writer.write(bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.timed(|writer| writer.write_vectored(parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// How the bandwidth is bounded.
pub(crate) struct Pace<'a> {
    /// Most bytes a second now; 0 is no bound.
    pub(crate) most: &'a dyn Fn() -> u64,
    pub(crate) cutter: &'a Cutter,
}

/// Chunks of which the host is asked at once what it holds.
const BATCH: usize = 256;

/// How much may be sent ahead of its time.
const SLACK: Duration = Duration::from_millis(20);

/// Sends memory into a stream.
pub(crate) struct Rounds {
    ram: Arc<Ram>,
    out: stream::Writer<Meter>,
    progress: Arc<Progress>,
    /// When bytes were last held against the pace, and how many there were.
    paced: (Instant, u64),
    page: Vec<u8>,
}

impl Rounds {
    pub(crate) fn new(
        ram: Arc<Ram>,
        writer: Writer,
        header: &Header,
        progress: Arc<Progress>,
    ) -> Result<Self, OutgoingError> {
        progress.total.set(ram.size());
        progress.remaining.set(ram.size());
        let out = stream::Writer::new(Meter::new(writer), header)?;
        Ok(Self { ram, out, progress, paced: (Instant::now(), 0), page: vec![0; ram::CHUNK_SIZE] })
    }

    /// What is written beside memory.
    pub(crate) fn out(&mut self) -> &mut stream::Writer<Meter> {
        &mut self.out
    }

    /// The stream, complete but for its end.
    pub(crate) fn into_out(self) -> stream::Writer<Meter> {
        self.out
    }

    /// Every chunk. Those that the host holds nothing for are not even looked at.
    pub(crate) fn all(&mut self, pace: &Pace<'_>) -> Result<(), OutgoingError> {
        let residency = Residency::new();
        let ram = Arc::clone(&self.ram);
        for begin in (0..ram.chunk_count()).step_by(BATCH) {
            let held = residency.as_ref().map(|residency| ram.held(residency, begin, BATCH));
            for chunk in begin..(begin + BATCH).min(ram.chunk_count()) {
                let (first, pages) = (chunk * PAGES_PER_CHUNK, ram.chunk_len(chunk) / PAGE_SIZE as usize);
                if held.as_ref().is_none_or(|held| held.get(chunk - begin) != Some(&false)) {
                    self.run(first, pages)?;
                    self.keep(pace)?;
                } else {
                    self.out.zero(first as u64, pages as u64)?;
                    self.sent(pages, Form::Zero);
                }
            }
            // What has gathered, marks of zero above all, keeps the other side busy meanwhile.
            self.out.flush()?;
        }
        self.out.flush()?;
        self.count();
        Ok(())
    }

    /// These pages.
    pub(crate) fn pages(&mut self, pages: &PageSet, pace: Option<&Pace<'_>>) -> Result<(), OutgoingError> {
        self.progress.remaining.set(pages.len() as u64 * PAGE_SIZE);
        let mut run: Option<(usize, usize)> = None;
        for page in pages.iter() {
            match &mut run {
                Some((first, count)) if *first + *count == page && !page.is_multiple_of(PAGES_PER_CHUNK) => {
                    *count += 1;
                }
                _ => {
                    if let Some((first, count)) = run.replace((page, 1)) {
                        self.run(first, count)?;
                        if let Some(pace) = pace {
                            self.keep(pace)?;
                        }
                    }
                }
            }
        }
        if let Some((first, count)) = run {
            self.run(first, count)?;
        }
        self.out.flush()?;
        self.count();
        Ok(())
    }

    /// `count` pages of one chunk.
    fn run(&mut self, first: usize, count: usize) -> Result<(), OutgoingError> {
        let bytes = count * PAGE_SIZE as usize;
        let buffer = self.page.get_mut(..bytes).ok_or_else(|| io::Error::other("more than a chunk"))?;
        self.ram.read(self.ram.base() + first as u64 * PAGE_SIZE, buffer)?;
        let form = self.out.memory(first as u64, buffer)?;
        self.sent(count, form);
        Ok(())
    }

    fn sent(&self, pages: usize, form: Form) {
        let (pages, progress) = (pages as u64, &self.progress);
        match form {
            Form::Zero => progress.duplicate.add(pages),
            _ => progress.normal.add(pages),
        }
        progress.remaining.set(progress.remaining.get().saturating_sub(pages * PAGE_SIZE));
    }

    /// Waits if more was sent than the pace allows.
    fn keep(&mut self, pace: &Pace<'_>) -> Result<(), OutgoingError> {
        let most = (pace.most)();
        let bytes = self.out.totals().bytes;
        let (since, before) = self.paced;
        let sent = bytes - before;
        if most == 0 {
            return Ok(());
        }
        let due = Duration::from_secs_f64((sent as f64 / most as f64).min(3600.0));
        let spent = since.elapsed();
        if due > spent + SLACK {
            self.out.flush()?;
            self.count();
            pace.cutter.sleep(due - spent)?;
        } else if spent > due + SLACK * 5 {
            // What was not used is not saved up.
            self.paced = (Instant::now(), bytes);
        }
        Ok(())
    }

    /// Takes what was sent into the statistics.
    pub(crate) fn count(&self) {
        self.progress.transferred.set(self.out.totals().bytes);
    }

    /// How long `bytes` would take. `given` is the speed that the user counts on; 0 is as measured.
    pub(crate) fn time_for(&self, bytes: u64, given: u64) -> Duration {
        let speed = if given > 0 { given as f64 } else { self.out.get_ref().speed() };
        let time = Duration::from_secs_f64((bytes as f64 / speed).min(1e6));
        self.progress.expected_downtime.set(time.as_millis() as u64);
        time
    }

    /// Takes what was written since the last look; `since` is how long that was ago.
    pub(crate) fn look(&self, log: &DirtyLog, drop_writes: impl FnOnce(), since: Duration) -> PageSet {
        let pages = log.take(drop_writes);
        let rate = pages.len() as f64 / since.as_secs_f64().max(1e-3);
        self.progress.dirty_pages_rate.set(rate as u64);
        self.progress.remaining.set(pages.len() as u64 * PAGE_SIZE);
        pages
    }
}
