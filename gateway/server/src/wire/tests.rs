//! Frames good and bad, and every way to cut them.

use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [7, 0, 255, 9];

/// A frame as a client sends it: the first byte as given, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes()[..], reason].concat())
}

/// Feeds pieces as a session does, keeping what is left over.
#[derive(Default)]
struct Peer {
    rest: Vec<u8>,
    partial: Option<Box<Partial>>,
    reply: Vec<u8>,
    texts: Vec<String>,
    controls: usize,
    over: Option<Over>,
}

impl Peer {
    fn feed(&mut self, piece: &[u8]) -> &mut Self {
        if self.over.is_some() {
            return self;
        }
        self.rest.extend_from_slice(piece);
        let (texts, controls) = (&mut self.texts, &mut self.controls);
        let decoded = decode(&self.rest, &mut self.partial, &mut self.reply, |event| match event {
            Event::Text(text) => texts.push(text.to_owned()),
            Event::Control => *controls += 1,
        });
        self.rest.drain(..decoded.used);
        self.over = decoded.over;
        self
    }
}

fn fed(bytes: &[u8]) -> Peer {
    let mut peer = Peer::default();
    peer.feed(bytes);
    peer
}

fn broken(bytes: &[u8]) -> Option<CloseCode> {
    match fed(bytes).over {
        Some(Over::Broken(code)) => Some(code),
        Some(Over::Client) | None => None,
    }
}

#[test]
fn texts_come_out_as_they_were_sent() {
    let peer = fed(&[frame(0x81, b"one"), frame(0x81, "zwei 😀".as_bytes()), frame(0x81, b"")].concat());
    assert_eq!(peer.texts, ["one", "zwei 😀", ""]);
    assert!(peer.rest.is_empty() && peer.over.is_none() && peer.partial.is_none() && peer.reply.is_empty());
}

#[test]
fn every_cut_of_valid_frames_gives_the_same() {
    let mut bytes = frame(0x01, "é".as_bytes().split_at(1).0);
    bytes.extend(frame(0x89, b"hi"));
    bytes.extend(frame(0x80, "é".as_bytes().split_at(1).1));
    bytes.extend(frame(0x81, &[b'x'; 200]));
    for cut in 0..=bytes.len() {
        let mut peer = fed(&bytes[..cut]);
        peer.feed(&bytes[cut..]);
        assert_eq!(peer.texts, ["é", &"x".repeat(200)], "cut at {cut}");
        assert_eq!(peer.reply, [0x8a, 2, b'h', b'i']);
        assert_eq!((peer.controls, peer.over, peer.partial.is_none()), (1, None, true));
    }
    let mut peer = Peer::default();
    for byte in bytes.chunks(1) {
        peer.feed(byte);
    }
    assert_eq!(peer.texts.len(), 2);
}

#[test]
fn frames_that_break_the_standard_are_protocol_errors() {
    let unmasked = |first: u8| vec![first, 2, b'h', b'i'];
    let bad = [
        ("unmasked text", unmasked(0x81)),
        ("unmasked ping", unmasked(0x89)),
        ("RSV1", frame(0xc1, b"x")),
        ("RSV2", frame(0xa1, b"x")),
        ("RSV3", frame(0x91, b"x")),
        ("ping of 126", frame(0x89, &[0; 126])),
        ("close of 60 KB", frame(0x88, &vec![0; 60_000])),
        ("close of 1", frame(0x88, &[3])),
        ("fragmented ping", frame(0x09, b"x")),
        ("continuation first", frame(0x80, b"x")),
        ("text inside a text", [frame(0x01, b"a"), frame(0x81, b"b")].concat()),
        ("open text inside a text", [frame(0x01, b"a"), frame(0x01, b"b")].concat()),
    ];
    for (what, bytes) in bad {
        assert_eq!(broken(&bytes), Some(CloseCode::Protocol), "{what}");
    }
    for opcode in (3..=7).chain(11..=15) {
        assert_eq!(broken(&frame(0x80 | opcode, b"")), Some(CloseCode::Protocol), "opcode {opcode}");
    }
}

#[test]
fn close_frames_are_answered() {
    let peer = fed(&close(1000, b"bye"));
    assert_eq!((peer.over, &peer.reply[..]), (Some(Over::Client), &[0x88, 5, 3, 0xe8, b'b', b'y', b'e'][..]));
    assert_eq!(fed(&frame(0x88, b"")).reply, [0x88, 0]);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        let peer = fed(&close(code, b""));
        assert_eq!(peer.over, Some(Over::Client), "{code}");
        assert_eq!(peer.reply[2..4], 1002_u16.to_be_bytes(), "{code} is answered with 1002");
    }
    assert_eq!(broken(&close(1000, &[0xff])), Some(CloseCode::InvalidText));
    let late = [frame(0x81, b"a"), close(1000, b""), frame(0x81, b"b")].concat();
    assert_eq!(fed(&late).texts, ["a"], "what follows a close is not read");
}

