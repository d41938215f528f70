//! Profiles: how much of the built-in detections runs.
//!
//! A rule is in a profile by its level, or by the key `profile` where that says something else: `minimal` is what somebody
//! is woken up for, `paranoid` is everything.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reader::Reader;
use crate::alert::Level;
use crate::yaml::Node;

/// How much runs, least first: what is in one is in those after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Levels high and critical.
    Minimal,
    /// All but what healthy clusters set off every day.
    #[default]
    Default,
    /// Everything.
    Paranoid,
}

impl Profile {
    /// All of them, least first.
    pub const ALL: [Self; 3] = [Self::Minimal, Self::Default, Self::Paranoid];

    /// As configuration and rules write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Default => "default",
            Self::Paranoid => "paranoid",
        }
    }

    /// The least one in which rules of this level are.
    #[must_use]
    pub fn of(level: Level) -> Self {
        match level {
            Level::Critical | Level::High => Self::Minimal,
            Level::Medium | Level::Low | Level::Informational => Self::Default,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|profile| profile.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("`{text}` is no profile; the profiles are minimal, default, paranoid"))
    }
}

impl Reader<'_> {
    /// The profile that a rule says it is in, if it does.
    pub fn profile(&mut self, document: &Node) -> Option<Profile> {
        let node = document.get("profile")?;
        match node.as_str().unwrap_or_default().parse() {
            Ok(profile) => Some(profile),
            Err(message) => {
                self.error(node.span, message);
                None
            }
        }
    }
}
