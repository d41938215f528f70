//! Reading request bodies within bounds: their own size, the memory of all bodies together, time, and how many are read
//! at once.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::answer::Refusal;

/// Memory that all request bodies together may hold, over all listeners.
pub struct Budget {
    limit: u64,
    used: AtomicU64,
    /// Buffers of bodies that are done with: the next ones find their memory in place. They count only while a body uses
    /// them.
    spares: Mutex<Vec<Vec<u8>>>,
    /// Bodies that are read at once; the others wait in the kernel, where TCP holds their senders back.
    turns: Semaphore,
}

/// Bodies that are read at once, for each processor. More of them do not go faster: each is then read in pieces between
/// all others, is done when they all are, and no cache holds it until then.
const TURNS_PER_PROCESSOR: usize = 2;
const TURNS_MIN: usize = 4;
/// A turn is over when nothing has come for so long: whoever sends slowly is read beside those whose turn it is.
const TURN_PAUSE: Duration = Duration::from_millis(5);
/// Whoever has not had a turn by then is refused; kube-apiserver sends again.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// Buffers that are kept for the next body, and how large one may be: kube-apiserver's batches of 400 events fit.
const SPARES_MAX: usize = 8;
const SPARE_BYTES_MIN: usize = 256 << 10;
const SPARE_BYTES_MAX: usize = 2 << 20;

impl Budget {
    /// Memory that is meant for bodies in flight by default.
    pub const MEMORY: u64 = 512 << 20;

    /// Bytes of bodies in flight by default. The rest is for the holes that buffers of all sizes leave between each
    /// other, 0.37 of what they hold, and for what a thousand connections have read and not handed on: measured by
    /// `examples/faults.rs --load`.
    pub const BYTES_IN_FLIGHT: u64 = Self::MEMORY / 5 * 3;

    /// A budget of so many bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let turns = Semaphore::new(TURNS_MIN.max(TURNS_PER_PROCESSOR * processors));
        Self { limit, used: AtomicU64::new(0), spares: Mutex::default(), turns }
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn try_take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        let turn = timeout(TURN_WAIT, self.turns.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or(Refusal::NoTurn)
    }

    fn spare(&self) -> Option<Vec<u8>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, mut buffer: Vec<u8>) {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARES_MAX && (SPARE_BYTES_MIN..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            spares.push(buffer);
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::BYTES_IN_FLIGHT)
    }
}

/// One body and its share of the budget, given back when it is dropped.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    held: u64,
    budget: Arc<Budget>,
}

/// The first allocation for a body whose sender announces more.
const FIRST_BLOCK: usize = 64 << 10;

impl Buffer {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { bytes: Vec::new(), held: 0, budget }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes room for `more` bytes: little for the first, then for all that is `expected` if that is what a batch has, in
    /// one piece, because blocks that grow leave holes between them, and holes are memory too. What is larger doubles. So a
    /// sender that announces much and sends little holds little, and announcing costs nobody else their room.
    fn grow(&mut self, more: usize, expected: usize) -> Result<(), Refusal> {
        if self.bytes.capacity() == 0 && expected >= SPARE_BYTES_MIN {
            self.take_spare();
        }
        let needed = self.bytes.len().saturating_add(more);
        if needed <= self.bytes.capacity() {
            return Ok(());
        }
        let grown = match self.bytes.capacity() {
            0 => FIRST_BLOCK,
            _ if expected <= SPARE_BYTES_MAX => expected,
            capacity => capacity.saturating_mul(2),
        };
        let target = grown.min(expected).max(needed);
        let missing = (target as u64).saturating_sub(self.held);
        if !self.budget.try_take(missing) {
            return Err(Refusal::NoMemory);
        }
        self.held += missing;
        self.bytes.reserve_exact(target - self.bytes.len());
        Ok(())
    }

    fn take_spare(&mut self) {
        let Some(spare) = self.budget.spare() else { return };
        let bytes = spare.capacity() as u64;
        if self.budget.try_take(bytes) {
            self.held = bytes;
            self.bytes = spare;
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, Ordering::Relaxed);
        self.budget.keep(std::mem::take(&mut self.bytes));
    }
}

/// Reads a body of at most `max` bytes. The caller bounds the time.
pub(super) async fn collect<B>(body: &mut B, max: u64, budget: Arc<Budget>) -> Result<Buffer, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint();
    if announced.lower() > max {
        return Err(Refusal::TooLarge { limit: max });
    }
    let expected = usize::try_from(announced.exact().unwrap_or(max)).unwrap_or(usize::MAX);
    let turns = Arc::clone(&budget);
    let mut turn = if expected > FIRST_BLOCK { Some(turns.turn().await?) } else { None };
    let mut buffer = Buffer::new(budget);
    while let Some(frame) = next(body, &mut turn).await {
        let Ok(data) = frame.map_err(|_| Refusal::BrokenBody)?.into_data() else { continue };
        if (buffer.bytes.len() as u64).saturating_add(data.remaining() as u64) > max {
            return Err(Refusal::TooLarge { limit: max });
        }
        buffer.grow(data.len(), expected)?;
        buffer.bytes.extend_from_slice(&data);
    }
    Ok(buffer)
}

