//! Memory on its way out: all of it once, then, as often as it takes, what was written since.
//!
//! ```text
//!   round 1   every chunk                            zero chunks are marks, a run of them one mark
//!   round n   pages written since round n-1 began    in runs inside their chunk
//!   last      the same, while the machine stands
//! ```
//! Rounds end when what is left would go, at the speed that was measured, within `downtime-limit`.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ram::{DirtyLog, PAGE_SIZE, PAGES_PER_CHUNK, PageSet, Ram};
use stream::{Control, Form, Header, MappedWriter, Section, Summary};

use crate::channel::{Cutter, Writer};
use crate::multifd::Lanes;
use crate::outgoing::OutgoingError;
use crate::pace::Pacer;
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

    /// For how long it was being written.
    pub(crate) fn busy(&self) -> Duration {
        self.busy
    }

    fn timed(&mut self, write: impl FnOnce(&mut Writer) -> io::Result<usize>) -> io::Result<usize> {
        let begin = Instant::now();
        let written = write(&mut self.writer);
        self.busy += begin.elapsed();
        self.bytes += *written.as_ref().unwrap_or(&0) as u64;
        written
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
    /// Whether what is left need not go in this round any more.
    pub(crate) enough: &'a dyn Fn() -> bool,
}

/// How long memory that is still on its way is left alone.
const BREATH: Duration = Duration::from_millis(1);

/// After how many chunks what has gathered is sent.
const BATCH: usize = 256;

/// How often one who waits for his time looks whether it is enough, or has come nearer.
const GLANCE: Duration = Duration::from_millis(20);

/// How much may be sent ahead of its time.
const SLACK: Duration = Duration::from_millis(20);

/// Where a machine goes.
enum Out {
    /// Front to back, through a channel.
    Stream(Box<stream::Writer<Meter>>),
    /// Into a file, each chunk at its place.
    Mapped(Box<Mapped>),
}

impl Out {
    /// Pages of one chunk; into a file only all of them.
    fn memory(&mut self, first: usize, bytes: &[u8]) -> Result<Form, OutgoingError> {
        match self {
            Self::Stream(out) => Ok(out.memory(first as u64, bytes)?),
            Self::Mapped(mapped) => {
                let begin = Instant::now();
                let form = mapped.writer.chunk((first / PAGES_PER_CHUNK) as u64, bytes)?;
                mapped.busy += begin.elapsed();
                mapped.bytes += if form == Form::Zero { 0 } else { bytes.len() as u64 };
                Ok(form)
            }
        }
    }
}

/// A file in which each chunk has its place.
struct Mapped {
    writer: MappedWriter,
    header: Header,
    summary: Option<Summary>,
    sections: Vec<Section>,
    bytes: u64,
    busy: Duration,
}

/// Sends memory, and what goes beside it.
pub(crate) struct Rounds {
    ram: Arc<Ram>,
    out: Out,
    progress: Arc<Progress>,
    pacer: Pacer,
    /// How many bytes it has been told of.
    paced: u64,
    page: Vec<u8>,
    /// What has content goes this way (`multifd`).
    lanes: Option<Lanes>,
    /// Bytes that went over connections before this one.
    earlier: u64,
}

impl Rounds {
    /// Through a channel.
    pub(crate) fn new(
        ram: Arc<Ram>,
        writer: Writer,
        header: &Header,
        progress: Arc<Progress>,
        level: i32,
    ) -> Result<Self, OutgoingError> {
        let out = Out::Stream(Box::new(stream::Writer::at_level(Meter::new(writer), header, level)?));
        Ok(Self::over(ram, out, progress))
    }

    /// Into a file, in which what is before `offset` stays and what is behind it goes.
    pub(crate) fn mapped(
        ram: Arc<Ram>,
        (file, offset): (File, u64),
        header: Header,
        progress: Arc<Progress>,
    ) -> Result<Self, OutgoingError> {
        file.set_len(offset)?;
        let writer = MappedWriter::behind(file, offset, header.memory)?;
        let (summary, sections) = (None, Vec::new());
        let mapped = Mapped { writer, header, summary, sections, bytes: 0, busy: Duration::ZERO };
        Ok(Self::over(ram, Out::Mapped(Box::new(mapped)), progress))
    }

    fn over(ram: Arc<Ram>, out: Out, progress: Arc<Progress>) -> Self {
        progress.total.set(ram.size());
        progress.remaining.set(ram.size());
        let earlier = progress.transferred.get();
        Self {
            ram,
            out,
            progress,
            pacer: Pacer::new(Instant::now()),
            paced: 0,
            page: vec![0; ram::CHUNK_SIZE],
            lanes: None,
            earlier,
        }
    }

    /// From here on what has content goes over these.
    pub(crate) fn spread(&mut self, lanes: Lanes) {
        self.lanes = Some(lanes);
    }

