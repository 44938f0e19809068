//! One TLS connection without its socket: records in and out of memory, and what waits.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};

/// The longest record on the wire: its head, its text, and what encryption may add.
/// Source: RFC 5246 §6.2.3, which allows more than RFC 8446 §5.2.
pub(super) const RECORD_BYTES: usize = 5 + 16 * 1024 + 2_048;
/// Room to read into behind the start of a record.
const READ_BYTES: usize = 16 * 1024;
/// What the shared buffer for reading holds.
pub(super) const INCOMING_BYTES: usize = RECORD_BYTES + READ_BYTES;
/// What a record may add to its text, roughly: when it is more, it is tried again with what is wanted.
const OVERHEAD_BYTES: usize = 64;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The other side broke a rule of TLS, or nothing that it offers is spoken here.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
    /// A message of the handshake is longer than a record.
    #[error("tls: a handshake message of more than {RECORD_BYTES} B")]
    TooBig,
    /// Nothing can be sent any more.
    #[error("tls: nothing can be encrypted any more")]
    Exhausted,
    /// There are no keys yet, or both sides have said that they are done.
    #[error("tls: not open")]
    NotOpen,
}

/// A connection; see the module's page.
pub(super) struct Engine {
    tls: UnbufferedServerConnection,
    /// The start of an unfinished record.
    rest: Box<[u8]>,
    waiting: Option<Box<Waiting>>,
    /// The other side has said that nothing more comes.
    ended: bool,
    /// So have we.
    closed: bool,
    /// It was broken: what it remembers of what was read is not there any more.
    broken: bool,
}

/// What an idle connection does not have.
#[derive(Default)]
struct Waiting {
    /// Records that the socket has not taken, from `sent` on.
    records: Vec<u8>,
    sent: usize,
    /// Text that its reader has not taken, from `taken` on.
    text: Vec<u8>,
    taken: usize,
}

/// What is to be written once that is possible.
enum Seal<'a> {
    Nothing,
    Text(&'a [u8]),
    Close,
}

impl Engine {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, Broken> {
        let tls = UnbufferedServerConnection::new(config)?;
        Ok(Self { tls, rest: Box::default(), waiting: None, ended: false, closed: false, broken: false })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// The other side has said that nothing more comes.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// How much of an unfinished record there is: what is read goes behind it.
    pub(super) fn kept(&self) -> usize {
        self.rest.len()
    }

    /// Takes what was read. The first [`Engine::kept`] bytes of `incoming` are room for what was kept. Text goes to
    /// `on`; answers of the protocol itself wait to be sent, also when it is broken.
    pub(super) fn understand(
        &mut self,
        incoming: &mut [u8],
        mut on: impl FnMut(&[u8]),
    ) -> Result<(), Broken> {
        let kept = std::mem::take(&mut self.rest);
        incoming[..kept.len()].copy_from_slice(&kept);
        let mut replies = Vec::new();
        let outcome = self.drive(incoming, &mut on, &mut replies, Seal::Nothing);
        self.wait(&replies);
        self.keep(&incoming[outcome?..])
    }

    /// Encrypts `text` behind what is in `records`.
    pub(super) fn seal(&mut self, text: &[u8], records: &mut Vec<u8>) -> Result<(), Broken> {
        self.write(Seal::Text(text), records)
    }

    /// Says, once, that nothing more comes.
    pub(super) fn close(&mut self) -> Result<(), Broken> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        let mut records = Vec::new();
        let outcome = self.write(Seal::Close, &mut records);
        self.wait(&records);
        outcome
    }

    fn write(&mut self, seal: Seal<'_>, records: &mut Vec<u8>) -> Result<(), Broken> {
        // It must see what is kept: it remembers how far it has read there.
        let mut rest = std::mem::take(&mut self.rest);
        let mut late = Vec::new();
        let outcome = self.drive(&mut rest, &mut |text| late.extend_from_slice(text), records, seal);
        // None: what is kept is no whole record. Should it become one, nothing of it is lost.
        self.hold(&late);
        let done = outcome?;
        if done > 0 { self.keep(&rest[done..]) } else { self.keep_all(rest) }
    }

    /// Goes on until more is to be read; how much of `incoming` is done with.
    fn drive(
        &mut self,
        incoming: &mut [u8],
        on: &mut dyn FnMut(&[u8]),
        records: &mut Vec<u8>,
        seal: Seal<'_>,
    ) -> Result<usize, Broken> {
        if self.broken {
            return Err(Broken::NotOpen);
        }
        let outcome = self.process(incoming, on, records, seal);
        self.broken = outcome.is_err();
        outcome
    }

