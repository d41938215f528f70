//! The web page in a real browser. Skipped, saying so, where there is no Chromium, no Node or no playwright-core.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Running, kubesiren, run, skipped};

/// Where the browser's driver is looked for, beside the usual places: a folder with `node_modules`.
const MODULES: &str = "KUBESIREN_PAGE_MODULES";

/// What is installed is the same everywhere, and comes from whichever registry npm is set up for.
#[test]
fn the_modules_are_named_with_their_versions_and_without_a_registry() {
    let read = |name: &str| -> Value {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page").join(name);
        serde_json::from_str(&std::fs::read_to_string(file).expect("text")).expect("JSON")
    };
    let (wanted, locked) = (read("package.json"), read("package-lock.json"));
    assert!(!locked.to_string().contains("://"), "{locked}");
    let wanted = wanted["dependencies"].as_object().expect("modules");
    assert_eq!(locked["packages"].as_object().map(serde_json::Map::len), Some(wanted.len() + 1));
    for (name, version) in wanted {
        let locked = &locked["packages"][format!("node_modules/{name}")];
        assert_eq!(&locked["version"], version, "{name}: the version is exact");
        assert!(locked["integrity"].is_string(), "{name}");
    }
}

#[tokio::test]
async fn the_page_works_in_a_browser() {
    let Some(browser) = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .into_iter()
        .find(|path| Path::new(path).exists())
    else {
        return skipped("there is no Chromium");
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let modules = std::env::var(MODULES).unwrap_or_else(|_| folder.display().to_string());
    if !Path::new(&modules).join("node_modules/playwright-core").exists() {
        return skipped("playwright-core is not installed: `npm ci --prefix tests/page`");
    }
    let home = tempfile::tempdir().expect("a folder");
    let mut demo = Running::start(kubesiren().args(["demo", "--speed", "2000"]).env("TMPDIR", home.path()));
    let address = |line: &str| {
        let (_, rest) = line.split_once("The page stays at ")?;
        rest.split('?').next().map(str::to_owned)
    };
    let page = demo.logged("the end of the story", address).await;
    let copies = home.path().join("copies");
    let to = copies.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let mut node = Command::new("node");
        node.arg(folder.join("page.mjs"))
            .arg(page)
            .env("CHROMIUM", browser)
            .env(MODULES, modules)
            .env("COPIES", to)
            .output()
    });
    match looking.await.expect("no panic") {
        Ok(output) => {
            let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
            assert!(output.status.success(), "{said}");
        }
        Err(error) => return skipped(&format!("node does not run: {error}")),
    }
    // What the page gives to take along is right.
    for (command, folder) in [("test", "case"), ("check", "filter")] {
        let folder = copies.join(folder);
        let output = run(&["rules", command, folder.to_str().expect("UTF-8")], b"");
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(output.status.success(), "{command}: {said}");
    }
}