/// The next frame. Ends the turn if there is none for a while.
async fn next<B>(body: &mut B, turn: &mut Option<SemaphorePermit<'_>>) -> Option<Result<Frame<Bytes>, B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    if turn.is_some() {
        if let Ok(frame) = timeout(TURN_PAUSE, body.frame()).await {
            return frame;
        }
        *turn = None;
    }
    body.frame().await
}

/// Reads and forgets the rest of a refused body, at most `max` bytes of it.
pub(super) async fn drain<B>(mut body: B, max: u64)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut seen: u64 = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen = seen.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
        if seen > max {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use hyper::body::Frame;

    use super::*;

    /// A body that does not say how long it is.
    fn streamed(chunks: usize, size: usize) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
        let chunk = Bytes::from(vec![b'x'; size]);
        Chunks { chunk, left: chunks }
    }

    struct Chunks {
        chunk: Bytes,
        left: usize,
    }

    impl Body for Chunks {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            if self.left == 0 {
                return std::task::Poll::Ready(None);
            }
            self.left -= 1;
            std::task::Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
        }
    }

    #[tokio::test]
    async fn a_body_holds_its_share_until_it_is_dropped() {
        let budget = Arc::new(Budget::new(1000));
        let first = collect(&mut Full::new(Bytes::from(vec![1; 600])), 1000, budget.clone()).await.expect("fits");
        assert_eq!((first.bytes().len(), budget.used()), (600, 600));
        let second = collect(&mut Full::new(Bytes::from(vec![1; 600])), 1000, budget.clone()).await;
        assert!(matches!(second, Err(Refusal::NoMemory)));
        assert_eq!(budget.used(), 600);
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn growth_is_bounded_by_the_largest_body_and_charged() {
        let budget = Arc::new(Budget::new(u64::MAX));
        let max = 3 << 20;
        let buffer = collect(&mut streamed(3, 1 << 20), max, budget.clone()).await.expect("fits");
        assert_eq!(buffer.bytes().len() as u64, max);
        assert_eq!(buffer.bytes.capacity() as u64, budget.used());
        assert!(budget.used() <= max);
        let over = collect(&mut streamed(4, 1 << 20), max, budget.clone()).await;
        assert!(matches!(over, Err(Refusal::TooLarge { limit }) if limit == max));
    }

    /// A body that announces a megabyte and sends nothing.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Pending
        }

        fn size_hint(&self) -> hyper::body::SizeHint {
            hyper::body::SizeHint::with_exact(1 << 20)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_nothing_holds_up_nobody_for_long() {
        let budget = Arc::new(Budget::default());
        let silent: Vec<_> = (0..1_000)
            .map(|_| {
                let budget = budget.clone();
                tokio::spawn(async move { collect(&mut Silent, 1 << 20, budget).await.map(|_| ()) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(budget.turns.available_permits(), 0);
        let start = tokio::time::Instant::now();
        collect(&mut Full::new(Bytes::from(vec![1; 1 << 20])), 1 << 20, budget.clone()).await.expect("a turn");
        assert!(start.elapsed() < TURN_WAIT / 2, "{:?}", start.elapsed());
        silent.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_turn_large_bodies_are_refused_and_small_ones_are_read() {
        let budget = Arc::new(Budget::default());
        let turns = u32::try_from(budget.turns.available_permits()).expect("few");
        let taken = budget.turns.acquire_many(turns).await.expect("open");
        let post = async |size| collect(&mut Full::new(Bytes::from(vec![1; size])), 1 << 20, budget.clone()).await;
        assert!(matches!(post(FIRST_BLOCK + 1).await, Err(Refusal::NoTurn)));
        assert_eq!(budget.used(), 0);
        assert!(post(FIRST_BLOCK).await.is_ok());
        drop(taken);
        assert!(post(FIRST_BLOCK + 1).await.is_ok());
    }

    #[tokio::test]
    async fn memory_goes_from_one_body_to_the_next_within_the_budget() {
        let budget = Arc::new(Budget::new(1 << 20));
        let large = async || collect(&mut Full::new(Bytes::from(vec![1; 700 << 10])), 1 << 20, budget.clone()).await;
        let first = large().await.expect("fits");
        let place = first.bytes().as_ptr();
        drop(first);
        assert_eq!(budget.used(), 0);
        let second = large().await.expect("fits");
        assert_eq!((second.bytes().as_ptr(), budget.used()), (place, 700 << 10));
        assert!(matches!(large().await, Err(Refusal::NoMemory)));
        let small = collect(&mut Full::new(Bytes::from(vec![1; 9])), 1 << 20, budget.clone()).await.expect("fits");
        assert_eq!(budget.used(), (700 << 10) + 9);
        drop((second, small));
        assert_eq!(budget.spares.lock().expect("no panic").len(), 1);
    }
}
