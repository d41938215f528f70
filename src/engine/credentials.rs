//! Credentials in texts, told by how they look, by what stands before them, or by the program they are given to.
//!
//! Only what is about to be shown is looked at, which is what matched: none of this is on the way of other events.

use std::borrow::Cow;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use regex::{Captures, Regex};

use crate::text::query_decoded;

/// What stands for a value that must not be shown.
pub const REDACTED: &str = "[redacted]";

/// What a query's value cannot have as it is.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>');

/// Parts of names of credentials.
const PARTS: [&str; 16] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "authorization",
    "bearer",
    "apikey",
    "api_key",
    "api-key",
    "accesskey",
    "access_key",
    "access-key",
    "private_key",
    "private-key",
    "credential",
];
/// Words of names of credentials: too short to be looked for within others.
const WORDS: [&str; 7] = ["pass", "pwd", "sig", "signature", "jwt", "auth", "accountkey"];

/// [`PARTS`], in any case.
static ANY_PART: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder().ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).build(PARTS).ok()
});

/// Whether what has this name is a credential.
pub(super) fn named(name: &str) -> bool {
    // Without the automaton nothing would be known of any name.
    if ANY_PART.as_ref().is_none_or(|parts| parts.is_match(name)) {
        return true;
    }
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| one_of(&WORDS, word)) && !one_of(&["pwd", "oldpwd"], name)
}

/// Whether it is one of these words, in any case.
pub(super) fn one_of(words: &[&str], word: &str) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Bytes of the shortest credential that is told by its looks, but for passwords in URLs.
const SHAPE_MIN: usize = 12;

/// What looks like a credential wherever it stands. The groups say what has to be looked at twice.
static SHAPES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        // JSON in base64, which is how a JWT or a registry's login begins; the second one is that once more encoded.
        r"(?:(?-u:\b)eyJ|(?-u:\b)ZXlK)[A-Za-z0-9_-]{10,}[A-Za-z0-9_.=+/-]*",
        r"|(?P<url>://[^\s/:@\x22'\\]*:)[^\s/\x22'\\]+@|(?P<user>://)[^\s/:@\x22'\\]{20,}@",
        r"|-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
        r"|(?P<pem>LS0tLS1CRUdJTi[A-Za-z0-9+/=_-]*)",
        r"|(?P<scheme>(?-u:\b)(?i:bearer|basic)\s+)(?P<borne>[A-Za-z0-9._~+/=-]{8,})",
        r"|(?-u:\b)[a-z0-9]{6}\.(?P<bootstrap>[a-z0-9]{16})(?-u:\b)",
        // Amazon, Google, GitHub, GitLab, Slack, Stripe, npm, Vault, DigitalOcean, SendGrid, OpenAI, age.
        r"|(?-u:\b)(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?-u:\b)|(?-u:\b)AIza[A-Za-z0-9_-]{30,}|(?-u:\b)ya29\.[A-Za-z0-9._-]{10,}|(?-u:\b)GOCSPX-[A-Za-z0-9_-]+",
        r"|(?-u:\b)gh[pousr]_[A-Za-z0-9]{20,}|(?-u:\b)github_pat_[A-Za-z0-9_]{20,}|(?-u:\b)glpat-[A-Za-z0-9_-]{16,}",
        r"|(?-u:\b)xox[a-z]-[A-Za-z0-9-]{8,}|(?-u:\b)xapp-[A-Za-z0-9-]{8,}|hooks\.slack\.com/[a-z]+/[A-Za-z0-9/_-]+",
        r"|(?-u:\b)[rs]k_(?:live|test)_[A-Za-z0-9]{10,}|(?-u:\b)npm_[A-Za-z0-9]{30,}|(?-u:\b)hv[sbr]\.[A-Za-z0-9_-]{20,}",
        r"|(?-u:\b)dop_v1_[a-f0-9]{30,}|(?-u:\b)SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]+|(?-u:\b)sk-[A-Za-z0-9_-]{20,}|(?-u:\b)AGE-SECRET-KEY-[A-Z0-9]+",
    ))
    .ok()
});

/// Certificates and public keys in base64: everybody may see them.
const PUBLIC: [&str; 2] = ["LS0tLS1CRUdJTiBDRVJUSUZJQ0FUR", "LS0tLS1CRUdJTiBQVUJMSUM"];

