//! The settings of migrations: QEMU's names, ranges and texts. Those that this program has nothing to do with do not exist.

use crate::address::bytes;

/// A setting that is a number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Number {
    /// `announce-initial`, ms.
    AnnounceInitial,
    /// `announce-max`, ms.
    AnnounceMax,
    /// `announce-rounds`.
    AnnounceRounds,
    /// `announce-step`, ms.
    AnnounceStep,
    /// `throttle-trigger-threshold`, percent.
    ThrottleTriggerThreshold,
    /// `cpu-throttle-initial`, percent.
    CpuThrottleInitial,
    /// `cpu-throttle-increment`, percent.
    CpuThrottleIncrement,
    /// `max-cpu-throttle`, percent.
    MaxCpuThrottle,
    /// `max-bandwidth`, bytes a second; 0 is no limit.
    MaxBandwidth,
    /// `avail-switchover-bandwidth`, bytes a second; 0 is to be measured.
    AvailSwitchoverBandwidth,
    /// `max-postcopy-bandwidth`, bytes a second; 0 is no limit.
    MaxPostcopyBandwidth,
    /// `downtime-limit`, ms.
    DowntimeLimit,
    /// `multifd-channels`.
    MultifdChannels,
    /// `multifd-zstd-level`: also of a migration over one connection.
    MultifdZstdLevel,
}

/// What is known of a number.
#[derive(Debug)]
struct Definition {
    number: Number,
    name: &'static str,
    /// Behind the value, for people.
    unit: &'static str,
    default: u64,
    least: u64,
    most: u64,
    /// The rest of `Parameter 'X' expects ...`. QEMU writes the name with underscores there.
    expects: &'static str,
}

const PERCENT: &str = "an integer in the range of 1 to 99";
const THRESHOLD: &str = "an integer in the range of 1 to 100";
const RATE: &str = "an integer in the range of 0 to 18446744073709551615 bytes/second";

/// Every number, in the order of the enumeration.
#[rustfmt::skip]
static NUMBERS: [Definition; 14] = [
    number(Number::AnnounceInitial, "announce-initial", " ms", 50, 0..=100_000, "a value between 0 and 100000"),
    number(Number::AnnounceMax, "announce-max", " ms", 550, 0..=100_000, "a value between 0 and 100000"),
    number(Number::AnnounceRounds, "announce-rounds", "", 5, 0..=1000, "a value between 0 and 1000"),
    number(Number::AnnounceStep, "announce-step", " ms", 100, 0..=10_000, "a value between 0 and 10000"),
    number(Number::ThrottleTriggerThreshold, "throttle-trigger-threshold", "", 50, 1..=100, THRESHOLD),
    number(Number::CpuThrottleInitial, "cpu-throttle-initial", "", 20, 1..=99, PERCENT),
    number(Number::CpuThrottleIncrement, "cpu-throttle-increment", "", 10, 1..=99, PERCENT),
    number(Number::MaxCpuThrottle, "max-cpu-throttle", "", 99, 1..=99, "an integer in the range of cpu_throttle_initial to 99"),
    number(Number::MaxBandwidth, "max-bandwidth", " bytes/second", 128 << 20, 0..=u64::MAX, RATE),
    number(Number::AvailSwitchoverBandwidth, "avail-switchover-bandwidth", " bytes/second", 0, 0..=u64::MAX, RATE),
    number(Number::MaxPostcopyBandwidth, "max-postcopy-bandwidth", " bytes/second", 0, 0..=u64::MAX, RATE),
    number(Number::DowntimeLimit, "downtime-limit", " ms", 300, 0..=2_000_000, "an integer in the range of 0 to (2000 * 1000) ms"),
    number(Number::MultifdChannels, "multifd-channels", "", 2, 1..=255, "a value between 1 and 255"),
    number(Number::MultifdZstdLevel, "multifd-zstd-level", "", 1, 0..=20, "a value between 0 and 20"),
];

const fn number(
    number: Number,
    name: &'static str,
    unit: &'static str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    expects: &'static str,
) -> Definition {
    Definition { number, name, unit, default, least: *range.start(), most: *range.end(), expects }
}

impl Number {
    fn definition(self) -> &'static Definition {
        // In the order of the enumeration, which the tests hold.
        &NUMBERS[self as usize]
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        NUMBERS.iter().map(|definition| definition.number)
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|number| number.name() == name)
    }
}

/// A setting that is a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Text {
    /// `tls-creds`: the id of the object with the certificates; empty for none.
    TlsCreds,
    /// `tls-hostname`: whose certificate is expected, if not the host's that is connected to.
    TlsHostname,
    /// `tls-authz`: the id of the object that says who may connect.
    TlsAuthz,
}

