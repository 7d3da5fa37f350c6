//! Times at which workers are renewed (pm2's `cron_restart`): the five fields of crontab(5), and the
//! next moment that they name. Pure: the wall clock is an argument.

use front::as_json;
use front::sys::calendar::Civil;
use std::str::FromStr;

/// How far ahead a time is looked for: 29 February comes every eight years at the least.
const AHEAD_HOURS: u32 = 9 * 366 * 24;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The times of one expression. Each field is a set of numbers, one bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both days are restricted, so that either of them will do (crontab(5)).
    either_day: bool,
}

as_json!(struct Cron { minutes, hours, days, months, weekdays, either_day });

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Cron, String> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        // With six of them, pm2 takes the first one for seconds.
        if fields.len() == 6 && fields.first() == Some(&"0") {
            fields.remove(0);
        }
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(format!(
                "it has {} fields, not five (minute, hour, day, month, weekday), such as \"0 4 * * *\"",
                fields.len()
            ));
        };
        let mut weekdays = set(weekday, "weekday", 0, 7, &DAYS)?;
        // Sunday has two numbers.
        weekdays |= weekdays >> 7 & 1;
        let cron = Cron {
            minutes: set(minute, "minute", 0, 59, &[])?,
            hours: set(hour, "hour", 0, 23, &[])?,
            days: set(day, "day", 1, 31, &[])?,
            months: set(month, "month", 1, 12, &MONTHS)?,
            weekdays,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        match cron.next(0, from_1970) {
            Some(_) => Ok(cron),
            None => Err("no month has that day".to_owned()),
        }
    }
}

impl Cron {
    /// The first moment after `now` (seconds since 1970), if one ever comes. `wall` says what the
    /// wall clock shows. An hour that the clocks skip has no moments, and one that they repeat has
    /// them twice.
    pub fn next(&self, now: i64, wall: impl Fn(i64) -> Civil) -> Option<i64> {
        const MINUTE: i64 = 60;
        let mut moment = now.div_euclid(MINUTE).checked_add(1)?.checked_mul(MINUTE)?;
        for _ in 0..AHEAD_HOURS {
            let civil = wall(moment);
            if self.names_hour(&civil) {
                // Within this hour by minutes; the clocks change at whole hours nearly everywhere.
                for later in 0..i64::from(60 - civil.minute.min(59)) {
                    let at = moment.checked_add(later.checked_mul(MINUTE)?)?;
                    if holds(self.minutes, wall(at).minute) && self.names_hour(&wall(at)) {
                        return Some(at);
                    }
                }
            }
            let left = 60_i64.checked_sub(i64::from(civil.minute))?.max(1);
            moment = moment.checked_add(left.checked_mul(MINUTE)?)?;
        }
        None
    }

    fn names_hour(&self, civil: &Civil) -> bool {
        let day = holds(self.days, civil.day);
        let weekday = holds(self.weekdays, civil.weekday);
        let today = if self.either_day {
            day || weekday
        } else {
            day && weekday
        };
        today && holds(self.months, civil.month) && holds(self.hours, civil.hour)
    }
}

fn holds(set: u64, number: u8) -> bool {
    set.checked_shr(u32::from(number))
        .is_some_and(|rest| rest & 1 == 1)
}

/// One field: a list of numbers, names, ranges and steps.
fn set(field: &str, what: &str, low: u8, high: u8, names: &[&str]) -> Result<u64, String> {
    let refused =
        || format!("its {what} is `{field}`; expected *, or numbers from {low} to {high}");
    let number = |text: &str| -> Result<u8, String> {
        let name = text.to_ascii_lowercase();
        if let Some(at) = names.iter().position(|known| *known == name) {
            return Ok(low.saturating_add(u8::try_from(at).unwrap_or(0)));
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number
            .filter(|number| (low..=high).contains(number))
            .ok_or_else(refused)
    };
    let mut set = 0_u64;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None if range == "*" => (low, high),
            // `5/10` is from 5 on.
            None if step.is_some() => (number(range)?, high),
            None => (number(range)?, number(range)?),
        };
        let step = match step {
            Some(step) => step.parse::<u8>().map_err(|_| refused())?,
            None => 1,
        };
        if first > last || step == 0 {
            return Err(refused());
        }
        for number in (first..=last).step_by(usize::from(step)) {
            set |= 1_u64.checked_shl(u32::from(number)).unwrap_or(0);
        }
    }
    Ok(set)
}

