//! WebSocket frames, without a socket: whole frames are found, checked against our limits, and given to a tungstenite
//! context that lives for one read, or, boxed, until a fragmented message is finished.
//!
//! Tungstenite judges masks, control frames, UTF-8 and close codes. Total size, the number of fragments and the kind
//! of frame are judged here, from the head of a frame, before any of its bytes are kept.

use std::io::{self, Cursor, Read, Write};

use herenow_protocol::code::CloseCode;
use herenow_protocol::limit;
use tungstenite::error::Error;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Message, Utf8Bytes};

/// Most bytes of a client's frame on the wire: the payload and the longest head.
pub(crate) const WIRE_FRAME_BYTES: usize = limit::FRAME_BYTES + 14;

/// What was found in the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A whole text, its fragments joined.
    Text(&'a str),
    /// A ping or a pong; the answer to a ping is already written.
    Control,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The other side closed; the answer is already written.
    Client,
    /// It broke a rule.
    Broken(CloseCode),
}

/// How far the bytes were understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// Bytes that are done with; the rest is the start of a frame.
    pub(crate) used: usize,
    /// Given when the connection is over.
    pub(crate) over: Option<Over>,
}

/// A message of which only some fragments have arrived.
#[derive(Debug)]
pub(crate) struct Partial {
    context: WebSocketContext,
    fragments: Fragments,
}

#[derive(Clone, Copy, Debug, Default)]
struct Fragments {
    count: usize,
    bytes: usize,
}

impl Fragments {
    const fn open(self) -> bool {
        self.count > 0
    }
}

/// Reads all whole frames at the front of `input`. Answers to pings and closes are appended to `reply`.
pub(crate) fn decode(
    input: &[u8],
    partial: &mut Option<Box<Partial>>,
    reply: &mut Vec<u8>,
    mut on: impl FnMut(Event<'_>),
) -> Decoded {
    let mut fragments = partial.as_ref().map_or_else(Fragments::default, |p| p.fragments);
    let scan = scan(input, &mut fragments);
    if scan.whole == 0 {
        return Decoded { used: 0, over: scan.broken.map(Over::Broken) };
    }
    let mut memory = Memory { input: &input[..scan.whole], reply };
    let over = if let Some(kept) = partial {
        let over = run(&mut kept.context, &mut memory, &mut on);
        kept.fragments = fragments;
        over
    } else {
        let mut context = WebSocketContext::new(Role::Server, Some(context_config(scan.whole)));
        let over = run(&mut context, &mut memory, &mut on);
        if fragments.open() && over.is_none() {
            *partial = Some(Box::new(Partial { context, fragments }));
        }
        over
    };
    if !fragments.open() {
        *partial = None;
    }
    Decoded { used: scan.whole, over: over.or(scan.broken.map(Over::Broken)) }
}

/// A text frame of the server.
pub(crate) fn encode_text(text: &str, out: &mut Vec<u8>) {
    let head = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    // Writing to memory does not fail.
    let _ = head.format(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// A close frame of the server.
pub(crate) fn encode_close(code: CloseCode, out: &mut Vec<u8>) {
    let close = CloseFrame { code: code.number().into(), reason: Utf8Bytes::from_static(code.reason()) };
    let _ = Frame::close(Some(close)).format(out);
}

struct Scan {
    whole: usize,
    broken: Option<CloseCode>,
}

/// Finds the end of the whole frames, up to and with a close frame, and the first frame that breaks a rule.
fn scan(input: &[u8], fragments: &mut Fragments) -> Scan {
    let mut whole = 0;
    loop {
        let mut cursor = Cursor::new(&input[whole..]);
        let (head, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(found)) => found,
            Ok(None) => return Scan { whole, broken: None },
            Err(_) => return Scan { whole, broken: Some(CloseCode::Protocol) },
        };
        let mut after = *fragments;
        let length = match judge(&head, length, &mut after) {
            Ok(length) => length,
            Err(code) => return Scan { whole, broken: Some(code) },
        };
        let head_bytes = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        if input.len() - whole - head_bytes < length {
            return Scan { whole, broken: None };
        }
        whole += head_bytes + length;
        *fragments = after;
        if head.opcode == OpCode::Control(Control::Close) {
            return Scan { whole, broken: None };
        }
    }
}

/// Judges a frame by its head.
fn judge(head: &FrameHeader, length: u64, fragments: &mut Fragments) -> Result<usize, CloseCode> {
    if head.mask.is_none() || head.rsv1 || head.rsv2 || head.rsv3 {
        return Err(CloseCode::Protocol);
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    match head.opcode {
        OpCode::Control(_) if !head.is_final || length > 125 => Err(CloseCode::Protocol),
        OpCode::Control(_) => Ok(length),
        OpCode::Data(Data::Text) if fragments.open() => Err(CloseCode::Protocol),
        OpCode::Data(Data::Continue) if !fragments.open() => Err(CloseCode::Protocol),
        OpCode::Data(Data::Text | Data::Continue) => {
            fragments.add(head.is_final, length)?;
            Ok(length)
        }
        OpCode::Data(Data::Binary) => Err(CloseCode::Unsupported),
        OpCode::Data(Data::Reserved(_)) => Err(CloseCode::Protocol),
    }
}

impl Fragments {
    fn add(&mut self, last: bool, length: usize) -> Result<(), CloseCode> {
        self.bytes = self.bytes.saturating_add(length);
        self.count += 1;
        if self.bytes > limit::FRAME_BYTES {
            return Err(CloseCode::TooBig);
        }
        if self.count > limit::FRAME_FRAGMENTS {
            return Err(CloseCode::Policy);
        }
        if last {
            *self = Self::default();
        }
        Ok(())
    }
}

fn context_config(whole: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(whole.clamp(64, 16 * 1024))
        .write_buffer_size(0)
        .max_message_size(Some(limit::FRAME_BYTES))
        .max_frame_size(Some(limit::FRAME_BYTES))
}

fn run(
    context: &mut WebSocketContext,
    memory: &mut Memory<'_>,
    on: &mut impl FnMut(Event<'_>),
) -> Option<Over> {
    let mut closed = false;
    loop {
        match context.read(memory) {
            Ok(Message::Text(text)) => on(Event::Text(&text)),
            Ok(Message::Ping(_) | Message::Pong(_)) => on(Event::Control),
            Ok(Message::Close(_)) => closed = true,
            Ok(Message::Binary(_) | Message::Frame(_)) => return Some(Over::Broken(CloseCode::Unsupported)),
            Err(Error::Io(why)) if why.kind() == io::ErrorKind::WouldBlock => {
                return closed.then_some(Over::Client);
            }
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Some(Over::Client),
            Err(Error::Utf8(_)) => return Some(Over::Broken(CloseCode::InvalidText)),
            Err(Error::Capacity(_)) => return Some(Over::Broken(CloseCode::TooBig)),
            Err(_) => return Some(Over::Broken(CloseCode::Protocol)),
        }
    }
}

/// The socket as tungstenite sees it: what was read, and where answers go.
struct Memory<'a> {
    input: &'a [u8],
    reply: &'a mut Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(into)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.reply.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
