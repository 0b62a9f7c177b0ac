//! The bodies under proptest: anything, and the files of `fuzz/corpus` with a few bytes that are others.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// What cargo-fuzz begins with, and proptest as well.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let files = fs::read_dir(fuzz.join(target)).unwrap();
    let files = files.map(|file| fs::read(file.unwrap().path()).unwrap());
    files.collect()
}

type Change = (prop::sample::Index, u8, u8);

/// Each byte becomes another, is left out, or comes twice, and the rest may be cut off.
fn changed(seed: &[u8], changes: Vec<Change>, cut: Option<prop::sample::Index>) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for (at, how, byte) in changes.into_iter().filter(|_| !seed.is_empty()) {
        let at = at.index(bytes.len());
        match how % 4 {
            0 => bytes[at] = byte,
            1 => bytes[at] ^= 1 << (byte % 8),
            2 => bytes.insert(at, byte),
            _ if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => {}
        }
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len() + 1));
    }
    bytes
}

macro_rules! targets {
    ($($name:ident $body:path, $cases:literal;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn the_corpus() {
                let files = corpus(stringify!($name));
                assert!(!files.is_empty());
                files.iter().for_each(|bytes| $body(bytes));
            }

            proptest! {
                #![proptest_config(ProptestConfig::with_cases($cases))]

                #[test]
                fn anything(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
                    $body(&bytes);
                }

                #[test]
                fn almost_what_is_meant(
                    seed in any::<prop::sample::Index>(),
                    changes in prop::collection::vec(any::<Change>(), 0..5),
                    cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
                ) {
                    let files = corpus(stringify!($name));
                    let seed = seed.get(&files);
                    $body(&changed(seed, changes, cut));
                }
            }
        }
    )*};
}

targets! {
    config config, 256;
    datagram datagram, 256;
    far far, 1000;
    http http, 128;
    lines lines, 256;
    node_list node_list, 256;
    nodes_file nodes_file, 256;
    services services, 256;
    state state, 128;
}

/// Two hundred thousand chains that lead to one another: no stack is so deep.
#[test]
fn a_long_way_through_chains() {
    let mut text =
        String::from("*nat\n-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp --dport 443 -j KUBE-0\n");
    for n in 0..200_000 {
        text += &format!("-A KUBE-{n} -j KUBE-{}\n", n + 1);
    }
    services(text.as_bytes());
}

/// What nobody meant to write is neither counted nor kept.
#[test]
fn many_names_in_the_lines_of_the_calls() {
    let name = |n: u32| {
        n.to_string()
            .bytes()
            .map(|digit| char::from(digit + 49))
            .collect::<String>()
    };
    let text: String = (0..10_000)
        .map(|n| format!("{} ADD ok 1\n", name(n)))
        .collect();
    lines(text.as_bytes());
    let mut counter = Counter::new(calls::none());
    for line in [
        "a EXEC ok 1",
        "a ADD good 1",
        "A/../b ADD ok 1",
        "a ADD ok -1",
        "a ADD ok 1 2",
        "",
    ] {
        counter.count(line);
    }
    assert_eq!(counter.names(), 0);
}
