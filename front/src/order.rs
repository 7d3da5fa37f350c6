//! Sorting. The standard library's sort, made anew for each kind of item, is 5 KiB of code; here it is
//! made once, for the places of the items.

use std::cmp::Ordering;

/// Sorts; items that are equal keep their order.
pub fn sort_by<T>(items: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let places = sorted_places(
        items.len(),
        &|one, other| match (items.get(one), items.get(other)) {
            (Some(one), Some(other)) => compare(one, other),
            (None, _) | (_, None) => Ordering::Equal,
        },
    );
    let mut unsorted: Vec<Option<T>> = items.drain(..).map(Some).collect();
    items.extend(
        places
            .into_iter()
            .filter_map(|place| unsorted.get_mut(place)?.take()),
    );
}

pub fn sort_by_key<T, K: Ord>(items: &mut Vec<T>, key: impl Fn(&T) -> K) {
    sort_by(items, |one, other| key(one).cmp(&key(other)));
}

fn sorted_places(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by(|one, other| compare(*one, *other));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_items_keep_their_order() {
        let mut items: Vec<(u32, usize)> = (0..100).map(|n| ((n * 37 % 10) as u32, n)).collect();
        let mut wanted = items.clone();
        wanted.sort_by_key(|(key, _)| *key);
        sort_by_key(&mut items, |(key, _)| *key);
        assert_eq!(items, wanted);
        let mut nothing: Vec<String> = Vec::new();
        sort_by(&mut nothing, String::cmp);
        assert!(nothing.is_empty());
    }
}
