use std::io::{Read as _, Write as _};

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
use rustls::{
    ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite,
};

use super::*;
use crate::tls::engine::{Broken, Engine};

/// A client and an engine without a wire between them.
struct Wire {
    client: ClientConnection,
    engine: Engine,
    /// What the engine has read, and what the client has.
    text: Vec<u8>,
    heard: Vec<u8>,
}

impl Wire {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let (server, client) = pair(version);
        Self::of(server, client)
    }

    fn of(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> Self {
        let client = ClientConnection::new(client, localhost()).unwrap();
        Self { client, engine: Engine::new(server).unwrap(), text: Vec::new(), heard: Vec::new() }
    }

    fn open(version: &'static SupportedProtocolVersion) -> Self {
        let mut wire = Self::new(version);
        wire.shake();
        wire
    }

    fn shake(&mut self) {
        while self.engine.is_handshaking() || self.client.is_handshaking() {
            self.up(usize::MAX).unwrap();
            self.down();
        }
    }

    /// What the client has to send, at most `size` bytes at a time.
    fn up(&mut self, size: usize) -> Result<(), Broken> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes.chunks(size.min(bytes.len()).max(1)).try_for_each(|some| self.understand(some))
    }

    fn understand(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let mut incoming = vec![0; self.engine.kept()];
        incoming.extend_from_slice(bytes);
        self.engine.understand(&mut incoming, |text| self.text.extend_from_slice(text))
    }

    /// What the engine has to send.
    fn down(&mut self) {
        let records = self.engine.records().to_vec();
        self.engine.sent(records.len());
        self.give(&records);
    }

    fn give(&mut self, mut records: &[u8]) {
        while !records.is_empty() {
            self.client.read_tls(&mut records).unwrap();
            self.client.process_new_packets().unwrap();
            // An end is no error; nothing to read is none either.
            let _ = self.client.reader().read_to_end(&mut self.heard);
        }
    }

    fn say(&mut self, text: &[u8]) {
        let mut records = Vec::new();
        self.engine.seal(text, &mut records).unwrap();
        self.give(&records);
    }

    /// What the client has heard since it was asked last.
    fn heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heard)
    }
}

#[test]
fn a_handshake_and_records_that_come_byte_by_byte_are_put_together() {
    for version in BOTH {
        let mut wire = Wire::new(version);
        while wire.engine.is_handshaking() || wire.client.is_handshaking() {
            wire.up(1).unwrap();
            wire.down();
        }
        wire.client.writer().write_all(b"one").unwrap();
        wire.client.writer().write_all(b"two").unwrap();
        wire.up(1).unwrap();
        assert_eq!(wire.text, b"onetwo");
        assert_eq!(wire.engine.kept(), 0);
        wire.say(b"three");
        assert_eq!(wire.heard(), b"three");
    }
}

#[test]
fn long_texts_are_cut_into_records_in_both_directions() {
    let text: Vec<u8> = (0..=u8::MAX).cycle().take(60_000).collect();
    for version in BOTH {
        let mut wire = Wire::open(version);
        wire.client.writer().write_all(&text).unwrap();
        wire.up(10_000).unwrap();
        assert!(wire.text == text);
        wire.say(&text);
        assert!(wire.heard() == text);
    }
}

#[test]
fn an_idle_connection_keeps_nothing_of_what_it_has_read_and_said() {
    let mut wire = Wire::open(&version::TLS13);
    wire.client.writer().write_all(b"heartbeat").unwrap();
    wire.up(usize::MAX).unwrap();
    wire.say(b"ack");
    assert!(wire.engine.is_idle());
}

#[test]
fn the_last_word_of_either_side_is_understood() {
    for version in BOTH {
        let mut wire = Wire::open(version);
        wire.client.send_close_notify();
        wire.up(usize::MAX).unwrap();
        assert!(wire.engine.has_ended());
        wire.say(b"still here");
        assert_eq!(wire.heard(), b"still here");
        wire.engine.close().unwrap();
        wire.engine.close().unwrap();
        wire.down();
        let mut rest = Vec::new();
        assert_eq!(wire.client.reader().read_to_end(&mut rest).unwrap(), 0);
        assert!(matches!(wire.engine.seal(b"x", &mut Vec::new()), Err(Broken::NotOpen)));
    }
}

