//! Replacing a file so that a reader, or a crash, sees the old content or the new, never a part: a temporary file beside it,
//! with owner and mode set before the content, written, flushed, renamed over, and the directory flushed.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use keyfall_sdk::{Confirmation, ConnectorError, DeliverCall, Result, Revoked};
use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::place::{Found, Place, failed};
use super::target::Target;

/// What the file is to be.
pub(super) struct Wanted {
    bytes: Zeroizing<Vec<u8>>,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
}

impl Wanted {
    pub(super) fn of(target: &Target, call: &DeliverCall) -> Result<Self> {
        Ok(Self {
            bytes: target.layout.render(call)?,
            mode: target.mode,
            owner: target.owner.as_ref().map(|who| who.user_id()).transpose()?,
            group: target.group.as_ref().map(|who| who.group_id()).transpose()?,
        })
    }

    pub(super) fn compare(&self, place: &Place) -> Result<Confirmation> {
        Ok(match place.read()? {
            Found::Absent => Confirmation::Absent,
            Found::NotAFile => Confirmation::Differs,
            Found::File(content) => {
                let same = *content.bytes == *self.bytes
                    && content.mode == self.mode
                    && self.owner.is_none_or(|owner| owner == content.uid)
                    && self.group.is_none_or(|group| group == content.gid);
                if same {
                    Confirmation::Matches
                } else {
                    Confirmation::Differs
                }
            }
        })
    }

    /// Answers whether the file had to be replaced. What was written is read back.
    pub(super) fn put(&self, place: &Place) -> Result<bool> {
        if self.compare(place)? == Confirmation::Matches {
            return Ok(false);
        }
        let mut temporary = Temporary::make(place)?;
        self.fill(&mut temporary)?;
        temporary.rename_over()?;
        flush_directory(place, "replaced")?;
        match self.compare(place)? {
            Confirmation::Matches => Ok(true),
            _ => Err(ConnectorError::conflict(format!(
                "{} was replaced, but does not read back as written: something else writes it too.",
                place.shown
            ))),
        }
    }

    fn fill(&self, temporary: &mut Temporary<'_>) -> Result<()> {
        let shown = &temporary.place.shown;
        let file = &mut temporary.file;
        if self.owner.is_some() || self.group.is_some() {
            let (owner, group) = (self.owner.map(Uid::from_raw), self.group.map(Gid::from_raw));
            rustix::fs::fchown(&*file, owner, group).map_err(|errno| match errno {
                Errno::PERM => ConnectorError::denied(format!(
                    "{shown} is to have another owner or group, and only root (CAP_CHOWN) may give files away: run \
                     Keyfall with that right, or leave `owner` and `group` out."
                )),
                errno => failed("set the owner of", shown, errno),
            })?;
        }
        rustix::fs::fchmod(&*file, Mode::from_raw_mode(self.mode))
            .map_err(|errno| failed("set the mode of", shown, errno))?;
        file.write_all(&self.bytes)
            .map_err(|error| match Errno::from_io_error(&error) {
                Some(errno) => failed("write", shown, errno),
                None => ConnectorError::transient(format!("Could not write {shown}: {error}.")),
            })?;
        rustix::fs::fsync(&*file).map_err(|errno| failed("flush", shown, errno))
    }
}

/// A file of our own beside the destination, locked while it lives and removed unless it was renamed. Its name is always the
/// same, so what a crash left behind, with a secret in it, is found and removed by the next delivery.
struct Temporary<'a> {
    place: &'a Place,
    name: String,
    file: File,
    renamed: bool,
}

impl<'a> Temporary<'a> {
    fn make(place: &'a Place) -> Result<Self> {
        let name = temporary_name(&place.name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let create = || rustix::fs::openat(place.directory(), name.as_str(), flags, mode);
        let file = match create() {
            Err(Errno::EXIST) => {
                remove_leftover(place, &name)?;
                create()
            }
            other => other,
        }
        .map_err(|errno| failed("create a file beside", &place.shown, errno))?;
        lock(&file, place)?;
        // Between creating and locking, another delivery may have taken the file for a leftover and removed it.
        let stat = rustix::fs::fstat(&file).map_err(|errno| failed("write", &place.shown, errno))?;
        if stat.st_nlink == 0 {
            return Err(in_use(place));
        }
        Ok(Self {
            place,
            name,
            file: file.into(),
            renamed: false,
        })
    }

    fn rename_over(mut self) -> Result<()> {
        let directory = self.place.directory();
        rustix::fs::renameat(directory, self.name.as_str(), directory, self.place.name.as_str())
            .map_err(|errno| failed("replace", &self.place.shown, errno))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // After a rename the name may already be another delivery's.
        if !self.renamed {
            let _ = rustix::fs::unlinkat(self.place.directory(), self.name.as_str(), AtFlags::empty());
        }
    }
}

fn temporary_name(name: &str) -> String {
    format!(".{name}.keyfall")
}

/// Whoever holds the lock is at work; a file that nobody has locked was left behind by a crash.
fn remove_leftover(place: &Place, name: &str) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(place.directory(), name, flags, Mode::empty()) {
        Ok(file) => {
            lock(&file, place)?;
            unlink(place, name)
        }
        Err(Errno::NOENT) => Ok(()),
        // A link or a pipe is none of ours. Removing its name touches nothing that it leads to.
        Err(Errno::LOOP | Errno::NXIO) => unlink(place, name),
        Err(errno) => Err(failed("remove a leftover beside", &place.shown, errno)),
    }
}

fn lock(file: impl AsFd, place: &Place) -> Result<()> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        Errno::WOULDBLOCK => in_use(place),
        errno => failed("lock a file beside", &place.shown, errno),
    })
}

fn in_use(place: &Place) -> ConnectorError {
    ConnectorError::transient(format!("Another delivery to {} is under way; try again.", place.shown))
}

fn unlink(place: &Place, name: &str) -> Result<()> {
    match rustix::fs::unlinkat(place.directory(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("remove a leftover beside", &place.shown, errno)),
    }
}

fn flush_directory(place: &Place, done: &str) -> Result<()> {
    rustix::fs::fsync(place.directory()).map_err(|errno| {
        ConnectorError::ambiguous(format!(
            "{} was {done}, but its directory could not be flushed to disk ({errno}); repeat the call.",
            place.shown
        ))
    })
}

/// Removes what was delivered, and what a crash left beside it.
pub(super) fn remove(place: &Place) -> Result<Revoked> {
    remove_leftover(place, &temporary_name(&place.name))?;
    let outcome = match rustix::fs::unlinkat(place.directory(), place.name.as_str(), AtFlags::empty()) {
        Ok(()) => Revoked::Revoked,
        Err(Errno::NOENT) => Revoked::AlreadyGone,
        Err(errno) => return Err(failed("remove", &place.shown, errno)),
    };
    flush_directory(place, "removed")?;
    Ok(outcome)
}
