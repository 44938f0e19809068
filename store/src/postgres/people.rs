//! Who users are. Not needed for presence.

use std::collections::BTreeMap;

use futures::future::FutureExt as _;
use herenow_protocol::{UserId, WallTime};

use super::{Postgres, moment, wall};
use crate::error::at_most;
use crate::server::ensure;
use crate::{BATCH, StoreError};

/// Most bytes of a name.
const USERNAME: usize = 256;
/// Most bytes of an address, as RFC 5321 has it: 64 before the @ and 255 behind.
const EMAIL: usize = 320;

const PUT: &str = "INSERT INTO user_details (user_id, username, email, creation_date)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
    ON CONFLICT (user_id) DO UPDATE SET
        username = excluded.username, email = excluded.email, creation_date = excluded.creation_date";
const GET: &str = "SELECT username, email, creation_date FROM user_details WHERE user_id = $1";

/// Who a user is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserDetails {
    /// The user.
    pub user: UserId,
    /// The name: 1 to 256 bytes without control characters.
    pub username: String,
    /// The address: 3 to 320 bytes with an @ and without control characters.
    pub email: String,
    /// Since when there is an account.
    pub created: WallTime,
}

impl UserDetails {
    fn check(&self) -> Result<(), StoreError> {
        let plain = |text: &str| !text.chars().any(char::is_control);
        let (name, email) = (&self.username, &self.email);
        let name_is_right = (1..=USERNAME).contains(&name.len()) && plain(name);
        let email_is_right = (3..=EMAIL).contains(&email.len()) && plain(email) && email.contains('@');
        ensure(name_is_right, "username", "must be 1 to 256 bytes without control characters")?;
        ensure(email_is_right, "email", "must be 3 to 320 bytes with an @ and without control characters")
    }
}

impl Postgres {
    /// Writes who users are, over what was there; of one user in a call the last. All of them or none; at most
    /// [`BATCH`].
    ///
    /// # Errors
    /// [`StoreError::Setting`] names the field of one that cannot be right; otherwise as the history's.
    pub async fn put_users(&self, users: Vec<UserDetails>) -> Result<(), StoreError> {
        at_most(BATCH, users.len())?;
        users.iter().try_for_each(UserDetails::check)?;
        // One statement may change a row only once.
        let last: BTreeMap<String, UserDetails> =
            users.into_iter().map(|one| (one.user.as_str().to_owned(), one)).collect();
        self.call(move |client| {
            async move {
                let (mut names, mut emails, mut created) = (Vec::new(), Vec::new(), Vec::new());
                for one in last.values() {
                    names.push(one.username.as_str());
                    emails.push(one.email.as_str());
                    created.push(moment(one.created));
                }
                let ids: Vec<&str> = last.keys().map(String::as_str).collect();
                let statement = client.prepare_cached(PUT).await?;
                client.execute(&statement, &[&ids, &names, &emails, &created]).await.map(drop)
            }
            .boxed()
        })
        .await
    }

    /// Who a user is.
    ///
    /// # Errors
    /// As the history's.
    pub async fn user(&self, user: &UserId) -> Result<Option<UserDetails>, StoreError> {
        let id = user.as_str().to_owned();
        let row = self
            .call(move |client| {
                async move {
                    let statement = client.prepare_cached(GET).await?;
                    client.query_opt(&statement, &[&id]).await
                }
                .boxed()
            })
            .await?;
        Ok(row.map(|row| UserDetails {
            user: user.clone(),
            username: row.get(0),
            email: row.get(1),
            created: wall(row.get(2)),
        }))
    }

    /// Forgets who a user is. The history is erased by its own call.
    ///
    /// # Errors
    /// As the history's.
    pub async fn forget_user(&self, user: &UserId) -> Result<(), StoreError> {
        let id = user.as_str().to_owned();
        self.call(move |client| {
            async move {
                client.execute("DELETE FROM user_details WHERE user_id = $1", &[&id]).await.map(drop)
            }
            .boxed()
        })
        .await
    }
}
