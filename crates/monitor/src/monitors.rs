//! All monitors of a machine: their threads, and the orderly end.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use backends::Backend;
use backends::stream::{Connection, StreamSource};
use migration::Migrations;
use qmp::{CommandSet, Event};

use crate::access::{AllowList, MonitorOptions};
use crate::client::Client;
use crate::commands::{self, Env, Looks, Qmp};
use crate::context::{Config, Context};
use crate::control;
use crate::events;
use crate::hmp::{self, Focus, Terminal};
use crate::outbox::Outbox;

/// The monitors of a machine. Clones are the same monitors.
#[derive(Clone)]
pub struct Monitors {
    shared: Arc<Shared>,
}

/// Tells the clients of a machine's monitors of what is not part of its life. Cheap to clone; does not keep the monitors.
#[derive(Clone)]
pub struct Announcer {
    shared: Weak<Shared>,
}

impl fmt::Debug for Announcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcer").finish_non_exhaustive()
    }
}

impl Announcer {
    /// The guest has opened or closed the port that is called `id`. Never blocks.
    pub fn port_changed(&self, id: &str, open: bool) {
        let Some(shared) = self.shared.upgrade() else { return };
        shared.announce(&events::port_changed(id, open));
    }
}

impl Shared {
    fn announce(&self, event: &Event) {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for client in &self.lock().clients {
            client.announce(event.clone(), events::stamp_of(at));
        }
    }
}

/// What a client speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Qmp,
    Human,
}

/// Monitors that a program may have.
pub const MOST_MONITORS: usize = 64;

/// Why there is no further monitor.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// There are [`MOST_MONITORS`].
    #[error("there cannot be more than {MOST_MONITORS} monitors")]
    TooMany,
    /// The host has no thread for it.
    #[error("cannot start a monitor: {0}")]
    Thread(#[from] io::Error),
}

struct Shared {
    context: Arc<Context>,
    /// For names of threads.
    next: AtomicUsize,
    live: Mutex<Live>,
    /// A client's connection has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Live {
    sources: Vec<Arc<StreamSource>>,
    clients: Vec<Arc<Outbox>>,
    /// Set for good by [`Monitors::shutdown`].
    over: bool,
}

impl fmt::Debug for Monitors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitors").field("clients", &self.shared.lock().clients.len()).finish_non_exhaustive()
    }
}

