//! People and analytics: who may ask, and what is asked of whom.

use std::sync::{Arc, Mutex};

use futures::future::{BoxFuture, FutureExt as _};
use herenow_gateway_server::{Answered, Asked, Directory, Person, Refused};
use herenow_protocol::code::ErrorCode;
use herenow_protocol::{UserId, WallTime};
use serde_json::{Value, json};

use crate::support::*;

/// Knows ana; remembers what it was asked, and fails for `away`.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<Asked>>,
    put: Mutex<Vec<(UserId, Person)>>,
}

fn person() -> Person {
    let (username, email) = ("Ana".to_owned(), "ana@example.com".to_owned());
    Person { username, email, creation_date: WallTime::from_millis(1_706_688_000_000) }
}

fn unless_away(user: &UserId) -> Result<(), Refused> {
    if user.as_str() == "away" { Err((ErrorCode::Unavailable, "is away".to_owned())) } else { Ok(()) }
}

impl Directory for Fake {
    fn person(&self, user: UserId) -> BoxFuture<'_, Result<Option<Person>, Refused>> {
        let found = unless_away(&user).map(|()| (user.as_str() == "ana").then(person));
        std::future::ready(found).boxed()
    }

    fn put(&self, user: UserId, person: Person) -> BoxFuture<'_, Result<(), Refused>> {
        let put = unless_away(&user);
        self.put.lock().unwrap().push((user, person));
        std::future::ready(put).boxed()
    }

    fn forget(&self, _user: UserId) -> BoxFuture<'_, Result<(), Refused>> {
        std::future::ready(Ok(())).boxed()
    }

    fn ask(&self, asked: Asked) -> BoxFuture<'_, Result<Answered, Refused>> {
        self.asked.lock().unwrap().push(asked);
        std::future::ready(Ok(Answered::OnlinePerHour { hours: Vec::new() })).boxed()
    }
}

fn knowing() -> (Server, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let knows = Knows { directory: Some(fake.clone()), ..Knows::default() };
    (server_knowing(knows, |_| ()), fake)
}

fn admin() -> String {
    token_of(json!({ "scope": "presence:admin" }))
}

fn body() -> Value {
    json!({ "username": "Ana", "email": "ana@example.com", "creationDate": "2024-01-31T08:00:00.000Z" })
}

#[test]
fn who_somebody_is_can_be_said_and_asked() {
    let (server, fake) = knowing();
    let ana = json!({ "userId": "ana", "username": "Ana", "email": "ana@example.com",
        "creationDate": "2024-01-31T08:00:00.000Z" });
    for path in ["/users/ana", "/v1/users/ana"] {
        let answer = call(&server, "GET", path, &admin(), "");
        assert_eq!((answer.status, answer.json()), (200, ana.clone()));
        let answer = call(&server, "PUT", path, &admin(), &body().to_string());
        assert_eq!((answer.status, answer.json()), (200, ana.clone()));
    }
    let put = fake.put.lock().unwrap();
    assert_eq!(put[0], (UserId::new("ana").unwrap(), person()));
}

#[test]
fn only_administrators_ask_and_bad_questions_have_a_code() {
    let (server, fake) = knowing();
    let (admin, other) = (admin(), token_of(json!({ "scope": "presence:read presence:write" })));
    let good = body().to_string();
    let without = |key: &str| {
        let mut body = body();
        body.as_object_mut().unwrap().remove(key);
        body.to_string()
    };
    let badly_dated = good.replace("2024-01-31T", "soon ");
    let long = format!("{{\"username\":\"{}\"}}", "x".repeat(256 * 1024));
    let cases = [
        ("GET", "/users/ana", &other, "", 403, "forbidden"),
        ("PUT", "/users/ana", &other, &good, 403, "forbidden"),
        ("GET", "/analytics/statuses", &other, "", 403, "forbidden"),
        ("GET", "/users/ben", &admin, "", 404, "not_found"),
        ("GET", "/users/away", &admin, "", 503, "unavailable"),
        ("PUT", "/users/away", &admin, &good, 503, "unavailable"),
        ("POST", "/users/ana", &admin, &good, 405, "method_not_allowed"),
        ("PUT", "/users/%00", &admin, &good, 400, "invalid_user_id"),
        ("PUT", "/users/ana", &admin, "", 400, "invalid_json"),
        ("PUT", "/users/ana", &admin, &without("email"), 400, "invalid_frame"),
        ("PUT", "/users/ana", &admin, &badly_dated, 400, "invalid_frame"),
        ("PUT", "/users/ana", &admin, &long, 413, "body_too_big"),
        ("GET", "/analytics/everything", &admin, "", 404, "not_found"),
        ("GET", "/analytics/statuses?at=noon", &admin, "", 400, "invalid_value"),
        ("GET", "/analytics/online-per-hour", &admin, "", 400, "invalid_value"),
        ("GET", "/analytics/time-online?from=2024-01-31T08:00:00Z", &admin, "", 400, "invalid_value"),
        ("GET", "/analytics/sessions-by-device", &admin, "", 400, "invalid_value"),
        ("GET", "/analytics/sessions-by-device?from=2024-01-31T08:00:00Z", &other, "", 403, "forbidden"),
        (
            "GET",
            "/analytics/time-online?userId=&from=2024-01-31T08:00:00Z",
            &admin,
            "",
            400,
            "invalid_user_id",
        ),
        ("GET", "/analytics/who-was-online?after=%00", &admin, "", 400, "invalid_user_id"),
        (
            "GET",
            "/analytics/transitions-per-minute?from=2024-01-31T08:00:00Z&to=2024-01-31T08:00:00Z",
            &admin,
            "",
            400,
            "invalid_value",
        ),
    ];
    for (method, path, token, body, status, code) in cases {
        let answer = call(&server, method, path, token, body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
    }
    let missing = request(&server, "GET /users/ana HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((missing.status, missing.code().as_str()), (401, "missing_token"));
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[test]
fn questions_arrive_as_they_were_asked() {
    let (server, fake) = knowing();
    let eight = "2024-01-31T08:00:00Z";
    let ask = |path: String| assert_eq!(call(&server, "GET", &path, &admin(), "").status, 200, "{path}");
    ask("/analytics/statuses".to_owned());
    ask(format!("/v1/analytics/who-was-online?at={eight}&after=a%20b"));
    ask(format!("/analytics/online-per-hour?from={eight}"));
    ask(format!("/analytics/time-online?userId=ana&from={eight}&to=2024-02-01T00:00:00%2B01:00"));
    ask(format!("/analytics/transitions-per-minute?from={eight}&something=else"));
    ask(format!("/analytics/sessions-by-device?from={eight}"));
    let (from, user) = (WallTime::from_millis(1_706_688_000_000), |name: &str| UserId::new(name).unwrap());
    let to = Some(WallTime::from_millis(1_706_688_000_000 + 15 * 3_600_000));
    assert_eq!(
        *fake.asked.lock().unwrap(),
        [
            Asked::Statuses { at: None },
            Asked::WhoWasOnline { at: Some(from), after: Some(user("a b")) },
            Asked::OnlinePerHour { from, to: None },
            Asked::TimeOnline { user: user("ana"), from, to },
            Asked::TransitionsPerMinute { from, to: None },
            Asked::SessionsByDevice { from, to: None },
        ]
    );
}

#[test]
fn a_gateway_without_people_says_so() {
    let server = server();
    for path in ["/users/ana", "/analytics/statuses"] {
        let answer = call(&server, "GET", path, &admin(), "");
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
        assert!(answer.json()["detail"].as_str().unwrap().contains("[people]"));
    }
}
