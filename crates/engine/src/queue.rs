//! The machine thread's queue: the one order that clients, guest and devices agree on.
//!
//! Posting never blocks. The queue is bounded by its sources: a monitor connection has one request under way, a hart has
//! one (it executes nothing until that is answered), and a device's request that still waits is not queued twice.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use runstate::{DeviceRequest, GuestRequest, ManagementRequest, MigrationRequest};
use vmcore::{DevicePort, Harts};

use crate::ManageError;
use crate::job::Go;
use crate::machine::MachineThread;
use crate::patience;
use crate::record::{By, Failure};
use crate::work::{Done, Errand};

/// Where the answer to a request of management goes, once all that it led to has happened.
pub(crate) type Reply = mpsc::SyncSender<Result<(), ManageError>>;

/// What the machine thread is asked.
pub(crate) enum Message {
    /// A request of management.
    Management { request: ManagementRequest, by: By, reply: Reply },
    /// A request of management that begins a job; `go` sets it going once the machine stands.
    Begin { request: ManagementRequest, by: By, go: Go, reply: Reply },
    /// A step of a job, or its end.
    Job { request: MigrationRequest, reply: Reply },
    /// Have the worker run this, `if_held` only while the machine is held.
    Errand { errand: Errand, if_held: bool, reply: Reply },
    /// The worker has done what it was asked.
    Worked(Done),
    /// A request that the guest made on hart `hart`.
    Guest { hart: u32, epoch: u64, request: GuestRequest },
    /// There are requests in the devices' inbox.
    Device,
    /// Call this: what debuggers and jobs ask.
    Call(Box<dyn FnOnce(&mut MachineThread) + Send>),
    /// Describe hart `hart`.
    Describe { hart: u32, reply: mpsc::SyncSender<Option<String>> },
}

/// The posting end.
#[derive(Clone)]
pub(crate) struct Sender {
    messages: mpsc::Sender<Message>,
    inbox: Arc<Inbox>,
}

/// The receiving end.
pub(crate) struct Receiver {
    pub(crate) messages: mpsc::Receiver<Message>,
    inbox: Arc<Inbox>,
}

/// Device requests that wait, each at most once, with the epoch in which they were made.
#[derive(Default)]
struct Inbox {
    waiting: Mutex<Vec<Posted>>,
}

/// A device's request.
pub(crate) struct Posted {
    pub(crate) epoch: u64,
    pub(crate) request: DeviceRequest,
    pub(crate) by: By,
}

impl Posted {
    fn of(epoch: u64, failure: Failure) -> Self {
        let request = DeviceRequest::HartFailed { what: failure.what };
        Self { epoch, request, by: By::Fault(failure) }
    }
}

impl Inbox {
    /// Returns whether the machine thread has to be told that there is something.
    fn put(&self, posted: Posted) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |other: &Posted| (other.epoch, other.request) == (posted.epoch, posted.request);
        if waiting.iter().any(same) {
            return false;
        }
        waiting.push(posted);
        waiting.len() == 1
    }
}

pub(crate) fn channel() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel();
    let inbox = Arc::new(Inbox::default());
    (Sender { messages: sender, inbox: Arc::clone(&inbox) }, Receiver { messages: receiver, inbox })
}

impl Sender {
    /// Posts a request of management. Returns whether the machine thread is still there.
    pub(crate) fn post(&self, message: Message) -> bool {
        self.messages.send(message).is_ok()
    }

    /// Has the machine thread call `ask`, and waits for it; `None` once the machine has ended.
    pub(crate) fn on_machine<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut MachineThread) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        let ask = move |machine: &mut MachineThread| {
            // The asker waits for it.
            let _ = reply.send(ask(machine));
        };
        self.post(Message::Call(Box::new(ask)));
        patience::wait(&answer).ok()
    }

    pub(crate) fn post_guest(&self, hart: u32, epoch: u64, request: GuestRequest) {
        self.post(Message::Guest { hart, epoch, request });
    }

    pub(crate) fn post_device(&self, epoch: u64, request: DeviceRequest) {
        self.put(Posted { epoch, request, by: By::maker_of(&request) });
    }

    /// The machine cannot go on, since this epoch.
    pub(crate) fn post_failure(&self, epoch: u64, failure: Failure) {
        self.put(Posted::of(epoch, failure));
    }

    fn put(&self, posted: Posted) {
        if self.inbox.put(posted) {
            self.post(Message::Device);
        }
    }
}

impl Receiver {
    /// Whether device requests wait.
    pub(crate) fn has_device_requests(&self) -> bool {
        !self.inbox.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes the device request that was posted first.
    pub(crate) fn take_device_request(&self) -> Option<Posted> {
        let mut waiting = self.inbox.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (!waiting.is_empty()).then(|| waiting.remove(0))
    }

    /// The machine thread itself has met a failure. It has to look for device requests then.
    pub(crate) fn put_failure(&self, epoch: u64, failure: Failure) {
        self.inbox.put(Posted::of(epoch, failure));
    }
}

/// The devices' way to the machine thread. Made before the machine is, because devices are built with it.
pub struct Port {
    sender: Sender,
    harts: OnceLock<Harts>,
}

impl Port {
    pub(crate) fn new(sender: Sender) -> Arc<Self> {
        Arc::new(Self { sender, harts: OnceLock::new() })
    }

    /// From here on requests carry the epoch of this machine.
    pub(crate) fn connect(&self, harts: &Harts) {
        // A second machine on the same port would be a bug in the caller; the first one stays.
        let _ = self.harts.set(harts.clone());
    }
}

impl DevicePort for Port {
    fn post(&self, request: DeviceRequest) {
        let epoch = self.harts.get().map_or(0, Harts::epoch);
        self.sender.post_device(epoch, request);
    }
}
