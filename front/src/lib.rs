//! What stands in front of the workers: the pool of threads that moves requests and WebSockets, the
//! routes and sessions that say where to, and the tables that it shares with whoever starts workers.
//! It knows nothing of processes, configuration or commands; the `sidekeeper` crate around it does.

pub mod channel;
pub mod gauges;
pub mod http;
pub mod json;
pub mod order;
pub mod proxy;
pub mod roster;
pub mod route;
pub mod server;
pub mod sys;
