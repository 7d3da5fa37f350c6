//! The control plane: starts, watches, restarts and stops workers. See ARCHITECTURE.md.

pub mod spec;
