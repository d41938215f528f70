//! The page, what is told live, and what people change.

use std::io::Read as _;

use super::*;
use crate::config::ProxyConfig;

async fn filled(admin: &Running) {
    let mut changes: Vec<Change> = (1..=3).map(|n| alert(&format!("a{n}"), n, Level::High)).collect();
    for change in &mut changes {
        change.alert.event.user.username = Some("eve".to_owned());
        change.alert.event.verb = "list".to_owned();
    }
    admin.store.commit(Commit { cursor: 0, changes, ..Commit::default() }).await.unwrap();
}

fn start_behind(proxy: Option<&ProxyConfig>, tokens: Option<Tokens>) -> Running {
    let (mut state, reloads, folder) = start_state(tokens);
    state.proxy = proxy.map(|proxy| Proxy::new(proxy).unwrap());
    serve(state, reloads, folder)
}

#[tokio::test]
async fn the_page_is_served_packed_and_guarded() {
    let admin = start();
    let answer = admin.get("/").header("accept-encoding", "gzip").send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    assert_eq!((status.as_u16(), &headers["content-encoding"]), (200, &HeaderValue::from_static("gzip")));
    assert_eq!(headers.len(), headers.keys_len(), "no header twice: {headers:?}");
    let policy = headers["content-security-policy"].to_str().unwrap();
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part) && !policy.contains("unsafe"), "{policy}");
    }
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    let packed = answer.bytes().await.unwrap();
    let mut page = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut page).unwrap();
    assert!(page.starts_with("<!doctype html>"));
    let plain = text(admin.get("/page/main.js")).await;
    assert!(plain.0 == 200 && plain.1.contains("import"), "unpacked for who does not unpack");
    let again = admin.get("/").header("if-none-match", &headers["etag"]).send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.bytes().await.unwrap().len()), (304, 0));
    // Nothing but the page may run what it serves.
    let api = admin.get("/api/v1/alerts").send().await.unwrap();
    assert!(api.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'; frame-"));
}

#[tokio::test]
async fn figures_and_related_alerts() {
    let admin = start();
    filled(&admin).await;
    let (status, figures) = json(admin.get("/api/v1/figures?verb=list&bars=4")).await;
    assert_eq!((status, &figures["total"], figures["bars"].as_array().map(Vec::len)), (200, &json!(3), Some(4)));
    assert_eq!(figures["users"][0], json!({"value": "eve", "count": 3}));
    assert_eq!(json(admin.get("/api/v1/figures?limit=4")).await.0, 400);
    let (_, related) = json(admin.get("/api/v1/alerts/a2/related")).await;
    let ids: Vec<_> = related["user"].as_array().unwrap().iter().map(|alert| alert["id"].as_str().unwrap()).collect();
    assert_eq!((ids, &related["object"]), (vec!["a3", "a1"], &json!([])));
    assert_eq!(json(admin.get("/api/v1/alerts/a9/related")).await.0, 404);
    assert_eq!(json(admin.get("/api/v1/rules/r%201")).await.1["text"], "title: x");
    assert_eq!(json(admin.get("/api/v1/rules/r2")).await.0, 404);
}

