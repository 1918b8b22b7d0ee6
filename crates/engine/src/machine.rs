//! The machine thread: sole owner of the machine's life. Takes requests from its queue, one at a time, and carries out
//! what [`runstate`] says.
//!
//! ```text
//!   queue ──► Lifecycle::apply ──► effects, in order ──┬─► harts, timers, devices
//!                  ▲                                   ├─► published state and events
//!                  └── reports, wakes that are due ◄───┤
//!                      (all before the answer)         └─► worker ─► a report, by the queue
//! ```
//!
//! One request is an [`Operation`] from the moment when it is applied until it is answered. While one waits for the
//! worker, whatever else comes waits behind it, in order; only reports, looks at a hart and `quit` do not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use clock::TimerQueue;
use runstate::{DeviceRequest, GuestRequest, Lifecycle, ManagementRequest, Outcome, Power, Refusal, Request};
use vmcore::{Machine, PlaceError, SbiReturn};

use crate::ManageError;
use crate::arrival::ArrivalBook;
use crate::debug::DebugState;
use crate::hart::Hart;
use crate::job::{Go, JobControl};
use crate::lost::{self, LostPages};
use crate::publish::Publisher;
use crate::queue::{Message, Posted, Receiver, Reply};
use crate::record::{By, Cause, Failure};
use crate::state::Staged;
use crate::wakes::WakeBook;
use crate::work::Worker;

/// `SBI_ERR_FAILED`: what a request that led to nothing returns to the guest.
const FAILED: i64 = -1;
/// `SBI_ERR_DENIED`.
const DENIED: i64 = -4;

/// How long a guest that resets in a loop waits, at most, for clients that do not keep up.
const RESET_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether they have caught up.
const RESET_GLANCE: Duration = Duration::from_millis(10);

/// How long harts that a client's request has set free wait after its answer, unless something else is asked: they would
/// compete with the answer, and with the client that is to take it, for the host's processors. That takes some 50 us.
const ANSWER_GRACE: Duration = Duration::from_micros(100);

/// A request of a hart that waits until clients have caught up.
struct Deferred {
    hart: u32,
    epoch: u64,
    request: GuestRequest,
    until: Instant,
}

/// Who is told how a request went.
pub(crate) enum Asker {
    Management(Reply),
    Nobody,
    Guest { hart: u32, epoch: u64, request: GuestRequest },
    Device(DeviceRequest),
    Job(Reply),
}

/// A request that was applied and is not answered yet.
pub(crate) struct Operation {
    asker: Asker,
    /// What led to what is being carried out.
    pub(crate) cause: Cause,
    /// The request meant nothing any more.
    dropped: bool,
    /// Why the machine could not be started.
    pub(crate) error: Option<ManageError>,
    /// What is to be handled before the answer.
    pub(crate) follow: VecDeque<Request>,
}

impl Operation {
    pub(crate) fn new(asker: Asker, cause: Cause) -> Self {
        Self { asker, cause, dropped: false, error: None, follow: VecDeque::new() }
    }
}

/// Which harts are to be unparked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Unpark {
    #[default]
    None,
    One(u32),
    All,
}

/// What the machine thread is made of.
pub(crate) struct Parts {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) harts: Vec<Arc<Hart>>,
    pub(crate) timers: Arc<TimerQueue>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) receiver: Receiver,
    pub(crate) wakes: Arc<WakeBook>,
    pub(crate) arrivals: Arc<ArrivalBook>,
    pub(crate) worker: Worker,
    pub(crate) lost: LostPages,
}

/// The machine thread's state.
pub(crate) struct MachineThread {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) harts: Vec<Arc<Hart>>,
    pub(crate) timers: Arc<TimerQueue>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) receiver: Receiver,
    pub(crate) wakes: Arc<WakeBook>,
    pub(crate) arrivals: Arc<ArrivalBook>,
    /// What led to what is being carried out.
    pub(crate) cause: Cause,
    pub(crate) worker: Worker,
    lost: LostPages,
    /// Tasks that the worker has not reported yet.
    pub(crate) tasks: u32,
    /// The job that is asked for, until it begins.
    pub(crate) go: Option<Go>,
    /// The job under way, or the last one.
    pub(crate) job: Option<JobControl>,
    /// The request that waits for the worker.
    pub(crate) underway: Option<Operation>,
    /// What came meanwhile.
    pub(crate) waiting: VecDeque<Message>,
    deferred: VecDeque<Deferred>,
    /// What the job under way has put ready for [`runstate::Effect::AdoptGuest`].
    pub(crate) staged: Option<Staged>,
    /// Harts to unpark once the message at hand is answered.
    pub(crate) unpark_due: Unpark,
    /// The answer went to a client, which is to have time to take it first.
    grace: bool,
    pub(crate) debug: DebugState,
    pub(crate) exit: Option<i32>,
}

