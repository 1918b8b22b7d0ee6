//! Several frontends on one backend: the serial line and the human monitor on one terminal.
//!
//! What is typed goes to the port that has the focus; everybody's output goes out. The escape key is C-a:
//!
//! | keys | do |
//! |---|---|
//! | C-a c | the focus goes to the next port |
//! | C-a x | ends the program |
//! | C-a b | a BREAK for the port in focus |
//! | C-a h, C-a ? | a help text |
//! | C-a C-a | a C-a for the port in focus |
//!
//! Each port has a bounded buffer in front of it, so that the escape keys work while the guest takes no input: held machines
//! can be left and quit. Lock order: a port's gate, then the device's lock, then the shared state.

use crate::chardev::CharDev;
use crate::frontend::{Backend, CharEvent, Frontend};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How much typed input may wait for one port.
const CAPACITY: usize = 64 * 1024;
/// How much is handed to a port at once.
const CHUNK: usize = 256;
const ESCAPE: u8 = 0x01;

const HELP: &[u8] = b"\r\n\
C-a h   show this help\r\n\
C-a x   end the machine and leave\r\n\
C-a c   go to the next of console and monitor\r\n\
C-a b   send a BREAK\r\n\
C-a C-a send a C-a\r\n";

/// A multiplexer on a character device.
pub struct Mux {
    core: Arc<MuxCore>,
}

/// One frontend's place at a multiplexer.
pub struct MuxPort {
    core: Arc<MuxCore>,
    port: Arc<Port>,
}

pub(crate) struct MuxCore {
    device: Arc<CharDev>,
    state: Mutex<State>,
    quit: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    ports: Vec<Arc<Port>>,
    buffers: Vec<VecDeque<Input>>,
    focus: usize,
    escape: Escape,
    opened: bool,
}

struct Port {
    index: usize,
    gate: Mutex<PortGate>,
    /// Input waits for room.
    starved: AtomicBool,
}

#[derive(Default)]
struct PortGate {
    frontend: Option<Arc<dyn Frontend>>,
    paused: bool,
    /// The output queue got room while paused.
    untold: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Byte(u8),
    Break,
}

/// What a typed byte means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Input(Input),
    Next,
    Quit,
    Help,
    /// The first half of an escape, or an escape that means nothing.
    Nothing,
}

/// The state of the escape key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Escape {
    armed: bool,
}

impl Escape {
    fn key(&mut self, byte: u8) -> Key {
        if !std::mem::take(&mut self.armed) {
            self.armed = byte == ESCAPE;
            return if self.armed { Key::Nothing } else { Key::Input(Input::Byte(byte)) };
        }
        match byte {
            ESCAPE => Key::Input(Input::Byte(ESCAPE)),
            b'b' => Key::Input(Input::Break),
            b'c' => Key::Next,
            b'x' => Key::Quit,
            b'h' | b'?' => Key::Help,
            _ => Key::Nothing,
        }
    }
}

impl Mux {
    /// Puts a multiplexer on `device`; `quit` is called, on the device's thread, for C-a x, and must not block.
    #[must_use]
    pub fn new(device: Arc<CharDev>, quit: Box<dyn Fn() + Send + Sync>) -> Self {
        let core = Arc::new(MuxCore { device, state: Mutex::default(), quit });
        core.device.attach_mux(Arc::downgrade(&core));
        Self { core }
    }

    /// A place for one more frontend. The first one has the focus.
    #[must_use]
    pub fn port(&self) -> Arc<MuxPort> {
        let mut state = self.core.state();
        let port = Arc::new(Port {
            index: state.ports.len(),
            gate: Mutex::default(),
            starved: AtomicBool::new(false),
        });
        state.ports.push(Arc::clone(&port));
        state.buffers.push(VecDeque::new());
        drop(state);
        // What came before there was a port can come now.
        self.core.device.wake_reader();
        Arc::new(MuxPort { core: Arc::clone(&self.core), port })
    }

    /// The device below.
    #[must_use]
    pub fn device(&self) -> &Arc<CharDev> {
        &self.core.device
    }
}

impl std::fmt::Debug for Mux {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mux").field("device", &self.core.device).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for MuxPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MuxPort").field("index", &self.port.index).finish_non_exhaustive()
    }
}

impl Backend for MuxPort {
    fn attach(&self, frontend: Arc<dyn Frontend>) {
        let (opened, focus) = {
            let state = self.core.state();
            (state.opened, state.focus == self.port.index)
        };
        let mut gate = self.port.gate();
        if opened {
            frontend.event(CharEvent::Opened);
        }
        if focus {
            frontend.event(CharEvent::FocusIn);
        }
        gate.frontend = Some(frontend);
        drop(gate);
        self.core.device.wake_reader();
    }

