//! What a receiver reports about one RTP stream (RFC 3550 §6.4.1, appendices A.3 and A.8).

use std::time::Instant;

use crate::wire::rtcp::ReportBlock;

/// Reception statistics of one SSRC.
#[derive(Debug)]
pub struct Reception {
    clock_rate_hz: u32,
    origin: Instant,
    first: Option<u64>,
    highest: u64,
    received: u64,
    reported: (u64, u64),
    /// Sixteenths of a timestamp unit, as in appendix A.8.
    jitter_x16: u64,
    transit: Option<i64>,
    last_sender_report: Option<(u32, Instant)>,
}

impl Reception {
    pub fn new(clock_rate_hz: u32, now: Instant) -> Reception {
        Reception {
            clock_rate_hz,
            origin: now,
            first: None,
            highest: 0,
            received: 0,
            reported: (0, 0),
            jitter_x16: 0,
            transit: None,
            last_sender_report: None,
        }
    }

    pub fn handle_packet(&mut self, sequence: u64, timestamp: u32, now: Instant) {
        self.first = Some(self.first.map_or(sequence, |first| first.min(sequence)));
        self.highest = self.highest.max(sequence);
        self.received += 1;
        let elapsed_us = now.duration_since(self.origin).as_micros() as i64;
        let arrival = elapsed_us.wrapping_mul(i64::from(self.clock_rate_hz)) / 1_000_000;
        let transit = arrival - i64::from(timestamp);
        if let Some(previous) = self.transit {
            let difference = (transit - previous).unsigned_abs();
            // A jump of the timestamp (a wrap, a new source) is no jitter.
            if difference < u64::from(self.clock_rate_hz) {
                self.jitter_x16 = self.jitter_x16 + difference - (self.jitter_x16 + 8) / 16;
            }
        }
        self.transit = Some(transit);
    }

    pub fn handle_sender_report(&mut self, ntp: u64, now: Instant) {
        self.last_sender_report = Some(((ntp >> 16) as u32, now));
    }

    pub fn received_packets(&self) -> u64 {
        self.received
    }

    /// The block of the next report; `None` before the first packet.
    pub fn report(&mut self, ssrc: u32, now: Instant) -> Option<ReportBlock> {
        let expected = self.highest - self.first? + 1;
        let expected_now = expected - self.reported.0;
        let received_now = self.received - self.reported.1;
        self.reported = (expected, self.received);
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0);
        let lost = expected as i64 - self.received as i64;
        let (last_sr, delay) = self.last_sender_report.map_or((0, 0), |(last_sr, at)| {
            (last_sr, now.duration_since(at).as_micros() as u64 * 65_536 / 1_000_000)
        });
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: self.highest as u32,
            jitter: (self.jitter_x16 / 16).min(u64::from(u32::MAX)) as u32,
            last_sr,
            delay_since_last_sr: delay.min(u64::from(u32::MAX)) as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lost_packets_show_in_fraction_and_total() {
        let now = Instant::now();
        let mut reception = Reception::new(90_000, now);
        assert_eq!(reception.report(1, now), None, "nothing came yet");
        for sequence in (100..200).filter(|sequence| sequence % 4 != 1) {
            reception.handle_packet(sequence, 0, now);
        }
        let report = reception.report(1, now).expect("packets came");
        assert_eq!((report.fraction_lost, report.cumulative_lost), (64, 25));
        assert_eq!(report.highest_sequence, 199);
        let report = reception.report(1, now).expect("packets came");
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 25), "nothing new lost");
    }

    #[test]
    fn jitter_follows_uneven_arrival_and_not_a_timestamp_jump() {
        let start = Instant::now();
        let mut reception = Reception::new(90_000, start);
        for frame in 0..1000u32 {
            let late = Duration::from_millis(u64::from(frame % 2) * 2);
            let at = start + Duration::from_millis(u64::from(frame) * 10) + late;
            reception.handle_packet(u64::from(frame), frame * 900, at);
        }
        let jitter = reception.report(1, start).expect("packets came").jitter;
        assert!((170..190).contains(&jitter), "2 ms are 180 units, got {jitter}");
        reception.handle_packet(1000, 4_000_000_000, start + Duration::from_secs(10));
        assert!(reception.report(1, start).expect("packets came").jitter < 190);
    }

    #[test]
    fn the_delay_since_the_last_sender_report_is_in_65536ths() {
        let start = Instant::now();
        let mut reception = Reception::new(48_000, start);
        reception.handle_packet(1, 0, start);
        reception.handle_sender_report(0x0123_4567_89ab_cdef, start);
        let report =
            reception.report(1, start + Duration::from_millis(500)).expect("a packet came");
        assert_eq!((report.last_sr, report.delay_since_last_sr), (0x4567_89ab, 32_768));
    }
}
