//! Traffic control: token buckets that limit a link's rate, and a redirection of what comes in by one link
//! through another. The packet crate has neither the bucket nor a short way to the rest, so the messages are
//! put together here, after include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h.

use netlink_packet_core::{
    DefaultNla, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NlasIterator,
};
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::request::{Bytes, Request, emit};
use crate::socket::Socket;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;

/// `TC_H_ROOT`, `TC_H_INGRESS`.
const ROOT: u32 = u32::MAX;
const INGRESS: u32 = 0xffff_fff1;
/// `ffff:`, the handle of every ingress queueing discipline.
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// `1:`.
const BUCKET_HANDLE: u32 = 1 << 16;
/// Length of `struct tcmsg`.
const HEADER: usize = 20;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const TBF: &str = "tbf";
/// What a dump of them is called in errors.
const QUEUES: &str = "queueing disciplines";
/// `TCA_U32_ACT`, in an action `TCA_ACT_KIND` and `TCA_ACT_OPTIONS`, and there `TCA_MIRRED_PARMS`.
const ACTIONS: u16 = 7;
const MIRRED: u16 = 2;
/// Nanoseconds in a tick of `struct tc_tbf_qopt` (`PSCHED_SHIFT`, include/net/pkt_sched.h).
const TICK: u64 = 64;

/// A token bucket (`tbf`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes in a second.
    pub rate: u64,
    /// Bytes that may go at once.
    pub burst: u32,
    /// Bytes that may wait.
    pub limit: u32,
}

impl Bucket {
    /// Makes this bucket the link's queue, in place of another bucket or of what the kernel has there by itself.
    /// Equals `tc qdisc replace dev NAME root handle 1: tbf rate R burst B limit L`.
    pub fn request(self, index: u32) -> Request {
        /// `TCA_TBF_PARMS`, `TCA_TBF_RATE64`, `TCA_TBF_BURST`.
        const PARAMETERS: u16 = 1;
        const RATE64: u16 = 4;
        const BURST: u16 = 6;
        let mut options = attribute(PARAMETERS, self.parameters());
        if self.rate > u64::from(u32::MAX) {
            options.extend(attribute(RATE64, self.rate.to_ne_bytes().to_vec()));
        }
        options.extend(attribute(BURST, self.burst.to_ne_bytes().to_vec()));
        let mut message = header(index, BUCKET_HANDLE, ROOT, 0);
        message.extend(kind(TBF));
        message.extend(nest(OPTIONS, options));
        Request::new(
            RTM_NEWQDISC,
            NLM_F_CREATE | NLM_F_REPLACE,
            &Bytes(message),
            "create",
            format!("the token bucket of link {index}"),
        )
    }

