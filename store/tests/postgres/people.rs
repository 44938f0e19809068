//! Who users are.

use herenow_protocol::WallTime;
use herenow_store::testing::user;
use herenow_store::{BATCH, People as _, Postgres, StoreError, UserDetails};

use crate::server::Server;

fn details(name: &str, username: &str) -> UserDetails {
    UserDetails {
        user: user(name),
        username: username.to_owned(),
        email: format!("{name}@example.org"),
        created: WallTime::from_millis(1_700_000_000_123),
    }
}

#[tokio::test]
async fn people_are_written_over_and_forgotten() {
    let Some(server) = Server::shared() else { return };
    let people = Postgres::open(&server.config()).await.unwrap();
    assert_eq!(people.get(&user("ana")).await.unwrap(), None);
    people.put(vec![details("ana", "Ana"), details("ben", "Ben")]).await.unwrap();
    // Of one in a call the last counts.
    people.put(vec![details("ana", "Anna"), details("ana", "Anna Ω")]).await.unwrap();
    assert_eq!(people.get(&user("ana")).await.unwrap(), Some(details("ana", "Anna Ω")));
    people.forget(&user("ana")).await.unwrap();
    assert_eq!(people.get(&user("ana")).await.unwrap(), None);
    assert_eq!(people.get(&user("ben")).await.unwrap(), Some(details("ben", "Ben")));
}

#[tokio::test]
async fn what_cannot_be_right_is_named_and_nothing_of_the_call_is_kept() {
    let Some(server) = Server::shared() else { return };
    let people = Postgres::open(&server.config()).await.unwrap();
    let longest = UserDetails { email: format!("{}@x", "e".repeat(318)), ..details("ana", &"n".repeat(256)) };
    people.put(vec![longest.clone()]).await.unwrap();
    let with_name = |name: &str| UserDetails { username: name.to_owned(), ..details("ben", "") };
    let with_email = |email: &str| UserDetails { email: email.to_owned(), ..details("ben", "Ben") };
    let long = format!("{}@x", "e".repeat(319));
    for (wrong, key) in [
        (with_name(""), "username"),
        (with_name(&"n".repeat(257)), "username"),
        (with_name("a\0b"), "username"),
        (with_email("@"), "email"),
        (with_email("nowhere"), "email"),
        (with_email(&long), "email"),
    ] {
        let refused = people.put(vec![details("cleo", "Cleo"), wrong]).await;
        assert!(
            matches!(refused, Err(StoreError::Setting { key: named, .. }) if named == key),
            "{refused:?}"
        );
    }
    assert_eq!(people.get(&user("cleo")).await.unwrap(), None);
    let many = vec![details("ana", "Ana"); BATCH + 1];
    let refused = people.put(many).await;
    assert_eq!(refused, Err(StoreError::TooMany { given: BATCH + 1, limit: BATCH }));
    assert_eq!(people.get(&user("ana")).await.unwrap(), Some(longest));
}
