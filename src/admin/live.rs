//! Tells browsers, by server-sent events, that there is something new to look at. What it is they ask for: every filter
//! works there already, and nothing is missed when a connection breaks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Body};
use super::api;
use crate::store::Store;

/// Browsers that are told at once; others ask from time to time.
pub(super) const STREAMS_MAX: usize = 64;
/// The least between two messages, however much happens.
const PACE: Duration = Duration::from_millis(500);
/// How often something is sent although nothing happens, so that a connection that is gone is noticed at both ends.
const PING: Duration = Duration::from_secs(15);

/// `GET /api/v1/stream`.
pub(super) fn stream(store: &Store, places: &Arc<Semaphore>, stop: &CancellationToken) -> Answer {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        let words = "too many are told live already; ask again from time to time";
        return api::error(StatusCode::SERVICE_UNAVAILABLE, words).with(RETRY_AFTER, HeaderValue::from_static("10"));
    };
    let (pieces, body) = mpsc::channel(1);
    tokio::spawn(tell(store.clone(), pieces, place, stop.clone()));
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
    tokio::select! {
        () = stop.cancelled() => {}
        () = pieces.closed() => {}
        () = telling => {}
    }
}