#[test]
fn binary_frames_are_refused_by_their_head() {
    assert_eq!(broken(&frame(0x82, b"x")), Some(CloseCode::Unsupported));
    assert_eq!(broken(&head(0x02, 60_000)), Some(CloseCode::Unsupported));
}

#[test]
fn text_must_be_utf8() {
    let bad: [&[u8]; 5] = [&[0xff], &[0xc0, 0xaf], &[0xed, 0xa0, 0x80], &[0xf4, 0x90, 0x80, 0x80], &[0xc3]];
    for payload in bad {
        assert_eq!(broken(&frame(0x81, payload)), Some(CloseCode::InvalidText), "{payload:?}");
    }
    let split = [frame(0x01, &[0xc3]), frame(0x80, b"(")].concat();
    assert_eq!(broken(&split), Some(CloseCode::InvalidText));
    assert_eq!(broken(&frame(0x01, &[0xff])), Some(CloseCode::InvalidText), "before the message is whole");
}

#[test]
fn size_is_judged_by_the_head_and_in_total() {
    assert_eq!(fed(&frame(0x81, &vec![b'x'; limit::FRAME_BYTES])).texts.len(), 1);
    for length in [limit::FRAME_BYTES as u64 + 1, 1 << 31, 1 << 32, 1 << 63, u64::MAX] {
        assert_eq!(broken(&head(0x81, length)), Some(CloseCode::TooBig), "{length}");
    }
    let half = vec![b'x'; limit::FRAME_BYTES / 2];
    let whole = [frame(0x01, &half), frame(0x80, &half)].concat();
    assert_eq!(fed(&whole).texts[0].len(), limit::FRAME_BYTES);
    let more = [frame(0x01, &half), frame(0x00, &half), head(0x80, 1)].concat();
    assert_eq!(broken(&more), Some(CloseCode::TooBig));
}

#[test]
fn fragments_are_counted() {
    let message = |count: usize| {
        let mut bytes = frame(0x01, b"");
        (2..count).for_each(|_| bytes.extend(frame(0x00, b"")));
        bytes.extend(frame(0x80, b"end"));
        bytes
    };
    let two = [message(limit::FRAME_FRAGMENTS), message(limit::FRAME_FRAGMENTS)].concat();
    assert_eq!(fed(&two).texts, ["end", "end"], "each message is counted anew");
    assert_eq!(broken(&message(limit::FRAME_FRAGMENTS + 1)), Some(CloseCode::Policy));
    let mut peer = Peer::default();
    peer.feed(&frame(0x01, b"a"));
    for _ in 0..limit::FRAME_FRAGMENTS {
        peer.feed(&frame(0x00, b""));
    }
    assert_eq!(peer.over, Some(Over::Broken(CloseCode::Policy)), "also over many reads");
}

#[test]
fn good_frames_before_a_bad_one_are_delivered() {
    let peer = fed(&[frame(0x81, b"good"), frame(0x82, b"bad")].concat());
    assert_eq!(
        (peer.texts, peer.over),
        (vec!["good".to_owned()], Some(Over::Broken(CloseCode::Unsupported)))
    );
}

#[test]
fn a_context_is_kept_only_while_a_message_is_unfinished() {
    let mut peer = fed(&frame(0x01, b"a"));
    assert!(peer.partial.is_some());
    assert!(peer.feed(&frame(0x80, b"b")).partial.is_none());
    assert_eq!(peer.texts, ["ab"]);
}

#[test]
fn frames_of_the_server_are_read_by_a_client() {
    let mut bytes = Vec::new();
    for length in [0, 125, 126, 65_535, 65_536] {
        encode_text(&"x".repeat(length), &mut bytes);
    }
    encode_close(CloseCode::SlowConsumer, &mut bytes);
    let mut client = WebSocketContext::new(Role::Client, None);
    let mut reply = Vec::new();
    let mut memory = Memory { input: &bytes, reply: &mut reply };
    for length in [0, 125, 126, 65_535, 65_536] {
        assert_eq!(client.read(&mut memory).unwrap().len(), length);
    }
    let Message::Close(Some(close)) = client.read(&mut memory).unwrap() else { panic!("no close") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4002, "slow_consumer"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_no_cut_changes_the_outcome(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        cut in 0..300_usize,
    ) {
        let whole = fed(&bytes);
        let cut = cut.min(bytes.len());
        let mut parts = fed(&bytes[..cut]);
        parts.feed(&bytes[cut..]);
        prop_assert_eq!(whole.texts, parts.texts);
        prop_assert_eq!(whole.over, parts.over);
    }

    #[test]
    fn any_texts_in_any_pieces_come_through(
        texts in proptest::collection::vec(".{0,200}", 1..5),
        size in 1..50_usize,
    ) {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| frame(0x81, text.as_bytes())).collect();
        let mut peer = Peer::default();
        for piece in bytes.chunks(size) {
            peer.feed(piece);
        }
        prop_assert_eq!(peer.texts, texts);
    }
}