#[tokio::test]
async fn what_happens_is_told_live() {
    let admin = start();
    let mut stream = admin.get("/api/v1/stream").send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut heard = String::new();
    let mut hear = async |words: &str| {
        while !heard.contains(words) {
            heard.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().expect("more")).unwrap());
        }
    };
    hear("event: ready\ndata: {\"place\":0}\n\n").await;
    filled(&admin).await;
    hear("event: alerts\ndata: {\"change\":1}\n\n").await;
    // What it is, is asked for in the order of arrival.
    let (_, page) = json(admin.get("/api/v1/alerts?after=0&limit=2")).await;
    assert_eq!(
        (&page["alerts"][0]["id"], &page["alerts"][1]["id"], &page["place"]),
        (&json!("a1"), &json!("a2"), &json!(2))
    );
    let (_, page) = json(admin.get("/api/v1/alerts?after=2")).await;
    assert_eq!((&page["alerts"][0]["id"], &page["place"]), (&json!("a3"), &json!(3)));
    assert_eq!(json(admin.get("/api/v1/alerts?after=3")).await, (200, json!({"alerts": [], "place": 3})));
    assert_eq!(
        admin.client.head(format!("http://{}/api/v1/stream", admin.address)).send().await.unwrap().status(),
        405
    );
    admin.shutdown.cancel();
    while stream.chunk().await.is_ok_and(|piece| piece.is_some()) {}
    tokio::task::spawn_blocking(|| admin.thread.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn events_are_shown_to_a_few_who_ask_rightly() {
    let admin = start();
    for (query, words) in [
        ("where=verv:+get", "did you mean `verb`?"),
        ("where=delete", "is no item of a detection"),
        ("user=a&user=b", "`user` is given twice"),
        ("level=high", "unknown: `level`; known are where,"),
    ] {
        let (status, body) = json(admin.get(&format!("/api/v1/events?{query}"))).await;
        assert_eq!(status, 400, "{query}");
        assert!(body["error"].as_str().is_some_and(|error| error.contains(words)), "{query}: {body}");
    }
    let mut streams = Vec::new();
    for _ in 0..crate::pipeline::onlookers::ONLOOKERS_MAX {
        let mut stream = admin.get("/api/v1/events?where=verb:+get").send().await.unwrap();
        assert_eq!(stream.chunk().await.unwrap().unwrap(), "event: ready\ndata: {}\n\n");
        streams.push(stream);
    }
    let full = admin.get("/api/v1/events").send().await.unwrap();
    assert_eq!((full.status().as_u16(), &full.headers()["retry-after"]), (503, &"10".parse().unwrap()));
}

#[tokio::test]
async fn alerts_are_handled_and_the_record_says_by_whom() {
    let admin = start();
    filled(&admin).await;
    let handle = |body: Value| admin.post("/api/v1/alerts/a1/handling").json(&body);
    let (status, shown) = json(handle(json!({"action": "acknowledge", "note": " mine "}))).await;
    assert_eq!(
        (status, &shown["handling"], &shown["history"][0]["who"]),
        (200, &json!("acknowledged"), &json!("local"))
    );
    assert_eq!(shown["history"][0]["note"], "mine");
    let (_, open) = json(admin.get("/api/v1/alerts?handling=open")).await;
    assert_eq!(open["alerts"].as_array().map(Vec::len), Some(2));
    for (body, words) in [
        (json!({"action": "solve"}), "`action` must"),
        (json!({"action": "note"}), "empty note"),
        (json!({"action": "close", "who": "somebody else"}), "unknown field"),
        (json!({"action": "note", "note": "x".repeat(5_000)}), "longer than"),
    ] {
        let (status, refused) = json(handle(body)).await;
        assert!(status == 400 && refused["error"].as_str().unwrap().contains(words), "{refused}");
    }
    assert_eq!(json(admin.post("/api/v1/alerts/a9/handling").json(&json!({"action": "close"}))).await.0, 404);
    let big =
        admin.post("/api/v1/alerts/a1/handling").header("content-type", "application/json").body("x".repeat(70_000));
    assert_eq!(json(big).await.0, 413);
}

#[tokio::test]
async fn silences_are_made_listed_and_ended() {
    let admin = start();
    filled(&admin).await;
    let silence = |body: Value| admin.post("/api/v1/silences").json(&body);
    let conditions = json!({"user": "eve", "namespace": ""});
    let (status, made) = json(silence(json!({"conditions": conditions, "reason": "known", "lasts": "4h"}))).await;
    assert_eq!(status, 201, "{made}");
    let (_, listed) = json(admin.get("/api/v1/silences")).await;
    assert_eq!(listed["silences"][0]["conditions"], json!({"user": "eve"}));
    assert_eq!((&listed["silences"][0]["who"], &listed["silences"][0]["lasts"]), (&json!("local"), &json!(true)));
    for (body, words) in [
        (json!({"conditions": {}, "reason": "x", "lasts": "4h"}), "everything"),
        (json!({"conditions": {"user": "eve"}, "reason": " ", "lasts": "4h"}), "why"),
        (json!({"conditions": {"user": "eve"}, "reason": "x", "lasts": "91d"}), "90d"),
        (json!({"conditions": {"user": "eve"}, "reason": "x", "lasts": "soon"}), "span"),
        (json!({"conditions": {"usr": "eve"}, "reason": "x", "lasts": "4h"}), "usr"),
        (json!({"conditions": {"rule": "kubesiren-canary"}, "reason": "x", "lasts": "4h"}), "canary"),
    ] {
        let (status, refused) = json(silence(body)).await;
        assert!(status == 400 && refused["error"].as_str().unwrap().contains(words), "{refused}");
    }
    let end = format!("/api/v1/silences/{}/end", made["id"]);
    assert_eq!(json(admin.post(&end).json(&json!({}))).await.0, 200);
    assert_eq!(json(admin.post(&end).json(&json!({}))).await.0, 404, "it is over");
    assert_eq!(json(admin.post("/api/v1/silences/x/end").json(&json!({}))).await.0, 404);
}

#[tokio::test]
async fn no_page_of_another_site_changes_anything() {
    let admin = start();
    filled(&admin).await;
    let close = || admin.post("/api/v1/alerts/a1/handling").json(&json!({"action": "close"}));
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("host", "rebound.example"),
    ] {
        assert_eq!(json(close().header(name, value)).await.0, 403, "{name}: {value}");
    }
    // What a form can send.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let form = admin.post("/api/v1/alerts/a1/handling").header("content-type", kind).body(r#"{"action":"close"}"#);
        assert_eq!(json(form).await.0, 415, "{kind}");
    }
    assert_eq!(json(admin.get("/api/v1/alerts/a1")).await.1.get("handling"), None);
    let own = close().header("origin", format!("http://{}", admin.address)).header("sec-fetch-site", "same-origin");
    assert_eq!(json(own).await.0, 200);
}

