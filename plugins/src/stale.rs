//! What GC asks of every mark that it finds.

use std::collections::HashSet;

use cni::{Call, identity};

/// Says of a mark of at most `max` bytes ([`identity::ALIAS_MAX`], [`identity::COMMENT_MAX`]) whether it is that of an
/// attachment to this call's network that is not among the valid ones.
pub fn marks(call: &Call, max: usize) -> impl Fn(&str) -> bool + use<> {
    let network = call.conf.name.clone();
    let valid = call.conf.valid_attachments.iter().flatten();
    let keep: HashSet<String> = valid
        .map(|attachment| identity::mark(&network, attachment, max))
        .collect();
    move |mark| identity::belongs_to(mark, &network) && !keep.contains(mark)
}
