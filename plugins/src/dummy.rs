//! `dummy`: a link with addresses and no wire.

use cni::{AddResult, Call, Plugin, Result, identity};
use netlink::Mac;
use netlink::link::{Dummy as Request, NewLink};

use crate::guest::{self, Birthplace, Guest};
use crate::ipam::Ipam;
use crate::pod::check::{Expected, compare, previous};
use crate::stacked;
use crate::undo::Undo;

/// The plugin; its only key is `ipam`.
#[derive(Debug)]
pub struct Dummy;

const KIND: &str = "dummy";

impl Plugin for Dummy {
    fn about(&self) -> &'static str {
        "CNI dummy plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let mut undo = Undo::default();
        add(call, &mut undo).map_err(|error| undo.run(error))
    }

    fn del(&self, call: &Call) -> Result<()> {
        stacked::del(call, KIND)
    }

    fn check(&self, call: &Call) -> Result<()> {
        Ipam::resolve(call, &ipam(call)?)?.check(call)?;
        let expected = Expected {
            kind: Some(KIND),
            mtu: None,
            up: true,
        };
        compare(call, previous(call)?, expected).map(drop)
    }

    /// The link goes with its pod, so only addresses can be left over.
    fn gc(&self, call: &Call) -> Result<()> {
        Ipam::collect(call)
    }

    fn status(&self, call: &Call) -> Result<()> {
        let ipam = ipam(call)?;
        guest::status(KIND)?;
        Ipam::resolve(call, &ipam)?.status(call)
    }
}

fn add<'a>(call: &'a Call, undo: &mut Undo<'a>) -> Result<AddResult> {
    let mut guest = Guest::open(call, Some(&ipam(call)?))?;
    let new = NewLink {
        mac: Some(Mac::from(identity::mac(&call.attachment, "container"))),
        ..NewLink::default()
    };
    let request = |link: NewLink<'_>| Request { link }.request();
    guest.make(Birthplace::Pod, new, KIND, request, undo)?;
    let result = guest.allocate(undo)?;
    guest.configure(result, None)
}

fn ipam(call: &Call) -> Result<String> {
    let plugin: String = call.conf.parse_key(&["ipam", "type"])?;
    stacked::require_ipam(Some(plugin.as_str()).filter(|name| !name.is_empty()), KIND)?;
    Ok(plugin)
}
