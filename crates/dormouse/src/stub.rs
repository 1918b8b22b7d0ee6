//! The gdb stub's place: `-gdb`, `-s`, and the human monitor's `gdbserver`.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backends::stream::StreamSource;
use backends::{CharKind, CharSpec, FdSets, OpenError};
use engine::Engine;
use monitor::Monitors;

use crate::cli::{self, Options};

/// The stub cannot be started.
#[derive(Debug, thiserror::Error)]
enum StubError {
    /// Where it shall listen.
    #[error(transparent)]
    Place(#[from] OpenError),
    /// The host has no thread for it.
    #[error(transparent)]
    Server(#[from] gdb::OpenError),
}

/// The stub of the program's one machine.
pub(crate) struct Stub {
    server: gdb::Server,
    chardevs: Vec<(String, CharSpec)>,
    monitors: Arc<OnceLock<Monitors>>,
}

impl Stub {
    /// A stub that does not listen yet.
    pub(crate) fn new(engine: Engine, options: &Options) -> Arc<Self> {
        let monitors: Arc<OnceLock<Monitors>> = Arc::default();
        let line = {
            let monitors = Arc::clone(&monitors);
            Arc::new(move |line: &str| {
                monitors.get().map_or_else(String::new, |monitors| monitors.run_line(line))
            })
        };
        let chardevs = options.chardevs.clone();
        Arc::new(Self { server: gdb::Server::new(engine, line), chardevs, monitors })
    }

    /// Who runs gdb's `monitor` lines.
    pub(crate) fn connect(&self, monitors: Monitors) {
        // Set once: there is one set of monitors.
        let _ = self.monitors.set(monitors);
    }

    /// Listens where the options say.
    pub(crate) fn start(&self, options: &Options) -> Result<(), Box<dyn Error>> {
        if let Some(spec) = &options.gdb {
            self.open(spec).map_err(|error| format!("-gdb: {error}"))?;
        }
        Ok(())
    }

    /// What `gdbserver` does.
    pub(crate) fn command(&self, device: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        match cli::gdb_place(device)? {
            Some(spec) => self.open(&spec)?,
            None => self.server.close(),
        }
        Ok(())
    }

    fn open(&self, spec: &CharSpec) -> Result<(), StubError> {
        let spec = match &spec.kind {
            CharKind::Ref(id) => match self.chardevs.iter().find(|(other, _)| other == id) {
                Some((_, spec)) => spec,
                None => return Err(OpenError::UnresolvedReference(id.clone()).into()),
            },
            _ => spec,
        };
        // The place may be the one where it listens now.
        self.server.close();
        let source = StreamSource::open(spec, "gdb", &FdSets::default(), &mut |notice| crate::say(notice))?;
        Ok(self.server.open(source)?)
    }

    /// The machine has ended: a gdb that waits is told.
    pub(crate) fn end(&self, status: i32, patience: Duration) {
        self.server.end(status, patience);
    }
}