    /// What was sent in this round, over whatever connection, is before what follows.
    fn end_round(&mut self) -> Result<(), OutgoingError> {
        if let Some(lanes) = &self.lanes {
            let number = lanes.mark(false)?;
            self.control(&Control::Round { number })?;
        }
        self.flush()?;
        self.count();
        Ok(())
    }

    /// No content follows.
    pub(crate) fn end_lanes(&mut self) -> Result<(), OutgoingError> {
        self.lanes.as_ref().map_or(Ok(()), |lanes| lanes.mark(true).map(drop))
    }

    /// Says a word of the handshake, where there is somebody to hear it.
    pub(crate) fn control(&mut self, control: &Control) -> Result<(), OutgoingError> {
        match &mut self.out {
            Out::Stream(out) => Ok(out.control(control)?),
            Out::Mapped(_) => Ok(()),
        }
    }

    /// The machine in a few words.
    pub(crate) fn summary(&mut self, summary: Summary) -> Result<(), OutgoingError> {
        match &mut self.out {
            Out::Stream(out) => out.summary(&summary)?,
            Out::Mapped(mapped) => mapped.summary = Some(summary),
        }
        Ok(())
    }

    /// The state of a component.
    pub(crate) fn section(&mut self, section: Section) -> Result<(), OutgoingError> {
        match &mut self.out {
            Out::Stream(out) => out.section(&section)?,
            Out::Mapped(mapped) => mapped.sections.push(section),
        }
        Ok(())
    }

    /// Gives all that was written to the other side.
    pub(crate) fn flush(&mut self) -> Result<(), OutgoingError> {
        match &mut self.out {
            Out::Stream(out) => Ok(out.flush()?),
            Out::Mapped(_) => Ok(()),
        }
    }

    /// Bytes written.
    pub(crate) fn bytes(&self) -> u64 {
        let main = match &self.out {
            Out::Stream(out) => out.totals().bytes,
            Out::Mapped(mapped) => mapped.bytes,
        };
        main + self.lanes.as_ref().map_or(0, Lanes::bytes)
    }

    fn speed(&self) -> f64 {
        if let Some(lanes) = &self.lanes {
            return if lanes.bytes() < FEW { ASSUMED } else { lanes.speed() };
        }
        let (bytes, busy) = match &self.out {
            Out::Stream(out) => (out.get_ref().bytes, out.get_ref().busy),
            Out::Mapped(mapped) => (mapped.bytes, mapped.busy),
        };
        if bytes < FEW { ASSUMED } else { bytes as f64 / busy.as_secs_f64().max(1e-6) }
    }

    /// The end mark. It is complete, and with the other side.
    pub(crate) fn end(self) -> Result<(), OutgoingError> {
        match self.out {
            Out::Stream(out) => drop(out.end()?),
            Out::Mapped(mapped) => {
                let Mapped { writer, header, summary, sections, .. } = *mapped;
                drop(writer.finish(&header, summary.as_ref(), &sections)?);
            }
        }
        Ok(())
    }

    /// Every chunk, as long as the pace wants it. Gives the first that was not sent.
    pub(crate) fn all(&mut self, pace: &Pace<'_>) -> Result<usize, OutgoingError> {
        let count = self.ram.chunk_count();
        let mut chunk = 0;
        while chunk < count && !(pace.enough)() {
            match self.chunk(chunk) {
                // What is here is read lazily itself, and this is still on its way.
                Err(OutgoingError::Chunk(ram::OpenError::Interrupted)) => {
                    pace.cutter.sleep(BREATH)?;
                    continue;
                }
                form => {
                    if form? != Form::Zero {
                        self.keep(pace)?;
                    }
                }
            }
            if chunk % BATCH == BATCH - 1 {
                // What has gathered, marks of zero above all, keeps the other side busy meanwhile.
                self.flush()?;
            }
            chunk += 1;
        }
        self.end_round()?;
        Ok(chunk)
    }

    /// One chunk.
    pub(crate) fn chunk(&mut self, chunk: usize) -> Result<Form, OutgoingError> {
        let (first, pages) = (chunk * PAGES_PER_CHUNK, self.ram.chunk_len(chunk) / PAGE_SIZE as usize);
        if self.ram.is_zero_chunk(chunk)? {
            self.zero(first, pages)?;
            return Ok(Form::Zero);
        }
        self.run(first, pages)
    }

    fn zero(&mut self, first: usize, pages: usize) -> Result<(), OutgoingError> {
        match &mut self.out {
            Out::Stream(out) => out.zero(first as u64, pages as u64)?,
            Out::Mapped(mapped) => mapped.writer.zero((first / PAGES_PER_CHUNK) as u64)?,
        }
        self.progress.sent(pages as u64, Form::Zero);
        Ok(())
    }

