//! Tells browsers, by server-sent events, that there is something new to look at. What it is they ask for: every filter
//! works there already, and nothing is missed when a connection breaks. Shows events as they come in, too: those are nowhere
//! to be asked for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Body};
use super::{api, query};
use crate::pipeline::onlookers::{Glimpse, Onlookers, Refusal, View};
use crate::store::Store;

/// Browsers that are told at once; others ask from time to time.
pub(super) const STREAMS_MAX: usize = 64;
/// The least between two messages, however much happens.
const PACE: Duration = Duration::from_millis(500);
/// How often something is sent although nothing happens, so that a connection that is gone is noticed at both ends.
const PING: Duration = Duration::from_secs(15);

/// The least between two pieces with events, and the most that one holds: so many a second are shown.
const EVENTS_PACE: Duration = Duration::from_millis(100);
const EVENTS_MAX: usize = 256;

/// `GET /api/v1/stream`.
pub(super) fn stream(store: &Store, places: &Arc<Semaphore>, stop: &CancellationToken) -> Answer {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        return full("too many are told live already; ask again from time to time");
    };
    let (pieces, body) = mpsc::channel(1);
    tokio::spawn(tell(store.clone(), pieces, place, stop.clone()));
    live(body)
}

/// `GET /api/v1/events`.
pub(super) async fn events(onlookers: &Onlookers, query: &str, stop: &CancellationToken) -> Answer {
    let wanted = match query::wanted(query) {
        Ok(wanted) => wanted,
        Err(words) => return api::error(StatusCode::BAD_REQUEST, &words),
    };
    // What is wanted may be large to compile, and probes wait behind this thread.
    let onlookers = onlookers.clone();
    let view = match tokio::task::spawn_blocking(move || onlookers.look(&wanted)).await {
        Ok(Ok(view)) => view,
        Ok(Err(Refusal::Wrong(words))) => return api::error(StatusCode::BAD_REQUEST, &words),
        Ok(Err(refusal @ Refusal::Full)) => return full(&refusal.to_string()),
        Err(error) => return api::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let (pieces, body) = mpsc::channel(1);
    tokio::spawn(show(view, pieces, stop.clone()));
    live(body)
}

fn full(words: &str) -> Answer {
    api::error(StatusCode::SERVICE_UNAVAILABLE, words).with(RETRY_AFTER, HeaderValue::from_static("10"))
}

fn live(body: mpsc::Receiver<Bytes>) -> Answer {
    let answer = Answer::new(StatusCode::OK, "text/event-stream", Bytes::new());
    // A proxy that waits for more would make it anything but live.
    let answer = answer.with(http::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Answer { body: Body::Live(body), ..answer }
}

/// Sends until the browser has gone or the daemon stops.
async fn tell(store: Store, pieces: mpsc::Sender<Bytes>, _place: OwnedSemaphorePermit, stop: CancellationToken) {
    let mut changes = store.alert_changes();
    let telling = async {
        // Where the order of arrival stands: who has been away knows what to ask for.
        let Ok(place) = store.arrival().await else { return };
        let mut piece = Bytes::from(format!("retry: 2000\nevent: ready\ndata: {{\"place\":{place}}}\n\n"));
        while pieces.send(piece).await.is_ok() {
            sleep(PACE).await;
            piece = tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => Bytes::from(format!("event: alerts\ndata: {{\"change\":{}}}\n\n", *changes.borrow_and_update())),
                    Err(_) => return,
                },
                () = sleep(PING) => Bytes::from_static(b": still there\n\n"),
            };
        }
    };
    until_gone(&pieces, &stop, telling).await;
}

/// Sends what is seen until whoever looks has gone or the daemon stops.
async fn show(mut view: View, pieces: mpsc::Sender<Bytes>, stop: CancellationToken) {
    let showing = async {
        let mut piece = Bytes::from_static(b"event: ready\ndata: {}\n\n");
        while pieces.send(piece).await.is_ok() {
            sleep(EVENTS_PACE).await;
            let mut seen = Vec::new();
            let some = tokio::select! {
                some = view.glimpses.recv_many(&mut seen, EVENTS_MAX) => some,
                () = sleep(PING) => 0,
            };
            let mut text: String = seen.iter().map(event).collect();
            let missed = view.take_missed();
            if missed > 0 {
                text.push_str(&format!("event: missed\ndata: {{\"count\":{missed}}}\n\n"));
            }
            if some == 0 && missed == 0 {
                text.push_str(": still there\n\n");
            }
            piece = Bytes::from(text);
        }
    };
    until_gone(&pieces, &stop, showing).await;
}

/// Goes on until whoever listens has gone, the daemon stops, or there is nothing more to send.
async fn until_gone(pieces: &mpsc::Sender<Bytes>, stop: &CancellationToken, sending: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = pieces.closed() => {}
        () = sending => {}
    }
}

/// An event of the audit log as one of the stream: JSON has no line breaks.
fn event(seen: &Glimpse) -> String {
    let data = json!({"cluster": seen.cluster, "source": seen.source, "event": seen.event});
    format!("event: event\ndata: {data}\n\n")
}
