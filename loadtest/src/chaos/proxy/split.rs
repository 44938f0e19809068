//! Cuts what a NATS connection carries into pieces that can be lost, doubled or moved one by one. Pure.

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};

/// The longest line that is waited for: the server's greeting has a few hundred bytes for each server of its cluster.
const MAX_LINE: usize = 64 * 1024;
/// The longest payload; NATS takes 1 MiB by default.
const MAX_PAYLOAD: usize = 64 * 1024 * 1024;
const END: &[u8] = b"\r\n";

/// What a piece is to whom disturbs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `PUB`, `HPUB`, `MSG` or `HMSG` with its payload.
    Message {
        /// Where it goes.
        subject: Bytes,
    },
    /// The server's greeting.
    Info,
    /// Any other line: without it a connection makes no sense.
    Other,
}

/// A piece, to the last byte as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    pub(super) bytes: Bytes,
}

/// What is on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::chaos) enum Wire {
    /// Between a client and a server.
    Client,
    /// Between servers: whatever comes is a piece.
    Route,
}

/// Takes bytes as they come, and gives pieces.
#[derive(Debug)]
pub(super) struct Splitter {
    wire: Wire,
    rest: BytesMut,
    /// So many bytes of the rest hold no whole line.
    looked: usize,
    /// The piece that has begun, when its line is whole.
    begun: Option<(Kind, usize)>,
}

impl Splitter {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, rest: BytesMut::new(), looked: 0, begun: None }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The next whole piece.
    ///
    /// # Errors
    /// What came is not NATS.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Piece>> {
        if self.wire == Wire::Route {
            let bytes = self.rest.split().freeze();
            return Ok((!bytes.is_empty()).then_some(Piece { kind: Kind::Other, bytes }));
        }
        if self.begun.is_none() {
            self.begun = self.line()?;
        }
        let whole = self.begun.as_ref().is_some_and(|(_, length)| self.rest.len() >= *length);
        let Some((kind, length)) = whole.then(|| self.begun.take()).flatten() else { return Ok(None) };
        let bytes = self.rest.split_to(length).freeze();
        self.looked = 0;
        ensure!(bytes.ends_with(END), "a payload has another length than its line says");
        Ok(Some(Piece { kind, bytes }))
    }

    /// The kind and the length of the piece that the first line begins, once that line is whole.
    fn line(&mut self) -> anyhow::Result<Option<(Kind, usize)>> {
        let from = self.looked.saturating_sub(END.len() - 1);
        let Some(found) = self.rest[from..].windows(END.len()).position(|pair| pair == END) else {
            self.looked = self.rest.len();
            ensure!(self.looked <= MAX_LINE, "a line of more than {MAX_LINE} bytes");
            return Ok(None);
        };
        let line = &self.rest[..from + found];
        let length = line.len() + END.len();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let verb = words.next().unwrap_or_default();
        let is = |verbs: &[&str]| verbs.iter().any(|known| verb.eq_ignore_ascii_case(known.as_bytes()));
        if is(&["INFO"]) {
            return Ok(Some((Kind::Info, length)));
        }
        if !is(&["PUB", "HPUB", "MSG", "HMSG"]) {
            return Ok(Some((Kind::Other, length)));
        }
        let subject = Bytes::copy_from_slice(words.next().context("a message without a subject")?);
        let size = words.next_back().context("a message without a size")?;
        let Some(size) = std::str::from_utf8(size).ok().and_then(|size| size.parse::<usize>().ok()) else {
            bail!("a message whose size is no number");
        };
        ensure!(size <= MAX_PAYLOAD, "a payload of {size} bytes");
        Ok(Some((Kind::Message { subject }, length + size + END.len())))
    }
}

/// The greeting without the addresses of other servers: a client that learned them would go round its proxy.
///
/// # Errors
/// It is no greeting.
pub(super) fn without_addresses(info: &[u8]) -> anyhow::Result<Bytes> {
    let text = std::str::from_utf8(info)?.trim();
    let (verb, object) = text.split_once(char::is_whitespace).context("a greeting that says nothing")?;
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(object)?;
    object.remove("connect_urls");
    object.remove("ws_connect_urls");
    Ok(Bytes::from(format!("{verb} {}\r\n", serde_json::to_string(&object)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b"INFO {\"port\":1}\r\nPUB a.b 5\r\nab\r\nc\r\nping\r\nHPUB c reply 12 14\r\nNATS/1.0\r\n\r\nhi\r\n\
        MSG d 7 0\r\n\r\nSUB e.> 9\r\nHMSG f 1 r 12 12\r\nNATS/1.0\r\n\r\n\r\n+OK\r\n";

    fn pieces(splitter: &mut Splitter) -> Vec<Piece> {
        std::iter::from_fn(|| splitter.next().unwrap()).collect()
    }

    fn message(subject: &'static str) -> Kind {
        Kind::Message { subject: Bytes::from_static(subject.as_bytes()) }
    }

    #[test]
    fn pieces_are_the_same_wherever_the_bytes_are_cut() {
        let kinds = [
            Kind::Info,
            message("a.b"),
            Kind::Other,
            message("c"),
            message("d"),
            Kind::Other,
            message("f"),
            Kind::Other,
        ];
        for cut in 0..=STREAM.len() {
            let mut splitter = Splitter::new(Wire::Client);
            let mut found = Vec::new();
            for part in [&STREAM[..cut], &STREAM[cut..]] {
                splitter.push(part);
                found.extend(pieces(&mut splitter));
            }
            assert!(found.iter().map(|piece| &piece.kind).eq(&kinds), "cut at {cut}");
            let bytes: Vec<u8> = found.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
            assert_eq!(bytes, STREAM, "cut at {cut}");
        }
    }

    #[test]
    fn bytes_one_by_one_give_the_same_pieces() {
        let mut splitter = Splitter::new(Wire::Client);
        let mut found = Vec::new();
        for byte in STREAM {
            splitter.push(&[*byte]);
            found.extend(pieces(&mut splitter));
        }
        assert_eq!(found.len(), 8);
        assert_eq!(found[1].bytes, "PUB a.b 5\r\nab\r\nc\r\n");
    }

    #[test]
    fn what_is_not_nats_is_an_error() {
        for text in ["PUB a x\r\n", "PUB\r\n", "MSG a\r\n", "PUB a 3\r\nabcdef", "PUB a 99999999999\r\n"] {
            let mut splitter = Splitter::new(Wire::Client);
            splitter.push(text.as_bytes());
            assert!(splitter.next().is_err(), "{text}");
        }
        let mut splitter = Splitter::new(Wire::Client);
        splitter.push(&vec![b'a'; MAX_LINE]);
        assert!(splitter.next().unwrap().is_none());
        splitter.push(b"a");
        assert!(splitter.next().is_err());
    }

    #[test]
    fn a_greeting_loses_the_addresses_of_others_and_nothing_else() {
        let info = b"INFO {\"server_id\":\"x\",\"connect_urls\":[\"10.0.0.1:4222\"],\"headers\":true} \r\n";
        let left = without_addresses(info).unwrap();
        assert_eq!(left, "INFO {\"headers\":true,\"server_id\":\"x\"}\r\n");
        assert!(without_addresses(b"INFO\r\n").is_err());
    }

    #[test]
    fn between_servers_whatever_comes_is_a_piece() {
        let mut splitter = Splitter::new(Wire::Route);
        splitter.push(b"RMSG $G a 3\r\nab");
        assert_eq!(pieces(&mut splitter).len(), 1);
        assert!(pieces(&mut splitter).is_empty());
    }
}
