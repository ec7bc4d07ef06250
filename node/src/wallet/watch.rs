//! A viewer without a screen: joins by WHEP, pays each cadence, says what arrives.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ::wallet::{OpenPool, Output, Payer, PoolError, REPORT_EVERY, Stop};
use anyhow::bail;
use chain_types::{Balance, ChannelId, Frame, LaneState, SignedVoucher, StreamId};
use serde_json::json;

use self::{
    courier::{Courier, Errand, News},
    join::{Joined, Paying, join, leave},
    media::Media,
    peer::{Peer, Seen},
    show::{Show, Sight},
    signer::{Signed, Signer, Task},
};
use super::{
    Surroundings,
    args::{PayBy, WatchArgs},
    sut,
};
use crate::now_ms;

mod courier;
mod join;
mod media;
mod peer;
mod show;
mod signer;

/// A connection that is not there by then will not come.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// Posts in a row that may fail.
const TROUBLE_MAX: u32 = 5;
/// How long a session that ends waits for the relay to take what was signed.
const LAST_WORDS_MAX: Duration = Duration::from_secs(3);
/// Frames that wait for their way to the relay; beyond it the oldest are dropped: a newer voucher
/// says all that they said.
const WAITING_MAX: usize = 16;

/// Why the session ends.
enum End {
    /// As long as was asked for, or until Ctrl-C.
    Done,
    /// The payer's reason.
    Stop(Stop),
    /// The transport's or the relay's.
    Gone(String),
}

/// Times of the session's own.
struct Clocks {
    began: Instant,
    /// When frames are posted even if there are none: the answer has the relay's.
    post: Instant,
    report: Instant,
    reported_ms: u64,
}

/// Paying while media flows.
struct Running {
    payer: Payer,
    /// `None`: the session is over, and the pool is [`Session::keep`]'s.
    signer: Option<Signer>,
    channel: ChannelId,
    /// The newest, to be sent again.
    last: SignedVoucher,
    signed_before: Balance,
    /// Of the pool, by all sessions.
    signed: Balance,
    left: Balance,
}

impl Running {
    fn new(paying: Paying, stream: StreamId) -> Self {
        let Paying { payer, pool, last, signed_before } = paying;
        let (channel, signed, left) =
            (pool.pool().channel, pool.pool().signed(), pool.pool().left());
        let signer = Some(Signer::new(pool, stream));
        Self { payer, signer, channel, last, signed_before, signed, left }
    }

    fn sign(&self, task: Task) {
        if let Some(signer) = &self.signer {
            signer.send(task);
        }
    }

    /// What was signed in this session.
    fn paid(&self) -> Balance {
        self.signed.saturating_sub(self.signed_before)
    }
}

struct Session<'a> {
    args: &'a WatchArgs,
    stream: StreamId,
    clocks: Clocks,
    show: Show,
    peer: Peer,
    courier: Courier,
    paying: Option<Running>,
    media: Media,
    /// Frames for the relay.
    waiting: Vec<Vec<u8>>,
    /// Frames from the relay.
    heard: Vec<Frame>,
    transport: Transport,
    troubles: u32,
    is_held: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Connecting,
    Connected,
    Closed,
}

/// `wallet watch`.
pub fn watch(around: &Surroundings, args: &WatchArgs) -> anyhow::Result<()> {
    let key = around.key()?;
    let stream = around.stream_id(&args.stream)?;
    let chain = around.chain()?;
    let interrupted = on_interrupt();
    let began = Instant::now();
    let by_channel = args.pay_by == PayBy::Channel;
    let Joined { peer, session: url, paying, payee } =
        join(around, args, &chain, &key, stream, by_channel)?;
    let show = Show::new(args.json, began);
    show.event(Instant::now(), "joined", json!({ "message": url.to_string() }));
    let mut session = Session {
        args,
        stream,
        clocks: Clocks { began, post: began, report: began + REPORT_EVERY, reported_ms: now_ms() },
        show,
        peer,
        courier: Courier::new(url.join("/pay"), chain.clone(), stream, payee),
        paying: paying.map(|paying| Running::new(paying, stream)),
        media: Media::new(began),
        waiting: Vec::new(),
        heard: Vec::new(),
        transport: Transport::Connecting,
        troubles: 0,
        is_held: false,
    };
    let end = session.run(&interrupted);
    let pool = session.last_words(end.as_ref().ok())?;
    session.peer.close();
    leave(&url);
    session.keep(pool, end.as_ref().ok())?;
    if let Some(paying) = &session.paying {
        let ledger = around.pools(&chain)?.ledger();
        if paying.payer.got_nothing() {
            ledger.note_nothing_sent(&payee, now_ms())?;
        } else if session.media.packets > 0 {
            ledger.note_served(&payee)?;
        }
    }
    session.conclude(end?)
}

