//! Notices that a file may have become another one.
//!
//! Watched are directories, never files: a file that is renamed over another, or a link that is
//! moved on (as mounted configuration is), is a change of its directory. On the way to a file every
//! link has its own. A file that is still being written is no change; its closing is. What is
//! noticed may be nothing at all, so whoever is woken compares contents; where watching fails, or
//! sees too little, contents are compared every few seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::MetadataExt,
    path::{self, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use egret_proxy::caused;
use notify::{
    Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::files::{self, Marks, Step};

/// How often contents are compared where watching works, whatever the files look like.
const CALM: Duration = Duration::from_secs(60);
/// How often they are where it does not; and how often files are looked at that no watch may see,
/// as one that is mounted by itself.
const POLL: Duration = Duration::from_secs(2);

/// Watches what some paths lead to.
pub(crate) struct Watch {
    watcher: Option<RecommendedWatcher>,
    noticed: Arc<Mutex<Noticed>>,
    change: Arc<Notify>,
    /// The files that are followed, and how they looked before they were read.
    looks: Vec<(PathBuf, Option<Marks>)>,
}

/// What the watcher's own thread shares with whoever waits.
#[derive(Debug, Default)]
struct Noticed {
    /// The names that matter, by the directory that they are in.
    places: Places,
    /// What somebody has begun to write and not closed.
    unfinished: BTreeSet<PathBuf>,
    /// A directory is another one than was watched.
    moved: bool,
}

type Places = BTreeMap<PathBuf, BTreeSet<OsString>>;

impl Watch {
    /// Begins to watch nothing yet. Without a watcher, contents are compared more often.
    pub(crate) fn begin() -> Self {
        let (noticed, change) = <(Arc<Mutex<Noticed>>, Arc<Notify>)>::default();
        let (sees, wakes) = (noticed.clone(), change.clone());
        let watcher = RecommendedWatcher::new(
            move |event| {
                if lock(&sees).sees(event) {
                    wakes.notify_one();
                }
            },
            Config::default(),
        );
        let watcher =
            watcher.inspect_err(|error| tracing::warn!(error = %caused(error), "{UNWATCHED}")).ok();
        Self { watcher, noticed, change, looks: Vec::new() }
    }

    /// Watches what `paths` lead to now, and forgets what they led to before. To be called before
    /// they are read, so that no change is missed in between.
    pub(crate) fn follow(&mut self, paths: &[PathBuf]) {
        self.looks = paths.iter().map(|path| (path.clone(), look(path.metadata().ok()))).collect();
        let mut places = Places::new();
        for path in paths {
            // As the watcher names what it sees.
            places_on_the_way(&path::absolute(path).unwrap_or_else(|_| path.clone()), &mut places);
        }
        let mut noticed = lock(&self.noticed);
        if noticed.places == places && !noticed.moved {
            return;
        }
        noticed.moved = false;
        noticed.unfinished.clear();
        let before = std::mem::replace(&mut noticed.places, places.clone());
        drop(noticed);
        let Some(watcher) = &mut self.watcher else { return };
        for folder in before.keys() {
            // One that was removed is forgotten already; of the same name another may be there.
            let _ = watcher.unwatch(folder);
        }
        let watched =
            places.keys().try_for_each(|folder| watcher.watch(folder, RecursiveMode::NonRecursive));
        if let Err(error) = watched {
            tracing::warn!(error = %caused(&error), "{UNWATCHED}");
            self.watcher = None;
        }
    }

    /// Waits until something may have changed, or until it is time to look.
    pub(crate) async fn changed(&self) {
        let every = if self.watcher.is_some() { CALM } else { POLL };
        let looks_other = async {
            loop {
                sleep(POLL).await;
                for (path, before) in &self.looks {
                    if look(tokio::fs::metadata(path).await.ok()) != *before {
                        return;
                    }
                }
            }
        };
        let noticed = async {
            tokio::select! {
                () = self.change.notified() => {}
                () = looks_other => {}
            }
        };
        if timeout(every, noticed).await.is_err() {
            // Nobody writes for so long; and what was watched may have gone without a word.
            let mut noticed = lock(&self.noticed);
            noticed.unfinished.clear();
            noticed.moved = true;
        }
    }

    /// Whether a file is being written. Its closing will be noticed.
    pub(crate) fn is_unfinished(&self) -> bool {
        !lock(&self.noticed).unfinished.is_empty()
    }
}

impl Noticed {
    /// Takes note of an event, and returns whether the files may be others now.
    fn sees(&mut self, event: notify::Result<Event>) -> bool {
        // Where one was missed, all may be.
        let Some(event) = event.ok().filter(|event| !event.need_rescan()) else {
            self.unfinished.clear();
            self.moved = true;
            return true;
        };
        let mut changed = false;
        for path in &event.paths {
            changed |= self.sees_at(event.kind, path);
        }
        changed
    }

    fn sees_at(&mut self, kind: EventKind, path: &Path) -> bool {
        let is_folder = self.places.contains_key(path);
        if !is_folder && !self.is_named(path) {
            return false;
        }
        match kind {
            EventKind::Modify(ModifyKind::Data(_)) if CLOSING_IS_SEEN => {
                self.unfinished.insert(path.to_owned());
                false
            }
            // A file that is made is empty, and will be closed; a link is whole at once.
            EventKind::Create(CreateKind::File) if CLOSING_IS_SEEN && is_being_made(path) => false,
            EventKind::Modify(ModifyKind::Metadata(_)) => true,
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Create(_)
            | EventKind::Modify(_)
            | EventKind::Remove(_)
            | EventKind::Any
            | EventKind::Other => {
                self.unfinished.remove(path);
                self.moved |= is_folder;
                true
            }
            EventKind::Access(_) => false,
        }
    }

    fn is_named(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        let in_place = path.parent().and_then(|folder| self.places.get(folder));
        in_place.is_some_and(|names| names.contains(name))
    }
}

fn look(metadata: Option<fs::Metadata>) -> Option<Marks> {
    metadata.map(|file| Marks::of(&file))
}

fn lock(noticed: &Mutex<Noticed>) -> MutexGuard<'_, Noticed> {
    // No note is ever half taken.
    noticed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_being_made(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

/// Collects each directory in which a change of one name changes what `path` leads to.
fn places_on_the_way(path: &Path, places: &mut Places) {
    let walked = files::walk(path, |folder, name, step| {
        match step {
            Step::Through => {}
            Step::Link | Step::End => place(folder, name, places),
        }
        Ok::<_, Infallible>(())
    });
    match walked {
        Ok(()) => {}
    }
}

fn place(folder: &Path, name: &OsStr, places: &mut Places) {
    places.entry(folder.to_owned()).or_default().insert(name.to_owned());
}

const UNWATCHED: &str = "files cannot be watched; they are read again and again";
/// Whether the system tells that a file was closed which somebody wrote.
const CLOSING_IS_SEEN: bool = cfg!(target_os = "linux");

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn places(path: &Path) -> Vec<(PathBuf, Vec<OsString>)> {
        let mut places = Places::new();
        places_on_the_way(path, &mut places);
        places.into_iter().map(|(folder, names)| (folder, names.into_iter().collect())).collect()
    }

    /// As a mounted configuration map lies there.
    #[test]
    fn every_link_on_the_way_is_watched_where_it_lies() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("..1")).unwrap();
        fs::write(at("..1/policy.toml"), "").unwrap();
        symlink("..1", at("..data")).unwrap();
        symlink("..data/policy.toml", at("policy.toml")).unwrap();
        let expected = [
            (folder.path().to_owned(), vec!["..data".into(), "policy.toml".into()]),
            (at("..1"), vec!["policy.toml".into()]),
        ];
        assert_eq!(places(&at("policy.toml")), expected);
    }

    #[test]
    fn what_is_missing_is_watched_for_where_it_would_be() {
        let folder = TempDir::new().unwrap();
        let missing = folder.path().join("not/there/policy.toml");
        assert_eq!(places(&missing), [(folder.path().to_owned(), vec!["not".into()])]);
        let link = folder.path().join("link");
        symlink("nowhere/at/all", &link).unwrap();
        let expected = [(folder.path().to_owned(), vec!["link".into(), "nowhere".into()])];
        assert_eq!(places(&link), expected);
    }

    #[test]
    fn a_link_to_itself_comes_to_an_end() {
        let folder = TempDir::new().unwrap();
        let link = folder.path().join("link");
        symlink("link", &link).unwrap();
        assert_eq!(places(&link), [(folder.path().to_owned(), vec!["link".into()])]);
    }
}