/// A calendar without zones, to look once whether an expression names any day at all.
fn from_1970(unix_secs: i64) -> Civil {
    let days = unix_secs.div_euclid(86_400);
    let secs = unix_secs.rem_euclid(86_400);
    // Days since 1 March of year 0, in eras of 400 years (Howard Hinnant's civil_from_days).
    let shifted = days + 719_468;
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let small = |number: i64| u8::try_from(number).unwrap_or(0);
    Civil {
        month: small((from_march + 2) % 12 + 1),
        day: small(of_year - (153 * from_march + 2) / 5 + 1),
        weekday: small((days + 4).rem_euclid(7)),
        hour: small(secs / 3600),
        minute: small(secs / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01 00:00 UTC, a Thursday.
    const NEW_YEAR: i64 = 1_767_225_600;

    /// Minutes, as day and time of January 2026: day, hour, minute.
    fn at(day: i64, hour: i64, minute: i64) -> i64 {
        NEW_YEAR + ((day - 1) * 24 + hour) * 3600 + minute * 60
    }

    fn next(text: &str, now: i64) -> i64 {
        let cron: Cron = text.parse().expect(text);
        cron.next(now, from_1970).expect(text)
    }

    #[test]
    fn the_next_time() {
        let table = [
            ("* * * * *", at(1, 0, 0), at(1, 0, 1)),
            ("* * * * *", at(1, 0, 0) + 59, at(1, 0, 1)),
            ("0 4 * * *", at(1, 0, 0), at(1, 4, 0)),
            ("0 4 * * *", at(1, 4, 0), at(2, 4, 0)),
            ("0 4 * * *", at(1, 3, 59), at(1, 4, 0)),
            ("*/15 * * * *", at(1, 0, 50), at(1, 1, 0)),
            ("10-20/5,40 * * * *", at(1, 0, 20), at(1, 0, 40)),
            ("5/20 1 * * *", at(1, 1, 25), at(1, 1, 45)),
            ("0 0 * * 0", at(1, 0, 0), at(4, 0, 0)),
            ("0 0 * * 7", at(1, 0, 0), at(4, 0, 0)),
            ("0 0 * * MON-fri", at(2, 0, 0), at(5, 0, 0)),
            ("30 3 1 feb *", at(1, 0, 0), at(32, 3, 30)),
            // Either day, when both are named.
            ("0 0 15 * sun", at(1, 0, 0), at(4, 0, 0)),
            ("0 0 3 * sun", at(1, 0, 0), at(3, 0, 0)),
            // Both, when one of them is open.
            ("0 0 */2 * sat", at(1, 0, 0), at(3, 0, 0)),
            ("0 0 31 * *", at(31, 0, 0), at(31 + 28 + 31, 0, 0)),
            ("0 30 2 * * *", at(1, 0, 0), at(1, 2, 30)),
            ("@daily", at(1, 0, 1), at(2, 0, 0)),
        ];
        for (text, now, wanted) in table {
            assert_eq!(next(text, now), wanted, "{text}");
        }
        // 2028-02-29, a Tuesday.
        assert_eq!(next("0 0 29 2 *", NEW_YEAR), 1_835_395_200);
    }

    #[test]
    fn clocks_that_skip_an_hour_or_repeat_one() {
        // At 02:00 the clocks go to 03:00, or back to 01:00.
        let forward = |t: i64| from_1970(if t < at(1, 2, 0) { t } else { t + 3600 });
        let back = |t: i64| from_1970(if t < at(1, 2, 0) { t } else { t - 3600 });
        let half_past_two: Cron = "30 2 * * *".parse().expect("a time");
        assert_eq!(half_past_two.next(at(1, 0, 0), forward), Some(at(2, 1, 30)));
        let half_past_one: Cron = "30 1 * * *".parse().expect("a time");
        assert_eq!(half_past_one.next(at(1, 0, 0), back), Some(at(1, 1, 30)));
        assert_eq!(half_past_one.next(at(1, 1, 30), back), Some(at(1, 2, 30)));
        assert_eq!(half_past_one.next(at(1, 2, 30), back), Some(at(2, 2, 30)));
    }

    #[test]
    fn what_is_no_time() {
        let table = [
            ("", "0 fields"),
            ("0 4 * *", "4 fields"),
            ("30 0 4 * * *", "6 fields"),
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day"),
            ("* * * 13 *", "month"),
            ("* * * * 8", "weekday"),
            ("* * * * mo", "weekday"),
            ("5-1 * * * *", "minute"),
            ("*/0 * * * *", "minute"),
            ("+5 * * * *", "minute"),
            ("0 0 31 2 *", "no month"),
            ("0 0 L * *", "day"),
        ];
        for (text, part) in table {
            let why = text.parse::<Cron>().expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
