//! The machine's figures as text that Prometheus and its kin read.
//!
//! A text on demand and no endpoint of its own: whoever scrapes asks a monitor. QEMU's `query-stats` has a fixed list of
//! providers, none of which this program is.

use std::fmt::Write as _;

use engine::Durations;
use qmp::Args;
use qmp::schema::QapiEnum as _;

use super::{Command, Env, RunState, command};
use crate::hmp::Human;
use crate::lifecycle::XLifecycle;

pub(super) static COMMANDS: &[Command] = &[command! {
    /// Figures of the machine as text in the Prometheus exposition format: time in each state, latencies of stop and cont,
    /// instructions and exits of each hart, wakes by source, events told.
    "x-query-metrics" [] -> String = |env: &Env<'_>, _: &Args| Ok(text(env))
}
.human(Human::info(&["metrics"], "show figures of the machine", |screen, _| {
    let text = text(screen.env);
    text.lines().for_each(|line| screen.print(line));
    Ok(())
}))];

/// A text that is being written.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a family of figures.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// A label's value as the format wants it.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Nanoseconds as seconds, exactly.
fn seconds(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

fn text(env: &Env<'_>) -> String {
    let life = XLifecycle::new(env);
    let mut page = Page::default();
    states(&mut page, &life);
    latencies(&mut page, env);
    harts(&mut page, env);
    wakes(&mut page, &life);
    told(&mut page, env);
    page.0
}

fn states(page: &mut Page, life: &XLifecycle) {
    page.family("dormouse_state", "gauge", "1 for the state that the machine is in.");
    for state in RunState::ALL {
        let value = u8::from(*state == life.state);
        page.value("dormouse_state", &[("state", state.name())], value);
    }
    page.family("dormouse_state_seconds_total", "counter", "Host time spent in each state.");
    for time in &life.state_times {
        page.value("dormouse_state_seconds_total", &[("state", time.state.name())], seconds(time.host_ns));
    }
    page.family(
        "dormouse_power_seconds_total",
        "counter",
        "Host time spent at each guest power, held or not.",
    );
    for time in &life.power_times {
        page.value("dormouse_power_seconds_total", &[("power", time.power.name())], seconds(time.host_ns));
    }
    page.family("dormouse_guest_seconds_total", "counter", "Guest time.");
    page.value("dormouse_guest_seconds_total", &[], seconds(life.guest_clock.guest_ns));
    page.family("dormouse_guest_awake_seconds_total", "counter", "Guest time that the guest was awake.");
    page.value("dormouse_guest_awake_seconds_total", &[], seconds(life.guest_clock.awake_ns));
    page.family("dormouse_epoch", "counter", "Resets and loads of the machine.");
    page.value("dormouse_epoch", &[], life.epoch);
}

fn latencies(page: &mut Page, env: &Env<'_>) {
    let name = "dormouse_request_duration_seconds";
    page.family(name, "histogram", "How long stop and cont took, from being asked to being answered.");
    let latencies = env.engine().latencies();
    for (request, durations) in [("stop", &latencies.stop), ("cont", &latencies.cont)] {
        histogram(page, name, request, durations);
    }
    let name = "dormouse_request_duration_max_seconds";
    page.family(name, "gauge", "The longest that stop and cont ever took.");
    for (request, durations) in [("stop", &latencies.stop), ("cont", &latencies.cont)] {
        page.value(name, &[("request", request)], seconds(durations.max_ns));
    }
}

fn histogram(page: &mut Page, name: &str, request: &str, durations: &Durations) {
    let bucket = format!("{name}_bucket");
    for (bound, count) in durations.cumulative() {
        page.value(&bucket, &[("request", request), ("le", &seconds(bound))], count);
    }
    page.value(&bucket, &[("request", request), ("le", "+Inf")], durations.count);
    page.value(&format!("{name}_sum"), &[("request", request)], seconds(durations.sum_ns));
    page.value(&format!("{name}_count"), &[("request", request)], durations.count);
}

fn harts(page: &mut Page, env: &Env<'_>) {
    let figures = env.engine().hart_figures();
    page.family("dormouse_instructions_total", "counter", "Instructions retired by each hart.");
    for hart in &figures {
        page.value("dormouse_instructions_total", &[("hart", &hart.id.to_string())], hart.retired);
    }
    page.family("dormouse_exits_total", "counter", "How often each hart left the guest, by the reason.");
    for hart in &figures {
        for (kind, count) in hart.exits() {
            page.value("dormouse_exits_total", &[("hart", &hart.id.to_string()), ("kind", kind)], count);
        }
    }
}

fn wakes(page: &mut Page, life: &XLifecycle) {
    let name = "dormouse_wakes_total";
    page.family(name, "counter", "Wakes by source, and what became of them.");
    for source in &life.wake_sources {
        let counts = [
            ("delivered", source.delivered),
            ("latched", source.latched),
            ("forbidden", source.forbidden),
            ("masked", source.masked),
        ];
        for (fate, count) in counts {
            page.value(name, &[("source", &source.source), ("fate", fate)], count);
        }
    }
}

fn told(page: &mut Page, env: &Env<'_>) {
    page.family("dormouse_events_total", "counter", "Events told, by name.");
    for (name, count) in env.engine().event_counts() {
        page.value("dormouse_events_total", &[("event", name)], count);
    }
    page.family("dormouse_records_total", "counter", "Records of the machine's life.");
    page.value("dormouse_records_total", &[], env.status.sequence);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_a_line_and_labels_are_escaped() {
        let mut page = Page::default();
        page.family("a_total", "counter", "What.");
        page.value("a_total", &[("by", "x\"y\\z\n")], 3);
        page.value("a_total", &[], seconds(1_000_000_001));
        let expected = "# HELP a_total What.\n# TYPE a_total counter\na_total{by=\"x\\\"y\\\\z\\n\"} 3\na_total 1.000000001\n";
        assert_eq!(page.0, expected);
    }
}
