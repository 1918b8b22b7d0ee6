//! A QMP client's connection, from the greeting to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use backends::stream::Connection;
use engine::{Record, Status, Subscriber, SubscriptionId};
use migration::Migrations;
use qmp::{Input, Limits, Session, wire};
use rustix::event::PollFlags;

use crate::client::Client;
use crate::commands::{Env, Looks, Qmp};
use crate::context::Context;
use crate::events;
use crate::lane::{Job, Lane};
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
    context: &Context,
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
    let talk = Conversation { context, client, outbox, lane: Lane::default() };
    thread::scope(|scope| {
        let end = EndLane(&talk.lane);
        let start_worker = || {
            let worker = thread::Builder::new().name(format!("{name}/run"));
            worker.spawn_scoped(scope, || talk.work()).map(drop)
        };
        let result = talk.hear(connection, start_worker);
        drop(end);
        result
    })?;
    context.engine().unsubscribe(subscription);
    outbox.drain();
    drop(ending);
    Ok(())
}

/// Lets the worker come to its end, also when the reader unwinds.
struct EndLane<'a>(&'a Lane);

impl Drop for EndLane<'_> {
    fn drop(&mut self) {
        self.0.end();
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

/// A client, and what is said to it.
struct Conversation<'a> {
    context: &'a Context,
    client: Client,
    outbox: &'a Arc<Outbox>,
    /// Used only when the client has switched `exec-oob` on.
    lane: Lane,
}

impl Conversation<'_> {
    /// Reads to the client's end and answers, or has `start_worker` answer what may be overtaken.
    fn hear(&self, connection: &Connection, start_worker: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut session = Session::new(Arc::clone(&self.client.commands), Limits::default());
        let mut start_worker = Some(start_worker);
        let (mut buffer, mut fds) = (vec![0; READ], Vec::new());
        while let Some(mut bytes) = read(connection, self.outbox, &mut buffer, &mut fds) {
            self.client.keep(&mut fds);
            if !self.outbox.begin() {
                break;
            }
            let mut more = true;
            while let Some(input) = session.feed_one(&mut bytes).filter(|_| more) {
                more = self.outbox.wait_for_room() && self.take(input, &session);
                if session.oob()
                    && let Some(start) = start_worker.take()
                {
                    start()?;
                }
            }
            self.outbox.end();
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Answers now what can be answered now, and puts the rest into the lane. False when no more is to be run.
    fn take(&self, input: Job, session: &Session<&'static Qmp>) -> bool {
        match input {
            Input::Call(call) if call.oob => {
                // Sent without waiting for the end of what was read: the reader may have to wait before that.
                let status = self.outbox.status().0;
                self.outbox.send(&self.answer(status, &call));
                true
            }
            // Queries of the lifecycle do not block, so they need no worker unless one is before them.
            Input::Call(ref call)
                if session.oob()
                    && !((call.command.is_lifecycle_query)(&call.args) && self.lane.is_idle()) =>
            {
                self.lane.push(input)
            }
            Input::Reply(_) if session.oob() && !self.lane.is_idle() => self.lane.push(input),
            input => {
                self.run(input, session.negotiated());
                true
            }
        }
    }

    /// Runs a command, or has an answer that is already decided take its place.
    fn run(&self, input: Job, negotiated: bool) {
        match input {
            Input::Reply(line) => self.outbox.reply(&line, negotiated),
            Input::Call(call) if (call.command.is_lifecycle_query)(&call.args) => self.answer_query(&call),
            Input::Call(call) => self.outbox.reply(&self.answer(self.outbox.status().0, &call), true),
        }
    }

    /// The worker: runs what is in the lane, in order.
    fn work(&self) {
        let _abandon = AbandonLane(self);
        while let Some(first) = self.lane.take(true) {
            if !self.outbox.begin() {
                return;
            }
            let mut next = Some(first);
            while let Some(input) = next {
                if !self.outbox.wait_for_room() {
                    return self.outbox.end();
                }
                self.run(input, true);
                next = self.lane.take(false);
            }
            self.outbox.end();
        }
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
struct AbandonLane<'a>(&'a Conversation<'a>);

impl Drop for AbandonLane<'_> {
    fn drop(&mut self) {
        self.0.lane.abandon();
        if thread::panicking() {
            self.0.outbox.close();
        }
    }
}
