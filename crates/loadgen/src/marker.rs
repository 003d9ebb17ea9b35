//! The marker in every payload: `~T`, 19 digits of nanoseconds, `.`, 8 digits of sequence, `~`.

/// Bytes of a marker.
pub const BYTES: usize = 31;

/// A payload of `size` bytes (31 at least) that begins with its marker.
pub fn payload(size: usize, sent_ns: u64, sequence: u64) -> String {
    let mut text = format!("~T{sent_ns:019}.{sequence:08}~");
    text.extend(std::iter::repeat_n('x', size.saturating_sub(BYTES)));
    text
}

#[inline]
fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then(|| value * 10 + u64::from(digit))
    })
}

/// Calls `found(sent_ns, sequence)` for each whole marker; returns from where bytes must be kept.
#[inline]
pub fn scan(data: &[u8], mut found: impl FnMut(u64, u64)) -> usize {
    let mut at = 0;
    while let Some(begin) = position(&data[at..]).map(|i| at + i) {
        let Some(marker) = data.get(begin..begin + BYTES) else {
            return begin; // may be the start of a marker that is not whole yet
        };
        if marker[1] == b'T'
            && marker[21] == b'.'
            && marker[30] == b'~'
            && let (Some(sent), Some(sequence)) = (digits(&marker[2..21]), digits(&marker[22..30]))
        {
            found(sent, sequence);
            at = begin + BYTES;
        } else {
            at = begin + 1;
        }
    }
    data.len()
}

#[inline]
fn position(data: &[u8]) -> Option<usize> {
    // SAFETY: the pointer and the length describe `data`; what is found lies within it.
    let found = unsafe { libc::memchr(data.as_ptr().cast(), i32::from(b'~'), data.len()) };
    (!found.is_null()).then(|| found as usize - data.as_ptr() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_come_back_and_a_cut_one_is_kept() {
        let text = payload(150, 1_234_567_890_123, 42);
        assert_eq!(text.len(), 150);
        let mut found = vec![];
        assert_eq!(scan(text.as_bytes(), |sent, sequence| found.push((sent, sequence))), 150);
        assert_eq!(found, vec![(1_234_567_890_123, 42)]);
        for cut in 1..BYTES {
            let mut count = 0;
            let keep = scan(&text.as_bytes()[..cut], |_, _| count += 1);
            assert_eq!((count, keep), (0, 0));
        }
        let mut count = 0;
        scan(format!("ab~c{text}{text}").as_bytes(), |_, _| count += 1);
        assert_eq!(count, 2);
    }
}
