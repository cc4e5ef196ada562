//! Files with a key in them: they are made for their owner alone, and one that others can open is not used. It knows modes and where systemd
//! puts credentials, and nothing of what is in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path};

/// The mode of a file that only its owner can read.
pub const PRIVATE: u32 = 0o600;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("others can read it (mode {mode:04o})")]
    Exposed { mode: u32 },
}

/// Makes a file that did not exist.
///
/// # Errors
/// The path exists or cannot be written.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// Writes these parts one behind the other and waits until they are durable. In parts, so that nobody copies a secret to put something behind it.
///
/// # Errors
/// There is no room, or the disk refuses.
pub fn fill(file: &mut File, parts: &[&[u8]]) -> io::Result<()> {
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

/// Opens a file that is its owner's alone. The mode is that of the open file, so that it cannot be exchanged between the check and the read.
///
/// # Errors
/// It cannot be opened, or others can open it too.
pub fn open(path: &Path) -> Result<File, OpenError> {
    let file = File::open(path).map_err(OpenError::Read)?;
    let mode = file.metadata().map_err(OpenError::Read)?.mode() & 0o7777;
    if is_exposed(path, mode) {
        return Err(OpenError::Exposed { mode });
    }
    Ok(file)
}

/// Whether others than the owner may open a file of this mode.
///
/// systemd gives a credential (`LoadCredential=`) to a service's user by an entry of the file's access list, and the mask of that list shows
/// as the group's bits: 0440 in `$CREDENTIALS_DIRECTORY`, which nobody else can enter, is private.
fn is_exposed(path: &Path, mode: u32) -> bool {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    is_exposed_beside(path, mode, credentials.as_deref().map(Path::new))
}

fn is_exposed_beside(path: &Path, mode: u32, credentials: Option<&Path>) -> bool {
    let given = || {
        credentials.is_some_and(|folder| {
            folder.is_absolute()
                && path.starts_with(folder)
                && !path.components().any(|part| part == Component::ParentDir)
        })
    };
    mode & 0o077 != 0 && !(mode & 0o777 == 0o440 && given())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{OpenError, PRIVATE, create, fill, is_exposed_beside, open};

    #[test]
    fn a_made_file_is_private_never_overwritten_and_refused_once_others_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fill(&mut create(&path, PRIVATE).unwrap(), &[b"secret", b"\n"]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"secret\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(create(&path, PRIVATE).is_err());
        open(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(&path), Err(OpenError::Exposed { mode: 0o640 })));
    }

    #[test]
    fn a_credential_of_systemd_is_private_and_every_other_group_bit_is_not() {
        let folder = Some(Path::new("/run/credentials/keyfall.service"));
        let kek = Path::new("/run/credentials/keyfall.service/kek");
        assert!(!is_exposed_beside(kek, 0o440, folder));
        assert!(!is_exposed_beside(kek, 0o400, folder));
        for (path, mode, folder) in [
            (kek, 0o444, folder),
            (kek, 0o460, folder),
            (kek, 0o440, None),
            (Path::new("/etc/keyfall/kek"), 0o440, folder),
            (
                Path::new("/run/credentials/keyfall.service/../../../etc/kek"),
                0o440,
                folder,
            ),
            (Path::new("/run/credentials/keyfall.service2/kek"), 0o440, folder),
            (kek, 0o440, Some(Path::new(""))),
        ] {
            assert!(is_exposed_beside(path, mode, folder), "{} {mode:o}", path.display());
        }
    }
}