#[tokio::test]
async fn a_token_is_needed_for_changes_where_there_is_one() {
    let secret = crate::units::Secret::new("t".to_owned());
    let admin = start_with(Tokens::load(Some(&secret), None).unwrap());
    filled(&admin).await;
    let close = || admin.post("/api/v1/alerts/a1/handling").json(&json!({"action": "close"}));
    assert_eq!(json(close()).await.0, 401);
    assert_eq!(json(close().bearer_auth("u")).await.0, 401);
    assert_eq!(
        json(admin.get("/api/v1/session")).await.1,
        json!({"who": "somebody", "role": "reader", "bearer": false, "token": true, "proxy": false})
    );
    let (status, shown) = json(close().bearer_auth("t")).await;
    assert_eq!((status, &shown["history"][0]["who"]), (200, &json!("token")));
    assert_eq!(json(admin.get("/api/v1/session").bearer_auth("t")).await.1["role"], "editor");
}

#[tokio::test]
async fn behind_a_proxy_nobody_reads_unnamed_and_only_editors_change() {
    let proxy = ProxyConfig { editors: vec!["soc".to_owned()], ..ProxyConfig::default() };
    let admin = start_behind(Some(&proxy), None);
    filled(&admin).await;
    for path in ["/", "/page/main.js", "/api/v1/alerts", "/api/v1/stream", "/api/v1/session", "/api/v1/silences"] {
        assert_eq!(text(admin.get(path)).await.0, 401, "{path}");
        assert_eq!(admin.get(path).header("x-forwarded-user", "bob").send().await.unwrap().status(), 200, "{path}");
    }
    for path in ["/metrics", "/livez"] {
        assert_eq!(text(admin.get(path)).await.0, 200, "{path}");
    }
    let close = |groups: &str| {
        let close = admin.post("/api/v1/alerts/a1/handling").json(&json!({"action": "close"}));
        close.header("x-forwarded-user", "bob").header("x-forwarded-groups", groups)
    };
    let (status, refused) = json(close("dev")).await;
    assert!(status == 403 && refused["error"].as_str().unwrap().contains("read only"), "{refused}");
    assert_eq!(json(close("dev,soc")).await.1["history"][0]["who"], "bob");
    assert_eq!(json(admin.post("/api/v1/reload")).await.0, 401);

    let far = ProxyConfig { from: vec!["10.0.0.0/8".to_owned()], ..proxy };
    let admin = start_behind(Some(&far), None);
    assert_eq!(text(admin.get("/api/v1/alerts").header("x-forwarded-user", "bob")).await.0, 401, "not from the proxy");
    let secret = crate::units::Secret::new("t".to_owned());
    let admin = start_behind(Some(&far), Tokens::load(Some(&secret), None).unwrap());
    assert_eq!(text(admin.get("/api/v1/alerts").bearer_auth("t")).await.0, 200, "the token opens it too");
}

