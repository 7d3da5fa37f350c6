//! "Did you mean": the nearest of a few known names to a misspelt one. No I/O.

/// The known name that is so near to `typed` that it was probably meant.
///
/// Near means: at most a third of the letters (and at most three) must be inserted, dropped,
/// replaced or swapped with a neighbour. Beyond that a suggestion confuses more than it helps.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = folded(typed);
    let allowed = (typed.len() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (distance(&typed, &folded(name)), name))
        .filter(|(far, _)| *far <= allowed)
        .min_by_key(|(far, _)| *far)
        .map(|(_, name)| name)
}

/// People confuse case, `-` and `_` freely; no two of our names differ in these alone.
fn folded(name: &str) -> Vec<char> {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Edit distance in which swapping two neighbours counts once (optimal string alignment).
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut row = Vec::with_capacity(above.len());
        row.push(i + 1);
        for (j, r) in right.iter().enumerate() {
            let replaced = above[j] + usize::from(l != r);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *l == right[j - 1] && left[i - 1] == *r {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        let known = [
            "instances",
            "interpreter",
            "min_uptime",
            "max_restarts",
            "path",
            "listen",
            "head-timeout",
        ];
        let table = [
            ("instnaces", Some("instances")),
            ("instance", Some("instances")),
            ("Instances", Some("instances")),
            ("interperter", Some("interpreter")),
            ("minUptime", Some("min_uptime")),
            ("max_restart", Some("max_restarts")),
            ("pth", Some("path")),
            ("lisen", Some("listen")),
            ("headtimeout", Some("head-timeout")),
            ("colour", None),
            ("x", None),
            ("", None),
        ];
        for (typed, found) in table {
            assert_eq!(nearest(typed, known), found, "{typed}");
        }
    }
}
