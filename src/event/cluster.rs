//! The names of clusters, as paths, headers, topics and envelopes tell them.

/// Characters in a cluster's name: the length of a DNS name.
pub const CLUSTER_NAME_MAX: usize = 253;

/// A name that may be a cluster's label, whoever tells it: 1 to 253 visible characters.
#[must_use]
pub fn cluster_name(text: &str) -> Option<&str> {
    // Letters of all scripts are visible; spaces, controls and characters that turn text around are not.
    let visible = |c: char| c.is_ascii_graphic() || c.is_alphanumeric();
    let fits = !text.is_empty() && text.chars().count() <= CLUSTER_NAME_MAX && text.chars().all(visible);
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_are_visible_and_short() {
        assert_eq!(cluster_name("arn:aws:eks:eu-west-1:1:cluster/prod"), Some("arn:aws:eks:eu-west-1:1:cluster/prod"));
        for wrong in ["", "a b", "a\n", "\u{202e}x", &"x".repeat(254)] {
            assert_eq!(cluster_name(wrong), None, "{wrong:?}");
        }
    }
}
