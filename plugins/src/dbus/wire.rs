//! Messages as bytes (D-Bus specification, "Message Format" and "Marshaling").

use super::{Answer, Method};

/// Length of what comes before the header's fields: byte order, kind, flags, version, the lengths of body and of the
/// fields, and between these the serial.
pub const FIXED: usize = 16;

const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
/// Header fields: what they are for, and their types.
const PATH: (u8, u8) = (1, b'o');
const INTERFACE: (u8, u8) = (2, b's');
const MEMBER: (u8, u8) = (3, b's');
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: (u8, u8) = (6, b's');
const SIGNATURE: (u8, u8) = (8, b'g');

/// A message that has come in, as far as it matters to a caller.
#[derive(Debug, Default)]
pub struct Message {
    kind: u8,
    /// The call that it answers.
    pub reply_to: Option<u32>,
    error: String,
    signature: String,
    body: Vec<u8>,
    big: bool,
}

/// A call of a method with texts as its arguments, in the order of little machines, which everybody can read.
pub fn call(serial: u32, method: Method, arguments: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    arguments.iter().for_each(|text| put_text(&mut body, text));
    let mut fields = Vec::new();
    let texts = [
        (PATH, method.path),
        (DESTINATION, method.destination),
        (INTERFACE, method.interface),
        (MEMBER, method.member),
    ];
    for ((code, kind), text) in texts {
        align(&mut fields, 8);
        fields.extend([code, 1, kind, 0]);
        put_text(&mut fields, text);
    }
    if !arguments.is_empty() {
        align(&mut fields, 8);
        fields.extend([SIGNATURE.0, 1, SIGNATURE.1, 0]);
        fields.push(length(arguments.len()).to_le_bytes()[0]);
        fields.extend(arguments.iter().map(|_| b's'));
        fields.push(0);
    }
    let mut message = vec![b'l', CALL, 0, 1];
    for number in [length(body.len()), serial, length(fields.len())] {
        message.extend(number.to_le_bytes());
    }
    message.extend(fields);
    align(&mut message, 8);
    message.extend(body);
    message
}

/// How many bytes follow the first [`FIXED`] ones.
pub fn rest(fixed: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(fixed);
    reader.skip(4)?;
    let body = reader.number()?;
    reader.skip(4)?;
    let fields = reader.number()?;
    let fields = usize::try_from(fields).ok()?.checked_next_multiple_of(8)?;
    fields.checked_add(usize::try_from(body).ok()?)
}

impl Message {
    /// Reads a whole message.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut message = Self {
            kind: *bytes.get(1)?,
            big: reader.big,
            ..Self::default()
        };
        reader.skip(12)?;
        let end = usize::try_from(reader.number()?).ok()?.checked_add(FIXED)?;
        while reader.at < end {
            reader.align(8);
            let code = *reader.take(1)?.first()?;
            match (code, reader.signature()?.as_str()) {
                (REPLY_SERIAL, "u") => message.reply_to = Some(reader.number()?),
                (ERROR_NAME, "s") => message.error = reader.text()?,
                (code, "g") if code == SIGNATURE.0 => message.signature = reader.signature()?,
                (_, "s" | "o") => reader.text().map(drop)?,
                (_, "g") => reader.signature().map(drop)?,
                (_, "u") => reader.number().map(drop)?,
                _ => return None,
            }
        }
        reader.align(8);
        message.body = bytes.get(reader.at..)?.to_vec();
        Some(message)
    }

    /// What it says to the caller.
    pub fn answer(self) -> Option<Answer> {
        let mut reader = Reader {
            bytes: &self.body,
            at: 0,
            big: self.big,
        };
        let first = self.signature.bytes().next();
        match (self.kind, first) {
            (RETURN, Some(b'b')) => Some(Answer::Truth(reader.number()? != 0)),
            (RETURN, Some(b's')) => reader.text().map(Answer::Text),
            (RETURN, _) => Some(Answer::Text(String::new())),
            (ERROR, Some(b's')) => Some(Answer::Error(self.error, reader.text()?)),
            (ERROR, _) => Some(Answer::Error(self.error, String::new())),
            _ => None,
        }
    }
}

