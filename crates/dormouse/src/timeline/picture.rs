//! What is where in the picture.
//!
//! Bounded whatever the log: bands and marks that would fall on the same pixel are drawn once, labels that find no room are
//! left out (what they say is the mark's tooltip).

use std::fmt::Write as _;

use runstate::RunState;

use super::log::{Moment, Power};
use super::scale::{Scale, seconds};
use super::svg::{Anchor, Svg};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 78.0;
const PLOT_WIDTH: f64 = 898.0;
const RIGHT: f64 = LEFT + PLOT_WIDTH;
/// Rows of labels above the plot, the lowest first.
const ROWS: usize = 3;
const ROW: f64 = 17.0;
const TOP: f64 = 136.0;
const PLOT_HEIGHT: f64 = 260.0;
const BOTTOM: f64 = TOP + PLOT_HEIGHT;
const LANE: f64 = 22.0;
const HOST_LANE: f64 = BOTTOM + 10.0;
const GUEST_LANE: f64 = HOST_LANE + LANE + 5.0;
const AXIS: f64 = GUEST_LANE + LANE;
const LEGEND: f64 = AXIS + 66.0;
/// A letter's width at 12 pixels, on average and rather too much.
const LETTER: f64 = 6.7;
/// Marks of a kind stand at least so far apart.
const APART: f64 = 3.0;
/// The most points of the curve: more than it has pixels to go through.
const MOST_POINTS: usize = 20_000;

/// A colour, and one that is read on it.
type Paint = (&'static str, &'static str);

const DARK: &str = "#10161d";
const LIGHT: &str = "#ffffff";

fn state_paint(state: RunState) -> Paint {
    match state {
        RunState::Running => ("#43a970", DARK),
        RunState::Suspended => ("#3f7fd6", LIGHT),
        RunState::Paused => ("#e3ae3c", DARK),
        RunState::Prelaunch => ("#a3adb8", DARK),
        RunState::Shutdown => ("#6f5da0", LIGHT),
        RunState::Debug => ("#bf6fd0", DARK),
        RunState::IoError => ("#d9534f", LIGHT),
        RunState::InternalError => ("#a8201a", LIGHT),
        RunState::GuestPanicked => ("#e8722c", DARK),
        RunState::Watchdog => ("#b5541c", LIGHT),
        RunState::SaveVm => ("#2aa9a4", DARK),
        RunState::RestoreVm => ("#127d86", LIGHT),
        RunState::InMigrate => ("#8fb7cf", DARK),
        RunState::FinishMigrate => ("#5f8fb0", LIGHT),
        RunState::PostMigrate => ("#a79bc0", DARK),
        RunState::Colo => ("#8a8f94", LIGHT),
    }
}

fn power_paint(power: Power) -> Paint {
    match power {
        Power::Awake => ("#8fd0aa", DARK),
        Power::Asleep => ("#3f7fd6", LIGHT),
        Power::Off => ("#6f5da0", LIGHT),
        Power::Broken => ("#a8201a", LIGHT),
    }
}

