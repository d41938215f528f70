//! The names under which the admin listener may be asked.

use std::net::IpAddr;

use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::uri::Authority;

/// What is answered to other names.
pub(super) const REFUSAL: &str =
    "the listener is not known under this name; ask for localhost or its address, or add the name to `admin.hosts`";

/// Whether every host that a request names is known. A request without one is not from a browser.
pub(super) fn all_known(request: &Parts, names: &[String], bound: IpAddr, local: IpAddr) -> bool {
    let headers = request.headers.get_all(HOST).iter();
    let in_headers = headers.map(|value| HeaderValue::to_str(value).ok()?.parse::<Authority>().ok());
    let in_target = request.uri.authority().cloned().map(Some);
    in_headers.chain(in_target).all(|host| host.is_some_and(|host| is_known(host.host(), names, bound, local)))
}

fn is_known(host: &str, names: &[String], bound: IpAddr, local: IpAddr) -> bool {
    let host = host.trim_end_matches('.');
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address.map(|address| address.to_canonical()) {
        Ok(address) => {
            // Bound to all addresses it may be reached under one that this machine does not know of. No page of another
            // site has an address for its name.
            bound.is_unspecified()
                || address.is_loopback()
                || address == bound.to_canonical()
                || address == local.to_canonical()
        }
        Err(_) => host.eq_ignore_ascii_case("localhost") || names.iter().any(|name| host.eq_ignore_ascii_case(name)),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn other_names_are_not_known() {
        let names = ["siren.example".to_owned()];
        let known = |bound: &str, hosts: &[&str]| {
            let mut request = Request::get("/");
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let parts = request.body(()).expect("a request").into_parts().0;
            all_known(&parts, &names, bound.parse().expect("an address"), "10.0.0.7".parse().expect("an address"))
        };
        for host in ["localhost:9766", "LOCALHOST", "127.0.0.1:1", "[::1]:9766", "10.0.0.7", "Siren.Example.:80"] {
            assert!(known("127.0.0.1", &[host]), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.8:9766",
            "siren.example.evil",
            "",
            "a b",
            "x@localhost@y",
        ] {
            assert!(!known("127.0.0.1", &[host]), "{host}");
        }
        assert!(known("127.0.0.1", &[]), "no browser leaves it out");
        assert!(!known("127.0.0.1", &["localhost", "evil.example"]));
        assert!(known("0.0.0.0", &["10.9.9.9:9766"]) && !known("0.0.0.0", &["evil.example"]));
        assert!(known("10.0.0.8", &["10.0.0.8"]));
    }
}
