//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1): which
//! packets of a transport arrived, with their arrival times.

use super::rtcp::{FMT_TRANSPORT_WIDE, PT_TRANSPORT_FEEDBACK, begin, finish};

/// Sequence numbers remembered; what is older is neither recorded nor reported.
pub const TWCC_WINDOW_PACKETS: usize = 2048;
/// Received packets of one feedback, which keeps it inside a datagram; more go into another one.
const FEEDBACK_RECEIVED_MAX: usize = 200;
const DELTA_TICK_US: u64 = 250;
/// Delta ticks in one unit of the reference time, 64 ms.
const REFERENCE_TICKS: u64 = 256;
const RUN_LENGTH_MAX: usize = 0x1FFF;

const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

const _: () = assert!(TWCC_WINDOW_PACKETS.is_power_of_two());
const _: () = assert!(TWCC_WINDOW_PACKETS <= RUN_LENGTH_MAX, "any run fits one chunk");
const _: () = assert!(TWCC_WINDOW_PACKETS < 1 << 15, "a status count is 16 bits");

/// Remembers arrivals between feedbacks. Allocates at the first packet, not later.
#[derive(Debug, Clone, Default)]
pub struct TwccReceiver {
    /// Arrival in ticks plus one, by extended sequence number modulo its length; 0: not received.
    arrivals: Vec<u64>,
    /// Extended number of the first packet that the next feedback speaks of.
    unreported: u64,
    /// One past the highest extended number seen.
    end: u64,
    feedback_count: u8,
    /// Scratch of [`TwccReceiver::build`].
    statuses: Vec<u8>,
    deltas: Vec<u8>,
}

impl TwccReceiver {
    /// Nothing has arrived yet.
    pub fn new() -> TwccReceiver {
        TwccReceiver::default()
    }

    /// A packet with this transport-wide number arrived. The first arrival of a number counts. A
    /// packet that comes after it was reported missing is reported anew with all that follow it.
    pub fn record(&mut self, sequence: u16, arrival_us: u64) {
        if self.arrivals.is_empty() {
            self.arrivals.resize(TWCC_WINDOW_PACKETS, 0);
            self.statuses.reserve(TWCC_WINDOW_PACKETS);
            self.deltas.reserve(2 * FEEDBACK_RECEIVED_MAX);
            // One cycle up, so that packets older than the first have a number too.
            self.end = (1 << 16) + u64::from(sequence);
            self.unreported = self.end;
        }
        // The extended number nearest to the next one expected.
        let distance = sequence.wrapping_sub(self.end as u16) as i16;
        let Some(extended) = self.end.checked_add_signed(i64::from(distance)) else { return };
        if extended + (TWCC_WINDOW_PACKETS as u64) < self.end {
            return;
        }
        if extended >= self.end {
            let skipped = self.end..=extended;
            for skipped in skipped.take(TWCC_WINDOW_PACKETS) {
                *self.arrival_mut(skipped) = 0;
            }
            self.end = extended + 1;
            let oldest = self.end.saturating_sub(TWCC_WINDOW_PACKETS as u64);
            self.unreported = self.unreported.max(oldest);
        }
        let arrival = self.arrival_mut(extended);
        if *arrival == 0 {
            *arrival = arrival_us / DELTA_TICK_US + 1;
            self.unreported = self.unreported.min(extended);
        }
    }

    /// Appends what is known since the last call, as one RTCP packet or several. `false`, with
    /// nothing appended, when nothing arrived.
    pub fn build(&mut self, sender: u32, media: u32, out: &mut Vec<u8>) -> bool {
        let any = self.unreported < self.end;
        while self.unreported < self.end {
            self.build_one(sender, media, out);
        }
        any
    }

