//! The leases of one network, locked: what is read and changed here nobody else changes meanwhile.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use cni::{Attachment, Code, Error, Result};
use nix::fcntl::OFlag;

use super::conf::Place;
use super::index::Index;
use super::lease::{self, Draft, Lease, Owner};
use super::lock;
use super::range::RangeSet;

/// Mode of the lease directory, as the reference plugin makes it.
const DIRECTORY_MODE: u32 = 0o755;

/// Open and locked until dropped.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    directory: File,
    index: Index,
    _lock: File,
}

impl Store {
    /// Opens the store, making its directories if need be.
    ///
    /// # Errors
    /// Code 11 when another holds the lock too long, code 5 when a file cannot be made or read.
    pub fn create(place: &Place) -> Result<Self> {
        place.check()?;
        let path = place.leases();
        if !path.is_dir() {
            DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(&path)
                .map_err(io_error(format!(
                    "make the lease directory {}",
                    path.display()
                )))?;
        }
        Self::locked(place)
    }

    /// Opens the store; `None` when nothing was ever leased there.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn open(place: &Place) -> Result<Option<Self>> {
        match place.leases().is_dir() {
            true => {
                place.check()?;
                Self::locked(place).map(Some)
            }
            false => Ok(None),
        }
    }

    fn locked(place: &Place) -> Result<Self> {
        let path = place.leases();
        let lock = lock::take(&path)?;
        let open = || -> io::Result<Self> {
            let index = Index::open(place.index())?;
            let store = Self {
                directory: File::open(&path)?,
                path: path.clone(),
                index,
                _lock: lock,
            };
            if !store.index.is_exact(&store.directory)? {
                store.index.rebuild(&lease::all(&store.path)?)?;
                store.index.seal(&store.directory)?;
            }
            Ok(store)
        };
        open().map_err(io_error(format!("read the leases in {}", path.display())))
    }

    /// The addresses that the attachment holds; failing those, the ones leased to its container by a
    /// writer that did not note interfaces down.
    ///
    /// # Errors
    /// Code 5 when the index cannot be read.
    pub fn leases_of(&mut self, attachment: &Attachment) -> Result<Vec<IpAddr>> {
        self.owned(attachment).map(|(_, addresses)| addresses)
    }

    fn owned(&self, attachment: &Attachment) -> Result<(Owner, Vec<IpAddr>)> {
        let owner = Owner(attachment.clone());
        for owner in [owner.clone(), Owner::without_interface(attachment)] {
            let entry = self
                .index
                .get(&owner)
                .map_err(self.failed("read the index of"))?;
            if let Some(entry) = entry {
                return Ok((owner, entry.addresses));
            }
        }
        Ok((owner, Vec::new()))
    }

    /// A lease for the attachment, still without an address.
    ///
    /// # Errors
    /// Code 5 when there is no room for it.
    pub fn draft(&self, attachment: &Attachment) -> Result<Draft> {
        Draft::new(&self.path, &Owner(attachment.clone())).map_err(self.failed("write a lease to"))
    }

    /// Leases `address` and notes it down as the last one of set `set`; false when it is taken.
    ///
    /// # Errors
    /// Code 5 when there is no room; nothing is leased then.
    pub fn take(&mut self, draft: &Draft, address: IpAddr, set: usize) -> Result<bool> {
        if !draft
            .publish(&self.path, address)
            .map_err(self.failed("write a lease to"))?
        {
            return Ok(false);
        }
        match self.write_last_reserved(set, address) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.give_back(&[address])?;
                Err(self.failed("note down the last address given out in")(
                    error,
                ))
            }
        }
    }

    /// Completes an ADD: the attachment holds `taken` beside what it held before.
    pub fn remember(&mut self, attachment: &Attachment, mut taken: Vec<IpAddr>) {
        let owner = Owner(attachment.clone());
        let note = || -> io::Result<()> {
            let before = self.index.get(&owner)?.unwrap_or_default();
            taken.extend(before.addresses);
            self.index.put(&owner, taken)?;
            self.index.seal(&self.directory)
        };
        // The leases are what counts. An index that cannot be written stays unsealed, and is made anew
        // by the next call.
        let _ = note();
    }

    /// Frees addresses that [`Store::take`] has leased and that were never remembered.
    ///
    /// # Errors
    /// Code 5 when a lease cannot be removed.
    pub fn give_back(&mut self, addresses: &[IpAddr]) -> Result<()> {
        let freed = addresses
            .iter()
            .try_for_each(|address| lease::remove(&self.path, *address));
        freed
            .and_then(|()| self.index.seal(&self.directory))
            .map_err(self.failed("free addresses in"))
    }

    /// Frees all that the attachment holds; nothing is no error.
    ///
    /// # Errors
    /// Code 5 when a lease cannot be removed.
    pub fn release(&mut self, attachment: &Attachment) -> Result<()> {
        let (owner, addresses) = self.owned(attachment)?;
        match addresses.is_empty() {
            true => Ok(()),
            false => self.release_all(addresses.into_iter().map(|address| Lease {
                address,
                owner: Some(owner.clone()),
            })),
        }
    }

    /// Frees all that none of the valid attachments holds.
    ///
    /// # Errors
    /// Code 5 when a lease cannot be read or removed.
    pub fn release_all_but(&mut self, valid: &[Attachment]) -> Result<()> {
        let leases = lease::all(&self.path).map_err(self.failed("read the leases in"))?;
        let stale = leases.into_iter().filter(|lease| {
            lease
                .owner
                .as_ref()
                .is_none_or(|owner| !owner.is_among(valid))
        });
        self.release_all(stale)
    }

    /// Frees the addresses of `set` whose pods cannot live any more: those leased before this boot, with what the same
    /// pods have of other sets, and empty files, which a power cut leaves behind. Says how many of `set` that were.
    ///
    /// # Errors
    /// Code 5 when a lease cannot be read or removed.
    pub fn reclaim(&mut self, set: &RangeSet) -> Result<usize> {
        let dead = self.dead(set)?;
        if !dead.is_empty() {
            let leases = lease::all(&self.path).map_err(self.failed("read the leases in"))?;
            let owners: HashSet<_> = dead
                .iter()
                .filter_map(|lease| lease.owner.as_ref())
                .collect();
            // The index has one entry for all that an owner has: it goes with the first of them.
            let theirs = leases.into_iter().filter(|lease| match &lease.owner {
                Some(owner) => owners.contains(owner),
                None => set.contains(lease.address),
            });
            self.release_all(theirs)?;
        }
        Ok(dead.len())
    }

    /// The leases of `set` that [`Store::reclaim`] would free.
    ///
    /// # Errors
    /// Code 5 when a lease cannot be read.
    pub fn dead(&self, set: &RangeSet) -> Result<Vec<Lease>> {
        let dead = || -> io::Result<Vec<Lease>> {
            let mut dead = Vec::new();
            for lease in lease::all(&self.path)?
                .into_iter()
                .filter(|lease| set.contains(lease.address))
            {
                // We hold the lock, so an empty file has no writer that is about to fill it.
                let gone = match &lease.owner {
                    Some(owner) => self.index.is_from_earlier_boot(owner)?,
                    None => true,
                };
                if gone {
                    dead.push(lease);
                }
            }
            Ok(dead)
        };
        dead().map_err(self.failed("read the leases in"))
    }

    /// Who holds `address`.
    ///
    /// # Errors
    /// Code 5 when its lease cannot be read.
    pub fn holder(&self, address: IpAddr) -> Result<Option<Owner>> {
        let lease = lease::read(&self.path, address).map_err(self.failed("read a lease in"))?;
        Ok(lease.and_then(|lease| lease.owner))
    }

    /// All addresses that are leased.
    ///
    /// # Errors
    /// Code 5 when the directory cannot be read.
    pub fn addresses(&self) -> Result<HashSet<IpAddr>> {
        let addresses = lease::addresses(&self.path).map_err(self.failed("list the leases in"))?;
        Ok(addresses.into_iter().collect())
    }

    /// The address that was given out last from set `set`; garbage counts as none, as for the reference.
    pub fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let text = fs::read_to_string(self.last_reserved_path(set)).ok()?;
        text.trim().parse().ok()
    }

    fn write_last_reserved(&self, set: usize, address: IpAddr) -> io::Result<()> {
        use std::io::Write;
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(self.last_reserved_path(set))?;
        file.write_all(address.to_canonical().to_string().as_bytes())
    }

    fn last_reserved_path(&self, set: usize) -> PathBuf {
        self.path.join(format!("last_reserved_ip.{set}"))
    }

    fn release_all(&mut self, leases: impl Iterator<Item = Lease>) -> Result<()> {
        let release = |lease: Lease| -> io::Result<()> {
            // Only what is really this owner's, whatever the index says.
            if lease::read(&self.path, lease.address)?.is_some_and(|found| found == lease) {
                lease::remove(&self.path, lease.address)?;
            }
            match &lease.owner {
                Some(owner) => self.index.remove(owner),
                None => Ok(()),
            }
        };
        let mut leases = leases;
        let released = leases.try_for_each(release);
        released
            .and_then(|()| self.index.seal(&self.directory))
            .map_err(self.failed("free addresses in"))
    }

    fn failed(&self, doing: &str) -> impl FnOnce(io::Error) -> Error + use<> {
        io_error(format!("{doing} {}", self.path.display()))
    }
}

fn io_error(doing: String) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::new(Code::Io, format!("cannot {doing}: {error}"))
}
