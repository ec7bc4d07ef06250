//! Chance from a seed: the same seed is the same run, on every machine and with every version.

use sha2::{Digest, Sha256};

/// SplitMix64 (Steele, Lea and Flood 2014).
pub struct Chance(u64);

impl Chance {
    /// What `purpose` has of a seed: one more question asked for one purpose changes no other.
    pub fn of(seed: u64, purpose: &str) -> Self {
        let digest = Sha256::digest([&seed.to_be_bytes(), purpose.as_bytes()].concat());
        Self(u64::from_be_bytes(digest[..8].try_into().expect("32 bytes")))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least `low`, below `high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    /// Once in `times`, on average.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.within(0, times) == 0
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.within(0, all.len() as u64) as usize]
    }

    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            all.swap(at, self.within(0, at as u64 + 1) as usize);
        }
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
