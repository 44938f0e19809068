//! JSON bodies of requests, the same over HTTP and over the bus.

use herenow_protocol::code::ErrorCode;
use serde::de::DeserializeOwned;

/// Reads one JSON object.
///
/// # Errors
/// `invalid_json` where it is not one object, `invalid_frame` with the field at fault where the object is wrong.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, (ErrorCode, String)> {
    // Structs can be read from arrays too; the contract has only objects.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err((ErrorCode::InvalidJson, "the body is not one JSON object".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| explain(&error))?;
    json.end().map_err(|_| (ErrorCode::InvalidJson, "something follows the JSON object".to_owned()))?;
    Ok(value)
}

fn explain(error: &serde_path_to_error::Error<serde_json::Error>) -> (ErrorCode, String) {
    let inner = error.inner();
    if inner.is_syntax() || inner.is_eof() {
        return (ErrorCode::InvalidJson, "the body is not JSON".to_owned());
    }
    let full = inner.to_string();
    let cause = full.split(" at line ").next().unwrap_or_default();
    let cause: String = cause.chars().filter(|c| !c.is_control()).take(160).collect();
    let path = error.path().to_string();
    if path == "." || path.len() > 100 {
        (ErrorCode::InvalidFrame, cause)
    } else {
        (ErrorCode::InvalidFrame, format!("the field `{path}`: {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herenow_protocol::api::{GetStatuses, SetStatus};

    #[test]
    fn each_kind_of_bad_body_has_its_code() {
        let code = |text: &str| read::<GetStatuses>(text.as_bytes()).unwrap_err().0;
        let deep = format!("{{\"userIds\":{}", "[".repeat(10_000));
        for text in
            ["", "null", "[]", "[[\"a\"]]", "{\"userIds\":[]} x", "{", "\u{feff}{}", "{\"userIds\":[1e999]}"]
        {
            assert_eq!(code(text), ErrorCode::InvalidJson, "{text}");
        }
        assert!(read::<GetStatuses>(deep.as_bytes()).is_err());
        for text in ["{}", "{\"userIds\":\"a\"}", "{\"userIds\":[],\"userIds\":[]}"] {
            assert_eq!(code(text), ErrorCode::InvalidFrame, "{text}");
        }
        let utf16: Vec<u8> = "{\"userIds\":[]}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read::<GetStatuses>(&utf16).unwrap_err().0, ErrorCode::InvalidJson);
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let (_, message) = read::<SetStatus>(br#"{"userId":"a","status":7}"#).unwrap_err();
        assert!(message.contains("`status`"), "{message}");
        let (_, message) = read::<GetStatuses>(br#"{"userIds":["a",1]}"#).unwrap_err();
        assert!(message.contains("userIds[1]"), "{message}");
    }
}
