//! The conversation: lines in, events out, files both ways.

use std::{
    collections::BTreeMap,
    io::BufRead as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{sync::mpsc, time::timeout};

use super::{Settings, Until, show::Show};
use crate::{
    connection::SendError,
    event::Event,
    files::{self, FileError, FileId, Inbox, Progress, Received, Word},
    framing::{Compression, Kind, Message},
    signal,
    task::Peer,
};

/// Lines that wait. One more waits in the terminal.
const LINES_MAX: usize = 16;
/// Words of a receiver that wait for their transfer. One more is dropped: two are ever due.
const WORDS_MAX: usize = 8;
/// Notices of transfers that wait. One more makes the transfer wait.
const NOTICES_MAX: usize = 64;

/// Typed lines that wait for the network. One more is dropped, and its writer told.
const SAID_MAX: usize = 64;
/// For the last line.
const SAY_WITHIN: Duration = Duration::from_secs(1);

/// What a transfer tells, and what became of a line.
enum Notice {
    Unsaid(SendError),
    Progress { path: PathBuf, progress: Progress },
    Over { to: String, id: FileId, path: PathBuf, result: Result<(), FileError> },
}

/// Talks until the user, a signal or a flag ends it.
pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    let Settings { options, connects, is_json, send, to, receive, until } = settings;
    let mut show = Show::new(is_json);
    let mut lines = read_lines();
    let room = options.membership.room.clone();
    if !connects {
        let node_id = options.membership.key.node_id();
        let found = signal::find(&options.membership.entrance).await?;
        show.found(&node_id, &found.url);
        if !wait_for_join(&mut lines).await? {
            return Ok(());
        }
    }
    let started = Peer::start(options).await;
    let (peer, mut events, driver) = started.context("no socket can be opened")?;
    let (told, mut notices) = mpsc::channel(NOTICES_MAX);
    let (said, mut to_say) = mpsc::channel::<(Option<String>, Message)>(SAID_MAX);
    let (mouth, unsaid) = (peer.clone(), told.clone());
    let speaker = tokio::spawn(async move {
        while let Some((to, message)) = to_say.recv().await {
            if let Err(error) = mouth.send(to.as_deref(), message, Compression::Auto).await {
                drop(unsaid.send(Notice::Unsaid(error)).await);
            }
        }
    });
    let mut chat = Chat {
        peer,
        show,
        room,
        inbox: Inbox::new(receive),
        outgoing: BTreeMap::new(),
        told,
        said,
        send: send.map(|path| (path, to)),
        until,
    };
    let mut has_lines = true;
    let result = loop {
        let step = tokio::select! {
            event = events.recv() => match event {
                Some(event) => chat.handle_event(event).await,
                None => break Ok(()),
            },
            line = lines.recv(), if has_lines => match line {
                Some(line) => chat.handle_line(&line).await,
                // Input that has ended does not end the conversation: it may be a service.
                None => {
                    has_lines = false;
                    Ok(true)
                }
            },
            Some(notice) = notices.recv() => chat.handle_notice(notice),
            signal = asked_to_end() => signal.map(|()| false),
        };
        match step {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let Chat { peer, inbox, said, .. } = chat;
    drop((said, inbox, notices));
    // The last line leaves before the goodbye, if somebody still takes it.
    drop(timeout(SAY_WITHIN, speaker).await);
    peer.close().await;
    // What is still told goes nowhere; the driver must not wait for it.
    drop(events);
    driver.await.context("the peer's task")?;
    result
}

/// Interrupted, or told to by a service manager.
async fn asked_to_end() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("SIGINT"),
        _ = terminate.recv() => Ok(()),
    }
}

/// Lines of standard input, by a thread: a read there cannot be given up.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Whether it is to join.
async fn wait_for_join(lines: &mut mpsc::Receiver<String>) -> anyhow::Result<bool> {
    loop {
        tokio::select! {
            line = lines.recv() => match line.as_deref().map(str::trim) {
                Some("/join") => return Ok(true),
                Some("/quit") | None => return Ok(false),
                Some(_) => {}
            },
            signal = asked_to_end() => return signal.map(|()| false),
        }
    }
}

struct Chat {
    peer: Peer,
    show: Show,
    room: String,
    inbox: Inbox,
    /// Words about files that go out.
    outgoing: BTreeMap<(String, FileId), mpsc::Sender<Word>>,
    told: mpsc::Sender<Notice>,
    said: mpsc::Sender<(Option<String>, Message)>,
    /// The file of `--send` until it goes, and for whom.
    send: Option<(PathBuf, Option<String>)>,
    until: Until,
}

