//! The programs in the kernel: loaded once, attached to links (tcx, Linux 6.6), detached when what holds them is dropped.

use aya::programs::tc::{SchedClassifier, SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::programs::{LinkOrder, ProgramError};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

/// What `make fast-path` makes of `bpf/fast_path.c`.
static OBJECT: &[u8] = include_bytes_aligned!("../../bpf/fast_path.o");

/// Which end of the fast path a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The VXLAN device.
    Overlay,
    /// The host's end of a pod's veth pair.
    Pod,
}

/// The loaded programs; they share the table of ways.
#[derive(Debug)]
pub struct Programs(Ebpf);

/// Two programs at one link.
#[derive(Debug)]
pub struct Attached {
    _replay: SchedClassifierLink,
    _learn: SchedClassifierLink,
}

impl Side {
    /// The programs at the link's ingress and egress.
    fn programs(self) -> [(&'static str, TcAttachType); 2] {
        let [replay, learn] = match self {
            Self::Overlay => ["replay_inbound", "learn_outbound"],
            Self::Pod => ["replay_outbound", "learn_inbound"],
        };
        [
            (replay, TcAttachType::Ingress),
            (learn, TcAttachType::Egress),
        ]
    }
}

impl Programs {
    /// Loads them.
    ///
    /// # Errors
    /// When the kernel or the daemon's rights do not allow it, with the remedy.
    pub fn load() -> Result<Self, String> {
        // They touch nothing of the kernel's own types, and its BTF is megabytes to read.
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        let mut programs = loader.load(OBJECT).map_err(|error| said(&error))?;
        for (_, program) in programs.programs_mut() {
            let program: &mut SchedClassifier = program
                .try_into()
                .map_err(|error: ProgramError| said(&error))?;
            program.load().map_err(|error| said(&error))?;
        }
        Ok(Self(programs))
    }

    /// Attaches the programs of a side to a link of that name, before whatever others there are.
    ///
    /// # Errors
    /// When the kernel refuses: it is older than 6.6, or the link is gone.
    pub fn attach(&mut self, link: &str, side: Side) -> Result<Attached, String> {
        let [replay, learn] = side
            .programs()
            .map(|(name, direction)| self.attach_one(name, link, direction));
        Ok(Attached {
            _replay: replay?,
            _learn: learn?,
        })
    }

    fn attach_one(
        &mut self,
        name: &str,
        link: &str,
        direction: TcAttachType,
    ) -> Result<SchedClassifierLink, String> {
        let program = self
            .0
            .program_mut(name)
            .ok_or_else(|| format!("there is no program {name}"))?;
        let attach = |program: &mut SchedClassifier| {
            let order = TcAttachOptions::TcxOrder(LinkOrder::first());
            let id = program.attach_with_options(link, direction, order)?;
            program.take_link(id)
        };
        program
            .try_into()
            .and_then(attach)
            .map_err(|error| said(&error))
    }
}

/// An error with the cause at its root, and what can be done.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    format!("{text}: it needs Linux 6.6, CAP_BPF and CAP_NET_ADMIN, or set \"fast_path\" to false")
}
