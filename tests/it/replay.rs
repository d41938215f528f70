//! Recorded events posted as kube-apiserver posts them.

use super::support::{Daemon, WEBHOOK, attack, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_replayed_into_a_webhook() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    let url = daemon.hook();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/attack.jsonl");
    let replay = async |args: &[&str]| {
        let mut all = vec!["replay".to_owned(), sample.to_owned()];
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let run = move || run(&all.iter().map(String::as_str).collect::<Vec<_>>(), b"");
        let output = tokio::task::spawn_blocking(run).await.expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let count = attack().len();
    let (code, said) = replay(&["--webhook", &url, "--batch", "10", "--speed", "1000"]).await;
    assert!(code == Some(0) && said.starts_with(&format!("{count} events in ")), "{said}");
    daemon.metric_is("kubesiren_events_total", "", count as f64).await;
    let nowhere = url.replace("/k8s-audit", "/nowhere");
    let (code, said) = replay(&["--webhook", &nowhere]).await;
    assert!(code == Some(2) && said.contains("answered 404"), "{said}");
    let (code, said) = replay(&["--webhook", "http://127.0.0.1:1/s3cr3t"]).await;
    assert!(code == Some(2) && said.contains("does not answer") && !said.contains("s3cr3t"), "{said}");
    let (code, said) = replay(&[]).await;
    assert!(code == Some(2) && said.contains("--webhook"), "{said}");
    daemon.stop().await;
}
