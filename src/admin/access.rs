//! Who asks, and what they may do.
//!
//! Three ways: a bearer token (one to change, one to read only), a proxy that has authenticated people and tells their names
//! in a header, or, where there is neither, this machine. There is no password, so no default one either.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri};
use ipnet::IpNet;

use super::answer::Answer;
use super::{AdminState, api};
use crate::config::ProxyConfig;
use crate::token::Tokens;

/// Names that are longer are nobody's.
const NAME_MAX: usize = 256;

/// A proxy that tells who somebody is.
pub struct Proxy {
    user: HeaderName,
    groups: HeaderName,
    from: Vec<IpNet>,
    editors: Vec<String>,
}

impl Proxy {
    /// Takes the configuration; the error says what is wrong with it.
    pub fn new(config: &ProxyConfig) -> Result<Self, String> {
        let header = |name: &str| name.parse().map_err(|_| format!("`{name}` is no name of a header"));
        let from = config.from.iter().map(|net| {
            let parsed = net.parse().or_else(|_| net.parse::<IpAddr>().map(IpNet::from));
            parsed.map_err(|_| format!("`{net}` is neither an address nor a range like 10.0.0.0/8"))
        });
        Ok(Self {
            user: header(&config.user_header)?,
            groups: header(&config.groups_header)?,
            from: from.collect::<Result<_, _>>()?,
            editors: config.editors.clone(),
        })
    }

    /// Who a request is from, if the proxy sent it and says so.
    fn caller(&self, headers: &HeaderMap, peer: IpAddr) -> Option<Caller> {
        let peer = peer.to_canonical();
        let trusted = self.from.iter().any(|net| net.contains(&peer));
        let mut names = headers.get_all(&self.user).iter();
        // Of two names the proxy may have checked the other one.
        let (Some(name), None) = (names.next().filter(|_| trusted), names.next()) else { return None };
        let name = name.to_str().ok().map(str::trim).filter(|name| !name.is_empty() && name.len() <= NAME_MAX)?;
        let groups = headers.get_all(&self.groups).iter().filter_map(|groups| groups.to_str().ok());
        let mut groups = groups.flat_map(|groups| groups.split(',')).map(str::trim);
        let is_editor = |name: &str| self.editors.iter().any(|editor| editor == name);
        let role = if is_editor(name) || groups.any(is_editor) { Role::Editor } else { Role::Reader };
        Some(Caller { who: name.to_owned(), role, bearer: false })
    }
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing but to see that the daemon lives.
    Stranger,
    /// Read.
    Reader,
    /// Read and change.
    Editor,
}

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// What the record of changes calls them.
    pub(super) who: String,
    pub(super) role: Role,
    /// Known by a token.
    pub(super) bearer: bool,
}

impl Caller {
    /// Who sent a request.
    pub(super) fn of(state: &AdminState, request: &Parts, peer: IpAddr) -> Self {
        let known = |who: &str, role, bearer| Self { who: who.to_owned(), role, bearer };
        if borne(state.tokens.as_ref(), request) {
            return known("token", Role::Editor, true);
        }
        let reader = borne(state.reader_tokens.as_ref(), request);
        if let Some(proxy) = &state.proxy {
            let named = proxy.caller(&request.headers, peer);
            let reader = || known("reader token", if reader { Role::Reader } else { Role::Stranger }, reader);
            return named.unwrap_or_else(reader);
        }
        let here = state.tokens.is_none() && peer.to_canonical().is_loopback();
        match (state.reader_tokens.is_some(), reader) {
            (true, false) => known("somebody", Role::Stranger, false),
            (_, bearer) if here => known("local", Role::Editor, bearer),
            (true, true) => known("reader token", Role::Reader, true),
            (false, _) => known("somebody", Role::Reader, false),
        }
    }
}

fn borne(tokens: Option<&Arc<Tokens>>, request: &Parts) -> bool {
    tokens.is_some_and(|tokens| tokens.borne_by(&request.headers))
}

/// Whether a request bears any token of ours.
pub(super) fn bears_a_token(state: &AdminState, request: &Parts) -> bool {
    borne(state.tokens.as_ref(), request) || borne(state.reader_tokens.as_ref(), request)
}

/// Why this caller may not read, if so.
pub(super) fn refuse_reading(state: &AdminState, caller: &Caller) -> Option<Answer> {
    let words = match state.proxy {
        Some(_) => "who you are is not known: come through the proxy of `admin.proxy`, or bear the token",
        None => "reading needs the bearer token of `admin.reader_token_file` or `admin.token_file`",
    };
    (caller.role == Role::Stranger).then(|| unauthorized(words))
}

