//! `kubesiren scan` on recordings, as a user runs it.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::Value;

use super::scenarios::table;
use super::support::{attack, event_list, recording, run, scan, scenarios, text_at};

fn stdout_of(threads: &str, file: &str) -> Vec<u8> {
    let output = run(&["scan", "--threads", threads, "-q", file], b"");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!output.stdout.is_empty());
    output.stdout
}

#[test]
fn threads_change_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    // Long enough for several blocks: the sample again and again, as other requests.
    let many = home.path().join("many.jsonl");
    let mut file = std::fs::File::create(&many).expect("made");
    for n in 0..200 {
        let text = attack().join("\n").replace("\"auditID\":\"", &format!("\"auditID\":\"{n}-"));
        writeln!(file, "{text}").expect("written");
    }
    let mut files = vec![many];
    if let Some(scenarios) = scenarios() {
        let text: String = scenarios.iter().map(|(_, event)| format!("{event}\n")).collect();
        files.push(home.path().join("scenarios.jsonl"));
        std::fs::write(&files[1], text).expect("written");
    }
    files.extend(recording("benign.jsonl.zst"));
    for file in files {
        let file = file.display().to_string();
        let one = stdout_of("1", &file);
        for threads in ["2", "5"] {
            assert!(one == stdout_of(threads, &file), "{threads} threads find something else in {file}");
        }
    }
}

#[test]
fn an_ordinary_day_is_quiet() {
    let Some(file) = recording("benign.jsonl.zst") else { return };
    let (alerts, stats) = scan(&["--profile", "paranoid", &file.display().to_string()], b"");
    assert_eq!((&stats["events"], &stats["rejected"]), (&29_783.into(), &0.into()));
    let mut found: BTreeMap<(String, String), u64> = BTreeMap::new();
    for alert in &alerts {
        let key = (text_at(alert, "/rule/level").to_owned(), text_at(alert, "/rule/title").to_owned());
        *found.entry(key).or_default() += 1;
    }
    let loud: Vec<_> = found.keys().filter(|(level, _)| !["informational", "low"].contains(&level.as_str())).collect();
    assert!(loud.is_empty(), "{loud:?}");
    let found: BTreeMap<String, String> = found.into_iter().map(|((_, title), n)| (title, n.to_string())).collect();
    assert_eq!(found, table("benign.tsv").into_iter().collect());
    let (alerts, _) = scan(&[&file.display().to_string()], b"");
    let low = alerts.iter().filter(|alert| text_at(alert, "/rule/level") == "low").count();
    assert!(low <= 10, "{low} are too many for the default profile");
}

#[test]
fn the_shape_of_the_input_changes_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let events = attack();
    let lines = events.join("\n");
    let expected = scan(&[], lines.as_bytes()).0;
    assert!(expected.len() >= 10);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).expect("into memory");
    let list: Value = serde_json::from_str(&event_list(&events)).expect("JSON");
    let wrapped: Vec<String> = events.iter().map(|event| format!(r#"{{"stream":"stdout","log":{event}}}"#)).collect();
    let shapes: [(&str, Vec<u8>); 8] = [
        ("lines", (lines.clone() + "\n").into_bytes()),
        ("gzip", gzip.finish().expect("into memory")),
        ("zstd", zstd::encode_all(lines.as_bytes(), 1).expect("into memory")),
        ("list", event_list(&events).into_bytes()),
        ("printed list", serde_json::to_vec_pretty(&list).expect("JSON")),
        ("array", format!("[{}]", events.join(",")).into_bytes()),
        ("two lists", format!("{}\n{}\n", event_list(&events[..9]), event_list(&events[9..])).into_bytes()),
        ("a shipper's lines", wrapped.join("\n").into_bytes()),
    ];
    for (shape, bytes) in shapes {
        let file = home.path().join("input");
        std::fs::write(&file, &bytes).expect("written");
        assert_eq!(scan(&[&file.display().to_string()], b"").0, expected, "{shape} as a file");
        assert_eq!(scan(&["-"], &bytes).0, expected, "{shape} on standard input");
    }
    let (first, second) = (home.path().join("1"), home.path().join("2"));
    std::fs::write(&first, events[..9].join("\n")).expect("written");
    std::fs::write(&second, events[9..].join("\n")).expect("written");
    let files = [first.display().to_string(), second.display().to_string()];
    assert_eq!(scan(&[&files[0], &files[1]], b"").0, expected, "two files");
}

#[test]
fn exit_codes_and_statistics() {
    let lines = attack().join("\n");
    let code = |args: &[&str], input: &str| run(args, input.as_bytes()).status.code();
    assert_eq!(code(&["scan"], &lines), Some(0));
    assert_eq!(code(&["scan", "--fail-on", "critical"], &lines), Some(1));
    let quiet = super::support::quiet_event("a", "2026-11-21T04:00:00.000000Z");
    assert_eq!(code(&["scan", "--fail-on", "low"], &quiet), Some(0));
    assert_eq!(code(&["scan"], "hello\n"), Some(2), "no audit log");
    assert_eq!(code(&["scan", "--no-builtin"], &lines), Some(2), "no rules");
    let missing = run(&["scan", "/no/such/file"], b"");
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/file") && missing.stdout.is_empty());

    let (high, stats) = scan(&["--min-level", "high"], (lines.clone() + "\n" + &lines + "\n{\"kind\":\n").as_bytes());
    assert!(high.iter().all(|alert| ["high", "critical"].contains(&text_at(alert, "/rule/level"))));
    assert_eq!(stats["alerts"], high.len());
    assert_eq!((&stats["events"], &stats["rejected"]), (&54.into(), &1.into()));
    for name in ["bytes", "duplicates", "matches"] {
        assert!(stats[name].as_u64() > Some(0), "{name} in {stats}");
    }
    assert!(stats["seconds"].as_f64() > Some(0.0), "{stats}");
    let table = run(&["scan", "--format", "table", "--min-level", "critical"], lines.as_bytes());
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("Role granted to anonymous callers") && table.lines().count() == 2, "{table}");
}
