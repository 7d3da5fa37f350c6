//! What the `echo` app and the `raw` test tool share: addresses and streams that may be TCP or
//! Unix, WebSocket frames, SHA-1 and base64. Standard library only, blocking, one thread per
//! connection: both programs are meant to be obvious, not fast.

pub mod digest;
pub mod filler;
pub mod frames;
pub mod wire;