/// What is marked on the curve; the most telling first, which find room for their labels first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Wake,
    Reset,
    End,
    Trouble,
    Sleep,
    Button,
    Stop,
    Resume,
    Other,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Stop,
        Self::Resume,
        Self::Sleep,
        Self::Wake,
        Self::Reset,
        Self::Button,
        Self::Trouble,
        Self::End,
        Self::Other,
    ];

    fn of(event: &str) -> Self {
        match event {
            "STOP" => Self::Stop,
            "RESUME" => Self::Resume,
            "SUSPEND" => Self::Sleep,
            "WAKEUP" => Self::Wake,
            "RESET" => Self::Reset,
            "SHUTDOWN" => Self::End,
            "POWERDOWN" => Self::Button,
            "WATCHDOG" | "GUEST_PANICKED" | "BLOCK_IO_ERROR" => Self::Trouble,
            _ => Self::Other,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Resume => "RESUME",
            Self::Sleep => "SUSPEND",
            Self::Wake => "WAKEUP",
            Self::Reset => "RESET",
            Self::Button => "power button",
            Self::Trouble => "trouble",
            Self::End => "SHUTDOWN",
            Self::Other => "other event",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Self::Stop => "#c98a00",
            Self::Resume => "#2b9158",
            Self::Sleep => "#3f7fd6",
            Self::Wake => "#e0457b",
            Self::Reset => "#8e44ad",
            Self::Button | Self::Other => "#7b8794",
            Self::Trouble => "#d9534f",
            Self::End => "#6f5da0",
        }
    }

    /// Its shape, as a path around (x, y).
    fn shape(self, x: f64, y: f64) -> String {
        match self {
            Self::Stop => format!("M{:.2} {:.2}h9v9h-9z", x - 4.5, y - 4.5),
            Self::Resume => format!("M{:.2} {:.2}l10 5.5l-10 5.5z", x - 4.0, y - 5.5),
            Self::Wake => format!("M{x:.2} {:.2}l6 10.5h-12z", y - 6.5),
            Self::Reset => format!("M{x:.2} {:.2}l6.2 6.2l-6.2 6.2l-6.2 -6.2z", y - 6.2),
            Self::End | Self::Trouble => {
                format!("M{:.2} {:.2}h5l3.5 3.5v5l-3.5 3.5h-5l-3.5 -3.5v-5z", x - 2.5, y - 6.0)
            }
            Self::Sleep | Self::Button | Self::Other => {
                format!("M{:.2} {y:.2}a5.2 5.2 0 1 0 10.4 0a5.2 5.2 0 1 0 -10.4 0z", x - 5.2)
            }
        }
    }
}

struct Mark<'a> {
    kind: Kind,
    x: f64,
    y: f64,
    moment: &'a Moment,
}

impl Mark<'_> {
    fn label(&self) -> String {
        match (self.kind, &self.moment.woken_by, &self.moment.event) {
            (Kind::Wake, Some(source), _) => format!("wake: {source}"),
            (Kind::Stop, ..) => "stop".to_owned(),
            (Kind::Resume, ..) => "resume".to_owned(),
            (Kind::Sleep, ..) => "asleep".to_owned(),
            (_, _, Some(event)) => event.to_lowercase().replace('_', " "),
            _ => self.kind.name().to_lowercase(),
        }
    }
}

/// Draws the life that the moments, of which there is at least one, tell of.
pub(super) fn draw(moments: &[Moment]) -> String {
    let (Some(first), Some(last)) = (moments.first(), moments.last()) else { return String::new() };
    let low = moments.iter().map(|moment| moment.guest_ns).min().unwrap_or(0);
    let high = moments.iter().map(|moment| moment.guest_ns).max().unwrap_or(0);
    let x = Scale::new(first.host_ns, last.host_ns, LEFT, PLOT_WIDTH);
    let y = Scale::new(low, high, BOTTOM, -PLOT_HEIGHT);
    let mut svg = Svg::new();
    let summary = Summary::of(moments);
    svg.text(LEFT, 36.0, Anchor::Start, "class=\"title\"", "Guest time against host time");
    svg.text(LEFT, 58.0, Anchor::Start, "class=\"muted\"", &summary.line());
    bands(&mut svg, moments, &x);
    axes(&mut svg, &x, &y);
    curve(&mut svg, moments, &x, &y);
    let marks = marks(moments, &x, &y);
    labels(&mut svg, &marks);
    for mark in &marks {
        let attributes = format!("class=\"mark\" fill=\"{}\"", mark.kind.colour());
        let at = seconds(mark.moment.host_ns.saturating_sub(first.host_ns));
        let tooltip = format!("{}, {at}, record {}", mark.label(), mark.moment.sequence);
        svg.path(&mark.kind.shape(mark.x, mark.y), &attributes, Some(&tooltip));
    }
    let height = legend(&mut svg, moments, &marks);
    svg.finish(WIDTH, height, "Guest time against host time of a virtual machine", &summary.description())
}