impl MachineThread {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { lifecycle, machine, harts, timers, publisher, receiver, wakes, arrivals, worker, lost } =
            parts;
        Self {
            lifecycle,
            machine,
            harts,
            timers,
            publisher,
            receiver,
            wakes,
            arrivals,
            worker,
            lost,
            cause: Cause::START,
            tasks: 0,
            go: None,
            job: None,
            underway: None,
            waiting: VecDeque::new(),
            deferred: VecDeque::new(),
            staged: None,
            unpark_due: Unpark::None,
            grace: false,
            debug: DebugState::default(),
            exit: None,
        }
    }

    /// Puts harts, devices and images into the state after power-on, held: no input comes in before the first start.
    pub(crate) fn boot(&mut self) -> Result<(), PlaceError> {
        self.park();
        self.stop_devices();
        self.reset_machine()
    }

    /// The thread's body: returns the process's exit status when the machine ends.
    pub(crate) fn run(mut self) -> i32 {
        sys::memory::answer_for_own_errors();
        while let Some(message) = self.next() {
            self.answer(message);
            if !self.grace {
                self.unpark();
            }
        }
        self.last_flush();
        // Without a status every handle is gone: nobody can ever ask anything again.
        self.exit.unwrap_or(0)
    }

    /// The next message that may be handled; none once the machine has ended. While requests are deferred it looks at
    /// those in between; while counted time has to jump because no hart can execute, it jumps.
    fn next(&mut self) -> Option<Message> {
        loop {
            self.report_own_lost();
            if self.underway.is_some() {
                match self.receiver.messages.recv().ok()? {
                    message if overtakes(&message) => return Some(message),
                    message => self.waiting.push_back(message),
                }
                continue;
            }
            self.handle_deferred();
            if self.exit.is_some() {
                return None;
            }
            if self.underway.is_some() {
                continue;
            }
            if std::mem::take(&mut self.grace) && self.unpark_due != Unpark::None && self.waiting.is_empty() {
                let message = self.receiver.messages.recv_timeout(ANSWER_GRACE);
                self.unpark();
                match message {
                    Ok(message) => return Some(message),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return None,
                }
            }
            self.unpark();
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            if !self.deferred.is_empty() {
                match self.receiver.messages.recv_timeout(RESET_GLANCE) {
                    Ok(message) => return Some(message),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return None,
                }
            }
            match self.receiver.messages.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if self.jump_asleep() => {}
                Err(TryRecvError::Empty) => return self.receiver.messages.recv().ok(),
            }
        }
    }

    /// Pages of RAM that this thread has found lost break the machine, once what is under way is done.
    fn report_own_lost(&mut self) {
        if let Some(failure) = self.machine.ram().and_then(|ram| lost::take_own(ram, None)) {
            self.break_after(failure);
        }
    }

    /// Breaks the machine once what is under way is done.
    pub(crate) fn break_after(&mut self, failure: Failure) {
        self.receiver.put_failure(self.lifecycle.epoch(), failure);
        self.waiting.push_back(Message::Device);
    }

    /// Counted time and the guest asleep: jumps to the next deadline that may wake it. Returns whether it did.
    fn jump_asleep(&self) -> bool {
        let asleep = self.lifecycle.is_live() && self.lifecycle.is_asleep();
        if !asleep || self.timers.advance_idle(None).is_none() {
            return false;
        }
        // Not asked how many fired: the timers' thread may have been faster, and there may be more to jump to.
        self.timers.run_due();
        true
    }

    fn answer(&mut self, message: Message) {
        if let Some(failure) = self.lost.take_news() {
            self.receiver.put_failure(self.lifecycle.epoch(), failure);
            self.devices();
            if self.underway.is_some() && !overtakes(&message) {
                return self.waiting.push_front(message);
            }
        }
        match message {
            Message::Management { request, by, reply } => self.manage(request, by, reply),
            Message::Begin { request, by, go, reply } => {
                self.go = Some(go);
                self.manage(request, by, reply);
                // Refused: the job's thread ends without having begun.
                self.go = None;
            }
            Message::Job { request, reply } => self.serve(request.into(), Asker::Job(reply)),
            Message::Errand { errand, if_held, reply } => self.run_errand(errand, if_held, reply),
            Message::Guest { hart, epoch, request } => self.guest(hart, epoch, request),
            Message::Device => self.devices(),
            Message::Worked(done) => self.worked(done),
            Message::Call(ask) => ask(self),
            Message::Describe { hart, reply } => {
                let _ = reply.send(self.describe(hart));
            }
        }
    }

    fn devices(&mut self) {
        while self.exit.is_none() {
            if self.underway.is_some() {
                // The rest of them when that is done, before anything else.
                return self.waiting.push_front(Message::Device);
            }
            let Some(Posted { epoch, request, by }) = self.receiver.take_device_request() else { return };
            let by = match by {
                By::Device(id, None) => By::Device(id, self.worker.name(id)),
                by => by,
            };
            self.serve_by(request.at(epoch), by, Asker::Device(request));
        }
    }

    fn guest(&mut self, hart: u32, epoch: u64, request: GuestRequest) {
        if request == GuestRequest::DebugStop {
            return self.debug_stop(hart, epoch);
        }
        // One of an older epoch does nothing, so it need not wait; what waits is at most one request a hart.
        self.deferred.retain(|deferred| deferred.epoch == self.lifecycle.epoch());
        let current = epoch == self.lifecycle.epoch();
        if current && is_reset(&request) && self.publisher.anyone_behind() {
            let until = Instant::now() + RESET_PATIENCE;
            self.deferred.push_back(Deferred { hart, epoch, request, until });
        } else {
            self.serve_guest(hart, epoch, request);
        }
    }

    fn serve_guest(&mut self, id: u32, epoch: u64, request: GuestRequest) {
        // Before it has any effect: a hart that is started by it may post the next one at once.
        if let Some(hart) = self.hart(id).filter(|_| epoch == self.lifecycle.epoch()) {
            hart.rest();
        }
        self.serve_by(request.at(epoch), By::Hart(id), Asker::Guest { hart: id, epoch, request });
    }

    fn handle_deferred(&mut self) {
        self.handle_deferred_while(|machine, first| {
            !machine.publisher.anyone_behind() || Instant::now() >= first.until
        });
    }

    /// The same without waiting for anybody.
    pub(crate) fn handle_all_deferred(&mut self) {
        self.handle_deferred_while(|_, _| true);
    }

    fn handle_deferred_while(&mut self, is_time: impl Fn(&Self, &Deferred) -> bool) {
        while let Some(first) = self.deferred.front() {
            let waits = !is_time(self, first);
            if self.exit.is_some() || self.underway.is_some() || waits {
                return;
            }
            if let Some(Deferred { hart, epoch, request, .. }) = self.deferred.pop_front() {
                self.serve_guest(hart, epoch, request);
                self.unpark();
            }
        }
    }

    /// Applies a request and carries out everything that follows from it: its effects, the reports that they ask for,
    /// and the wakes that they find due. Then it is answered; later, if the worker has to do something first.
    fn serve(&mut self, request: Request, asker: Asker) {
        let cause = Cause::of(&request);
        self.serve_for(request, cause, asker);
    }

    /// The same for a request whose maker is known.
    fn serve_by(&mut self, request: Request, by: By, asker: Asker) {
        let cause = Cause { by, ..Cause::of(&request) };
        self.serve_for(request, cause, asker);
    }

    fn serve_for(&mut self, request: Request, cause: Cause, asker: Asker) {
        match self.lifecycle.apply(&request) {
            Ok(outcome) => self.begin(outcome, cause, asker),
            Err(refusal) => self.refuse(asker, refusal),
        }
    }

    /// The same for a request of the engine's own. Returns whether it was dropped; when the worker has something to do,
    /// what follows comes later.
    pub(crate) fn apply(&mut self, request: Request) -> Result<bool, Refusal> {
        let outcome = self.lifecycle.apply(&request)?;
        let dropped = outcome.dropped;
        self.begin(outcome, Cause::of(&request), Asker::Nobody);
        Ok(dropped)
    }

    fn begin(&mut self, outcome: Outcome, cause: Cause, asker: Asker) {
        self.lifecycle = outcome.next;
        self.cause = cause.clone();
        let mut operation = Operation::new(asker, cause);
        operation.dropped = outcome.dropped;
        self.carry_out(outcome.effects, &mut operation.follow);
        self.go_on(operation);
    }

    /// Serves a request of management.
    pub(crate) fn manage(&mut self, request: ManagementRequest, by: By, reply: Reply) {
        self.serve_by(request.into(), by, Asker::Management(reply));
    }

    /// Whether a request is under way.
    pub(crate) fn awaits_worker(&self) -> bool {
        self.underway.is_some()
    }

    /// Handles what follows until the operation is done or waits for the worker.
    pub(crate) fn go_on(&mut self, mut operation: Operation) {
        loop {
            if self.exit.is_some() {
                // What else waited is void; its asker learns that the machine has ended.
                self.underway = None;
                return self.finish(operation);
            }
            if self.tasks > 0 {
                self.underway = Some(operation);
                return;
            }
            let Some(request) = operation.follow.pop_front() else { return self.finish(operation) };
            match self.lifecycle.apply(&request) {
                Ok(outcome) => {
                    self.lifecycle = outcome.next;
                    if let Some(cause) = Cause::of_follow_up(&request) {
                        operation.cause = cause;
                    }
                    self.cause = operation.cause.clone();
                    self.carry_out(outcome.effects, &mut operation.follow);
                }
                // A report is never refused; a wake that comes too late is nobody's failure.
                Err(refusal) => tracing::debug!(?request, %refusal, "a follow-up was refused"),
            }
        }
    }

    fn refuse(&self, asker: Asker, refusal: Refusal) {
        match asker {
            Asker::Management(reply) => {
                // The asker may be gone: so be it.
                let _ = reply.send(Err(refusal.into()));
            }
            Asker::Guest { hart, epoch, request } => {
                tracing::debug!(?request, %refusal, "the guest's request was refused");
                self.answer_guest(hart, epoch, request, true);
            }
            Asker::Nobody => {}
            Asker::Device(request) => tracing::debug!(?request, %refusal, "a device's request was refused"),
            Asker::Job(reply) => {
                tracing::debug!(%refusal, "a job's step was refused");
                let _ = reply.send(Err(refusal.into()));
            }
        }
    }

    fn finish(&mut self, operation: Operation) {
        let Operation { asker, dropped, error, .. } = operation;
        match asker {
            Asker::Management(reply) => {
                self.grace = true;
                // The asker may be gone; what it asked for has happened all the same.
                let _ = reply.send(error.map_or(Ok(()), Err));
            }
            Asker::Guest { hart, epoch, request } => self.answer_guest(hart, epoch, request, dropped),
            Asker::Device(_) | Asker::Nobody => {}
            Asker::Job(reply) => {
                let done = if dropped { Err(ManageError::Ended) } else { error.map_or(Ok(()), Err) };
                let _ = reply.send(done);
            }
        }
    }

    fn answer_guest(&self, hart: u32, epoch: u64, request: GuestRequest, dropped: bool) {
        // Made before a reset or a load, or followed by one: the hart that asked is no more.
        if epoch != self.lifecycle.epoch() {
            return;
        }
        // A suspend that was accepted is never answered: the hart is asleep or, where a wake was due already, was
        // started at its resume address and executes. One that asked for a reset has nothing more to do.
        let returns =
            !matches!(request, GuestRequest::Suspend(_)) && self.lifecycle.pending_reset().is_none();
        let goes_on = dropped || (returns && matches!(self.lifecycle.power(), Power::Awake));
        if let (true, Some(hart)) = (goes_on, self.hart(hart)) {
            hart.answer(SbiReturn::error(if dropped { DENIED } else { FAILED }));
        }
    }
}

/// What does not wait for the operation under way.
fn overtakes(message: &Message) -> bool {
    match message {
        Message::Worked(_) | Message::Describe { .. } => true,
        Message::Management { request, .. } => matches!(request, ManagementRequest::Quit { .. }),
        Message::Begin { .. }
        | Message::Job { .. }
        | Message::Errand { .. }
        | Message::Guest { .. }
        | Message::Device
        | Message::Call(_) => false,
    }
}

fn is_reset(request: &GuestRequest) -> bool {
    matches!(request, GuestRequest::Reset)
}
