//! Which of the loaded rules run, at what level, and which alert: what the configuration says beside the rules themselves.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::ir::{Correlation, CorrelationKind, FirstSeen, GroupField, Rules};
use super::load::Options;
use super::profile::Profile;
use crate::alert::{Level, RuleInfo};
use crate::event::FieldPath;

/// Names in the options that are no rule's id or title.
pub(super) fn unknown(rules: &Rules, options: &Options) -> Vec<String> {
    let names: HashSet<&str> = infos(rules).flat_map(|info| [info.id.as_str(), info.title.as_str()]).collect();
    let disabled = options.disable.iter().map(|name| ("disable", name));
    disabled
        .chain(options.levels.keys().map(|name| ("level", name)))
        .filter(|(_, name)| !names.contains(name.as_str()))
        .map(|(key, name)| format!("detections.{key}: no rule has the id or title `{name}`"))
        .collect()
}

/// Puts the configured levels in place and leaves out what is disabled or not in the profile. What a correlation needs
/// stays for it, silently. `builtin`: ids of the detections that come with the binary, which alone profiles are about.
pub(super) fn configure(rules: &mut Rules, options: &Options, builtin: &HashSet<String>) {
    let is_named = |info: &RuleInfo, name: &str| name == info.id || name == info.title;
    let level = |info: &RuleInfo| options.levels.get(&info.id).or_else(|| options.levels.get(&info.title)).copied();
    let decide = |info: &mut Arc<RuleInfo>, profile: &mut Option<Profile>| {
        let level = level(info);
        if let Some(level) = level {
            Arc::make_mut(info).level = level;
        }
        // Whoever sets a level has looked at the rule: it counts more than what its author thought of it.
        let own = if builtin.contains(&info.id) { Profile::of(info.level) } else { Profile::Minimal };
        *profile = Some(match (*profile, level) {
            (Some(written), None) => written,
            _ => own,
        });
    };
    rules.rules.iter_mut().for_each(|rule| decide(&mut rule.info, &mut rule.profile));
    rules.correlations.iter_mut().for_each(|c| decide(&mut c.info, &mut c.profile));
    rules.silent = infos(rules)
        .filter(|info| options.disable.iter().any(|name| is_named(info, name)))
        .map(|info| info.id.as_str().into())
        .collect();
    fill(rules);
    let most = options.profile.unwrap_or(Profile::Paranoid);
    let profiles = rules.rules.iter().map(|rule| (&rule.info.id, rule.profile));
    let profiles = profiles.chain(rules.correlations.iter().map(|c| (&c.info.id, c.profile)));
    let beyond: Vec<Arc<str>> =
        profiles.filter(|(_, profile)| *profile > Some(most)).map(|(id, _)| id.as_str().into()).collect();
    rules.silent.extend(beyond);
    leave_out(rules);
}

/// Leaves out the silent ones that no correlation needs, and what was there only to be counted by one of them.
fn leave_out(rules: &mut Rules) {
    let needed = |rules: &Rules| -> HashSet<Arc<str>> {
        rules.correlations.iter().flat_map(|c| c.rules.iter().cloned()).collect()
    };
    // A correlation comes after those it is made of: from the end on it is known whether one is still needed.
    for at in (0..rules.correlations.len()).rev() {
        let id = rules.correlations[at].info.id.as_str();
        if rules.silent.contains(id) && !needed(rules).contains(id) {
            let gone = rules.correlations.remove(at);
            // What did not alert beside it does not begin to because nobody counts it any more.
            if !gone.generate {
                rules.silent.extend(gone.rules);
            }
        }
    }
    let needed = needed(rules);
    let Rules { rules: singles, silent, .. } = rules;
    singles.retain(|rule| !silent.contains(rule.info.id.as_str()) || needed.contains(rule.info.id.as_str()));
    let there: BTreeSet<Arc<str>> = infos(rules).map(|info| info.id.as_str().into()).collect();
    rules.silent.retain(|id| there.contains(id));
}

/// Gives correlations that say `rules: any` what they are made of, and puts them behind it.
fn fill(rules: &mut Rules) {
    if rules.correlations.iter().all(|correlation| correlation.any.is_none()) {
        return;
    }
    // What is made of these counts alerts that were counted already.
    let mut above: HashSet<Arc<str>> = HashSet::new();
    for correlation in &rules.correlations {
        if correlation.any.is_some() || correlation.rules.iter().any(|id| above.contains(id)) {
            above.insert(correlation.info.id.as_str().into());
        }
    }
    let alerting = rules.alerting();
    let levels: HashMap<&str, Level> = infos(rules).map(|info| (info.id.as_str(), info.level)).collect();
    let alerts = |id: &str, least: Level| {
        alerting.get(id) == Some(&true) && !above.contains(id) && levels.get(id).is_some_and(|level| *level >= least)
    };
    let members = |least: Level| -> Vec<Arc<str>> {
        let single = rules.rules.iter().map(|rule| rule.info.id.as_str());
        // One that is made of rules that alert too tells again what they tell.
        let again = |c: &&Correlation| made_of(rules, c).iter().any(|id| alerts(id, least));
        let several = rules.correlations.iter().filter(|c| !again(c)).map(|c| c.info.id.as_str());
        single.chain(several).filter(|id| alerts(id, least)).map(Arc::from).collect()
    };
    let filled: Vec<Option<Vec<Arc<str>>>> = rules.correlations.iter().map(|c| c.any.map(&members)).collect();
    for (correlation, members) in rules.correlations.iter_mut().zip(filled) {
        if let Some(members) = members {
            made_of_these(correlation, members);
        }
    }
    rules.correlations.retain(|c| c.any.is_none() || !c.rules.is_empty());
    let place = |c: &Correlation| (above.contains(c.info.id.as_str()), c.any.is_none());
    rules.correlations.sort_by_key(|c| match place(c) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    });
}