/// A name and what is assigned to it: `a=x`, `"a": "x"`, `a: x`, `--a x`. Quotes may be escaped, as in a text in a text.
static ASSIGNED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?P<name>[A-Za-z0-9_.-]+)(?P<is>\\*["']?\s*=\s*|\\*["']\s*:\s*|:\s+|\s+)(?P<value>"(?:[^"\\]|\\.)*"?|'[^']*'?|\\+["'][^"]*"?|[^\s"'&]+)"#,
    )
    .ok()
});

/// Whether any of [`SHAPES`] can be in a text: most names, paths and addresses have nothing that one begins with or cannot do
/// without, which is told several times as fast.
fn may_have_shape(text: &[u8]) -> bool {
    let ends = |at: usize, begin: &[u8]| text[..at].ends_with(begin);
    text.iter().enumerate().any(|(at, byte)| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'/' => false,
        b'-' => {
            let slack = at >= 4 && ends(at - 1, b"xox");
            slack || [&b"glpat"[..], b"sk", b"xapp"].iter().any(|begin| ends(at, begin))
        }
        b'.' => {
            let vault = at >= 3 && ends(at - 1, b"hv");
            let run = text[at + 1..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let bootstrap = run >= 16 && at >= 6 && text[at - 6..at].iter().all(u8::is_ascii_alphanumeric);
            vault || bootstrap || [&b"ya29"[..], b"hooks"].iter().any(|begin| ends(at, begin))
        }
        b':' => text[at + 1..].starts_with(b"//"),
        _ => true,
    })
}

/// A text without what looks like a credential. For names and identities, in which a word before a colon says nothing.
pub(super) fn without_shapes(text: &str) -> Cow<'_, str> {
    // Verbs, addresses and most names are too short for any of them.
    if text.len() < SHAPE_MIN && !text.contains("://") {
        return text.into();
    }
    if !may_have_shape(text.as_bytes()) {
        return text.into();
    }
    let Some(shapes) = &*SHAPES else { return REDACTED.into() };
    // Far cheaper than to look for what to replace, and true of next to nothing.
    if !shapes.is_match(text) {
        return text.into();
    }
    shapes.replace_all(text, |found: &Captures<'_>| {
        let group = |name| found.name(name).map_or("", |group| group.as_str());
        let whole = found.get(0).map_or("", |all| all.as_str());
        let digits = |text: &str| text.bytes().any(|byte| byte.is_ascii_digit());
        let (borne, bootstrap) = (group("borne"), group("bootstrap"));
        let prose = !borne.is_empty() && !digits(borne) && borne.len() < 20;
        let name = !bootstrap.is_empty() && !digits(bootstrap);
        let public = PUBLIC.iter().any(|public| group("pem").starts_with(public));
        if prose || name || public {
            return whole.to_owned();
        }
        let at = if whole.starts_with("://") { "@" } else { "" };
        format!("{}{}{}{REDACTED}{at}", group("url"), group("user"), group("scheme"))
    })
}

/// A text without what looks like a credential, or is called one in it.
pub(super) fn without(text: &str) -> Cow<'_, str> {
    let shapeless = without_shapes(text);
    let unassigned = match &*ASSIGNED {
        Some(assigned) if named(&shapeless) => assigned_hidden(assigned, &shapeless),
        Some(_) => shapeless.clone(),
        None => REDACTED.into(),
    };
    match Shell::default().script(&unassigned) {
        Some(shown) => shown.into(),
        None => unassigned.into_owned().into(),
    }
}

/// Looks at one name after the other: what is assigned to a harmless name may be the next name.
fn assigned_hidden<'t>(assigned: &Regex, text: &'t str) -> Cow<'t, str> {
    let (mut shown, mut at) = (String::new(), 0);
    while let Some(found) = assigned.captures_at(text, at) {
        let (Some(name), Some(is), Some(value)) = (found.name("name"), found.name("is"), found.name("value")) else {
            break;
        };
        let spaced = is.as_str().trim().is_empty();
        let flag = name.as_str().starts_with('-') && !value.as_str().starts_with('-');
        if named(name.as_str()) && (!spaced || flag) {
            shown.push_str(&text[at..value.start()]);
            shown.push_str(REDACTED);
            at = value.end();
        } else {
            shown.push_str(&text[at..name.end()]);
            at = name.end();
        }
    }
    if shown.is_empty() {
        return text.into();
    }
    shown.push_str(&text[at..]);
    shown.into()
}

