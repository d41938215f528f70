use super::*;

fn check(text: &str) -> Vec<String> {
    check_with(text, &[])
}

fn check_with(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    match read(text, environment) {
        Ok(_) => Vec::new(),
        Err(findings) => findings.iter().map(ToString::to_string).collect(),
    }
}

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<Diagnostic>> {
    let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    parse(Path::new("c.yml"), text, &environment, Depth::Text)
}

fn json(config: &Config) -> serde_json::Value {
    serde_json::to_value(config).expect("a configuration is JSON")
}

#[test]
fn the_commented_default_is_the_default() {
    let read = read(DEFAULT_YAML, &[]).expect("no mistakes");
    assert_eq!(json(&read), json(&Config::default()));
    // Every key is named in it, also those that are comments.
    let serde_json::Value::Object(sections) = json(&Config::default()) else { panic!("a mapping") };
    for key in sections.keys() {
        assert!(DEFAULT_YAML.contains(&format!("{key}:")), "{key} is not in default.yaml");
    }
}

#[test]
fn nothing_is_the_default_too() {
    for text in ["", "# only a comment\n", "{}", "---\n"] {
        assert_eq!(json(&read(text, &[]).expect("fine")), json(&Config::default()), "{text:?}");
    }
}

#[test]
fn the_example_of_the_interface_loads() {
    let text = r#"
cluster: prod-eu
state_dir: /var/lib/kubesiren
sources:
  - type: webhook
    listen: 0.0.0.0:9765
    tls: {cert: /tls/tls.crt, key: /tls/tls.key, client_ca: /tls/ca.crt}
    bearer_token_file: /secrets/token
    max_body: 64MiB
  - type: file
    path: /var/log/kubernetes/audit/audit.log
detections:
  builtin: true
  paths: [/etc/kubesiren/detections]
  disable: [rule-id]
  level: {rule-id: low}
journal: {type: embedded}
sinks:
  - {name: console, type: stdout}
  - {name: oncall, type: slack, webhook_url_file: /secrets/slack}
  - {name: am, type: alertmanager, urls: ["http://alertmanager:9093"]}
  - {name: soc, type: webhook, url: "https://soc.example.com", headers: {}}
routes:
  - {min_level: high, clusters: ["prod-*"], sinks: [oncall, am]}
  - {sinks: [console]}
admin: {listen: 127.0.0.1:9766}
log: {format: json, level: info}
"#;
    let config = read(text, &[]).unwrap_or_else(|findings| panic!("{findings:#?}"));
    assert_eq!((config.sources.len(), config.sinks.len(), config.routes.len()), (2, 4, 2));
    // What is written out can be read again.
    let again = serde_json::to_string(&config).expect("JSON");
    assert_eq!(json(&read(&again, &[]).expect("JSON is YAML")), json(&config));
}

#[test]
fn a_proxy_is_named_so_that_it_can_be_known() {
    for (proxy, said) in [
        ("{}", None),
        ("{user_header: X-Auth-Request-Email, from: [10.1.0.0/16, '::1'], editors: [soc]}", None),
        ("{user_header: 'X Auth'}", Some("`X Auth` is no name of a header")),
        ("{from: [10.0.0.0/99]}", Some("`10.0.0.0/99` is neither an address nor a range")),
        ("{from: []}", Some("`from` is empty")),
        ("{editor: [soc]}", Some("there is no key `editor` here (did you mean `editors`?)")),
    ] {
        let found = check(&format!("admin: {{proxy: {proxy}}}\n"));
        match said {
            None => assert!(found.is_empty(), "{proxy}: {found:?}"),
            Some(said) => assert!(found.iter().any(|found| found.contains(said)), "{proxy}: {found:?}"),
        }
    }
}

#[test]
fn the_address_of_the_page_is_one_and_a_name_to_ask_for() {
    for (url, said) in [
        ("https://siren.example.com", None),
        ("http://proxy:8080/siren/", None),
        ("siren.example.com", Some("`url` holds no URL")),
        ("ftp://siren.example.com", Some("must start with http:// or https://")),
    ] {
        let found = check(&format!("admin: {{url: '{url}'}}\n"));
        match said {
            None => assert!(found.is_empty(), "{url}: {found:?}"),
            Some(said) => assert!(found.iter().any(|found| found.contains(said)), "{url}: {found:?}"),
        }
    }
    let config = read("admin: {url: 'https://siren.example.com/', hosts: [siren]}\n", &[]).expect("fine");
    assert_eq!(config.admin.names(), ["siren", "siren.example.com"]);
}

