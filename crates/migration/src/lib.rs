//! The machine moved to another process or host, or into a file, while it runs: jobs over engine, saved form and memory.
//!
//! ```text
//!   migrate ─────────► outgoing ─┐                              ┌─ incoming ◄──── -incoming, migrate-incoming
//!      │ address, open           │     Channel { read, write }  │
//!      │ (what can be refused    ├──────────────────────────────┤
//!      │  at once)               │                              │
//!      ▼                         │ HELLO ─────────────────────► │ board and format judged
//!   Migrations                   │ ◄──────────────────── ACCEPT │
//!      capabilities, parameters  │ RAM, in rounds ────────────► │
//!      progress of the last one  │ SwitchOver: STOP             │
//!      cancel, go on             │ Seal, last RAM, sections ──► │ everything checked and staged
//!                                │ ◄───────────────────── READY │
//!                                │ Commit: postmigrate          │
//!                                │ lifecycle, COMMIT ─────────► │ IncomingLoaded: runs
//!                                └ ◄────────────────────── DONE ┘
//! ```
//! What cannot answer (a file, a pipe, a program) gets the same bytes; there the end mark, flushed, is COMMIT.
//!
//! What is set to go by TLS (`tls-creds`) is sealed before the first of these words, by the credentials among [`Objects`]; who
//! cannot show who he is never gets as far as HELLO.
//!
//! With `multifd` memory goes over further connections, which are taken after ACCEPT and have ended before READY.
//!
//! In postcopy the guest runs over there before all of its memory is: the rest of it follows COMMIT, and DONE comes when it is
//! there. A connection that is lost between the two can be taken up again.
//!
//! A background snapshot (the module `background`) sends what a move sends, but as of one moment and with nobody's answer, and
//! the machine stays.
//!
//! Machines kept in a directory are in [`snapshot`], and the list of what goes on under a manager's id in [`jobs`].
//!
//! Invariants:
//! * the same machine never runs twice: before COMMIT it is this one's, after it only an explicit `cont` lets it run here;
//! * what fails before COMMIT leaves the source as it was, with whatever was asked of it meanwhile;
//! * what is refused has opened, changed and told nothing;
//! * the destination's machine is touched only when everything is there, but for memory that follows, and was checked;
//! * nothing that the other side does or leaves undone hangs: every wait ends with a cancel; in postcopy, with the end of the
//!   process or a new connection, and it holds up nobody else.

#![forbid(unsafe_code)]

mod address;
mod arrivals;
mod background;
mod behind;
mod brake;
mod capabilities;
mod channel;
mod form;
mod incoming;
pub mod jobs;
mod multifd;
mod objects;
mod open;
mod outgoing;
mod pace;
mod parameters;
mod peer;
mod postcopy;
mod rounds;
pub mod snapshot;
mod statistics;
mod tls;

pub use address::{Address, AddressError};
pub use capabilities::{Capabilities, Capability, CapabilityError};
pub use channel::{Channel, Cutter};
pub use objects::{MOST_OBJECTS, MakeError, Object, ObjectError, ObjectOptions, Objects};
pub use open::{Lent, Listening, OpenError, Opened};
pub use parameters::{Change, Compression, Number, ParameterError, Parameters, Text};
pub use statistics::{Direction, Progress, RamReport, Report};
pub use tls::{CredentialOptions, Credentials, CredentialsError, Endpoint, Failure as TlsFailure, TlsError};

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use engine::{By, Engine, Job, ManageError};
use postcopy::{Line, Offer, Place};
use runstate::{ManagementRequest, MigrationStatus, Refusal};

