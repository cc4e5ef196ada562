//! Where a file is: its directory, opened so that no symbolic link and no `..` can lead out of the root, and its name in it.
//! Everything that follows goes by the open directory, never again by the path.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use keyfall_sdk::{ConnectorError, Result};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

/// A destination is a small file; whatever is larger is not one of ours.
const READ_LIMIT: u64 = 1 << 20;

pub(super) struct Place {
    directory: OwnedFd,
    pub(super) name: String,
    /// For messages.
    pub(super) shown: String,
}

/// What stands under a name.
pub(super) enum Found {
    Absent,
    /// A directory, a link, a device: nothing that we wrote.
    NotAFile,
    File(Content),
}

pub(super) struct Content {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Place {
    /// Opens the directory that holds `path` under `root`. The path was checked to be relative and plain.
    pub(super) fn open(root: &Path, path: &str) -> Result<Self> {
        let shown = format!("{}/{path}", root.display());
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(root, flags, Mode::empty()).map_err(|errno| failed("open the root of", &shown, errno))?;
        let directory = if parents.is_empty() {
            root
        } else {
            open_beneath(root.as_fd(), parents).map_err(|errno| failed("open the directory of", &shown, errno))?
        };
        Ok(Self {
            directory,
            name: name.to_owned(),
            shown,
        })
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Reads the file, without following a link and without waiting at a pipe.
    pub(super) fn read(&self) -> Result<Found> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(self.directory(), self.name.as_str(), flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(Found::Absent),
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Found::NotAFile),
            Err(errno) => return Err(failed("read", &self.shown, errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|errno| failed("read", &self.shown, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Found::NotAFile);
        }
        let mut bytes = Zeroizing::new(Vec::new());
        File::from(file)
            .take(READ_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(|error| ConnectorError::transient(format!("{} could not be read: {error}", self.shown)))?;
        Ok(Found::File(Content {
            bytes,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }))
    }
}

/// `openat2` has the kernel refuse every link and every way out. Where it is missing or forbidden (kernels before 5.6, old
/// container filters), each component is opened by itself, without following links.
fn open_beneath(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM) => open_by_components(root, path),
        answer => answer,
    }
}

pub(super) fn open_by_components(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory: Option<OwnedFd> = None;
    for part in path.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return Err(Errno::XDEV);
        }
        let parent = directory.as_ref().map_or(root, AsFd::as_fd);
        let next = rustix::fs::openat(parent, part, flags, Mode::empty())?;
        directory = Some(next);
    }
    directory.ok_or(Errno::NOENT)
}

/// What a failed system call means while nothing has been changed.
pub(super) fn failed(act: &str, shown: &str, errno: Errno) -> ConnectorError {
    match errno {
        Errno::NOENT => ConnectorError::not_found(format!(
            "Could not {act} {shown}: it does not exist. Create the directory with the owner and mode that you want."
        )),
        Errno::LOOP | Errno::XDEV | Errno::NOTDIR => ConnectorError::conflict(format!(
            "Could not {act} {shown}: a part of its path is a symbolic link or no directory, or it leaves the root. Use a \
             path of plain directories."
        )),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => ConnectorError::denied(format!(
            "Could not {act} {shown}: Keyfall's own user may not. Give it the right, or choose another root."
        )),
        Errno::NOSPC | Errno::DQUOT => {
            ConnectorError::transient(format!("Could not {act} {shown}: the disk is full. Make room and try again."))
        }
        Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => {
            ConnectorError::conflict(format!("Could not {act} {shown}: something else stands there."))
        }
        errno => ConnectorError::transient(format!("Could not {act} {shown}: {errno}.")),
    }
    .with_code(format!("errno {}", errno.raw_os_error()))
}
