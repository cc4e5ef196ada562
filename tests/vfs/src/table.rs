//! The C side. An opened file stays the Unix file system's own, with its own memory; only its table of functions is exchanged for a copy in which
//! those that reach the disk ask first. It must not know what a watcher answers, and why.
#![expect(unsafe_code, reason = "SQLite reaches its file system through tables of C functions")]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rusqlite::ffi;

use super::{Call, Failure, Watcher, watcher_of};

/// A file that is open and under watch.
#[derive(Clone)]
struct Open {
    path: Arc<str>,
    watcher: Arc<dyn Watcher>,
    /// The functions underneath.
    inner: &'static ffi::sqlite3_io_methods,
}

/// By the address of SQLite's file object.
static OPEN: LazyLock<Mutex<HashMap<usize, Open>>> = LazyLock::new(Mutex::default);

/// The file system underneath, as an address: it is SQLite's own and lives as long as the process.
static UNIX: std::sync::OnceLock<usize> = std::sync::OnceLock::new();

/// Makes the watched file system the one that SQLite uses when it is not told another.
pub(super) fn register() {
    // SAFETY: SQLite initialises itself here and answers with its default file system, which lives as long as the process.
    let unix = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    assert!(!unix.is_null(), "SQLite has no file system");
    let _ = UNIX.set(unix as usize);
    // SAFETY: the pointer was just checked, and the structure is plain data.
    let mut own = unsafe { *unix };
    own.zName = c"keyfall-watched".as_ptr();
    own.pNext = ptr::null_mut();
    own.xOpen = Some(open);
    own.xDelete = Some(delete);
    // SAFETY: the structure is never freed, and its functions follow the contract of `sqlite3_vfs`.
    let answer = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(own)), 1) };
    assert_eq!(answer, ffi::SQLITE_OK, "the watched file system was not taken");
}

fn unix() -> *mut ffi::sqlite3_vfs {
    UNIX.get().map_or(ptr::null_mut(), |address| *address as *mut _)
}

fn opened(file: *mut ffi::sqlite3_file) -> Option<Open> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.get(&(file as usize)).cloned()
}

/// # Safety
/// `name` is null or a C string.
unsafe fn path_of(name: *const c_char) -> Option<String> {
    if name.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    Some(name.to_string_lossy().into_owned())
}

fn code_of(call: &Call<'_>, failure: Failure) -> c_int {
    match (call, failure) {
        (Call::Open { .. }, _) => ffi::SQLITE_CANTOPEN,
        (Call::Read { .. }, _) => ffi::SQLITE_IOERR_READ,
        (Call::Write { .. }, Failure::Full { .. }) => ffi::SQLITE_FULL,
        (Call::Write { .. }, Failure::Broken { .. }) => ffi::SQLITE_IOERR_WRITE,
        (Call::Truncate { .. }, _) => ffi::SQLITE_IOERR_TRUNCATE,
        (Call::Sync { .. }, _) => ffi::SQLITE_IOERR_FSYNC,
        (Call::Delete { .. }, _) => ffi::SQLITE_IOERR_DELETE,
    }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands over a file name as a C string, or null for a temporary file.
    let path = unsafe { path_of(name) };
    let watched = path.and_then(|path| watcher_of(&path).map(|watcher| (path, watcher)));
    if let Some((path, watcher)) = &watched {
        let call = Call::Open { file: path };
        if let Err(failure) = watcher.about_to(call) {
            // SAFETY: the object has the size that the file system asked for. Without functions SQLite does not close it.
            unsafe { (*file).pMethods = ptr::null() };
            return code_of(&call, failure);
        }
    }
    // SAFETY: it was found by `register` and lives as long as the process.
    let Some(inner) = (unsafe { (*unix()).xOpen }) else {
        return ffi::SQLITE_CANTOPEN;
    };
    // SAFETY: the arguments are SQLite's own, and the size of the object is that of the file system underneath.
    let answer = unsafe { inner(vfs, name, file, flags, out) };
    if let Some((path, watcher)) = watched
        && answer == ffi::SQLITE_OK
    {
        // SAFETY: an opened file has functions, which live as long as the process.
        let inner = unsafe { &*(*file).pMethods };
        let open = Open {
            path: path.into(),
            watcher,
            inner,
        };
        OPEN.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(file as usize, open);
        // SAFETY: the file is open, and the table is never freed.
        unsafe { (*file).pMethods = table_over(inner) };
    }
    answer
}

