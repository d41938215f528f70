//! What people do about alerts, what they ask, and how long the answers take.

use std::time::Instant;

use super::*;
use crate::store::find::tests::LOOKED_AT;

const USERS: [&str; 4] = ["alice", "bob", "system:serviceaccount:ci:runner", "mallory"];

/// Whether an alert answers a question.
type Holds = fn(&Alert) -> bool;

/// An alert that differs from its neighbours in everything that can be asked for.
fn varied(n: usize) -> Alert {
    let mut alert = alert(&format!("{n:032x}"), 1_790_000_000_000_000 + i64::try_from(n).unwrap() * 1_000_000);
    let level = Level::ALL[n % 5];
    let rule =
        RuleInfo { id: format!("rule-{}", n % 7), title: format!("Title {}", n % 7), level, ..RuleInfo::default() };
    alert.rule = Arc::new(rule);
    alert.summary = format!("{} did number {n} <b>&amp;", USERS[n % 4]);
    alert.event = EventExcerpt {
        verb: ["get", "list", "create"][n % 3].to_owned(),
        user: User { username: Some(USERS[n % 4].to_owned()), groups: vec!["system:authenticated".to_owned()] },
        object_ref: Some(ObjectRef {
            resource: Some("pods".to_owned()),
            namespace: Some(format!("ns-{}", n % 11)),
            name: Some(format!("pod-{}", n % 13)),
            ..ObjectRef::default()
        }),
        user_agent: Some("kubectl/v1.33.4 (linux/amd64) kubernetes/74cdb42".to_owned()),
        request_uri: format!("/api/v1/namespaces/ns-{}/pods/pod-{}", n % 11, n % 13),
        ..EventExcerpt::default()
    };
    alert
}

async fn filled(store: &Store, count: usize) {
    for first in (0..count).step_by(1_000) {
        let changes = (first..count.min(first + 1_000)).map(|n| change(&varied(n), Kind::Firing, &[])).collect();
        store.commit(commit(changes)).await.unwrap();
    }
}

fn deed(who: &str, handling: Option<Handling>, note: &str) -> Deed {
    Deed { at: Timestamp(5), who: who.to_owned(), handling, note: note.to_owned() }
}

fn silence(conditions: Conditions, expires: Timestamp) -> NewSilence {
    NewSilence { conditions, reason: "known".to_owned(), who: "ada".to_owned(), created: Timestamp(0), expires }
}

#[tokio::test]
async fn what_is_filtered_and_counted_is_what_a_look_at_every_alert_finds() {
    let (_dir, store) = open();
    filled(&store, 500).await;
    let all: Vec<Alert> = (0..500).map(varied).collect();
    let text = |text: &str| Some(text.to_owned());
    let asked: [(AlertQuery, Holds); 6] = [
        (AlertQuery { verb: text("list"), ..AlertQuery::default() }, |alert| alert.event.verb == "list"),
        (AlertQuery { object: text("pods/pod-3"), namespace: text("ns-2"), ..AlertQuery::default() }, |alert| {
            let object = alert.event.object_ref.as_ref().unwrap();
            object.name.as_deref() == Some("pod-3") && object.namespace.as_deref() == Some("ns-2")
        }),
        (AlertQuery { min_level: Some(Level::High), user: text("bob"), ..AlertQuery::default() }, |alert| {
            alert.rule.level >= Level::High && alert.event.user.username.as_deref() == Some("bob")
        }),
        (AlertQuery { text: text("NUMBER 42 "), ..AlertQuery::default() }, |alert| {
            alert.summary.contains("number 42 ")
        }),
        (AlertQuery { text: text("userAgent"), ..AlertQuery::default() }, |_| false),
        (AlertQuery { rule: text("rule-3"), verb: text("get"), ..AlertQuery::default() }, |alert| {
            alert.rule.id == "rule-3" && alert.event.verb == "get"
        }),
    ];
    for (query, holds) in asked {
        let expected: Vec<&str> =
            all.iter().rev().filter(|alert| holds(alert)).map(|alert| alert.id.as_str()).collect();
        let listed = store.listed(AlertQuery { limit: 1_000, ..query.clone() }).await.unwrap();
        assert_eq!(listed.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), expected, "{query:?}");
        let figures = store.figures(query.clone(), Timestamp(1_790_000_600_000_000), 7).await.unwrap();
        assert_eq!(figures.total, expected.len() as u64, "{query:?}");
        assert_eq!(figures.levels.iter().sum::<u64>(), figures.total);
        let mut in_bars = [0; 5];
        figures.bars.iter().for_each(|bar| (0..5).for_each(|level| in_bars[level] += bar.levels[level]));
        assert_eq!(in_bars, figures.levels);
    }
    let figures = store.figures(AlertQuery::default(), Timestamp(1_790_000_600_000_000), 10).await.unwrap();
    assert_eq!((figures.since, figures.bars.len()), (all[0].time, 10));
    assert_eq!(figures.rules[0], Count { value: "rule-0".to_owned(), count: 72, title: Some("Title 0".to_owned()) });
    assert_eq!(figures.users.iter().map(|user| user.count).sum::<u64>(), 500);
}