/// Why this caller may not change anything, if so.
pub(super) fn refuse_change(state: &AdminState, caller: &Caller) -> Option<Answer> {
    match caller.role {
        Role::Editor => None,
        Role::Stranger => refuse_reading(state, caller),
        Role::Reader if caller.bearer => {
            let more = if state.tokens.is_some() { "; changes need that of `admin.token_file`" } else { "" };
            Some(api::error(StatusCode::FORBIDDEN, &format!("this token may read only{more}")))
        }
        Role::Reader if state.proxy.is_some() => Some(api::error(
            StatusCode::FORBIDDEN,
            "you may read only; `admin.proxy.editors` names the users and groups that may change something",
        )),
        Role::Reader if state.tokens.is_some() => {
            Some(unauthorized("changes need the bearer token of `admin.token_file`"))
        }
        Role::Reader => Some(api::error(
            StatusCode::FORBIDDEN,
            "changes are taken from this machine only; set `admin.token_file` to ask from elsewhere",
        )),
    }
}

fn unauthorized(words: &str) -> Answer {
    api::error(StatusCode::UNAUTHORIZED, words).with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// Reads the tokens again: whoever rotates them need not restart.
pub(super) async fn renew(tokens: &Arc<Tokens>) {
    let renewing = Arc::clone(tokens);
    let renewed = tokio::task::spawn_blocking(move || renewing.reload());
    if let Ok(Err(error)) = renewed.await {
        tracing::warn!(%error, "admin token not taken; the old one stays in use");
    }
}

/// Whether a browser sends this on behalf of some other site's page. The listener is on loopback without a password, or
/// behind a proxy that knows the browser's cookie, so every page that an operator visits could otherwise change things.
pub(super) fn from_another_site(request: &Parts, names: &[String]) -> bool {
    let site = request.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return true;
    }
    // Older browsers tell the origin only.
    request.headers.get_all(ORIGIN).iter().any(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        let Some(origin) = origin.as_ref().and_then(Uri::authority) else { return true };
        let asked = request.headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let same = asked.is_some_and(|asked| asked.as_str().eq_ignore_ascii_case(origin.as_str()));
        !same && !names.iter().any(|name| name.eq_ignore_ascii_case(origin.host()))
    })
}

/// Whether a body says that it is JSON. A form of another site cannot, and a script of one has to ask first, in vain.
pub(super) fn is_json(request: &Parts) -> bool {
    let kind = request.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut request = Request::get("/");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0.headers
    }

    #[test]
    fn a_name_counts_only_from_the_proxy() {
        let config = ProxyConfig { editors: vec!["soc".to_owned(), "ada".to_owned()], ..ProxyConfig::default() };
        let proxy = Proxy::new(&config).expect("right");
        let role = |pairs: &[(&str, &str)], peer: &str| {
            proxy.caller(&headers(pairs), peer.parse().expect("an address")).map(|caller| (caller.who, caller.role))
        };
        let user = ("x-forwarded-user", "bob");
        let groups = |groups| ("x-forwarded-groups", groups);
        let bob = |role| Some(("bob".to_owned(), role));
        assert_eq!(role(&[user], "127.0.0.1"), bob(Role::Reader));
        assert_eq!(role(&[user], "::ffff:127.0.0.1"), bob(Role::Reader));
        assert_eq!(role(&[user, groups("dev, soc")], "::1"), bob(Role::Editor));
        assert_eq!(role(&[user, groups("socks")], "127.0.0.1"), bob(Role::Reader));
        assert_eq!(role(&[("x-forwarded-user", "ada")], "127.0.0.1"), Some(("ada".to_owned(), Role::Editor)));
        assert_eq!(role(&[user], "10.0.0.7"), None, "not from the proxy");
        assert_eq!(role(&[groups("soc")], "127.0.0.1"), None, "nobody");
        assert_eq!(role(&[user, ("x-forwarded-user", "ada")], "127.0.0.1"), None, "two names");
        assert_eq!(role(&[("x-forwarded-user", " ")], "127.0.0.1"), None);
        let wrong = ProxyConfig { from: vec!["10.0.0.0/99".to_owned()], ..ProxyConfig::default() };
        assert!(Proxy::new(&wrong).is_err_and(|words| words.contains("10.0.0.0/99")));
    }

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        let foreign = |pairs: &[(&str, &str)]| {
            let mut parts = Request::post("/").body(()).expect("a request").into_parts().0;
            parts.headers = headers(pairs);
            from_another_site(&parts, &["siren.example".to_owned()])
        };
        let host = ("host", "127.0.0.1:9766");
        assert!(!foreign(&[host]));
        assert!(!foreign(&[host, ("origin", "http://127.0.0.1:9766"), ("sec-fetch-site", "same-origin")]));
        assert!(!foreign(&[("host", "10.0.0.7:9766"), ("origin", "https://siren.example")]));
        for origin in ["http://127.0.0.1:8080", "null", "https://evil.example", "http://siren.example.evil"] {
            assert!(foreign(&[host, ("origin", origin)]), "{origin}");
        }
        for site in ["same-site", "cross-site"] {
            assert!(foreign(&[host, ("sec-fetch-site", site)]), "{site}");
        }
    }
}
