//! Configuration: from what was typed and found to the plan of what runs. Reads files, starts
//! nothing; runs on the main thread, at the start and again for each reload. The rooms below define
//! the types that are filled in here and never read a file or an option themselves.

mod accounts;
mod address;
pub mod candidate;
mod discover;
mod ecosystem;
mod entry;
pub mod init;
mod json;
mod keys;
mod launch;
mod log_values;
mod logs;
pub mod machine;
pub mod options;
mod package;
mod placement;
pub mod plan;
mod process;
mod programs;
#[cfg(test)]
mod readme_tests;
pub mod rights;
mod scale;
#[cfg(test)]
mod scratch;
mod serving;
mod shell;
pub mod show;
mod source;
pub mod suggest;
pub mod values;

use std::fmt;

#[cfg(test)]
pub use keys::honoured as keys_of_an_app;
pub use launch::shown as shown_command;
pub use placement::shown as shown_routes;
pub use show::workers as shown_workers;

/// Why there is no plan. The text is one line and says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Something that was written, or left unwritten, must be corrected.
    Setup(String),
    /// The configuration is good, but nothing of it can be started on this machine now.
    Nothing(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Setup(text) | ConfigError::Nothing(text) => f.write_str(text),
        }
    }
}
