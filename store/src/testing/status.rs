//! What every status store does.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "each is a test, named by what it shows"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::{FutureExt as _, join_all};
use herenow_protocol::record::Record;
use herenow_protocol::{Partition, UserKey, WallTime};

use super::{Opens, key, placement, record, user, version};
use crate::{BATCH, KeyRange, PAGE, StatusStore, StoreError, Written};

type Fresh<'a> = &'a dyn Opens<dyn StatusStore>;

async fn put(store: &Arc<dyn StatusStore>, records: &[Record]) -> Written {
    store.put_batch(records.to_vec()).await.unwrap()
}

async fn get(store: &Arc<dyn StatusStore>, name: &str) -> Option<Record> {
    store.get_many(vec![key(name)]).await.unwrap().remove(0)
}

/// Every record of a range, read page by page.
async fn scan(store: &Arc<dyn StatusStore>, range: KeyRange) -> Vec<Record> {
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        let page = store.scan(range, from).await.unwrap();
        assert!(page.records.len() <= PAGE);
        all.extend(page.records);
        from = page.next;
        if from.is_none() {
            return all;
        }
    }
}

pub async fn what_is_written_is_read(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    let (ana, ben) = (record("ana", version(1, 1)), record("ben", version(1, 2)));
    assert_eq!(put(&store, &[ana.clone(), ben.clone()]).await, Written { stored: 2, older: 0 });
    let asked = vec![key("ben"), key("nobody"), key("ana"), key("ben")];
    let read = store.get_many(asked).await.unwrap();
    assert_eq!(read, [Some(ben.clone()), None, Some(ana), Some(ben)]);
    assert_eq!(store.get_many(Vec::new()).await.unwrap(), []);
}

pub async fn older_never_overwrites_newer(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    let newest = record("ana", version(2, 5));
    put(&store, std::slice::from_ref(&newest)).await;
    for older in [version(2, 4), version(1, 900), version(0, 0)] {
        assert_eq!(put(&store, &[record("ana", older)]).await, Written { stored: 0, older: 1 });
        assert_eq!(get(&store, "ana").await.as_ref(), Some(&newest));
    }
    // Also within one batch, in whatever order.
    let both = [record("ben", version(2, 9)), record("ben", version(2, 8))];
    assert_eq!(put(&store, &both).await, Written { stored: 1, older: 1 });
    assert_eq!(get(&store, "ben").await, Some(record("ben", version(2, 9))));
}

/// An owner whose clock is behind, or ahead, of the one before it.
pub async fn the_version_decides_and_no_clock_does(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    let mut writes: Vec<Record> = (1..=4).map(|n| record("ana", version(1, n))).collect();
    for (write, since) in writes.iter_mut().zip([1_700_000_000_000, 1, 32_503_680_000_000, 1_600_000_000_000])
    {
        write.seen.since = Some(WallTime::from_millis(since));
        assert_eq!(put(&store, std::slice::from_ref(write)).await, Written { stored: 1, older: 0 });
        assert_eq!(get(&store, "ana").await.as_ref(), Some(&*write));
    }
    for older in &writes[..3] {
        assert_eq!(put(&store, std::slice::from_ref(older)).await, Written { stored: 0, older: 1 });
    }
    assert_eq!(get(&store, "ana").await, writes.pop());
}

pub async fn the_same_again_changes_nothing(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    let ana = record("ana", version(1, 1));
    put(&store, std::slice::from_ref(&ana)).await;
    assert_eq!(put(&store, std::slice::from_ref(&ana)).await, Written { stored: 0, older: 1 });
    assert_eq!(get(&store, "ana").await, Some(ana));
}

pub async fn a_batch_that_broke_off_is_whole_when_made_again(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    let name = |i: usize| format!("u{i}");
    let before: Vec<Record> = (0..500).map(|i| record(&name(i), version(1, 1))).collect();
    let after: Vec<Record> = (0..500).map(|i| record(&name(i), version(1, 2))).collect();
    put(&store, &before).await;
    // The writer is gone in the middle of its call, which may go on or not.
    let _ = store.put_batch(after.clone()).now_or_never();
    for (i, read) in
        store.get_many(after.iter().map(|r| r.key).collect()).await.unwrap().into_iter().enumerate()
    {
        let read = read.unwrap();
        assert!(read == before[i] || read == after[i], "{read:?} was never written");
    }
    let written = put(&store, &after).await;
    assert_eq!(written.stored + written.older, 500);
    let read = store.get_many(after.iter().map(|r| r.key).collect()).await.unwrap();
    assert_eq!(read.into_iter().flatten().collect::<Vec<_>>(), after);
}

pub async fn what_was_written_survives_a_restart(fresh: Fresh<'_>) {
    let ana = record("ana", version(3, 1));
    let store = fresh.open().await;
    put(&store, std::slice::from_ref(&ana)).await;
    drop(store);
    let store = fresh.open().await;
    assert_eq!(get(&store, "ana").await.as_ref(), Some(&ana));
    assert_eq!(put(&store, &[record("ana", version(2, 9))]).await, Written { stored: 0, older: 1 });
    assert_eq!(get(&store, "ana").await, Some(ana));
}

