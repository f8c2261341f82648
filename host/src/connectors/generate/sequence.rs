//! The synthetic sequence: message `i` is a function of the options, the seed and `i`, and of nothing else.
//!
//! `mix(n)` is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
//! 2014), applied to `n + 1` times its increment. With `r = mix(seed ^ mix(i))`:
//!
//! - **uniform**: key number `r * keys / 2^64`, rounded down.
//! - **sequential**: key number `i mod keys`.
//! - **zipfian**: with the exponent 0.99 of YCSB, by the approximation of Gray et al., "Quickly generating billion-record
//!   synthetic databases" (SIGMOD 1994), from `u = r / 2^64` (its first 53 bits). Rank 0 is the most frequent. Rank `k` is
//!   key number `k * 11400714819323198549 mod keys`: the factor is prime, so that each rank has a key of its own (unless
//!   `keys` is a multiple of it) and frequent keys are not neighbours.
//!
//! The key is `k` and the key number in 15 digits. The value is `value-bytes` letters from `a` to `p`: byte `j` is
//! `a` plus the low half of byte `j mod 8` of `mix(r + j / 8)`, little-endian.

/// How often each key comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Every key alike.
    Uniform,
    /// Few keys often, many keys seldom: by Zipf's law with exponent 0.99.
    Zipfian,
    /// One key after the other, again and again.
    Sequential,
}

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 16;

/// The most keys that a key's 15 digits can tell apart.
pub(super) const KEYS_MAX: u64 = 1_000_000_000_000_000;

const SPREAD: u64 = 11_400_714_819_323_198_549;
const LETTERS: u64 = 0x6161_6161_6161_6161;
const LOW_HALVES: u64 = 0x0f0f_0f0f_0f0f_0f0f;

/// Draws messages by their number.
pub(super) struct Sequence {
    seed: u64,
    keys: u64,
    pick: Pick,
}

enum Pick {
    Uniform,
    Zipfian { ranks: Ranks, step: u64 },
    Sequential,
}

/// The random bits that a message is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    random: u64,
    number: u64,
}

impl Sequence {
    pub fn new(distribution: Distribution, keys: u64, seed: u64) -> Result<Sequence, String> {
        if keys == 0 || keys > KEYS_MAX {
            return Err(format!("`keys` = {keys}, but it is from 1 to {KEYS_MAX}"));
        }
        let pick = match distribution {
            Distribution::Uniform => Pick::Uniform,
            Distribution::Sequential => Pick::Sequential,
            Distribution::Zipfian => Pick::Zipfian {
                ranks: Ranks::new(keys),
                step: SPREAD % keys,
            },
        };
        Ok(Sequence { seed, keys, pick })
    }

    /// What message `i` is made of.
    #[inline]
    pub fn draw(&self, i: u64) -> Draw {
        Draw {
            random: mix(self.seed ^ mix(i)),
            number: i,
        }
    }

    /// The key of a message.
    #[inline]
    pub fn key(&self, draw: Draw) -> [u8; KEY_BYTES] {
        let number = match &self.pick {
            Pick::Sequential => draw.number % self.keys,
            Pick::Uniform => scale(draw.random, self.keys),
            Pick::Zipfian { ranks, step } => {
                let place = ranks.rank(draw.random);
                match place.checked_mul(*step) {
                    Some(product) => product % self.keys,
                    None => (u128::from(place) * u128::from(*step) % u128::from(self.keys)) as u64,
                }
            }
        };
        format_key(number)
    }

    /// Writes the value of a message.
    #[inline]
    pub fn value(&self, draw: Draw, into: &mut [u8]) {
        let (words, tail) = into.as_chunks_mut::<8>();
        let mut at = draw.random;
        for word in words {
            *word = letters(at);
            at = at.wrapping_add(1);
        }
        let length = tail.len();
        tail.copy_from_slice(&letters(at)[..length]);
    }
}

/// Zipf's law with exponent 0.99 over a number of ranks.
struct Ranks {
    count: u64,
    /// The sum of all weights `k^-0.99`; that of the first is 1.
    sum: f64,
    /// The weights of the first two.
    two: f64,
    eta: f64,
}

const EXPONENT: f64 = 0.99;

impl Ranks {
    fn new(count: u64) -> Ranks {
        let (sum, two) = (weights(count), weights(2));
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - EXPONENT)) / (1.0 - two / sum);
        Ranks {
            count,
            sum,
            two,
            eta,
        }
    }

    /// A rank from 0.
    #[inline]
    fn rank(&self, random: u64) -> u64 {
        let u = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let weight = u * self.sum;
        if weight < 1.0 || self.count < 2 {
            return 0;
        }
        if weight < self.two || self.count < 3 {
            return 1;
        }
        // The exponent is 1 / (1 - 0.99) = 100; products are the same on every machine, `powf` is not.
        let base = self.eta * u - self.eta + 1.0;
        let p4 = (base * base) * (base * base);
        let p32 = ((p4 * p4) * (p4 * p4)) * ((p4 * p4) * (p4 * p4));
        let power = (p32 * p32) * p32 * p4;
        ((self.count as f64 * power) as u64).min(self.count - 1)
    }
}