    fn build_one(&mut self, sender: u32, media: u32, out: &mut Vec<u8>) {
        let base = self.unreported;
        let reference = self.collect(base);
        let start = begin(out, FMT_TRANSPORT_WIDE, PT_TRANSPORT_FEEDBACK);
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&media.to_be_bytes());
        out.extend_from_slice(&(base as u16).to_be_bytes());
        out.extend_from_slice(&(self.statuses.len() as u16).to_be_bytes());
        // The reference time has 24 bits and wraps.
        out.extend_from_slice(&(reference as u32).to_be_bytes()[1..]);
        out.push(self.feedback_count);
        self.feedback_count = self.feedback_count.wrapping_add(1);
        write_chunks(&self.statuses, out);
        out.extend_from_slice(&self.deltas);
        finish(out, start);
    }

    /// Fills the scratch with the statuses from `base` on and the deltas of those received, as
    /// many as one feedback holds; returns the reference time.
    fn collect(&mut self, base: u64) -> u64 {
        self.statuses.clear();
        self.deltas.clear();
        let mut reference = 0;
        let mut last_tick = None;
        let mut received = 0;
        // The last packet of the range was received: it made `end` what it is.
        for extended in base..self.end {
            let Some(tick) = self.arrival_mut(extended).checked_sub(1) else {
                self.statuses.push(NOT_RECEIVED);
                continue;
            };
            let last = *last_tick.get_or_insert_with(|| {
                reference = tick / REFERENCE_TICKS;
                reference * REFERENCE_TICKS
            });
            let Ok(delta) = i16::try_from(tick as i64 - last as i64) else {
                break; // Over 8 s apart: the next feedback begins with its own reference time.
            };
            last_tick = Some(tick);
            match u8::try_from(delta) {
                Ok(small) => {
                    self.statuses.push(SMALL_DELTA);
                    self.deltas.push(small);
                }
                Err(_) => {
                    self.statuses.push(LARGE_DELTA);
                    self.deltas.extend_from_slice(&delta.to_be_bytes());
                }
            }
            received += 1;
            if received == FEEDBACK_RECEIVED_MAX {
                break;
            }
        }
        self.unreported = base + self.statuses.len() as u64;
        debug_assert!(!self.statuses.is_empty(), "the first delta always fits");
        reference
    }

    fn arrival_mut(&mut self, extended: u64) -> &mut u64 {
        &mut self.arrivals[extended as usize % TWCC_WINDOW_PACKETS]
    }
}

/// Packet chunks (§3.1.1): a run where it covers at least what a vector would, else a vector.
fn write_chunks(statuses: &[u8], out: &mut Vec<u8>) {
    let mut rest = statuses;
    while let &[first, ..] = rest {
        let run = rest.iter().take_while(|status| **status == first).count();
        let one_bit = rest.iter().take(14).all(|status| *status != LARGE_DELTA);
        let vector = rest.len().min(if one_bit { 14 } else { 7 });
        let (chunk, taken) = if run >= vector {
            (u16::from(first) << 13 | run as u16, run)
        } else if one_bit {
            (
                rest[..vector]
                    .iter()
                    .zip(0..)
                    .fold(0x8000, |chunk, (status, at)| chunk | u16::from(*status) << (13 - at)),
                vector,
            )
        } else {
            (
                rest[..vector].iter().zip(0..).fold(0xC000, |chunk, (status, at)| {
                    chunk | u16::from(*status) << (12 - 2 * at)
                }),
                vector,
            )
        };
        out.extend_from_slice(&chunk.to_be_bytes());
        rest = &rest[taken..];
    }
}

/// What a feedback says in sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TwccCount {
    /// Packets that arrived.
    pub received: u32,
    /// Packets that had not arrived when it was written.
    pub lost: u32,
}

/// Why a feedback body is not one. A peer can cause every variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TwccParseError {
    /// The body ends before the packets it announces are described.
    #[error("feedback body of {body_bytes} bytes is cut short")]
    Truncated {
        /// Bytes from the base sequence number on.
        body_bytes: usize,
    },
    /// Status symbol 3 is reserved.
    #[error("reserved packet status symbol")]
    ReservedStatus,
}

