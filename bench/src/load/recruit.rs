//! Threads that join and leave for the clients of a run: HTTP blocks them and nobody else.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::client::{JoinError, JoinWith, Joiner, OnBound, Role};
use crate::pay::Bank;
use crate::sink::Sink;
use crate::viewer::Viewer;
use crate::worker::Command;

/// Joins that wait for an answer at one time.
const RECRUITERS: usize = 4;
/// Label of the channel on which a viewer pays.
const PAY_CHANNEL: &str = chain_types::frame::PAY_CHANNEL_LABEL;

/// What is to be done.
pub enum Errand {
    /// Let this viewer join a stream.
    Join {
        /// Name of the stream.
        stream: String,
        /// Its account.
        viewer: Box<Viewer>,
        /// Which worker is to drive it.
        worker: usize,
    },
    /// `DELETE` this session.
    Leave(String),
}

/// What came of it.
pub enum News {
    /// A viewer is with its worker.
    Joined {
        /// Of the viewer.
        number: usize,
        /// Of the viewer.
        publisher: u16,
        /// Drives it.
        worker: usize,
        /// To be deleted.
        session_path: Option<String>,
    },
    /// The server, or the relay that wants money, said no.
    Refused(String),
    /// It could not even be asked.
    Failed(JoinError),
}

/// The threads' doors; they end when these are dropped.
pub struct Recruiters {
    errands: Vec<Sender<Errand>>,
    news: Receiver<News>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
}

/// What a recruiter needs.
#[derive(Clone)]
pub struct Office {
    /// Speaks to the server.
    pub joiner: Arc<Joiner>,
    /// Hears of viewers that hear.
    pub sink: Option<Arc<dyn Sink>>,
    /// Pays.
    pub bank: Option<Arc<Bank>>,
    /// Drive what has joined.
    pub workers: Vec<Sender<Command>>,
}

impl Recruiters {
    /// Starts them.
    ///
    /// # Errors
    /// No thread.
    pub fn start(office: &Office) -> std::io::Result<Self> {
        let (outbox, news) = channel();
        let (mut errands, mut threads) = (Vec::new(), Vec::new());
        for number in 0..RECRUITERS {
            let (sender, inbox) = channel();
            let (office, outbox) = (office.clone(), outbox.clone());
            let thread = std::thread::Builder::new().name(format!("recruiter-{number}"));
            threads.push(thread.spawn(move || work(&office, &inbox, &outbox))?);
            errands.push(sender);
        }
        Ok(Self { errands, news, threads, next: 0 })
    }

    /// Asks the next of them.
    pub fn send(&mut self, errand: Errand) {
        self.next = (self.next + 1) % self.errands.len();
        // A thread lives as long as these doors, unless a bug of ours ends it: then the viewer never
        // plays, and the verdict says so.
        let _sent = self.errands[self.next].send(errand);
    }

    /// What happened since the last time.
    pub fn news(&self) -> impl Iterator<Item = News> + '_ {
        self.news.try_iter()
    }

    /// Waits for all errands.
    pub fn finish(self) {
        drop(self.errands);
        for thread in self.threads {
            // A panic was printed by the thread itself, and its viewers are missing in the report.
            let _ended = thread.join();
        }
    }
}

fn work(office: &Office, inbox: &Receiver<Errand>, outbox: &Sender<News>) {
    for errand in inbox {
        let news = match errand {
            Errand::Leave(path) => {
                // A server that has forgotten the session already is content as well.
                let _status = office.joiner.leave(&path);
                continue;
            }
            Errand::Join { stream, viewer, worker } => {
                match join(office, &stream, viewer, worker) {
                    Ok(news) => news,
                    Err(refused @ (JoinError::Refused { .. } | JoinError::Paying(_))) => {
                        News::Refused(refused.to_string())
                    }
                    Err(error) => News::Failed(error),
                }
            }
        };
        if outbox.send(news).is_err() {
            return;
        }
    }
}

fn join(
    office: &Office,
    stream: &str,
    viewer: Box<Viewer>,
    worker: usize,
) -> Result<News, JoinError> {
    let sink = office.sink.clone().filter(|_| viewer.hears);
    let mut tell_sink = |local| sink.as_ref().map_or(Ok(()), |sink| sink.hear(local));
    let bound: Option<OnBound<'_>> = Some(&mut tell_sink);
    let mut seat = None;
    let joined = match &office.bank {
        None => {
            let with = JoinWith { bound, ..JoinWith::default() };
            office.joiner.join_with(Role::Viewer, stream, with)?
        }
        Some(bank) => {
            let none = || JoinError::Paying("every pool of this run is in use".to_owned());
            let mut purse = Some(bank.take().ok_or_else(none)?);
            let mut exchange = |offer: &str| {
                let (sdp, path, entered) = bank.enter(stream, offer, &mut purse)?;
                seat = Some(Box::new(entered));
                Ok((sdp, path))
            };
            let with =
                JoinWith { bound, channel: Some(PAY_CHANNEL), exchange: Some(&mut exchange) };
            let joined = office.joiner.join_with(Role::Viewer, stream, with);
            purse.into_iter().for_each(|purse| bank.give_back(purse));
            joined?
        }
    };
    let session_path = joined.session_path.clone();
    let (number, publisher) = (viewer.number, viewer.publisher());
    // A worker that has ended says why when it is joined.
    let _taken = office.workers[worker].send(Command::View(Box::new(joined), viewer, seat));
    Ok(News::Joined { number, publisher, worker, session_path })
}