impl Text {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TlsCreds, Self::TlsHostname, Self::TlsAuthz];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::TlsCreds => "tls-creds",
            Self::TlsHostname => "tls-hostname",
            Self::TlsAuthz => "tls-authz",
        }
    }
}

/// `multifd-compression`: how memory is compressed where it is at all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compression {
    /// Not.
    #[default]
    None,
    /// By zstd.
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::None, Self::Zstd];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
        }
    }
}

/// Longest text, in bytes.
const LONGEST: usize = 1024;

/// A value is refused. Nothing has changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParameterError {
    /// A number out of its range.
    #[error("Parameter '{}' expects {}", name.replace('-', "_"), expects)]
    Range {
        /// The setting.
        name: &'static str,
        /// What it takes.
        expects: &'static str,
    },
    /// A text that is too long.
    #[error("Parameter '{0}' expects at most {LONGEST} bytes")]
    TooLong(&'static str),
    /// No setting of that name.
    #[error("invalid parameter '{0}'")]
    Unknown(String),
    /// Not a value of that setting.
    #[error("Parameter '{name}' does not accept value '{value}'")]
    BadValue {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: String,
    },
}

/// The settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parameters {
    numbers: [u64; NUMBERS.len()],
    texts: [String; Text::ALL.len()],
    tailslow: bool,
    compression: Option<Compression>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            numbers: std::array::from_fn(|at| NUMBERS[at].default),
            texts: Default::default(),
            tailslow: false,
            compression: None,
        }
    }
}

/// Settings to change, together or not at all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Change {
    /// Numbers.
    pub numbers: Vec<(Number, u64)>,
    /// Texts.
    pub texts: Vec<(Text, String)>,
    /// `cpu-throttle-tailslow`.
    pub tailslow: Option<bool>,
    /// `multifd-compression`.
    pub compression: Option<Compression>,
}

impl Parameters {
    /// A number.
    pub fn number(&self, number: Number) -> u64 {
        self.numbers[number as usize]
    }

    /// A text.
    pub fn text(&self, text: Text) -> &str {
        &self.texts[text as usize]
    }

    /// `cpu-throttle-tailslow`: the last steps of the throttle are small.
    pub fn tailslow(&self) -> bool {
        self.tailslow
    }

    /// `multifd-compression`; none where it was not said, so that each transport has its own way.
    pub fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// The settings after `change`.
    pub fn with(&self, change: &Change) -> Result<Self, ParameterError> {
        let mut next = self.clone();
        for &(number, value) in &change.numbers {
            let definition = number.definition();
            if !(definition.least..=definition.most).contains(&value) {
                return Err(out_of_range(definition));
            }
            next.numbers[number as usize] = value;
        }
        for (text, value) in &change.texts {
            if value.len() > LONGEST {
                return Err(ParameterError::TooLong(text.name()));
            }
            next.texts[*text as usize].clone_from(value);
        }
        next.tailslow = change.tailslow.unwrap_or(next.tailslow);
        next.compression = change.compression.or(next.compression);
        if next.number(Number::MaxCpuThrottle) < next.number(Number::CpuThrottleInitial) {
            return Err(out_of_range(Number::MaxCpuThrottle.definition()));
        }
        Ok(next)
    }

    /// All settings for people: the name, and the value with its unit.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let numbers = NUMBERS.iter().zip(self.numbers);
        let numbers =
            numbers.map(|(definition, value)| (definition.name, format!("{value}{}", definition.unit)));
        let texts = Text::ALL.into_iter().map(|text| (text.name(), format!("'{}'", self.text(text))));
        let compression = self.compression.unwrap_or_default().name().to_owned();
        let others = [
            ("cpu-throttle-tailslow", if self.tailslow { "on" } else { "off" }.to_owned()),
            ("multifd-compression", compression),
            ("mode", "normal".to_owned()),
        ];
        numbers.chain(texts).chain(others).collect()
    }
}

fn out_of_range(definition: &Definition) -> ParameterError {
    ParameterError::Range { name: definition.name, expects: definition.expects }
}

impl Change {
    /// What a person means by `NAME VALUE`.
    pub fn parse(name: &str, value: &str) -> Result<Self, ParameterError> {
        let mut change = Self::default();
        let bad = |name| ParameterError::BadValue { name, value: value.chars().take(80).collect() };
        if let Some(number) = Number::from_name(name) {
            let parsed = match number {
                // Bandwidths of people are in MiB a second unless they say something else.
                Number::MaxBandwidth | Number::AvailSwitchoverBandwidth | Number::MaxPostcopyBandwidth => {
                    mebibytes(value)
                }
                _ => value.parse().ok(),
            };
            change.numbers.push((number, parsed.ok_or_else(|| bad(number.name()))?));
        } else if let Some(text) = Text::ALL.into_iter().find(|text| text.name() == name) {
            change.texts.push((text, value.to_owned()));
        } else if name == "cpu-throttle-tailslow" {
            let on = match value {
                "on" | "true" | "yes" | "y" => true,
                "off" | "false" | "no" | "n" => false,
                _ => return Err(bad("cpu-throttle-tailslow")),
            };
            change.tailslow = Some(on);
        } else if name == "multifd-compression" {
            let known = Compression::ALL.into_iter().find(|compression| compression.name() == value);
            change.compression = Some(known.ok_or_else(|| bad("multifd-compression"))?);
        } else {
            return Err(ParameterError::Unknown(name.chars().take(80).collect()));
        }
        Ok(change)
    }
}

