//! Writing down and signing, on a thread of its own: a disk may take its time, media does not wait.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

use ::wallet::{Basis, OpenPool, PoolError, Room};
use anyhow::Context as _;
use chain_types::{Balance, Bind, Frame, QualityReport, SignedVoucher, StreamId, Voucher};

use crate::now_ms;

/// What is to be signed or kept.
pub enum Task {
    Pay(Voucher, Basis),
    Bind(Bind),
    Report(Box<QualityReport>),
    /// A voucher of ours that only the relay knew.
    Raise(Box<SignedVoucher>),
}

/// What was.
pub struct Signed {
    /// For the relay.
    pub frame: Option<Frame>,
    /// What may be signed from now on.
    pub room: Room,
    /// All that the pool has signed, and what is left of it.
    pub signed: Balance,
    pub left: Balance,
}

/// The thread's doors.
pub struct Signer {
    tasks: Sender<Task>,
    done: Receiver<Result<Signed, PoolError>>,
    thread: JoinHandle<OpenPool>,
}

impl Signer {
    /// Takes the pool until [`Signer::finish`].
    pub fn new(mut pool: OpenPool, stream: StreamId) -> Self {
        let (tasks, inbox) = channel();
        let (outbox, done) = channel();
        let thread = thread::spawn(move || {
            for task in inbox {
                if outbox.send(work(&mut pool, &stream, task)).is_err() {
                    break;
                }
            }
            pool
        });
        Self { tasks, done, thread }
    }

    pub fn send(&self, task: Task) {
        // The thread lives as long as these doors.
        let _sent = self.tasks.send(task);
    }

    /// The next result, in the order of the tasks.
    pub fn done(&self) -> Option<Result<Signed, PoolError>> {
        self.done.try_recv().ok()
    }

    /// Waits for what is under way; gives the pool back, and the frames that nobody has seen yet.
    pub fn finish(self) -> anyhow::Result<(OpenPool, Vec<Frame>)> {
        let Self { tasks, done, thread } = self;
        drop(tasks);
        let pool = thread
            .join()
            .map_err(|_| anyhow::anyhow!("the signing thread failed"))
            .context("the pool's sums")?;
        let frames = done.try_iter().filter_map(|done| done.ok()?.frame).collect();
        Ok((pool, frames))
    }
}

fn work(pool: &mut OpenPool, stream: &StreamId, task: Task) -> Result<Signed, PoolError> {
    let frame = match task {
        Task::Pay(voucher, basis) => {
            Some(Frame::Voucher(Box::new(pool.pay(voucher, basis, now_ms())?)))
        }
        Task::Bind(bind) => Some(Frame::Bind(Box::new(pool.bind(bind, None)))),
        Task::Report(report) => {
            let signature = pool.report(&report);
            Some(Frame::QualityReport(report, signature))
        }
        Task::Raise(known) => {
            pool.raise(&known)?;
            None
        }
    };
    let room = pool.room(now_ms(), stream)?;
    Ok(Signed { frame, room, signed: pool.pool().signed(), left: pool.pool().left() })
}