/// Stretches of moments that agree in what `of` gives: from, to, what.
fn stretches<T: PartialEq + Copy>(moments: &[Moment], of: impl Fn(&Moment) -> T) -> Vec<(u64, u64, T)> {
    let mut all: Vec<(u64, u64, T)> = Vec::new();
    let ends = moments.iter().skip(1).chain(moments.last()).map(|moment| moment.host_ns);
    for (moment, end) in moments.iter().zip(ends) {
        match all.last_mut() {
            Some((_, last, what)) if *what == of(moment) => *last = end,
            _ => all.push((moment.host_ns, end, of(moment))),
        }
    }
    all
}

fn bands(svg: &mut Svg, moments: &[Moment], x: &Scale) {
    lane(svg, stretches(moments, |moment| moment.state), x, HOST_LANE, |state| {
        (state_paint(state), state.as_str(), true)
    });
    lane(svg, stretches(moments, |moment| moment.power), x, GUEST_LANE, |power| {
        (power_paint(power), power.name(), false)
    });
    let label =
        |svg: &mut Svg, y: f64, text| svg.text(LEFT - 10.0, y + 15.0, Anchor::End, "class=\"muted\"", text);
    label(svg, HOST_LANE, "machine");
    label(svg, GUEST_LANE, "guest");
}

/// A lane of bands with their names where there is room; those of the machine's state stand behind the plot too.
fn lane<T: Copy>(
    svg: &mut Svg,
    stretches: Vec<(u64, u64, T)>,
    x: &Scale,
    top: f64,
    look: impl Fn(T) -> (Paint, &'static str, bool),
) {
    let mut thin = f64::MIN;
    for (from, to, what) in stretches {
        let (left, right) = (x.at(from), x.at(to));
        // One that is too short to be seen is a pixel wide, unless that pixel shows such a one already.
        let width = (right - left).max(1.0);
        if right - left < 1.0 {
            if left - thin < 1.0 {
                continue;
            }
            thin = left;
        }
        let ((fill, ink), name, behind) = look(what);
        if behind {
            svg.rect(left, TOP, width, PLOT_HEIGHT, &format!("fill=\"{fill}\" fill-opacity=\"0.2\""));
        }
        svg.rect(left, top, width, LANE, &format!("fill=\"{fill}\""));
        if name.len() as f64 * LETTER + 8.0 < width {
            svg.text(left + width / 2.0, top + 15.0, Anchor::Middle, &format!("style=\"fill:{ink}\""), name);
        }
    }
}

fn axes(svg: &mut Svg, x: &Scale, y: &Scale) {
    for (at, label) in y.ticks(6.0) {
        svg.line(LEFT, at, RIGHT, at, "grid");
        svg.text(LEFT - 10.0, at + 4.0, Anchor::End, "", &label);
    }
    for (at, label) in x.ticks(10.0) {
        svg.line(at, TOP, at, BOTTOM, "grid");
        svg.line(at, AXIS, at, AXIS + 5.0, "axis");
        svg.text(at, AXIS + 20.0, Anchor::Middle, "", &label);
    }
    svg.line(LEFT, TOP, LEFT, AXIS, "axis");
    svg.line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis");
    svg.line(LEFT, AXIS, RIGHT, AXIS, "axis");
    svg.text(LEFT + PLOT_WIDTH / 2.0, AXIS + 40.0, Anchor::Middle, "class=\"muted\"", "host time, s");
    let middle = TOP + PLOT_HEIGHT / 2.0;
    let turned = format!("class=\"muted\" transform=\"rotate(-90 22 {middle:.2})\"");
    svg.text(22.0, middle, Anchor::Middle, &turned, "guest time, s");
}

fn curve(svg: &mut Svg, moments: &[Moment], x: &Scale, y: &Scale) {
    let mut path = String::new();
    let (mut count, mut last) = (0, (f64::MIN, f64::MIN));
    let end = moments.len().saturating_sub(1);
    for (index, moment) in moments.iter().enumerate() {
        let (px, py) = (x.at(moment.host_ns), y.at(moment.guest_ns));
        let moved = (px - last.0).abs() >= 0.5 || (py - last.1).abs() >= 0.5;
        if (moved && count < MOST_POINTS) || index == end {
            let _ = write!(path, "{}{px:.2} {py:.2}", if count == 0 { "M" } else { "L" });
            (count, last) = (count + 1, (px, py));
        }
    }
    svg.path(&path, "class=\"curve\"", None);
}

/// The events, at their places on the curve, those apart that are of a kind.
fn marks<'a>(moments: &'a [Moment], x: &Scale, y: &Scale) -> Vec<Mark<'a>> {
    let mut marks: Vec<Mark<'a>> = Vec::new();
    let mut last: Vec<(Kind, f64)> = Vec::new();
    for moment in moments {
        let Some(event) = &moment.event else { continue };
        let mark = Mark { kind: Kind::of(event), x: x.at(moment.host_ns), y: y.at(moment.guest_ns), moment };
        let known = last.iter_mut().find(|(kind, _)| *kind == mark.kind);
        match known {
            Some((_, before)) if mark.x - *before < APART => continue,
            Some((_, before)) => *before = mark.x,
            None => last.push((mark.kind, mark.x)),
        }
        marks.push(mark);
    }
    marks
}

