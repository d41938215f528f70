//! Every shape of body, whole, torn and hostile.

use super::*;

const EVENT: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a"}"#;

/// Events and bad pieces as they are handed out.
type Pieces = (Vec<String>, Vec<String>);

fn run(body: &str) -> Result<Pieces, FrameError> {
    run_with(body, false)
}

/// `in_one_pass`: whether the items of a list are taken without being told apart first.
fn run_with(body: &str, in_one_pass: bool) -> Result<Pieces, FrameError> {
    let (mut events, mut bad) = (Vec::new(), Vec::new());
    let whole = |bytes: &[u8]| serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    frame(body.as_bytes(), |framed| {
        match framed {
            Framed::Event(bytes) if !whole(bytes) => return Err((Reason::Syntax, "torn".to_owned())),
            Framed::First(bytes) => {
                let len = skip::value(bytes).filter(|len| in_one_pass && bytes[0] == b'{' && whole(&bytes[..*len]));
                let len = len.ok_or_else(told_apart)?;
                events.push(String::from_utf8_lossy(&bytes[..len]).into_owned());
                return Ok(len);
            }
            Framed::Event(bytes) => events.push(String::from_utf8_lossy(bytes).into_owned()),
            Framed::Bad(reject) => {
                bad.push(format!("{}: {} {}", reject.place, reject.reason.as_str(), reject.detail));
            }
        }
        Ok(0)
    })?;
    Ok((events, bad))
}

#[test]
fn every_shape_is_told_by_its_content() {
    let list = format!(
        r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{{"auditID":"b"}},{EVENT}]}}"#
    );
    let pretty =
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&list).expect("json")).expect("json");
    for (body, count) in [
        (EVENT.to_owned(), 1),
        (format!("\u{feff}{EVENT}"), 1),
        (list.clone(), 2),
        (pretty.clone(), 2),
        (format!("{pretty}\n{pretty}"), 4),
        (format!("[{EVENT},{EVENT},{EVENT}]"), 3),
        (
            r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"level":"Metadata","auditID":"b"}]}"#
                .to_owned(),
            1,
        ),
        (format!("{EVENT}\n\n{EVENT}\r\n{list}\n"), 4),
        (format!(r#"{{"scenario":"x","event":{EVENT}}}"#), 1),
        (format!(r#"{{"kubernetes":{{"audit":{EVENT}}}}}"#), 1),
    ] {
        let (events, bad) = run(&body).expect(&body);
        assert_eq!((events.len(), bad.len()), (count, 0), "{body} {bad:?}");
    }
}

#[test]
fn an_empty_list_is_fine() {
    assert_eq!(run(r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}"#), Ok((vec![], vec![])));
}

#[test]
fn one_bad_event_leaves_its_neighbours() {
    let (events, bad) = run(&format!("{EVENT}\n{{\"kind\":\n{EVENT}")).expect("lines");
    assert_eq!(
        (events.len(), bad),
        (2, vec!["line 2: syntax EOF while parsing a value at line 1 column 8".to_owned()])
    );
    let body = format!(
        r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{EVENT},{{"auditID":tru}},{EVENT},7]}}"#
    );
    let (events, bad) = run(&body).expect("a list");
    assert_eq!(events.len(), 2);
    assert!(bad[0].starts_with("item 1: syntax expected ident"), "{bad:?}");
    let (events, bad) = run(&format!("[{EVENT},7,{EVENT}]")).expect("a list");
    assert_eq!((events.len(), bad), (2, vec!["item 1: kind a number is no event".to_owned()]));
}

#[test]
fn bodies_that_are_nothing_say_what_is_wrong() {
    for (body, message) in [
        ("", "the body is empty"),
        (" \n", "the body is empty"),
        ("hello", "the body is not JSON: expected value at line 1 column 1"),
        ("{}", "the body is not audit.k8s.io/v1: kind must be Event or EventList of audit.k8s.io/v1"),
        ("[1]", "the body is not audit.k8s.io/v1: item 0: a number is no event"),
        (
            r#"{"kind":"EventList","apiVersion":"v1","items":[]}"#,
            "the body is not audit.k8s.io/v1: apiVersion must be audit.k8s.io/v1, it has another",
        ),
    ] {
        assert_eq!(run(body).map_err(|e| e.to_string()), Err(message.to_owned()), "{body}");
    }
}

