//! One port: its state towards the guest, and the line to its back end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::QUEUE;
use super::buffers;
use super::control::{Message, event};
use crate::lock;
use crate::virtio::{Bell, Broken, Transport};

/// Bytes of input that are read ahead of the guest.
const READ_AHEAD: usize = 4096;

/// The host's end of a port.
pub trait PortBackend: Send + Sync {
    /// Takes output; gives how many bytes were taken, from the front. Never blocks. When it was not all,
    /// [`PortLine::writable`] must follow once there is room.
    fn try_write(&self, bytes: &[u8]) -> usize;

    /// [`PortLine::can_receive`] may have risen. Never blocks, and costs next to nothing when no input waits.
    fn resume_input(&self);
}

/// Somebody who is told when the guest opens or closes a port.
pub trait PortWatcher: Send + Sync {
    /// Called with locks held: never blocks, and calls no device.
    fn guest_open(&self, open: bool);
}

/// What a port is.
pub struct PortConfig {
    /// Its number.
    pub nr: u32,
    /// Its name, for the guest.
    pub name: Option<String>,
    /// Whether the guest is to use it as a terminal.
    pub console: bool,
    /// The host's end.
    pub backend: Arc<dyn PortBackend>,
    /// Who wants to know.
    pub watcher: Option<Arc<dyn PortWatcher>>,
}

/// What the guest can see of a port, and what it has not been told yet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// The guest has it open.
    guest_open: bool,
    /// The driver can use it.
    ready: bool,
    /// The driver has been told that the host has it open.
    told_open: bool,
    /// To be said: that it exists, that it is a console, its name.
    say_add: bool,
    say_console: bool,
    say_name: bool,
    /// Bytes of the output chain in front that the back end has taken already.
    sent: u32,
}

/// The back end's way to a port. Its calls take the lock of the device's slot.
#[derive(Default)]
pub struct PortLine {
    inner: Mutex<LineState>,
}

#[derive(Default)]
struct LineState {
    bell: Bell,
    input: VecDeque<u8>,
    open: bool,
}

impl PortLine {
    /// How many bytes can be taken now.
    pub fn can_receive(&self) -> usize {
        READ_AHEAD.saturating_sub(lock(&self.inner).input.len())
    }

    /// Takes input, no more than [`PortLine::can_receive`] said; more than that is dropped.
    pub fn receive(&self, bytes: &[u8]) {
        let mut inner = lock(&self.inner);
        let room = READ_AHEAD.saturating_sub(inner.input.len());
        inner.input.extend(bytes.iter().take(room));
        Self::ring(inner);
    }

    /// A client has come to the back end (true), or has gone.
    pub fn set_open(&self, open: bool) {
        let mut inner = lock(&self.inner);
        inner.open = open;
        Self::ring(inner);
    }

    /// The back end has room for output again.
    pub fn writable(&self) {
        Self::ring(lock(&self.inner));
    }

    /// Rings with the lock given back: the device takes its own first.
    fn ring(inner: std::sync::MutexGuard<'_, LineState>) {
        let bell = inner.bell.clone();
        drop(inner);
        bell.ring();
    }
}

/// A port as its device has it.
pub(super) struct Port {
    pub(super) nr: u32,
    name: Option<String>,
    console: bool,
    backend: Arc<dyn PortBackend>,
    watcher: Option<Arc<dyn PortWatcher>>,
    line: Arc<PortLine>,
    state: State,
}

impl Port {
    pub(super) fn new(config: PortConfig) -> Self {
        let PortConfig { nr, name, console, backend, watcher } = config;
        Self { nr, name, console, backend, watcher, line: Arc::default(), state: State::default() }
    }

    pub(super) fn line(&self) -> Arc<PortLine> {
        Arc::clone(&self.line)
    }

    pub(super) fn connect(&self, bell: Bell) {
        lock(&self.line.inner).bell = bell;
    }

