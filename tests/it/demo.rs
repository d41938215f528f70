//! The demo tells its story, and leaves nothing behind.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Running, answered, client, kubesiren};

/// Runs a demo whose temporary files are in `home`.
fn demo(home: &Path, args: &[&str]) -> Running {
    Running::start(kubesiren().arg("demo").args(args).env("TMPDIR", home))
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("a folder").next().is_none()
}

#[tokio::test]
async fn the_whole_story_is_found_within_seconds() {
    let home = tempfile::tempdir().expect("a folder");
    let started = Instant::now();
    let mut demo = demo(home.path(), &["--once"]);
    let status = demo.ended().await;
    assert_eq!(status.code(), Some(0), "{}", demo.err.all().join("\n"));
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    let (found, said) = (demo.out.all().join("\n"), demo.err.all().join("\n"));
    for step in [
        "API server scanned without credentials",
        "Many kinds of resources forbidden to one identity",
        "Service account used from a public address",
        "Secrets read with a general-purpose HTTP client",
        "Secrets of all namespaces listed by a service account",
        "Cluster-admin granted",
        "Role granted to anonymous callers",
        "Privileged container",
        "Interactive shell opened in a container",
        "Image of a miner or an attack tool",
        "Far more pods made than usual",
    ] {
        assert!(found.contains(step), "{step} is not in:\n{found}");
    }
    // The ordinary morning is no alert to anybody.
    for calm in ["ada@shop.example listed", "lin@shop.example", "kubelet", "prometheus"] {
        assert!(!found.contains(calm), "{calm} is in:\n{found}");
    }
    assert!(said.contains("http://127.0.0.1:") && said.contains(" alerts in "), "{said}");
    assert!(is_empty(home.path()), "the state is thrown away");
}

#[tokio::test]
async fn for_programs_it_is_told_in_json() {
    let home = tempfile::tempdir().expect("a folder");
    let mut demo = demo(home.path(), &["--once", "--output", "json"]);
    assert_eq!(demo.ended().await.code(), Some(0), "{}", demo.err.all().join("\n"));
    let mut told = super::support::json_lines(&demo.out.all().join("\n"));
    let whole = told.pop().expect("the whole");
    assert!(whole["alerts"] == told.len() && whole["events"].as_u64() > Some(100), "{whole}");
    let critical = told.iter().filter(|alert| alert["rule"]["level"] == "critical").count();
    assert!(critical > 0 && whole["levels"]["critical"] == critical, "{whole}");
}

#[tokio::test]
async fn it_ends_on_ctrl_c_and_throws_its_state_away() {
    let home = tempfile::tempdir().expect("a folder");
    let mut demo = demo(home.path(), &["--speed", "1"]);
    let address = |line: &str| {
        let (_, rest) = line.split_once("http://")?;
        Some(format!("http://{}/", rest.split('/').next()?))
    };
    let page = demo.logged("the page's address", address).await;
    let (status, text) = answered(client().get(&page)).await;
    assert!(status == 200 && text.contains("<title>Kubesiren</title>"), "{text}");
    assert!(!is_empty(home.path()));
    demo.signal("INT");
    let status = demo.ended().await;
    assert_eq!(status.code(), Some(0), "{}", demo.err.all().join("\n"));
    assert!(is_empty(home.path()), "the state is thrown away");
}