/// Bytes in the order of the machine that wrote them.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    /// Of a message from its beginning, which says the order.
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            big: bytes.first() == Some(&b'B'),
        }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().ok()?;
        Some(match self.big {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        })
    }

    fn text(&mut self) -> Option<String> {
        let count = usize::try_from(self.number()?).ok()?;
        self.closed(count)
    }

    fn signature(&mut self) -> Option<String> {
        let count = *self.take(1)?.first()?;
        self.closed(count.into())
    }

    /// Text with a zero byte behind it.
    fn closed(&mut self, count: usize) -> Option<String> {
        let text = String::from_utf8(self.take(count)?.to_vec()).ok()?;
        self.skip(1)?;
        Some(text)
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    align(bytes, 4);
    bytes.extend(length(text.len()).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const METHOD: Method = Method {
        destination: "org.example.X",
        path: "/x",
        interface: "org.example.X",
        member: "Do",
    };

    #[test]
    fn a_call_is_as_long_as_it_says() {
        for arguments in [&[][..], &["a"], &["four", "seven77"]] {
            let bytes = call(7, METHOD, arguments);
            assert_eq!(rest(&bytes[..FIXED]), Some(bytes.len() - FIXED));
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(message.signature, "s".repeat(arguments.len()));
            assert_eq!(message.answer(), None, "no answer");
        }
    }

    /// An answer to call 7 from a machine of either order.
    fn reply(big: bool, kind: u8, fields: &[u8], body: &[u8]) -> Vec<u8> {
        let number = |number: usize| match big {
            true => length(number).to_be_bytes(),
            false => length(number).to_le_bytes(),
        };
        let mut bytes = vec![if big { b'B' } else { b'l' }, kind, 0, 1];
        bytes.extend(number(body.len()));
        bytes.extend(number(1));
        bytes.extend(number(fields.len() + 8));
        bytes.extend([REPLY_SERIAL, 1, b'u', 0]);
        bytes.extend(number(7));
        bytes.extend(fields);
        align(&mut bytes, 8);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn answers_of_both_byte_orders_are_read() {
        let of_text = [SIGNATURE.0, 1, b'g', 0, 1, b's', 0];
        let of_truth = [SIGNATURE.0, 1, b'g', 0, 1, b'b', 0];
        for big in [false, true] {
            let text: &[u8] = if big {
                b"\0\0\0\x02ok\0"
            } else {
                b"\x02\0\0\0ok\0"
            };
            let truth: &[u8] = if big { &[0, 0, 0, 1] } else { &[1, 0, 0, 0] };
            for (kind, fields, body, answer) in [
                (RETURN, &of_text, text, Answer::Text("ok".to_owned())),
                (RETURN, &of_truth, truth, Answer::Truth(true)),
                (
                    ERROR,
                    &of_text,
                    text,
                    Answer::Error(String::new(), "ok".to_owned()),
                ),
            ] {
                let bytes = reply(big, kind, fields, body);
                assert_eq!(rest(&bytes[..FIXED]), Some(bytes.len() - FIXED));
                let message = Message::parse(&bytes).unwrap();
                assert_eq!(message.reply_to, Some(7));
                assert_eq!(message.answer(), Some(answer));
            }
        }
    }

    #[test]
    fn whatever_comes_is_no_panic() {
        let bytes = reply(
            false,
            RETURN,
            &[SIGNATURE.0, 1, b'g', 0, 1, b's', 0],
            b"\x02\0\0\0ok\0",
        );
        for end in 0..bytes.len() {
            let cut = Message::parse(&bytes[..end]).and_then(Message::answer);
            assert!(!matches!(cut, Some(Answer::Truth(_))));
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = rest(&changed);
                drop(Message::parse(&changed).and_then(Message::answer));
            }
        }
    }
}
