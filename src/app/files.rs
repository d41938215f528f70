//! How many files the process may have open: a connection is one, and a listener without any left accepts nobody.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::source::SourceConfig;
use crate::source::webhook::Limits;

/// What everything else takes: the store, the admin listener's connections, sinks, rules and files that are followed.
const OTHERS: u64 = 512;

/// Raises the soft limit as far as the configured listeners may need it, and says where it cannot be.
pub(super) fn raise(config: &Config) {
    let needed = needed(config);
    let limit = getrlimit(Resource::Nofile);
    let wanted = wanted(limit.current, limit.maximum, needed);
    if let Some(soft) = wanted {
        let raised = Rlimit { current: Some(soft), maximum: limit.maximum };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => tracing::info!(from = limit.current, to = soft, "the limit of open files was raised"),
            Err(error) => tracing::warn!(%error, to = soft, "the limit of open files could not be raised"),
        }
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if limit < needed {
        tracing::warn!(
            limit,
            needed,
            "fewer files may be open than all connections need: beyond that nobody is let in; raise `ulimit -n` (systemd: LimitNOFILE)"
        );
    }
}

fn needed(config: &Config) -> u64 {
    let webhooks = config.sources.iter().filter(|source| matches!(source, SourceConfig::Webhook(_))).count();
    let connections = webhooks.saturating_mul(Limits::default().connections);
    u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHERS)
}

/// The soft limit to ask for; `None` where it is right, or cannot be raised. Of a limit, `None` is no limit.
fn wanted(soft: Option<u64>, hard: Option<u64>, needed: u64) -> Option<u64> {
    let soft = soft?;
    let most = hard.unwrap_or(needed).min(needed);
    (soft < most).then_some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_is_needed_and_allowed() {
        assert_eq!(wanted(Some(1_024), Some(4_096), 1_536), Some(1_536));
        assert_eq!(wanted(Some(1_024), None, 1_536), Some(1_536));
        assert_eq!(wanted(Some(1_024), Some(1_200), 1_536), Some(1_200));
        assert_eq!(wanted(Some(1_024), Some(1_024), 1_536), None);
        assert_eq!(wanted(Some(2_048), Some(4_096), 1_536), None);
        assert_eq!(wanted(None, None, 1_536), None);
        assert_eq!(needed(&Config::default()), 1_536);
    }
}
