//! One core's loop: takes what arrived, lets time pass, sends what became ready. Owns everything it
//! touches; what it shares are queues of values.

#[doc(hidden)]
pub mod bench;
mod core;
mod counters;
mod egress;
mod feedback;
mod handshake;
mod ingress;
mod lane;
mod members;
mod routing;
mod side;
mod stream;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use crossbeam_queue::ArrayQueue;

pub use self::core::{Command, Core};
pub use counters::{ShardCounters, ShardSnapshot, StreamSnapshot, TICK_BOUNDS, TickTimes};
pub use lane::{Lane, Lanes};

use self::feedback::Chores;
use self::usage::USAGE_INTERVAL;
use crate::io::Link;
use crate::limits::{COMMANDS_MAX, FRAMES_OUT_PER_TURN_MAX, GATE_COMMANDS_PER_TURN_MAX};
use crate::ports::gate::GateReceiver;
use crate::ports::side_channel::FrameOut;
use crate::ports::{Event, Frame, UsageReport};

/// A shard's ends of the queues to control.
pub struct Ports {
    pub commands: Receiver<Command>,
    pub gates: GateReceiver,
    pub events: Sender<Event>,
    /// One place, newest wins.
    pub snapshots: Arc<ArrayQueue<ShardSnapshot>>,
    /// Set when the process ends without a drain.
    pub stop: Arc<AtomicBool>,
    pub frames: Sender<Frame>,
    pub(crate) frames_out: Receiver<FrameOut>,
    pub usage: Sender<UsageReport>,
}

impl Ports {
    /// What control, the owner of the side channel and whoever decides about gates want. True: there
    /// may be more than a turn takes.
    fn take_orders(&mut self, core: &mut Core) -> bool {
        let mut again = true;
        // Before the commands: a frame that was sent before its session was closed leaves.
        for _ in 0..FRAMES_OUT_PER_TURN_MAX {
            let Ok(frame) = self.frames_out.try_recv() else {
                again = false;
                break;
            };
            core.handle_frame_out(&frame);
        }
        for _ in 0..COMMANDS_MAX {
            let Ok(command) = self.commands.try_recv() else { break };
            core.handle_command(command);
        }
        for _ in 0..GATE_COMMANDS_PER_TURN_MAX {
            let Some(command) = self.gates.pop() else { return again };
            core.handle_gate(command);
        }
        true
    }
}

/// Everything a shard's thread runs with.
pub struct Shard<L: Link> {
    core: Core,
    link: L,
    ports: Ports,
    /// How long a packet may wait for others of its frame, and least time from tick to tick.
    gather: Duration,
    chores: Chores,
    snapshot_at: Instant,
    usage_at: Instant,
    longest_tick: Duration,
    ticks: TickTimes,
}

const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);

impl<L: Link> Shard<L> {
    pub fn new(core: Core, link: L, ports: Ports, gather: Duration) -> Shard<L> {
        let now = core.now;
        let chores = Chores::new(now);
        Shard {
            core,
            link,
            ports,
            gather,
            chores,
            snapshot_at: now,
            usage_at: now,
            longest_tick: Duration::ZERO,
            ticks: TickTimes::default(),
        }
    }

    /// Runs until drained or stopped.
    ///
    /// # Errors
    /// The link's, when the sockets themselves fail.
    pub fn run(mut self) -> std::io::Result<()> {
        loop {
            let tick_began = self.core.now;
            let deadline = self.turn();
            if self.core.draining && self.core.session_count() == 0
                || self.ports.stop.load(Ordering::Relaxed)
            {
                self.tell_control();
                self.link.flush();
                self.publish_snapshot();
                return Ok(());
            }
            // What comes in quick succession, feedback of many viewers above all, is worth one
            // wake-up, not one each.
            if deadline.is_none_or(|deadline| deadline > tick_began) {
                self.link.pause(tick_began + self.gather);
            }
            let (core, ports) = (&mut self.core, &mut self.ports);
            let mut woke_at = None;
            self.link.receive(deadline, &mut |train| {
                if woke_at.is_none() {
                    core.now = Instant::now();
                    woke_at = Some(core.now);
                    // A session's first check follows the answer, and the answer its creation: with
                    // the orders taken first, none comes for a session that is not there yet.
                    ports.take_orders(core);
                }
                core.handle_train(&train);
            })?;
            // Between the wait and here only datagrams were handled.
            self.core.now = woke_at.unwrap_or_else(Instant::now);
        }
    }

    /// Everything but the wait. Returns until when to wait.
    fn turn(&mut self) -> Option<Instant> {
        let started = self.core.now;
        let again = self.ports.take_orders(&mut self.core).then_some(started);
        self.core.handle_lanes();
        self.core.now = Instant::now();
        // Media first; what takes long or may wait comes when it has left.
        let gathered = self.core.fan_out(self.gather, &mut self.link);
        self.core.retransmit(&mut self.link);
        self.link.flush();
        let unfinished = self.core.shake_hands().then_some(started);
        let timers = self.core.handle_timers();
        let chores = self.chores.run(&mut self.core);
        self.core.post(&mut self.link);
        self.link.flush();
        self.core.flush_lanes();
        self.tell_control();
        let now = Instant::now();
        if now >= self.snapshot_at {
            self.snapshot_at = now + SNAPSHOT_INTERVAL;
            self.publish_snapshot();
        }
        if self.core.has_usage() && now >= self.usage_at {
            self.usage_at = now + USAGE_INTERVAL;
            self.report_usage();
        }
        self.count_tick(now.duration_since(started));
        let usage = self.core.has_usage().then_some(self.usage_at);
        let snapshot = self.snapshot_due();
        [again, unfinished, timers, chores, gathered, snapshot, usage].into_iter().flatten().min()
    }

    /// An idle shard has nothing new to show and sleeps on.
    fn snapshot_due(&self) -> Option<Instant> {
        (self.core.session_count() > 0).then_some(self.snapshot_at)
    }

    fn count_tick(&mut self, busy: Duration) {
        let counters = &mut self.core.counters;
        counters.ticks += 1;
        counters.tick_busy_nanoseconds += u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        counters.ticks_over_1ms += u64::from(busy > Duration::from_millis(1));
        counters.ticks_over_10ms += u64::from(busy > Duration::from_millis(10));
        self.longest_tick = self.longest_tick.max(busy);
        self.ticks.note(busy);
    }

    fn report_usage(&mut self) {
        let report = self.core.usage_report();
        if let Err(TrySendError::Full(_)) = self.ports.usage.try_send(report) {
            self.core.counters.usage_reports_dropped += 1;
        }
    }

    fn tell_control(&mut self) {
        while let Some(frame) = self.core.next_frame() {
            if let Err(TrySendError::Full(_)) = self.ports.frames.try_send(frame) {
                self.core.counters.side_dropped_queue_full_frames += 1;
            }
        }
        while let Some(event) = self.core.next_event() {
            match self.ports.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.core.hold_event(event);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    fn publish_snapshot(&mut self) {
        let mut snapshot = self.core.snapshot();
        snapshot.link = *self.link.counters();
        snapshot.ticks = self.ticks.clone();
        let longest = std::mem::take(&mut self.longest_tick);
        snapshot.longest_tick_nanoseconds = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        self.ports.snapshots.force_push(snapshot);
    }
}