#[tokio::test]
async fn an_empty_store_has_figures_too() {
    let (_dir, store) = open();
    let now = Timestamp(1_790_000_000_000_000);
    let figures = store.figures(AlertQuery::default(), now, 3).await.unwrap();
    assert_eq!((figures.total, figures.since, figures.until, figures.bars.len()), (0, now, now, 3));
    let backwards = AlertQuery { since: Some(now), until: Some(Timestamp(0)), ..AlertQuery::default() };
    assert_eq!(store.figures(backwards, now, 3).await.unwrap().total, 0);
}

#[tokio::test]
async fn what_people_do_is_kept_with_who_did_it() {
    let (dir, store) = open();
    filled(&store, 3).await;
    let id = varied(1).id;
    let mut changes = store.alert_changes();
    assert!(store.deed(&id, deed("ada", Some(Handling::Acknowledged), "looking")).await.unwrap());
    assert!(changes.has_changed().unwrap());
    changes.borrow_and_update();
    assert!(store.deed(&id, deed("bob", None, "was me")).await.unwrap());
    assert!(!store.deed("nothing", deed("bob", None, "x")).await.unwrap());
    store.close().await;
    let store = Store::open(dir.path()).unwrap();
    let (listed, deeds) = store.listed_one(&id).await.unwrap().unwrap();
    assert_eq!(listed.handling, Some(Handling::Acknowledged));
    assert_eq!(deeds, [deed("ada", Some(Handling::Acknowledged), "looking"), deed("bob", None, "was me")]);
    let of = async |handling| {
        store.listed(AlertQuery { handling: Some(handling), ..AlertQuery::default() }).await.unwrap().len()
    };
    assert_eq!((of(Handling::Open).await, of(Handling::Acknowledged).await, of(Handling::Closed).await), (2, 1, 0));
    // What the episode does meanwhile takes nothing of it away.
    store.commit(commit(vec![change(&grown(&varied(1), 9), Kind::Update, &[])])).await.unwrap();
    assert_eq!(store.listed_one(&id).await.unwrap().unwrap().0.handling, Some(Handling::Acknowledged));
    store.deed(&id, deed("ada", Some(Handling::Open), "")).await.unwrap();
    assert_eq!(of(Handling::Open).await, 3);
    for _ in 0..300 {
        store.deed(&id, deed("eve", None, "again")).await.unwrap();
    }
    let kept = store.listed_one(&id).await.unwrap().unwrap().1.len();
    assert_eq!(i64::try_from(kept), Ok(crate::store::triage::DEEDS_MAX));
}

