//! How messages between roles become bytes: a byte of version, then postcard. Where a subject carries bundles, messages
//! follow one another without anything between them; a message by itself is a bundle of one.
//!
//! Both ends of a rolling upgrade meet here: what carries another version is refused by name, so that the receiver
//! can count it and wait for a resync, rather than misread it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limit;

/// The version of every message between roles. Grows when any of their types changes.
pub const VERSION: u8 = 6;

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No bytes at all.
    #[error("the message is empty")]
    Empty,
    /// More than a message may have.
    #[error("the message has {0} bytes, over the limit")]
    TooBig(usize),
    /// From a program of another version.
    #[error("the message has version {0}")]
    Version(u8),
    /// Not what the subject carries.
    #[error("the message cannot be read")]
    Malformed,
}

/// Writes a message.
///
/// # Errors
/// [`CodecError::TooBig`] when it is over [`limit::MESSAGE_BYTES`]: the sender must page.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_extend(message, vec![VERSION]).map_err(|_| CodecError::Malformed)?;
    if bytes.len() > limit::MESSAGE_BYTES { Err(CodecError::TooBig(bytes.len())) } else { Ok(bytes) }
}

/// Reads a message.
///
/// # Errors
/// Anything but one whole message of this version.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > limit::MESSAGE_BYTES {
        return Err(CodecError::TooBig(bytes.len()));
    }
    let (version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if *version != VERSION {
        return Err(CodecError::Version(*version));
    }
    let (message, rest) = postcard::take_from_bytes(body).map_err(|_| CodecError::Malformed)?;
    if rest.is_empty() { Ok(message) } else { Err(CodecError::Malformed) }
}

/// Reads a bundle: one message or more, in their order.
///
/// # Errors
/// Anything but whole messages of this version; none of them is taken then.
pub fn decode_bundle<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, CodecError> {
    if bytes.len() > limit::MESSAGE_BYTES {
        return Err(CodecError::TooBig(bytes.len()));
    }
    let (version, mut rest) = bytes.split_first().ok_or(CodecError::Empty)?;
    if *version != VERSION {
        return Err(CodecError::Version(*version));
    }
    let mut messages = Vec::new();
    loop {
        let (message, left) = postcard::take_from_bytes(rest).map_err(|_| CodecError::Malformed)?;
        // What takes no bytes would be read for ever.
        if left.len() == rest.len() {
            return Err(CodecError::Malformed);
        }
        messages.push(message);
        if left.is_empty() {
            return Ok(messages);
        }
        rest = left;
    }
}

/// Messages to one receiver that are sent as one.
#[derive(Debug, Default)]
pub struct Bundle {
    /// The version, then messages; empty without any.
    bytes: Vec<u8>,
}

impl Bundle {
    /// Adds a message. Answers with what must be sent first, if there is no room beside it: a bundle has at most
    /// [`limit::BUNDLE_BYTES`], unless it is one message that has more by itself.
    ///
    /// # Errors
    /// [`CodecError::TooBig`] when the message is over [`limit::MESSAGE_BYTES`]: it is left out.
    pub fn add<T: Serialize>(&mut self, message: &T) -> Result<Option<Vec<u8>>, CodecError> {
        let one = encode(message)?;
        if self.bytes.is_empty() {
            self.bytes = one;
        } else if self.bytes.len() + one.len() - 1 > limit::BUNDLE_BYTES {
            return Ok(Some(std::mem::replace(&mut self.bytes, one)));
        } else {
            self.bytes.extend_from_slice(one.get(1..).unwrap_or_default());
        }
        Ok(None)
    }