pub async fn writers_of_two_epochs_leave_the_newer(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    let name = |i: u64| format!("u{}", i % 50);
    let writer = |epoch: u32| {
        let store = Arc::clone(&store);
        async move {
            for round in 0..20_u64 {
                let batch = (0..50).map(|i| record(&name(i), version(epoch, round * 50 + i))).collect();
                store.put_batch(batch).await.unwrap();
            }
        }
    };
    join_all([writer(8), writer(9)]).await;
    for i in 0..50 {
        let kept = get(&store, &name(i)).await.unwrap();
        assert_eq!(kept, record(&name(i), version(9, 19 * 50 + i)));
    }
}

pub async fn ten_thousand_keys_are_read_and_scanned(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    let all: Vec<Record> = (0..10_000).map(|i| record(&format!("u{i}"), version(1, i))).collect();
    for batch in all.chunks(2_500) {
        put(&store, batch).await;
    }
    let keys: Vec<UserKey> = all.iter().map(|record| record.key).collect();
    let read = store.get_many(keys).await.unwrap();
    assert!(read.into_iter().zip(&all).all(|(read, wrote)| read.as_ref() == Some(wrote)));
    let mut wanted = all;
    wanted.sort_by_key(|record| record.key);
    assert_eq!(scan(&store, (UserKey::default(), UserKey::from_bytes([0xff; 16]))).await, wanted);
}

pub async fn odd_user_ids_are_kept(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    let longest = "😀".repeat(32);
    let names =
        ["a", "*", ">", ".", "..", "'", "\"", "a b", "é", "e\u{301}", "日本語", "%00", "\\", &longest];
    let all: Vec<Record> = names.iter().map(|name| record(name, version(1, 1))).collect();
    assert_eq!(put(&store, &all).await.stored, names.len());
    for (name, wrote) in names.iter().zip(&all) {
        let read = get(&store, name).await.unwrap();
        assert_eq!(&read, wrote);
        assert_eq!(read.user, user(name));
    }
}

pub async fn a_scan_keeps_to_its_range(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    let placement = placement();
    let all: Vec<Record> = (0..3_000).map(|i| record(&format!("u{i}"), version(1, i))).collect();
    put(&store, &all).await;
    let mut found = BTreeSet::new();
    for partition in placement.all() {
        for record in scan(&store, placement.keys_of(partition)).await {
            assert_eq!(placement.partition(record.key), partition);
            assert!(found.insert(record.key));
        }
    }
    assert_eq!(found.len(), 3_000);
    let (first, last) = placement.keys_of(Partition(0));
    assert_eq!(scan(&store, (last, first)).await, [], "a range that ends before it begins is empty");
}

pub async fn who_was_erased_is_gone_and_does_not_come_back(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    put(&store, &[record("ana", version(1, 4)), record("ben", version(1, 4))]).await;
    let erased = store.erase(vec![(key("ana"), version(1, 5))]).await.unwrap();
    assert_eq!(erased, Written { stored: 1, older: 0 });
    let is_gone = async |store: &Arc<dyn StatusStore>| {
        assert_eq!(get(store, "ana").await, None);
        let everybody = (UserKey::default(), UserKey::from_bytes([0xff; 16]));
        assert_eq!(scan(store, everybody).await, [record("ben", version(1, 4))]);
    };
    is_gone(&store).await;
    assert_eq!(put(&store, &[record("ana", version(1, 4))]).await, Written { stored: 0, older: 1 });
    is_gone(&store).await;
    drop(store);
    let store = fresh.open().await;
    assert_eq!(put(&store, &[record("ana", version(1, 5))]).await, Written { stored: 0, older: 1 });
    is_gone(&store).await;
    store.erase(vec![(key("ben"), version(4, 1))]).await.unwrap();
    let page = store.scan((UserKey::default(), UserKey::from_bytes([0xff; 16])), None).await.unwrap();
    assert_eq!(
        (page.records.len(), page.newest),
        (0, version(4, 1).epoch),
        "a new owner must be newer than this"
    );
    // Somebody new by that name is welcome.
    put(&store, &[record("ana", version(1, 6))]).await;
    assert_eq!(get(&store, "ana").await, Some(record("ana", version(1, 6))));
}

pub async fn an_erasure_is_fenced_too(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    put(&store, &[record("ana", version(2, 1))]).await;
    let erased =
        store.erase(vec![(key("ana"), version(1, 9)), (key("never there"), version(1, 9))]).await.unwrap();
    assert_eq!(erased, Written { stored: 1, older: 1 });
    assert_eq!(get(&store, "ana").await, Some(record("ana", version(2, 1))));
    put(&store, &[record("never there", version(1, 8))]).await;
    assert_eq!(get(&store, "never there").await, None);
}

pub async fn one_more_than_a_call_may_carry_is_refused(fresh: Fresh<'_>) {
    let store = fresh.open().await;
    let refused = StoreError::TooMany { given: BATCH + 1, limit: BATCH };
    let ana = record("ana", version(1, 1));
    assert_eq!(store.put_batch(vec![ana; BATCH + 1]).await, Err(refused.clone()));
    assert_eq!(store.get_many(vec![key("ana"); BATCH + 1]).await, Err(refused.clone()));
    assert_eq!(store.erase(vec![(key("ana"), version(1, 1)); BATCH + 1]).await, Err(refused));
    assert_eq!(get(&store, "ana").await, None);
}
