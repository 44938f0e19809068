//! How messages between roles become bytes: a byte of version, then postcard.
//!
//! Both ends of a rolling upgrade meet here: what carries another version is refused by name, so that the receiver
//! can count it and wait for a resync, rather than misread it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limit;

/// The version of every message between roles. Grows when any of their types changes.
pub const VERSION: u8 = 5;

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

#[cfg(test)]
mod tests {
    use super::*;

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
