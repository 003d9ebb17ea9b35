//! Changes to an input: flipped bits, odd bytes, cuts, repeats, splices, words of a dictionary.

use crate::random::Random;

/// Longest input that is made.
const BYTES_MAX: usize = 8 << 10;

/// Bytes that mean something to parsers of text, lengths or UTF-8.
const ODD: &[u8] = b"\x00\x01\x09\x0a\x1f \"$*,.:[\\]{}~\x7f\x80\xbf\xc0\xe9\xf0\xff";

/// A changed copy of `base`, with parts of `other` and words of `dictionary` mixed in.
pub fn mutate(random: &mut Random, base: &[u8], other: &[u8], dictionary: &[&[u8]]) -> Vec<u8> {
    let mut input = base.to_vec();
    for _ in 0..=random.below(4) {
        step(random, &mut input, other, dictionary);
    }
    input.truncate(BYTES_MAX);
    input
}

fn step(random: &mut Random, input: &mut Vec<u8>, other: &[u8], dictionary: &[&[u8]]) {
    let len = input.len();
    let at = random.below(len);
    match random.below(10) {
        0 if len > 0 => input[at] ^= 1 << random.below(8),
        1 if len > 0 => input[at] = *random.pick(ODD),
        2 if len > 0 => input[at] = input[at].wrapping_add([1, 255, 16, 128][random.below(4)]),
        3 => input.truncate(at),
        4 if len > 0 => {
            let end = (at + 1 + random.below(16)).min(len);
            input.drain(at..end);
        }
        5 if len > 0 => {
            // A part repeated often is what finds missing bounds.
            let end = (at + 1 + random.below(32)).min(len);
            let times = 1 << random.below(9);
            let part = input[at..end].repeat(times);
            insert(input, at, &part);
        }
        6 => {
            let from = random.below(other.len());
            let end = (from + 1 + random.below(64)).min(other.len());
            insert(input, at, &other[from..end]);
        }
        7 => {
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len())..]);
        }
        8 if !dictionary.is_empty() => {
            let word = *random.pick(dictionary);
            let end = if random.below(2) == 0 { at } else { (at + word.len()).min(len) };
            input.splice(at..end, word.iter().copied());
        }
        _ => {
            let byte = if random.below(2) == 0 { *random.pick(ODD) } else { random.next() as u8 };
            insert(input, at, &[byte]);
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    let room = BYTES_MAX.saturating_sub(input.len());
    input.splice(at..at, part[..part.len().min(room)].iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_none_is_too_long() {
        let inputs = |seed| {
            let mut random = Random::new(seed);
            let mut input = b"{\"op\":\"ping\"}".to_vec();
            (0..5000)
                .map(|_| {
                    input = mutate(&mut random, &input, b"other", &[b"\"ref\":1"]);
                    input.clone()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
        assert!(inputs(7).iter().all(|input| input.len() <= BYTES_MAX));
    }
}
