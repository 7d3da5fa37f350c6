//! Where the lines of one output of one life go: to our own output, to files, to those who read along,
//! and for a while into memory. Used by the logs thread.

use crate::fleet::logs::form::{Speaker, Stamp, Stream, compose, gap_line};
use crate::fleet::logs::output::Output;
use crate::fleet::spec::LogSpec;
use crate::journal::{Journal, LogFile, Written};
use front::gauges::WorkerGauges;
use front::sys::clock::unix_ms;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub struct Outlet {
    pub speaker: Speaker,
    pub stream: Stream,
    spec: Arc<LogSpec>,
    files: Vec<LogFile>,
    gauges: Arc<WorkerGauges>,
}

impl Outlet {
    /// `alone`: the app has one worker, so that its files need no number.
    pub fn open(
        journal: &Journal,
        (speaker, stream): (Speaker, Stream),
        (spec, alone): (&Arc<LogSpec>, bool),
        gauges: &Arc<WorkerGauges>,
    ) -> Outlet {
        let files = spec
            .files(stream == Stream::Stderr, speaker.instance, alone)
            .into_iter()
            .map(|path| {
                let (spec, app) = (Arc::clone(spec), Arc::clone(&speaker.app));
                let gap = move |count| gap_line(&spec, &app, count, unix_ms());
                journal.open(&path, Box::new(gap))
            });
        Outlet {
            files: files.collect(),
            speaker,
            stream,
            spec: Arc::clone(spec),
            gauges: Arc::clone(gauges),
        }
    }

    /// Passes a line on; `scratch` is composed in.
    pub fn line(
        &self,
        line: &[u8],
        stamp: &mut Stamp<'_>,
        output: &mut Output,
        scratch: &mut Vec<u8>,
    ) {
        let whose = (&self.speaker, self.stream);
        let date = self.spec.date.as_ref();
        let mut composed = None;
        let mut dropped = false;
        if self.spec.shown {
            let form = self.spec.output_form();
            compose(scratch, form, date, stamp, whose, line);
            composed = Some(form);
            dropped |= !output.line(scratch);
        }
        let form = self.spec.file_form();
        if !self.files.is_empty() && composed != Some(form) {
            compose(scratch, form, date, stamp, whose, line);
        }
        for file in &self.files {
            dropped |= file.write(scratch) == Written::Dropped;
        }
        if dropped {
            self.gauges.lines_dropped.fetch_add(1, Relaxed);
        }
    }
}
