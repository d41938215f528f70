//! Answers that a fake gives instead of its own, first one first.

use std::sync::{Arc, Mutex};

use super::Reply;

/// A list of answers that a test and a fake share.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Vec<Reply>>>);

impl Script {
    /// Gives this answer to the next request that has none yet.
    pub(crate) fn push(&self, reply: Reply) {
        self.0.lock().expect("not poisoned").push(reply);
    }

    /// The next answer.
    pub(crate) fn next(&self) -> Option<Reply> {
        let mut replies = self.0.lock().expect("not poisoned");
        if replies.is_empty() { None } else { Some(replies.remove(0)) }
    }
}
