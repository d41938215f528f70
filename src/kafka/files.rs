//! The files of secrets and certificates behind a client, which is made anew when they change.

use std::time::{Duration, Instant};

use super::Connection;

/// How often they are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// The files as they were, and when they were looked at last.
#[derive(Clone, Copy, Debug)]
pub struct Files {
    print: u64,
    looked: Instant,
}

impl Files {
    /// As they are now. To be taken before they are read for the client, so that no change falls between.
    #[must_use]
    pub fn now(connection: Connection<'_>) -> Self {
        Self { print: connection.fingerprint(), looked: Instant::now() }
    }

    /// Whether they are not what they were.
    #[must_use]
    pub fn differ(&self, connection: Connection<'_>) -> bool {
        connection.fingerprint() != self.print
    }

    /// The same, for who asks all the time: they are looked at now and then, and no in between.
    pub fn have_changed(&mut self, connection: Connection<'_>) -> bool {
        if self.looked.elapsed() < EVERY {
            return false;
        }
        self.looked = Instant::now();
        self.differ(connection)
    }
}
