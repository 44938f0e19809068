//! A connection without a token: only `auth` is understood.

use herenow_protocol::code::{CloseCode, ErrorCode};
use herenow_protocol::frame::{self, ClientFrame, FrameError, ServerFrame};
use herenow_protocol::{Activity, DeviceId, DeviceKind, Now};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{End, Session};
use crate::handshake::Greeting;
use crate::wire;

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// The first frame. What the handshake said of the device stands above what the frame says.
    pub(super) fn greet(&mut self, frame: Result<ClientFrame, FrameError>, now: Now) {
        if self.rare.as_ref().is_none_or(|rare| rare.waiting.is_none() || rare.end.is_some()) {
            return;
        }
        match frame {
            Ok(ClientFrame::Auth { token, device, kind, activity, id }) => {
                self.authenticate(&token, device.as_deref(), kind, activity, id, now);
            }
            Ok(ClientFrame::Bye {}) => self.end_with(CloseCode::Normal),
            Ok(_) => {
                let message = "the first frame must be `auth`".to_owned();
                self.refuse(None, ErrorCode::InvalidAuth, message, CloseCode::Unauthorized);
            }
            Err(error) => self.refuse(error.id, error.code, error.message, CloseCode::Unauthorized),
        }
    }

    fn authenticate(
        &mut self,
        token: &str,
        device: Option<&str>,
        kind: Option<DeviceKind>,
        activity: Option<Activity>,
        id: Option<u64>,
        now: Now,
    ) {
        let device = match device.map(DeviceId::new).transpose() {
            Ok(device) => device,
            Err(why) => {
                let message = format!("the field `device`: {why}");
                return self.refuse(id, ErrorCode::InvalidValue, message, CloseCode::Unauthorized);
            }
        };
        match self.shard().common.verifier.verify(token, now.wall) {
            Ok(verified) => {
                let said = self.rare_mut().waiting.take().map(|(said, _)| *said).unwrap_or_default();
                let greeting = Greeting {
                    device: said.device.or(device),
                    kind: said.kind.or(kind),
                    activity: said.activity.or(activity),
                };
                self.open(verified, greeting, now);
            }
            Err(why) => {
                tracing::debug!(reason = %why, "first token refused");
                let expired = why.code() == ErrorCode::TokenExpired;
                let close = if expired { CloseCode::TokenExpired } else { CloseCode::Unauthorized };
                self.refuse(id, why.code(), why.detail().to_owned(), close);
            }
        }
    }

    /// Says what is wrong, then closes: a stranger gets one try.
    fn refuse(&mut self, id: Option<u64>, code: ErrorCode, message: String, close: CloseCode) {
        self.shard().metrics().frame_error(code);
        let text = frame::encode(&ServerFrame::error(id, code, message));
        wire::encode_text(&text, &mut self.rare_mut().tail);
        self.end_with(close);
    }

    fn end_with(&mut self, close: CloseCode) {
        self.rare_mut().end = Some(End::Ours(close));
    }
}