/// Why something asked of migrations is refused. The texts are QEMU's where it has them; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The machine refuses, cannot, or is gone.
    #[error(transparent)]
    Manage(#[from] ManageError),
    /// The place cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Capabilities that cannot be.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// A parameter that cannot be.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// A background snapshot beside one that is still being written.
    #[error("a snapshot of the machine is still being written")]
    Saving,
    /// `migrate-continue` at another time.
    #[error("Migration not in expected state: {}", .0.map_or("none", MigrationStatus::as_str))]
    NotExpected(Option<MigrationStatus>),
    /// `migrate-start-postcopy` of what cannot go that way.
    #[error("Enable postcopy with migrate_set_capability before the start of migration")]
    NoPostcopy,
    /// `migrate-start-postcopy` of nothing.
    #[error("Postcopy must be started after migration has been started")]
    NothingToPostcopy,
    /// `migrate-pause` at another time.
    #[error("migrate-pause is currently only supported during postcopy-active or postcopy-recover state")]
    NothingToPause,
    /// `migrate-recover` at another time.
    #[error("Migrate recover can only be run when postcopy is paused.")]
    NothingToRecover,
    /// `migrate` with `resume` at another time.
    #[error("Cannot resume if there is no paused migration")]
    NothingToResume,
    /// It is to go by TLS, and cannot.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// `mapped-ram` to where no page has a place.
    #[error("Migration requires seekable transport (e.g. file)")]
    NotSeekable,
    /// Several connections to where there is one.
    #[error("Migration requires multi-channel URIs (e.g. tcp)")]
    OneChannel,
    /// The host has no descriptor for it.
    #[error("the host refuses a descriptor")]
    NoDescriptor,
}

impl From<Refusal> for MigrationError {
    fn from(refusal: Refusal) -> Self {
        Self::Manage(refusal.into())
    }
}

/// The migrations of a machine: settings, and the one under way or the last one. Clones are the same.
#[derive(Clone)]
pub struct Migrations {
    shared: Arc<Shared>,
}

impl fmt::Debug for Migrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migrations").field("settings", &*self.shared.settings()).finish_non_exhaustive()
    }
}

struct Shared {
    engine: Engine,
    objects: Objects,
    settings: Mutex<Settings>,
    /// The last one that began.
    last: Mutex<Option<Underway>>,
}

/// What is set by capabilities and parameters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) capabilities: Capabilities,
    pub(crate) parameters: Parameters,
}

/// A migration that has begun.
#[derive(Clone, Debug)]
struct Underway {
    progress: Arc<Progress>,
    cutter: Cutter,
    gate: Arc<outgoing::Gate>,
    line: Arc<Line>,
}

impl Shared {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, Option<Underway>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Migrations {
    /// The migrations of the machine that `engine` runs: none yet.
    pub fn new(engine: Engine) -> Self {
        let objects = Objects::default();
        Self {
            shared: Arc::new(Shared { engine, objects, settings: Mutex::default(), last: Mutex::default() }),
        }
    }

    /// The objects that parameters name.
    pub fn objects(&self) -> &Objects {
        &self.shared.objects
    }

    /// What is on.
    pub fn capabilities(&self) -> Capabilities {
        self.shared.settings().capabilities
    }

    /// Whether clients are told of migrations by events.
    pub fn tell_events(&self) -> bool {
        self.capabilities().has(Capability::Events)
    }

    /// Switches capabilities, all of these or none.
    pub fn set_capabilities(&self, changes: &[(Capability, bool)]) -> Result<(), MigrationError> {
        use runstate::Job::{Background, Outgoing};
        if let Some(Outgoing { .. } | Background { .. }) = self.shared.engine.status().job {
            return Err(Refusal::MigrationInProgress.into());
        }
        let mut settings = self.shared.settings();
        settings.capabilities = settings.capabilities.with(changes)?;
        Ok(())
    }

    /// The settings.
    pub fn parameters(&self) -> Parameters {
        self.shared.settings().parameters.clone()
    }

    /// Changes settings, all of these or none; what is under way goes by the new ones.
    pub fn set_parameters(&self, change: &Change) -> Result<(), MigrationError> {
        let mut settings = self.shared.settings();
        settings.parameters = settings.parameters.with(change)?;
        Ok(())
    }

