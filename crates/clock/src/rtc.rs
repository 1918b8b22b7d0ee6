//! What the operator asks of the RTC: `-rtc base=…,clock=…`.

use std::str::FromStr;

use crate::civil::days_since_1970;

const NS_PER_S: u64 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

/// Where the RTC starts: `base=` of `-rtc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RtcBase {
    /// The host's wall clock, UTC.
    #[default]
    Utc,
    /// The host's wall clock in its local time zone; the zone's offset is passed to
    /// [`WallClock::new`](crate::WallClock::new).
    Localtime,
    /// A moment, UTC, in ns since 1970.
    Date(u64),
}

/// What makes the RTC advance: `clock=` of `-rtc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum RtcClock {
    /// The host's wall clock: the RTC goes on while the machine is held, and follows when the host's clock is
    /// set.
    #[default]
    Host,
    /// Guest time: the RTC stands while the machine is held. Needed for repeatable runs.
    Vm,
}

/// The whole of `-rtc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtcOptions {
    /// Where the RTC starts.
    pub base: RtcBase,
    /// What makes it advance.
    pub clock: RtcClock,
}

/// What is wrong with an `-rtc` option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtcOptionError {
    /// Not a form of `base=` that there is.
    #[error("rtc base '{0}' is not 'utc', 'localtime', 'YYYY-MM-DD' or 'YYYY-MM-DDTHH:MM:SS'")]
    Base(String),
    /// The form of a date, but no such date, or one that ns since 1970 cannot express.
    #[error("rtc base '{0}' is not a date and time from 1970 to 2553")]
    Date(String),
    /// Not a form of `clock=` that there is.
    #[error("rtc clock '{0}' is not 'host' or 'vm'")]
    Clock(String),
    /// Not a form of `driftfix=` that this machine has.
    #[error("rtc driftfix '{0}' is not supported, only 'none' is")]
    Driftfix(String),
    /// Not a key that there is.
    #[error("rtc option '{0}' is not 'base=…', 'clock=…' or 'driftfix=none'")]
    Key(String),
}

impl FromStr for RtcBase {
    type Err = RtcOptionError;

    fn from_str(text: &str) -> Result<Self, RtcOptionError> {
        match text {
            "utc" => return Ok(Self::Utc),
            "localtime" => return Ok(Self::Localtime),
            _ => {}
        }
        let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
        let form = || RtcOptionError::Base(text.to_owned());
        let [year, month, day] = numbers(date, '-', [4, 2, 2]).ok_or_else(form)?;
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2]).ok_or_else(form)?;
        ns_of(year, month, day, hour, minute, second)
            .map(Self::Date)
            .ok_or_else(|| RtcOptionError::Date(text.to_owned()))
    }
}

impl FromStr for RtcClock {
    type Err = RtcOptionError;

    fn from_str(text: &str) -> Result<Self, RtcOptionError> {
        match text {
            "host" => Ok(Self::Host),
            "vm" => Ok(Self::Vm),
            _ => Err(RtcOptionError::Clock(text.to_owned())),
        }
    }
}

impl FromStr for RtcOptions {
    type Err = RtcOptionError;

    /// Parses `base=utc,clock=vm` and the like; keys may be left out, and of a repeated key the last counts.
    fn from_str(text: &str) -> Result<Self, RtcOptionError> {
        let mut options = Self::default();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            match item.split_once('=') {
                Some(("base", value)) => options.base = value.parse()?,
                Some(("clock", value)) => options.clock = value.parse()?,
                Some(("driftfix", "none")) => {}
                Some(("driftfix", value)) => return Err(RtcOptionError::Driftfix(value.to_owned())),
                _ => return Err(RtcOptionError::Key(item.to_owned())),
            }
        }
        Ok(options)
    }
}

/// Three decimal numbers of exactly these widths.
fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[u32; 3]> {
    let mut parts = text.split(separator);
    let mut out = [0; 3];
    for (slot, width) in out.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

fn ns_of(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Option<u64> {
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let of_day = u64::from(hour) * 3600 + u64::from(minute) * 60 + u64::from(second);
    let seconds = days_since_1970(year, month, day)?.checked_mul(SECONDS_PER_DAY)?.checked_add(of_day)?;
    seconds.checked_mul(NS_PER_S)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bases() {
        for (text, base) in [
            ("utc", RtcBase::Utc),
            ("localtime", RtcBase::Localtime),
            ("1970-01-01", RtcBase::Date(0)),
            ("1970-01-01T00:00:01", RtcBase::Date(NS_PER_S)),
            ("2006-06-17T16:01:21", RtcBase::Date(1_150_560_081 * NS_PER_S)),
            ("2024-02-29T23:59:59", RtcBase::Date(1_709_251_199 * NS_PER_S)),
            ("2553-12-31T23:59:59", RtcBase::Date(18_429_292_799 * NS_PER_S)),
        ] {
            assert_eq!(text.parse(), Ok(base), "{text}");
        }
    }

    #[test]
    fn bases_that_are_refused() {
        for text in [
            "",
            "UTC",
            "now",
            "2024",
            "2024-1-1",
            "24-01-01",
            "2024-01-01T",
            "2024-01-01T12:00",
            "2024-01-01 12:00:00",
            "+024-01-01",
        ] {
            assert_eq!(text.parse::<RtcBase>(), Err(RtcOptionError::Base(text.to_owned())));
        }
        for text in [
            "1969-12-31",
            "2023-02-29",
            "2024-13-01",
            "2024-01-01T24:00:00",
            "2024-01-01T00:60:00",
            "2024-01-01T00:00:60",
            "9999-12-31",
        ] {
            assert_eq!(text.parse::<RtcBase>(), Err(RtcOptionError::Date(text.to_owned())));
        }
    }

    #[test]
    fn whole_options() {
        let vm = RtcOptions { base: RtcBase::Date(0), clock: RtcClock::Vm };
        assert_eq!("".parse(), Ok(RtcOptions::default()));
        assert_eq!("base=1970-01-01,clock=vm".parse(), Ok(vm));
        assert_eq!("clock=vm,driftfix=none,base=utc,base=1970-01-01".parse(), Ok(vm));
        assert_eq!("clock=rt".parse::<RtcOptions>(), Err(RtcOptionError::Clock("rt".to_owned())));
        assert_eq!("driftfix=slew".parse::<RtcOptions>(), Err(RtcOptionError::Driftfix("slew".to_owned())));
        assert_eq!("bse=utc".parse::<RtcOptions>(), Err(RtcOptionError::Key("bse=utc".to_owned())));
        assert_eq!("utc".parse::<RtcOptions>(), Err(RtcOptionError::Key("utc".to_owned())));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", date in "[0-9T:-]{0,24}") {
            let _ = text.parse::<RtcOptions>();
            let _ = date.parse::<RtcBase>();
        }
    }
}
