//! `sidekeeper reload`: has the conductor read the configuration and the fleet follow it, and tells
//! what comes of it, app by app. Runs on a thread of its own, which only waits. Whoever leaves in the
//! middle misses the end, and the reload goes on.

use crate::admin::ask::{Answer, Ask, Refusal, Reply};
use crate::admin::{Order, Shared};
use crate::fleet::ProgressStage;
use front::as_json;
use front::channel::{RecvTimeoutError, bounded};
use std::time::Duration;

/// How often the client is looked for.
const LOOK: Duration = Duration::from_millis(200);

struct Line {
    text: String,
    refused: bool,
    /// The next line takes its place, where lines can be replaced.
    passing: bool,
}

as_json!(to struct Line { text, refused, passing });

pub fn act(shared: &Shared, ask: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let stops = || Refusal::failed("sidekeeper is stopping");
    let (answer, answered) = bounded(1);
    let order = Order::Reload {
        only: ask.operand().map(str::to_owned),
        answer,
    };
    let busy = |_| Refusal::failed("too much has been asked at once; try again");
    shared.instance.orders.try_send(order).map_err(busy)?;
    let told = match answered.recv() {
        Ok(Ok(told)) => told,
        Ok(Err(why)) => {
            let text = format!("refused, everything stays as it is: {why}");
            return Err(Refusal::failed(text));
        }
        Err(_) => return Err(stops()),
    };
    let (mut served, mut refused) = (false, false);
    loop {
        match told.recv_timeout(LOOK) {
            Ok(progress) => {
                let passing = progress.stage == ProgressStage::Passing;
                let no = progress.stage == ProgressStage::Refused;
                (served, refused) = (served | !passing, refused | no);
                reply.line(&Line {
                    text: progress.text,
                    refused: no,
                    passing,
                })?;
            }
            Err(RecvTimeoutError::Timeout) if reply.gone() => return Ok(Answer::Elsewhere),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    match (served, refused) {
        (_, true) => Err(Refusal::failed("the reload was refused; see the log")),
        (false, false) => Err(stops()),
        (true, false) => Ok(Answer::Done),
    }
}
