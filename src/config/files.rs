//! What a configuration points at: secrets, certificates, detections, and the hosts of sinks.

use std::net::ToSocketAddrs;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Depth;
use super::mask::is_misplaced;
use super::read::{Item, Parts, head};
use super::tree::{Tree, each_entry};
use super::validate::{item_nodes, url_nodes};
use crate::diagnose::Span;
use crate::sink::{Sink, SinkKind};
use crate::yaml::{Key, Node, Value};

/// Reports what is not there or cannot be used.
pub(super) fn check(parts: &Parts, tree: &mut Tree, depth: Depth) {
    for node in item_nodes(parts) {
        let mut wrong = Vec::new();
        each_entry(node, &mut |_, key, value| {
            if key.text.ends_with("_file")
                && let Some(path) = value.as_str()
                && let Err(message) = secret(Path::new(path))
            {
                wrong.push(match key.text.strip_suffix("_file").filter(|_| is_misplaced(&key.text, path)) {
                    Some(own) => (value.span, format!("there is no such file; the secret itself goes under `{own}`")),
                    None => (value.span, message),
                });
            }
            if key.text == "tls" {
                wrong.extend(tls(value));
            }
            if key.text == "properties" {
                wrong.extend(locations(value));
            }
        });
        // Where people find the page need not be known here.
        let asked = !parts.root.get("admin").is_some_and(|admin| std::ptr::eq(admin, node));
        if depth >= Depth::Hosts && asked {
            wrong.extend(hosts(node));
        }
        for (span, message) in wrong {
            tree.report(span, message, None);
        }
    }
    if depth >= Depth::Hosts {
        super::kafka::clients(parts, tree);
        sinks(parts, tree);
    }
    if let Some(node) = parts.root.get("canary") {
        for (span, message) in pair(node, "client_cert", "client_key") {
            tree.report(span, message, None);
        }
    }
    detections(parts, tree);
}

/// Sets up each sink in which nothing was found: what does not go together is known then. Nothing is sent.
fn sinks(parts: &Parts, tree: &mut Tree) {
    for Item { node, value } in parts.sinks.iter().flatten() {
        let Some(sink) = value.as_ref().filter(|sink| !matches!(sink.kind, SinkKind::Kafka(_))) else { continue };
        if tree.is_wrong(node) {
            continue;
        }
        if let Err(message) = Sink::build(sink) {
            tree.report(concerned(node, &message), message, None);
        }
    }
}

/// What a message of a sink is about: it begins with a key, or with the file of a template.
fn concerned(node: &Node, message: &str) -> Span {
    let key = message.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap_or_default();
    let file = node.get("template_file").filter(|file| file.as_str().is_some_and(|path| message.starts_with(path)));
    file.or_else(|| node.get(key)).map_or_else(|| head(node), |value| value.span)
}

fn detections(parts: &Parts, tree: &mut Tree) {
    let paths = parts.root.get("detections").and_then(|node| node.get("paths"));
    let Some(Value::Seq(paths)) = paths.map(|node| &node.value) else { return };
    for node in paths {
        let Some(path) = node.as_str() else { continue };
        let readable = match std::fs::metadata(path) {
            Ok(entry) if entry.is_dir() => std::fs::read_dir(path).map(|_| ()),
            Ok(_) => std::fs::File::open(path).map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = readable {
            tree.report(node.span, format!("cannot read {path}: {error}"), None);
        }
    }
}

/// A secret's file must hold something; what it holds is never shown.
fn secret(path: &Path) -> Result<(), String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Err(format!("{} is empty", path.display())),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// The mistakes in a `tls:` mapping: files that hold no certificate or key, or a key of another certificate.
fn tls(node: &Node) -> Vec<(Span, String)> {
    let mut wrong = pair(node, "cert", "key");
    certificates(node, "client_ca", &mut wrong);
    certificates(node, "ca", &mut wrong);
    wrong
}

/// The certificates in the file that a key names.
fn certificates(node: &Node, key: &str, wrong: &mut Vec<(Span, String)>) -> Option<Vec<CertificateDer<'static>>> {
    let at = node.get(key)?;
    let read = chain(Path::new(at.as_str()?));
    read.map_err(|message| wrong.push((at.span, message))).ok()
}

/// The mistakes in a certificate and its key, which are under these two keys.
fn pair(node: &Node, cert: &str, key: &str) -> Vec<(Span, String)> {
    let mut wrong = Vec::new();
    let chain = certificates(node, cert, &mut wrong);
    let Some((at, path)) = node.get(key).and_then(|at| Some((at, at.as_str()?))) else { return wrong };
    match (PrivateKeyDer::from_pem_file(path), chain) {
        (Err(error), _) => wrong.push((at.span, format!("cannot read a private key from {path}: {error}"))),
        (Ok(key), Some(chain)) => {
            let provider = rustls::crypto::ring::default_provider();
            if let Err(error) = rustls::sign::CertifiedKey::from_der(chain, key, &provider) {
                wrong.push((at.span, format!("{path} does not fit its certificate: {error}")));
            }
        }
        (Ok(_), None) => {}
    }
    wrong
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error| format!("cannot read certificates from {}: {error}", path.display());
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if certificates.is_empty() { Err(format!("{} holds no certificate", path.display())) } else { Ok(certificates) }
}

/// The files that librdkafka is told to read: what is in them it says itself, when it starts.
fn locations(properties: &Node) -> Vec<(Span, String)> {
    let written = properties.as_map().unwrap_or_default().iter();
    let files = written.filter(|(key, _)| key.text.ends_with(".location"));
    let unreadable = |(_, value): &(Key, Node)| {
        let path = value.as_str().filter(|path| *path != "probe")?;
        let readable = std::fs::metadata(path).and_then(|entry| {
            if entry.is_dir() { std::fs::read_dir(path).map(drop) } else { std::fs::File::open(path).map(drop) }
        });
        readable.err().map(|error| (value.span, format!("cannot read {path}: {error}")))
    };
    files.filter_map(unreadable).collect()
}

/// The names under `brokers`.
fn brokers(node: &Node) -> Vec<(Span, String)> {
    let Some(Value::Seq(brokers)) = node.get("brokers").map(|brokers| &brokers.value) else { return Vec::new() };
    let lost = |broker: &Node| {
        let text = broker.as_str()?;
        let error = text.to_socket_addrs().err()?;
        Some((broker.span, format!("cannot find the broker {text}: {error}")))
    };
    brokers.iter().filter_map(lost).collect()
}

/// A server that is named without being a URL: `address` is `host:port`, `host` a name alone.
fn server(node: &Node) -> Option<(Span, String)> {
    let at = node.get("address").or_else(|| node.get("host"))?;
    let name = at.as_str()?;
    let found = if node.get("address").is_some() { name.to_socket_addrs() } else { (name, 0).to_socket_addrs() };
    found.err().map(|error| (at.span, format!("cannot find the host {name}: {error}")))
}

fn hosts(node: &Node) -> Vec<(Span, String)> {
    let mut wrong = brokers(node);
    wrong.extend(server(node));
    for (key, value) in url_nodes(node) {
        let Some(url) = value.as_str().and_then(|text| reqwest::Url::parse(text).ok()) else { continue };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { continue };
        // An IPv6 address is written in brackets in a URL, and without them everywhere else.
        let name = host.trim_matches(['[', ']']);
        if let Err(error) = (name, port).to_socket_addrs() {
            let name = if super::mask::is_secret(key) { "of this URL" } else { name };
            wrong.push((value.span, format!("cannot find the host {name}: {error}")));
        }
    }
    wrong
}