#[test]
fn a_canary_says_what_it_lacks() {
    let hook = "sources: [{type: webhook, name: hook, listen: '127.0.0.1:1'}]\n";
    let mutual = "sources:\n- {type: webhook, listen: '127.0.0.1:1', tls: {cert: /c, key: /k, client_ca: /ca}}\n";
    let file = "sources: [{type: file, path: /a}]\n";
    for (sources, canary, said) in [
        (hook, "{}", None),
        ("", "{every: 1m, timeout: 5s, sink: console}", None),
        (mutual, "{client_cert: /c, client_key: /k}", None),
        (
            mutual,
            "{}",
            Some("the source `webhook` demands a client certificate (`client_ca`), and the canary has none"),
        ),
        (mutual, "{client_cert: /c}", Some("`client_cert` and `client_key` go together")),
        (file, "{}", Some("the canary goes through a webhook source, and there is none")),
        (hook, "{sources: [hok]}", Some("there is no webhook source named `hok`")),
        (hook, "{sink: pager}", Some("there is no sink named `pager`")),
        (hook, "{every: 10ms}", Some("`every` must be at least 1s")),
        (hook, "{timeout: 10ms}", Some("`timeout` must be at least 1s")),
        (hook, "{evry: 10s}", Some("there is no key `evry` here (did you mean `every`?)")),
    ] {
        let found = check(&format!("{sources}canary: {canary}\n"));
        match said {
            None => assert!(found.is_empty(), "{canary}: {found:?}"),
            Some(said) => assert!(found.iter().any(|line| line.contains(said)), "{canary}: {found:?}"),
        }
    }
}

#[test]
fn a_watchdog_is_on_or_off_or_every_so_often() {
    let sink = |watchdog: &str| {
        format!("sinks: [{{name: am, type: alertmanager, urls: ['http://a'], watchdog: {watchdog}}}]\n")
    };
    for right in ["true", "false", "{every: 30s}"] {
        assert!(check(&sink(right)).is_empty(), "{right}: {:?}", check(&sink(right)));
    }
    for (wrong, said) in [("7", "true, false, or {every: 1m}"), ("{evry: 1m}", "there is no key `evry`")] {
        assert!(check(&sink(wrong)).iter().any(|line| line.contains(said)), "{wrong}: {:?}", check(&sink(wrong)));
    }
}

#[test]
fn sinks_say_what_they_lack_and_templates_where_they_are_wrong() {
    let text = "\
sinks:
  - {name: a, type: pagerduty}
  - {name: b, type: splunk, url: 'https://s'}
  - {name: c, type: teams}
  - {name: d, type: opsgenie}
  - {name: e, type: syslog}
  - {name: f, type: email, host: h, from: a@b.example}
  - name: g
    type: webhook
    url: https://h
    template: |
      {
        \"a\": \"{{ alert.sumary }}\"
      }
  - {name: h, type: webhook, url: 'https://h', format: ocfs}
";
    let found = check(text);
    let expected = [
        "c.yml:2:5: `routing_key` is missing here (name the file that holds it: `routing_key_file`)",
        "c.yml:3:5: `token` is missing here (name the file that holds it: `token_file`)",
        "c.yml:4:5: `webhook_url` is missing here (name the file that holds it: `webhook_url_file`)",
        "c.yml:5:5: `api_key` is missing here (name the file that holds it: `api_key_file`)",
        "c.yml:6:5: `address` is missing here",
        "c.yml:7:5: `to` is missing here",
        "c.yml:15:56: `ocfs` is none of: alert, ocsf, cloudevents (did you mean `ocsf`?)",
    ];
    for line in expected {
        assert!(found.iter().any(|found| found == line), "{line}\nis not in\n{}", found.join("\n"));
    }
    let template = found.iter().find(|found| found.contains("`template`, line 2: this value does not exist"));
    assert!(template.is_some_and(|found| found.starts_with("c.yml:1")), "{found:#?}");
    assert_eq!(found.len(), expected.len() + 1, "{found:#?}");
}

