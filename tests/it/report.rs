//! `kubesiren scan --report`: one file that says everything, does nothing and lets nothing in.

use base64::Engine as _;
use serde_json::{Value, json};

use super::support::{attack, json_lines, quiet_event, run, text_at};

/// Scans lines into a report; gives the report, and what was printed beside it.
fn report(input: &str, more: &[&str]) -> (String, Vec<Value>) {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("report.html");
    let path = file.to_str().expect("UTF-8");
    let output = run(&[&["scan", "--output", "json", "--report", path], more].concat(), input.as_bytes());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains(&format!("the report is in {path}")), "{said}");
    let left: Vec<_> = std::fs::read_dir(home.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "nothing else is left behind");
    (std::fs::read_to_string(file).expect("text"), json_lines(&String::from_utf8_lossy(&output.stdout)))
}

/// The names of the elements, each opened where it may be and closed again.
fn elements(html: &str) -> Vec<String> {
    const VOID: [&str; 4] = ["meta", "line", "rect", "!doctype"];
    let (mut open, mut all): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut rest = html;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').expect("a tag ends");
        let name: String = tag.chars().take_while(|c| !" /".contains(*c) || open.is_empty() && *c == '!').collect();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed), "closed in order");
        } else {
            if !VOID.contains(&name.as_str()) {
                open.push(name.clone());
            }
            all.push(name);
        }
        rest = after;
    }
    assert!(open.is_empty(), "{open:?} stay open");
    all
}

#[test]
fn a_report_tells_of_each_alert_who_what_where_when_and_what_to_do() {
    let input = format!("{}\nnot an event\n", attack().join("\n"));
    let (html, alerts) = report(&input, &[]);
    assert!(alerts.len() > 5);
    let articles: Vec<&str> = html.split("<article").skip(1).collect();
    assert_eq!(articles.len(), alerts.len());
    for alert in &alerts {
        let id = text_at(alert, "/id");
        let article =
            articles.iter().find(|article| article.contains(id)).unwrap_or_else(|| panic!("{id} is not told"));
        let title = text_at(alert, "/rule/title");
        for part in [
            title,
            text_at(alert, "/event/user/username"),
            text_at(alert, "/event/verb"),
            "<dt>Result</dt>",
            "<dt>From</dt>",
            "Why it fired",
            "What to do",
        ] {
            assert!(article.contains(part), "{part} is not in {article}");
        }
    }
    let level = |article: &&str| {
        let (_, rest) = article.split_once("class=\"level c-").expect("a level");
        let levels = ["critical", "high", "medium", "low", "informational"];
        levels.iter().position(|level| rest.starts_with(level)).expect("a level of ours")
    };
    assert!(articles.iter().map(level).is_sorted(), "the worst come first");
    assert!(html.contains("line 28") && html.contains("standard input"), "what was refused is told");
    assert!(html.contains("<title>2026-11-21 04:44:") && html.contains("class=\"f-"), "the chart");
    let names = elements(&html);
    assert!(names.iter().all(|name| !["script", "img", "link", "iframe", "object", "form"].contains(&name.as_str())));
}

#[test]
fn nothing_that_was_read_becomes_markup_and_the_browser_is_told_to_let_nothing_in() {
    let hostile = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;\u{202e}\u{1b}[2J";
    let mut event: Value =
        serde_json::from_str(&quiet_event("6f1c3c1e-4a55-4b43-9d3c-0d6f3f2a7b10", "2026-11-21T04:00:00.000000Z"))
            .expect("JSON");
    for (name, value) in [
        ("verb", json!("create")),
        ("userAgent", json!(hostile)),
        ("user", json!({"username": hostile, "groups": [hostile]})),
    ] {
        event[name] = value;
    }
    event["requestURI"] = "/api/v1/namespaces/shop/pods/web-0/exec?command=%2Fbin%2Fsh&stdin=true&tty=true".into();
    event["objectRef"] =
        json!({"resource": "pods", "namespace": hostile, "name": hostile, "apiVersion": "v1", "subresource": "exec"});
    event["sourceIPs"] = json!([hostile]);
    event["stage"] = "ResponseStarted".into();
    let (html, alerts) = report(&event.to_string(), &[]);
    assert!(!alerts.is_empty());
    let quiet = report(&attack().join("\n"), &[]).0;
    let kinds = |html: &str| elements(html).into_iter().collect::<std::collections::BTreeSet<_>>();
    assert!(kinds(&html).is_subset(&kinds(&quiet)), "{:?}", kinds(&html));
    assert!(!html.contains('\u{202e}') && !html.contains('\u{1b}') && html.contains("&lt;script&gt;"));
    assert!(!html.contains(" style=") && !html.contains(" onerror=alert(1)>\""));
    // The policy names the one style that is there, by what is in it.
    let (_, style) = html.split_once("<style>").expect("a style");
    let (style, _) = style.split_once("</style>").expect("its end");
    let hash = ring::digest::digest(&ring::digest::SHA256, style.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(hash);
    let policy =
        format!("content=\"default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'\"");
    assert!(html.find(&policy).is_some_and(|at| at < html.find("<style>").expect("there")), "{policy}");
}

#[test]
fn a_report_of_very_much_says_how_much_it_leaves_out() {
    let shell = |n: usize| {
        let time = format!("2026-11-21T04:{:02}:{:02}.000000Z", n / 60, n % 60);
        let mut event: Value =
            serde_json::from_str(&quiet_event(&format!("6f1c3c1e-4a55-4b43-9d3c-{n:012}"), &time)).expect("JSON");
        event["user"]["username"] = format!("user-{n}").into();
        event["verb"] = "create".into();
        event["stage"] = "ResponseStarted".into();
        event["requestURI"] = "/api/v1/namespaces/shop/pods/web-0/exec?command=%2Fbin%2Fsh&stdin=true&tty=true".into();
        event["objectRef"] = json!({"resource": "pods", "namespace": "shop", "name": "web-0", "apiVersion": "v1", "subresource": "exec"});
        event.to_string()
    };
    let lines: Vec<String> = (0..1_200).map(shell).collect();
    let (html, alerts) = report(&lines.join("\n"), &["--min-level", "low"]);
    assert!(alerts.len() > 1_000);
    assert_eq!(html.matches("<article").count(), 1_000);
    let said = format!("{} alerts are left out here", alerts.len() - 1_000);
    assert!(html.contains(&said) && html.contains("alerts below low were left out"), "{said}");
    assert!(html.len() < 9 << 20, "{}", html.len());
}

#[test]
fn an_empty_report_says_so_and_one_that_cannot_be_written_is_an_error_before_the_scan() {
    let (html, _) = report(&quiet_event("6f1c3c1e-4a55-4b43-9d3c-0d6f3f2a7b10", "2026-11-21T04:00:00.000000Z"), &[]);
    assert!(html.contains("No alert, in 1 audit event."));
    elements(&html);
    for (path, words) in [("/nowhere/report.html", "cannot write /nowhere/report.html"), ("/tmp", "is a folder")] {
        let output = run(&["scan", "--report", path], attack().join("\n").as_bytes());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
        assert!(said.contains(words), "{said}");
    }
}
