//! sidekeeper: starts an application's workers on Unix sockets, keeps them alive, and proxies
//! HTTP/1.1 and WebSocket to them so that every session stays with the worker that owns it.

mod admin;
mod config;
mod fleet;
mod gauges;
mod http;
mod proxy;
mod roster;
mod route;
mod server;
mod sys;

fn main() {}
