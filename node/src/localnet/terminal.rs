//! The terminal: frames out, keys in, everything as it was when the screen goes.

use std::{
    io::{self, IsTerminal, Read, Write},
    os::fd::AsRawFd,
    thread,
};

use crossbeam_channel::{Receiver, bounded};

/// Keys that may wait; a hand is not faster.
const KEYS_MAX: usize = 64;
/// The other screen, with its cursor hidden; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// A screen of its own, until it is dropped.
pub struct Terminal {
    /// How the terminal took keys before; `None`: stdin is none, or cannot be changed.
    before: Option<libc::termios>,
}

/// What the person typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// End everything.
    Quit,
    /// Kill this node, or start it again.
    Toggle(usize),
}

/// What was typed so far.
#[derive(Debug, Default)]
pub struct Line(String);

impl Line {
    /// One more key; gives the order that it completes.
    pub fn key(&mut self, key: u8) -> Option<Order> {
        match (self.0.as_str(), key) {
            (_, b'q' | b'Q') => return Some(Order::Quit),
            (_, b'k' | b'K') => self.0 = "k".to_owned(),
            ("k", b'0'..=b'9') => {
                self.0.clear();
                return Some(Order::Toggle(usize::from(key - b'0')));
            }
            ("k", b' ') => {}
            // Whatever else is no order: begin anew.
            _ => self.0.clear(),
        }
        None
    }

    /// For the screen.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl Terminal {
    /// Takes the screen, if there is one: stdout is a terminal.
    pub fn open() -> Option<Self> {
        if !io::stdout().is_terminal() {
            return None;
        }
        print(ENTER);
        Some(Self { before: take_keys() })
    }

    /// Keys as they are pressed; `None`: there are none to be had.
    pub fn keys(&self) -> Option<Receiver<u8>> {
        self.before?;
        let (keys, pressed) = bounded(KEYS_MAX);
        // Reads until the process ends: nothing else wakes a read of a terminal.
        let reader = thread::Builder::new().name("keys".to_owned()).spawn(move || {
            let mut key = [0];
            while io::stdin().read_exact(&mut key).is_ok() && keys.send(key[0]).is_ok() {}
        });
        reader.is_ok().then_some(pressed)
    }

    /// Shows a frame in the place of the last one.
    pub fn show(&self, frame: &str) {
        let mut text = "\x1b[H".to_owned();
        for line in frame.lines() {
            text.push_str(line);
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        print(&text);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // SAFETY: `before` is what tcgetattr has written for the same descriptor.
            unsafe { libc::tcsetattr(io::stdin().as_raw_fd(), libc::TCSANOW, before) };
        }
        print(LEAVE);
    }
}

fn print(text: &str) {
    // A terminal that went away has nobody before it.
    let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
}

/// Keys without Enter and without echo; Ctrl-C stays a signal.
fn take_keys() -> Option<libc::termios> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return None;
    }
    let mut settings = std::mem::MaybeUninit::<libc::termios>::uninit();
    // SAFETY: tcgetattr writes a whole termios where it returns 0, and only then it is read.
    let before = unsafe {
        if libc::tcgetattr(stdin.as_raw_fd(), settings.as_mut_ptr()) != 0 {
            return None;
        }
        settings.assume_init()
    };
    let mut now = before;
    now.c_lflag &= !(libc::ICANON | libc::ECHO);
    // SAFETY: a whole termios for a descriptor that is open.
    let is_set = unsafe { libc::tcsetattr(stdin.as_raw_fd(), libc::TCSANOW, &now) } == 0;
    is_set.then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, expected: &[Order]) {
        let mut line = Line::default();
        let orders: Vec<Order> = typed.bytes().filter_map(|key| line.key(key)).collect();
        assert_eq!(orders, expected, "{typed:?}");
    }

    #[test]
    fn an_order_is_typed_without_enter() {
        check("q", &[Order::Quit]);
        check("k2", &[Order::Toggle(2)]);
        check("k 2\nk0", &[Order::Toggle(2), Order::Toggle(0)]);
        check("2", &[]);
        check("kx2", &[]);
        check("kk1", &[Order::Toggle(1)]);
        check("\x1b[A", &[]);
    }
}