    /// How the migration under way goes, or how the last one went. None: there was none.
    pub fn report(&self) -> Option<Report> {
        let last = self.shared.last().clone();
        last.map(|last| last.progress.report(Instant::now()))
    }

    /// Begins to send the machine to `address`. A connection that fails is told by the migration's status.
    pub fn migrate(&self, by: By, address: &Address, lent: &Lent<'_>) -> Result<Job, MigrationError> {
        outgoing::may_begin(&self.shared.engine.status())?;
        self.check_channels(address)?;
        let is_saved = self.shared.engine.ram().is_some_and(|ram| ram.is_being_saved());
        if is_saved && self.capabilities().has(Capability::BackgroundSnapshot) {
            return Err(MigrationError::Saving);
        }
        let tls = tls::Client::of(&self.shared.settings(), &self.shared.objects, address)?;
        let cutter = Cutter::new().map_err(|_| MigrationError::NoDescriptor)?;
        let target = open::Target::prepare(address, lent, &cutter)?.sealed(tls);
        let progress = Arc::new(Progress::new(Direction::Outgoing, None, Instant::now()));
        let underway = Underway { progress, cutter, gate: Arc::default(), line: Arc::default() };
        let engine = &self.shared.engine;
        let (request, make): (_, fn(&_, &_, _) -> _) =
            match self.capabilities().has(Capability::BackgroundSnapshot) {
                true => (ManagementRequest::BackgroundStart, background::work),
                false => (ManagementRequest::MigrateStart, outgoing::work),
            };
        self.begin(underway, |this, underway| engine.begin(by, request, make(this, underway, target)))
    }

    /// Begins to take in a machine from `address`. `exit`: if that fails the process ends.
    pub fn take_in(
        &self,
        by: By,
        address: &Address,
        lent: &Lent<'_>,
        exit: bool,
    ) -> Result<Job, MigrationError> {
        incoming::may_begin(&self.shared.engine.status())?;
        self.check_channels(address)?;
        let tls = tls::Server::of(&self.shared.settings(), &self.shared.objects, address)?;
        let cutter = Cutter::new().map_err(|_| MigrationError::NoDescriptor)?;
        let source = open::Source::prepare(address, lent, &cutter)?.sealed(tls);
        let progress = Progress::new(Direction::Incoming, source.address().cloned(), Instant::now());
        let progress = Arc::new(progress);
        let underway = Underway { progress, cutter, gate: Arc::default(), line: Arc::default() };
        let engine = &self.shared.engine;
        self.begin(underway, |this, underway| {
            let work = incoming::work(this, underway, source, exit);
            engine.begin(by, ManagementRequest::MigrateIncoming, work)
        })
    }

    /// `mapped-ram` needs a file, and `multifd` connects more than once. In a file in which each page has its place it
    /// changes nothing. Whether a descriptor is of a file is seen when it is used.
    fn check_channels(&self, address: &Address) -> Result<(), MigrationError> {
        let capabilities = self.capabilities();
        let seekable = matches!(address, Address::File { .. } | Address::Fd(_));
        if capabilities.has(Capability::MappedRam) && !seekable {
            return Err(MigrationError::NotSeekable);
        }
        let goes = match address {
            Address::Unix(_) | Address::Tcp { .. } => true,
            Address::File { .. } | Address::Fd(_) => capabilities.has(Capability::MappedRam),
            Address::Exec(_) => false,
        };
        if goes || !capabilities.has(Capability::Multifd) { Ok(()) } else { Err(MigrationError::OneChannel) }
    }

