//! Whether a file with a key in it is its reader's alone. It knows modes and where systemd puts credentials, and nothing of what is in a file.

use std::path::{Component, Path};

/// Whether others than the owner may open a file of this mode.
///
/// systemd gives a credential (`LoadCredential=`) to a service's user by an entry of the file's access list, and the mask of that list shows
/// as the group's bits: 0440 in `$CREDENTIALS_DIRECTORY`, which nobody else can enter, is private.
#[must_use]
pub fn is_exposed(path: &Path, mode: u32) -> bool {
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
    use std::path::Path;

    use super::is_exposed_beside;

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
