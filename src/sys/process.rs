//! Processes: what std's `Command` and `ExitStatus` do not offer.
