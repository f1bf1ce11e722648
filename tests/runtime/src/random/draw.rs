//! Chance that can be had again: a generator of numbers by its seed alone, the same on every machine and for ever, so
//! that a seed in an old report still means the same case.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone)]
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw(seed)
    }

    /// The chance of one part of a case. That of each part is its own: a case in which one is left out has the others
    /// as they were.
    pub fn of(seed: u64, part: &str) -> Draw {
        // FNV-1a.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Draw(part.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, hash))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// 0 to `count` - 1.
    pub fn below(&mut self, count: u64) -> u64 {
        self.next() % count.max(1)
    }

    /// Both ends included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low.wrapping_add(self.below(high.abs_diff(low) + 1) as i64)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// Some of the items, each with this chance, in a drawn order.
    pub fn some<T: Clone>(&mut self, items: &[T], percent: u64) -> Vec<T> {
        let mut chosen: Vec<T> = items.iter().filter(|_| self.chance(percent)).cloned().collect();
        for index in (1..chosen.len()).rev() {
            chosen.swap(index, self.below(index as u64 + 1) as usize);
        }
        chosen
    }

    /// A word of `length` letters of `alphabet`.
    pub fn word(&mut self, alphabet: &str, length: u64) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| *self.pick(&letters)).collect()
    }
}
