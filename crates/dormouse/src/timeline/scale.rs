//! From nanoseconds to places on the page, and the ticks between.

/// An axis: times from `from` on, `span` long, mapped to `length` pixels from `start` in the direction of its sign.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    from: u64,
    span: f64,
    start: f64,
    length: f64,
}

const NS: f64 = 1e9;

impl Scale {
    /// The axis from `from` to `to`, both in ns. An empty one is a second long.
    pub(super) fn new(from: u64, to: u64, start: f64, length: f64) -> Self {
        let span = to.saturating_sub(from);
        let span = if span == 0 { NS } else { span as f64 };
        Self { from, span, start, length }
    }

    /// Where `ns` is.
    pub(super) fn at(&self, ns: u64) -> f64 {
        self.start + ns.saturating_sub(self.from) as f64 / self.span * self.length
    }

    /// Round steps, as place and label in seconds: at most `most` + 1.
    pub(super) fn ticks(&self, most: f64) -> Vec<(f64, String)> {
        let span = self.span / NS;
        let raw = span / most;
        let magnitude = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * magnitude)
            .find(|step| *step >= raw)
            .unwrap_or(raw);
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let count = (span / step + 1e-9).floor() as u32;
        (0..=count)
            .map(|tick| {
                let seconds = f64::from(tick) * step;
                (self.start + seconds / span * self.length, format!("{seconds:.decimals$}"))
            })
            .collect()
    }
}

/// A time in seconds for people.
pub(super) fn seconds(ns: u64) -> String {
    let seconds = ns as f64 / NS;
    match ns {
        0..10_000_000 => format!("{seconds:.6} s"),
        10_000_000..1_000_000_000 => format!("{seconds:.3} s"),
        1_000_000_000..100_000_000_000 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.0} s"),
    }
}