    /// These pages. Whether all of them: the pace may have enough of it.
    pub(crate) fn pages(&mut self, pages: &PageSet, pace: Option<&Pace<'_>>) -> Result<bool, OutgoingError> {
        if let Out::Mapped(_) = self.out {
            self.chunks(pages, pace)?;
            return Ok(true);
        }
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
                            if (pace.enough)() {
                                return Ok(false);
                            }
                        }
                    }
                }
            }
        }
        if let Some((first, count)) = run {
            self.run(first, count)?;
        }
        self.end_round()?;
        Ok(true)
    }

    /// The chunks that these pages are in: where each has its checksum, none is written in part.
    fn chunks(&mut self, pages: &PageSet, pace: Option<&Pace<'_>>) -> Result<(), OutgoingError> {
        self.progress.remaining.set(pages.chunks().count() as u64 * ram::CHUNK_SIZE as u64);
        for chunk in pages.chunks() {
            self.run(chunk * PAGES_PER_CHUNK, self.ram.chunk_len(chunk) / PAGE_SIZE as usize)?;
            if let Some(pace) = pace {
                self.keep(pace)?;
            }
        }
        self.count();
        Ok(())
    }

    /// `count` pages of one chunk.
    fn run(&mut self, first: usize, count: usize) -> Result<Form, OutgoingError> {
        if let Some(lanes) = &self.lanes {
            lanes.send(first, count)?;
            return Ok(Form::Raw);
        }
        let bytes = count * PAGE_SIZE as usize;
        let buffer = self.page.get_mut(..bytes).ok_or_else(|| io::Error::other("more than a chunk"))?;
        self.ram.read(self.ram.base() + first as u64 * PAGE_SIZE, buffer)?;
        let form = self.out.memory(first, buffer)?;
        self.progress.sent(count as u64, form);
        Ok(form)
    }

    /// A chunk as it was, whatever it is by now. None: it was zero.
    pub(crate) fn saved(&mut self, chunk: usize, content: Option<&[u8]>) -> Result<Form, OutgoingError> {
        let (first, pages) = (chunk * PAGES_PER_CHUNK, self.ram.chunk_len(chunk) / PAGE_SIZE as usize);
        let Some(content) = content else {
            self.zero(first, pages)?;
            return Ok(Form::Zero);
        };
        let form = self.out.memory(first, content)?;
        self.progress.sent(pages as u64, form);
        Ok(form)
    }

    /// Waits if more was sent than the pace allows. It may be changed while this waits.
    pub(crate) fn keep(&mut self, pace: &Pace<'_>) -> Result<(), OutgoingError> {
        let bytes = self.bytes();
        let sent = bytes - std::mem::replace(&mut self.paced, bytes);
        let now = Instant::now();
        if self.pacer.due(sent, (pace.most)(), now) <= now + SLACK {
            return Ok(());
        }
        self.flush()?;
        self.count();
        loop {
            let now = Instant::now();
            let left = self.pacer.due(0, (pace.most)(), now).saturating_duration_since(now);
            if left.is_zero() || (pace.enough)() {
                return Ok(());
            }
            pace.cutter.sleep(left.min(GLANCE))?;
        }
    }

    /// Takes what was sent into the statistics.
    pub(crate) fn count(&self) {
        self.progress.count_bytes(self.earlier + self.bytes());
        if let Some(lanes) = &self.lanes {
            self.progress.multifd_bytes.set(lanes.bytes());
        }
    }

    /// How long `bytes` would take. `given` is the speed that the user counts on; 0 is as measured.
    pub(crate) fn time_for(&self, bytes: u64, given: u64) -> Duration {
        let speed = if given > 0 { given as f64 } else { self.speed() };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Direction;
    use std::cell::Cell;
    use stream::FileId;

    #[test]
    fn a_bound_that_is_set_on_the_way_holds_for_what_follows() {
        let ram = Arc::new(Ram::new(0x8000_0000, 8 << 20).unwrap());
        ram.write(ram.base(), &vec![1; 8 << 20]).unwrap();
        let progress = Arc::new(Progress::new(Direction::Outgoing, None, Instant::now()));
        let header = Header::new(FileId([1; 16]), ram.size());
        let place = (tempfile::tempfile().unwrap(), 0);
        let mut rounds = Rounds::mapped(Arc::clone(&ram), place, header, progress).unwrap();
        let (bound, cutter) = (Cell::new(0), Cutter::new().unwrap());
        let pace = Pace { most: &|| bound.get(), cutter: &cutter, enough: &|| false };
        assert_eq!(rounds.all(&pace).unwrap(), 128);
        bound.set(1 << 20);
        let begin = Instant::now();
        for chunk in 0..4 {
            rounds.chunk(chunk).unwrap();
            rounds.keep(&pace).unwrap();
        }
        let took = begin.elapsed();
        assert!(took > Duration::from_millis(100), "a quarter of a second for these: {took:?}");
        assert!(took < Duration::from_secs(4), "and eight more for those before: {took:?}");
    }
}