#[test]
fn keys_can_be_exchanged_anew() {
    let mut wire = Wire::open(&version::TLS13);
    for round in 0..3 {
        wire.client.refresh_traffic_keys().unwrap();
        wire.client.writer().write_all(&[round]).unwrap();
        wire.up(7).unwrap();
        wire.say(&[round]);
        assert_eq!(wire.heard(), [round]);
    }
    assert_eq!(wire.text, [0, 1, 2]);
}

#[test]
fn garbage_is_answered_with_an_alert_and_nothing_goes_on_after_it() {
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    // A record longer than any may be; one of no known kind; a handshake message of none.
    let long = [0x16, 3, 3, 0xff, 0xff];
    for bytes in [&http[..], &long, &[0x55; 600], &[0x16, 3, 1, 0, 4, 99, 0, 0, 0]] {
        let mut wire = Wire::new(&version::TLS13);
        assert!(matches!(wire.understand(bytes), Err(Broken::Tls(_))), "{bytes:?}");
        let alert = wire.engine.records().to_vec();
        assert_eq!((alert.len(), alert[0]), (7, 0x15), "{bytes:?}");
        assert!(matches!(wire.understand(b"more"), Err(Broken::NotOpen)));
        assert!(wire.engine.close().is_err());
    }
}

#[test]
fn a_record_that_was_changed_on_its_way_ends_the_connection() {
    for version in BOTH {
        let mut wire = Wire::open(version);
        wire.client.writer().write_all(b"heartbeat").unwrap();
        let mut bytes = Vec::new();
        wire.client.write_tls(&mut bytes).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(matches!(wire.understand(&bytes), Err(Broken::Tls(_))));
        assert!(wire.text.is_empty() && !wire.engine.records().is_empty());
    }
}

#[test]
fn a_message_of_the_handshake_is_at_most_as_long_as_a_record() {
    // The head of a hello of 60,000 B, then as much of it as it takes, in records of 1,000 B.
    let mut record = vec![0x16, 3, 1, 0x03, 0xe8, 1, 0, 0xea, 0x60];
    record.resize(5 + 1_000, 0);
    let mut wire = Wire::new(&version::TLS13);
    let most = crate::tls::engine::RECORD_BYTES;
    while wire.engine.kept() + record.len() <= most {
        wire.understand(&record).unwrap();
        record[5] = 0;
    }
    let fits = most - wire.engine.kept();
    wire.understand(&record[..fits]).unwrap();
    assert_eq!(wire.engine.kept(), most);
    assert!(matches!(wire.understand(&record[fits..=fits]), Err(Broken::TooBig)));
}

/// Behind a handshake, half a message of it waits in memory, decrypted, while something is written.
#[test]
fn half_a_message_of_the_handshake_does_not_get_in_the_way_of_writing() {
    let (server, mut client) = pair(&version::TLS13);
    Arc::get_mut(&mut client).unwrap().enable_secret_extraction = true;
    let mut wire = Wire::of(server, client);
    wire.shake();
    let Wire { client, mut engine, .. } = wire;
    let mut records = key_update_in_two(client).map(|record| {
        let mut incoming = vec![0; engine.kept()];
        incoming.extend_from_slice(&record);
        engine.understand(&mut incoming, |_| {}).unwrap();
        let kept = engine.kept();
        let mut sealed = Vec::new();
        engine.seal(b"between", &mut sealed).unwrap();
        (kept > 0, sealed.len())
    });
    let (between, after) = (records.next().unwrap(), records.next().unwrap());
    assert!(between.0 && !after.0);
    assert!(after.1 > between.1, "the answer goes before the text");
}

/// Asks the server for new keys (RFC 8446 §4.6.3), one record for the head of the message and one for its only byte.
fn key_update_in_two(client: ClientConnection) -> impl Iterator<Item = Vec<u8>> {
    let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("another cipher") };
    let SupportedCipherSuite::Tls13(suite) = TLS13_AES_256_GCM_SHA384 else { panic!("another version") };
    let mut encrypter = suite.aead_alg.encrypter(key, iv);
    [&[24, 0, 0, 1][..], &[1]].into_iter().zip(sequence..).map(move |(bytes, sequence)| {
        let message = OutboundPlainMessage {
            typ: ContentType::Handshake,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(bytes),
        };
        encrypter.encrypt(message, sequence).unwrap().encode()
    })
}
