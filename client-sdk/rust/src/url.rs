//! The address of the handshake.

use std::fmt::Write;

use herenow_client_core::Failure;
use herenow_protocol::{Activity, DeviceKind};
use http::Uri;

const PATH: &str = "/v1/connect";
/// What must never be in a URL, where logs would keep it.
const SECRETS: [&str; 4] = ["token", "access_token", "jwt", "bearer"];

/// Checks the application's URL and gives it scheme, path and query as the handshake needs them, up to the activity.
pub(crate) fn base(url: &str, device: &str, kind: DeviceKind) -> Result<String, Failure> {
    let uri: Uri = url.parse().map_err(|_| invalid("it is no URL"))?;
    let scheme = match uri.scheme_str() {
        Some("ws" | "http") => "ws",
        Some("wss" | "https") => "wss",
        _ => return Err(invalid("its scheme is none of ws, wss, http, https")),
    };
    let authority = uri.authority().ok_or_else(|| invalid("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(invalid("it has a user or password, which logs would keep"));
    }
    let path = if uri.path() == "/" { PATH } else { uri.path() };
    let mut full = format!("{scheme}://{authority}{path}?");
    if let Some(query) = uri.query() {
        let names = |pair: &str| pair.split('=').next().unwrap_or_default().to_ascii_lowercase();
        if query.split('&').map(names).any(|name| SECRETS.contains(&name.as_str())) {
            return Err(invalid("it carries a token; the token goes through ClientOptions::token"));
        }
        full.push_str(query);
        full.push('&');
    }
    full.push_str("device=");
    encode(device, &mut full);
    full.push_str("&kind=");
    full.push_str(kind_word(kind));
    Ok(full)
}

/// The address of one handshake.
pub(crate) fn with_activity(base: &str, activity: Option<Activity>) -> String {
    match activity {
        Some(activity) => format!("{base}&activity={}", activity_word(activity)),
        None => base.to_owned(),
    }
}

fn invalid(cause: &str) -> Failure {
    let message = format!("the URL of the gateway cannot be used: {cause}");
    Failure::new("invalid_url", &message, "Give a URL such as wss://presence.example.com.")
}

const fn kind_word(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Web => "web",
        DeviceKind::Mobile => "mobile",
        DeviceKind::Desktop => "desktop",
        DeviceKind::Server => "server",
    }
}

const fn activity_word(activity: Activity) -> &'static str {
    match activity {
        Activity::Active => "active",
        Activity::Idle => "idle",
        Activity::Background => "background",
    }
}

fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_host_gets_the_path_and_the_device_is_encoded() {
        let full = |url| base(url, "a b&é", DeviceKind::Desktop).unwrap();
        assert_eq!(full("ws://h:1"), "ws://h:1/v1/connect?device=a%20b%26%C3%A9&kind=desktop");
        assert_eq!(full("https://h"), "wss://h/v1/connect?device=a%20b%26%C3%A9&kind=desktop");
        assert_eq!(full("ws://h/p/x?y=1"), "ws://h/p/x?y=1&device=a%20b%26%C3%A9&kind=desktop");
        let idle = with_activity(&full("ws://h:1"), Some(Activity::Idle));
        assert!(idle.ends_with("&kind=desktop&activity=idle"));
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        for url in ["", "h", "/x", "ftp://h", "ws://h?token=x", "ws://h?a=1&JWT=x", "ws://u:p@h"] {
            assert_eq!(&*base(url, "d", DeviceKind::Web).unwrap_err().code, "invalid_url", "{url}");
        }
    }
}