    fn process(
        &mut self,
        incoming: &mut [u8],
        on: &mut dyn FnMut(&[u8]),
        records: &mut Vec<u8>,
        mut seal: Seal<'_>,
    ) -> Result<usize, Broken> {
        let mut done = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut incoming[done..]);
            let mut more = true;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        on(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, records),
                // They are sent from `records`, in order.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    more = !matches!(seal, Seal::Nothing);
                    encrypt(traffic, std::mem::replace(&mut seal, Seal::Nothing), records)?;
                }
                // No early data is accepted, and nothing else waits for us.
                Ok(_) if matches!(seal, Seal::Nothing) => more = false,
                Ok(_) => return Err(Broken::NotOpen),
                Err(why) => {
                    self.say_why(&mut incoming[done + discard..], records);
                    return Err(why.into());
                }
            }
            done += discard;
            if !more {
                return Ok(done);
            }
        }
    }

    /// The alert about an error. Asked for once: behind it rustls would read on, and find itself in a state that it
    /// holds to be impossible.
    fn say_why(&mut self, incoming: &mut [u8], records: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(data)) = self.tls.process_tls_records(incoming).state {
            encode(data, records);
        }
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), Broken> {
        self.keep_all(rest.into())
    }

    fn keep_all(&mut self, rest: Box<[u8]>) -> Result<(), Broken> {
        if rest.len() > RECORD_BYTES {
            return Err(Broken::TooBig);
        }
        // Behind the other side's last word nothing is read.
        self.rest = if self.ended { Box::default() } else { rest };
        Ok(())
    }
}

/// What waits.
impl Engine {
    /// Records that wait to be sent.
    pub(super) fn records(&self) -> &[u8] {
        self.waiting.as_ref().map_or(&[], |waiting| &waiting.records[waiting.sent..])
    }

    /// So many of them were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(mut waiting) = self.waiting.take() {
            waiting.sent += bytes;
            self.put_back(waiting);
        }
    }

    /// Keeps records that the socket did not take, behind those that wait already.
    pub(super) fn wait(&mut self, records: &[u8]) {
        if !records.is_empty() {
            self.waiting.get_or_insert_default().records.extend_from_slice(records);
        }
    }

    /// Text that waits for its reader.
    pub(super) fn text(&self) -> &[u8] {
        self.waiting.as_ref().map_or(&[], |waiting| &waiting.text[waiting.taken..])
    }

    /// So much of it was taken.
    pub(super) fn taken(&mut self, bytes: usize) {
        if let Some(mut waiting) = self.waiting.take() {
            waiting.taken += bytes;
            self.put_back(waiting);
        }
    }

    /// Keeps text that its reader had no room for.
    pub(super) fn hold(&mut self, text: &[u8]) {
        if !text.is_empty() {
            self.waiting.get_or_insert_default().text.extend_from_slice(text);
        }
    }

    /// It has nothing but its keys.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.rest.is_empty() && self.waiting.is_none()
    }

    fn put_back(&mut self, mut waiting: Box<Waiting>) {
        if waiting.sent == waiting.records.len() {
            (waiting.records, waiting.sent) = (Vec::new(), 0);
        }
        if waiting.taken == waiting.text.len() {
            (waiting.text, waiting.taken) = (Vec::new(), 0);
        }
        let idle = waiting.records.is_empty() && waiting.text.is_empty();
        self.waiting = (!idle).then_some(waiting);
    }
}

type Data = ServerConnectionData;

/// Appends a record of the protocol itself.
fn encode(mut data: EncodeTlsData<'_, Data>, records: &mut Vec<u8>) {
    let begin = records.len();
    let mut room = 0;
    loop {
        records.resize(begin + room, 0);
        match data.encode(&mut records[begin..]) {
            Ok(written) => return records.truncate(begin + written),
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size }))
                if required_size > room =>
            {
                room = required_size;
            }
            Err(_) => return records.truncate(begin),
        }
    }
}

fn encrypt(mut traffic: WriteTraffic<'_, Data>, seal: Seal<'_>, records: &mut Vec<u8>) -> Result<(), Broken> {
    let begin = records.len();
    let mut room = match seal {
        Seal::Nothing => return Ok(()),
        Seal::Text(text) => text.len() + (1 + text.len() / (16 * 1024)) * OVERHEAD_BYTES,
        Seal::Close => OVERHEAD_BYTES,
    };
    loop {
        records.resize(begin + room, 0);
        let written = match seal {
            Seal::Text(text) => traffic.encrypt(text, &mut records[begin..]),
            Seal::Nothing | Seal::Close => traffic.queue_close_notify(&mut records[begin..]),
        };
        match written {
            Ok(written) => {
                records.truncate(begin + written);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size }))
                if required_size > room =>
            {
                room = required_size;
            }
            Err(_) => {
                records.truncate(begin);
                return Err(Broken::Exhausted);
            }
        }
    }
}
