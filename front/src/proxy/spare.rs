//! Exchanges that have ended, kept for their memory, so that the steady path allocates nothing. As many
//! are kept as were under way at once of late: what a burst has left behind goes within seconds.

use super::Exchange;

/// So many are kept in any case.
const KEPT_MIN: usize = 64;
/// Never more: beyond them exchanges are made anew.
const KEPT_MAX: usize = 8192;

/// See the module's text. One for each pool thread.
#[derive(Debug, Default)]
pub struct Spare {
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    kept: Vec<Box<Exchange>>,
    /// Those that nobody has needed since the last look.
    unneeded: usize,
}

impl Spare {
    /// One to begin anew.
    pub fn take(&mut self) -> Box<Exchange> {
        let exchange = self.kept.pop().unwrap_or_default();
        self.unneeded = self.unneeded.min(self.kept.len());
        exchange
    }

    /// Takes the memory of one that has ended.
    pub fn give(&mut self, exchange: Box<Exchange>) {
        if self.kept.len() < KEPT_MAX {
            self.kept.push(exchange);
        }
    }

    /// Gives back what was not needed since the last look. Called once in a while.
    pub fn trim(&mut self) {
        let needed = self.kept.len().saturating_sub(self.unneeded).max(KEPT_MIN);
        if self.kept.len() > needed {
            self.kept.truncate(needed);
            self.kept.shrink_to(needed);
        }
        self.unneeded = self.kept.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_has_left_goes() {
        let mut spare = Spare::default();
        let burst: Vec<_> = (0..1000).map(|_| spare.take()).collect();
        burst.into_iter().for_each(|exchange| spare.give(exchange));
        spare.trim();
        assert_eq!(spare.kept.len(), 1000, "all were needed");
        let some: Vec<_> = (0..100).map(|_| spare.take()).collect();
        some.into_iter().for_each(|exchange| spare.give(exchange));
        spare.trim();
        assert_eq!(spare.kept.len(), 100);
        spare.trim();
        assert_eq!(spare.kept.len(), KEPT_MIN);
    }
}