/// A number of MiB, or of what the unit behind it says; `b` for bytes.
fn mebibytes(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_suffix(['b', 'B']) {
        return digits.parse().ok();
    }
    match text.parse::<u64>() {
        Ok(number) => number.checked_mul(1 << 20),
        Err(_) => bytes(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(number: Number, value: u64) -> Result<Parameters, ParameterError> {
        Parameters::default().with(&Change { numbers: vec![(number, value)], ..Change::default() })
    }

    #[test]
    fn the_table_is_in_the_order_of_its_names() {
        for (at, definition) in NUMBERS.iter().enumerate() {
            assert_eq!(definition.number as usize, at, "{}", definition.name);
            assert_eq!(Number::from_name(definition.name), Some(definition.number));
        }
        for (at, text) in Text::ALL.into_iter().enumerate() {
            assert_eq!(text as usize, at);
        }
    }

    #[test]
    fn numbers_keep_to_their_range_and_a_refusal_says_it_as_qemu() {
        assert_eq!(
            set(Number::DowntimeLimit, u64::MAX).unwrap_err().to_string(),
            "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms"
        );
        assert_eq!(
            set(Number::MultifdChannels, 0).unwrap_err().to_string(),
            "Parameter 'multifd_channels' expects a value between 1 and 255"
        );
        for definition in &NUMBERS {
            for value in [definition.least, definition.most, definition.default] {
                // The two that depend on one another are below.
                if definition.number != Number::MaxCpuThrottle || value >= 20 {
                    assert_eq!(set(definition.number, value).unwrap().number(definition.number), value);
                }
            }
            for value in [definition.least.wrapping_sub(1), definition.most.wrapping_add(1)] {
                let inside = (definition.least..=definition.most).contains(&value);
                assert_eq!(set(definition.number, value).is_ok(), inside, "{} {value}", definition.name);
            }
        }
    }

    #[test]
    fn a_change_is_made_whole_or_not_at_all() {
        let numbers = vec![(Number::DowntimeLimit, 5), (Number::CpuThrottleInitial, 100)];
        let before = Parameters::default();
        assert!(before.with(&Change { numbers, ..Change::default() }).is_err());
        let below = set(Number::MaxCpuThrottle, 19).unwrap_err();
        let text =
            "Parameter 'max_cpu_throttle' expects an integer in the range of cpu_throttle_initial to 99";
        assert_eq!(below.to_string(), text);
        let together = vec![(Number::MaxCpuThrottle, 19), (Number::CpuThrottleInitial, 10)];
        assert!(before.with(&Change { numbers: together, ..Change::default() }).is_ok());
        let long = vec![(Text::TlsCreds, "x".repeat(LONGEST + 1))];
        assert!(before.with(&Change { texts: long, ..Change::default() }).is_err());
    }

    #[test]
    fn people_set_them_by_name() {
        let after = |name: &str, value: &str| {
            Parameters::default().with(&Change::parse(name, value).unwrap()).unwrap()
        };
        assert_eq!(after("max-bandwidth", "4").number(Number::MaxBandwidth), 4 << 20);
        assert_eq!(after("max-bandwidth", "2G").number(Number::MaxBandwidth), 2 << 30);
        assert_eq!(after("max-bandwidth", "77b").number(Number::MaxBandwidth), 77);
        assert_eq!(after("downtime-limit", "77").number(Number::DowntimeLimit), 77);
        assert_eq!(after("tls-creds", "a").text(Text::TlsCreds), "a");
        assert!(after("cpu-throttle-tailslow", "on").tailslow());
        assert_eq!(after("multifd-compression", "zstd").compression(), Some(Compression::Zstd));
        for (name, value) in [("downtime-limit", "x"), ("nope", "1"), ("multifd-compression", "lzo")] {
            assert!(Change::parse(name, value).is_err(), "{name} {value}");
        }
        let lines = Parameters::default().lines();
        assert!(lines.contains(&("downtime-limit", "300 ms".to_owned())), "{lines:?}");
        assert!(lines.contains(&("tls-creds", "''".to_owned())));
    }
}