/// What only the sink itself knows is told by `config check`, at its place, without its secrets.
#[test]
fn sinks_are_set_up_when_hosts_are_looked_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
        folder.path().join(name).display().to_string()
    };
    let (key, template) = (file("key", "hunter2"), file("body.j2", "{\n{{ alert"));
    let text = format!(
        "\
sinks:
  - {{name: a, type: pagerduty, routing_key_file: {key}}}
  - {{name: b, type: webhook, url: 'http://127.0.0.1', template_file: {template}}}
  - {{name: c, type: syslog, address: '127.0.0.1:514', transport: udp, framing: newline}}
  - {{name: d, type: loki, url: 'http://127.0.0.1', labels: {{a-b: c}}}}
  - {{name: e, type: elasticsearch, url: 'http://127.0.0.1', tls: {{ca: {key}}}}}
  - {{name: f, type: email, host: 127.0.0.1, from: a@b.example, to: [nobody]}}
"
    );
    let found = parse(Path::new("c.yml"), &text, &[], Depth::Hosts).expect_err("mistakes");
    let found: Vec<String> = found.iter().map(|found| format!("{found}\n{}", found.render(false))).collect();
    for part in [
        "c.yml:2:5: routing_key is no integration key".to_owned(),
        format!("{template}:2: syntax error"),
        "c.yml:4:80: framing: newline is for `transport: tcp` only".to_owned(),
        "labels: `a-b` is no label name".to_owned(),
        "holds no certificate".to_owned(),
        "to: `nobody` is no mail address".to_owned(),
    ] {
        assert!(found.iter().any(|found| found.contains(&part)), "{part}\nis not in\n{found:#?}");
    }
    assert_eq!(found.len(), 6, "{found:#?}");
    assert!(!found.concat().contains("hunter2"));
}

#[test]
fn the_outbox_has_a_bound_of_its_own() {
    let config = read("journal: {type: embedded, max_outbox: 7}\n", &[]).expect("fine");
    assert_eq!(config.store_limits().outbox_max_per_sink, 7);
    let found = check("journal: {type: embedded, max_outbox: 0}\n");
    assert_eq!(found, ["c.yml:1:39: `max_outbox` is 0: no alert could be sent"]);
}

#[test]
fn every_mistake_is_listed_at_its_place() {
    let text = "\
clutser: a
sources:
  - type: webhook
    listen: everywhere
    tls: {crt: /a, kye: /b}
    max_body: 1 elephant
  - {type: pigeon}
  - {listen: 1.2.3.4:1}
sinks:
  - {name: a, type: stdout, colour: true}
  - {name: b, type: alertmanagr}
  - {name: c, type: webhook}
correlation: {lateness: soon, max_keys: -1}
routes: 7
log: {format: xml}
";
    let expected = [
        "c.yml:1:1: there is no key `clutser` here (did you mean `cluster`?)",
        "c.yml:4:13: `listen`: expected an IP address and a port, such as 127.0.0.1:9765",
        "c.yml:5:11: there is no key `crt` here (did you mean `cert`?)",
        "c.yml:5:20: there is no key `kye` here (did you mean `key`?)",
        "c.yml:6:15: `max_body`: `1 elephant` is no size; write it like 64MiB",
        "c.yml:7:12: there is no source of type `pigeon` (the types are: webhook, kafka, file)",
        "c.yml:8:5: this source has no `type` (the types are: webhook, kafka, file)",
        "c.yml:10:29: there is no key `colour` here (the keys here are: none)",
        "c.yml:11:21: there is no sink of type `alertmanagr` (did you mean `alertmanager`?)",
        "c.yml:12:5: `url` is missing here",
        "c.yml:13:25: `lateness`: `soon` is no span of time; write it like 30s, 5m, 1h or 7d",
        "c.yml:13:41: `max_keys`: expected a whole number from 0 up, found a number that does not fit",
        "c.yml:14:9: `routes`: expected a list, found a number",
        "c.yml:15:15: `xml` is none of: json, text",
    ];
    let found = check(text);
    for line in expected {
        assert!(found.iter().any(|f| f == line), "{line}\nis not in\n{}", found.join("\n"));
    }
    let missing: Vec<_> = found.iter().filter(|f| f.ends_with("is missing here")).collect();
    assert_eq!(missing.len(), 3, "cert, key and url: {missing:?}");
    assert_eq!(found.len(), expected.len() + 2, "{}", found.join("\n"));
}

