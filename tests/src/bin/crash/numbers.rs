//! Numbers that look random and are the same for the same seed.

use std::time::Duration;

/// One step of SplitMix64: spreads the bits of a number over all of another.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A sequence of numbers that a seed decides.
pub(crate) struct Numbers(u64);

impl Numbers {
    /// The sequence of this seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0) % bound
    }

    /// A time from `least` to `most` milliseconds.
    pub(crate) fn milliseconds(&mut self, least: u64, most: u64) -> Duration {
        // In microseconds, because a commit takes fewer than a millisecond.
        Duration::from_micros(least * 1000 + self.below((most - least) * 1000 + 1))
    }
}