    /// Takes what is in it; none without a message.
    #[must_use]
    pub fn take(&mut self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut self.bytes)).filter(|bytes| !bytes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_read_in_its_order_and_one_message_is_a_bundle() {
        let mut bundle = Bundle::default();
        assert_eq!(bundle.take(), None);
        for n in 0..300_u64 {
            assert_eq!(bundle.add(&n), Ok(None));
        }
        let bytes = bundle.take().unwrap();
        assert_eq!(decode_bundle::<u64>(&bytes), Ok((0..300).collect()));
        assert_eq!(bundle.take(), None);
        assert_eq!(decode_bundle::<u64>(&encode(&7_u64).unwrap()), Ok(vec![7]));
        bundle.add(&7_u64).unwrap();
        assert_eq!(decode::<u64>(&bundle.take().unwrap()), Ok(7));
    }

    #[test]
    fn a_full_bundle_goes_first_and_what_is_too_long_is_left_out() {
        let text = |bytes: usize| "x".repeat(bytes);
        let mut bundle = Bundle::default();
        let room = limit::BUNDLE_BYTES - 1 - 3;
        assert_eq!(bundle.add(&text(room)), Ok(None));
        let full = bundle.add(&text(1)).unwrap().unwrap();
        assert_eq!((full.len(), decode_bundle::<String>(&full)), (limit::BUNDLE_BYTES, Ok(vec![text(room)])));
        // One message may be longer than a bundle, and goes alone.
        let first = bundle.add(&text(limit::BUNDLE_BYTES)).unwrap().unwrap();
        assert_eq!(decode_bundle::<String>(&first), Ok(vec![text(1)]));
        let big = text(limit::MESSAGE_BYTES);
        assert_eq!(bundle.add(&big), Err(CodecError::TooBig(limit::MESSAGE_BYTES + 4)));
        assert_eq!(decode_bundle::<String>(&bundle.take().unwrap()), Ok(vec![text(limit::BUNDLE_BYTES)]));
        assert_eq!(bundle.add(&big), Err(CodecError::TooBig(limit::MESSAGE_BYTES + 4)));
        assert_eq!(bundle.take(), None);
    }

    #[test]
    fn a_bundle_that_is_none_is_refused_by_name() {
        assert_eq!(decode_bundle::<u64>(&[]), Err(CodecError::Empty));
        assert_eq!(decode_bundle::<u64>(&[9, 1]), Err(CodecError::Version(9)));
        assert_eq!(decode_bundle::<u64>(&[VERSION]), Err(CodecError::Malformed));
        assert_eq!(decode_bundle::<u64>(&[VERSION, 1, 0xff]), Err(CodecError::Malformed));
        assert_eq!(decode_bundle::<()>(&[VERSION, 1]), Err(CodecError::Malformed));
        let big = vec![VERSION; limit::MESSAGE_BYTES + 1];
        assert_eq!(decode_bundle::<u64>(&big), Err(CodecError::TooBig(limit::MESSAGE_BYTES + 1)));
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = encode(&("a", 7_u64)).unwrap();
        assert_eq!(decode::<(String, u64)>(&bytes), Ok(("a".to_owned(), 7)));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        assert_eq!(decode::<u64>(&[]), Err(CodecError::Empty));
        assert_eq!(decode::<u64>(&[9, 1]), Err(CodecError::Version(9)));
        for other in [VERSION - 1, VERSION + 1] {
            assert_eq!(decode::<u64>(&[other, 1]), Err(CodecError::Version(other)));
        }
        assert_eq!(decode::<u64>(&[VERSION]), Err(CodecError::Malformed));
        assert_eq!(decode::<u64>(&[VERSION, 1, 1]), Err(CodecError::Malformed));
        assert_eq!(decode::<Vec<u64>>(&[VERSION, 0xff, 0xff, 0xff, 0xff, 0x0f]), Err(CodecError::Malformed));
        let big = vec![VERSION; limit::MESSAGE_BYTES + 1];
        assert_eq!(decode::<u64>(&big), Err(CodecError::TooBig(limit::MESSAGE_BYTES + 1)));
        assert_eq!(
            encode(&vec![1_u8; limit::MESSAGE_BYTES]),
            Err(CodecError::TooBig(limit::MESSAGE_BYTES + 4))
        );
    }
}
