//! WebSocket frames (RFC 6455), as far as text, ping, pong and close go.

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A client's frame: masked, with a key of zeros, which is valid and costs nothing.
pub fn of_client(op: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    head(&mut frame, op, 0x80, payload.len());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Appends a server's frame.
pub fn of_server(out: &mut Vec<u8>, op: u8, payload: &[u8]) {
    head(out, op, 0, payload.len());
    out.extend_from_slice(payload);
}

fn head(out: &mut Vec<u8>, op: u8, mask: u8, len: usize) {
    out.push(0x80 | op);
    if len < 126 {
        out.push(mask | len as u8);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(mask | 126);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(mask | 127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

/// A server's frame at the start of `data`, with how many bytes it takes; `None` if it is not whole.
#[inline]
pub fn first(data: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (begin, len): (usize, usize) = match *data.get(1)? & 127 {
        126 => (4, usize::from(u16::from_be_bytes(data.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(data.get(2..10)?.try_into().ok()?) as usize),
        len => (2, usize::from(len)),
    };
    let payload = data.get(begin..begin.checked_add(len)?)?;
    Some((data[0] & 15, payload, begin + len))
}
