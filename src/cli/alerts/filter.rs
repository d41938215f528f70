//! Which alerts are meant: the filters of the API as options.

use std::borrow::Cow;

use super::rule_id;
use crate::alert::Level;
use crate::cli::Failure;
use crate::cli::client::Client;
use crate::clock::Timestamp;
use crate::units::Span;

/// When alerts happened.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which alerts")]
pub struct Times {
    /// Since this time, or a span before now: 2026-11-21T04:00:00Z, 24h.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<String>,
    /// Until this time, or a span before now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<String>,
}

impl Times {
    /// Adds them to a question.
    pub fn add(&self, query: &mut Vec<(&'static str, String)>) {
        query.extend(self.since.clone().map(|time| ("since", time)));
        query.extend(self.until.clone().map(|time| ("until", time)));
    }
}

/// A time, or a span before the daemon's now.
pub(in crate::cli) fn time(text: &str) -> Result<String, String> {
    let right = Timestamp::parse(text).is_some() || text.parse::<Span>().is_ok();
    if right {
        Ok(text.to_owned())
    } else {
        Err("neither a time like 2026-11-21T04:00:00Z nor a span before now like 24h".to_owned())
    }
}

/// Rule, user and object of alerts: what can be searched for, and silenced. Everything that is given must hold.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct About {
    /// Of this rule: id, first characters of it, or title.
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// Of this cluster.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Of this user, or whoever acts as this user.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// About objects in this namespace.
    #[arg(long, short = 'n', value_name = "NAME")]
    pub namespace: Option<String>,
    /// About requests of this verb.
    #[arg(long, value_name = "VERB")]
    pub verb: Option<String>,
    /// About this object: pods/web-0.
    #[arg(long, value_name = "OBJECT")]
    pub object: Option<String>,
}

/// Which alerts. Everything that is given must hold.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which alerts")]
pub struct Filter {
    /// This level and above.
    #[arg(long, value_name = "LEVEL", visible_alias = "min-level")]
    pub level: Option<Level>,
    /// What about.
    #[command(flatten)]
    pub about: About,
    /// With which people are as far as this.
    #[arg(long, value_enum, value_name = "STATE")]
    pub handling: Option<State>,
    /// That a silence kept from the sinks, or that none did.
    #[arg(long, value_name = "true|false")]
    pub silenced: Option<bool>,
    /// With this text in any value.
    #[arg(long = "search", visible_alias = "q", value_name = "TEXT")]
    pub text: Option<String>,
}

/// How far people are with an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum State {
    /// Nobody has done anything yet.
    Open,
    /// Somebody looks after it.
    Acknowledged,
    /// It is done with.
    Closed,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Closed => "closed",
        }
    }
}

impl Filter {
    /// The parameters of a question; the daemon knows which rule is meant.
    pub async fn query(&self, client: &Client) -> Result<Vec<(&'static str, String)>, Failure> {
        let rule = match &self.about.rule {
            Some(rule) => Some(rule_id(client, rule).await?),
            None => None,
        };
        let given = self.given(rule.as_deref());
        Ok(given.into_iter().map(|(name, value)| (name, value.into_owned())).collect())
    }

    fn given<'f>(&'f self, rule: Option<&'f str>) -> Vec<(&'static str, Cow<'f, str>)> {
        let about = &self.about;
        let borrowed = |value: &'f Option<String>| value.as_deref().map(Cow::from);
        [
            ("level", self.level.map(|level| level.as_str().into())),
            ("rule", rule.map(Cow::from)),
            ("cluster", borrowed(&about.cluster)),
            ("user", borrowed(&about.user)),
            ("namespace", borrowed(&about.namespace)),
            ("verb", borrowed(&about.verb)),
            ("object", borrowed(&about.object)),
            ("handling", self.handling.map(|state| state.as_str().into())),
            ("silenced", self.silenced.map(|silenced| silenced.to_string().into())),
            ("q", borrowed(&self.text)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }

    /// What was asked for, where there was nothing: a slip shows.
    #[must_use]
    pub fn words(&self, times: &Times) -> String {
        let times = [("since", &times.since), ("until", &times.until)];
        let times = times.into_iter().filter_map(|(name, time)| Some(format!("{name} {}", time.as_deref()?)));
        let given = self.given(self.about.rule.as_deref());
        let given = given.iter().map(|(name, value)| format!("{name} {}", crate::text::visible(value)));
        let all: Vec<String> = times.chain(given).collect();
        if all.is_empty() { "so far".to_owned() } else { format!("with {}", all.join(", ")) }
    }
}