impl Chat {
    /// Whether to go on.
    async fn handle_event(&mut self, event: Event) -> anyhow::Result<bool> {
        match event {
            Event::Joined { transport } => {
                let node_id = self.peer.node_id().to_owned();
                self.show.joined(&node_id, &self.room, &transport.to_string());
            }
            Event::Message { from, name, message } if message.kind == Kind::Control => {
                return Ok(self.handle_control(&from, &name, &message));
            }
            Event::Refused(error) => bail!(error),
            event => {
                self.show.event(&event);
                match &event {
                    Event::Connected { id, name, .. } => self.send_if_for(id, name),
                    Event::Disconnected { id, name, .. } => {
                        // A transfer whose receiver has gone ends with its words.
                        self.outgoing.retain(|(peer, _), _| peer != id);
                        for failed in self.inbox.forget(id) {
                            self.show.received(id, name, &failed);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(true)
    }

    /// Whether to go on.
    fn handle_control(&mut self, from: &str, name: &str, message: &Message) -> bool {
        if let Some(word) = Word::read(message)
            && let Some(words) = self.outgoing.get(&(from.to_owned(), word.id()))
        {
            // Full is a receiver that says more than it has to.
            drop(words.try_send(word));
            return true;
        }
        let (answer, received) = self.inbox.handle(from, message);
        if let Some(word) = answer {
            // In a task: here it would wait for the very events that it has to make room for.
            let (peer, to) = (self.peer.clone(), from.to_owned());
            tokio::spawn(async move {
                // Whoever has gone needs no answer.
                let _told = peer.send(Some(&to), word.message(), Compression::Auto).await;
            });
        }
        if let Some(received) = received {
            self.show.received(from, name, &received);
            let is_whole = matches!(received, Received::Whole { .. });
            return !(is_whole && self.until == Until::Received);
        }
        true
    }

    /// Whether to go on.
    async fn handle_line(&mut self, line: &str) -> anyhow::Result<bool> {
        let line = line.trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" => {}
            "/quit" => return Ok(false),
            "/join" => self.show.notice("notice", "Already in the room."),
            "/peers" => {
                let peers = self.peer.connected().await;
                self.show.peers(&peers);
            }
            "/to" => match rest.trim().split_once(' ') {
                Some((who, text)) => match self.find(who).await {
                    Some(id) => self.say(Some(id), text),
                    None => self.nobody(who),
                },
                None => self.show.notice("notice", "/to PEER TEXT"),
            },
            "/send" => self.send_by_line(rest.trim()).await,
            _ if word.starts_with('/') => {
                let known = "Known: /to PEER TEXT, /send FILE [PEER], /peers, /quit.";
                self.show.notice("notice", known);
            }
            _ => match self.peer.connected().await.is_empty() {
                true => self.show.notice("notice", "Nobody is connected yet: nobody heard that."),
                false => self.say(None, line),
            },
        }
        Ok(true)
    }

    /// In a task, as answers are, but one for all lines: they keep their order.
    fn say(&mut self, to: Option<String>, text: &str) {
        let message = Message::text(Kind::Application, text);
        if self.said.try_send((to, message)).is_err() {
            self.show.notice("notice", "Too much waits to be sent already: this line was dropped.");
        }
    }

    async fn send_by_line(&mut self, rest: &str) {
        // The last word may be a peer; a name with spaces in it is a file's.
        let (file, who) = match rest.rsplit_once(' ') {
            Some((file, who)) if !Path::new(rest).is_file() => (file, Some(who)),
            Some(_) | None => (rest, None),
        };
        if !Path::new(file).is_file() {
            return self.show.notice("notice", &format!("{file} is no file: /send FILE [PEER]"));
        }
        let connected = self.peer.connected().await;
        let id = match who {
            Some(who) => self.find(who).await,
            None => connected.first().map(|(id, _)| id.clone()),
        };
        match id {
            Some(id) => self.send_file(id, PathBuf::from(file)),
            None => self.nobody(who.unwrap_or("anybody")),
        }
    }

    fn nobody(&mut self, who: &str) {
        self.show.notice("notice", &format!("Not connected to {who}: /peers says to whom."));
    }

    /// The connected peer of this id, beginning of an id, or name.
    async fn find(&self, who: &str) -> Option<String> {
        let connected = self.peer.connected().await;
        let found = connected.iter().find(|(id, name)| is_named(who, id, name));
        found.map(|(id, _)| id.clone())
    }

    fn send_if_for(&mut self, id: &str, name: &str) {
        let is_for = |(_, to): &(PathBuf, Option<String>)| {
            to.as_ref().is_none_or(|to| is_named(to, id, name))
        };
        if let Some((path, _)) = self.send.take_if(|send| is_for(send)) {
            self.send_file(id.to_owned(), path);
        }
    }

    fn send_file(&mut self, to: String, path: PathBuf) {
        let id = FileId::new(rand::random());
        let (words, mut heard) = mpsc::channel(WORDS_MAX);
        self.outgoing.insert((to.clone(), id), words);
        let (peer, told) = (self.peer.clone(), self.told.clone());
        tokio::spawn(async move {
            let show = |progress| {
                // One of many: the next shows more.
                drop(told.try_send(Notice::Progress { path: path.clone(), progress }));
            };
            let result = files::send(&peer, &to, &path, id, &mut heard, show).await;
            drop(told.send(Notice::Over { to, id, path, result }).await);
        });
    }

    /// Whether to go on.
    fn handle_notice(&mut self, notice: Notice) -> anyhow::Result<bool> {
        match notice {
            Notice::Unsaid(error) => {
                self.show.notice("notice", &format!("That was not said: {error}."));
                Ok(true)
            }
            Notice::Progress { path, progress } => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                self.show.progress(&name, progress);
                Ok(true)
            }
            Notice::Over { to, id, path, result } => {
                self.outgoing.remove(&(to.clone(), id));
                match &result {
                    Ok(()) => self.show.sent(&to, &path),
                    Err(error) => self.show.not_sent(&to, &path, &error.to_string()),
                }
                match self.until {
                    Until::Sent => {
                        result.with_context(|| format!("{}", path.display())).map(|()| false)
                    }
                    Until::Quit | Until::Received => Ok(true),
                }
            }
        }
    }
}

fn is_named(who: &str, id: &str, name: &str) -> bool {
    !who.is_empty() && (id.starts_with(who) || name == who)
}
