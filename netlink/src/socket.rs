//! One blocking netlink socket: requests sent in batches, each answer read and accounted for.

pub(crate) mod wire;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::SndBufForce};

use self::wire::{HEADER, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, malformed, split};
pub(crate) use self::wire::{Incoming, push, refusal};

use crate::error::{Error, Result};
use crate::request::Request;

/// Requests in one send: their acknowledgements together fit the socket's default receive buffer
/// (500 do not, 250 do).
const BATCH: usize = 250;
/// What a reader offers to take. Of a table, the kernel sends in one datagram as much as the last offer was, up to 32 KiB.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// What is offered until more is known to come: most answers are about one object.
const FIRST_BUFFER: usize = 8 * 1024;
/// How often a dump is begun again before it is given up.
const DUMP_ATTEMPTS: usize = 32;

/// A netlink socket, in the network namespace that its thread was in when it was made.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
    /// What the next reader offers to take, in bytes.
    room: usize,
    /// Whether answers were lost since the last send. The kernel drops all further ones until the rest has been read.
    overrun: bool,
}

impl Socket {
    /// Opens a socket for `protocol` (`NETLINK_ROUTE`, `NETLINK_NETFILTER`) in the current namespace.
    pub(crate) fn open(protocol: isize) -> Result<Self> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let socket = netlink_sys::Socket::new(protocol)?;
            socket.set_ext_ack(true)?;
            // Errors need not carry the request back: it is known by its number.
            socket.set_cap_ack(true)?;
            // Kernels before 4.20 do not filter dumps: more comes, and it is filtered here.
            let _ = socket.set_netlink_get_strict_chk(true);
            // This binds it as well.
            socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(Error::io("open a netlink socket"))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::new(),
            room: FIRST_BUFFER,
            overrun: false,
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
        let mut room = self.room;
        let mut sequence = self.ask(kind, 0, payload)?;
        let mut answer = None;
        while answer.is_none() {
            let received = self.receive(|message| {
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
            });
            match received {
                // Cut short: there is room for it from now on.
                Err(Error::Decode { .. }) if answer.is_none() && self.room > room => {
                    room = self.room;
                    sequence = self.ask(kind, 0, payload)?;
                }
                outcome => outcome?,
            }
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
            let room = self.room;
            let sequence = self.ask(kind, NLM_F_DUMP, payload)?;
            let (mut rows, mut interrupted, mut done) = (Vec::new(), false, false);
            // A failed parse is kept until the dump has been read out, or it would be mistaken for
            // the answer to the next request.
            let mut failure = None;
            while !done {
                let received = self.receive(|message| {
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
                });
                match received {
                    // Cut short: there is room for it from now on.
                    Err(Error::Decode { .. }) if self.room > room => interrupted = true,
                    outcome => outcome?,
                }
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
        self.room = RECEIVE_BUFFER;
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
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        if std::mem::take(&mut self.overrun) {
            self.discard();
        }
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

    /// Throws away what is left of answers that nobody waits for any more.
    fn discard(&mut self) {
        loop {
            self.buffer.clear();
            let left = self.socket.recv(&mut self.buffer, nix::libc::MSG_DONTWAIT);
            if left.is_err() {
                return;
            }
        }
    }

    /// Waits for one datagram and hands over each message in it.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(Incoming) -> Result<()>) -> Result<()> {
        self.buffer.clear();
        self.buffer.reserve(self.room);
        // MSG_TRUNC: say how long the datagram really was.
        let length = loop {
            match self.socket.recv(&mut self.buffer, nix::libc::MSG_TRUNC) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.overrun |= error.raw_os_error() == Some(Errno::ENOBUFS as i32);
                    return Err(Error::io("read from the kernel by netlink")(error));
                }
            }
        };
        if length > self.room / 2 {
            self.room = self.room.max(RECEIVE_BUFFER).max(length);
        }
        if length > self.buffer.len() {
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

fn too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMSGSIZE as i32)
}
