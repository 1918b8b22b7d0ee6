//! Where every request leads, and what becomes of two that are under way at once.

use runstate::*;

/// Where every request leads, by the numbers of the values: what the walk has found out, for those who look further.
pub struct Map {
    asked: Vec<Request>,
    /// A row for each value.
    pub steps: Vec<Step>,
    /// Whether a value waits for a report.
    pub waits: Vec<bool>,
}

/// The number of the value that a request leads to, and whether a guest's or device's request made before it is stale then.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Step(pub u32);

impl Step {
    pub const REFUSED: Step = Step(u32::MAX);
    /// Stays in the queue until a report has come.
    pub const WAITS: Step = Step(u32::MAX - 1);
    pub const STALE: u32 = 1 << 31;

    fn is_refused(self) -> bool {
        self == Step::REFUSED || self == Step::WAITS
    }

    fn to(self, from: usize) -> usize {
        if self.is_refused() { from } else { (self.0 & !Step::STALE) as usize }
    }

    fn makes_stale(self) -> bool {
        !self.is_refused() && self.0 & Step::STALE != 0
    }
}

/// What became of all pairs of requests that were made at the same moment.
#[derive(Debug, Default)]
pub struct Pairs {
    pub pairs: u64,
    /// Both orders, and the second at every point of what the first leads to.
    pub interleavings: u64,
    /// Pairs whose two orders lead to one value.
    pub alike: u64,
    /// Interleavings in which the second comes while a report is awaited.
    pub in_a_lift: u64,
}

impl Map {
    pub fn new(asked: Vec<Request>) -> Map {
        Map { asked, steps: vec![], waits: vec![] }
    }

    fn step(&self, value: usize, request: usize) -> Step {
        self.steps[value * self.asked.len() + request]
    }

    /// The value and all that reports make of it, one after the other, whatever they say.
    fn stages(&self, value: usize, reports: &[usize], out: &mut Vec<usize>) {
        out.clear();
        out.push(value);
        let mut at = 0;
        while let Some(&value) = out.get(at) {
            at += 1;
            if self.waits[value] {
                for &report in reports {
                    let next = self.step(value, report).to(value);
                    if !out.contains(&next) {
                        out.push(next);
                    }
                }
            }
        }
    }

    /// Two requests are under way in every value: either comes first, and the other when that is done, or at any point in
    /// between. Each of the ways ends in a value that the walk knows, which waits for nothing once all reports are in.
    pub fn check_pairs(&self) -> Pairs {
        let is_report = |at: &usize| matches!(self.asked[*at], Request::Engine(_));
        let (reports, requests): (Vec<usize>, Vec<usize>) = (0..self.asked.len()).partition(is_report);
        let carries_epoch: Vec<bool> = self
            .asked
            .iter()
            .map(|request| matches!(request, Request::Guest(_) | Request::Device(_)))
            .collect();
        let values = self.waits.len();
        // Where a value comes to rest when all goes well: each step of a lift, no wake due.
        let mut rest: Vec<u32> = Vec::with_capacity(values);
        let mut stages = vec![];
        for value in 0..values {
            self.stages(value, &reports, &mut stages);
            let settled = stages.iter().filter(|stage| !self.waits[**stage]).count();
            assert!(settled > 0, "a value never comes to rest");
            let (mut at, mut steps) = (value, 0);
            while self.waits[at] {
                // In the order of `reports`: prepared, or else started with nothing due.
                let next = [0, 2].map(|which| self.step(at, reports[which])).into_iter();
                at = next
                    .filter(|step| !step.is_refused())
                    .map(|step| step.to(at))
                    .find(|next| *next != at)
                    .expect("a report is taken");
                steps += 1;
                assert!(steps < 4, "reports without end");
            }
            rest.push(at as u32);
        }
        let after = |value: usize, first: Step, request: usize| {
            let stale = first.makes_stale() && carries_epoch[request];
            let value = rest[value] as usize;
            if stale { value } else { rest[self.step(value, request).to(value)] as usize }
        };
        self.check_waiting(&requests);
        let mut found = Pairs::default();
        for value in 0..values {
            for (at, &one) in requests.iter().enumerate() {
                let first = self.step(value, one);
                let to = first.to(value);
                self.stages(to, &reports, &mut stages);
                if self.waits[to] && !self.waits[value] {
                    let waiting = stages.iter().filter(|stage| self.waits[**stage]).count();
                    found.in_a_lift += (waiting * requests.len()) as u64;
                    self.check_quit_in_a_lift(value, one, &stages);
                }
                let stages = stages.len() as u64;
                for &other in &requests[at..] {
                    let second = self.step(value, other);
                    found.pairs += 1;
                    // A stage takes any request: the walk has been in each.
                    found.interleavings += stages;
                    found.alike += u64::from(after(to, first, other) == after(second.to(value), second, one));
                }
                // The other way round.
                found.interleavings += stages * at as u64;
            }
        }
        found
    }

    /// What comes in the middle of a lift changes nothing and is asked again when the lift is done: it ends as the second of
    /// the two. (What is stale is dropped in every value; reports are the lift's own.) Only `quit` is taken up at once.
    fn check_waiting(&self, requests: &[usize]) {
        for value in (0..self.waits.len()).filter(|value| self.waits[*value]) {
            for &request in requests {
                let waits = self.step(value, request) == Step::WAITS;
                assert_ne!(waits, self.is_quit(request), "{:?} in the middle of a lift", self.asked[request]);
            }
        }
    }

    /// A `quit` in the middle of what `one` leads to ends as if it had come before `one`, or after it.
    fn check_quit_in_a_lift(&self, value: usize, one: usize, stages: &[usize]) {
        let quit = (0..self.asked.len()).find(|request| self.is_quit(*request)).expect("quit is asked");
        let quits = |value: usize| self.step(value, quit).to(value);
        let first = quits(value);
        let before = self.step(first, one).to(first);
        for stage in stages.iter().filter(|stage| self.waits[**stage]) {
            let ended = quits(*stage);
            let after =
                || stages.iter().filter(|stage| !self.waits[**stage]).any(|done| quits(*done) == ended);
            assert!(ended == before || after(), "quit in the middle of {:?}", self.asked[one]);
        }
    }

    fn is_quit(&self, request: usize) -> bool {
        matches!(self.asked[request], Request::Management(ManagementRequest::Quit { .. }))
    }
}
