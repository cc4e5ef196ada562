//! The mark of an `init` that is under way, in the directory that it fills: from the first moment to the last a file there says what was asked
//! for. Whoever finds it finds an `init` that was cut off, and the same command goes on. It knows nothing of what is made.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use keyfall::owner_only::{self, PRIVATE};

const NAME: &str = "init.unfinished";

/// Held for as long as this process is at work there.
pub(super) struct Unfinished {
    path: PathBuf,
    /// Locked.
    _file: File,
}

impl Unfinished {
    /// Before anything else is made in this directory.
    pub(super) fn begin(dir: &Path, asked: &str) -> anyhow::Result<Self> {
        let path = dir.join(NAME);
        let failed = || format!("{} cannot be written", path.display());
        let mut file = owner_only::create(&path, PRIVATE).with_context(failed)?;
        lock(&file, dir)?;
        owner_only::fill(&mut file, &[asked.as_bytes(), b"\n"]).with_context(failed)?;
        sync(dir)?;
        Ok(Self { path, _file: file })
    }

    /// What was cut off here, when something was.
    ///
    /// # Errors
    /// It is under way still, or something else was asked for.
    pub(super) fn find(dir: &Path, asked: &str) -> anyhow::Result<Option<Self>> {
        let path = dir.join(NAME);
        if !path.exists() {
            return Ok(None);
        }
        let failed = || format!("{} cannot be read", path.display());
        let mut file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .with_context(failed)?;
        lock(&file, dir)?;
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(failed)?;
        match text.strip_suffix('\n') {
            Some(before) if before == asked => {}
            Some(before) => bail!(
                "an init with other arguments was cut off in {}: run it again as it was ({before}), or name another directory",
                dir.display()
            ),
            // Cut off in this very file: nothing else was made.
            None => {
                file.set_len(0).with_context(failed)?;
                file.rewind().with_context(failed)?;
                owner_only::fill(&mut file, &[asked.as_bytes(), b"\n"]).with_context(failed)?;
            }
        }
        Ok(Some(Self { path, _file: file }))
    }

    /// Takes everything away again that was made beside the mark.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        let dir = self.dir();
        let failed = || format!("{} cannot be emptied", dir.display());
        for entry in fs::read_dir(dir).with_context(failed)? {
            let path = entry.with_context(failed)?.path();
            match path.is_dir() {
                true => fs::remove_dir_all(&path).with_context(failed)?,
                false if path == self.path => {}
                false => fs::remove_file(&path).with_context(failed)?,
            }
        }
        Ok(())
    }

    /// Everything is made and stored.
    pub(super) fn done(self) -> anyhow::Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("{} cannot be removed", self.path.display()))?;
        sync(self.dir())
    }

    fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}

fn lock(file: &File, dir: &Path) -> anyhow::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!("another init is at work in {}", dir.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{} cannot be locked", dir.display())),
    }
}

fn sync(dir: &Path) -> anyhow::Result<()> {
    let synced = File::open(dir).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("{} cannot be synchronised", dir.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{NAME, Unfinished};

    #[test]
    fn what_was_cut_off_is_found_by_who_asks_for_the_same_and_alone() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert!(Unfinished::find(dir, "a").unwrap().is_none());
        let begun = Unfinished::begin(dir, "a").unwrap();
        let busy = Unfinished::find(dir, "a").err().unwrap();
        assert!(busy.to_string().contains("at work"), "{busy}");
        fs::create_dir(dir.join("people")).unwrap();
        fs::write(dir.join("kek"), "k").unwrap();
        drop(begun);
        let other = Unfinished::find(dir, "b").err().unwrap();
        assert!(other.to_string().contains("(a)"), "{other}");
        let found = Unfinished::find(dir, "a").unwrap().unwrap();
        found.clear().unwrap();
        assert_eq!(fs::read_dir(dir).unwrap().count(), 1);
        found.done().unwrap();
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);

        // The mark itself was cut off.
        fs::write(dir.join(NAME), "a").unwrap();
        drop(Unfinished::find(dir, "other").unwrap().unwrap());
        assert!(Unfinished::find(dir, "other").unwrap().is_some());
    }
}