/// Programs, and the short options with which they take a password or the like.
const PROGRAMS: [(&str, &[&str]); 16] = [
    ("mysql", &["-p"]),
    ("mysqldump", &["-p"]),
    ("mysqladmin", &["-p"]),
    ("mariadb", &["-p"]),
    ("mongo", &["-p"]),
    ("mongosh", &["-p"]),
    ("mongodump", &["-p"]),
    ("sshpass", &["-p"]),
    ("redis-cli", &["-a"]),
    ("curl", &["-u", "--user"]),
    ("sqlcmd", &["-P"]),
    ("ldapsearch", &["-w"]),
    ("login", &["-p"]),
    ("smbclient", &["-U"]),
    ("rabbitmqadmin", &["-p"]),
    ("clickhouse-client", &["--password"]),
];
/// What `-p…` begins with where it is no password.
const LONG_NAMES: [&str; 22] = [
    "port", "path", "pid", "prefix", "profile", "proxy", "plugin", "policy", "print", "progress", "preserve", "parent",
    "parallel", "project", "package", "platform", "pretty", "process", "probe", "pod", "pthread", "public",
];

/// What is known of a command line after some of its words.
#[derive(Default)]
pub(super) struct Shell {
    options: &'static [&'static str],
    hide_next: bool,
}

impl Shell {
    /// The next word as it may be shown, if that is not as it is.
    pub(super) fn word(&mut self, word: &str) -> Option<String> {
        if std::mem::take(&mut self.hide_next) {
            return Some(REDACTED.to_owned());
        }
        let program = word.rsplit('/').next().unwrap_or_default();
        if let Some((_, options)) = PROGRAMS.iter().find(|(name, _)| *name == program) {
            self.options = options;
            return None;
        }
        if !word.starts_with('-') {
            return None;
        }
        // With `mysql -p` the password is asked for; what follows is the database's name, and hidden in vain.
        self.hide_next = self.options.contains(&word) || (named(word) && !word.contains(['=', ':']));
        let attached = word.strip_prefix("-p").filter(|rest| {
            let long = LONG_NAMES.iter().any(|name| word[1..].to_ascii_lowercase().starts_with(name));
            rest.len() > 3 && !long && !rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b':')
        });
        if attached.is_some() {
            return Some(format!("-p{REDACTED}"));
        }
        let short =
            self.options.iter().find(|option| option.len() == 2 && word.len() > 2 && word.starts_with(**option));
        short.map(|option| format!("{option}{REDACTED}"))
    }

    /// The same for a text of several words.
    fn script(&mut self, text: &str) -> Option<String> {
        if !text.contains('-') {
            return None;
        }
        let mut shown = String::with_capacity(text.len());
        let mut hidden = false;
        for piece in text.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end();
            let instead = if word.is_empty() { None } else { self.word(word) };
            hidden |= instead.is_some();
            shown.push_str(instead.as_deref().unwrap_or(word));
            shown.push_str(&piece[word.len()..]);
        }
        hidden.then_some(shown)
    }
}

/// A list of arguments without the credentials among them.
pub(super) fn arguments<'w>(words: impl Iterator<Item = &'w str>) -> Vec<Cow<'w, str>> {
    let mut shell = Shell::default();
    words.map(|word| shell.word(word).map_or_else(|| without(word), Cow::Owned)).collect()
}

/// A URI without the credentials in it.
pub(super) fn uri(text: &str) -> Cow<'_, str> {
    uri_with(text, query)
}

/// The same, whose query `query` shows.
pub(super) fn uri_with<'u>(uri: &'u str, query: impl FnOnce(&'u str) -> Cow<'u, str>) -> Cow<'u, str> {
    let Some((before, after)) = uri.split_once('?') else { return path(uri) };
    match (path(before), query(after)) {
        (Cow::Borrowed(_), Cow::Borrowed(_)) => uri.into(),
        (path, query) => format!("{path}?{query}").into(),
    }
}

