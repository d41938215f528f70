//! Alerts as JSON lines on standard output.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Medium, Message, SendError, Sending, Sent, Traits};
use crate::clock::Timestamp;
use crate::text::visible_json;

/// `type: stdout`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutConfig {}

/// Writes lines to standard output.
pub struct Stdout {
    out: Arc<Mutex<dyn Write + Send>>,
}

impl Stdout {
    pub(super) fn build(_config: &StdoutConfig) -> Self {
        Self::to(io::stdout())
    }

    fn to(out: impl Write + Send + 'static) -> Self {
        Self { out: Arc::new(Mutex::new(out)) }
    }
}

impl Medium for Stdout {
    fn traits(&self) -> Traits {
        Traits { batch_max: 256, ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, _now: Timestamp) -> Sending<'a> {
        Box::pin(async move {
            let lines = message.items.iter().map(|item| line(&item.alert)).collect::<Result<Vec<_>, _>>()?;
            let out = Arc::clone(&self.out);
            // A reader that does not read blocks the write, which must not hold up the other tasks.
            let written = tokio::task::spawn_blocking(move || write(&out, &lines)).await;
            match written {
                Ok(Ok(())) => Ok(Sent::default()),
                // A reader that went away does not come back, but whoever restarts the daemon finds the alerts in the
                // outbox: nothing is lost, and asking now and then costs nothing.
                Ok(Err(error)) => Err(SendError::retry(format!("cannot write to standard output: {error}"))),
                Err(error) => Err(SendError::retry(format!("writing to standard output failed: {error}"))),
            }
        })
    }
}

fn line(alert: &crate::alert::Alert) -> Result<Vec<u8>, SendError> {
    let line = serde_json::to_string(alert).map_err(|error| SendError::reject(format!("no JSON: {error}")))?;
    let mut line = visible_json(line).into_bytes();
    line.push(b'\n');
    Ok(line)
}

/// One write per line, so that lines of several writers to the same pipe do not mix.
fn write(out: &Mutex<dyn Write + Send>, lines: &[Vec<u8>]) -> io::Result<()> {
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    for line in lines {
        out.write_all(line)?;
        out.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{alert, at, item, message};
    use super::*;
    use crate::alert::{Alert, Level};
    use crate::store::Kind;

    #[derive(Clone, Default)]
    struct Pipe(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn two() -> Message {
        message(vec![
            item(Kind::Firing, alert("a", "r", Level::High)),
            item(Kind::Resolved, alert("b", "r", Level::Low)),
        ])
    }

    #[tokio::test]
    async fn each_alert_is_one_write_of_one_line() {
        let pipe = Pipe::default();
        let now = at("2026-11-21T05:00:00Z");
        assert_eq!(Stdout::to(pipe.clone()).send(&two(), now).await, Ok(Sent::default()));
        let writes = pipe.0.lock().unwrap().clone();
        assert_eq!(writes.len(), 2);
        for (write, item) in writes.iter().zip(two().items) {
            assert_eq!(write.iter().filter(|&&byte| byte == b'\n').count(), 1);
            assert_eq!(serde_json::from_slice::<Alert>(write).unwrap(), item.alert);
        }
    }

    #[tokio::test]
    async fn a_reader_that_went_away_leaves_the_alerts_in_the_outbox() {
        let answer = Stdout::to(Broken).send(&two(), at("2026-11-21T05:00:00Z")).await;
        assert!(matches!(answer, Err(SendError::Retry { .. })), "{answer:?}");
    }
}