/// Everything but probes, metrics and the page's own files, also from this machine; and who may change what then.
#[tokio::test]
async fn nothing_is_read_without_a_token_where_readers_need_one() {
    let tokens = |text: &str| Tokens::load(Some(&crate::units::Secret::new(text.to_owned())), None).unwrap();
    let start = |editor: Option<&str>, proxy: Option<&ProxyConfig>| {
        let (mut state, reloads, folder) = start_state(editor.and_then(tokens));
        state.reader_tokens = tokens("r3ader").map(Arc::new);
        state.proxy = proxy.map(|proxy| Proxy::new(proxy).unwrap());
        serve(state, reloads, folder)
    };
    let admin = start(Some("ed1tor"), None);
    filled(&admin).await;
    for path in ["alerts", "alerts/a1", "figures", "stream", "session", "silences", "rules", "rules/r%201", "status"] {
        let path = format!("/api/v1/{path}");
        let (status, refused) = json(admin.get(&path)).await;
        assert!(status == 401 && refused["error"].as_str().unwrap().contains("reader_token_file"), "{path}: {refused}");
        for token in ["r3ader", "ed1tor"] {
            assert_eq!(admin.get(&path).bearer_auth(token).send().await.unwrap().status(), 200, "{path}");
        }
    }
    for path in ["/metrics", "/livez", "/", "/page/main.js"] {
        assert_eq!(text(admin.get(path)).await.0, 200, "{path}");
    }
    let close = |admin: &Running| admin.post("/api/v1/alerts/a1/handling").json(&json!({"action": "close"}));
    assert_eq!(json(close(&admin)).await.0, 401);
    let (status, refused) = json(close(&admin).bearer_auth("r3ader")).await;
    assert!(status == 403 && refused["error"].as_str().unwrap().contains("admin.token_file"), "{refused}");
    assert_eq!(json(close(&admin).bearer_auth("ed1tor")).await.0, 200);
    let session = json(admin.get("/api/v1/session").bearer_auth("r3ader")).await.1;
    assert_eq!(
        session,
        json!({"who": "reader token", "role": "reader", "bearer": true, "token": true, "proxy": false})
    );

    // Without a token for changes they come from this machine, as ever; but not unseen.
    let admin = start(None, None);
    filled(&admin).await;
    assert_eq!(json(close(&admin)).await.0, 401);
    assert_eq!(json(close(&admin).bearer_auth("r3ader")).await.0, 200);

    // A proxy's people need none, and who bears one needs no proxy.
    let admin = start(None, Some(&ProxyConfig::default()));
    filled(&admin).await;
    assert_eq!(text(admin.get("/")).await.0, 401);
    assert_eq!(text(admin.get("/api/v1/alerts").header("x-forwarded-user", "bob")).await.0, 200);
    assert_eq!(text(admin.get("/api/v1/alerts").bearer_auth("r3ader")).await.0, 200);
    assert_eq!(json(close(&admin).bearer_auth("r3ader")).await.0, 403);
}

/// A token that is taken out of its file reads nothing any more.
#[tokio::test]
async fn a_reader_whose_token_is_taken_away_reads_nothing_more() {
    let (mut state, reloads, folder) = start_state(None);
    let file = folder.path().join("readers");
    std::fs::write(&file, "one\ntwo\n").unwrap();
    state.reader_tokens = Tokens::load(None, Some(&file)).unwrap().map(Arc::new);
    let admin = serve(state, reloads, folder);
    assert_eq!(text(admin.get("/api/v1/alerts").bearer_auth("one")).await.0, 200);
    std::fs::write(&file, "two\n").unwrap();
    assert_eq!(text(admin.get("/api/v1/alerts").bearer_auth("one")).await.0, 401);
    assert_eq!(text(admin.get("/api/v1/alerts").bearer_auth("two")).await.0, 200);
}
