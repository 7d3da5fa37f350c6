//! A reload as it is asked for and as it is told; `steps` decides what has to be done for it. The supervisor
//! does it.

pub mod steps;

use crate::fleet::spec::AppSpec;
use front::channel::Sender;

/// What is asked for.
#[derive(Debug)]
pub struct Reload {
    /// All apps of the configuration, in its order; None: those that serve, as they are.
    pub apps: Option<Vec<AppSpec>>,
    /// Only this one of them.
    pub only: Option<String>,
    pub tell: Sender<Progress>,
}

/// What is to be told of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub text: String,
    pub stage: ProgressStage,
}

/// How far an app has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressStage {
    /// It is under way.
    Passing,
    Done,
    /// The app is as it was before.
    Refused,
}
