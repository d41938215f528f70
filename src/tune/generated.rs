//! Names that controllers make: the part that is the same each time, and what the rest looks like.

use std::collections::BTreeSet;

/// What Kubernetes makes random suffixes and hashes of: no vowels, and nothing that reads like one.
const SAFE: &str = "bcdfghjklmnpqrstvwxz2456789";

/// Letters of a random suffix.
const SUFFIX: usize = 5;

/// An expression that matches names which differ in what was generated only, and how to say so. `None` if the names have
/// nothing in common but the look of it.
///
/// Of a single name only what can hardly be anything else is taken for generated: a hash and a suffix, or a suffix that
/// has a digit in it.
pub(super) fn pattern(names: &BTreeSet<&str>) -> Option<(String, String)> {
    let first = names.first()?;
    let shapes = [replica(first), job(first), suffixed(first, names.len() > 1), ordinal(first, names.len() > 1)];
    shapes.into_iter().flatten().find_map(|(stem, rest, shown)| {
        let regex = format!("^{}{rest}$", regex::escape(stem));
        let matches = regex::Regex::new(&regex).ok()?;
        names.iter().all(|name| matches.is_match(name)).then(|| (regex, format!("{stem}{shown}")))
    })
}

/// The stem, what an expression says of the rest, and what people read.
type Shape<'n> = (&'n str, String, &'static str);

fn safe(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| SAFE.contains(c))
}

fn has_digit(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit())
}

/// `web-7d9f8b6c5-x2x4z`: a pod of a Deployment.
fn replica(name: &str) -> Option<Shape<'_>> {
    let (rest, suffix) = name.rsplit_once('-')?;
    let (stem, hash) = rest.rsplit_once('-')?;
    let good =
        suffix.len() == SUFFIX && safe(suffix) && (6..=10).contains(&hash.len()) && safe(hash) && has_digit(hash);
    (good && !stem.is_empty()).then(|| (stem, format!("-[{SAFE}]{{6,10}}-[{SAFE}]{{{SUFFIX}}}"), "-HASH-SUFFIX"))
}

/// `backup-29384756-x2x4z` or `backup-29384756`: a pod or a Job of a CronJob, by its minute.
fn job(name: &str) -> Option<Shape<'_>> {
    let minute = |text: &str| text.len() == 8 && text.chars().all(|c| c.is_ascii_digit());
    let (rest, last) = name.rsplit_once('-')?;
    if minute(last) {
        return Some((rest, "-[0-9]{8}".to_owned(), "-MINUTE"));
    }
    let (stem, time) = rest.rsplit_once('-')?;
    let good = minute(time) && last.len() == SUFFIX && safe(last);
    good.then(|| (stem, format!("-[0-9]{{8}}-[{SAFE}]{{{SUFFIX}}}"), "-MINUTE-SUFFIX"))
}

/// `agent-x2x4z`: whatever is made with `generateName`, such as a pod of a DaemonSet.
fn suffixed(name: &str, several: bool) -> Option<Shape<'_>> {
    let (stem, suffix) = name.rsplit_once('-')?;
    let good = suffix.len() == SUFFIX && safe(suffix) && (several || has_digit(suffix)) && !stem.is_empty();
    good.then(|| (stem, format!("-[{SAFE}]{{{SUFFIX}}}"), "-SUFFIX"))
}

/// `db-0`: a pod of a StatefulSet. Of one alone the number may be what it is called.
fn ordinal(name: &str, several: bool) -> Option<Shape<'_>> {
    let (stem, number) = name.rsplit_once('-')?;
    let good = several && !stem.is_empty() && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    good.then(|| (stem, "-[0-9]{1,5}".to_owned(), "-NUMBER"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_generated_is_told_from_what_is_a_name() {
        for (names, expected) in [
            (&["web-7d9f8b6c5-x2x4z"][..], Some("web-HASH-SUFFIX")),
            (&["web-7d9f8b6c5-x2x4z", "web-6c5f7d9b84-zzxwv"], Some("web-HASH-SUFFIX")),
            (&["backup-29384756-x2x4z"], Some("backup-MINUTE-SUFFIX")),
            (&["backup-29384756", "backup-29384757"], Some("backup-MINUTE")),
            (&["agent-x2x4z"], Some("agent-SUFFIX")),
            (&["my-proxy"], None),
            (&["my-xyzzy"], None),
            (&["node-bcdfg", "node-wxzwx"], Some("node-SUFFIX")),
            (&["db-0"], None),
            (&["db-0", "db-1"], Some("db-NUMBER")),
            (&["db-0", "web-1"], None),
            (&["web-7d9f8b6c5-x2x4z", "evil"], None),
            (&["a.b-7d9f8b6c5-x2x4z", "aXb-7d9f8b6c5-x2x4z"], None),
            (&["aioue-aeiou"], None),
            (&["-x2x4z"], None),
            (&[""], None),
        ] {
            let found = pattern(&names.iter().copied().collect());
            assert_eq!(found.map(|(_, shown)| shown).as_deref(), expected, "{names:?}");
        }
        let (regex, _) = pattern(&["web-7d9f8b6c5-x2x4z"].into()).unwrap();
        let regex = regex::Regex::new(&regex).unwrap();
        assert!(regex.is_match("web-6c5f7d9b84-zzxwv"));
        for other in ["web-evil", "web-7d9f8b6c5-x2x4z-more", "xweb-7d9f8b6c5-x2x4z", "web-7d9f8b6c5-evila"] {
            assert!(!regex.is_match(other), "{other}");
        }
    }
}
