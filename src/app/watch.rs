//! When to reload: on SIGHUP, and when the configuration or a rule file changes.

use std::collections::BTreeSet;
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
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return tracing::warn!(%error, "SIGHUP cannot be heeded"),
    };
    let mut watched = reloader.watched();
    let mut watcher = start(&watched, changed.clone());
    let mut seen = content(&watched);
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            _ = hangup.recv() => true,
            _ = changes.recv() => false,
        };
        let now = if asked { content(&watched) } else { settled(&watched, seen, &stop).await };
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
            watcher = start(&watched, changed.clone());
            seen = content(&watched);
        }
        let _ = &watcher;
    }
}

/// The content once it has stopped changing. Other files of the same folder wake the watcher too, and would else show
/// it a file that somebody has emptied and is about to write: an empty configuration is a good one.
async fn settled(paths: &[PathBuf], seen: blake3::Hash, stop: &CancellationToken) -> blake3::Hash {
    let mut now = content(paths);
    while now != seen && stop.run_until_cancelled(tokio::time::sleep(SETTLE)).await.is_some() {
        let later = content(paths);
        if later == now {
            break;
        }
        now = later;
    }
    now
}

/// Watches the folders of all paths: a file that is replaced is another file, and a mounted ConfigMap is a link.
fn start(paths: &[PathBuf], changed: mpsc::Sender<()>) -> Option<Debouncer<RecommendedWatcher>> {
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
    let folder = |path: &PathBuf| {
        let parent = if path.is_dir() { path } else { path.parent()? };
        Some(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }.to_owned())
    };
    for folder in paths.iter().filter_map(folder).collect::<BTreeSet<_>>() {
        if let Err(error) = watcher.watcher().watch(&folder, RecursiveMode::Recursive) {
            tracing::warn!(%error, folder = %folder.display(), "this folder cannot be watched; reload with SIGHUP");
        }
    }
    Some(watcher)
}

/// Hash of everything that a reload would read.
fn content(paths: &[PathBuf]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        for file in files(path).unwrap_or_default() {
            hasher.update(file.as_os_str().as_encoded_bytes());
            hasher.update(blake3::hash(&std::fs::read(&file).unwrap_or_default()).as_bytes());
        }
    }
    hasher.finalize()
}