    fn try_write(&self, bytes: &[u8]) -> usize {
        self.core.device.try_write(bytes)
    }

    fn poll_input(&self) {
        if self.port.starved.swap(false, Ordering::SeqCst) {
            self.core.device.wake_reader();
        }
    }

    fn pause(&self, paused: bool) {
        let mut gate = self.port.gate();
        gate.paused = paused;
        if !paused {
            if std::mem::take(&mut gate.untold) {
                gate.tell_writable();
            }
            drop(gate);
            self.poll_input();
        }
    }

    fn flush(&self, timeout: Duration) -> bool {
        self.core.device.flush(timeout)
    }
}

impl Port {
    fn gate(&self) -> MutexGuard<'_, PortGate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, event: CharEvent) {
        if let Some(frontend) = &self.gate().frontend {
            frontend.event(event);
        }
    }
}

impl PortGate {
    /// Tells every port, also one that did not wait: which of them was cut short is not kept.
    fn tell_writable(&mut self) {
        match &self.frontend {
            _ if self.paused => self.untold = true,
            Some(frontend) => frontend.writable(),
            None => {}
        }
    }
}

impl MuxCore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports(&self) -> Vec<Arc<Port>> {
        self.state().ports.clone()
    }

    /// Typed input, from the front, as far as the port in focus has room in its buffer.
    pub(crate) fn accept(&self, bytes: &[u8]) -> usize {
        for (taken, &byte) in bytes.iter().enumerate() {
            let mut state = self.state();
            let focus = state.focus;
            if state.buffers.get(focus).is_none_or(|buffer| buffer.len() >= CAPACITY) {
                // Looked at again when a port takes something.
                return taken;
            }
            let key = state.escape.key(byte);
            if let (Key::Input(input), Some(buffer)) = (key, state.buffers.get_mut(focus)) {
                buffer.push_back(input);
            }
            drop(state);
            match key {
                Key::Input(_) | Key::Nothing => {}
                Key::Next => self.next_port(),
                Key::Quit => (self.quit)(),
                Key::Help => drop(self.device.try_write(HELP)),
            }
        }
        bytes.len()
    }

    /// A BREAK for everybody: the serial port knows what to do with it, monitors do not care.
    pub(crate) fn send_break(&self) {
        for buffer in &mut self.state().buffers {
            // Several in a row are one, so that nothing grows.
            if buffer.back() != Some(&Input::Break) {
                buffer.push_back(Input::Break);
            }
        }
        self.device.wake_reader();
    }

    fn next_port(&self) {
        let mut state = self.state();
        let from = state.focus;
        let to = (from + 1) % state.ports.len().max(1);
        state.focus = to;
        let ports = (state.ports.get(from).cloned(), state.ports.get(to).cloned());
        drop(state);
        if let (Some(from), Some(to)) = ports
            && from.index != to.index
        {
            from.event(CharEvent::FocusOut);
            to.event(CharEvent::FocusIn);
        }
    }

    /// Reader thread: hands on what waits for the ports, as far as each has room.
    pub(crate) fn pump(&self) {
        for port in self.ports() {
            self.pump_port(&port);
        }
    }

    fn pump_port(&self, port: &Port) {
        loop {
            // Before looking, so that a rise of the room after the look is not missed.
            port.starved.store(true, Ordering::SeqCst);
            let gate = port.gate();
            let Some(frontend) = gate.frontend.as_ref().filter(|_| !gate.paused) else {
                return;
            };
            let mut bytes = Vec::new();
            let is_break = self.take_input(port.index, frontend.can_receive().min(CHUNK), &mut bytes);
            if !bytes.is_empty() {
                frontend.receive(&bytes);
            } else if is_break {
                frontend.event(CharEvent::Break);
            } else {
                return;
            }
        }
    }

    /// Takes bytes up to `room` and the next BREAK; if a BREAK stands first, takes it and gives true.
    fn take_input(&self, index: usize, room: usize, bytes: &mut Vec<u8>) -> bool {
        let mut state = self.state();
        let Some(buffer) = state.buffers.get_mut(index) else {
            return false;
        };
        if buffer.front() == Some(&Input::Break) {
            buffer.pop_front();
            return true;
        }
        while bytes.len() < room
            && let Some(&Input::Byte(byte)) = buffer.front()
        {
            bytes.push(byte);
            buffer.pop_front();
        }
        false
    }

    pub(crate) fn event(&self, event: CharEvent) {
        match event {
            CharEvent::Opened => self.state().opened = true,
            CharEvent::Closed => self.state().opened = false,
            _ => {}
        }
        for port in self.ports() {
            port.event(event);
        }
    }

    pub(crate) fn tell_writable(&self) {
        for port in self.ports() {
            port.gate().tell_writable();
        }
    }
}

#[cfg(test)]
mod tests;
