//! Tokens and authorities that are replaced while the listener runs.

use super::*;

/// Soon enough for a test, and often enough that a file half written is seen too.
fn watchful() -> Limits {
    Limits { reload_interval: Duration::from_millis(10), ..Limits::default() }
}

#[tokio::test]
async fn a_token_is_rotated_without_a_restart_and_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "old\n").unwrap();
    let config = WebhookConfig { bearer_token_file: Some(file.clone()), ..WebhookConfig::default() };
    let server = start(config, watchful(), Recorder::default()).await;
    let client = client().build().unwrap();
    let codes = async || {
        let mut codes = Vec::new();
        for token in ["old", "new"] {
            let post = client.post(server.url("/k8s-audit")).bearer_auth(token).body(BODY);
            codes.push(post.send().await.unwrap().status().as_u16());
        }
        codes
    };
    assert_eq!(codes().await, [200, 401]);
    for (tokens, expected) in [("old\nnew\n", [200, 200]), ("new\n", [401, 200])] {
        let next = folder.path().join("next");
        fs::write(&next, tokens).unwrap();
        fs::rename(&next, &file).unwrap();
        eventually("the file is read again", async || codes().await == expected).await;
    }
    fs::remove_file(&file).unwrap();
    tokio::time::sleep(3 * watchful().reload_interval).await;
    assert_eq!(codes().await, [401, 200], "a file that is gone changes nothing");
}

#[tokio::test]
async fn the_authority_of_clients_is_replaced_and_a_bad_one_is_not_taken() {
    let (authority, next) = (Authority::new(), Authority::new());
    let mut tls = authority.write(&authority.sign("localhost"));
    let ca = authority.folder.path().join("ca.crt");
    tls.client_ca = Some(ca.clone());
    let config = WebhookConfig { tls: Some(tls), ..WebhookConfig::default() };
    let server = start(config, watchful(), Recorder::default()).await;
    let works = async |client: &Authority| {
        let (cert, key) = client.sign("apiserver");
        let identity = reqwest::Identity::from_pem(format!("{cert}{key}").as_bytes()).unwrap();
        let client = authority.trusted().identity(identity).build().unwrap();
        client.post(server.url("/k8s-audit")).body(BODY).send().await.is_ok()
    };
    let both = async || [works(&authority).await, works(&next).await];
    assert_eq!(both().await, [true, false]);
    fs::write(&ca, authority.issuer.pem() + &next.issuer.pem()).unwrap();
    eventually("both are trusted", async || both().await == [true, true]).await;
    fs::write(&ca, next.issuer.pem()).unwrap();
    eventually("the old one is not trusted any more", async || both().await == [false, true]).await;
    fs::write(&ca, "no certificate").unwrap();
    let tls = server.tls.clone().unwrap();
    until("the bad file was looked at", || tls.reload() == Ok(false)).await;
    assert_eq!(both().await, [false, true]);
}

#[tokio::test]
async fn the_end_of_the_certificate_is_a_metric() {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2030, 1, 2);
    let pair = (params.signed_by(&key, &authority.issuer).unwrap().pem(), key.serialize_pem());
    let config = WebhookConfig { tls: Some(authority.write(&pair)), ..WebhookConfig::default() };
    let server = start(config, Limits::default(), Recorder::default()).await;
    let line = "certificate_expiry_timestamp_seconds{listener=\"webhook\"} 1893542400.0\n";
    assert!(server.metrics.encode().contains(line), "2030-01-02");
}

/// Awaits that asking gives what is expected, at most ten seconds.
async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if ask().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}
