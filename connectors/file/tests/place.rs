//! Paths, links, and what stands in the way.

use std::os::unix::fs::symlink;

use keyfall_sdk::ErrorKind;

use super::{SECRET, Setup, names, raw};

#[tokio::test]
async fn no_link_leads_out_of_the_root() {
    let setup = Setup::new();
    let outside = setup.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), "untouched").unwrap();
    symlink(&outside, setup.root().join("dir")).unwrap();
    symlink(outside.join("victim"), setup.root().join("file")).unwrap();
    symlink(outside.join("victim"), setup.root().join(".db.keyfall")).unwrap();
    symlink("../outside", setup.root().join("relative")).unwrap();

    for path in ["dir/db", "relative/db", "file/db"] {
        let error = setup.deliver(raw(path), SECRET).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{path}: {error}");
        assert_eq!(
            setup.withdraw(&raw(path)).await.unwrap_err().kind(),
            ErrorKind::Conflict
        );
    }
    // A link in the file's own place, or in that of the temporary file, is replaced and not followed.
    setup.deliver(raw("file"), SECRET).await.unwrap();
    setup.deliver(raw("db"), SECRET).await.unwrap();
    assert!(std::fs::symlink_metadata(setup.root().join("file")).unwrap().is_file());
    assert_eq!(std::fs::read_to_string(outside.join("victim")).unwrap(), "untouched");
    assert_eq!(names(&outside), ["victim"]);
}

#[test]
fn the_way_without_openat2_refuses_the_same() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("root/a/b")).unwrap();
    symlink("a", folder.path().join("root/link")).unwrap();
    let root = std::fs::File::open(folder.path().join("root")).unwrap();
    let open = |path| crate::file::place::open_by_components(std::os::fd::AsFd::as_fd(&root), path);
    assert!(open("a/b").is_ok());
    for path in ["link", "link/b", "a/../..", "..", "a//b", "/etc", ""] {
        assert!(open(path).is_err(), "{path:?} was opened");
    }
}

#[tokio::test]
async fn something_else_in_the_place_is_left_alone() {
    let setup = Setup::new();
    std::fs::create_dir(setup.root().join("db")).unwrap();
    assert_eq!(
        setup.deliver(raw("db"), SECRET).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(
        setup.withdraw(&raw("db")).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let missing = setup.deliver(raw("no/such/dir"), SECRET).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(names(&setup.root()), ["db"]);
}