/// Everything that a correlation is made of, whatever is in between.
fn made_of(rules: &Rules, correlation: &Correlation) -> Vec<Arc<str>> {
    let mut all = correlation.rules.clone();
    let inner = correlation.rules.iter().filter_map(|id| rules.correlation(id));
    all.extend(inner.flat_map(|inner| made_of(rules, inner)).collect::<Vec<_>>());
    all
}

fn made_of_these(correlation: &mut Correlation, members: Vec<Arc<str>>) {
    let spread = |group: &mut GroupField| {
        if let Ok(field) = FieldPath::parse(&group.name) {
            group.fields = vec![field; members.len()];
        }
    };
    correlation.group_by.iter_mut().for_each(spread);
    match &mut correlation.kind {
        CorrelationKind::ValueCount(fields, _) | CorrelationKind::FirstSeen(FirstSeen { fields, .. }) => {
            fields.iter_mut().for_each(spread);
        }
        _ => {}
    }
    correlation.rules = members;
}

fn infos(rules: &Rules) -> impl Iterator<Item = &Arc<RuleInfo>> {
    rules.rules.iter().map(|rule| &rule.info).chain(rules.correlations.iter().map(|c| &c.info))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::rule::load::load_text_with;

    fn rule(name: &str, level: &str, more: &str) -> String {
        format!(
            "title: T {name}\nid: {name}\nname: {name}\nlevel: {level}\n{more}logsource: {{product: kubernetes, service: audit}}\ndetection: {{s: {{verb: {name}}}, condition: s}}\n---\n"
        )
    }

    fn correlation(name: &str, level: &str, body: &str) -> String {
        format!(
            "title: T {name}\nid: {name}\nlevel: {level}\ncorrelation: {{timespan: 1h, group-by: [user.username], {body}}}\n---\n"
        )
    }

    /// What is there, and what of it alerts.
    fn there(text: &str, options: &Options, builtin: bool) -> (Vec<String>, Vec<String>) {
        let loaded = load_text_with(Path::new("r.yml"), text, options, builtin);
        assert!(!loaded.has_errors(), "{:?}", loaded.findings);
        let ids = infos(&loaded.rules).map(|info| info.id.clone()).collect();
        let alerting = loaded.rules.alerting().into_iter().filter(|(_, alerts)| *alerts);
        (ids, alerting.map(|(id, _)| id.to_string()).collect())
    }

    fn options(profile: Profile) -> Options {
        Options { profile: Some(profile), ..Options::default() }
    }

    #[test]
    fn a_rule_is_in_a_profile_by_its_level_or_by_what_it_says() {
        let text = ["informational", "low", "medium", "high", "critical"]
            .iter()
            .map(|level| rule(level, level, ""))
            .chain([rule("noisy", "low", "profile: paranoid\n"), rule("calm", "informational", "profile: minimal\n")])
            .collect::<String>();
        let of = |options: &Options| there(&text, options, true).0;
        assert_eq!(of(&options(Profile::Minimal)), ["high", "critical", "calm"]);
        assert_eq!(of(&options(Profile::Default)), ["informational", "low", "medium", "high", "critical", "calm"]);
        assert_eq!(of(&options(Profile::Paranoid)).len(), 7);
        assert_eq!(of(&Options::default()).len(), 7);
        let levels = [("noisy", Level::High), ("calm", Level::Low), ("T high", Level::Informational)];
        let levels: BTreeMap<String, Level> = levels.map(|(name, level)| (name.to_owned(), level)).into();
        assert_eq!(of(&Options { levels, ..options(Profile::Minimal) }), ["critical", "noisy"]);
        let wrong = load_text_with(Path::new("r.yml"), &rule("x", "low", "profile: loud\n"), &Options::default(), true);
        assert!(wrong.findings[0].message.contains("`loud` is no profile"), "{:?}", wrong.findings);
    }

    #[test]
    fn rules_of_the_users_own_always_run_unless_they_say() {
        let text = rule("mine", "informational", "") + &rule("quiet", "high", "profile: paranoid\n");
        assert_eq!(there(&text, &options(Profile::Minimal), false).0, ["mine"]);
    }

    #[test]
    fn what_a_correlation_needs_stays_and_is_silent() {
        let text = rule("a", "low", "")
            + &rule("b", "low", "")
            + &correlation("c", "high", "type: temporal, rules: [a, b], generate: true");
        assert_eq!(there(&text, &options(Profile::Minimal), true), (ids(&["a", "b", "c"]), ids(&["c"])));
        assert_eq!(there(&text, &options(Profile::Default), true).1, ["a", "b", "c"]);
        let disabled = Options { disable: vec!["a".to_owned()], ..Options::default() };
        assert_eq!(there(&text, &disabled, true), (ids(&["a", "b", "c"]), ids(&["b", "c"])));
        let all = Options { disable: vec!["a".to_owned(), "T c".to_owned()], ..Options::default() };
        assert_eq!(there(&text, &all, true).0, ["b"]);
    }

    #[test]
    fn what_is_only_counted_goes_with_what_counts_it() {
        let text = rule("a", "informational", "")
            + &rule("b", "informational", "")
            + &correlation("c", "low", "type: event_count, rules: [a, b], condition: {gte: 2}")
            + &correlation("d", "low", "type: event_count, rules: [b], condition: {gte: 9}");
        let without = |names: &[&str]| there(&text, &Options { disable: ids(names), ..Options::default() }, true);
        assert_eq!(without(&[]), (ids(&["a", "b", "c", "d"]), ids(&["c", "d"])));
        assert_eq!(without(&["c"]), (ids(&["b", "d"]), ids(&["d"])));
        assert_eq!(without(&["c", "d"]), (ids(&[]), ids(&[])));
        assert_eq!(there(&text, &options(Profile::Minimal), true).0, ids(&[]));
    }

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn any_is_what_alerts_from_its_level_on_once() {
        let text = correlation("any", "high", "type: temporal, rules: any, condition: {gte: 2}")
            + &correlation("outer", "high", "type: event_count, rules: [any], condition: {gte: 2}, generate: true")
            + &rule("low", "low", "")
            + &rule("medium", "medium", "")
            + &rule("base", "high", "")
            + &correlation("many", "medium", "type: event_count, rules: [base], condition: {gte: 2}")
            + &rule("told", "high", "")
            + &correlation("chain", "high", "type: temporal, rules: [told, low], generate: true");
        let members = |options: &Options| {
            let loaded = load_text_with(Path::new("r.yml"), &text, options, true);
            assert!(!loaded.has_errors(), "{:?}", loaded.findings);
            let order: Vec<String> = loaded.rules.correlations.iter().map(|c| c.info.id.clone()).collect();
            assert!(order.ends_with(&ids(&["any", "outer"])), "{order:?}");
            let any = loaded.rules.correlation("any").unwrap();
            assert!(any.group_by.iter().all(|group| group.fields.len() == any.rules.len()));
            any.rules.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(members(&Options::default()), ["medium", "told", "many"]);
        let disabled = Options { disable: ids(&["medium"]), ..Options::default() };
        assert_eq!(members(&disabled), ["told", "many"]);
        let levels = BTreeMap::from([("low".to_owned(), Level::Medium)]);
        assert_eq!(members(&Options { levels, ..Options::default() }), ["low", "medium", "told", "many"]);
        // In a small profile it still counts what does not alert by itself.
        assert_eq!(members(&options(Profile::Minimal)), ["medium", "told", "many"]);
        assert_eq!(there(&text, &options(Profile::Minimal), true).1, ["any", "chain", "outer", "told"]);
    }

    #[test]
    fn any_without_alerts_is_left_out_and_goes_with_types_that_can_count_it() {
        let any = |body: &str| correlation("any", "high", body);
        let temporal = "type: temporal, rules: any, condition: {gte: 2}";
        assert!(there(&(any(temporal) + &rule("low", "low", "")), &Options::default(), true).0 == ["low"]);
        for (body, message) in [
            ("type: temporal, rules: any", "nothing that this type can count"),
            ("type: temporal_ordered, rules: any, condition: {gte: 2}", "nothing that this type can count"),
            ("type: spike, rules: any, condition: {gte: 20}", "nothing that this type can count"),
            ("type: event_count, rules: [a], min_level: low, condition: {gte: 2}", "`min_level` goes with"),
            ("type: event_count, rules: any, min_level: loud, condition: {gte: 2}", "`loud` is no level"),
            ("type: event_count, rules: any, aliases: {u: {a: verb}}, condition: {gte: 2}", "aliases name rules"),
        ] {
            let text = rule("a", "high", "") + &any(body);
            let loaded = load_text_with(Path::new("r.yml"), &text, &Options::default(), true);
            assert!(loaded.findings.iter().any(|f| f.message.contains(message)), "{body}: {:?}", loaded.findings);
        }
    }
}
