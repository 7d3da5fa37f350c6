//! What has been put aside lies beside the files: finding it, and removing what has to go. Run by the
//! journal's thread.

use crate::journal::rotation::{Aside, Names, Rotation, to_remove};
use front::order;
use log::warn;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Removes what has to go, of all files that this process has ever written, and returns what is to be
/// compressed, the oldest first.
pub fn sweep(rotation: &Rotation, files: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let names: Vec<Names> = files.iter().map(|path| Names::of(path)).collect();
    let mut shelves: Vec<Vec<Aside>> = names.iter().map(|_| Vec::new()).collect();
    let mut by_dir: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (index, names) in names.iter().enumerate() {
        by_dir.entry(&names.dir).or_default().push(index);
    }
    for (dir, indices) in by_dir {
        // A folder that cannot be read holds nothing that we could remove.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let found = indices.iter().find_map(|index| {
                let compressed = names.get(*index)?.recognise(name, &rotation.date)?;
                Some((*index, compressed))
            });
            if let Some((index, compressed)) = found
                && let Ok(meta) = entry.metadata()
                && meta.is_file()
                && let Some(shelf) = shelves.get_mut(index)
            {
                shelf.push(Aside {
                    path: entry.path(),
                    bytes: meta.len(),
                    modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    compressed,
                });
            }
        }
    }
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    let current_bytes = files.iter().map(size).sum();
    for aside in to_remove(rotation, &mut shelves, current_bytes) {
        if let Err(e) = fs::remove_file(&aside.path) {
            warn!(
                "an old log cannot be removed: {}: {e}",
                aside.path.display()
            );
        }
    }
    let mut plain: Vec<Aside> = shelves
        .into_iter()
        .flatten()
        .filter(|aside| !aside.compressed)
        .collect();
    order::sort_by(&mut plain, |a, b| {
        (a.modified, &a.path).cmp(&(b.modified, &b.path))
    });
    plain.into_iter().map(|aside| aside.path).collect()
}
