//! Who users are. Not needed for presence.

use std::collections::BTreeMap;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::UserId;

use super::{Postgres, moment, wall};
use crate::error::at_most;
use crate::{BATCH, People, StoreError, UserDetails};

const PUT: &str = "INSERT INTO user_details (user_id, username, email, creation_date)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
    ON CONFLICT (user_id) DO UPDATE SET
        username = excluded.username, email = excluded.email, creation_date = excluded.creation_date";
const GET: &str = "SELECT username, email, creation_date FROM user_details WHERE user_id = $1";

impl People for Postgres {
    fn put(&self, users: Vec<UserDetails>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.put_users(users).boxed()
    }

    fn get<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<UserDetails>, StoreError>> {
        self.user(user).boxed()
    }

    fn forget<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>> {
        self.forget_user(user).boxed()
    }
}

impl Postgres {
    async fn put_users(&self, users: Vec<UserDetails>) -> Result<(), StoreError> {
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

    async fn user(&self, user: &UserId) -> Result<Option<UserDetails>, StoreError> {
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

    async fn forget_user(&self, user: &UserId) -> Result<(), StoreError> {
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
