//! Files that root makes where others may have been before: a link that somebody else has planted is never followed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Makes a file that is to get its name by a rename; what has this name already, such as what a killed call has left, goes.
/// `O_EXCL` follows no link (open(2)).
///
/// # Errors
/// When it cannot be made, or somebody else has made it in between.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    let create = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
    };
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()
        }
        made => made,
    }
}

/// Refuses a directory to which a symbolic link of another user's leads; those of root's and of one's own are as they are
/// meant to be.
///
/// # Errors
/// A sentence that names the link.
pub fn check_way(dir: &Path) -> io::Result<()> {
    for path in dir.ancestors() {
        let Ok(found) = path.symlink_metadata() else {
            // Not there yet.
            continue;
        };
        let is_planted = || -> io::Result<bool> {
            Ok(found.uid() != 0 && found.uid() != fs::metadata("/proc/self")?.uid())
        };
        if found.is_symlink() && is_planted()? {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{} is a symbolic link that user {} has made: name a directory below which only root writes",
                    path.display(),
                    found.uid()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn a_link_in_the_way_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, path) = (dir.path().join("victim"), dir.path().join("new"));
        fs::write(&victim, "theirs").unwrap();
        symlink(&victim, &path).unwrap();
        create(&path, 0o600).unwrap().write_all(b"ours").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
    }

    #[test]
    fn a_link_of_another_user_s_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (there, link) = (dir.path().join("there"), dir.path().join("link"));
        fs::create_dir(&there).unwrap();
        symlink(&there, &link).unwrap();
        assert!(check_way(&link.join("not/yet")).is_ok());
        // Only root can give a link away.
        if lchown(&link, Some(1000), None).is_ok() {
            let said = check_way(&link.join("not/yet")).unwrap_err().to_string();
            assert!(said.contains("user 1000"), "{said}");
        }
        assert!(check_way(&there).is_ok());
    }
}
