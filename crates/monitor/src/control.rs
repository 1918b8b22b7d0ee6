//! A QMP client's connection, from the greeting to its end.

use std::io::{self, Read as _};
use std::sync::Arc;

use backends::stream::Connection;
use engine::{Record, Status, Subscriber, SubscriptionId};
use qmp::{Input, Limits, Session, wire};
use rustix::event::PollFlags;

use crate::client::Client;
use crate::commands::{Env, Qmp};
use crate::context::Context;
use crate::events;
use crate::outbox::Outbox;

/// How much is read at once: a few hundred commands.
const READ: usize = 32 << 10;
/// How often a lifecycle query is run anew because the status has changed meanwhile, before the machine has to wait for it.
const TRIES: u32 = 8;

/// What follows the machine for one client.
struct Follower {
    outbox: Arc<Outbox>,
}

impl Subscriber for Follower {
    fn publish(&self, status: &Arc<Status>, record: Option<&Arc<Record>>) {
        self.outbox.publish(status, record.and_then(|record| events::of_engine(record)));
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
/// The host has no thread for the output.
pub(crate) fn serve(
    context: &Context,
    connection: &Connection,
    outbox: &Arc<Outbox>,
    name: &str,
) -> io::Result<()> {
    // First of all: a client may wait for it, and measure how long.
    outbox.send(&wire::greeting(&context.version));
    outbox.start_writer(&format!("{name}/out"))?;
    let subscription = context.engine().subscribe(Arc::new(Follower { outbox: Arc::clone(outbox) }));
    let ending = Ending { context, outbox, subscription };
    let client = Client::new(&context.commands);
    let mut session = Session::new(Arc::clone(&client.commands), Limits::default());
    let mut buffer = vec![0; READ];
    while let Some(bytes) = read(connection, outbox, &mut buffer) {
        if !outbox.begin() {
            break;
        }
        let more = answer_all(context, &client, outbox, &mut session, bytes);
        outbox.end();
        if !more {
            break;
        }
    }
    context.engine().unsubscribe(subscription);
    outbox.drain();
    drop(ending);
    Ok(())
}

/// The next bytes of the client; `None` at its end.
pub(crate) fn read<'a>(
    mut connection: &Connection,
    outbox: &Outbox,
    buffer: &'a mut [u8],
) -> Option<&'a [u8]> {
    loop {
        match connection.read(buffer) {
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

/// Runs every command that `bytes` completes. False when no more are to be run.
fn answer_all(
    context: &Context,
    client: &Client,
    outbox: &Outbox,
    session: &mut Session<&'static Qmp>,
    mut bytes: &[u8],
) -> bool {
    while let Some(input) = session.feed_one(&mut bytes) {
        if !outbox.wait_for_room() {
            return false;
        }
        match input {
            Input::Reply(line) => outbox.reply(&line, session.negotiated()),
            Input::Call(call) if (call.command.is_lifecycle_query)(&call.args) => {
                answer_query(context, client, outbox, &call);
            }
            Input::Call(call) => outbox.reply(&answer(context, client, outbox.status().0, &call), true),
        }
    }
    true
}

/// Runs a command and gives its reply; `status` is what the client knows of the machine, if anything yet.
fn answer(context: &Context, client: &Client, status: Option<Arc<Status>>, call: &Call) -> String {
    let status = &status.unwrap_or_else(|| context.engine().status());
    call.reply(&(call.command.run)(&Env { context, status, client }, &call.args))
}

/// Answers a query with the status that goes with its place in the queue.
fn answer_query(context: &Context, client: &Client, outbox: &Outbox, call: &Call) {
    for _ in 0..TRIES {
        let (status, version) = outbox.status();
        if outbox.reply_at(version, &answer(context, client, status, call)) {
            return;
        }
    }
    outbox.reply_now(|status| answer(context, client, status, call));
}
