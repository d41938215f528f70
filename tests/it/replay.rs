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
    let (code, said) = replay(&["--webhook", &url, "-o", "json"]).await;
    assert!(code == Some(0) && said.is_empty(), "{said}");
    daemon.metric_is("kubesiren_events_total", "", 2.0 * count as f64).await;
    let nowhere = url.replace("/k8s-audit", "/nowhere");
    let (code, said) = replay(&["--webhook", &nowhere]).await;
    assert!(code == Some(2) && said.contains("answered 404"), "{said}");
    let (code, said) = replay(&["--webhook", "http://127.0.0.1:1/s3cr3t"]).await;
    assert!(code == Some(2) && said.contains("does not answer") && !said.contains("s3cr3t"), "{said}");
    let (code, said) = replay(&[]).await;
    assert!(code == Some(2) && said.contains("--webhook"), "{said}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_demands_a_certificate_is_shown_one() {
    let home = tempfile::tempdir().expect("a folder");
    super::canary::certificates(home.path());
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(home.path().join("tls.crt"), own.cert.pem()).expect("written");
    std::fs::write(home.path().join("tls.key"), own.signing_key.serialize_pem()).expect("written");
    let dir = home.path().display();
    let tls = format!("{{cert: {dir}/tls.crt, key: {dir}/tls.key, client_ca: {dir}/ca.crt}}");
    let config = format!("sources: [{{type: webhook, listen: '127.0.0.1:0', tls: {tls}}}]\n");
    let daemon = Daemon::start(home.path(), &config).await;
    let url = format!("https://localhost:{}/k8s-audit", daemon.webhook.port());
    let in_home = |name: &str| home.path().join(name).display().to_string();
    let (ca, cert, key) = (in_home("tls.crt"), in_home("canary.crt"), in_home("canary.key"));
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/attack.jsonl");
    let bare = ["replay", sample, "--webhook", &url, "--ca-file", &ca].map(str::to_owned);
    let shown = [&bare[..], &["--client-cert", &cert, "--client-key", &key, "-o", "json"].map(str::to_owned)].concat();
    let replay = async |args: &[String]| {
        let args = args.to_vec();
        let run = move || run(&args.iter().map(String::as_str).collect::<Vec<_>>(), b"");
        tokio::task::spawn_blocking(run).await.expect("it ends")
    };
    assert_eq!(replay(&bare).await.status.code(), Some(2), "without one it is sent away");
    assert_eq!(replay(&shown[..shown.len() - 4]).await.status.code(), Some(2), "a certificate wants its key");
    let output = replay(&shown).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&said["events"], &said["rejected"]), (&attack().len().into(), &0.into()));
    daemon.metric_is("kubesiren_events_total", "", attack().len() as f64).await;
}