#[test]
fn what_does_not_fit_together_is_found() {
    let text = "\
sources:
  - {type: webhook, name: a, listen: 0.0.0.0:9765}
  - {type: webhook, name: a, listen: 127.0.0.1:9765, bearer_token: x, bearer_token_file: y}
sinks:
  - {name: s, type: slack}
  - {name: s, type: slack, token: x, webhook_url_file: y}
  - {name: t, type: slack, token: x}
  - {name: u, type: webhook, url: 'ftp://x'}
  - {name: v, type: alertmanager, urls: [], resend: 0s}
correlation: {repeat_after: 0s}
routes:
  - {sinks: [uu]}
  - {min_level: high}
admin: {listen: '[::]:9766'}
";
    let found = check(text).join("\n");
    for part in [
        "c.yml:2:38: 0.0.0.0:9765 would be served without TLS to the network",
        "c.yml:3:38: 127.0.0.1:9765 is taken by another listener (webhook)",
        "c.yml:3:27: two sources are named `a`",
        "c.yml:3:71: both `bearer_token` and `bearer_token_file` are given",
        "c.yml:5:5: this Slack sink has neither",
        "c.yml:6:12: two sinks are named `s`",
        "c.yml:6:5: both a webhook URL and a token",
        "c.yml:7:5: a Slack token needs a `channel`",
        "c.yml:8:35: `url` holds no URL: it must start with http:// or https://",
        "c.yml:9:41: `urls` is empty",
        "c.yml:9:53: `resend` must be longer than nothing",
        "c.yml:10:29: `repeat_after` must be longer than nothing",
        "c.yml:12:14: there is no sink named `uu` (did you mean `u`?)",
        "c.yml:13:5: this route names no `sinks`",
        "c.yml:14:17: [::]:9766 would be served without TLS",
    ] {
        assert!(found.contains(part), "{part}\nis not in\n{found}");
    }
    assert_eq!(found.lines().count(), 15, "{found}");
}

#[test]
fn insecure_listeners_are_allowed_when_asked_for() {
    let text = "sources: [{type: webhook, listen: '0.0.0.0:1', insecure: true}]\nadmin: {listen: '0.0.0.0:2', insecure: true}\n";
    assert_eq!(check(text), Vec::<String>::new());
}

#[test]
fn a_kafka_journal_is_read_and_its_mistakes_are_told_at_their_places() {
    let config = read("journal: {type: kafka, brokers: ['a:1'], topic_prefix: k, partitions: 6}\n", &[]).expect("fine");
    let JournalConfig::Kafka(journal) = &config.journal else { panic!("no Kafka") };
    assert_eq!((journal.matches().as_str(), journal.partitions, journal.replication_factor), ("k-matches", 6, 3));
    let found =
        check("journal: {type: kafka, brokers: [a], topic_prefix: 'a b', partitions: 0, properties: {acks: 1}}\n");
    for part in [
        "c.yml:1:34: `a` is no broker",
        "`topic_prefix`: a topic's name has",
        "`partitions` is a number from 1",
        "`acks` is not to be set here",
    ] {
        assert!(found.iter().any(|line| line.contains(part)), "{part}: {found:#?}");
    }
}

#[test]
fn mistakes_about_kafka_are_told_at_their_places() {
    let text = r#"
sources:
  - type: kafka
    brokers: [kafka-0:9092, "kafka://b"]
    topics: [good, "b ad", "^a("]
    group: " "
    max_body: 0
    properties:
      group.id: mine
      enable.auto.commit: true
  - {type: kafka, name: b, brokers: [], topics: [], properties: {statistics.interval.ms: 0, auto.commit.interval.ms: 0}}
sinks:
  - {name: a, type: kafka, brokers: [a:1], topic: "a/b", properties: {acks: 1}}
"#;
    let found = check(text).join("\n");
    for part in [
        "c.yml:4:29: `kafka://b` is no broker: write host:port",
        "c.yml:5:20: `b ad` is no topic",
        "c.yml:5:28: `^a(` is no pattern",
        "c.yml:6:12: `group` is empty",
        "c.yml:7:15: `max_body` is 0",
        "c.yml:9:7: `group.id` is not to be set here (name it under `group`)",
        "c.yml:10:7: `enable.auto.commit` is not to be set here",
        "c.yml:11:37: `brokers` is empty",
        "c.yml:11:49: `topics` is empty",
        "c.yml:11:90: `statistics.interval.ms` is 0: the metrics",
        "c.yml:11:118: `auto.commit.interval.ms` is 0: offsets",
        "c.yml:13:51: `topic`: a topic's name has letters",
        "c.yml:13:71: `acks` is not to be set here",
    ] {
        assert!(found.contains(part), "{part}\nis not in\n{found}");
    }
    assert_eq!(found.lines().count(), 13, "{found}");
}