/// A label that has its place: its row, its extent, and the mark that its line leads to.
struct Placed {
    row: usize,
    left: f64,
    right: f64,
    mark: f64,
}

/// Whether a label may stand there: apart from the others of its row, not on the line of one above it, and its own line on
/// none below.
fn is_free(placed: &[Placed], new: &Placed) -> bool {
    placed.iter().all(|other| match other.row.cmp(&new.row) {
        std::cmp::Ordering::Equal => new.right + 8.0 <= other.left || other.right + 8.0 <= new.left,
        std::cmp::Ordering::Greater => other.mark < new.left - 3.0 || other.mark > new.right + 3.0,
        std::cmp::Ordering::Less => new.mark < other.left - 3.0 || new.mark > other.right + 3.0,
    })
}

fn labels(svg: &mut Svg, marks: &[Mark<'_>]) {
    let mut order: Vec<&Mark<'_>> = marks.iter().collect();
    order.sort_by_key(|mark| mark.kind);
    let mut placed: Vec<Placed> = Vec::new();
    for mark in order {
        let label = mark.label();
        let half = label.chars().count() as f64 * LETTER / 2.0;
        let middle =
            mark.x.clamp(LEFT + half.min(PLOT_WIDTH / 2.0), (RIGHT - half).max(LEFT + PLOT_WIDTH / 2.0));
        let place = |row| Placed { row, left: middle - half, right: middle + half, mark: mark.x };
        let Some(place) = (0..ROWS).map(place).find(|place| is_free(&placed, place)) else { continue };
        let y = TOP - 8.0 - place.row as f64 * ROW;
        svg.line(mark.x, y + 3.0, mark.x, mark.y, "lead");
        svg.text(middle, y, Anchor::Middle, "", &label);
        placed.push(place);
    }
}

/// The names of what is there; returns the height of the page.
fn legend(svg: &mut Svg, moments: &[Moment], marks: &[Mark<'_>]) -> f64 {
    let mut pen = (LEFT, LEGEND);
    let mut entry = |svg: &mut Svg, name: &str, draw: &dyn Fn(&mut Svg, f64, f64)| {
        let width = 22.0 + name.chars().count() as f64 * LETTER + 16.0;
        if pen.0 + width > RIGHT + 16.0 {
            pen = (LEFT, pen.1 + 22.0);
        }
        draw(svg, pen.0, pen.1);
        svg.text(pen.0 + 20.0, pen.1 + 4.0, Anchor::Start, "", name);
        pen.0 += width;
    };
    let patch = |fill: &'static str| {
        move |svg: &mut Svg, x: f64, y: f64| {
            svg.rect(x, y - 6.0, 13.0, 13.0, &format!("rx=\"3\" fill=\"{fill}\""))
        }
    };
    for state in RunState::ALL {
        if moments.iter().any(|moment| moment.state == state) {
            entry(svg, state.as_str(), &patch(state_paint(state).0));
        }
    }
    for power in Power::ALL {
        if moments.iter().any(|moment| moment.power == power) {
            entry(svg, &format!("guest {}", power.name()), &patch(power_paint(power).0));
        }
    }
    for kind in Kind::ALL {
        if marks.iter().any(|mark| mark.kind == kind) {
            entry(svg, kind.name(), &|svg, x, y| {
                let attributes = format!("class=\"mark\" fill=\"{}\"", kind.colour());
                svg.path(&kind.shape(x + 6.5, y), &attributes, None);
            });
        }
    }
    pen.1 + 30.0
}

/// The life in numbers.
struct Summary {
    records: usize,
    missing: u64,
    host_ns: u64,
    guest_ns: u64,
    states: Vec<(RunState, u64)>,
    counts: Vec<(&'static str, usize)>,
}

impl Summary {
    fn of(moments: &[Moment]) -> Self {
        let ends = |of: fn(&Moment) -> u64| {
            let (first, last) = (moments.first().map_or(0, of), moments.last().map_or(0, of));
            last.saturating_sub(first)
        };
        let spent = stretches(moments, |moment| moment.state);
        let state_ns = |state| {
            spent
                .iter()
                .filter(|(.., other)| *other == state)
                .fold(0, |sum: u64, (from, to, _)| sum + (to - from))
        };
        let count =
            |event: &str| moments.iter().filter(|moment| moment.event.as_deref() == Some(event)).count();
        // Not by SUSPEND: one is told after each RESUME of a guest that sleeps on.
        let powers = stretches(moments, |moment| moment.power);
        let sleeps = powers.iter().filter(|(.., power)| *power == Power::Asleep).count();
        let counts = [
            ("stops", count("STOP")),
            ("sleeps", sleeps),
            ("wakes", count("WAKEUP")),
            ("resets", count("RESET")),
        ];
        Self {
            records: moments.len(),
            missing: (ends(|moment| moment.sequence) + 1).saturating_sub(moments.len() as u64),
            host_ns: ends(|moment| moment.host_ns),
            guest_ns: ends(|moment| moment.guest_ns),
            states: RunState::ALL
                .map(|state| (state, state_ns(state)))
                .into_iter()
                .filter(|(_, ns)| *ns > 0)
                .collect(),
            counts: counts.into_iter().filter(|(_, count)| *count > 0).collect(),
        }
    }

    fn line(&self) -> String {
        let mut parts =
            vec![format!("{} of host time, {} of guest time", seconds(self.host_ns), seconds(self.guest_ns))];
        parts.extend(self.counts.iter().map(|(name, count)| {
            let name = if *count == 1 { name.trim_end_matches('s') } else { name };
            format!("{count} {name}")
        }));
        if self.missing > 0 {
            parts.push(format!("{} records missing", self.missing));
        }
        parts.join(" · ")
    }

    fn description(&self) -> String {
        let states: Vec<String> =
            self.states.iter().map(|(state, ns)| format!("{state} {}", seconds(*ns))).collect();
        format!(
            "A curve of guest time over host time, with the machine's states as bands behind it and its events as marks. \
             {}. Host time by state: {}. Drawn from {} records.",
            self.line(),
            states.join(", "),
            self.records
        )
    }
}
