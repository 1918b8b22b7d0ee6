//! `background-snapshot`: the machine as it is at one moment goes out while it goes on here.
//!
//! ```text
//!   open ─► active ─► BackgroundHold: STOP ─► state and life taken, copy before write begins ─► BackgroundCaptured: RESUME
//!                                                     │
//!   the same form as of a move that nobody answers: life and sections, then chunks in any order, the end mark
//!                                                     │
//!          a hart about to write a chunk copies it ─► Copies ─► the job writes those first, and one more that nobody has
//! ```
//!
//! No hart waits for whoever takes the bytes, and so no `stop` does: what harts have copied waits in memory, which is at most
//! as much as the guest's own. Nobody answers, also where one could: the guest goes on here whatever becomes of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use engine::{Engine, JobControl, JobWork};
use ram::{ChunkSink, OpenError, Portion, Ram, Save};
use runstate::{MigrationRequest, MigrationStatus};
use stream::Form;

use crate::channel::{Channel, Cutter};
use crate::open::Target;
use crate::outgoing::{OutgoingError, Way, level};
use crate::parameters::Number;
use crate::rounds::{Pace, Rounds};
use crate::statistics::Progress;
use crate::{Shared, Underway, form};

/// The job.
pub(crate) fn work(shared: &Arc<Shared>, underway: &Underway, target: Target) -> JobWork {
    let shared = Arc::clone(shared);
    let Underway { progress, cutter, .. } = underway.clone();
    let work = move |control: &JobControl| {
        let hook = cutter.clone();
        control.on_cancel(move || hook.cut());
        let background = Background { shared, progress, cutter, control };
        let done = background.run(target);
        background.progress.ended(Instant::now());
        if let Err(error) = &done
            && !control.is_cancelled()
        {
            let text = error.to_string();
            tracing::warn!(error = text, "a background snapshot has failed");
            background.progress.fail(&text);
            control.fail(&text);
        }
        MigrationRequest::BackgroundEnd { ok: done.is_ok() }
    };
    JobWork::new(work, MigrationRequest::BackgroundEnd { ok: false })
}

/// A chunk as it was, by its number. None: zero.
type Copy = (usize, Option<Box<[u8]>>);

/// What harts are about to write, and what the job has asked for.
#[derive(Default)]
struct Copies(Mutex<VecDeque<Copy>>);

impl ChunkSink for Copies {
    fn save(&self, chunk: usize, bytes: &[u8]) {
        let content = (!stream::is_zero(bytes)).then(|| bytes.into());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((chunk, content));
    }
}

impl Copies {
    fn next(&self) -> Option<Copy> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// One background snapshot as its job sees it.
struct Background<'a> {
    shared: Arc<Shared>,
    progress: Arc<Progress>,
    cutter: Cutter,
    control: &'a JobControl,
}

impl Background<'_> {
    fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    fn run(&self, target: Target) -> Result<(), OutgoingError> {
        let ram = self.engine().ram().ok_or(OutgoingError::NoMemory)?;
        let progress = &self.progress;
        match Way::open(&self.shared, target, &ram, progress, &self.cutter)? {
            Way::Mapped(rounds) => self.through(&ram, rounds, None),
            Way::Streamed(mut channel, header) => {
                let (writer, level) = (channel.take_writer()?, level(&self.shared));
                let rounds = Rounds::new(Arc::clone(&ram), writer, &header, Arc::clone(progress), level)?;
                let done = self.through(&ram, rounds, Some(&mut channel));
                done.map_err(|error| error.with_ending(&mut channel))
            }
        }
    }

    fn through(
        &self,
        ram: &Arc<Ram>,
        mut rounds: Rounds,
        channel: Option<&mut Channel>,
    ) -> Result<(), OutgoingError> {
        self.progress.set_up(Instant::now());
        self.control.ask(MigrationRequest::Announce(MigrationStatus::Active))?;
        let lost = ram.host_errors();
        let copies = Arc::new(Copies::default());
        let save = self.capture(ram, &mut rounds, &copies)?;
        self.write(&mut rounds, save, &copies)?;
        if ram.host_errors() != lost {
            return Err(OutgoingError::HostMemory);
        }
        rounds.count();
        rounds.end()?;
        if let Some(channel) = channel {
            channel.finish()?;
        }
        self.progress.remaining.set(0);
        Ok(())
    }

    /// Holds the machine while its state is taken. What is written to memory from here on is copied first.
    fn capture(&self, ram: &Ram, rounds: &mut Rounds, copies: &Arc<Copies>) -> Result<Save, OutgoingError> {
        let engine = self.engine();
        self.progress.stopped(Instant::now());
        self.control.ask(MigrationRequest::BackgroundHold)?;
        if let Some(error) = &engine.status().flush_error {
            return Err(OutgoingError::Flush(Arc::clone(&error.what)));
        }
        let state = engine.save_state().ok_or(OutgoingError::Ended)?;
        let saved = engine.saved_lifecycle().ok_or(OutgoingError::Ended)?;
        let sink = Arc::clone(copies) as Arc<dyn ChunkSink>;
        let save = ram.begin_save(Portion::All, sink, || engine.drop_write_tags())?;
        self.control.ask(MigrationRequest::BackgroundCaptured)?;
        self.progress.restarted(Instant::now());
        rounds.summary(form::summary(&state, &saved))?;
        rounds.section(form::save_life(&saved))?;
        state.sections.into_iter().try_for_each(|section| rounds.section(form::to_form(section)))?;
        Ok(save)
    }

    /// Writes memory as it was, behind the machine.
    fn write(&self, rounds: &mut Rounds, mut save: Save, copies: &Copies) -> Result<(), OutgoingError> {
        let most = || self.shared.settings().parameters.number(Number::MaxBandwidth);
        let pace = Pace { most: &most, cutter: &self.cutter, enough: &|| false };
        let mut more = true;
        while more {
            more = match save.save_next() {
                Ok(more) => more,
                Err(OpenError::Interrupted) if self.control.is_cancelled() => {
                    return Err(OutgoingError::Cancelled);
                }
                Err(OpenError::Interrupted) => {
                    thread::yield_now();
                    true
                }
                Err(error) => return Err(error.into()),
            };
            while let Some((chunk, content)) = copies.next() {
                if self.control.is_cancelled() {
                    return Err(OutgoingError::Cancelled);
                }
                if rounds.saved(chunk, content.as_deref())? != Form::Zero {
                    rounds.keep(&pace)?;
                }
            }
        }
        rounds.flush()
    }
}
