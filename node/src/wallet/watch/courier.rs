//! Requests that may take a while, on a thread of their own: media goes on meanwhile.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use ::wallet::{
    Chain, ChainFacts,
    http::{Request, Url},
};
use anyhow::Context as _;
use chain_types::{
    AccountId, Frame, StreamId,
    frame::{divide_frames, join_frames},
};

use super::super::said;

/// What is asked.
pub enum Errand {
    /// `POST {session}/pay` with these frames, maybe none.
    Frames(Vec<Vec<u8>>),
    /// What the chain says of stream and relay.
    Chain,
}

/// What came of it.
pub enum News {
    /// The relay's frames.
    Frames(Vec<Frame>),
    /// The chain's word.
    Facts(Box<ChainFacts>),
    /// The session is over.
    Gone(String),
    /// It did not work this time.
    Trouble(String),
}

/// The thread's doors. It ends when they are dropped.
pub struct Courier {
    errands: Sender<Errand>,
    news: Receiver<News>,
    /// Posts that were not answered yet.
    under_way: u32,
}

/// What the chain says of a stream, and of the relay that wants to be paid for it.
pub fn facts(chain: &Chain, stream: StreamId, payee: AccountId) -> anyhow::Result<ChainFacts> {
    Ok(ChainFacts {
        height: chain.height()?,
        stream: chain.stream(&stream)?.context("the chain knows no such stream: check the id")?,
        payee,
        relay_key: chain.relay(&payee)?.map(|relay| relay.relay_key),
        fee_per_voucher: chain.params()?.fee_per_voucher,
    })
}

impl Courier {
    /// Begins. `pay` is where frames go.
    pub fn new(pay: Url, chain: Chain, stream: StreamId, payee: AccountId) -> Self {
        let (errands, inbox) = channel();
        let (outbox, news) = channel();
        let work = move || {
            for errand in inbox {
                let result = match errand {
                    Errand::Frames(frames) => post(&pay, &frames),
                    Errand::Chain => facts(&chain, stream, payee).map(Box::new).map(News::Facts),
                };
                let told = result.unwrap_or_else(|error| News::Trouble(format!("{error:#}")));
                if outbox.send(told).is_err() {
                    return;
                }
            }
        };
        thread::spawn(work);
        Self { errands, news, under_way: 0 }
    }

    /// Whether a post waits for its answer: the next one goes afterwards, with what came meanwhile.
    pub fn is_busy(&self) -> bool {
        self.under_way > 0
    }

    pub fn send(&mut self, errand: Errand) {
        self.under_way += u32::from(matches!(errand, Errand::Frames(_)));
        // The thread lives as long as these doors.
        let _sent = self.errands.send(errand);
    }

    /// Waits until no post is under way, so long at most.
    pub fn settle(&mut self, most: Duration) {
        let until = Instant::now() + most;
        while self.is_busy() {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(news) = self.news.recv_timeout(left) else { return };
            self.note(&news);
        }
    }

    pub fn news(&mut self) -> Option<News> {
        let news = self.news.try_recv().ok()?;
        self.note(&news);
        Some(news)
    }

    fn note(&mut self, news: &News) {
        match news {
            News::Facts(_) => {}
            News::Frames(_) | News::Gone(_) | News::Trouble(_) => {
                self.under_way = self.under_way.saturating_sub(1);
            }
        }
    }
}

fn post(pay: &Url, frames: &[Vec<u8>]) -> anyhow::Result<News> {
    let headers = [("Content-Type", "application/octet-stream")];
    let body = join_frames(frames.iter().map(Vec::as_slice));
    let answer = pay.send(Request { method: "POST", headers: &headers, body: &body })?;
    match answer.status {
        200 => {
            let frames = divide_frames(&answer.body).context("the relay's answer is cut")?;
            // What is no frame that we know is to be ignored.
            Ok(News::Frames(frames.into_iter().flat_map(Frame::decode).collect()))
        }
        402 | 404 | 410 => Ok(News::Gone(said(&answer))),
        status => anyhow::bail!("{pay}: status {status}, {}", said(&answer)),
    }
}