/// As deep as a client likes, on a thread with a small stack.
#[test]
fn nesting_costs_neither_stack_nor_time() {
    for opening in
        [r#"{"\ud800":0,"items":["#, r#"{"items":["#, r#"{"items":{"items":"#, "[", "[{\"log\":", "{\"log\":\n"]
    {
        for closing in ["", "]}"] {
            let body = format!("{}{}", opening.repeat(60_000), closing.repeat(60_000));
            let small = std::thread::Builder::new().stack_size(256 << 10);
            let answer = small.spawn(move || run(&body).is_err()).expect("a thread").join().expect("no overflow");
            assert!(answer, "{opening}");
        }
    }
}

#[test]
fn torn_first_lines_leave_the_others() {
    for (torn, lines) in
        [(r#""}"#, 1), ("{\"kind\":\"Ev\nxx", 2), ("{\"kind\":", 1), ("{\"items\":[", 1), ("[", 1), ("{", 1)]
    {
        for good in [1, 3, 100] {
            let body = format!("{torn}\n{}", format!("{EVENT}\n").repeat(good));
            let (events, bad) = run(&body).expect(torn);
            assert_eq!((events.len(), bad.len()), (good, lines), "{torn} {bad:?}");
            assert!(bad[0].starts_with("line 1: syntax "), "{bad:?}");
            assert!(is_lines(body.as_bytes()), "{torn}");
        }
    }
}

#[test]
fn printed_lists_may_be_broken() {
    let head = "\n  \"kind\": \"EventList\",\n  \"apiVersion\": \"audit.k8s.io/v1\",\n  \"items\": [";
    let printed = EVENT.replace(',', ",\n").replace('{', "{\n").replace('}', "\n}");
    for item in [EVENT, &printed] {
        let body = format!("{{{head}\n{item},\n{{\"auditID\": tru}},\n{item}\n]\n}}\n");
        let (events, bad) = run(&body).expect("a list");
        assert_eq!((events.len(), bad.len()), (2, 1), "{bad:?}");
        assert!(!is_lines(body.as_bytes()));
    }
}

#[test]
fn several_events_on_a_line_all_count() {
    for body in [
        format!("{EVENT}{EVENT}"),
        format!("{EVENT} {EVENT}\n"),
        format!("{EVENT}{EVENT}\n{EVENT}\n"),
        format!(" {EVENT}{{\"event\":{EVENT}}}\n\n{EVENT}"),
    ] {
        let (events, bad) = run(&body).expect(&body);
        assert_eq!((events.len(), bad.len()), (body.matches("Event\"").count(), 0), "{body} {bad:?}");
    }
    let (events, bad) = run(&format!("{EVENT}{EVENT}{{\"kind\":")).expect("two");
    assert_eq!((events.len(), bad.len()), (2, 1), "{bad:?}");
}

#[test]
fn null_items_are_an_empty_list() {
    assert_eq!(run(r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":null}"#), Ok((vec![], vec![])));
    assert!(run(r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":{}}"#).is_err());
    assert!(run(r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1"}"#).is_err());
}

#[test]
fn half_an_event_is_no_json() {
    let body = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"#;
    assert_eq!(run(body), Err(FrameError::NotJson("torn".to_owned())));
    let (events, bad) = run(&format!("{body}\n{EVENT}\n")).expect("an event");
    assert_eq!((events.len(), bad), (1, vec!["line 1: syntax torn".to_owned()]));
}

#[test]
fn wrappers_are_opened_whatever_else_they_hold() {
    let quoted = |text: &str| serde_json::to_string(text).expect("JSON");
    let (line, list) = (quoted(&format!("{EVENT}\n")), quoted(&format!("[{EVENT},{EVENT}]")));
    let printed = quoted(&EVENT.replace(",", " ,\n"));
    for (body, count) in [
        (format!(r#"{{"log":{line}}}"#), 1),
        (format!(r#"{{"log":{list},"stream":"stdout"}}"#), 2),
        (format!(r#"{{"message":{printed}}}"#), 1),
        (format!(r#"{{"kubernetes":{{"pod_name":"p","labels":{{}}}},"log":{line}}}"#), 1),
        (format!(r#"{{"event":{{"kind":"event"}},"message":"hello","log":7,"value":{EVENT}}}"#), 1),
        (format!(r#"{{"log":"hello","kubernetes":{{"host":"h","audit":{EVENT}}}}}"#), 1),
        (format!(r#"{{"log":"{{","kubernetes.audit":{line}}}"#), 1),
        (format!(r#"{{"kind":"x","message":{}}}"#, quoted(&format!(r#"{{"log":{line}}}"#))), 1),
        (format!(r#"[{{"log":{line}}},{{"log":{EVENT}}}]"#), 2),
    ] {
        for body in [body.clone(), format!("{body}\n{body}\n")] {
            let (events, bad) = run(&body).expect(&body);
            assert_eq!((events.len(), bad.len()), (count * body.lines().count(), 0), "{body} {bad:?}");
        }
    }
    let (events, bad) = run(&format!("{{\"log\":{line}}}\n{{\"log\":{}}}\n", quoted(&EVENT[..60]))).expect("one");
    assert_eq!((events.len(), bad), (1, vec!["line 2: syntax torn".to_owned()]));
    assert!(run(r#"{"log":"hello"}"#).is_err());
}

#[test]
fn wrappers_in_wrappers_end_somewhere() {
    let mut body = EVENT.to_owned();
    for depth in 1..9 {
        body = format!(r#"{{"message":{}}}"#, serde_json::to_string(&body).expect("JSON"));
        assert_eq!(run(&body).is_ok(), depth <= NESTING_MAX, "{depth}");
    }
}

#[test]
fn one_pass_over_a_list_finds_what_two_find() {
    const HEAD: &str = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    let other = EVENT.replace("\"a\"", "\"b \\\" ]}\"");
    let torn = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":}"#;
    // It must not take its neighbours with it.
    let unclosed = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":[}"#;
    for (items, tail, events, bad) in [
        (String::new(), "]}", 0, 0),
        (EVENT.to_owned(), "]}", 1, 0),
        (format!("{EVENT},{other}"), "]}\n", 2, 0),
        (format!(" {EVENT} , {other} "), "] , \"more\": [1, {}] }", 2, 0),
        (format!("{EVENT},{torn},{other}"), "]}", 2, 1),
        (format!("{EVENT},{unclosed},{other}"), "]}", 2, 1),
        (format!("{EVENT},7,{other}"), "]}", 2, 1),
        (format!("{EVENT},{}", other.replace("\"kind\"", "\"sort\"")), "]}", 2, 0),
        (format!("{EVENT},{other}"), "", 2, 0),
        (EVENT.to_owned(), &format!("]}}\n{other}\n{torn}\n"), 2, 1),
        (EVENT.to_owned(), &format!("]}}{other}"), 2, 0),
        (EVENT.to_owned(), &format!("]}}\n{HEAD}{other},{EVENT}]}}\n"), 3, 0),
    ] {
        let body = format!("{HEAD}{items}{tail}");
        let (in_one, in_two) = (run_with(&body, true), run(&body));
        let counts = in_one.as_ref().map(|(events, bad)| (events.len(), bad.len()));
        assert_eq!(counts, Ok((events, bad)), "{body}");
        let trimmed = |found: Result<Pieces, FrameError>| {
            found.map(|(events, bad)| (events.iter().map(|e| e.trim().to_owned()).collect::<Vec<_>>(), bad))
        };
        assert_eq!(trimmed(in_one), trimmed(in_two), "{body}");
    }
}

#[test]
fn a_list_cut_anywhere_ends() {
    let list = format!(
        r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{"a":"]"}},"items":[{EVENT},{EVENT}],"x":{{"y":[1]}}}}"#
    );
    for cut in 0..list.len() {
        if let Ok((events, bad)) = run_with(&list[..cut], true) {
            assert!(events.len() + bad.len() <= 3, "{}", &list[..cut]);
        }
    }
    assert_eq!(run_with(&list, true).map(|(events, _)| events.len()), Ok(2));
}