#[cfg(feature = "kafka")]
#[test]
fn properties_are_librdkafkas_and_secrets_among_them_are_covered() {
    let text = r#"
sources:
  - {type: kafka, brokers: [a:1], topics: [t], properties: {
      sasl.passwort: hunter2, linger.ms: soon, sasl.password: hunter2,
      ssl.key.password: [hunter2], ssl.key.pem: hunter2, sasl.oauthbearer.config: hunter2}}
"#;
    let findings = read(text, &[]).expect_err("mistakes");
    let shown: String = findings.iter().map(|finding| format!("{finding}\n{}\n", finding.render(false))).collect();
    assert!(!shown.contains("hunter2"), "{shown}");
    let text = text.replace("[hunter2]", "hunter2").replace("sasl.passwort", "sasl.pasword");
    let findings = read(&text, &[]).expect_err("mistakes");
    let shown: String = findings.iter().map(|finding| format!("{finding}\n{}\n", finding.render(false))).collect();
    assert!(!shown.contains("hunter2"), "{shown}");
    let text = text.replace("sasl.pasword", "sasl.passwort");
    let found = check(&text).join("\n");
    assert!(found.contains("c.yml:4:7: librdkafka has no property `sasl.passwort`"), "{found}");
    assert!(found.contains("c.yml:4:31: Invalid value"), "{found}");
    assert_eq!(found.lines().count(), 2, "{found}");
}

#[test]
fn the_environment_sets_properties_by_names_without_dots() {
    let environment = [
        ("KUBESIREN_SOURCES__0__PROPERTIES__SASL_PASSWORD_FILE", "/secrets/p"),
        ("KUBESIREN_SOURCES__0__PROPERTIES__GROUP_INSTANCE_ID", "kubesiren-0"),
        ("KUBESIREN_SOURCES__0__BROKERS", "[b:1, c:2]"),
    ];
    let text = "sources: [{type: kafka, brokers: [a:1], topics: [t], properties: {group.instance.id: x, acks: all}}]\n";
    let config = read(text, &environment).expect("fine");
    let properties = json(&config)["sources"][0]["properties"].clone();
    assert_eq!(
        properties,
        serde_json::json!({"acks": "all", "group.instance.id": "kubesiren-0", "sasl.password_file": "/secrets/p"})
    );
    assert_eq!(json(&config)["sources"][0]["brokers"], serde_json::json!(["b:1", "c:2"]));
    let secret = [("KUBESIREN_SOURCES__0__PROPERTIES__SASL_PASSWORD", "hunter2: x")];
    let config = read(text, &secret).expect("a secret is taken as it is");
    assert!(!format!("{config:?}{}", json(&config)).contains("hunter2"));
}

