//! The paths that are answered.

use super::page;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'p> {
    /// A file of the web page, by its number.
    Page(usize),
    Metrics,
    Livez,
    Readyz,
    Alerts,
    /// By the alert's id.
    Alert(&'p str),
    Related(&'p str),
    Handling(&'p str),
    Figures,
    Stream,
    Events,
    Silences,
    EndSilence(i64),
    Rules,
    Rule(&'p str),
    Session,
    Status,
    Reload,
}

impl<'p> Route<'p> {
    /// Where a path leads, if anywhere.
    pub(super) fn of(path: &'p str) -> Option<Self> {
        if let Some(file) = page::file(path) {
            return Some(Self::Page(file));
        }
        match path {
            "/metrics" => return Some(Self::Metrics),
            "/livez" => return Some(Self::Livez),
            "/readyz" => return Some(Self::Readyz),
            _ => {}
        }
        let parts: Vec<&str> = path.strip_prefix("/api/v1/")?.split('/').collect();
        match parts[..] {
            ["alerts"] => Some(Self::Alerts),
            ["alerts", ""] | ["alerts", "", _] => None,
            ["alerts", id] => Some(Self::Alert(id)),
            ["alerts", id, "related"] => Some(Self::Related(id)),
            ["alerts", id, "handling"] => Some(Self::Handling(id)),
            ["figures"] => Some(Self::Figures),
            ["stream"] => Some(Self::Stream),
            ["events"] => Some(Self::Events),
            ["silences"] => Some(Self::Silences),
            ["silences", id, "end"] => id.parse().ok().map(Self::EndSilence),
            ["rules"] => Some(Self::Rules),
            ["rules", id] if !id.is_empty() => Some(Self::Rule(id)),
            ["session"] => Some(Self::Session),
            ["status"] => Some(Self::Status),
            ["reload"] => Some(Self::Reload),
            _ => None,
        }
    }

    /// The methods that it is answered to.
    pub(super) fn allowed(self) -> &'static str {
        match self {
            Self::Reload | Self::Handling(_) | Self::EndSilence(_) => "POST",
            Self::Silences => "GET, HEAD, POST",
            // To HEAD there would never be an end.
            Self::Stream | Self::Events => "GET",
            _ => "GET, HEAD",
        }
    }
}