    /// Begins a job. It is what [`Self::report`] tells of from its first event on; refused, what was told before stays.
    fn begin(
        &self,
        underway: Underway,
        begin: impl FnOnce(&Arc<Shared>, &Underway) -> Result<Job, ManageError>,
    ) -> Result<Job, MigrationError> {
        let before = self.shared.last().replace(underway.clone());
        begin(&self.shared, &underway).map_err(|error| {
            let mut last = self.shared.last();
            // Another one may have begun meanwhile.
            if last.as_ref().is_some_and(|last| Arc::ptr_eq(&last.progress, &underway.progress)) {
                *last = before;
            }
            error.into()
        })
    }

    /// Cancels what goes out, if anything does; returns when that is told.
    pub fn cancel(&self, by: By) -> Result<(), MigrationError> {
        Ok(self.shared.engine.manage_by(by, ManagementRequest::MigrateCancel)?)
    }

    /// `migrate-continue`: goes on from `state`, which has to be where the migration waits.
    pub fn go_on(&self, state: Option<MigrationStatus>) -> Result<(), MigrationError> {
        let now = self.shared.engine.status().migration;
        if state != Some(MigrationStatus::PreSwitchover) || now != state {
            return Err(MigrationError::NotExpected(now));
        }
        if let Some(last) = &*self.shared.last() {
            last.gate.open();
        }
        Ok(())
    }

    /// `migrate-start-postcopy`: the guest is to run over there as soon as it can, its memory following.
    pub fn start_postcopy(&self) -> Result<(), MigrationError> {
        if !self.capabilities().has(Capability::PostcopyRam) {
            return Err(MigrationError::NoPostcopy);
        }
        let last = self.shared.last();
        let outgoing = last.as_ref().filter(|last| last.progress.direction() == Direction::Outgoing);
        outgoing.ok_or(MigrationError::NothingToPostcopy)?.line.want();
        Ok(())
    }

    /// `migrate-pause`: cuts the connection of a migration in postcopy.
    pub fn pause(&self) -> Result<(), MigrationError> {
        use MigrationStatus::{PostcopyActive, PostcopyRecover, PostcopyRecoverSetup};
        let now = self.shared.engine.status().migration;
        match &*self.shared.last() {
            Some(last) if matches!(now, Some(PostcopyActive | PostcopyRecover | PostcopyRecoverSetup)) => {
                last.line.pause();
                Ok(())
            }
            _ => Err(MigrationError::NothingToPause),
        }
    }

    /// The migration that is paused in postcopy, if it goes this way.
    fn paused(&self, direction: Direction) -> Option<Arc<Line>> {
        let paused = self.shared.engine.status().migration == Some(MigrationStatus::PostcopyPaused);
        let last = self.shared.last().clone();
        last.filter(|last| paused && last.progress.direction() == direction).map(|last| last.line)
    }

    /// `migrate` with `resume`: a postcopy whose connection was lost goes on by way of `address`.
    pub fn resume(&self, address: &Address, lent: &Lent<'_>) -> Result<(), MigrationError> {
        let line = self.paused(Direction::Outgoing).ok_or(MigrationError::NothingToResume)?;
        let tls = tls::Client::of(&self.shared.settings(), &self.shared.objects, address)?;
        let cutter = Cutter::new().map_err(|_| MigrationError::NoDescriptor)?;
        let target = open::Target::prepare(address, lent, &cutter)?.sealed(tls);
        line.offer(Offer { place: Place::To(target), cutter });
        Ok(())
    }

    /// `migrate-recover`: the destination of a postcopy whose connection was lost waits for a new one at `address`.
    pub fn recover(&self, address: &Address, lent: &Lent<'_>) -> Result<(), MigrationError> {
        let line = self.paused(Direction::Incoming).ok_or(MigrationError::NothingToRecover)?;
        let tls = tls::Server::of(&self.shared.settings(), &self.shared.objects, address)?;
        let cutter = Cutter::new().map_err(|_| MigrationError::NoDescriptor)?;
        // It may be the same place as before.
        line.withdraw();
        let source = open::Source::prepare(address, lent, &cutter)?.sealed(tls);
        line.offer(Offer { place: Place::From(source), cutter });
        Ok(())
    }
}
