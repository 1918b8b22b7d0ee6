//! A QMP client's connection, from the greeting to its end.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use backends::stream::Connection;
use engine::{By, Record, Status, Subscriber, SubscriptionId};
use migration::Migrations;
use qmp::{Input, Limits, Session, wire};
use rustix::event::PollFlags;

use crate::client::Client;
use crate::commands::{Env, Looks, QUIT, Qmp};
use crate::context::Context;
use crate::events;
use crate::lane::{Job, Lane, Pushed};
use crate::outbox::Outbox;

/// How much is read at once: a few hundred commands.
const READ: usize = 32 << 10;
/// How often a lifecycle query is run anew because the status has changed meanwhile, before the machine has to wait for it.
const TRIES: u32 = 8;

/// What follows the machine for one client.
struct Follower {
    outbox: Arc<Outbox>,
    migrations: Migrations,
}

impl Subscriber for Follower {
    fn publish(&self, status: &Arc<Status>, record: Option<&Arc<Record>>) {
        let record = record.map(|record| &**record);
        let wanted = |record: &&Record| !events::is_of_migration(record) || self.migrations.tell_events();
        self.outbox.publish(status, record, record.filter(wanted).and_then(events::of_engine));
    }

    fn is_behind(&self) -> bool {
        self.outbox.is_behind()
    }
}

/// Unsubscribes and closes, also when the thread unwinds.
struct Ending<'a> {
    context: &'a Context,
    outbox: &'a Outbox,
    subscription: SubscriptionId,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.context.engine().unsubscribe(self.subscription);
        self.outbox.close();
    }
}

/// Serves a client to its end: its last byte, then its last answer.
///
/// # Errors
/// The host has no thread for the output, or for commands behind those out of band.
pub(crate) fn serve(
    context: &Arc<Context>,
    client: Client,
    connection: &Connection,
    outbox: &Arc<Outbox>,
    name: &str,
) -> io::Result<()> {
    // First of all: a client may wait for it, and measure how long.
    outbox.send(&wire::greeting(&context.version));
    outbox.start_writer(&format!("{name}/out"))?;
    let follower = Follower { outbox: Arc::clone(outbox), migrations: context.migrations.clone() };
    let subscription = context.engine().subscribe(Arc::new(follower));
    let ending = Ending { context, outbox, subscription };
    let talk = Arc::new(Conversation {
        reader: Mutex::new(Reader::new(connection.clone(), &client)),
        context: Arc::clone(context),
        client,
        outbox: Arc::clone(outbox),
        name: name.to_owned(),
        lane: Lane::default(),
        in_lane: AtomicBool::default(),
        helper: Mutex::default(),
    });
    let heard = talk.hear();
    if let Some(helper) = lock(&talk.helper).take() {
        // It ends with what is read, or with what is in the lane; a panic there has closed the connection.
        let _ = helper.join();
    }
    heard?;
    context.engine().unsubscribe(subscription);
    outbox.drain();
    drop(ending);
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the worker come to its end, also when the reader unwinds.
struct EndLane<'a>(Option<&'a Lane>);

impl Drop for EndLane<'_> {
    fn drop(&mut self) {
        if let Some(lane) = self.0 {
            lane.end();
        }
    }
}

