//! One change, ready to be sent: the message and what to call it should the kernel refuse.

use netlink_packet_core::{Emitable, NLM_F_ACK, NLM_F_REQUEST};

/// A change to ask the kernel for, made by the functions of the noun it is about.
#[derive(Debug)]
pub struct Request {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) payload: Vec<u8>,
    pub(crate) verb: &'static str,
    pub(crate) object: String,
}

impl Request {
    /// A request of message type `kind`; `flags` are added to those that every request has.
    pub(crate) fn new(
        kind: u16,
        flags: u16,
        message: &impl Emitable,
        verb: &'static str,
        object: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            flags: flags | NLM_F_REQUEST | NLM_F_ACK,
            payload: emit(message),
            verb,
            object: object.into(),
        }
    }
}

/// A message that is bytes already.
pub(crate) struct Bytes(pub Vec<u8>);

impl Emitable for Bytes {
    fn buffer_len(&self) -> usize {
        self.0.len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0);
    }
}

/// The bytes of a message.
pub(crate) fn emit(message: &impl Emitable) -> Vec<u8> {
    let mut payload = vec![0; message.buffer_len()];
    message.emit(&mut payload);
    payload
}
