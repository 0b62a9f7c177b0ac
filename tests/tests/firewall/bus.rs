//! A service on a D-Bus, as little of one as a stand-in takes: the bus drops whoever writes what is no message.
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, ensure};
use lab::Result;

/// A connection that has a name.
pub struct Service {
    stream: UnixStream,
    serial: u32,
}

/// A call with texts as its arguments.
pub struct Call {
    serial: u32,
    sender: String,
    pub member: String,
    pub words: Vec<String>,
}

/// What is said to it.
pub enum Answer {
    Text(String),
    Truth(bool),
    Error(String),
}

impl Service {
    /// Connects to a bus and takes the name.
    pub fn new(socket: &str, name: &str) -> Result<Service> {
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let mut said = Vec::new();
        while said.iter().filter(|byte| **byte == b'\n').count() < 2 {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            said.extend(byte);
        }
        let mut service = Service { stream, serial: 0 };
        let bus = "org.freedesktop.DBus";
        let to_bus = |member: &str| {
            let path = field(1, b'o', &text("/org/freedesktop/DBus"));
            [path, named(6, bus), named(2, bus), named(3, member)]
        };
        service.send(1, &to_bus("Hello"), "", &[])?;
        let mut body = text(name);
        pad(&mut body, 4);
        body.extend(0_u32.to_le_bytes());
        service.send(1, &to_bus("RequestName"), "su", &body)?;
        while !service.receive()?.is_some_and(|(kind, fields, _)| {
            kind == 2 && number_of(&fields, 5) == Some(service.serial)
        }) {}
        Ok(service)
    }

    /// The next call.
    pub fn next(&mut self) -> Result<Call> {
        loop {
            let Some((1, fields, body)) = self.receive()? else {
                continue;
            };
            let of = |code| text_of(&fields, code).with_context(|| format!("field {code}"));
            let (mut words, mut rest) = (Vec::new(), body.as_slice());
            while let Some((word, behind)) = split_text(rest) {
                words.push(word);
                let read = body.len() - behind.len();
                rest = body.get(read.next_multiple_of(4)..).unwrap_or_default();
            }
            return Ok(Call {
                serial: number_of(&fields, 0).unwrap_or_default(),
                sender: of(7)?,
                member: of(3)?,
                words,
            });
        }
    }

    /// Answers a call.
    pub fn answer(&mut self, call: &Call, answer: &Answer) -> Result {
        let mut fields = vec![
            field(5, b'u', &call.serial.to_le_bytes()),
            named(6, &call.sender),
        ];
        match answer {
            Answer::Text(word) => self.send(2, &fields, "s", &text(word)),
            Answer::Truth(truth) => self.send(2, &fields, "b", &u32::from(*truth).to_le_bytes()),
            Answer::Error(message) => {
                fields.push(named(4, "org.fedoraproject.FirewallD1.Exception"));
                self.send(3, &fields, "s", &text(message))
            }
        }
    }

    fn send(&mut self, kind: u8, fields: &[Vec<u8>], signature: &str, body: &[u8]) -> Result {
        self.serial += 1;
        let mut all = Vec::new();
        let short = [&[signature.len() as u8], signature.as_bytes(), &[0]].concat();
        let signature = (!signature.is_empty()).then(|| field(8, b'g', &short));
        for field in fields.iter().chain(&signature) {
            pad(&mut all, 8);
            all.extend(field);
        }
        let mut bytes = vec![b'l', kind, 0, 1];
        for number in [body.len() as u32, self.serial, all.len() as u32] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(all);
        pad(&mut bytes, 8);
        bytes.extend(body);
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Kind, fields (the serial as number 0) and body of the next message.
    fn receive(&mut self) -> Result<Option<(u8, Fields, Vec<u8>)>> {
        let mut fixed = [0; 16];
        self.stream.read_exact(&mut fixed)?;
        ensure!(fixed[0] == b'l', "the other byte order");
        let number = |at: usize| {
            u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let length = number(12) as usize;
        let mut bytes = vec![0; length.next_multiple_of(8) + number(4) as usize];
        self.stream.read_exact(&mut bytes)?;
        let body = bytes.split_off(length.next_multiple_of(8));
        let mut fields = vec![(0, number(8).to_le_bytes().to_vec())];
        let mut at = 0;
        while at < length {
            let [code, 1, kind, 0] = bytes[at..at + 4] else {
                return Ok(None);
            };
            at += 4;
            let end = match kind {
                b'g' => at + 2 + usize::from(bytes[at]),
                b'u' => at + 4,
                _ => at + 5 + u32::from_le_bytes(bytes[at..at + 4].try_into()?) as usize,
            };
            fields.push((code, bytes[at..end].to_vec()));
            at = end.next_multiple_of(8);
        }
        Ok(Some((fixed[1], fields, body)))
    }
}

type Fields = Vec<(u8, Vec<u8>)>;

fn find(fields: &Fields, code: u8) -> Option<&[u8]> {
    let found = fields.iter().find(|(found, _)| *found == code)?;
    Some(&found.1)
}

fn number_of(fields: &Fields, code: u8) -> Option<u32> {
    Some(u32::from_le_bytes(find(fields, code)?.try_into().ok()?))
}

fn text_of(fields: &Fields, code: u8) -> Option<String> {
    split_text(find(fields, code)?).map(|(text, _)| text)
}

fn split_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest.get(1..)?))
}

fn text(word: &str) -> Vec<u8> {
    let mut bytes = (word.len() as u32).to_le_bytes().to_vec();
    bytes.extend(word.as_bytes());
    bytes.push(0);
    bytes
}

fn field(code: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    [&[code, 1, kind, 0], value].concat()
}

fn named(code: u8, word: &str) -> Vec<u8> {
    field(code, b's', &text(word))
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}