/// Counts the statuses of a feedback; `body` begins at the base sequence number.
pub fn count(body: &[u8]) -> Result<TwccCount, TwccParseError> {
    let truncated = TwccParseError::Truncated { body_bytes: body.len() };
    let (head, mut rest) = body.split_first_chunk::<8>().ok_or(truncated)?;
    let mut left = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let mut symbols = [0usize; 4];
    while left > 0 {
        let (chunk, tail) = rest.split_first_chunk().ok_or(truncated)?;
        rest = tail;
        left -= count_chunk(u16::from_be_bytes(*chunk), left, &mut symbols);
    }
    let [lost, small, large, reserved] = symbols;
    if reserved > 0 {
        return Err(TwccParseError::ReservedStatus);
    }
    if rest.len() < small + 2 * large {
        return Err(truncated);
    }
    // A status count is 16 bits, so each sum fits.
    Ok(TwccCount { received: (small + large) as u32, lost: lost as u32 })
}

/// Adds at most `left` statuses of one chunk to `symbols`; returns how many, at least one.
fn count_chunk(chunk: u16, left: usize, symbols: &mut [usize; 4]) -> usize {
    let (taken, bits) = match chunk >> 14 {
        0b10 => (left.min(14), 1),
        0b11 => (left.min(7), 2),
        _ => {
            let run = usize::from(chunk & 0x1FFF).min(left);
            symbols[usize::from(chunk >> 13)] += run;
            return run;
        }
    };
    for at in 1..=taken {
        let symbol = chunk >> (14 - bits * at) & ((1 << bits) - 1);
        symbols[usize::from(symbol)] += 1;
    }
    taken
}

/// Consecutive packets of which a feedback says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Transport-wide number of the first.
    pub first: u16,
    /// How many, 0 possible.
    pub packets: u16,
    /// Did they arrive?
    pub received: bool,
}

/// Walks the statuses of a feedback; `body` begins at the base sequence number. Ends where the body
/// does; whether it is whole, [`count`] says.
pub fn runs(body: &[u8]) -> Runs<'_> {
    let (head, chunks) = body.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    Runs {
        chunks,
        next: u16::from_be_bytes([head[0], head[1]]),
        left: u16::from_be_bytes([head[2], head[3]]),
        vector: 0,
        symbol_bits: 0,
        symbols_left: 0,
    }
}

/// See [`runs`].
#[derive(Debug, Clone)]
pub struct Runs<'a> {
    chunks: &'a [u8],
    /// Number of the next packet, and how many are left.
    next: u16,
    left: u16,
    /// The status vector that is being read: its symbols, the next one in the topmost bits.
    vector: u16,
    symbol_bits: u32,
    symbols_left: u8,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        if self.left == 0 {
            return None;
        }
        if self.symbols_left == 0 {
            let (chunk, rest) = self.chunks.split_first_chunk()?;
            self.chunks = rest;
            let chunk = u16::from_be_bytes(*chunk);
            (self.symbol_bits, self.symbols_left) = match chunk >> 14 {
                0b10 => (1, 14),
                0b11 => (2, 7),
                _ => return Some(self.take((chunk & 0x1FFF).min(self.left), chunk >> 13)),
            };
            self.vector = chunk << 2;
        }
        let symbol = self.vector >> (16 - self.symbol_bits);
        self.vector <<= self.symbol_bits;
        self.symbols_left -= 1;
        Some(self.take(1, symbol))
    }
}

impl Runs<'_> {
    fn take(&mut self, packets: u16, symbol: u16) -> Run {
        let first = self.next;
        self.next = self.next.wrapping_add(packets);
        self.left -= packets;
        Run { first, packets, received: symbol != u16::from(NOT_RECEIVED) }
    }
}

#[cfg(test)]
mod tests;