    /// `struct tc_tbf_qopt`: two of `struct tc_ratespec`, then limit, burst in ticks, and the burst of the peak.
    fn parameters(self) -> Vec<u8> {
        /// `TC_LINKLAYER_ETHERNET`: sizes are what they are, and no table of them is needed.
        const ETHERNET: u8 = 1;
        let ticks = u64::from(self.burst) * 1_000_000_000 / self.rate.max(1) / TICK;
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        let mut bytes = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
        bytes.extend(rate.to_ne_bytes());
        bytes.extend([0; 12]);
        bytes.extend(self.limit.to_ne_bytes());
        bytes.extend(u32::try_from(ticks).unwrap_or(u32::MAX).to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    /// What the kernel says of a bucket; it tells the burst as the time that it lasts.
    fn read(options: &[u8]) -> Option<Self> {
        const PARAMETERS: u16 = 1;
        const RATE64: u16 = 4;
        let word = |bytes: &[u8], at: usize| {
            Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        let (mut bucket, mut ticks, mut rate64) = (None, 0, None);
        for attribute in NlasIterator::new(options).filter_map(std::result::Result::ok) {
            match attribute.kind() {
                PARAMETERS => {
                    let bytes = attribute.value();
                    ticks = u64::from(word(bytes, 28)?);
                    bucket = Some(Self {
                        rate: word(bytes, 8)?.into(),
                        limit: word(bytes, 24)?,
                        burst: 0,
                    });
                }
                RATE64 => rate64 = attribute.value().try_into().ok().map(u64::from_ne_bytes),
                _ => {}
            }
        }
        let bucket = bucket?;
        let rate = rate64.unwrap_or(bucket.rate);
        let burst = u128::from(ticks) * u128::from(TICK) * u128::from(rate) / 1_000_000_000;
        Some(Self {
            rate,
            burst: u32::try_from(burst).unwrap_or(u32::MAX),
            ..bucket
        })
    }
}

/// Lets filters look at what comes in by a link. Equals `tc qdisc add dev NAME ingress`.
pub fn add_ingress(index: u32) -> Request {
    let mut message = header(index, INGRESS_HANDLE, INGRESS, 0);
    message.extend(kind("ingress"));
    Request::new(
        RTM_NEWQDISC,
        NLM_F_CREATE | NLM_F_EXCL,
        &Bytes(message),
        "create",
        format!("the ingress queue of link {index}"),
    )
}

/// Sends all that comes in by a link out by another instead. Equals `tc filter add dev NAME ingress protocol all
/// prio 1 u32 match u32 0 0 action mirred egress redirect dev OTHER`.
pub fn redirect(index: u32, to: u32) -> Request {
    /// `TCA_U32_CLASSID`, `TCA_U32_SEL`.
    const CLASS: u16 = 1;
    const SELECTOR: u16 = 5;
    /// `TC_ACT_STOLEN`, `TCA_EGRESS_REDIR`, `ETH_P_ALL`.
    const STOLEN: u32 = 4;
    const REDIRECT: u32 = 1;
    const ALL: u16 = 3;
    // struct tc_u32_sel: it ends here (TC_U32_TERMINAL), and has one key, of which no bit has to match.
    let mut selector = vec![0; 32];
    selector[0] = 1;
    selector[2] = 1;
    // struct tc_mirred.
    let fields = [0, 0, STOLEN, 0, 0, REDIRECT, to];
    let mirred = fields
        .iter()
        .flat_map(|field| field.to_ne_bytes())
        .collect();
    let mut action = kind("mirred");
    action.extend(nest(OPTIONS, attribute(MIRRED, mirred)));
    let mut options = attribute(CLASS, (BUCKET_HANDLE | 1).to_ne_bytes().to_vec());
    options.extend(attribute(SELECTOR, selector));
    options.extend(nest(ACTIONS, nest(1, action)));
    let priority = 1 << 16 | u32::from(ALL.to_be());
    let mut message = header(index, 0, INGRESS_HANDLE, priority);
    message.extend(kind("u32"));
    message.extend(nest(OPTIONS, options));
    Request::new(
        RTM_NEWTFILTER,
        NLM_F_CREATE | NLM_F_EXCL,
        &Bytes(message),
        "create",
        format!("the redirection from link {index} to link {to}"),
    )
}

/// Deletes a link's token bucket, if it has one, and its ingress queue with the filters.
pub(crate) fn clear(socket: &mut Socket, index: u32) -> Result<()> {
    for (parent, name) in [(ROOT, TBF), (INGRESS, "ingress")] {
        let mut message = header(index, 0, parent, 0);
        message.extend(kind(name));
        let object = format!("the {name} queue of link {index}");
        let request = Request::new(RTM_DELQDISC, 0, &Bytes(message), "delete", object);
        match socket.execute(&[request]) {
            // EINVAL: another kind of queue than the one named.
            Err(error) if error.is_not_found() || error.errno() == Some(Errno::EINVAL) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// The token bucket that is a link's queue.
pub(crate) fn bucket(socket: &mut Socket, index: u32) -> Result<Option<Bucket>> {
    let query = header(index, 0, 0, 0);
    let buckets = socket.dump(RTM_GETQDISC, &query, QUEUES, |_, payload| {
        let (found, parent, name, options) = parse(payload)?;
        let is_wanted = found == index && parent == ROOT && name == TBF;
        Ok(is_wanted.then(|| Bucket::read(&options)).flatten())
    })?;
    Ok(buckets.into_iter().next())
}

/// The index of each link that has a queueing discipline, and its kind; once for each discipline.
pub(crate) fn queues(socket: &mut Socket) -> Result<Vec<(u32, String)>> {
    let query = header(0, 0, 0, 0);
    socket.dump(RTM_GETQDISC, &query, QUEUES, |_, payload| {
        let (index, _, kind, _) = parse(payload)?;
        Ok(Some((index, kind)))
    })
}

/// The links that filters send what comes in by a link to.
pub(crate) fn redirections(socket: &mut Socket, index: u32) -> Result<Vec<u32>> {
    let query = header(index, 0, INGRESS_HANDLE, 0);
    let filters = socket.dump(RTM_GETTFILTER, &query, "filters", |_, payload| {
        Ok(target(payload.get(HEADER..).unwrap_or_default()))
    });
    match filters {
        Err(error) if error.is_not_found() || error.errno() == Some(Errno::EINVAL) => {
            Ok(Vec::new())
        }
        filters => filters,
    }
}

/// Where a filter's first action redirects packets to, if that is what it does.
fn target(filter: &[u8]) -> Option<u32> {
    let find = |attributes: &[u8], kind: u16| {
        let mut found = NlasIterator::new(attributes).filter_map(std::result::Result::ok);
        let found = found.find(|attribute| attribute.kind() & !NLA_F_NESTED == kind)?;
        Some(found.value().to_vec())
    };
    let action = find(&find(&find(filter, OPTIONS)?, ACTIONS)?, 1)?;
    let mirred = find(&find(&action, OPTIONS)?, MIRRED)?;
    // The last word of struct tc_mirred.
    let index = mirred.get(24..28)?.try_into().ok()?;
    Some(u32::from_ne_bytes(index))
}

/// `struct tcmsg`.
fn header(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let words = [0, index, handle, parent, info];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn attribute(number: u16, value: Vec<u8>) -> Vec<u8> {
    emit(&DefaultNla::new(number, value))
}

fn nest(number: u16, attributes: Vec<u8>) -> Vec<u8> {
    attribute(number | NLA_F_NESTED, attributes)
}

fn kind(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    attribute(KIND, bytes)
}

/// Link, parent, kind and options of a queueing discipline.
pub(crate) fn parse(payload: &[u8]) -> Result<(u32, u32, String, Vec<u8>)> {
    let word = |at: usize| {
        let bytes = payload
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        u32::from_ne_bytes(bytes.unwrap_or_default())
    };
    let (mut name, mut options) = (String::new(), Vec::new());
    for attribute in NlasIterator::new(payload.get(HEADER..).unwrap_or_default()) {
        let attribute = attribute.map_err(Error::decode("a queueing discipline"))?;
        match attribute.kind() {
            KIND => {
                name = String::from_utf8_lossy(attribute.value())
                    .trim_end_matches('\0')
                    .to_owned();
            }
            OPTIONS => options = attribute.value().to_vec(),
            _ => {}
        }
    }
    Ok((word(4), word(12), name, options))
}
