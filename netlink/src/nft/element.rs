//! Elements of sets and maps.

use std::net::IpAddr;

use netlink_packet_core::{
    DecodeError, DefaultNla, NLA_F_NESTED, NlaBuffer, NlasIterator, Parseable,
};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, SetElementAttribute, SetElementList, Verdict, VerdictAttribute,
};

use super::{Attributes, GET_ELEMENT, Key, Table, body, comment, message, read_comment};
use crate::error::{Error, Result};
use crate::request::emit;
use crate::socket::Socket;

/// `NFTA_SET_ELEM_LIST_ELEMENTS`.
const ELEMENTS: u16 = 3;

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its key.
    pub key: Key,
    /// What happens to a packet that has the key.
    pub value: Option<Value>,
    /// Its comment, at most 127 bytes: the `nft` program shows no longer one.
    pub comment: Option<String>,
}

/// What a key stands for in a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Go on in another chain, then behind the rule that looked this up.
    Jump(String),
    /// An address and a port to send packets to.
    Target(IpAddr, u16),
}

pub(super) fn attributes(table: Table, set: &str, elements: &[Element]) -> Vec<SetElementList> {
    // Written out one by one: the packet crate works out the length of each anew for each level that is around it.
    let each: Vec<_> = elements
        .iter()
        .map(|element| emit(&encode(element)))
        .collect();
    vec![
        SetElementList::Table(table.name.to_owned()),
        SetElementList::Set(set.to_owned()),
        SetElementList::Other(DefaultNla::new(ELEMENTS | NLA_F_NESTED, each.concat())),
    ]
}

fn encode(element: &Element) -> ListAttribute<SetElementAttribute> {
    let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(
        element.key.0.clone(),
    ))];
    let value = element.value.as_ref().map(|value| match value {
        Value::Jump(chain) => DataAttribute::Verdict(vec![
            VerdictAttribute::Code(Verdict::Jump),
            VerdictAttribute::Chain(chain.clone()),
        ]),
        Value::Target(address, port) => {
            let mut bytes = Key::from(*address).0;
            bytes.extend(port.to_be_bytes());
            bytes.extend([0, 0]);
            DataAttribute::Value(bytes)
        }
    });
    attributes.extend(value.map(SetElementAttribute::Data));
    attributes.extend(
        element
            .comment
            .as_deref()
            .map(comment)
            .map(SetElementAttribute::UserData),
    );
    ListAttribute::Element(attributes)
}

pub(super) fn get(
    socket: &mut Socket,
    table: Table,
    set: &str,
    key: &Key,
) -> Result<Option<Element>> {
    let wanted = Element {
        key: key.clone(),
        value: None,
        comment: None,
    };
    let query = message(
        table.family,
        &Attributes(&attributes(table, set, &[wanted])),
    );
    let found = socket.get(
        GET_ELEMENT,
        &query,
        || format!("an element of {set}"),
        parse,
    )?;
    Ok(found.and_then(|elements| elements.into_iter().next()))
}

pub(super) fn list(socket: &mut Socket, table: Table, set: &str) -> Result<Vec<Element>> {
    let of_set = [
        SetElementList::Table(table.name.to_owned()),
        SetElementList::Set(set.to_owned()),
    ];
    let query = message(table.family, &Attributes(&of_set));
    let found = socket.dump(GET_ELEMENT, &query, "elements", |_, payload| {
        parse(payload).map(Some)
    });
    match found {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        found => Ok(found?.into_iter().flatten().collect()),
    }
}

/// Walks the lists itself: the packet crate's `VecListAttribute` writes the whole list out for each element in it.
pub(crate) fn parse(payload: &[u8]) -> Result<Vec<Element>> {
    let malformed = || Error::decode("a set's elements");
    let mut elements = Vec::new();
    for list in NlasIterator::new(body(payload)) {
        let list = list.map_err(malformed())?;
        if list.kind() != ELEMENTS {
            continue;
        }
        for element in NlasIterator::new(list.value()) {
            let element = element.map_err(malformed())?;
            if !is_whole(element.value()) {
                let why = DecodeError::from("an element's key or value is cut short".to_owned());
                return Err(malformed()(why));
            }
            elements.extend(decode(ListAttribute::parse(&element).map_err(malformed())?));
        }
    }
    Ok(elements)
}

/// Whether the attributes within an element's key and value are as long as they say: the packet crate takes that for granted.
fn is_whole(element: &[u8]) -> bool {
    /// `NFTA_SET_ELEM_KEY`, `NFTA_SET_ELEM_DATA`, `NFTA_SET_ELEM_EXPR`, `NFTA_SET_ELEM_KEY_END`.
    const NESTED: [u16; 4] = [1, 2, 7, 10];
    NlasIterator::new(element).all(|attribute| {
        attribute.is_ok_and(|attribute| {
            !NESTED.contains(&attribute.kind()) || NlaBuffer::new_checked(attribute.value()).is_ok()
        })
    })
}

fn decode(element: ListAttribute<SetElementAttribute>) -> Option<Element> {
    let ListAttribute::Element(attributes) = element else {
        return None;
    };
    let (mut key, mut value, mut comment) = (None, None, None);
    for attribute in attributes {
        match attribute {
            SetElementAttribute::Key(DataAttribute::Value(bytes)) => key = Some(Key(bytes)),
            SetElementAttribute::Data(DataAttribute::Verdict(verdict)) => value = jump(verdict),
            SetElementAttribute::Data(DataAttribute::Value(bytes)) => value = target(bytes),
            SetElementAttribute::UserData(bytes) => comment = read_comment(&bytes),
            _ => {}
        }
    }
    key.map(|key| Element {
        key,
        value,
        comment,
    })
}

/// An address and a port, each in whole registers of four bytes.
fn target(mut bytes: Vec<u8>) -> Option<Value> {
    let port = bytes.split_off(bytes.len().checked_sub(4)?);
    let address = Key(bytes).address()?;
    Some(Value::Target(
        address,
        u16::from_be_bytes([port[0], port[1]]),
    ))
}

fn jump(verdict: Vec<VerdictAttribute>) -> Option<Value> {
    verdict.into_iter().find_map(|attribute| match attribute {
        VerdictAttribute::Chain(chain) => Some(Value::Jump(chain)),
        _ => None,
    })
}