#[tokio::test]
async fn what_is_silenced_is_kept_and_shown_but_goes_to_no_sink() {
    let (_dir, store) = open();
    let told = |n| change(&varied(n), Kind::Firing, &["oncall"]);
    store.commit(commit(vec![told(1)])).await.unwrap();
    let far = Timestamp(i64::MAX / 4);
    let bob = Conditions { user: Some("bob".to_owned()), verb: Some("list".to_owned()), ..Conditions::default() };
    let id = store.silence(silence(bob, far)).await.unwrap().unwrap();
    // 13 is another of bob's lists, 5 is his but no list, 6 somebody else's.
    store.commit(commit(vec![told(13), told(5), told(6)])).await.unwrap();
    let waiting: Vec<_> = due(&store, "oncall").await.into_iter().map(|(_, id, _)| id).collect();
    assert_eq!(waiting, [1, 5, 6].map(|n| varied(n).id), "what was told before is not taken back");
    let hidden = store.listed(AlertQuery { silenced: Some(true), ..AlertQuery::default() }).await.unwrap();
    assert_eq!((hidden.len(), hidden[0].id.clone(), hidden[0].silence), (1, varied(13).id, Some(id)));
    // Neither its growth nor its end is news to anybody.
    let after =
        vec![change(&grown(&varied(13), 5), Kind::Update, &["oncall"]), change(&varied(13), Kind::Resolved, &[])];
    store.commit(commit(after)).await.unwrap();
    assert_eq!(due(&store, "oncall").await.len(), 3);

    let silences = store.silences(Timestamp(1)).await.unwrap();
    assert_eq!((silences.len(), silences[0].hidden, silences[0].lasts), (1, 1, true));
    assert!(store.end_silence(id, "bob", Timestamp(7)).await.unwrap());
    assert!(!store.end_silence(id, "bob", Timestamp(8)).await.unwrap(), "once");
    let ended = &store.silences(Timestamp(9)).await.unwrap()[0];
    assert_eq!((ended.lasts, ended.ended, ended.ended_by.as_deref()), (false, Some(Timestamp(7)), Some("bob")));
    store.commit(commit(vec![told(25)])).await.unwrap();
    assert_eq!(due(&store, "oncall").await.len(), 4, "told again");
}

#[tokio::test]
async fn silences_run_out_and_spare_the_canary() {
    let (_dir, store) = open();
    let everything = Conditions { cluster: Some("prod".to_owned()), ..Conditions::default() };
    store.silence(silence(everything.clone(), Timestamp(1))).await.unwrap().unwrap();
    let told = |n| change(&varied(n), Kind::Firing, &["oncall"]);
    store.commit(commit(vec![told(1)])).await.unwrap();
    assert_eq!(due(&store, "oncall").await.len(), 1, "it ran out long ago");
    store.silence(silence(everything, Timestamp(i64::MAX / 4))).await.unwrap().unwrap();
    let mut canary = varied(2);
    canary.rule = Arc::new(RuleInfo { id: crate::alert::CANARY.to_owned(), ..RuleInfo::default() });
    store.commit(commit(vec![change(&canary, Kind::Firing, &["oncall"]), told(3)])).await.unwrap();
    let waiting: Vec<_> = due(&store, "oncall").await.into_iter().map(|(_, id, _)| id).collect();
    assert_eq!(waiting, [varied(1).id, canary.id]);
}

#[tokio::test]
async fn related_alerts_are_those_of_the_user_and_of_the_object_in_the_same_cluster() {
    let (_dir, store) = open();
    filled(&store, 600).await;
    let mut elsewhere = varied(0);
    (elsewhere.id, elsewhere.cluster) = ("elsewhere".to_owned(), "lab".to_owned());
    let mut long_ago = varied(0);
    (long_ago.id, long_ago.time) = ("long-ago".to_owned(), varied(0).time.minus(DAY * 2));
    let more = vec![change(&elsewhere, Kind::Firing, &[]), change(&long_ago, Kind::Firing, &[])];
    store.commit(commit(more)).await.unwrap();
    let related = store.related(&varied(0).id).await.unwrap().unwrap();
    let user = related.user.iter().map(|one| one.id.clone());
    assert_eq!(user.collect::<Vec<_>>(), (100..150).rev().map(|n| varied(n * 4).id).collect::<Vec<_>>(), "the newest");
    let object = related.object.iter().map(|one| one.id.clone());
    assert_eq!(object.collect::<Vec<_>>(), [572, 429, 286, 143].map(|n| varied(n).id));
    assert!(store.related("nothing").await.unwrap().is_none());
}