/// Set at Ctrl-C, so that the session is ended and not left to time out.
fn on_interrupt() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&flag);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // Without a runtime Ctrl-C ends the process as ever, and the relay notices by itself.
        if let Ok(runtime) = runtime
            && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
        {
            told.store(true, Ordering::Relaxed);
        }
    });
    flag
}

impl Session<'_> {
    fn run(&mut self, interrupted: &AtomicBool) -> anyhow::Result<End> {
        loop {
            let now = Instant::now();
            if interrupted.load(Ordering::Relaxed) || self.is_enough(now) {
                return Ok(End::Done);
            }
            self.hold_and_release(now);
            self.count_media(now);
            if let Some(end) = self.listen(now) {
                return Ok(end);
            }
            if let Some(end) = self.pay(now)? {
                return Ok(end);
            }
            self.report(now);
            self.send(now)?;
            match self.transport {
                Transport::Closed => {
                    return Ok(End::Gone("the relay closed the connection".to_owned()));
                }
                Transport::Connecting if now > self.clocks.began + CONNECT_MAX => {
                    let message = "no connection: does UDP reach the relay?";
                    return Ok(End::Gone(message.to_owned()));
                }
                Transport::Connecting | Transport::Connected => {}
            }
            let sight = self.sight();
            self.show.tick(now, &sight);
            self.wait()?;
        }
    }

    fn is_enough(&self, now: Instant) -> bool {
        let is_over = |seconds| now >= self.clocks.began + Duration::from_secs(seconds);
        self.args.seconds.is_some_and(is_over)
            || self.args.frames.is_some_and(|frames| self.media.frames >= frames)
    }

    fn hold_and_release(&mut self, now: Instant) {
        let after = |seconds: u64| now >= self.clocks.began + Duration::from_secs(seconds);
        let holds = self.args.stop_paying_after.is_some_and(after)
            && !self.args.resume_after.is_some_and(after);
        let Some(paying) = &mut self.paying else { return };
        if holds == std::mem::replace(&mut self.is_held, holds) {
            return;
        }
        if holds {
            paying.payer.hold();
        } else {
            paying.payer.release(now);
        }
        self.show.event(now, if holds { "held" } else { "released" }, json!({}));
    }

    fn count_media(&mut self, now: Instant) {
        let (ms, bytes) = self.media.take();
        if let Some(paying) = &mut self.paying {
            paying.payer.handle_media(now, ms, bytes);
        }
    }

    /// What the relay said since the last time.
    fn listen(&mut self, now: Instant) -> Option<End> {
        while let Some(news) = self.courier.news() {
            match news {
                News::Frames(frames) => {
                    self.troubles = 0;
                    self.heard.extend(frames);
                }
                News::Facts(facts) => {
                    if let Some(paying) = &mut self.paying {
                        paying.payer.handle_chain(*facts);
                    }
                }
                News::Gone(message) => return Some(End::Gone(message)),
                News::Trouble(message) => {
                    self.troubles += 1;
                    if self.troubles > TROUBLE_MAX {
                        return Some(End::Gone(message));
                    }
                    self.show.event(now, "trouble", json!({ "message": message }));
                }
            }
        }
        for frame in std::mem::take(&mut self.heard) {
            if let Frame::Error { code, message } = &frame {
                let message = message.as_str();
                self.show.event(now, "relay", json!({ "code": code, "message": message }));
            }
            if let Frame::GateNotice { open, reason } = &frame {
                let message = format!("{} ({reason:?})", if *open { "open" } else { "closed" });
                self.show.event(now, "gate", json!({ "open": open, "message": message }));
            }
            match (&mut self.paying, frame) {
                (Some(paying), frame) => paying.payer.handle_frame(now, frame),
                (None, Frame::Error { code, message }) if code >= 4000 => {
                    return Some(End::Gone(message));
                }
                (None, _) => {}
            }
        }
        None
    }

    /// What the payer wants done.
    fn pay(&mut self, now: Instant) -> anyhow::Result<Option<End>> {
        let Some(paying) = &mut self.paying else { return Ok(None) };
        paying.payer.handle_timeout(now);
        while let Some(output) = paying.payer.poll() {
            match output {
                Output::Bind(bind) => paying.sign(Task::Bind(bind)),
                Output::Pay { voucher, basis } => paying.sign(Task::Pay(voucher, basis)),
                Output::Resend => {
                    self.waiting.push(Frame::Voucher(Box::new(paying.last)).encode());
                }
                Output::Raise(known) => paying.sign(Task::Raise(known)),
                Output::AskChain => self.courier.send(Errand::Chain),
                Output::Declined(stop) => {
                    let message = stop.to_string();
                    self.show.event(now, "declined", json!({ "message": message }));
                }
                Output::Stop(stop) => return Ok(Some(End::Stop(stop))),
            }
        }
        while let Some(done) = paying.signer.as_ref().and_then(Signer::done) {
            let Signed { frame, room, signed, left } = match done {
                Ok(done) => done,
                Err(PoolError::Room(limit)) => return Ok(Some(End::Stop(Stop::Room(limit)))),
                Err(error) => return Err(error.into()),
            };
            paying.payer.set_room(room);
            (paying.signed, paying.left) = (signed, left);
            if let Some(Frame::Voucher(voucher)) = &frame {
                paying.last = **voucher;
            }
            self.waiting.extend(frame.map(|frame| frame.encode()));
        }
        let surplus = self.waiting.len().saturating_sub(WAITING_MAX);
        self.waiting.drain(..surplus);
        Ok(None)
    }

    fn report(&mut self, now: Instant) {
        let Some(paying) = self.paying.as_mut().filter(|_| now >= self.clocks.report) else {
            return;
        };
        self.clocks.report = now + REPORT_EVERY;
        let from_ms = std::mem::replace(&mut self.clocks.reported_ms, now_ms());
        let report = paying.payer.report(self.media.report(from_ms, self.clocks.reported_ms));
        paying.sign(Task::Report(Box::new(report)));
    }

    fn send(&mut self, now: Instant) -> anyhow::Result<()> {
        let Some(paying) = &self.paying else { return Ok(()) };
        match self.args.pay_by {
            PayBy::Channel => {
                let mut sent = 0;
                for frame in &self.waiting {
                    if !self.peer.send(frame)? {
                        break;
                    }
                    sent += 1;
                }
                self.waiting.drain(..sent);
            }
            PayBy::Post if self.courier.is_busy() || self.transport == Transport::Connecting => {}
            PayBy::Post => {
                if !self.waiting.is_empty() || now >= self.clocks.post {
                    // Twice a cadence, so that what is paid is paid on fresh numbers.
                    let cadence_ms = u64::from(paying.payer.terms().cadence_ms);
                    self.clocks.post = now + Duration::from_millis(cadence_ms / 2);
                    self.courier.send(Errand::Frames(std::mem::take(&mut self.waiting)));
                }
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let payer = self.paying.as_ref().and_then(|paying| paying.payer.deadline());
        let until = payer.into_iter().fold(self.show.due(), Instant::min);
        let Self { peer, media, transport, heard, .. } = self;
        peer.wait(until, &mut |seen| match seen {
            Seen::Connected => *transport = Transport::Connected,
            Seen::Closed => *transport = Transport::Closed,
            Seen::Packet(packet) => media.note(Instant::now(), &packet),
            Seen::ChannelOpen => {}
            // What is no frame that we know is to be ignored.
            Seen::Frame(bytes) => heard.extend(Frame::decode(&bytes)),
        })
    }

    fn sight(&self) -> Sight {
        let payer = self.paying.as_ref().map(|paying| &paying.payer);
        let state = match self.transport {
            Transport::Connecting => "connecting",
            Transport::Closed => LaneState::Closed.name(),
            Transport::Connected => payer.map_or("free", |payer| payer.state().name()),
        };
        Sight {
            state: if self.is_held { "held" } else { state },
            paid: self.paying.as_ref().map_or(Balance::ZERO, Running::paid),
            rate: payer.map_or(0, |payer| payer.terms().rate),
            packets: self.media.packets,
            frames: self.media.frames,
            bytes: self.media.bytes,
            served_ms: payer.map_or(0, Payer::served_ms),
        }
    }

    /// What was signed goes to the relay while the session lasts: a close could come before the next.
    fn last_words(&mut self, end: Option<&End>) -> anyhow::Result<Option<OpenPool>> {
        let signer = self.paying.as_mut().and_then(|paying| paying.signer.take());
        let Some((pool, frames)) = signer.map(Signer::finish).transpose()? else { return Ok(None) };
        self.waiting.extend(frames.iter().map(Frame::encode));
        if matches!(end, Some(End::Done | End::Stop(_))) {
            if !self.waiting.is_empty() {
                self.courier.send(Errand::Frames(std::mem::take(&mut self.waiting)));
            }
            self.courier.settle(LAST_WORDS_MAX);
        }
        Ok(Some(pool))
    }

    /// Keeps what arrived since the last voucher. A relay that did not end the session itself, and
    /// may not have heard that we did, has perhaps served on.
    fn keep(&mut self, pool: Option<OpenPool>, end: Option<&End>) -> anyhow::Result<()> {
        self.count_media(Instant::now());
        let in_order = matches!(end, Some(End::Done | End::Stop(_)));
        let (Some(paying), Some(mut pool)) = (&mut self.paying, pool) else { return Ok(()) };
        pool.rest(&paying.payer.received(), in_order)?;
        (paying.signed, paying.left) = (pool.pool().signed(), pool.pool().left());
        Ok(())
    }

    /// The summary, and the reason as an error where it is one.
    fn conclude(&self, end: End) -> anyhow::Result<()> {
        let now = Instant::now();
        let Sight { paid, packets, frames, bytes, served_ms, .. } = self.sight();
        let reason = match end {
            End::Done => None,
            End::Stop(stop) => Some(stop.to_string()),
            End::Gone(message) => Some(message),
        };
        let paying = self.paying.as_ref();
        let seconds = (now - self.clocks.began).as_secs_f64();
        let facts = if self.args.json {
            let runs = self
                .media
                .runs
                .iter()
                .map(|(from, to)| json!([from.as_millis() as u64, to.as_millis() as u64]));
            json!({
                "stream": self.stream,
                "channel": paying.map(|paying| paying.channel),
                "paid": paid,
                "left": paying.map(|paying| paying.left),
                "lane_signed": paying.map(|paying| paying.payer.signed()),
                "served_ms": served_ms,
                "media_ms": self.media.ms(),
                "packets": packets,
                "frames": frames,
                "bytes": bytes,
                "media": runs.collect::<Vec<_>>(),
                "reason": reason,
            })
        } else {
            let left = paying.map_or_else(String::new, |paying| {
                format!(", {} left in the pool", sut(paying.left))
            });
            let message = format!(
                "{} paid{left}; {packets} packets, {frames} frames, {} kB in {seconds:.1} s",
                sut(paid),
                bytes / 1000,
            );
            json!({ "message": message })
        };
        self.show.event(now, "end", facts);
        match reason {
            Some(reason) => bail!("{reason}"),
            None if packets == 0 => {
                bail!("nothing arrived: is the stream live, and does UDP reach the relay?")
            }
            None => Ok(()),
        }
    }
}
