//! Days since 1970-01-01 from a date of the proleptic Gregorian calendar.

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
    use super::days_since_1970;

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
                        expected += 1;
                    }
                }
            }
        }
    }
}