/// One table for each table underneath: there are only a few, and they are kept for ever.
fn table_over(inner: &'static ffi::sqlite3_io_methods) -> &'static ffi::sqlite3_io_methods {
    static TABLES: Mutex<Vec<(usize, &'static ffi::sqlite3_io_methods)>> = Mutex::new(Vec::new());
    let key = ptr::from_ref(inner) as usize;
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, table)) = tables.iter().find(|(known, _)| *known == key) {
        return table;
    }
    let own = ffi::sqlite3_io_methods {
        // Without the functions of version 3 no page is mapped into memory, and every write comes by.
        iVersion: inner.iVersion.min(2),
        xClose: Some(close),
        xRead: Some(read),
        xWrite: Some(write),
        xTruncate: Some(truncate),
        xSync: Some(sync),
        xFetch: None,
        xUnfetch: None,
        ..*inner
    };
    let own: &'static _ = Box::leak(Box::new(own));
    tables.push((key, own));
    own
}

unsafe extern "C" fn delete(_vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_folder: c_int) -> c_int {
    // SAFETY: SQLite hands over a C string.
    if let Some(path) = unsafe { path_of(name) }
        && let Some(watcher) = watcher_of(&path)
    {
        let call = Call::Delete {
            file: &path,
            durable: sync_folder != 0,
        };
        if let Err(failure) = watcher.about_to(call) {
            return code_of(&call, failure);
        }
    }
    // SAFETY: it was found by `register`; the arguments are SQLite's own.
    match unsafe { (*unix()).xDelete } {
        // SAFETY: as above.
        Some(inner) => unsafe { inner(unix(), name, sync_folder) },
        None => ffi::SQLITE_IOERR_DELETE,
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let known = OPEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&(file as usize));
    match known.and_then(|open| open.inner.xClose) {
        // SAFETY: the file is open, and this is its own function.
        Some(inner) => unsafe { inner(file) },
        None => ffi::SQLITE_OK,
    }
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, into: *mut c_void, length: c_int, at: i64) -> c_int {
    let Some(open) = opened(file) else {
        return ffi::SQLITE_IOERR_READ;
    };
    let call = Call::Read { file: &open.path };
    if let Err(failure) = open.watcher.about_to(call) {
        return code_of(&call, failure);
    }
    match open.inner.xRead {
        // SAFETY: the arguments are SQLite's own, and this is the file's own function.
        Some(inner) => unsafe { inner(file, into, length, at) },
        None => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, length: c_int, at: i64) -> c_int {
    let (Some(open), Ok(size), Ok(offset)) = (opened(file), usize::try_from(length), u64::try_from(at)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    let Some(inner) = open.inner.xWrite else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: SQLite hands over so many readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), size) };
    let call = Call::Write {
        file: &open.path,
        at: offset,
        bytes,
    };
    let Err(failure) = open.watcher.about_to(call) else {
        // SAFETY: the arguments are SQLite's own, and this is the file's own function.
        return unsafe { inner(file, from, length, at) };
    };
    let (Failure::Full { after } | Failure::Broken { after }) = failure;
    if let Ok(part) = c_int::try_from(after.min(size))
        && part > 0
    {
        // SAFETY: as above, and no more bytes than there are.
        unsafe { inner(file, from, part, at) };
    }
    code_of(&call, failure)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    let (Some(open), Ok(wanted)) = (opened(file), u64::try_from(size)) else {
        return ffi::SQLITE_IOERR_TRUNCATE;
    };
    let call = Call::Truncate {
        file: &open.path,
        size: wanted,
    };
    if let Err(failure) = open.watcher.about_to(call) {
        return code_of(&call, failure);
    }
    match open.inner.xTruncate {
        // SAFETY: the arguments are SQLite's own, and this is the file's own function.
        Some(inner) => unsafe { inner(file, size) },
        None => ffi::SQLITE_IOERR_TRUNCATE,
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    let Some(open) = opened(file) else {
        return ffi::SQLITE_IOERR_FSYNC;
    };
    let call = Call::Sync { file: &open.path };
    if let Err(failure) = open.watcher.about_to(call) {
        return code_of(&call, failure);
    }
    match open.inner.xSync {
        // SAFETY: the arguments are SQLite's own, and this is the file's own function.
        Some(inner) => unsafe { inner(file, flags) },
        None => ffi::SQLITE_IOERR_FSYNC,
    }
}
