//! The human monitor on a stream: greeting, prompt, editing, completion, one line after the other.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use backends::stream::Connection;

use super::complete::{Completion, complete};
use super::editor::{Action, Editor};
use super::run_line;
use crate::client::Client;
use crate::commands::{Env, Looks};
use crate::context::Context;
use crate::control::read;
use crate::outbox::Outbox;

/// Scripts wait for it.
const PROMPT: &str = "(qemu) ";
const READ: usize = 4096;
/// The width that lists of candidates are laid out for.
const COLUMNS: usize = 80;

/// Tells a session on a multiplexer's port when the keyboard comes to it.
#[derive(Default)]
pub(crate) struct Focus {
    state: Mutex<FocusState>,
}

#[derive(Default)]
struct FocusState {
    here: bool,
    session: Option<Weak<Terminal>>,
}

impl Focus {
    fn lock(&self) -> MutexGuard<'_, FocusState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The focus came or went. Never blocks: called on the multiplexer's thread.
    pub(crate) fn changed(&self, here: bool) {
        let mut state = self.lock();
        state.here = here;
        let session = state.session.as_ref().and_then(Weak::upgrade);
        drop(state);
        if let Some(session) = session.filter(|_| here) {
            session.show();
        }
    }

    fn attach(&self, session: &Arc<Terminal>) {
        let mut state = self.lock();
        state.session = Some(Arc::downgrade(session));
        let here = state.here;
        drop(state);
        if here {
            session.show();
        }
    }
}

/// A session.
pub(crate) struct Terminal {
    outbox: Arc<Outbox>,
    greeting: String,
    typing: Mutex<Typing>,
}

#[derive(Default)]
struct Typing {
    editor: Editor,
    greeted: bool,
}

impl Terminal {
    /// Serves a client to its end. With `focus` it is greeted when the keyboard first comes to it, else at once.
    ///
    /// # Errors
    /// The host has no thread for the output.
    pub(crate) fn serve(
        context: &Context,
        client: Client,
        outbox: &Arc<Outbox>,
        connection: &Connection,
        name: &str,
        focus: Option<&Focus>,
    ) -> io::Result<()> {
        let greeting = format!("{} monitor - type 'help' for more information\r\n", context.config.program);
        let session = Arc::new(Self { outbox: Arc::clone(outbox), greeting, typing: Mutex::default() });
        match focus {
            Some(focus) => focus.attach(&session),
            None => session.show(),
        }
        outbox.start_writer(&format!("{name}/out"))?;
        let (mut buffer, mut fds) = (vec![0; READ], Vec::new());
        while let Some(bytes) = read(connection, outbox, &mut buffer, &mut fds) {
            client.keep(&mut fds);
            if !outbox.begin() {
                break;
            }
            let more = bytes.iter().all(|&byte| {
                let room = outbox.wait_for_room();
                if room {
                    session.byte(context, &client, byte);
                }
                room
            });
            outbox.end();
            if !more {
                break;
            }
        }
        outbox.drain();
        Ok(())
    }

    fn typing(&self) -> MutexGuard<'_, Typing> {
        self.typing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the greeting the first time, and prompt and line always; nothing to a terminal that does not keep up, as
    /// nobody there would see it and the keyboard can come and go without end.
    fn show(&self) {
        if self.outbox.is_behind() {
            return;
        }
        let mut typing = self.typing();
        let mut out = if typing.greeted { "\r\n".to_owned() } else { self.greeting.clone() };
        typing.greeted = true;
        out.push_str(PROMPT);
        typing.editor.redraw(&mut out);
        self.outbox.send(&out);
    }

    /// Takes in a byte, and runs the line that it completes.
    fn byte(&self, context: &Context, client: &Client, byte: u8) {
        let mut typing = self.typing();
        let mut out = String::new();
        let action = typing.editor.feed(byte, &mut out);
        match action {
            None => {}
            Some(Action::Complete) => show_completion(&mut typing.editor, &mut out),
            Some(Action::Redraw) => {
                out.push_str(PROMPT);
                typing.editor.redraw(&mut out);
            }
            Some(Action::Line(line)) => {
                let history = typing.editor.history();
                drop(typing);
                self.outbox.reply(&out, false);
                self.line(context, client, &history, &line);
                return;
            }
        }
        if !out.is_empty() {
            self.outbox.reply(&out, false);
        }
    }

    fn line(&self, context: &Context, client: &Client, history: &[String], line: &str) {
        let status = context.engine().status();
        let env = Env { context, status: &status, client, looks: &Looks::default() };
        let mut text = run_line(&env, 0, history, line);
        text.push_str(PROMPT);
        self.outbox.reply(&text, false);
    }
}

/// Completes as far as there is no choice; where there is one, shows it.
fn show_completion(editor: &mut Editor, out: &mut String) {
    let before = editor.before_cursor();
    let completion = complete(&before);
    editor.insert(completion.common(), out);
    match completion.candidates.len() {
        0 => {}
        1 => editor.insert(" ", out),
        _ => {
            out.push_str("\r\n");
            show_candidates(&completion, out);
            out.push_str(PROMPT);
            editor.redraw(out);
        }
    }
}

/// The candidates, in columns.
fn show_candidates(completion: &Completion<'_>, out: &mut String) {
    let width = completion.candidates.iter().map(|candidate| candidate.len()).max().unwrap_or(0) + 2;
    for row in completion.candidates.chunks((COLUMNS / width).max(1)) {
        for candidate in row {
            // Writing into a String cannot fail.
            let _ = write!(out, "{candidate:<width$}");
        }
        out.push_str("\r\n");
    }
}
