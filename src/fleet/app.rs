//! An app as the supervisor keeps it, and the version of it that each worker is of. Only the supervisor
//! thread touches it.

use crate::fleet::rules::Rules;
use crate::fleet::scale::AppScaling;
use crate::fleet::scale::policy::Limits;
use crate::fleet::spec::{AppSpec, Scale};
use front::gauges::AppGauges;
use front::roster;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// What an app is asked to be, by one reading of the configuration. Each worker is of one version
/// for all its lives.
pub struct Version {
    pub spec: AppSpec,
    pub rules: Rules,
}

impl Version {
    pub fn new(spec: AppSpec) -> Arc<Version> {
        let rules = Rules::of(&spec);
        Arc::new(Version { spec, rules })
    }
}

/// An app as the supervisor keeps it. Its index never changes: an app that a reload has removed keeps
/// its entry, and gets it back with its name.
pub struct App {
    pub name: Arc<str>,
    /// The version that serves.
    pub version: Arc<Version>,
    /// Its place among the apps, in the order of the configuration. None: it is not, or not yet,
    /// one of them.
    pub rank: Option<usize>,
    /// It has had a ready worker.
    pub was_ready: bool,
    pub turn: Arc<AtomicUsize>,
    pub session_cookies: Arc<[String]>,
    pub gauges: Arc<AppGauges>,
    pub affinity_cookie: Option<Arc<str>>,
    pub scaling: AppScaling,
}

impl App {
    pub fn new(version: Arc<Version>, rank: Option<usize>) -> App {
        let spec = &version.spec;
        App {
            name: Arc::from(spec.name.as_str()),
            rank,
            was_ready: false,
            turn: Arc::default(),
            session_cookies: Arc::from(spec.session_cookies.as_slice()),
            gauges: Arc::default(),
            affinity_cookie: spec.affinity_cookie.as_deref().map(Arc::from),
            scaling: AppScaling::default(),
            version,
        }
    }

    /// Another version serves from now on. What is counted over the app's whole time stays.
    pub fn adopt(&mut self, version: &Arc<Version>, rank: Option<usize>) {
        let anew = App::new(Arc::clone(version), rank);
        *self = App {
            was_ready: self.was_ready,
            turn: Arc::clone(&self.turn),
            gauges: Arc::clone(&self.gauges),
            scaling: std::mem::take(&mut self.scaling),
            ..anew
        };
    }

    pub fn published(
        &self,
        workers: Vec<roster::Worker>,
        asleep: Option<roster::Asleep>,
    ) -> roster::App {
        let spec = &self.version.spec;
        roster::App {
            name: Arc::clone(&self.name),
            routes: self.rank.map(|_| spec.routes.clone()),
            policy: spec.policy,
            session_cookies: Arc::clone(&self.session_cookies),
            affinity_cookie: self.affinity_cookie.clone(),
            answer_timeout: spec.answer_timeout,
            body_bytes_max: spec.body_bytes_max,
            workers,
            asleep,
            gauges: Arc::clone(&self.gauges),
            turn: Arc::clone(&self.turn),
        }
    }

    /// Between which numbers its workers are to be.
    pub fn limits(&self) -> Limits {
        let scale = &self.version.spec.scale;
        let (min, max) = self
            .scaling
            .fixed
            .map_or((scale.min, scale.max), |fixed| (fixed, fixed));
        Limits {
            min,
            max,
            cool_down: scale.cool_down,
            idle_timeout: scale.idle_timeout,
        }
    }

    /// The configuration has been read anew: what was said by hand counts no more.
    pub fn forget_hand(&mut self) {
        self.scaling.fixed = None;
    }

    /// How many workers a reload has to leave, when there are so many now. Only a configuration that
    /// was read anew ends what was said by hand.
    pub fn wanted_after_reload(&self, scale: &Scale, read_anew: bool, present: u32) -> u32 {
        match self.scaling.fixed {
            Some(fixed) if !read_anew => fixed,
            Some(_) | None => present.clamp(scale.min, scale.max),
        }
    }
}
