//! As much of D-Bus as a call of a method takes: one connection to the system's bus, calls with texts, answers of a text
//! or a truth value (D-Bus specification 0.43, "Message Protocol" and "Authentication Protocol").

mod wire;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use self::wire::Message;

/// Where the system's bus listens.
const SOCKET: &str = "/run/dbus/system_bus_socket";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest message that the specification allows, 2 to the power of 27.
const LONGEST: usize = 1 << 27;

/// A connection to the system's bus.
#[derive(Debug)]
pub struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
}

/// Whom a call goes to, and which method of it.
#[derive(Clone, Copy, Debug)]
pub struct Method<'a> {
    /// The name that the callee has on the bus.
    pub destination: &'a str,
    /// Its object.
    pub path: &'a str,
    /// The interface that the method belongs to.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
}

/// What the callee says to a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A text; the empty one where there is no result.
    Text(String),
    /// A truth value.
    Truth(bool),
    /// An error: its name, and what it says.
    Error(String, String),
}

impl Bus {
    /// Connects; `None` where there is no bus.
    ///
    /// # Errors
    /// When there is one and it does not let us in.
    pub fn connect() -> io::Result<Option<Self>> {
        let stream = match UnixStream::connect(SOCKET) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            stream => stream?,
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bus = Self {
            stream: BufReader::new(stream),
            serial: 0,
        };
        // The socket itself says who we are.
        bus.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let mut line = String::new();
            bus.stream.read_line(&mut line)?;
            match line.split_whitespace().next() {
                Some("DATA") => {}
                Some("OK") => break,
                _ => return Err(malformed(&format!("the bus does not let us in: {line:?}"))),
            }
        }
        bus.call(Method::of_bus("Hello"), &[])?;
        Ok(Some(bus))
    }

    /// Whether somebody has this name.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub fn has_owner(&mut self, name: &str) -> io::Result<bool> {
        let answer = self.call(Method::of_bus("NameHasOwner"), &[name])?;
        Ok(answer == Answer::Truth(true))
    }

    /// Calls a method with texts as its arguments and waits for the answer.
    ///
    /// # Errors
    /// When none comes, or none that can be read; an error that the callee returns is an answer.
    pub fn call(&mut self, method: Method, arguments: &[&str]) -> io::Result<Answer> {
        self.serial += 1;
        self.send(&wire::call(self.serial, method, arguments))?;
        loop {
            let message = self.receive()?;
            // Signals come in between.
            if message.reply_to == Some(self.serial) {
                return message
                    .answer()
                    .ok_or_else(|| malformed("an answer cannot be read"));
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut bytes = vec![0; wire::FIXED];
        self.stream.read_exact(&mut bytes)?;
        let rest = wire::rest(&bytes).filter(|rest| *rest <= LONGEST);
        let rest = rest.ok_or_else(|| malformed("a message has no such length"))?;
        bytes.resize(wire::FIXED + rest, 0);
        self.stream.read_exact(&mut bytes[wire::FIXED..])?;
        Message::parse(&bytes).ok_or_else(|| malformed("a message cannot be read"))
    }
}

impl<'a> Method<'a> {
    /// A method of the bus itself.
    fn of_bus(member: &'a str) -> Self {
        Self {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
