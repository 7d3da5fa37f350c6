//! The libc fence: one safe function for each call that std does not offer. Uses nothing of ours.
//! This is the only room with `unsafe`; each block says why it is sound.
#![allow(unsafe_code)]

#[cfg(test)]
pub mod allocations;
pub mod append;
pub mod calendar;
pub mod carried;
pub mod clock;
pub mod descriptor;
pub mod disk;
pub mod epoll;
pub mod exec;
pub mod identity;
pub mod inotify;
pub mod limits;
pub mod memory;
pub mod passing;
pub mod pipe;
pub mod process;
pub mod procfs;
pub mod socket;
pub mod terminal;
pub mod threads;
