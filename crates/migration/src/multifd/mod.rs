//! `multifd`: memory goes over several connections at once, beside the main one.
//!
//! ```text
//!   source                                                    destination
//!   main     HELLO{multifd=N} ────────────────────────────►   so many are expected here too
//!                             ◄────────────── ACCEPT{multifd=N}
//!   channel  Header{id of the main one, number 1 ... N} ──►   invited, and not here yet
//!                             ◄──────────────────── ACCEPT    or REFUSED, closed and not counted
//!   channel  memory with content, round 1 ────────────────►   put where it belongs
//!   main     marks of zero, round 1 ──────────────────────►
//!   channel  ROUND 1 ─────────────────────────────────────►   waits ┐ until each has come this far:
//!   main     ROUND 1 ─────────────────────────────────────►   waits ┘ then all go on
//!   ...
//!   channel  END, when the machine stands ────────────────►
//!   main     sections, READY ... as with one connection       READY counts once each channel has ended
//! ```
//!
//! Into a mapped file (`mapped-ram`) there is one writer all the same: each page has its place there, whoever writes it.
//!
//! Invariants:
//! * a page goes over one connection in a round, and no connection is read past the end of a round before all are there: what
//!   is older never comes over what is newer;
//! * a channel that fails, on either side, fails the migration: before COMMIT, so the source goes on;
//! * a channel that was not invited is told so, closed and forgotten;
//! * what waits to be sent is bounded by [`AHEAD`] runs of pages a channel.

mod receive;
mod send;

pub(crate) use receive::Lines;
pub(crate) use send::{Lanes, Plan};

/// Runs of pages that wait for a channel, at most.
const AHEAD: usize = 2;

/// What a feature's name in HELLO begins with.
const FEATURE: &str = "multifd=";

/// The name by which both sides agree in HELLO on so many channels.
pub(crate) fn feature(channels: u16) -> String {
    format!("{FEATURE}{channels}")
}

/// The number of channels in the names of features, if it is there.
pub(crate) fn channels(features: &[String]) -> Option<u16> {
    features.iter().find_map(|name| name.strip_prefix(FEATURE)?.parse().ok())
}
