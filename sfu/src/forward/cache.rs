//! The newest packets of a track, for subscribers that lost one.

use super::packet::{Packet, Pool};
use crate::limits::CACHE_PACKETS;

/// Packets by sequence number; a newer one overwrites what is [`CACHE_PACKETS`] older.
#[derive(Debug)]
pub struct Cache {
    slots: Vec<Option<Box<Packet>>>,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { slots: (0..CACHE_PACKETS).map(|_| None).collect() }
    }
}

impl Cache {
    fn index(sequence: u64) -> usize {
        (sequence % CACHE_PACKETS as u64) as usize
    }

    pub fn get(&self, sequence: u64) -> Option<&Packet> {
        self.slots[Self::index(sequence)].as_deref().filter(|packet| packet.sequence == sequence)
    }

    pub fn insert(&mut self, packet: Box<Packet>, pool: &mut Pool) {
        let index = Self::index(packet.sequence);
        if let Some(old) = self.slots[index].replace(packet) {
            pool.give(old);
        }
    }

    pub fn clear(&mut self, pool: &mut Pool) {
        for slot in &mut self.slots {
            if let Some(old) = slot.take() {
                pool.give(old);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u64) -> Box<Packet> {
        let mut packet = Pool::default().take();
        packet.sequence = sequence;
        packet
    }

    #[test]
    fn a_packet_is_found_until_a_newer_one_takes_its_place() {
        let (mut cache, mut pool) = (Cache::default(), Pool::default());
        cache.insert(packet(5), &mut pool);
        assert_eq!(cache.get(5).map(|packet| packet.sequence), Some(5));
        assert!(cache.get(5 + CACHE_PACKETS as u64).is_none(), "same place, other packet");
        cache.insert(packet(5 + CACHE_PACKETS as u64), &mut pool);
        assert!(cache.get(5).is_none());
        assert_eq!(pool.len(), 1, "the overwritten packet went back to the pool");
        cache.clear(&mut pool);
        assert!(cache.get(5 + CACHE_PACKETS as u64).is_none());
        assert_eq!(pool.len(), 2);
    }
}
