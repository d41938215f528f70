//! What the daemon's two listeners keep apart, and what they let in.

use super::support::{Daemon, WEBHOOK, answered, client, event_list, quiet_event, run, until};

const TIME: &str = "2026-11-21T04:00:00.000000Z";

#[tokio::test]
async fn neither_listener_answers_for_the_other() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    for path in ["/", "/metrics", "/livez", "/readyz", "/api/v1/alerts", "/api/v1/status", "/api/v1/reload"] {
        let url = format!("http://{}{path}", daemon.webhook);
        assert_eq!(answered(client().get(&url)).await.0, 404, "{path}");
        assert_eq!(answered(client().post(&url)).await.0, 404, "{path}");
    }
    for path in ["/k8s-audit", "/k8s-audit/prod"] {
        let url = format!("http://{}{path}", daemon.admin);
        let body = event_list(&[quiet_event("6f1c3c1e-4a55-4b43-9d3c-0d6f3f2a7b10", TIME)]);
        assert_eq!(answered(client().post(&url).body(body)).await.0, 404, "{path}");
    }
    daemon.metric_is("kubesiren_events_total", "", 0.0).await;
}

#[tokio::test]
async fn a_reload_over_the_admin_listener_needs_its_token() {
    let home = tempfile::tempdir().expect("a folder");
    let token = home.path().join("admin-token");
    std::fs::write(&token, "adm1n-t0ken\n").expect("written");
    std::fs::write(home.path().join("hook-token"), "h00k-t0ken\n").expect("written");
    let folder = home.path().display();
    let config =
        format!("sources: [{{type: webhook, listen: '127.0.0.1:0', bearer_token_file: {folder}/hook-token}}]\n");
    // What the test harness says of the admin listener stands in the environment's place.
    let daemon =
        Daemon::start_in(home.path(), &config, &[], &[("KUBESIREN_ADMIN__TOKEN_FILE", &token.display().to_string())])
            .await;
    let reload = || client().post(format!("http://{}/api/v1/reload", daemon.admin));
    for request in [reload(), reload().bearer_auth("h00k-t0ken"), reload().bearer_auth("adm1n")] {
        assert_eq!(answered(request).await.0, 401);
    }
    assert_eq!(answered(reload().bearer_auth("adm1n-t0ken")).await.0, 200);
    assert_eq!(daemon.get("/readyz").await.0, 200, "reading needs none");
    std::fs::write(&token, "adm1n-t0ken\nnext\n").expect("written");
    for token in ["adm1n-t0ken", "next"] {
        assert_eq!(answered(reload().bearer_auth(token)).await.0, 200, "{token}");
    }
    let post = client().post(daemon.hook()).bearer_auth("adm1n-t0ken").body("{}");
    assert_eq!(answered(post).await.0, 401, "one token is not the other");
    until("nothing of a token is logged", async || {
        let logged = daemon.process.err.all().join("\n");
        if logged.contains("t0ken") { Err(logged) } else { Ok(()) }
    })
    .await;
}

#[test]
fn plain_http_off_loopback_is_refused_unless_it_is_wanted() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("c.yml");
    let check = |config: &str| {
        std::fs::write(&file, config).expect("written");
        let output = run(&["config", "check", "--offline", &file.display().to_string()], b"");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for listen in ["0.0.0.0:9765", "'[::]:9765'", "10.0.0.1:9765"] {
        for config in
            [format!("sources: [{{type: webhook, listen: {listen}}}]\n"), format!("admin: {{listen: {listen}}}\n")]
        {
            let (code, said) = check(&config);
            assert!(code == Some(2) && said.contains("insecure: true"), "{config}: {code:?} {said}");
        }
    }
    for config in [
        "sources: [{type: webhook, listen: 0.0.0.0:9765, insecure: true}]\n",
        "admin: {listen: 0.0.0.0:9766, insecure: true}\n",
        "sources: [{type: webhook, listen: '[::1]:9765'}]\n",
    ] {
        let (code, said) = check(config);
        assert_eq!(code, Some(0), "{config}: {said}");
    }
}