/// The path of a URI without what looks like a credential.
fn path(path: &str) -> Cow<'_, str> {
    let hidden = |segment: &str| matches!(without_shapes(&query_decoded(segment)), Cow::Owned(_));
    // What a segment looks like it looks like within the path: a slash is no part of a word.
    if !path.contains(['%', '+']) && matches!(without_shapes(path), Cow::Borrowed(_)) {
        return path.into();
    }
    let segments = path.split('/').map(|segment| if hidden(segment) { REDACTED } else { segment });
    segments.collect::<Vec<_>>().join("/").into()
}

/// The query of a URI without the credentials in it: values of parameters that are named like one, what looks like one, and
/// those in the command that `exec` runs.
pub(super) fn query(query: &str) -> Cow<'_, str> {
    let mut shell = Shell::default();
    let parts = query.split('&').map(|part| {
        let Some((key, value)) = part.split_once('=') else { return part.to_owned() };
        match query_decoded(key).as_str() {
            name if named(name) => format!("{key}={REDACTED}"),
            // Where a list goes on; it looks like the beginning of a JWT.
            "continue" => part.to_owned(),
            "command" => format!("{key}={}", command_word(&mut shell, value)),
            _ => match without(&query_decoded(value)) {
                Cow::Owned(shown) if shown != query_decoded(value) => {
                    format!("{key}={}", utf8_percent_encode(&shown, QUERY))
                }
                _ => part.to_owned(),
            },
        }
    });
    parts.collect::<Vec<_>>().join("&").into()
}

/// A word of a command, which may be a whole script: from its first credential on it is left out.
fn command_word(shell: &mut Shell, raw: &str) -> String {
    let word = query_decoded(raw);
    if let Some(shown) = shell.word(&word) {
        return shown;
    }
    let shown = script(&word);
    // Encoded as it came, unless something of it is hidden.
    if shown == word { raw.to_owned() } else { utf8_percent_encode(&shown, QUERY).to_string() }
}

/// A script, or a word of a command, without its credentials.
pub(super) fn script(text: &str) -> String {
    match assigned_in(text) {
        Some(end) => format!("{}{REDACTED}", without(&text[..end])),
        None => without(text).into_owned(),
    }
}

