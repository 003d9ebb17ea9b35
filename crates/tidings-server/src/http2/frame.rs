//! Frames (RFC 9113, sections 4 and 6): their heads, and those that we send.

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before the payload.
pub const HEAD: usize = 9;
/// The largest payload that a client may send, and the least that it must take.
pub const PAYLOAD_MAX: usize = 16 << 10;
/// Of a window, by the standard.
pub const WINDOW_MAX: i64 = (1 << 31) - 1;
/// The highest number of a stream.
pub const STREAM_MAX: u32 = (1 << 31) - 1;
/// What a window is before anybody says something else.
pub const WINDOW: i64 = 65_535;

/// What a frame is.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub mod flag {
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Why a stream or a connection ends (section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    Refused = 7,
    Compression = 9,
    Calm = 11,
}

/// What a client did wrong ends one stream or everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Stream(u32, Reason),
    Connection(Reason),
}

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Of the payload.
    pub len: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    /// The head at the beginning of `input`, if it is whole.
    pub fn read(input: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD] = input.first_chunk()?;
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        Some(Self { len, kind, flags, stream: u32::from_be_bytes(stream) & STREAM_MAX })
    }

    pub fn is(&self, flag: u8) -> bool {
        self.flags & flag > 0
    }
}

/// Appends a frame's head.
pub fn put_head(out: &mut Vec<u8>, len: usize, kind: u8, flags: u8, stream: u32) {
    let mut head = [0; HEAD];
    head[..3].copy_from_slice(&(len as u32).to_be_bytes()[1..]);
    (head[3], head[4]) = (kind, flags);
    head[5..].copy_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&head);
}

/// Appends a frame.
pub fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    put_head(out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
}

/// Appends a header block in as many frames as it takes. `flags` are those of the first.
pub fn put_block(out: &mut Vec<u8>, stream: u32, flags: u8, block: &[u8]) {
    let (first, mut rest) = block.split_at(block.len().min(PAYLOAD_MAX));
    let end = |rest: &[u8]| if rest.is_empty() { flag::END_HEADERS } else { 0 };
    put(out, kind::HEADERS, flags | end(rest), stream, first);
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(rest.len().min(PAYLOAD_MAX));
        put(out, kind::CONTINUATION, end(behind), stream, part);
        rest = behind;
    }
}

pub fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_head(out, settings.len() * 6, kind::SETTINGS, 0, 0);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub fn put_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    put(out, kind::RST_STREAM, 0, stream, &(reason as u32).to_be_bytes());
}

/// Says that no stream behind `last` is answered.
pub fn put_goaway(out: &mut Vec<u8>, last: u32, reason: Reason) {
    put_head(out, 8, kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&(reason as u32).to_be_bytes());
}

pub fn put_window(out: &mut Vec<u8>, stream: u32, more: u32) {
    put(out, kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
}

/// A payload without what it is padded with (section 6.1).
pub fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], Fault> {
    if !head.is(flag::PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Fault::Connection(Reason::FrameSize))?;
    let len = rest.len().checked_sub(usize::from(padding)).ok_or(Fault::Connection(Reason::Protocol))?;
    Ok(&rest[..len])
}

/// The block in a payload of HEADERS: without padding, without an old form of priority.
pub fn block(head: Head, payload: &[u8]) -> Result<&[u8], Fault> {
    let block = unpadded(head, payload)?;
    if !head.is(flag::PRIORITY) {
        return Ok(block);
    }
    let (priority, block) = block.split_first_chunk::<5>().ok_or(Fault::Connection(Reason::FrameSize))?;
    if is_own_parent(head.stream, priority) { Err(Fault::Connection(Reason::Protocol)) } else { Ok(block) }
}

/// Whether a priority says that a stream depends on itself.
pub fn is_own_parent(stream: u32, priority: &[u8; 5]) -> bool {
    let [a, b, c, d, _] = *priority;
    u32::from_be_bytes([a & 0x7f, b, c, d]) == stream
}

/// A payload that is one number.
pub fn number(payload: &[u8]) -> Result<u32, Fault> {
    let bytes = payload.try_into().map_err(|_| Fault::Connection(Reason::FrameSize))?;
    Ok(u32::from_be_bytes(bytes))
}
