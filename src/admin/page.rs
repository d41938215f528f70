//! The web page: plain files, embedded, without anything from elsewhere.

use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderValue, IF_NONE_MATCH};
use http::request::Parts;

use super::answer::{Answer, gzip, takes_gzip};

/// How the page looks, for what is to look like it.
pub const STYLE: &str = include_str!("page/style.css");

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file of the page.
struct File {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! files {
    ($($path:literal: $kind:ident = $file:literal,)*) => {
        const FILES: &[File] = &[$(File { path: $path, content_type: $kind, content: include_str!(concat!("page/", $file)) },)*];
    };
}

files! {
    "/": HTML = "index.html",
    "/page/style.css": CSS = "style.css",
    "/page/icon.svg": SVG = "icon.svg",
    "/page/main.js": SCRIPT = "main.js",
    "/page/dom.js": SCRIPT = "dom.js",
    "/page/api.js": SCRIPT = "api.js",
    "/page/state.js": SCRIPT = "state.js",
    "/page/chart.js": SCRIPT = "chart.js",
    "/page/list.js": SCRIPT = "list.js",
    "/page/detail.js": SCRIPT = "detail.js",
    "/page/copy.js": SCRIPT = "copy.js",
    "/page/health.js": SCRIPT = "health.js",
    "/page/silences.js": SCRIPT = "silences.js",
}

/// A file as it is sent.
struct Packed {
    gzip: Option<Bytes>,
    tag: HeaderValue,
}

/// Where the file of a path is among those of the page.
pub(super) fn file(path: &str) -> Option<usize> {
    FILES.iter().position(|file| file.path == path)
}

/// The file as an answer; short where the browser has it.
pub(super) fn answer(number: usize, request: &Parts) -> Answer {
    let (file, packed) = (&FILES[number], &packed()[number]);
    let has_it = request.headers.get(IF_NONE_MATCH).is_some_and(|tag| tag == packed.tag);
    let (status, content) = match &packed.gzip {
        _ if has_it => (StatusCode::NOT_MODIFIED, Bytes::new()),
        Some(smaller) if takes_gzip(request) => (StatusCode::OK, smaller.clone()),
        _ => (StatusCode::OK, Bytes::from_static(file.content.as_bytes())),
    };
    let mut answer = Answer::new(status, file.content_type, content);
    if !has_it && packed.gzip.is_some() && takes_gzip(request) {
        answer = answer.with(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer.is_page = true;
    // Asked for each time, so that a new version is not mixed with an old one; answered with nothing when it is the same.
    answer.with(CACHE_CONTROL, HeaderValue::from_static("no-cache")).with(ETAG, packed.tag.clone())
}

/// All files, packed once.
fn packed() -> &'static [Packed] {
    static PACKED: OnceLock<Vec<Packed>> = OnceLock::new();
    PACKED.get_or_init(|| {
        let pack = |file: &File| {
            let tag = format!("\"{}\"", &blake3::hash(file.content.as_bytes()).to_hex()[..16]);
            let tag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
            Packed { gzip: gzip(file.content.as_bytes(), Compression::best()).ok(), tag }
        };
        FILES.iter().map(pack).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the first sight of the page may cost, without what it asks of the API.
    const PACKED_MAX: usize = 60_000;
    const LINES_MAX: usize = 800;

    #[test]
    fn the_page_is_small_and_its_files_are_short() {
        let sent: usize = packed().iter().filter_map(|file| Some(file.gzip.as_ref()?.len())).sum();
        assert!(sent < PACKED_MAX, "{sent} bytes");
        for file in FILES {
            assert!(file.content.lines().count() <= LINES_MAX, "{}", file.path);
        }
    }

    #[test]
    fn nothing_of_the_page_comes_from_elsewhere_or_is_written_as_markup() {
        for file in FILES {
            // What alerts say is the attacker's: it becomes text, never markup or code.
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                " style=",
                "onclick=",
            ] {
                assert!(!file.content.contains(word), "{word} in {}", file.path);
            }
            let foreign = ["http://", "https://", "//cdn", "@import", "url("];
            let allowed = ["http://www.w3.org/2000/svg", "https://attack.mitre.org/", "'https:'", "http:, https:"];
            let mut content = file.content.to_owned();
            for known in allowed {
                content = content.replace(known, "");
            }
            for word in foreign {
                assert!(!content.contains(word), "{word} in {}", file.path);
            }
        }
    }

    #[test]
    fn every_file_that_is_named_is_there() {
        for file in FILES.iter().filter(|file| file.content_type != SVG) {
            for quoted in
                file.content.split(['"', '\'']).filter(|text| text.starts_with("/page/") || text.starts_with("./"))
            {
                let path = quoted.replacen("./", "/page/", 1);
                assert!(super::file(&path).is_some(), "{path}, named in {}", file.path);
            }
        }
    }
}
