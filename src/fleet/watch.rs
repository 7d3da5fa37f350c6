//! What the supervisor does about what the monitor sees. Runs on the supervisor thread.

use crate::fleet::monitor::Look;
use crate::fleet::supervisor::Supervisor;
impl Supervisor {
    pub fn watch(&mut self, _look: Look) {}
}
