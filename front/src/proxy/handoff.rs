//! Giving a WebSocket's connection to its worker. The worker gets the client's own socket, the head
//! that it is to see and what came behind it, and from then on the connection costs us nothing.
//!
//! Until the worker says that it has taken it we keep the socket and the request as it came. If the
//! worker dies, refuses or does not answer in time, the connection begins anew with the same bytes:
//! it is offered to another worker, and relayed to the one that owns its session, or if nobody takes it.

use super::{Again, Client, End, Farewell};
use crate::roster::{Door, Looks, Offer, Slot, Verdict};
use crate::sys::socket;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// An upgrade that is about to be handed to its worker.
pub struct HandOff {
    pub slot: Slot,
    pub looks: Looks,
    pub door: Arc<dyn Door>,
    /// For the worker.
    pub head: Vec<u8>,
    /// What the client has sent, for the case that the worker does not take it.
    pub original: Vec<u8>,
    /// For a client that shall come back to this worker.
    pub cookie: Option<String>,
    /// Who did not take it before.
    pub refused_by: Vec<Slot>,
    pub farewell: Farewell,
}

impl fmt::Debug for HandOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandOff to slot {}", self.slot.0)
    }
}

/// A connection that the worker did not take: it begins anew.
#[derive(Debug)]
pub struct NotTaken<K> {
    pub socket: OwnedFd,
    pub address: Option<SocketAddr>,
    pub original: Vec<u8>,
    pub again: Box<Again>,
    /// What the caller wanted kept with the connection.
    pub kept: K,
}

impl HandOff {
    /// Offers the connection. `kept` lives as long as the connection is ours; `back` is called on
    /// another thread, or at once, if the worker does not take it.
    pub fn offer<K: Send + 'static>(
        self,
        client: Client,
        kept: K,
        back: impl FnOnce(NotTaken<K>) + Send + 'static,
    ) {
        let HandOff {
            slot,
            looks,
            door,
            head,
            original,
            cookie,
            mut refused_by,
            mut farewell,
        } = self;
        let address = client.peer();
        // libuv expects it, and does not see to it for descriptors that it is sent.
        socket::set_nonblocking(client.socket.as_fd());
        let offered = door.offer(Offer {
            socket: client.socket,
            looks,
            head,
            cookie,
            answer: Box::new(move |verdict| match verdict {
                Verdict::Taken => {
                    farewell.tell(End::HandedOff);
                    drop(kept);
                }
                Verdict::Back(socket) => {
                    refused_by.push(slot);
                    back(NotTaken {
                        socket,
                        address,
                        original,
                        again: Box::new(Again {
                            refused_by,
                            id: farewell.record.id,
                            began_us: farewell.record.began_us,
                        }),
                        kept,
                    });
                }
            }),
        });
        if let Err(Offer { socket, answer, .. }) = offered {
            answer(Verdict::Back(socket));
        }
    }
}
