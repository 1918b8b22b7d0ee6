//! The destination's side: channels that are heard, invited or sent away, and that put memory where it belongs.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ram::Ram;
use stream::{Control, Header, Item};

use crate::arrivals::Arrivals;
use crate::channel::{Channel, Cutter, Reader, Writer};
use crate::form;
use crate::incoming::IncomingError;
use crate::open::{Doors, Reception};

/// How long who connects may take to say which channel it is.
const PATIENCE: Duration = Duration::from_secs(30);

/// A channel that has said which it is.
struct Guest {
    number: u16,
    reader: stream::Reader<Reader>,
    answers: stream::Writer<Writer>,
}

/// Channels at work. Dropped, they are cut and their threads have ended.
pub(crate) struct Lines {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    cutter: Cutter,
}

struct Shared {
    ram: Arc<Ram>,
    seen: Arc<Arrivals>,
    count: usize,
    /// Cut when one has failed.
    alarm: Cutter,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// The last round that all have ended.
    round: u32,
    /// Channels that have ended the next one.
    arrived: usize,
    /// Channels that have ended for good.
    ended: usize,
    failed: Option<IncomingError>,
    given_up: bool,
}

impl Lines {
    /// Waits until all `count` channels are there that belong to the one with `header`. None: that one has said something, or has
    /// gone, before.
    pub(crate) fn gather(
        doors: &Doors<'_>,
        header: &Header,
        count: u16,
        (ram, seen): (Arc<Ram>, Arc<Arrivals>),
        cutter: &Cutter,
    ) -> Result<Option<Self>, IncomingError> {
        let cutter = cutter.part()?;
        let (main, seal) = (header.clone(), Arc::clone(&doors.seal));
        let hear = move |channel| hear(seal(channel)?, &main, count);
        let mut reception = Reception::new(doors.listener, &cutter, Arc::new(hear))?;
        let mut guests: Vec<Guest> = Vec::new();
        while guests.len() < usize::from(count) {
            let Some(mut guest) = reception.next(Some(doors.main))? else { return Ok(None) };
            if guests.iter().any(|other| other.number == guest.number) {
                let text = format!("channel {} is there already", guest.number);
                tracing::error!("a connection is refused: {text}");
                let _ = guest.answers.control(&Control::Refused { text });
                continue;
            }
            // One that has gone meanwhile is missed when it is read.
            let _ = guest.answers.control(&Control::Accepted { features: Vec::new() });
            guests.push(guest);
        }
        drop(reception);
        let (state, news) = (Mutex::default(), Condvar::new());
        let (count, alarm) = (guests.len(), doors.alarm.clone());
        let shared = Arc::new(Shared { ram, seen, count, alarm, state, news });
        let mut lines = Self { shared, threads: Vec::new(), cutter };
        for guest in guests {
            let shared = Arc::clone(&lines.shared);
            let name = format!("multifdrecv_{}", guest.number);
            lines.threads.push(thread::Builder::new().name(name).spawn(move || shared.work(guest))?);
        }
        Ok(Some(lines))
    }

    /// The main channel has ended round `number`: waits until all have. Then they go on.
    pub(crate) fn round(&self, number: u32) -> Result<(), IncomingError> {
        // One that has ended does not come.
        let mut state = self.shared.wait(|state| state.arrived + state.ended >= self.shared.count)?;
        if number != state.round + 1 || state.ended > 0 {
            return Err(IncomingError::Misplaced("a round out of turn"));
        }
        (state.round, state.arrived) = (number, 0);
        self.shared.news.notify_all();
        Ok(())
    }

    /// Waits until all have ended for good.
    pub(crate) fn ended(&self) -> Result<(), IncomingError> {
        // One that has ended a round waits for the main channel to do so.
        let state = self.shared.wait(|state| state.arrived + state.ended >= self.shared.count)?;
        if state.arrived == 0 { Ok(()) } else { Err(IncomingError::Misplaced("READY before a round's end")) }
    }

    /// Why one of them has failed, if one has.
    pub(crate) fn failure(&self) -> Option<IncomingError> {
        self.shared.state().failed.take()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.shared.state().given_up = true;
        self.shared.news.notify_all();
        self.cutter.cut();
        for thread in self.threads.drain(..) {
            // It waits for nothing any more.
            let _ = thread.join();
        }
    }
}

/// Which channel somebody is; whoever is none is told so.
fn hear(mut channel: Channel, main: &Header, count: u16) -> io::Result<Guest> {
    let reader = channel.take_reader()?;
    let patience = reader.patience();
    patience.set(Some(Instant::now() + PATIENCE));
    let reader = stream::Reader::new(reader, &form::limits(stream::MAX_MEMORY)).map_err(io::Error::other)?;
    let header = reader.header();
    let number = header.channel;
    let answer = Header { two_way: true, channel: number, ..Header::new(main.id, main.memory) };
    let answers = stream::Writer::new(channel.take_writer()?, &answer);
    let mut answers = answers.map_err(io::Error::other)?;
    let stranger = if header.id != main.id {
        Some("this is not the migration that comes in here".to_owned())
    } else if !(1..=count).contains(&number) {
        Some(format!("there is no channel {number}, there are {count}"))
    } else if !header.two_way || header.memory != main.memory || header.parent.is_some() {
        Some("the channel is not of the machine that comes in here".to_owned())
    } else {
        None
    };
    if let Some(text) = stranger {
        let _ = answers.control(&Control::Refused { text: text.clone() });
        return Err(io::Error::other(text));
    }
    // From here on it belongs to the migration, which waits as long as it takes.
    patience.set(None);
    Ok(Guest { number, reader, answers })
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is` so, or one has failed.
    fn wait(&self, is: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, IncomingError> {
        let mut state = self.state();
        loop {
            if let Some(error) = state.failed.take() {
                return Err(error);
            }
            if is(&state) {
                return Ok(state);
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A channel's thread.
    fn work(&self, mut guest: Guest) {
        let Err(error) = self.take(&mut guest) else { return };
        // Who has hung up does not want to know.
        let _ = guest.answers.control(&Control::Refused { text: error.to_string() });
        let error = IncomingError::Lane { channel: guest.number, error: Box::new(error) };
        self.state().failed.get_or_insert(error);
        self.news.notify_all();
        self.alarm.cut();
    }

    fn take(&self, guest: &mut Guest) -> Result<(), IncomingError> {
        let mut round = 0;
        loop {
            match guest.reader.read()? {
                Item::Memory(piece) => self.seen.put(&self.ram, &piece)?,
                Item::Control(Control::Round { number }) if number == round + 1 => {
                    round = number;
                    if !self.arrive(round) {
                        return Ok(());
                    }
                }
                Item::End => {
                    self.state().ended += 1;
                    self.news.notify_all();
                    return Ok(());
                }
                _ => return Err(IncomingError::Misplaced("what is neither memory nor the end of a round")),
            }
        }
    }

    /// Waits until all have come so far. False: nobody waits for them any more.
    fn arrive(&self, round: u32) -> bool {
        let mut state = self.state();
        state.arrived += 1;
        self.news.notify_all();
        while state.round < round && !state.given_up {
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.given_up
    }
}