#[test]
fn the_environment_wins_over_the_file() {
    let environment = [
        ("KUBESIREN_CLUSTER", "env"),
        ("KUBESIREN_ADMIN__LISTEN", "127.0.0.1:1"),
        ("KUBESIREN_LOG__LEVEL", "debug"),
        ("KUBESIREN_SOURCES__0__LISTEN", "127.0.0.1:2"),
        ("KUBESIREN_SOURCES__1__TYPE", "file"),
        ("KUBESIREN_SOURCES__1__PATH", "/a.log"),
        ("KUBESIREN_DETECTIONS__PATHS", "[/a, /b]"),
        ("KUBESIREN_CORRELATION__MAX_KEYS", "7"),
        // What Kubernetes sets for a Service named kubesiren.
        ("KUBESIREN_PORT", "tcp://10.0.0.1:9765"),
        ("KUBESIREN_SERVICE_HOST", "10.0.0.1"),
        ("KUBESIREN_CONFIG", "c.yml"),
        ("OTHER__THING", "x"),
    ];
    let config = read("cluster: file\nadmin: {listen: 127.0.0.1:3}\n", &environment).expect("fine");
    assert_eq!(config.cluster, "env");
    assert_eq!(config.admin.listen.port(), 1);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!((config.detections.paths.len(), config.correlation.max_keys), (2, 7));
    let ports: Vec<_> = json(&config)["sources"].as_array().expect("a list").clone();
    assert_eq!(ports[0]["listen"], "127.0.0.1:2");
    assert_eq!(ports[1]["path"], "/a.log");
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let environment = [
        ("KUBESIREN_ADMN__LISTEN", "127.0.0.1:1"),
        ("KUBESIREN_CLUSTER__NAME", "x"),
        ("KUBESIREN_LOG__LEVEL", "loud"),
        ("KUBESIREN_ROUTES", "ignored: it is no plain value"),
        ("KUBESIREN_SINKS__7__TYPE", "stdout"),
        ("KUBESIREN_SINKS__ZERO__TYPE", "stdout"),
        ("KUBESIREN_DETECTIONS__PATHS", "[/a"),
    ];
    let found = check_with("cluster: c\n", &environment);
    for (start, part) in [
        ("<environment KUBESIREN_ADMN__LISTEN>:1:1:", "did you mean `admin`"),
        ("<environment KUBESIREN_CLUSTER__NAME>:1:1:", "single value"),
        ("<environment KUBESIREN_LOG__LEVEL>:1:1:", "`loud` is none of: off, error"),
        ("<environment KUBESIREN_SINKS__7__TYPE>:1:1:", "the list has 1"),
        ("<environment KUBESIREN_SINKS__ZERO__TYPE>:1:1:", "write its number"),
        ("<environment KUBESIREN_DETECTIONS__PATHS>:", "not valid YAML"),
    ] {
        assert!(found.iter().any(|f| f.starts_with(start) && f.contains(part)), "{start} {part}: {found:#?}");
    }
    assert_eq!(found.len(), 6, "{found:#?}");
}

#[test]
fn secrets_are_never_shown() {
    let texts = [
        // Wrong types, mistyped keys, broken syntax, both styles, quotes, blocks, lists.
        "sinks: [{name: a, type: slack, token: 'hunter2', chanel: x}]\n",
        "sinks: [{name: a, type: slack, tokne: hunter2, channel: x}]\n",
        "sinks: [{name: a, type: slack, token: [hunter2], channel: x}]\n",
        "sinks: [{name: a, type: slack, token: {hunter2: hunter2}, channel: x}]\n",
        "sinks: [{name: a, type: webhook, urll: 'http://u:hunter2@h', headers: {Authorization: hunter2}}]\n",
        "sinks: [{name: a, type: webhook, url: 'ftp://u:hunter2@h', headers: {X-Api: [hunter2]}}]\n",
        "sinks:\n  - name: a\n    type: slack\n    webhook_url: hunter2\n    token: |\n      hunter2\n",
        "sinks: [{name: a, type: slack, token: hunter2, channel: x\n",
        "sinks: [{name: a, type: slack, webhook_url: hunter2}]\n",
        "sinks: [{name: a, type: pagerduty, routing_key: [hunter2]}]\n",
        "sinks: [{name: a, type: pagerduty, routing_key: hunter2, x: 1\n",
        "sources: [{type: webhook, bearer_token: hunter2, listen: nowhere}]\n",
        "password: hunter2\n",
    ];
    for text in texts {
        let findings = read(text, &[]).expect_err(text);
        for finding in findings {
            let shown = format!("{finding} {finding:?} {}", finding.render(false));
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        }
    }
    let environment = [("KUBESIREN_SINKS__0__TOKEN", "hunter2"), ("KUBESIREN_SINKS__0__HEADERS", "{a: hunter2}")];
    for finding in read("", &environment).expect_err("stdout has no token") {
        assert!(!format!("{finding:?} {}", finding.render(false)).contains("hunter2"), "{finding:?}");
    }
    let config = read("sinks: [{name: a, type: slack, webhook_url: 'https://hunter2'}]\n", &[]).expect("fine");
    assert!(!format!("{config:?} {}", json(&config)).contains("hunter2"));
}

