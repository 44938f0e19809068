//! What an application may set about a client's rules.

use std::time::Duration;

use herenow_protocol::Activity;

/// Times and limits of a client. The server's times come with `welcome`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// What the person does at the start. Default `None`: the client never says, and the server takes the person for
    /// idle after its `idle_after` without a request.
    pub activity: Option<Activity>,
    /// How long a connection may take until its `welcome`. Default 10 s.
    pub connect_timeout: Duration,
    /// How long a request may take, reconnecting included. Default 10 s.
    pub request_timeout: Duration,
    /// How long the answer to a `bye` is waited for. Default 2 s.
    pub bye_timeout: Duration,
    /// How long a change of activity waits after one was just sent, so that flapping costs few frames. Default 250 ms.
    pub activity_window: Duration,
    /// The longest first wait before coming back. Default 500 ms.
    pub backoff_base: Duration,
    /// The longest wait before coming back, and how long a connection must last for the wait to begin anew. Default
    /// 30 s.
    pub backoff_cap: Duration,
    /// Most users watched. Default 5,000, which is what gateways allow by default.
    pub max_watches: usize,
    /// Most users of one query. Default 5,000; more than 1,000 take several frames, one after the other.
    pub max_query_users: usize,
    /// Most requests that wait or are under way; one more fails at once. Default 256.
    pub max_requests: usize,
    /// Most requests under way. Default 8, half of what gateways allow by default.
    pub max_in_flight: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            activity: None,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            bye_timeout: Duration::from_secs(2),
            activity_window: Duration::from_millis(250),
            backoff_base: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(30),
            max_watches: 5_000,
            max_query_users: 5_000,
            max_requests: 256,
            max_in_flight: 8,
        }
    }
}
