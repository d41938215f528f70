//! Embeds `detections/` into the binary, so that it works without any other file.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("detections");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let mut code = String::from(
        "/// Name under `detections/` and text of every rule file.\npub const FILES: &[(&str, &str)] = &[\n",
    );
    for file in &files {
        let name = file.strip_prefix(&root).expect("found under it").display().to_string();
        writeln!(code, "    ({name:?}, include_str!({:?})),", file.display().to_string()).expect("memory");
    }
    code.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("builtin.rs");
    fs::write(out, code).expect("OUT_DIR can be written");
}

/// Rule files below `folder`; every folder is watched, so that new files are noticed.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    println!("cargo::rerun-if-changed={}", folder.display());
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, files);
        } else if name.ends_with(".yml") && !name.ends_with(".test.yml") {
            files.push(path);
        }
    }
}