#[test]
fn files_are_looked_at_unless_offline() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let key = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        std::fs::write(path(&format!("{name}.crt")), made.cert.pem()).expect("written");
        std::fs::write(path(&format!("{name}.key")), made.signing_key.serialize_pem()).expect("written");
    };
    key("a");
    key("b");
    std::fs::write(path("empty"), " \n").expect("written");
    std::fs::write(path("token"), "hunter2\n").expect("written");
    let at = dir.path().display();
    let text = format!(
        "\
detections: {{paths: [{at}/nowhere, {at}]}}
sources:
  - {{type: webhook, listen: 0.0.0.0:1, tls: {{cert: {at}/a.crt, key: {at}/a.key, client_ca: {at}/b.crt}}, bearer_token_file: {at}/token}}
  - {{type: webhook, name: b, listen: 0.0.0.0:2, tls: {{cert: {at}/a.crt, key: {at}/b.key, client_ca: {at}/token}}, bearer_token_file: {at}/empty}}
"
    );
    assert!(parse(Path::new("c.yml"), &text, &[], Depth::Text).is_ok());
    let findings = parse(Path::new("c.yml"), &text, &[], Depth::Files).expect_err("four mistakes");
    let lines: Vec<_> = findings.iter().map(|finding| (finding.line_column().0, finding.message.clone())).collect();
    assert_eq!(lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 4, 4, 4], "{lines:#?}");
    assert!(lines[1].1.contains("does not fit its certificate"), "{lines:#?}");
    assert!(lines[2].1.contains("holds no certificate"), "{lines:#?}");
    assert!(lines[3].1.contains("is empty"), "{lines:#?}");
}

#[test]
fn a_secret_under_the_key_of_its_file_is_not_shown() {
    let text = "\
sources: [{type: webhook, bearer_token_file: hunter2}]
sinks:
  - {name: a, type: slack, webhook_url_file: 'https://hooks.slack.com/services/hunter2'}
  - {name: b, type: slack, token_file: /nowhere/token, channel: c}
  - {name: c, type: webhook, url: 'https://soc.example.com/in?key=hunter2', colour: red}
";
    let findings = parse(Path::new("c.yml"), text, &[], Depth::Files).expect_err("four mistakes");
    let shown: String = findings.iter().map(|finding| format!("{finding}\n{}\n", finding.render(false))).collect();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("the secret itself goes under `bearer_token`"), "{shown}");
    assert!(shown.contains("the secret itself goes under `webhook_url`"), "{shown}");
    assert!(shown.contains("cannot read /nowhere/token"), "{shown}");
    let broken = parse(Path::new("c.yml"), "sinks:\n  - {token_file: hunter2\n", &[], Depth::Text).expect_err("YAML");
    assert!(!broken.iter().any(|finding| finding.render(false).contains("hunter2")));
}

#[test]
fn an_unreadable_file_is_a_finding() {
    let findings = load(Some(Path::new("/nowhere/c.yml")), &[], Depth::Text).expect_err("not there");
    assert!(findings[0].to_string().starts_with("/nowhere/c.yml:1:1: cannot read the configuration"));
    assert!(findings[0].render(false).contains("/nowhere/c.yml"));
}

#[test]
fn the_schema_and_the_reader_know_the_same_types() {
    // `read.rs` lists the types by hand, because serde's own way forgets the places.
    let schema = serde_json::to_value(schema()).expect("JSON");
    let consts = |definition: &str| {
        let variants = schema["$defs"][definition]["oneOf"].as_array().cloned().unwrap_or_default();
        variants.iter().filter_map(|v| Some(v["properties"]["type"]["const"].as_str()?.to_owned())).collect::<Vec<_>>()
    };
    let sinks = schema["$defs"]["SinkConfig"]["oneOf"].as_array().cloned().unwrap_or_default();
    let sinks: Vec<_> =
        sinks.iter().filter_map(|v| Some(v["properties"]["type"]["const"].as_str()?.to_owned())).collect();
    let sources = consts("SourceConfig");
    let journals = consts("JournalConfig");
    assert!(sinks.len() >= 5 && sources.len() >= 3 && !journals.is_empty(), "{sinks:?} {sources:?} {journals:?}");
    for name in sinks {
        let found = check(&format!("sinks: [{{name: x, type: {name}}}]")).join("\n");
        assert!(!found.contains("there is no sink of type"), "{found}");
    }
    for name in sources {
        assert!(!check(&format!("sources: [{{type: {name}}}]")).join("\n").contains("there is no source"), "{name}");
    }
    for name in journals {
        assert!(!check(&format!("journal: {{type: {name}}}")).join("\n").contains("there is no journal"), "{name}");
    }
}