/// Where in a word of a command its first credential begins.
fn assigned_in(word: &str) -> Option<usize> {
    let word = word.trim_end();
    let mut start = 0;
    for (at, separator) in word.char_indices().filter(|(_, ch)| matches!(ch, '=' | ':') || ch.is_whitespace()) {
        let end = at + separator.len_utf8();
        let name = &word[start..at];
        if named(name) && (!separator.is_whitespace() || name.starts_with('-')) {
            return Some(end);
        }
        start = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn what_is_told_to_have_no_shape_has_none(parts in prop::collection::vec(part(), 0..6)) {
            let text = parts.concat();
            let shapes = SHAPES.as_ref().expect("they can be made");
            prop_assert!(may_have_shape(text.as_bytes()) || !shapes.is_match(&text), "{text}");
        }
    }

    /// What shapes begin with, what they go on with, and what has nothing of them.
    fn part() -> impl Strategy<Value = String> {
        let begins = prop::sample::select(vec![
            "eyJ",
            "ZXlK",
            "://",
            "@",
            "a:",
            "-----BEGIN PRIVATE KEY-----",
            "LS0tLS1CRUdJTi",
            "bearer ",
            "BASIC\t",
            "a1b2c3.",
            "AKIA",
            "AIza",
            "ya29.",
            "GOCSPX-",
            "ghp_",
            "github_pat_",
            "glpat-",
            "xoxb-",
            "xapp-",
            "hooks.slack.com/",
            "rk_live_",
            "npm_",
            "hvs.",
            "dop_v1_",
            "SG.",
            "sk-",
            "AGE-SECRET-KEY-",
            " ",
            "/",
        ]);
        prop_oneof![
            begins.prop_map(str::to_owned),
            "[a-z0-9]{16,32}",
            "[A-Z0-9]{16,24}",
            "[a-z0-9./:-]{0,24}",
            "[A-Za-z0-9._~+/=-]{0,40}",
        ]
    }

    #[test]
    fn credentials_in_uris_are_redacted() {
        assert_eq!(uri("/api?watch=1&access_token=abc&x=2"), "/api?watch=1&access_token=[redacted]&x=2");
        assert_eq!(uri("/api"), "/api");
        assert_eq!(uri("/a/%67hp_0123456789abcdefghij0123/b"), "/a/[redacted]/b");
        for (query, shown) in [
            ("t%6fken=abc", "t%6fken=[redacted]"),
            ("command=curl&command=--token=abc&command=x", "command=curl&command=--token=[redacted]&command=x"),
            ("command=--token%3Dabc&x=1", "command=--token=[redacted]&x=1"),
            (
                "command=login&command=--password&stdin=1&command=abc",
                "command=login&command=--password&stdin=1&command=[redacted]",
            ),
            ("command=--password&command=token&command=ls", "command=--password&command=[redacted]&command=ls"),
            ("command=curl+-H+Authorization:+Bearer+abc", "command=curl%20-H%20Authorization:[redacted]"),
            (
                "command=sh&command=-c&command=DB_PASSWORD%3Dx+run",
                "command=sh&command=-c&command=DB_PASSWORD=[redacted]",
            ),
            ("command=vault+--token+abc", "command=vault%20--token%20[redacted]"),
            ("command=sh&command=-c&command=ls+-l&tty=true", "command=sh&command=-c&command=ls+-l&tty=true"),
            ("command=mysql&command=-uroot&command=-proot1", "command=mysql&command=-uroot&command=-p[redacted]"),
            ("command=redis-cli&command=-a&command=x", "command=redis-cli&command=-a&command=[redacted]"),
            (
                "command=kubectl&command=get&command=secrets&command=-A",
                "command=kubectl&command=get&command=secrets&command=-A",
            ),
            ("url=postgres://u:p%40ss@db/x", "url=postgres://u:[redacted]@db/x"),
            ("continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MX0", "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MX0"),
        ] {
            assert_eq!(uri(&format!("/x?{query}")), format!("/x?{shown}"));
        }
    }

    #[test]
    fn credentials_in_texts_are_cut_out_and_nothing_else() {
        for (text, shown) in [
            ("a eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln b", "a [redacted] b"),
            ("curl/8 (token=abc; x)", "curl/8 (token=[redacted] x)"),
            (r#"{"password": "a \" b", "user": "u"}"#, r#"{"password": [redacted], "user": "u"}"#),
            (r#"{\"password\":\"a\",\"user\":\"u\"}"#, r#"{\"password\":[redacted],\"user\":\"u\"}"#),
            ("user: u\npassword: p\nhost: h", "user: u\npassword: [redacted]\nhost: h"),
            ("mysql://root:p@ss@db:3306/x?y", "mysql://root:[redacted]@db:3306/x?y"),
            ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
            ("join abcdef.0123456789abcdef", "join [redacted]"),
            ("-----BEGIN RSA PRIVATE KEY-----\nx", "[redacted]"),
            ("sshpass -p x ssh h", "sshpass -p [redacted] ssh h"),
            ("curl -H 'X: Bearer 0123456789'", "curl -H 'X: Bearer [redacted]'"),
            ("x --name n --password p --tty", "x --name n --password [redacted] --tty"),
            ("x --password -p4ss --tty", "x --password [redacted] --tty"),
        ] {
            assert_eq!(without(text), shown);
        }
        for harmless in [
            "system:serviceaccount:secret-store:token-reader",
            "registry.example.com/token-service:1.2@sha256:0123",
            "kubectl/v1.36.0 (linux/amd64) kubernetes/1234567",
            "bearer authentication is off",
            "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tTUlJQg==",
            "secrets \"db\" is forbidden: User \"alice\" cannot get resource \"secrets\"",
            "mkdir -p /var/lib/x && tar -pxz -port=1 http://host:80/a",
            "https://github.com/a/b",
        ] {
            assert_eq!(without(harmless), harmless);
        }
    }

    #[test]
    fn an_argument_after_a_flag_is_hidden() {
        let shown = arguments(["--user", "u", "--db-password", "x", "-l", "--token=y"].into_iter());
        assert_eq!(shown, ["--user", "u", "--db-password", REDACTED, "-l", "--token=[redacted]"]);
    }
}
