//! The terminal while `top` draws on it: an empty screen, keys that are read one by one, and everything as it was in the end.

use std::io::{IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::frame::Size;

/// A second screen beside the one that the shell writes on, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// What a terminal has that does not say.
const USUAL: (usize, usize) = (80, 24);

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    Resized,
    Quit,
}

/// The terminal; as it was before when this is dropped, also by a panic.
pub(super) struct Screen {
    /// How standard input was, if it is a terminal.
    before: Option<Termios>,
    keys: mpsc::Receiver<u8>,
    ends: [Signal; 3],
    resizes: Signal,
    color: bool,
}

impl Screen {
    pub(super) fn open() -> std::io::Result<Self> {
        let ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = ends.map(signal);
        let resizes = signal(SignalKind::window_change())?;
        let color = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        let ends = [interrupt?, terminate?, hangup?];
        let screen = Self { before: unbuffered(), keys: keys(), ends, resizes, color };
        write(ENTER)?;
        Ok(screen)
    }

    /// Waits until somebody presses a key that means something, or wants an end.
    pub(super) async fn hear(&mut self) -> Heard {
        let [interrupt, terminate, hangup] = &mut self.ends;
        loop {
            tokio::select! {
                Some(key) = self.keys.recv() => match key {
                    b'q' | b'Q' | 0x03 | 0x04 => return Heard::Quit,
                    _ => {}
                },
                _ = interrupt.recv() => return Heard::Quit,
                _ = terminate.recv() => return Heard::Quit,
                _ = hangup.recv() => return Heard::Quit,
                _ = self.resizes.recv() => return Heard::Resized,
            }
        }
    }

    /// Draws over what was there, without a moment in which nothing is.
    pub(super) fn draw(&self, lines: &[String]) -> std::io::Result<()> {
        let mut picture = String::from("\x1b[H");
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                picture.push_str("\r\n");
            }
            if self.color {
                picture.push_str(line);
            } else {
                picture.push_str(&anstream::adapter::strip_str(line).to_string());
            }
            picture.push_str("\x1b[K");
        }
        picture.push_str("\x1b[J");
        write(&picture)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// The room on the terminal.
pub(super) fn size() -> Size {
    let size = tcgetwinsize(std::io::stdout()).ok();
    let size = size.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    let (columns, rows) = size.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(USUAL);
    Size { columns, rows: Some(rows) }
}

/// Colors may be unwanted, but what moves the cursor is not about them.
fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Has keys come one by one and unseen; how it was before, or `None` where standard input is no terminal. Ctrl-C is still a
/// signal; stopping is not one, because the shell would be left with this screen.
fn unbuffered() -> Option<Termios> {
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).ok()?;
    let mut changed = before.clone();
    changed.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
    changed.special_codes[SpecialCodeIndex::VSUSP] = 0;
    changed.special_codes[SpecialCodeIndex::VMIN] = 1;
    changed.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(&stdin, OptionalActions::Now, &changed).ok()?;
    Some(before)
}

/// Keys, read by a thread that ends with the process: nothing else can wait for a terminal and be told to stop.
fn keys() -> mpsc::Receiver<u8> {
    let (pressed, keys) = mpsc::channel(16);
    if std::io::stdin().is_terminal() {
        std::thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            let mut key = [0];
            while stdin.read(&mut key).is_ok_and(|read| read == 1) && pressed.blocking_send(key[0]).is_ok() {}
        });
    }
    keys
}
