//! When to reload: on SIGHUP, and when the configuration or a rule file changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify_debouncer_mini::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{Debouncer, new_debouncer};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::reload::Reloader;
use crate::rule::load::files;

/// Editors write in several steps; a reload waits until they are done.
const SETTLE: Duration = Duration::from_millis(300);

/// Reloads until `stop`.
pub(super) async fn watch(reloader: Arc<Reloader>, stop: CancellationToken) {
    let (changed, mut changes) = mpsc::channel(1);
    let mut hangup = signal(SignalKind::hangup())
        .inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be heeded; reload by changing a file"))
        .ok();
    let mut hung_up = async || match &mut hangup {
        Some(hangup) => hangup.recv().await,
        None => std::future::pending().await,
    };
    let mut watched = reloader.watched();
    let mut watcher = start(&watched, &changed).await;
    let mut seen = content(&watched).await;
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            _ = hung_up() => true,
            _ = changes.recv() => false,
        };
        let now = if asked { content(&watched).await } else { settled(&watched, seen, &stop).await };
        // Attributes and temporary files of editors change too; only content asks for a reload.
        if !asked && now == seen {
            continue;
        }
        seen = now;
        loop {
            let reloading = Arc::clone(&reloader);
            let _ = tokio::task::spawn_blocking(move || reloading.reload()).await;
            let paths = reloader.watched();
            if paths == watched {
                break;
            }
            // Other paths from now on: watched first, then read once more, so that no change falls between.
            watched = paths;
            watcher = start(&watched, &changed).await;
            seen = content(&watched).await;
        }
        let _ = &watcher;
    }
}

/// The content once it has stopped changing. Other files of the same folder wake the watcher too, and would else show
/// it a file that somebody has emptied and is about to write: an empty configuration is a good one.
async fn settled(paths: &[PathBuf], seen: Option<blake3::Hash>, stop: &CancellationToken) -> Option<blake3::Hash> {
    let mut now = content(paths).await;
    while now != seen && stop.run_until_cancelled(tokio::time::sleep(SETTLE)).await.is_some() {
        let later = content(paths).await;
        if later == now {
            break;
        }
        now = later;
    }
    now
}

/// Starts watching, on a thread that may wait for the disk.
async fn start(paths: &[PathBuf], changed: &mpsc::Sender<()>) -> Option<Debouncer<RecommendedWatcher>> {
    let (paths, changed) = (paths.to_vec(), changed.clone());
    tokio::task::spawn_blocking(move || watcher(&paths, changed)).await.ok().flatten()
}

fn watcher(paths: &[PathBuf], changed: mpsc::Sender<()>) -> Option<Debouncer<RecommendedWatcher>> {
    let watcher = new_debouncer(SETTLE, move |_| {
        // One waiting change is as good as many.
        let _ = changed.try_send(());
    });
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "files cannot be watched; reload with SIGHUP");
            return None;
        }
    };
    for (folder, mode) in folders(paths) {
        if let Err(error) = watcher.watcher().watch(&folder, mode) {
            tracing::warn!(%error, folder = %folder.display(), "this folder cannot be watched; reload with SIGHUP");
        }
    }
    Some(watcher)
}

/// The folders to watch: of a file its own, because a file that is replaced is another file and a mounted ConfigMap is
/// a link, but nothing below it, which may be all of `/tmp`; of a folder everything.
fn folders(paths: &[PathBuf]) -> BTreeMap<PathBuf, RecursiveMode> {
    let mut folders = BTreeMap::new();
    for path in paths {
        if path.is_dir() {
            folders.insert(path.clone(), RecursiveMode::Recursive);
        } else if let Some(parent) = path.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            folders.entry(parent.to_owned()).or_insert(RecursiveMode::NonRecursive);
        }
    }
    folders
}

/// Hash of everything that a reload would read, taken on a thread that may wait for the disk.
async fn content(paths: &[PathBuf]) -> Option<blake3::Hash> {
    let paths = paths.to_vec();
    tokio::task::spawn_blocking(move || hash(&paths)).await.ok()
}

fn hash(paths: &[PathBuf]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        for file in files(path).unwrap_or_default() {
            hasher.update(file.as_os_str().as_encoded_bytes());
            hasher.update(blake3::hash(&std::fs::read(&file).unwrap_or_default()).as_bytes());
        }
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_watched_below_the_folder_of_a_file() {
        let home = tempfile::tempdir().unwrap();
        let (config, rules) = (home.path().join("config.yaml"), home.path().join("rules"));
        std::fs::create_dir(&rules).unwrap();
        let (flat, deep) = (RecursiveMode::NonRecursive, RecursiveMode::Recursive);
        let expected = BTreeMap::from([(home.path().to_owned(), flat), (rules.clone(), deep)]);
        assert_eq!(folders(&[config.clone(), rules]), expected);
        let both = [config.clone(), home.path().to_owned(), config];
        assert_eq!(folders(&both), BTreeMap::from([(home.path().to_owned(), deep)]));
        assert_eq!(folders(&["config.yaml".into()]), BTreeMap::from([(".".into(), flat)]));
    }
}