/// The sum of `k^-0.99` for `k` from 1 to `count`: added up, and beyond some number by the Euler-Maclaurin formula.
fn weights(count: u64) -> f64 {
    const ADDED: u64 = 10_000;
    let added: f64 = (1..=count.min(ADDED))
        .map(|k| (k as f64).powf(-EXPONENT))
        .sum();
    if count <= ADDED {
        return added;
    }
    let (from, to) = (ADDED as f64, count as f64);
    let integral = (to.powf(1.0 - EXPONENT) - from.powf(1.0 - EXPONENT)) / (1.0 - EXPONENT);
    let ends = (to.powf(-EXPONENT) - from.powf(-EXPONENT)) / 2.0;
    let slopes = (from.powf(-EXPONENT - 1.0) - to.powf(-EXPONENT - 1.0)) * EXPONENT / 12.0;
    added + integral + ends + slopes
}

#[inline]
fn letters(at: u64) -> [u8; 8] {
    ((mix(at) & LOW_HALVES) + LETTERS).to_le_bytes()
}

#[inline]
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A number below `below` from random bits.
#[inline]
fn scale(random: u64, below: u64) -> u64 {
    ((u128::from(random) * u128::from(below)) >> 64) as u64
}

#[inline]
fn format_key(number: u64) -> [u8; KEY_BYTES] {
    const THIRD: u64 = 100_000;
    let mut key = [b'k'; KEY_BYTES];
    // Three short rows of divisions, which do not wait for each other, take less time than a long one.
    let thirds = [
        number / THIRD / THIRD,
        number / THIRD % THIRD,
        number % THIRD,
    ];
    for (third, digits) in thirds.into_iter().zip(key[1..].chunks_exact_mut(5)) {
        let mut rest = third as u32;
        for place in digits.iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn keys(distribution: Distribution, keys: u64, count: u64) -> Vec<String> {
        let sequence = Sequence::new(distribution, keys, 7).unwrap();
        let key = |i| String::from_utf8(sequence.key(sequence.draw(i)).to_vec()).unwrap();
        (0..count).map(key).collect()
    }

    /// What jobs resume in: it must not change.
    #[test]
    fn the_sequence_is_frozen() {
        assert_eq!(
            keys(Distribution::Sequential, 2, 3),
            ["k000000000000000", "k000000000000001", "k000000000000000"]
        );
        assert_eq!(keys(Distribution::Uniform, 1000, 3), UNIFORM);
        assert_eq!(keys(Distribution::Zipfian, 1000, 5), ZIPFIAN);
        let sequence = Sequence::new(Distribution::Uniform, 10, 7).unwrap();
        let mut value = [0; 19];
        sequence.value(sequence.draw(0), &mut value);
        assert_eq!(String::from_utf8_lossy(&value), VALUE);
    }

    const UNIFORM: [&str; 3] = ["k000000000000437", "k000000000000477", "k000000000000521"];
    const ZIPFIAN: [&str; 5] = [
        "k000000000000137",
        "k000000000000882",
        "k000000000000274",
        "k000000000000549",
        "k000000000000587",
    ];
    const VALUE: &str = "obefjffgjimhilfhejb";

    #[test]
    fn zipfian_keys_follow_the_law_and_uniform_keys_do_not() {
        let count = |distribution| {
            let mut counts = HashMap::new();
            for key in keys(distribution, 1000, 100_000) {
                *counts.entry(key).or_insert(0_u32) += 1;
            }
            let mut counts: Vec<u32> = counts.into_values().collect();
            counts.sort_unstable_by(|a, b| b.cmp(a));
            counts
        };
        let zipfian = count(Distribution::Zipfian);
        // The first rank has 1 / sum(k^-0.99) = 13 % of the messages, the second half of it.
        assert!((12_000..15_000).contains(&zipfian[0]), "{}", zipfian[0]);
        assert!((5_500..7_500).contains(&zipfian[1]), "{}", zipfian[1]);
        let uniform = count(Distribution::Uniform);
        assert_eq!(uniform.len(), 1000);
        assert!(uniform[0] < 160, "{}", uniform[0]);
    }

    #[test]
    fn weights_add_up_beyond_what_is_added() {
        let exact: f64 = (1..=50_000).map(|k| f64::from(k).powf(-0.99)).sum();
        assert!((weights(50_000) - exact).abs() < 1e-10);
        for count in [1, 2, 3] {
            let ranks = Ranks::new(count);
            let drawn: Vec<u64> = (0..1000).map(|i| ranks.rank(mix(i))).collect();
            assert_eq!(drawn.iter().max(), Some(&(count - 1)));
            assert_eq!(drawn.iter().min(), Some(&0));
        }
        let top = Ranks::new(KEYS_MAX).rank(u64::MAX);
        assert!(
            (KEYS_MAX - KEYS_MAX / 1000..KEYS_MAX).contains(&top),
            "{top}"
        );
    }

    #[test]
    fn ranks_have_keys_of_their_own() {
        for keys in [1, 2, 3, 10, 1000, 65_536, 99_999] {
            let step = SPREAD % keys;
            let mut seen: Vec<u64> = (0..keys).map(|place| place * step % keys).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len() as u64, keys);
        }
        assert!(Sequence::new(Distribution::Uniform, 0, 0).is_err());
        assert!(Sequence::new(Distribution::Uniform, KEYS_MAX + 1, 0).is_err());
    }
}
