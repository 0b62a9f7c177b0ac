//! Files of the lease store and of resolv.conf(5) with anything in them: none of the readers panics. For the tests of this
//! crate and for `fuzz/`; not part of a build.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::index::Entry;
use super::lease::Owner;
use super::resolv_conf;

/// The bytes as a lease, as a row of the index and as resolv.conf. What is read is written as it is read.
pub fn file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = resolv_conf::parse(&text);
    if let Some(owner) = Owner::parse(&text) {
        let again = String::from_utf8_lossy(&owner.content()).into_owned();
        let reread = Owner::parse(&again);
        assert_eq!(
            reread.map(|owner| owner.0.container_id),
            Some(owner.0.container_id),
            "{text:?}"
        );
    }
    if let Some(entry) = Entry::parse(Path::new(OsStr::from_bytes(bytes))) {
        let again = entry.to_string();
        assert_eq!(Entry::parse(Path::new(&again)), Some(entry), "{text:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn anything(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            file(&bytes);
        }

        #[test]
        fn almost_ours(text in "[a-z0-9. \r\n\t:,-]{0,60}") {
            file(text.as_bytes());
        }
    }
}
