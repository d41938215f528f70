//! The house rules that a compiler does not check: the layers of `src/lib.rs`, and the size of files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 800;

/// Module to layer, as the table in `src/lib.rs` says.
fn layers() -> BTreeMap<String, usize> {
    let mut layers = BTreeMap::new();
    for line in read(&root().join("src/lib.rs")).lines() {
        let Some(cells) = line.strip_prefix("//! |") else { continue };
        let cells: Vec<_> = cells.split('|').map(str::trim).collect();
        let Some(layer) = cells[0].parse().ok() else { continue };
        for module in cells[1].split(", ") {
            assert!(layers.insert(module.to_owned(), layer).is_none(), "{module} is in the table twice");
        }
    }
    layers
}

#[test]
fn every_module_is_in_the_table() {
    let layers = layers();
    let mut modules = BTreeSet::new();
    for entry in fs::read_dir(root().join("src")).expect("src").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_stem().expect("a name").to_string_lossy().into_owned();
        if entry.is_dir() || !matches!(name.as_str(), "lib" | "main") {
            modules.insert(name);
        }
    }
    assert_eq!(modules.into_iter().collect::<Vec<_>>(), layers.into_keys().collect::<Vec<_>>());
}

#[test]
fn modules_use_lower_layers_only() {
    let layers = layers();
    let mut wrong = Vec::new();
    for path in sources("src") {
        let Some((module, depth)) = module_of(&path) else { continue };
        let code = without_tests(&without_text(&read(&path)));
        for used in uses(&code, depth) {
            let (Some(own), Some(other)) = (layers.get(&module), layers.get(&used)) else { continue };
            if used != module && other >= own {
                let path = path.strip_prefix(root()).expect("below the root").display();
                wrong.push(format!("{path}: `{module}` (layer {own}) uses `{used}` (layer {other})"));
            }
        }
    }
    assert!(wrong.is_empty(), "A module uses modules of lower layers only:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in sources(folder) {
            let lines = read(&path).lines().count();
            if lines > LINES_MAX {
                wrong.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "split these, {LINES_MAX} lines are enough:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stands_in_one_place() {
    let allows = |path: &PathBuf| without_text(&read(path)).contains("unsafe");
    let found: Vec<PathBuf> = sources("src").into_iter().filter(allows).collect();
    assert_eq!(found, [root().join("src/event/skip/avx2.rs")]);
}

#[test]
fn the_scanner_sees_what_it_should() {
    let code = r##"
        use crate::alert::Level; // crate::cli
        use crate::{clock, store::{Store, Commit}, units as u};
        const X: &str = "crate::app \" crate::app";
        const Y: &str = r#"crate::app " "#;
        const Z: char = '"';
        fn f<'a>(x: &'a str) -> crate::event::Event<'a> { super::rule::f(crate::engine::g(x)) }
        /* crate::admin /* nested */ crate::admin */
        #[cfg(test)]
        mod tests { use crate::notify::x; fn g() { { } } }
        #[cfg(test)]
        use crate::admin::y;
        fn h() { crate::sink::h() }
    "##;
    let code = without_tests(&without_text(code));
    let found: Vec<_> = uses(&code, 1).into_iter().collect();
    assert_eq!(found, ["alert", "clock", "engine", "event", "rule", "sink", "store", "units"]);
}

/// The top module that a file belongs to, and how many `super` lead from it to the crate.
fn module_of(path: &Path) -> Option<(String, usize)> {
    let below = path.strip_prefix(root().join("src")).ok()?.with_extension("");
    let mut parts: Vec<_> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    // A file of tests is no part of the program.
    if parts.last().is_some_and(|last| last == "tests") || matches!(parts[0].as_str(), "lib" | "main") {
        return None;
    }
    Some((parts[0].clone(), parts.len()))
}

/// The top modules that code names: `crate::x`, `crate::{x, y::z}`, and as many `super::` as lead to the crate.
fn uses(code: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let up = "super::".repeat(depth);
    for prefix in ["crate::", up.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            // Part of a longer path or name, such as `super::super::` or `my_crate::`.
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(group) => found.extend(group_heads(group)),
                None => found.extend(head(rest)),
            }
        }
    }
    found
}

fn head(path: &str) -> Option<String> {
    let name: String = path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty() && name != "super").then_some(name)
}

/// The first names of `a, b::{c, d}, e}…`.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.extend(head(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.extend(head(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads
}

/// Code without items that are there for tests only.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        rest = &after[item_end(after)..];
    }
    kept + rest
}

/// Where the item ends that starts here: at a `;`, or at the brace that closes its body.
fn item_end(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Code without comments, and with empty strings.
fn without_text(code: &str) -> String {
    let text = regex::Regex::new(
        r##"(?s)//[^\n]*|b?r#"(?:.*?)"#|b?r"[^"]*"|b?"(?:\\.|[^"\\])*"|'(?:\\.[^']*|[^'\\\n])'|/\*|\*/|[^/"'*rb]+|."##,
    )
    .expect("a pattern");
    let (mut kept, mut comment) = (String::new(), 0_usize);
    for token in text.find_iter(code).map(|found| found.as_str()) {
        match token {
            "/*" => comment += 1,
            "*/" => comment = comment.saturating_sub(1),
            _ if comment > 0 || token.starts_with("//") => {}
            _ if token.len() > 1 && token.ends_with(['"', '\'', '#']) && token.contains(['"', '\'']) => kept.push(' '),
            _ => kept.push_str(token),
        }
    }
    kept
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                open.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
