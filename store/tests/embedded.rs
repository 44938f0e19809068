//! The embedded store passes the suite, and names what is wrong with its directory.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::{Placement, UserKey};
use herenow_store::testing::{Opens, key, placement, record, version};
use herenow_store::{ActivityLog, Embedded, StatusStore, StoreError};
use tempfile::TempDir;

struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Opens the store. The one before is closed once its last thread has ended.
    async fn open_again(&self) -> Embedded {
        for _ in 0..50 {
            match Embedded::open(self.0.path(), &placement()).await {
                Err(StoreError::Locked(_)) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
        panic!("the store stays locked");
    }
}

impl Opens<dyn StatusStore> for Directory {
    fn open(&self) -> BoxFuture<'_, Arc<dyn StatusStore>> {
        self.open_again().map(|store| Arc::new(store) as Arc<dyn StatusStore>).boxed()
    }
}

impl Opens<dyn ActivityLog> for Directory {
    fn open(&self) -> BoxFuture<'_, Arc<dyn ActivityLog>> {
        self.open_again().map(|store| Arc::new(store) as Arc<dyn ActivityLog>).boxed()
    }
}

mod status {
    herenow_store::status_store_suite!(super::Directory::new());
}

mod activity {
    herenow_store::activity_log_suite!(super::Directory::new());
}

async fn refused(path: &Path, placement: &Placement) -> StoreError {
    match Embedded::open(path, placement).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

async fn filled() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), &placement()).await.unwrap();
    for round in 0..20_u64 {
        let batch = (0..200).map(|i| record(&format!("u{i}"), version(1, round * 200 + i))).collect();
        store.put_batch(batch).await.unwrap();
    }
    drop(store);
    let journal = journal(directory.path());
    let bytes = fs::read(&journal).unwrap();
    // The engine makes the file longer than what is in it.
    let length = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    fs::write(&journal, &bytes[..length]).unwrap();
    directory
}

fn journal(under: &Path) -> PathBuf {
    files(under).into_iter().find(|file| file.extension().is_some_and(|e| e == "jnl")).unwrap()
}

fn files(under: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

#[tokio::test]
async fn a_directory_is_made_with_all_above_it_and_nothing_is_written_beside_it() {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("var/lib/herenow");
    let store = Embedded::open(&path, &placement()).await.unwrap();
    store.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    drop(store);
    assert!(files(outer.path()).iter().all(|file| file.starts_with(&path)));
}

#[tokio::test]
async fn two_never_share_one() {
    let directory = tempfile::tempdir().unwrap();
    let _first = Embedded::open(directory.path(), &placement()).await.unwrap();
    let error = refused(directory.path(), &placement()).await;
    assert_eq!(error, StoreError::Locked(directory.path().to_owned()));
}

#[tokio::test]
async fn another_secret_is_named() {
    let directory = filled().await;
    let error = refused(directory.path(), &Placement::new(b"another", 4)).await;
    assert_eq!(error, StoreError::OtherSecret(directory.path().to_owned()));
    assert!(error.to_string().contains("cluster secret"), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_named_and_left_alone() {
    let directory = filled().await;
    let file = directory.path().join("herenow-store");
    let newer = fs::read_to_string(&file).unwrap().replace("format 1", "format 2");
    fs::write(&file, &newer).unwrap();
    let error = refused(directory.path(), &placement()).await;
    let (path, found) = (directory.path().to_owned(), "2".to_owned());
    assert_eq!(error, StoreError::Format { path, found, wanted: herenow_store::FORMAT });
    assert_eq!(fs::read_to_string(&file).unwrap(), newer);
}

#[tokio::test]
async fn what_is_not_a_store_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("letter.txt"), "dear Ana").unwrap();
    let error = refused(directory.path(), &placement()).await;
    assert_eq!(error.label(), "format");
    assert!(error.to_string().contains("letter.txt"), "{error}");
    assert_eq!(files(directory.path()).len(), 1);

    fs::write(directory.path().join("herenow-store"), "nonsense").unwrap();
    assert_eq!(refused(directory.path(), &placement()).await.label(), "damaged");
}

#[tokio::test]
async fn a_path_that_cannot_be_a_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a-file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = refused(&path, &placement()).await;
        assert_eq!(error.label(), "not_writable", "{error}");
    }
}

#[tokio::test]
async fn a_torn_journal_loses_whole_batches_from_its_end_and_nothing_else() {
    let directory = filled().await;
    let journal = journal(directory.path());
    let length = fs::metadata(&journal).unwrap().len();
    for cut in [1, 7, 1_000, 30_000] {
        let file = fs::OpenOptions::new().write(true).open(&journal).unwrap();
        file.set_len(length - cut).unwrap();
        drop(file);
        let store = Directory(tempfile::tempdir().unwrap());
        copy(directory.path(), store.0.path());
        let store = store.open_again().await;
        let keys: Vec<UserKey> = (0..200).map(|i| key(&format!("u{i}"))).collect();
        let read: Vec<_> = store.get_many(keys).await.unwrap().into_iter().flatten().collect();
        assert_eq!(read.len(), 200);
        let rounds: std::collections::BTreeSet<u64> =
            read.iter().map(|record| record.written.n / 200).collect();
        assert_eq!(rounds.len(), 1, "a batch is there whole or not at all");
        assert!(rounds.first().is_some_and(|round| *round < 19), "the torn batch is gone: {rounds:?}");
    }
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
}

/// Whatever byte of whatever file is wrong: the store says so or reads what was written, and nothing breaks off.
#[tokio::test]
async fn a_damaged_file_is_named_or_harmless() {
    let whole = filled().await;
    let (mut named, mut harmless) = (0, 0);
    for file in files(whole.path()) {
        let length = fs::metadata(&file).unwrap().len();
        for place in [0, length / 3, length / 2, length.saturating_sub(1)] {
            let broken = tempfile::tempdir().unwrap();
            copy(whole.path(), broken.path());
            let target = broken.path().join(file.strip_prefix(whole.path()).unwrap());
            let mut bytes = fs::read(&target).unwrap();
            let Some(byte) = bytes.get_mut(usize::try_from(place).unwrap()) else { continue };
            *byte ^= 0x55;
            fs::write(&target, &bytes).unwrap();
            match read_all(broken.path()).await {
                Err(error) => {
                    let known =
                        ["damaged", "format", "other_secret", "not_writable"].contains(&error.label());
                    assert!(known, "{}: {error}", target.display());
                    named += 1;
                }
                Ok(read) => {
                    for found in read {
                        assert_eq!(found, record(found.user.as_str(), found.written));
                    }
                    harmless += 1;
                }
            }
        }
    }
    assert!(named > 0 && harmless > 0, "{named} named, {harmless} harmless");
}

async fn read_all(path: &Path) -> Result<Vec<herenow_protocol::record::Record>, StoreError> {
    let store = Embedded::open(path, &placement()).await?;
    let everybody = (UserKey::default(), UserKey::from_bytes([0xff; 16]));
    Ok(store.scan(everybody, None).await?.records)
}
