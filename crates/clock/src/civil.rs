//! Dates of the proleptic Gregorian calendar, from and to days since 1970-01-01.

/// The days from 1970-01-01 to a date; `None` when there is no such date or it lies before 1970.
pub(crate) fn days_since_1970(year: u32, month: u32, day: u32) -> Option<u64> {
    if year < 1970 || day < 1 || day > days_in_month(year, month)? {
        return None;
    }
    let before = |year: u64| year * 365 + year / 4 - year / 100 + year / 400;
    // All years before this one, less all years before 1970.
    let years = before(u64::from(year) - 1) - before(1969);
    let months: u32 = (1..month).filter_map(|month| days_in_month(year, month)).sum();
    Some(years + u64::from(months) + u64::from(day) - 1)
}

/// Days in 400 years.
const ERA: u64 = 146_097;

/// The date, as year, month and day, that is so many days after 1970-01-01.
fn date_of(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day) = (days / ERA, days % ERA);
    // Every 4th year, but not every 100th, but every 400th is a day longer; the last day of each belongs to it.
    let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March the months have 31, 30, 31, 30, 31 days, twice and once more: 153 days in five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let month = if is_next_year { month - 9 } else { month + 3 };
    (era * 400 + year + u64::from(is_next_year), month, day)
}

/// The moment `seconds` after 1970 began, as `2026-11-26 20:30:00`, in UTC.
pub fn utc(seconds: u64) -> String {
    let (year, month, day) = date_of(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

fn days_in_month(year: u32, month: u32) -> Option<u32> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{date_of, days_since_1970, utc};

    #[test]
    fn known_dates() {
        // From `date -u -d DATE +%s`, divided by 86400.
        for (date, days) in [
            ((1970, 1, 1), 0),
            ((1970, 12, 31), 364),
            ((1972, 2, 29), 789),
            ((1972, 3, 1), 790),
            ((1999, 12, 31), 10_956),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2024, 2, 29), 19_782),
            ((2038, 1, 19), 24_855),
            ((2100, 2, 28), 47_540),
            ((2100, 3, 1), 47_541),
            ((2400, 2, 29), 157_113),
        ] {
            assert_eq!(days_since_1970(date.0, date.1, date.2), Some(days), "{date:?}");
        }
    }

    #[test]
    fn moments_are_written_as_date_and_time() {
        // From `date -u -d @SECONDS`.
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_868_799), "2000-02-29 23:59:59");
        assert_eq!(utc(1_795_723_445), "2026-11-26 20:04:05");
        assert!(utc(u64::MAX).len() > 19, "any number is some moment");
    }

    #[test]
    fn dates_that_do_not_exist() {
        for (year, month, day) in [
            (1969, 12, 31),
            (2023, 2, 29),
            (2100, 2, 29),
            (2024, 2, 30),
            (2024, 4, 31),
            (2024, 13, 1),
            (2024, 0, 1),
            (2024, 1, 0),
        ] {
            assert_eq!(days_since_1970(year, month, day), None, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = 0;
        for year in 1970..2600 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if let Some(days) = days_since_1970(year, month, day) {
                        assert_eq!(days, expected, "{year}-{month}-{day}");
                        assert_eq!(date_of(days), (u64::from(year), u64::from(month), u64::from(day)));
                        expected += 1;
                    }
                }
            }
        }
    }
}
