//! How many workers an app starts with and between which numbers it is kept, from what it says. Pure.

use super::entry::Entry;
use crate::fleet::spec::Scale;

/// The number at the start, and the bounds. `usual`: workers of an app that says nothing. The error
/// says what to do.
pub fn scale(entry: &Entry, usual: u32, cores: u32) -> Result<(u32, Scale), String> {
    let asked = entry.workers.map(|workers| workers.on(cores));
    let said_max = entry.max.map(|max| max.on(cores));
    let (start, min, max) = match (entry.min, said_max) {
        (None, None) => {
            let fixed = asked.unwrap_or(usual);
            (fixed, fixed, fixed)
        }
        (Some(min), None) => (min, min, asked.unwrap_or(usual)),
        (None, Some(max)) => (asked.unwrap_or(1), asked.unwrap_or(1), max),
        (Some(min), Some(max)) => (asked.unwrap_or(min), min, max),
    };
    if min > max {
        return Err(match said_max {
            Some(_) => {
                format!("{min} workers at least (`min`) are more than {max} at most (`max`)")
            }
            None => format!(
                "`min` is {min}, but there are {max} workers at most; say `max`, or more `workers`"
            ),
        });
    }
    if start < min || start > max {
        return Err(format!(
            "it is to start with {start} workers, which is not between `min` {min} and `max` {max}"
        ));
    }
    let scale = Scale {
        min,
        max,
        cool_down: entry.cool_down,
        idle_timeout: entry.idle_timeout,
        requests_per_worker: entry.requests_per_worker,
    };
    Ok((start, scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::WorkerCount::{self, CoresMinus, Exactly};

    #[test]
    fn numbers_follow_from_what_is_said() {
        type Row = (
            Option<WorkerCount>,
            Option<u32>,
            Option<WorkerCount>,
            (u32, u32, u32),
        );
        // On four cores, where five are usual.
        let table: [Row; 10] = [
            (None, None, None, (5, 5, 5)),
            (Some(Exactly(3)), None, None, (3, 3, 3)),
            (Some(CoresMinus(0)), None, None, (4, 4, 4)),
            (Some(CoresMinus(1)), None, None, (3, 3, 3)),
            (None, Some(0), None, (0, 0, 5)),
            (Some(CoresMinus(0)), Some(1), None, (1, 1, 4)),
            (None, None, Some(Exactly(8)), (1, 1, 8)),
            (Some(Exactly(2)), None, Some(CoresMinus(0)), (2, 2, 4)),
            (None, Some(2), Some(Exactly(6)), (2, 2, 6)),
            (Some(Exactly(4)), Some(2), Some(Exactly(6)), (4, 2, 6)),
        ];
        for (workers, min, max, wanted) in table {
            let entry = Entry {
                workers,
                min,
                max,
                ..Entry::default()
            };
            let (start, scale) = scale(&entry, 5, 4).expect("good numbers");
            assert_eq!((start, scale.min, scale.max), wanted);
        }
    }

    #[test]
    fn numbers_that_contradict_are_refused() {
        for (workers, min, max, part) in [
            (None, Some(3), Some(Exactly(2)), "more than 2 at most"),
            (Some(Exactly(2)), Some(3), None, "say `max`"),
            (Some(Exactly(9)), Some(3), Some(Exactly(4)), "start with 9"),
            (
                Some(Exactly(9)),
                None,
                Some(Exactly(4)),
                "9 workers at least",
            ),
        ] {
            let entry = Entry {
                workers,
                min,
                max,
                ..Entry::default()
            };
            let refused = scale(&entry, 5, 4).expect_err("a contradiction");
            assert!(refused.contains(part), "{refused}");
        }
    }
}