/// What the text of an answer costs is the bodies that are looked into; times say little in a test.
#[tokio::test]
async fn free_text_looks_into_no_more_alerts_than_it_must() {
    const ALL: usize = 2_000;
    let (dir, store) = open();
    filled(&store, ALL).await;
    let connection = crate::store::schema::open_reader(&dir.path().join("state.db")).unwrap();
    let now = varied(ALL).time;
    let looked = |query: &AlertQuery| {
        LOOKED_AT.set(0);
        let listed = crate::store::alerts::listed(&connection, query).unwrap().len();
        let listing = LOOKED_AT.replace(0);
        let total = crate::store::figures::count(&connection, query, now, 60).unwrap().total;
        (listed, listing, usize::try_from(total).unwrap(), LOOKED_AT.get())
    };
    let text = |text: &str| Some(text.to_owned());
    let common = AlertQuery { text: text("kubectl"), ..AlertQuery::default() };
    // Listing ends with the page; counting looks at all that the other conditions leave.
    assert_eq!(looked(&common), (100, 100, ALL, ALL));
    let older = AlertQuery { before: Some((varied(1_000).time, varied(1_000).id)), ..common.clone() };
    assert_eq!(looked(&older), (100, 100, ALL, ALL));
    assert_eq!(looked(&AlertQuery { verb: text("list"), ..common.clone() }), (100, 100, 667, 667));
    assert_eq!(looked(&AlertQuery { namespace: text("ns-3"), ..common.clone() }), (100, 100, 182, 182));
    assert_eq!(looked(&AlertQuery { min_level: Some(Level::Critical), ..common.clone() }), (100, 100, 400, 400));
    assert_eq!(looked(&AlertQuery { user: text("nobody"), ..common.clone() }), (0, 0, 0, 0));
    assert_eq!(looked(&AlertQuery { handling: Some(Handling::Closed), ..common.clone() }), (0, 0, 0, 0));
    assert_eq!(looked(&AlertQuery { since: Some(varied(ALL - 50).time), ..common }), (50, 50, 50, 50));
    let rare = AlertQuery { text: text("number 42 "), ..AlertQuery::default() };
    assert_eq!(looked(&rare), (1, ALL, 1, ALL));
    assert_eq!(looked(&AlertQuery { text: text(""), ..AlertQuery::default() }), (100, 0, ALL, 0));
}

/// The bound of what is asked while somebody waits; it is that of an optimised build on a machine with nothing else to do.
#[tokio::test]
#[ignore = "takes a minute; `cargo test --release --lib a_hundred_thousand -- --ignored --nocapture`"]
async fn a_hundred_thousand_alerts_are_filtered_within_200_milliseconds() {
    const BOUND: Duration = Duration::from_millis(200);
    let (_dir, store) = open();
    filled(&store, 100_000).await;
    let now = varied(100_000).time;
    let text = |text: &str| Some(text.to_owned());
    let asked = [
        ("all", AlertQuery::default()),
        ("high and above", AlertQuery { min_level: Some(Level::High), ..AlertQuery::default() }),
        ("a verb and a namespace", AlertQuery { verb: text("list"), namespace: text("ns-3"), ..AlertQuery::default() }),
        (
            "an object and a level",
            AlertQuery { object: text("pods/pod-3"), min_level: Some(Level::Critical), ..AlertQuery::default() },
        ),
        ("a user", AlertQuery { user: text("mallory"), ..AlertQuery::default() }),
        ("nobody", AlertQuery { user: text("nobody"), verb: text("get"), ..AlertQuery::default() }),
        ("closed", AlertQuery { handling: Some(Handling::Closed), ..AlertQuery::default() }),
        ("a common word", AlertQuery { text: text("kubectl"), ..AlertQuery::default() }),
        ("a rare word", AlertQuery { text: text("number 4711 "), ..AlertQuery::default() }),
        ("no word at all", AlertQuery { text: text("xyzzy"), ..AlertQuery::default() }),
    ];
    let mut slow = Vec::new();
    for (name, query) in asked {
        store.listed(query.clone()).await.unwrap(); // What was just written is read from the disk once.
        let started = Instant::now();
        let listed = store.listed(query.clone()).await.unwrap().len();
        let listing = started.elapsed();
        let started = Instant::now();
        let total = store.figures(query, now, 60).await.unwrap().total;
        let counting = started.elapsed();
        println!("{name:<24} {listed:>4} listed in {listing:>9.1?}, {total:>6} counted in {counting:>9.1?}");
        if listing.max(counting) > BOUND {
            slow.push(name);
        }
    }
    assert!(slow.is_empty(), "over {BOUND:?}: {slow:?}");
}
