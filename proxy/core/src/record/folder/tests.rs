use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::PathBuf,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;
use crate::record::{HeadKey, NEWEST_HEAD, RecordSettings, Recorder, writer::tests::noon};

struct Place {
    folder: TempDir,
    key: HeadKey,
}

impl Place {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), key: HeadKey::generate().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("audit").join(name)
    }

    /// Records that a recorder began and ended.
    fn open(&self) -> Result<(), OpenError> {
        let key = HeadKey::from_pkcs8(self.key.to_pkcs8().unwrap().as_ref()).unwrap();
        let settings = RecordSettings::in_directory(&self.path(""));
        let (recorder, flush) = Recorder::open(settings, key, noon())?;
        drop(recorder);
        flush.wait().unwrap();
        Ok(())
    }

    fn recorded() -> Self {
        let place = Self::new();
        place.open().unwrap();
        place
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }
}

const SEGMENT: &str = "00000001.jsonl";

#[test]
fn what_others_may_write_is_not_written_to() {
    for name in ["", SEGMENT, NEWEST_HEAD] {
        let place = Place::recorded();
        let all = if name.is_empty() { 0o755 } else { 0o644 };
        for open in [0o020, 0o002, 0o022] {
            place.chmod(name, all | open);
            let error = place.open().unwrap_err();
            let OpenError::WritableByOthers { path, mode } = error else { panic!("{error:?}") };
            assert_eq!((path, mode), (place.path(name), all | open));
        }
        // Who may read does not matter here.
        place.chmod(name, all);
        place.open().unwrap();
    }
}

#[test]
fn a_sticky_directory_will_do_with_files_of_ours_alone() {
    let place = Place::recorded();
    place.chmod("", 0o1777);
    place.open().unwrap();
    place.chmod(SEGMENT, 0o646);
    assert!(matches!(place.open(), Err(OpenError::WritableByOthers { .. })));
}

#[test]
fn what_is_somebody_elses_is_not_written_to() {
    // Only root can give something away.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for name in ["", SEGMENT, NEWEST_HEAD] {
        let place = Place::recorded();
        chown(place.path(name), Some(65534), None).unwrap();
        let error = place.open().unwrap_err();
        let OpenError::OwnedByOther { path, owner: 65534 } = error else { panic!("{error:?}") };
        assert_eq!(path, place.path(name));
        chown(place.path(name), Some(0), None).unwrap();
        place.open().unwrap();
    }
}

#[test]
fn a_link_is_not_followed_and_what_it_leads_to_not_overwritten() {
    let place = Place::recorded();
    let elsewhere = place.folder.path().join("elsewhere");
    fs::write(&elsewhere, "as it was").unwrap();
    // A head is published beside its name and moved there.
    symlink(&elsewhere, place.path("head.json.new")).unwrap();
    place.open().unwrap();
    assert_eq!(fs::read(&elsewhere).unwrap(), b"as it was");
    assert!(fs::symlink_metadata(place.path(NEWEST_HEAD)).unwrap().is_file());

    for name in [SEGMENT, "00000002.jsonl", NEWEST_HEAD] {
        let place = Place::recorded();
        let _ = fs::remove_file(place.path(name));
        symlink(&elsewhere, place.path(name)).unwrap();
        let error = place.open().unwrap_err();
        assert!(matches!(error, OpenError::Use { .. }), "{error:?}");
        assert_eq!(fs::read(&elsewhere).unwrap(), b"as it was");
    }
}

#[test]
fn who_may_list_the_directory_does_not_keep_it_from_being_used() {
    let place = Place::recorded();
    place.chmod("", 0o755);
    let directory = File::open(place.path("")).unwrap();
    flock(&directory, FlockOperation::LockExclusive).unwrap();
    place.open().unwrap();
    assert_eq!(fs::metadata(place.path(LOCK)).unwrap().mode() & 0o777, 0o600);

    let _ours = take(&place.path("")).unwrap();
    let error = place.open().unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
}

#[test]
fn a_pipe_is_neither_waited_for_nor_taken_for_a_file() {
    for name in [SEGMENT, "00000002.jsonl", NEWEST_HEAD] {
        let place = Place::recorded();
        let _ = fs::remove_file(place.path(name));
        mknodat(CWD, place.path(name), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let error = place.open().unwrap_err();
        assert!(matches!(error, OpenError::NoFile { .. }), "{error:?}");
    }
}
