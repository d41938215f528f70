//! Sigma filters: one document narrows many rules, without touching them.

use std::collections::HashSet;
use std::sync::Arc;

use super::correlation::Names;
use super::ir::{Expr, Rule};
use super::reader::Reader;
use super::sigma::{detection_expr, fingerprint, logsource};
use crate::diagnose::{Diagnostic, SourceText, Span};
use crate::yaml::{Node, Value};

/// A filter that was read; its rules are still the names that were written.
#[derive(Debug)]
pub struct Filter {
    /// The document's title or name, for messages.
    title: String,
    /// `None`: all rules.
    rules: Option<Vec<(String, Span)>>,
    /// What of `logsource` it is for.
    logsource: Vec<(String, String)>,
    expr: Expr,
    fingerprint: u64,
    source: Arc<SourceText>,
    span: Span,
}

/// Reads a document that has a `filter` key.
pub fn read(reader: &mut Reader<'_>, document: &Node) -> Option<Filter> {
    let title = reader.title(document);
    let body = document.get("filter")?;
    if document.get("logsource").is_none() {
        let help = "add `logsource: {product: kubernetes, service: audit}`";
        reader.error_with_help(body.span, "the filter has no `logsource`", help);
    }
    if let Some(node) = body.get("condition").filter(|node| matches!(node.value, Value::Seq(_))) {
        reader.error(node.span, "a filter has one condition, not a list");
    }
    let rules = match body.get("rules").map(|node| (&node.value, node)) {
        None | Some((Value::Null, _)) => {
            if body.as_map().is_some() {
                reader.error_with_help(body.span, "a filter needs `rules`", "name rules, or write `rules: any`");
            }
            None
        }
        Some((Value::String(text), _)) if text.eq_ignore_ascii_case("any") => None,
        Some((Value::Seq(items), _)) if items.is_empty() => None,
        Some(_) => Some(reader.texts(body, "rules")),
    };
    let span = body.get("rules").map_or(body.span, |node| node.span);
    let expr = detection_expr(reader, body, "filter")?;
    Some(Filter {
        title,
        rules,
        logsource: logsource(document),
        expr,
        fingerprint: fingerprint(document) ^ reader.expanded,
        source: Arc::clone(reader.source),
        span,
    })
}

/// Narrows the rules that the filters name. A filter that narrows nothing is most likely a mistake.
pub fn apply(filters: &[Filter], rules: &mut [Rule], known: &Names, findings: &mut Vec<Diagnostic>) {
    for filter in filters {
        let before = findings.len();
        let absent = |(written, _): &(String, Span)| known.is_skipped(written) || known.is_broken(written);
        let awaited = filter.rules.iter().flatten().any(absent);
        let named = filter.named(known, findings);
        let mut narrowed = 0;
        for rule in rules.iter_mut().filter(|rule| filter.is_for(rule, named.as_ref())) {
            filter.narrow(rule);
            narrowed += 1;
        }
        if narrowed == 0 && findings.len() == before && !awaited {
            let message = format!("the filter `{}` applies to no rule", filter.title);
            findings.push(Diagnostic::warning(&filter.source, filter.span, message));
        }
    }
}

impl Filter {
    /// The ids of the rules that it names, or `None` for all.
    fn named(&self, known: &Names, findings: &mut Vec<Diagnostic>) -> Option<HashSet<Arc<str>>> {
        let mut ids = HashSet::new();
        for (written, span) in self.rules.as_ref()? {
            match known.rule(written) {
                Some(_) if known.is_shared(written) => findings.push(Names::ambiguous(&self.source, written, *span)),
                Some(id) => {
                    ids.insert(id);
                }
                None if known.is_skipped(written) || known.is_broken(written) => {}
                None => {
                    let refused = "filters are for rules about single events";
                    findings.push(known.unknown(&self.source, written, *span, refused));
                }
            }
        }
        Some(ids)
    }

    fn is_for(&self, rule: &Rule, named: Option<&HashSet<Arc<str>>>) -> bool {
        named.is_none_or(|ids| ids.contains(rule.info.id.as_str()))
            && self.logsource.iter().all(|attribute| rule.logsource.contains(attribute))
    }

    fn narrow(&self, rule: &mut Rule) {
        let expr = std::mem::replace(&mut rule.expr, Expr::All(Vec::new()));
        rule.expr = Expr::All(vec![expr, self.expr.clone()]);
        rule.narrowed += 1;
        rule.fingerprint = rule.fingerprint.rotate_left(9) ^ self.fingerprint;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use crate::rule::load::{Loaded, load_text};
    use crate::rule::naive::rule_holds;

    const RULE: &str = "title: R\nid: r\nname: reads\nlogsource: {product: kubernetes, service: audit}\n\
                        detection: {sel: {verb: get}, condition: sel}\n---\n";

    fn load(filter: &str) -> Loaded {
        load_text(Path::new("f.yml"), &format!("{RULE}title: F\n{filter}"))
    }

    fn filter(rules: &str) -> String {
        format!(
            "logsource: {{product: kubernetes, service: audit}}\nfilter:\n  rules: {rules}\n  known: {{user.username: ci}}\n  other: {{user.username|startswith: 'system:'}}\n  condition: not 1 of them\n"
        )
    }

    #[test]
    fn a_filter_narrows_the_rules_it_names() {
        let event = |user: &str| json!({"stage": "ResponseComplete", "verb": "get", "user": {"username": user}});
        let plain = load_text(Path::new("f.yml"), RULE).rules.rules.remove(0);
        for rules in ["[r]", "reads", "any", "Any", "[]", "[R]"] {
            let mut loaded = load(&filter(rules));
            assert!(loaded.findings.is_empty(), "{rules}: {:?}", loaded.findings);
            let rule = loaded.rules.rules.remove(0);
            assert!(rule_holds(&rule, &event("eve")), "{rules}");
            assert!(!rule_holds(&rule, &event("ci")) && !rule_holds(&rule, &event("system:x")), "{rules}");
            assert_ne!(rule.fingerprint, plain.fingerprint);
        }
    }

    #[test]
    fn what_a_filter_gets_wrong_is_told() {
        let messages = |text: &str| load(text).findings.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            messages(&filter("[raeds]")),
            ["f.yml:10:11: no rule has the id or name `raeds` (did you mean `reads`?)"]
        );
        let elsewhere = filter("any").replace("service: audit", "service: audit, category: other");
        assert_eq!(load(&elsewhere).rules.skipped.len(), 1);
        let narrower = filter("any").replace("service: audit", "service: audit, category: application");
        assert_eq!(messages(&narrower), ["f.yml:10:10: the filter `F` applies to no rule"]);
        assert!(messages("filter: {rules: any, condition: x}\n").len() >= 2);
        assert!(messages(&filter("")).iter().any(|m| m.contains("a filter needs `rules`")));
        let two = filter("any").replace("not 1 of them", "[not known, not other]");
        assert_eq!(messages(&two), ["f.yml:13:14: a filter has one condition, not a list"]);
        assert!(
            messages(&filter("any").replace("  rules: any\n", "")).iter().any(|m| m.contains("a filter needs `rules`"))
        );
    }
}
