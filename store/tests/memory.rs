//! The stores in memory pass the suite, and end at their limits.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod status {
    herenow_store::status_store_suite!(herenow_store::MemoryStore::new(20_000));
}

mod activity {
    herenow_store::activity_log_suite!(herenow_store::MemoryLog::new(20_000));
}

mod limits {
    use herenow_store::testing::{entry, record, version};
    use herenow_store::{ActivityLog as _, MemoryLog, MemoryStore, StatusStore as _, StoreError};

    #[tokio::test]
    async fn one_user_more_than_the_limit_is_refused() {
        let store = MemoryStore::new(2);
        let two = vec![record("ana", version(1, 1)), record("ben", version(1, 1))];
        store.put_batch(two).await.unwrap();
        let third = store.put_batch(vec![record("cleo", version(1, 1))]).await;
        assert_eq!(third, Err(StoreError::Full(2)));
        assert_eq!(store.put_batch(vec![record("ben", version(1, 2))]).await.unwrap().stored, 1);
    }

    #[tokio::test]
    async fn one_entry_more_than_the_limit_is_refused() {
        let log = MemoryLog::new(1);
        log.append_batch(vec![entry("ana", 1, 1)]).await.unwrap();
        assert_eq!(log.append_batch(vec![entry("ana", 2, 2)]).await, Err(StoreError::Full(1)));
    }
}
