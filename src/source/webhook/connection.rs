//! How long a connection may do nothing. hyper's own timer for request heads runs between requests too, and would close
//! kept connections that an apiserver means to use again; here the two waits have two bounds.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The first byte of the next request.
    Request,
    /// The rest of a request's head. A new connection starts here.
    Head,
}

struct State {
    waits: Waits,
    since: Instant,
    requests: usize,
    /// HTTP/2: bytes between requests are pings and windows, not heads.
    multiplexed: bool,
}

/// What happens on one connection, and since when.
pub(super) struct Activity {
    state: Mutex<State>,
    changed: Notify,
    head_time: Duration,
    idle_time: Duration,
}

impl Activity {
    pub(super) fn new(head_time: Duration, idle_time: Duration) -> Arc<Self> {
        let state = State { waits: Waits::Head, since: Instant::now(), requests: 0, multiplexed: false };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), head_time, idle_time })
    }

    /// A request's head is complete; it is being served until the return value is dropped.
    pub(super) fn request(self: &Arc<Self>, multiplexed: bool) -> Busy {
        let mut state = self.state();
        state.requests += 1;
        state.multiplexed = multiplexed;
        Busy(self.clone())
    }

    /// Resolves when the connection has waited too long.
    pub(super) async fn expired(&self) {
        loop {
            let Some(deadline) = self.deadline() else {
                self.changed.notified().await;
                continue;
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(deadline) => {
                    if self.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                        return;
                    }
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        let time = match state.waits {
            Waits::Request => self.idle_time,
            Waits::Head => self.head_time,
        };
        (state.requests == 0).then(|| state.since + time)
    }

    fn bytes_came(&self) {
        let mut state = self.state();
        if state.requests == 0 && !state.multiplexed && state.waits == Waits::Request {
            (state.waits, state.since) = (Waits::Head, Instant::now());
            self.changed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment, so a panic elsewhere cannot have left it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being served.
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        (state.waits, state.since) = (Waits::Request, Instant::now());
        self.0.changed.notify_one();
    }
}

/// A stream that tells its [`Activity`] when bytes come.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.activity.bytes_came();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(120);

    /// Seconds of virtual time until the connection expires.
    async fn expires_after(activity: &Activity) -> u64 {
        let start = Instant::now();
        activity.expired().await;
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_has_the_time_of_a_head() {
        assert_eq!(expires_after(&Activity::new(HEAD, IDLE)).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_connection_may_be_idle_and_a_slow_head_may_not() {
        let activity = Activity::new(HEAD, IDLE);
        drop(activity.request(false));
        assert_eq!(expires_after(&activity).await, 120);
        drop(activity.request(false));
        let (waited, ()) = tokio::join!(expires_after(&activity), async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            activity.bytes_came();
            tokio::time::sleep(Duration::from_secs(5)).await;
            activity.bytes_came(); // More of the same head wins no time.
        });
        assert_eq!(waited, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn http2_pings_are_no_heads() {
        let activity = Activity::new(HEAD, IDLE);
        drop(activity.request(true));
        activity.bytes_came();
        assert_eq!(expires_after(&activity).await, 120);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_work_does_not_expire() {
        let activity = Activity::new(HEAD, IDLE);
        let busy = activity.request(false);
        let (waited, ()) = tokio::join!(expires_after(&activity), async {
            tokio::time::sleep(Duration::from_secs(500)).await;
            drop(busy);
        });
        assert_eq!(waited, 620);
    }
}
