//! Room on the disk that only results of calls that were made may take. Without it a disk that runs full between an intent and its result
//! would leave what a system answered in the memory of one process. It is a file beside the store: its bytes are given back to the file
//! system when a result finds no room, and while they are not there again, nothing else is stored.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::fault::Fault;
use crate::owner_only::PRIVATE;

/// On a small file system no more than this part of it.
const SHARE: u64 = 8;
const ASK_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Reserve {
    path: PathBuf,
    size: u64,
    is_whole: bool,
    /// When it was last tried to make it whole.
    asked: Option<Instant>,
}

impl Reserve {
    /// Without room for it the store opens all the same, and stores nothing but results.
    pub(super) fn beside(store: &Path, wanted: u64) -> Self {
        let mut path = store.as_os_str().to_owned();
        path.push("-reserve");
        let folder = store.parent().filter(|folder| !folder.as_os_str().is_empty());
        let whole = statvfs(folder.unwrap_or(Path::new("."))).map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize));
        let mut reserve = Self {
            path: path.into(),
            size: whole.map_or(wanted, |whole| wanted.min(whole / SHARE)),
            is_whole: false,
            asked: None,
        };
        reserve.is_whole();
        reserve
    }

    /// Makes it whole where it is not, if there is room again.
    pub(super) fn is_whole(&mut self) -> bool {
        if self.is_whole || self.size == 0 {
            return true;
        }
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return false;
        }
        self.asked = Some(Instant::now());
        match self.fill() {
            Ok(()) => self.is_whole = true,
            Err(error) => {
                // A part of it would only take room from others.
                let _ = fs::remove_file(&self.path);
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    file = %self.path.display(),
                    "there is no room for the reserve; only results of calls that were made are stored until there is"
                );
            }
        }
        self.is_whole
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(&self.path)?;
        file.set_len(file.metadata()?.len().min(self.size))?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.size) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let page = [0; 64 * 1024];
                let mut left = self.size;
                while left > 0 {
                    let part = usize::try_from(left).unwrap_or(page.len()).min(page.len());
                    file.write_all(page.get(..part).unwrap_or(&page))?;
                    left = left.saturating_sub(part as u64);
                }
            }
            Err(error) => return Err(error.into()),
        }
        file.sync_all()
    }

    /// Gives its bytes back to the file system. Answers whether there were any.
    pub(super) fn give_up(&mut self) -> bool {
        if self.size == 0 || !self.is_whole {
            return false;
        }
        self.is_whole = false;
        self.asked = Some(Instant::now());
        tracing::error!(
            file = %self.path.display(),
            "the disk is full; the reserve is given up for results of calls that were made, and nothing else is stored until there is room again"
        );
        fs::remove_file(&self.path).is_ok()
    }

    /// What everybody else is told meanwhile.
    pub(super) fn refusal() -> Fault {
        Fault::Unwritable {
            why: "there is no room left, and what is kept in reserve is for results of calls that were made; free some and try again".to_owned(),
        }
    }
}
