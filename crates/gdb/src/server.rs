//! Where clients come from: one connection after another, on a thread of its own.

use std::io::{self, Read as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use backends::stream::{Connection, StreamSource};
use engine::{Engine, Subscriber};

use crate::inbox::Inbox;
use crate::session::Session;

/// Runs a line of the human monitor (gdb's `monitor CMD`) and gives what it prints. Called on the session's thread.
pub type MonitorLine = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// The stub cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("the host refuses a thread for gdb")]
pub struct OpenError(#[from] io::Error);

/// The stub of a machine: not listening, or listening in one place.
pub struct Server {
    engine: Engine,
    monitor: MonitorLine,
    place: Mutex<Option<Arc<Place>>>,
}

/// Where the stub listens, and whom it serves there.
struct Place {
    source: StreamSource,
    state: Mutex<PlaceState>,
    changed: Condvar,
}

#[derive(Default)]
struct PlaceState {
    client: Option<(Connection, Arc<Inbox>)>,
    closed: bool,
    /// The thread is done.
    over: bool,
}

impl Server {
    /// A stub that does not listen yet.
    pub fn new(engine: Engine, monitor: MonitorLine) -> Self {
        Self { engine, monitor, place: Mutex::new(None) }
    }

    /// Serves the clients of `source`, and no others: a place where it listened before is closed, with its client.
    ///
    /// # Errors
    /// The host has no thread to give; then it listens nowhere.
    pub fn open(&self, source: StreamSource) -> Result<(), OpenError> {
        let mut current = lock(&self.place);
        if let Some(place) = current.take() {
            place.close();
        }
        let place = Arc::new(Place { source, state: Mutex::default(), changed: Condvar::new() });
        let (engine, monitor, served) = (self.engine.clone(), Arc::clone(&self.monitor), Arc::clone(&place));
        thread::Builder::new().name("gdb".to_owned()).spawn(move || served.serve(&engine, &monitor))?;
        *current = Some(place);
        Ok(())
    }

    /// Listens no longer; a client that is there is cut off. Does not wait for it, which may be the one that asks.
    pub fn close(&self) {
        if let Some(place) = lock(&self.place).take() {
            place.close();
        }
    }

    /// The machine has ended with this status: a client that waits is told. Waits for that, at most `patience`.
    pub fn end(&self, status: i32, patience: Duration) {
        let Some(place) = lock(&self.place).take() else { return };
        place.source.close();
        let mut state = lock(&place.state);
        state.closed = true;
        if let Some((_, inbox)) = &state.client {
            inbox.end(status);
        }
        let until = Instant::now() + patience;
        while !state.over {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = place.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
        }
        if let Some((connection, _)) = &state.client {
            connection.shutdown();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

impl Place {
    fn close(&self) {
        self.source.close();
        let mut state = lock(&self.state);
        state.closed = true;
        if let Some((connection, inbox)) = &state.client {
            inbox.close();
            connection.shutdown();
        }
    }

    fn serve(&self, engine: &Engine, monitor: &MonitorLine) {
        loop {
            let connection = match self.source.accept() {
                Ok(Some(connection)) => connection,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the gdb stub listens no longer");
                    break;
                }
            };
            let inbox = Inbox::new();
            {
                let mut state = lock(&self.state);
                if state.closed {
                    break;
                }
                state.client = Some((connection.clone(), Arc::clone(&inbox)));
            }
            if let Err(error) = with_inbox(engine, &connection, monitor, &inbox) {
                tracing::debug!(%error, "a gdb client's connection broke");
            }
            lock(&self.state).client = None;
        }
        lock(&self.state).over = true;
        self.changed.notify_all();
    }
}

/// Serves one client until it goes, and leaves the machine as a lost connection or a detach does.
///
/// # Errors
/// The connection broke while something was said to it.
pub fn serve(engine: &Engine, connection: &Connection, monitor: &MonitorLine) -> io::Result<()> {
    with_inbox(engine, connection, monitor, &Inbox::new())
}

fn with_inbox(
    engine: &Engine,
    connection: &Connection,
    monitor: &MonitorLine,
    inbox: &Arc<Inbox>,
) -> io::Result<()> {
    let Some((debugger, interrupted)) = engine.debug() else {
        // Somebody who has left another place is still on his way out, or the machine has ended.
        connection.shutdown();
        return Ok(());
    };
    if let Err(refusal) = interrupted {
        tracing::info!(%refusal, "gdb has not stopped the machine");
    }
    let subscription = engine.subscribe(Arc::clone(inbox) as Arc<dyn Subscriber>);
    let result = thread::scope(|scope| {
        thread::Builder::new()
            .name("gdb/in".to_owned())
            .spawn_scoped(scope, || read_into(connection, inbox))?;
        let result = Session::new(engine, debugger, inbox, connection, monitor).run();
        inbox.close();
        connection.shutdown();
        result
    });
    engine.unsubscribe(subscription);
    result
}

/// The reader's thread.
fn read_into(connection: &Connection, inbox: &Inbox) {
    let mut buffer = [0; 4096];
    let mut input = connection;
    loop {
        match input.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                if !buffer.get(..count).is_some_and(|bytes| inbox.add(bytes)) {
                    break;
                }
            }
        }
    }
    inbox.close();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