/// The next bytes of the client, and the descriptors that came with them; `None` at its end.
pub(crate) fn read<'a>(
    connection: &Connection,
    outbox: &Outbox,
    buffer: &'a mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Option<&'a [u8]> {
    loop {
        match connection.read_with_fds(buffer, fds) {
            Ok(0) => return None,
            Ok(count) => return buffer.get(..count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => outbox.wait_ready(PollFlags::IN),
            Err(_gone) => return None,
        }
    }
}

/// A command that has come over a connection.
type Call = qmp::Call<&'static Qmp>;

/// What a client sends.
struct Reader {
    connection: Connection,
    session: Session<&'static Qmp>,
    buffer: Vec<u8>,
    /// What was read and not taken in yet.
    unread: Range<usize>,
    fds: Vec<OwnedFd>,
}

impl Reader {
    fn new(connection: Connection, client: &Client) -> Self {
        let session = Session::new(Arc::clone(&client.commands), Limits::default());
        Self { connection, session, buffer: vec![0; READ], unread: 0..0, fds: Vec::new() }
    }

    /// Waits for more of it; false at its end.
    fn fill(&mut self, client: &Client, outbox: &Outbox) -> bool {
        let count = read(&self.connection, outbox, &mut self.buffer, &mut self.fds).map(<[u8]>::len);
        self.unread = 0..count.unwrap_or(0);
        client.keep(&mut self.fds);
        count.is_some()
    }

    /// The next request that has been read to its end.
    fn next(&mut self) -> Option<Job> {
        let mut bytes = self.buffer.get(self.unread.clone())?;
        let input = self.session.feed_one(&mut bytes);
        self.unread.start = self.unread.end - bytes.len();
        input
    }
}

/// A client, and what is said to it.
struct Conversation {
    context: Arc<Context>,
    client: Client,
    outbox: Arc<Outbox>,
    name: String,
    /// Locked while something is read and taken in, never while a command runs.
    reader: Mutex<Reader>,
    /// Commands that a thread of their own runs, once there is one.
    lane: Lane,
    /// There is one: the client has switched `exec-oob` on, or a command took very long.
    in_lane: AtomicBool,
    /// The second thread.
    helper: Mutex<Option<JoinHandle<()>>>,
}

/// Why a thread reads no further for now.
enum Pause {
    /// All that was read has been taken in.
    UsedUp,
    /// No more is to be run.
    Over,
    /// Another thread reads; this one is the worker.
    HandedOver,
}

impl Conversation {
    /// Reads to the client's end and answers, or has the worker answer what may be overtaken.
    fn hear(self: &Arc<Self>) -> io::Result<()> {
        let mut end = EndLane(Some(&self.lane));
        while self.outbox.begin() {
            let pause = self.take_all();
            if matches!(pause, Ok(Pause::HandedOver)) {
                // The one that reads now ends it.
                end.0 = None;
                let more = self.work_off(self.lane.take(false));
                self.outbox.end();
                if more {
                    self.work();
                }
                return Ok(());
            }
            self.outbox.end();
            if matches!(pause?, Pause::Over) || !lock(&self.reader).fill(&self.client, &self.outbox) {
                break;
            }
        }
        Ok(())
    }

    /// Takes all that was read.
    fn take_all(self: &Arc<Self>) -> io::Result<Pause> {
        loop {
            let (input, oob, negotiated) = {
                let mut reader = lock(&self.reader);
                let Some(input) = reader.next() else { return Ok(Pause::UsedUp) };
                (input, reader.session.oob(), reader.session.negotiated())
            };
            let was_in_lane = self.in_lane.load(Ordering::SeqCst);
            if !self.outbox.wait_for_room() || !self.take(input, negotiated, was_in_lane) {
                return Ok(Pause::Over);
            }
            if !was_in_lane && self.in_lane.load(Ordering::SeqCst) {
                return Ok(Pause::HandedOver);
            }
            if oob && !was_in_lane {
                self.help("run", |this| this.work())?;
            }
        }
    }

    /// Starts the second thread, from when on commands go through the lane.
    fn help(self: &Arc<Self>, what: &str, body: impl FnOnce(&Arc<Self>) + Send + 'static) -> io::Result<()> {
        let this = Arc::clone(self);
        // Before it begins: it has to know.
        self.in_lane.store(true, Ordering::SeqCst);
        let helper = thread::Builder::new().name(format!("{}/{what}", self.name)).spawn(move || body(&this));
        let helper = helper.inspect_err(|_| self.in_lane.store(false, Ordering::SeqCst))?;
        *lock(&self.helper) = Some(helper);
        Ok(())
    }

    /// Answers now what can be answered now, and puts the rest into the lane. False when no more is to be run.
    fn take(self: &Arc<Self>, input: Job, negotiated: bool, in_lane: bool) -> bool {
        match input {
            Input::Call(call) if call.oob => {
                // Sent without waiting for the end of what was read: the reader may have to wait before that.
                let status = self.outbox.status().0;
                self.outbox.send(&self.answer(status, &call));
                true
            }
            // Queries of the lifecycle do not block, so they need no worker unless one is before them.
            Input::Call(ref call)
                if in_lane && !((call.command.is_lifecycle_query)(&call.args) && self.lane.is_idle()) =>
            {
                self.push(input)
            }
            Input::Reply(_) if in_lane && !self.lane.is_idle() => self.push(input),
            input => {
                self.run(input, negotiated);
                true
            }
        }
    }

    /// Has the worker run it. A `quit` behind what hangs ends that.
    fn push(&self, input: Job) -> bool {
        let pushed = self.lane.push(input);
        if pushed == Pushed::QuitBehindHanging {
            self.quit();
        }
        pushed != Pushed::Refused
    }

    /// Ends the machine, so that whoever waits for it learns that it has ended. Answered in its turn.
    fn quit(&self) {
        // Whatever comes of it, the command itself asks again.
        let _ = self.context.engine().manage_by(By::Client(Arc::clone(&self.client.name)), QUIT);
    }

    /// The command that this thread runs takes very long: from here on another thread reads, and this one runs what that
    /// one puts into the lane, when it can.
    fn hang(self: &Arc<Self>) {
        if self.lane.hangs() {
            self.quit();
        }
        if !self.in_lane.load(Ordering::SeqCst)
            && let Err(error) = self.help("in", |this| drop(this.hear()))
        {
            tracing::warn!(%error, "a command keeps those behind it waiting");
        }
    }

    /// Runs a command, or has an answer that is already decided take its place.
    fn run(self: &Arc<Self>, input: Job, negotiated: bool) {
        match input {
            Input::Reply(line) => self.outbox.reply(&line, negotiated),
            Input::Call(call) if (call.command.is_lifecycle_query)(&call.args) => self.answer_query(&call),
            Input::Call(call) => {
                let this = Arc::clone(self);
                let (status, patience) = (self.outbox.status().0, self.context.config.patience);
                let line = engine::with_patience(patience, Rc::new(move || this.hang()), || {
                    self.answer(status, &call)
                });
                self.outbox.reply(&line, true);
            }
        }
    }

    /// The worker: runs what is in the lane, in order.
    fn work(self: &Arc<Self>) {
        let _abandon = AbandonLane(self);
        while let Some(first) = self.lane.take(true) {
            if !self.outbox.begin() {
                return;
            }
            let more = self.work_off(Some(first));
            self.outbox.end();
            if !more {
                return;
            }
        }
    }

    /// Runs `next` and what is in the lane behind it. False when no more is to be run.
    fn work_off(self: &Arc<Self>, mut next: Option<Job>) -> bool {
        while let Some(input) = next {
            // What a `quit` has cut short is answered, down to the `quit`.
            if !self.outbox.wait_for_room() && !self.lane.quits() {
                return false;
            }
            self.run(input, true);
            next = self.lane.take(false);
        }
        true
    }

    /// Runs a command and gives its reply; `status` is what the client knows of the machine, if anything yet.
    fn answer(&self, status: Option<Arc<Status>>, call: &Call) -> String {
        self.look_and_answer(status, call, &Looks::default())
    }

    fn look_and_answer(&self, status: Option<Arc<Status>>, call: &Call, looks: &Looks) -> String {
        let Self { context, client, .. } = self;
        let status = &status.unwrap_or_else(|| context.engine().status());
        call.reply(&(call.command.run)(&Env { context, status, client, looks }, &call.args))
    }

    /// Answers a query with the status that goes with its place in the queue.
    fn answer_query(&self, call: &Call) {
        let looks = Looks::default();
        for _ in 0..TRIES {
            let (status, version) = self.outbox.status();
            let line = self.look_and_answer(status, call, &looks);
            if self.outbox.reply_at(version, &line, self.client.wants_lifecycle()) {
                return;
            }
        }
        self.outbox
            .reply_now(|status| (self.look_and_answer(status, call, &looks), self.client.wants_lifecycle()));
    }
}

/// When the worker ends before its time, so does the connection.
struct AbandonLane<'a>(&'a Conversation);

impl Drop for AbandonLane<'_> {
    fn drop(&mut self) {
        self.0.lane.abandon();
        if thread::panicking() {
            self.0.outbox.close();
        }
    }
}
