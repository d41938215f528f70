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
    let (cases, rules): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.to_string_lossy().ends_with(".test.yml"));
    let mut code = String::new();
    for (constant, what, files) in [("FILES", "rule file", rules), ("CASES", "file of cases", cases)] {
        writeln!(code, "/// Name under `detections/` and text of every {what}.").expect("memory");
        writeln!(code, "pub const {constant}: &[(&str, &str)] = &[").expect("memory");
        for file in files {
            let name = file.strip_prefix(&root).expect("found under it").display().to_string();
            writeln!(code, "    ({name:?}, include_str!({:?})),", file.display().to_string()).expect("memory");
        }
        code.push_str("];\n");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("builtin.rs");
    fs::write(out, code).expect("OUT_DIR can be written");
}

/// Rule files below `folder` and their cases; every folder is watched, so that new files are noticed.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    println!("cargo::rerun-if-changed={}", folder.display());
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, files);
        } else if name.ends_with(".yml") {
            files.push(path);
        }
    }
}