    /// The port as the guest knows it.
    pub(super) fn describe(&self) -> String {
        let kind = if self.console { "console" } else { "port" };
        match &self.name {
            Some(name) => format!("{kind} {} '{name}'", self.nr),
            None => format!("{kind} {}", self.nr),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whoever watches learns whether the guest that has come has it open.
    pub(super) fn load(&mut self, state: State) {
        self.guest_open(state.guest_open);
        self.state = state;
    }

    pub(super) fn reset(&mut self) {
        self.guest_open(false);
        self.state = State::default();
    }

    /// The driver asks what ports there are.
    pub(super) fn announce(&mut self, there: bool) {
        self.state.say_add = there;
    }

    /// The driver can use the port: it wants to know all about it, perhaps again after a sleep.
    pub(super) fn driver_ready(&mut self, ready: bool) {
        self.state.ready = ready;
        self.state.told_open = false;
        self.state.say_console = ready && self.console;
        self.state.say_name = ready && self.name.is_some();
    }

    /// The guest opens or closes the port.
    pub(super) fn guest_open(&mut self, open: bool) {
        if std::mem::replace(&mut self.state.guest_open, open) != open
            && let Some(watcher) = &self.watcher
        {
            watcher.guest_open(open);
        }
    }

    /// Says what is to be said, as far as the driver has buffers for it.
    pub(super) fn speak(&mut self, transport: &mut Transport<'_>, queue: usize) -> Result<(), Broken> {
        let host_open = lock(&self.line.inner).open;
        let name = self.name.as_deref().unwrap_or_default();
        let state = &mut self.state;
        let mut say = |event, value, name| -> Result<bool, Broken> {
            let Some(chain) = transport.pop(queue)? else { return Ok(false) };
            let head = chain.head_index();
            let written = Message { port: self.nr, event, value }.write(transport.memory(), chain, name);
            transport.add_used(queue, head, written as u32)?;
            Ok(true)
        };
        if state.say_add {
            state.say_add = !say(event::PORT_ADD, 1, "")?;
        }
        if state.say_console {
            state.say_console = !say(event::CONSOLE_PORT, 1, "")?;
        }
        if state.say_name {
            state.say_name = !say(event::PORT_NAME, 1, name)?;
        }
        let told_all = !state.say_console && !state.say_name;
        if state.ready
            && told_all
            && state.told_open != host_open
            && say(event::PORT_OPEN, host_open.into(), "")?
        {
            state.told_open = host_open;
        }
        Ok(())
    }

    /// Queue towards the driver; the one from it follows. The control queues come behind those of port 0.
    fn queue(&self) -> usize {
        if self.nr == 0 { 0 } else { 2 * (self.nr as usize + 1) }
    }

    /// Gives the guest what waits for it. `always`: whether it has the port open or not.
    pub(super) fn input(&mut self, transport: &mut Transport<'_>, always: bool) -> Result<(), Broken> {
        if !always && !self.state.guest_open {
            return Ok(());
        }
        let mut moved = false;
        for _ in 0..QUEUE {
            let mut line = lock(&self.line.inner);
            if line.input.is_empty() {
                break;
            }
            let Some(chain) = transport.pop(self.queue())? else { break };
            let head = chain.head_index();
            let written = buffers::write(transport.memory(), chain, |room| {
                let count = room.len().min(line.input.len());
                for (to, from) in room.iter_mut().zip(line.input.drain(..count)) {
                    *to = from;
                }
                count
            });
            transport.add_used(self.queue(), head, written as u32)?;
            moved |= written > 0;
        }
        if moved {
            self.backend.resume_input();
        }
        Ok(())
    }

    /// Gives the back end what the guest has written, as far as it takes it.
    pub(super) fn output(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken> {
        let queue = self.queue() + 1;
        for _ in 0..QUEUE {
            let Some(chain) = transport.pop(queue)? else { break };
            let head = chain.head_index();
            let skip = self.state.sent as usize;
            let left = buffers::read(transport.memory(), chain, skip, |bytes| self.backend.try_write(bytes));
            if let Some(sent) = left {
                self.state.sent = sent as u32;
                transport.unpop(queue);
                break;
            }
            self.state.sent = 0;
            transport.add_used(queue, head, 0)?;
        }
        Ok(())
    }
}
