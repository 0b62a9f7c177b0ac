//! One blocking netlink socket: requests sent in batches, each answer read and accounted for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    DecodeError, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NlasIterator,
};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::SndBufForce};

use crate::error::{Error, Result};
use crate::request::Request;

/// Requests in one send: their acknowledgements together fit the socket's default receive buffer
/// (500 do not, 250 do).
const BATCH: usize = 250;
/// The kernel never sends more in one datagram than a reader has offered to take, up to 32 KiB.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// How often a dump is begun again before it is given up.
const DUMP_ATTEMPTS: usize = 32;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
/// `NLMSGERR_ATTR_MSG`, include/uapi/linux/netlink.h.
const EXT_ACK_TEXT: u16 = 1;

/// A netlink socket, in the network namespace that its thread was in when it was made.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message as it came in.
pub(crate) struct Incoming<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

impl Socket {
    /// Opens a socket for `protocol` (`NETLINK_ROUTE`, `NETLINK_NETFILTER`) in the current namespace.
    pub(crate) fn open(protocol: isize) -> Result<Self> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let mut socket = netlink_sys::Socket::new(protocol)?;
            socket.set_ext_ack(true)?;
            // Errors need not carry the request back: it is known by its number.
            socket.set_cap_ack(true)?;
            // Kernels before 4.20 do not filter dumps: more comes, and it is filtered here.
            let _ = socket.set_netlink_get_strict_chk(true);
            socket.bind_auto()?;
            socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(Error::io("open a netlink socket"))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE_BUFFER),
        })
    }

    /// Sends the requests, many in one system call, and reads an acknowledgement for each. All are
    /// carried out, also those behind one that fails: a batch is no transaction.
    ///
    /// # Errors
    /// That of the first request that failed.
    pub(crate) fn execute(&mut self, requests: &[Request]) -> Result<()> {
        let mut first_failure = Ok(());
        for batch in requests.chunks(BATCH) {
            let outcome = self.execute_batch(batch);
            first_failure = first_failure.and(outcome);
        }
        first_failure
    }

    fn execute_batch(&mut self, batch: &[Request]) -> Result<()> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for request in batch {
            self.sequence = self.sequence.wrapping_add(1);
            push(
                &mut bytes,
                request.kind,
                request.flags,
                self.sequence,
                &request.payload,
            );
        }
        self.send(&bytes)?;
        let mut first_failure: Option<(usize, Errno, Option<String>)> = None;
        let mut answered = 0;
        while answered < batch.len() {
            self.receive(|message| {
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != NLMSG_ERROR || index >= batch.len() {
                    return Ok(());
                }
                answered += 1;
                if let Some((errno, text)) = refusal(&message)
                    && first_failure
                        .as_ref()
                        .is_none_or(|(earlier, ..)| index < *earlier)
                {
                    first_failure = Some((index, errno, text));
                }
                Ok(())
            })?;
        }
        match first_failure {
            None => Ok(()),
            Some((index, errno, text)) => {
                let Request { verb, object, .. } = &batch[index];
                Err(Error::Kernel {
                    verb,
                    object: object.clone(),
                    errno,
                    text,
                })
            }
        }
    }

    /// Asks for one object and hands over the answer; `None` when the kernel has no such object.
    pub(crate) fn get<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        object: impl Fn() -> String,
        mut parse: impl FnMut(&[u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        let sequence = self.ask(kind, 0, payload)?;
        let mut answer = None;
        while answer.is_none() {
            self.receive(|message| {
                if message.sequence == sequence {
                    answer = Some(match refusal(&message) {
                        Some((errno, text)) => Err(Error::Kernel {
                            verb: "read",
                            object: object(),
                            errno,
                            text,
                        }),
                        None => parse(message.payload),
                    });
                }
                Ok(())
            })?;
        }
        match answer {
            Some(Err(error)) if error.is_not_found() => Ok(None),
            answer => answer.transpose(),
        }
    }

    /// Reads a whole table, from the start again if it changed meanwhile (`NLM_F_DUMP_INTR`).
    pub(crate) fn dump<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        what: &'static str,
        mut parse: impl FnMut(u16, &[u8]) -> Result<Option<T>>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.ask(kind, NLM_F_DUMP, payload)?;
            let (mut rows, mut interrupted, mut done) = (Vec::new(), false, false);
            // A failed parse is kept until the dump has been read out, or it would be mistaken for
            // the answer to the next request.
            let mut failure = None;
            while !done {
                self.receive(|message| {
                    if message.sequence != sequence {
                        return Ok(());
                    }
                    interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                    match message.kind {
                        NLMSG_DONE | NLMSG_ERROR => {
                            done = true;
                            if let Some((errno, text)) = refusal(&message) {
                                failure = Some(Error::Kernel {
                                    verb: "list",
                                    object: what.to_owned(),
                                    errno,
                                    text,
                                });
                            }
                        }
                        kind => match parse(kind, message.payload) {
                            Ok(row) => rows.extend(row),
                            Err(error) => failure = failure.take().or(Some(error)),
                        },
                    }
                    Ok(())
                })?;
            }
            match failure {
                Some(error) => return Err(error),
                None if interrupted => {}
                None => return Ok(rows),
            }
        }
        Err(Error::Unstable(what))
    }

    /// Joins a multicast group: its events arrive by [`Socket::receive`].
    pub(crate) fn subscribe(&mut self, group: u32) -> Result<()> {
        self.socket
            .add_membership(group)
            .map_err(Error::io("subscribe to kernel events"))
    }

    /// Makes [`Socket::receive`] fail with `EAGAIN` instead of waiting.
    pub(crate) fn set_non_blocking(&self) -> Result<()> {
        self.socket
            .set_non_blocking(true)
            .map_err(Error::io("make a netlink socket non-blocking"))
    }

    /// Takes the next `count` sequence numbers and returns the first of them.
    pub(crate) fn reserve(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    fn ask(&mut self, kind: u16, flags: u16, payload: &[u8]) -> Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        push(
            &mut bytes,
            kind,
            flags | NLM_F_REQUEST,
            self.sequence,
            payload,
        );
        self.send(&bytes)?;
        Ok(self.sequence)
    }

    /// Sends what has been put together by [`push`]; the send buffer grows to what a large transaction needs.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<()> {
        let mut room = 0;
        loop {
            match self.socket.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if too_long(&error) && room < bytes.len() => {
                    room = bytes.len();
                    let _ = setsockopt(&self.socket, SndBufForce, &room);
                }
                Err(error) => return Err(Error::io("send to the kernel by netlink")(error)),
            }
        }
    }

    /// Waits for one datagram and hands over each message in it.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(Incoming) -> Result<()>) -> Result<()> {
        self.buffer.clear();
        // MSG_TRUNC: say how long the datagram really was.
        let length = loop {
            match self.socket.recv(&mut self.buffer, nix::libc::MSG_TRUNC) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read from the kernel by netlink")(error)),
            }
        };
        if length > self.buffer.len() {
            self.buffer.reserve(length);
            return Err(malformed(format!(
                "a datagram of {length} bytes is longer than any the kernel should send"
            )));
        }
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let (message, behind) = split(rest)?;
            if message.kind == NLMSG_OVERRUN {
                return Err(malformed("messages were lost".to_owned()));
            }
            each(message)?;
            rest = behind;
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Appends one message, padded to the next multiple of four.
pub(crate) fn push(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: &[u8]) {
    let length = HEADER + payload.len();
    // No request comes near 4 GiB.
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn split(bytes: &[u8]) -> Result<(Incoming<'_>, &[u8])> {
    let short = || malformed(format!("a message of {} bytes is cut short", bytes.len()));
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let parse = || {
        let length = word(0)? as usize;
        let payload = bytes.get(HEADER..length)?;
        let behind = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((
            Incoming {
                kind: half(4)?,
                flags: half(6)?,
                sequence: word(8)?,
                payload,
            },
            behind,
        ))
    };
    parse().ok_or_else(short)
}

/// What an error message (or the end of a dump) says went wrong; `None` for an acknowledgement and
/// for every other message.
pub(crate) fn refusal(message: &Incoming) -> Option<(Errno, Option<String>)> {
    if !matches!(message.kind, NLMSG_ERROR | NLMSG_DONE) {
        return None;
    }
    let code = i32::from_ne_bytes(message.payload.get(..4)?.try_into().ok()?);
    if code >= 0 {
        return None;
    }
    Some((Errno::from_raw(-code), explanation(message)))
}

/// The kernel's own words, from the attributes behind the error (extended ACK).
fn explanation(message: &Incoming) -> Option<String> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    // An error is followed by the header of the request, and by all of it unless capped.
    let attributes = match message.kind {
        NLMSG_DONE => 4,
        _ if message.flags & NLM_F_CAPPED != 0 => 4 + HEADER,
        _ => {
            4 + (u32::from_ne_bytes(message.payload.get(4..8)?.try_into().ok()?) as usize)
                .next_multiple_of(4)
        }
    };
    NlasIterator::new(message.payload.get(attributes..)?)
        .filter_map(std::result::Result::ok)
        .find(|attribute| attribute.kind() == EXT_ACK_TEXT)
        .map(|attribute| {
            String::from_utf8_lossy(attribute.value())
                .trim_end_matches('\0')
                .to_owned()
        })
}

fn too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMSGSIZE as i32)
}

fn malformed(why: String) -> Error {
    Error::Decode {
        about: "netlink",
        source: DecodeError::from(why),
    }
}