impl Monitors {
    /// No monitor yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let context = Context::new(config);
        let next = AtomicUsize::new(0);
        let shared = Arc::new(Shared { context, next, live: Mutex::default(), ended: Condvar::new() });
        let told = Arc::downgrade(&shared);
        shared.context.config.snapshots.jobs().follow(Box::new(move |id, status| {
            if let Some(shared) = told.upgrade() {
                shared.announce(&events::job_changed(id, status.into()));
            }
        }));
        Self { shared }
    }

    /// The machine's migrations, which all its monitors steer.
    #[must_use]
    pub fn migrations(&self) -> Migrations {
        self.shared.context.migrations.clone()
    }

    /// For those who have something to tell all clients.
    #[must_use]
    pub fn announcer(&self) -> Announcer {
        Announcer { shared: Arc::downgrade(&self.shared) }
    }

    /// Serves the clients of `source` with QMP, one after the other, on a thread of its own.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn add_qmp(&self, source: StreamSource, options: MonitorOptions) -> Result<(), AddError> {
        self.add(source, Language::Qmp, options)
    }

    /// Serves the clients of `source` with the human monitor, one after the other, on a thread of its own.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn add_human(&self, source: StreamSource, options: MonitorOptions) -> Result<(), AddError> {
        self.add(source, Language::Human, options)
    }

    /// Serves the human monitor on a multiplexer's port. It is silent until it has the focus for the first time.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn add_human_port(&self, port: Arc<dyn Backend>, options: MonitorOptions) -> Result<(), AddError> {
        let name = self.shared.begin("human")?;
        let focus = Arc::new(Focus::default());
        let told = Arc::clone(&focus);
        let connection = Connection::on_backend(port, Some(Box::new(move |here| told.changed(here))));
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().name(name.clone()).spawn(move || {
            let outbox = Outbox::new(connection.clone());
            let access = shared.access(&options, &name);
            shared.guarded(&outbox, || {
                Terminal::serve(&shared.context, access.client(), &outbox, &connection, &name, Some(&focus))
            });
        })?;
        Ok(())
    }

    /// Runs a line of the human monitor, for somebody who has no connection of his own, and gives what it prints.
    #[must_use]
    pub fn run_line(&self, line: &str) -> String {
        let context = &self.shared.context;
        let status = context.engine().status();
        let client = Client::new(Arc::clone(&context.commands), None, "gdb".into());
        hmp::run_line(
            &Env { context, status: &status, client: &client, looks: &Looks::default() },
            0,
            &[],
            line,
        )
    }

    /// Ends all monitors: no further client and no further command; commands under way are answered; what waits is sent, at
    /// most until `timeout` is over; then every connection is closed. For the end of the program, after
    /// [`engine::Engine::wait`]: the reply of `quit` goes out here at the latest.
    pub fn shutdown(&self, timeout: Duration) {
        let deadline = Instant::now().checked_add(timeout).unwrap_or_else(Instant::now);
        let (sources, clients) = {
            let mut live = self.shared.lock();
            live.over = true;
            (std::mem::take(&mut live.sources), live.clients.clone())
        };
        sources.iter().for_each(|source| source.close());
        clients.iter().for_each(|client| client.stop_reading());
        clients.iter().for_each(|client| client.finish(deadline));
        let mut live = self.shared.lock();
        while !live.clients.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            live = self.shared.ended.wait_timeout(live, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn add(&self, source: StreamSource, language: Language, options: MonitorOptions) -> Result<(), AddError> {
        let shared = Arc::clone(&self.shared);
        let name = shared.begin(match language {
            Language::Qmp => "qmp",
            Language::Human => "human",
        })?;
        let source = Arc::new(source);
        shared.lock().sources.push(Arc::clone(&source));
        if source.is_socket() {
            shared.context.lines.add(&options.label);
        }
        thread::Builder::new()
            .name(name.clone())
            .spawn(move || shared.serve_all(&source, language, &options, &name))?;
        Ok(())
    }
}

/// What the clients of a monitor may use.
struct Access {
    commands: Arc<CommandSet<&'static Qmp>>,
    allow: Option<Arc<AllowList>>,
    /// What records call them.
    name: Arc<str>,
}

impl Access {
    /// For a new connection.
    fn client(&self) -> Client {
        Client::new(Arc::clone(&self.commands), self.allow.clone(), Arc::clone(&self.name))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a monitor more and gives it a name.
    fn begin(&self, what: &str) -> Result<String, AddError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number < MOST_MONITORS { Ok(format!("{what}{number}")) } else { Err(AddError::TooMany) }
    }

    fn access(&self, options: &MonitorOptions, name: &str) -> Access {
        let name = if options.label.is_empty() { name } else { &options.label };
        let all = &self.context.commands;
        let commands = match &options.allow {
            None => Arc::clone(all),
            Some(allow) => Arc::new(all.restricted(|name| allow.allows(name))),
        };
        if let Some(allow) = &options.allow {
            for entry in allow.without_effect(commands::names()) {
                tracing::warn!(monitor = name, entry, "x-allow: there is no such command");
            }
        }
        Access { commands, allow: options.allow.clone().map(Arc::new), name: name.into() }
    }

    /// A monitor's thread: one client after the other.
    fn serve_all(&self, source: &StreamSource, language: Language, options: &MonitorOptions, name: &str) {
        let access = self.access(options, name);
        loop {
            let connection = match source.accept() {
                Ok(Some(connection)) => connection,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, monitor = source.name(), "a monitor takes no further clients");
                    return;
                }
            };
            if !options.admits(&connection) {
                connection.shutdown();
                continue;
            }
            let outbox = match language {
                Language::Qmp if options.pretty => Outbox::indented(connection.clone()),
                _ => Outbox::new(connection.clone()),
            };
            self.context.lines.set_client(&options.label, Some(&outbox));
            let client = access.client();
            self.guarded(&outbox, || match language {
                Language::Qmp => control::serve(&self.context, client, &connection, &outbox, name),
                Language::Human => Terminal::serve(&self.context, client, &outbox, &connection, name, None),
            });
            self.context.lines.set_client(&options.label, None);
        }
    }

    /// Serves one client, known to [`Monitors::shutdown`] meanwhile; what goes wrong with it ends its connection alone.
    fn guarded(&self, outbox: &Arc<Outbox>, serve: impl FnOnce() -> io::Result<()>) {
        {
            let mut live = self.lock();
            if live.over {
                return outbox.close();
            }
            live.clients.push(Arc::clone(outbox));
        }
        match catch_unwind(AssertUnwindSafe(serve)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a monitor's client cannot be served"),
            // The panic hook has said what happened.
            Err(_panic) => tracing::error!("a monitor's connection is closed after a fault of the program"),
        }
        outbox.close();
        self.lock().clients.retain(|other| !Arc::ptr_eq(other, outbox));
        self.ended.notify_all();
    }
}
