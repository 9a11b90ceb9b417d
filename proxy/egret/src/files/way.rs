//! The way to a file: each folder and each link that decides which file a path is.
//!
//! Whoever may exchange a name on that way says which file is read, without writing to any file.
//! So each folder has to belong to egret's own user or to root, and nobody else may write it. What
//! passes: a folder with the sticky bit, as `/tmp`, if the name in it is of one of the two; one that
//! its group may write if that group has the number of its owner, as the group that many systems
//! give each user for himself; and one on a file system that is mounted read-only, as Kubernetes
//! mounts configuration in folders that are open to all.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt,
    path::{self, Component, Path, PathBuf},
};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{FileError, cannot_read, own_user};

/// What a name on the way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A folder that leads on.
    Through,
    /// A link, which is followed.
    Link,
    /// The file; or what is missing, for when it comes.
    End,
}

/// Names each folder on the way to `path` and what in it leads on.
pub(crate) fn walk<E>(
    path: &Path,
    mut step: impl FnMut(&Path, &OsStr, Step) -> Result<(), E>,
) -> Result<(), E> {
    let mut ahead: Vec<PathBuf> = vec![path.to_owned()];
    let mut links = 0;
    let mut here = PathBuf::new();
    while let Some(next) = ahead.pop() {
        let mut parts = next.components();
        let Some(part) = parts.next() else { continue };
        let rest = parts.as_path();
        if !rest.as_os_str().is_empty() {
            ahead.push(rest.to_owned());
        }
        match part {
            Component::RootDir | Component::Prefix(_) => here = PathBuf::from("/"),
            Component::CurDir => {}
            Component::ParentDir => here.push(".."),
            Component::Normal(name) => {
                let there = here.join(name);
                let last = ahead.is_empty();
                match fs::symlink_metadata(&there) {
                    Ok(metadata) if metadata.is_symlink() && links < LINKS => {
                        links += 1;
                        step(&here, name, Step::Link)?;
                        if let Ok(target) = fs::read_link(&there) {
                            ahead.push(target);
                        }
                    }
                    Ok(_) if !last => {
                        step(&here, name, Step::Through)?;
                        here = there;
                    }
                    Ok(_) | Err(_) => return step(&here, name, Step::End),
                }
            }
        }
    }
    Ok(())
}

/// Refuses a path of which somebody else may say what it leads to.
pub(super) fn guard(path: &Path) -> Result<(), FileError> {
    let whole = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    walk(&whole, |folder, name, _| guard_name(folder, name))
}

fn guard_name(folder: &Path, name: &OsStr) -> Result<(), FileError> {
    let metadata = folder.metadata().map_err(|source| cannot_read(folder, source))?;
    let (mode, owner) = (metadata.mode(), metadata.uid());
    let shared = mode & 0o002 != 0 || mode & 0o020 != 0 && metadata.gid() != owner;
    let foreign = !is_trusted(owner) && !is_unmapped(owner);
    if !shared && !foreign || is_read_only(folder) {
        return Ok(());
    }
    if foreign {
        return Err(FileError::FolderOfOther { folder: folder.to_owned(), owner });
    }
    if mode & 0o1000 == 0 {
        let folder = folder.to_owned();
        return Err(FileError::FolderOpenToOthers { folder, mode: mode & 0o777 });
    }
    let path = folder.join(name);
    match path.symlink_metadata().map(|entry| entry.uid()) {
        Ok(owner) if !is_trusted(owner) => Err(FileError::OwnedByOther { path, owner }),
        // What is missing is told when it is read.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == own_user()
}

/// Whether that number stands for whoever is not of this user namespace, as root itself may be.
fn is_unmapped(owner: u32) -> bool {
    const NOBODY: u32 = 65534;
    let covers = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return true;
        };
        (first..first.saturating_add(count)).contains(&NOBODY.into())
    };
    let map = || fs::read_to_string("/proc/self/uid_map");
    owner == NOBODY && map().is_ok_and(|map| !map.lines().any(covers))
}

fn is_read_only(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|volume| volume.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// As many links on one way as the kernel follows.
const LINKS: usize = 40;
