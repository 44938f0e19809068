//! Who users are, out of a file: line by line, however long it is.

use std::io::{self, BufRead, Read as _};

use herenow_protocol::{UserId, WallTime};
use herenow_store::{People, StoreError, UserDetails};
use serde::Deserialize;
use serde::de::value::{Error as Refused, StrDeserializer};

/// Most bytes of a line.
const LINE_BYTES: u64 = 64 * 1024;
/// Users of one call of the store.
const AT_ONCE: usize = 1_000;
/// The columns that a CSV file has, in any order, beside others.
const COLUMNS: [&str; 4] = ["userId", "username", "email", "creationDate"];

/// How a file says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated values, with the names of the columns in the first line.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// Told how it goes.
pub(crate) trait Progress {
    /// So many users are written.
    fn written(&mut self, users: u64);
    /// A line says nothing that can be written, and why.
    fn bad(&mut self, line: u64, reason: &str);
}

/// Why it ended before the file did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// The file cannot be read on.
    #[error("line {line} cannot be read: {error}")]
    Read {
        /// Which line.
        line: u64,
        /// Why.
        error: io::Error,
    },
    /// The first line of a CSV file names no such column.
    #[error("line 1 names no column `{0}`: it must name userId, username, email and creationDate")]
    Column(&'static str),
    /// The store takes it not.
    #[error("{error}; the users up to line {line} are written, and the same file may be given again")]
    Store {
        /// The last line of which all is written.
        line: u64,
        /// Why.
        error: StoreError,
    },
}

/// Writes everybody of a file, over what was there. Lines that say nobody are left out. Returns how many users and how
/// many bad lines there were.
///
/// # Errors
/// See [`ImportError`]. What was written before stays; the same file may be given again.
pub(crate) async fn import(
    input: impl BufRead,
    format: Format,
    people: &dyn People,
    progress: &mut dyn Progress,
) -> Result<(u64, u64), ImportError> {
    let mut lines = Lines { input, number: 0 };
    let columns = match format {
        Format::Csv => Some(columns(&mut lines)?),
        Format::Ndjson => None,
    };
    let (mut batch, mut written, mut bad, mut safe) = (Vec::new(), 0, 0, 0);
    loop {
        let line = lines.next()?;
        let last = line.is_none();
        match line.map(|line| line.and_then(|line| user_of(&line, columns.as_ref()))) {
            Some(Ok(Some(user))) => batch.push(user),
            Some(Err(reason)) => {
                bad += 1;
                progress.bad(lines.number, &reason);
            }
            Some(Ok(None)) | None => {}
        }
        if batch.len() == AT_ONCE || (last && !batch.is_empty()) {
            let count = batch.len() as u64;
            let put = people.put(std::mem::take(&mut batch)).await;
            put.map_err(|error| ImportError::Store { line: safe, error })?;
            written += count;
            safe = lines.number;
            progress.written(written);
        }
        if last {
            return Ok((written, bad));
        }
    }
}

/// Lines with their numbers, none of them longer than the limit.
struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next line without its end; why it is none; nothing at the end.
    fn next(&mut self) -> Result<Option<Result<Vec<u8>, String>>, ImportError> {
        self.number += 1;
        let line = self.number;
        let failed = |error| ImportError::Read { line, error };
        let mut bytes = Vec::new();
        let mut limited = (&mut self.input).take(LINE_BYTES + 1);
        let length = limited.read_until(b'\n', &mut bytes).map_err(failed)? as u64;
        if length == 0 {
            self.number -= 1;
            return Ok(None);
        }
        let whole = bytes.ends_with(b"\n");
        if length > LINE_BYTES {
            if !whole {
                self.input.skip_until(b'\n').map_err(failed)?;
            }
            return Ok(Some(Err(format!("has more than {LINE_BYTES} bytes"))));
        }
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = if line == 1 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text };
        Ok(Some(Ok(text.to_vec())))
    }
}

/// Where the columns are, and how many there are in all.
struct Columns {
    places: [usize; COLUMNS.len()],
    count: usize,
}

fn columns(lines: &mut Lines<impl BufRead>) -> Result<Columns, ImportError> {
    let header = lines.next()?.and_then(Result::ok).and_then(|line| fields(&line).ok()).unwrap_or_default();
    let mut places = [0; COLUMNS.len()];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        let found = header.iter().position(|name| name.trim() == column);
        *place = found.ok_or(ImportError::Column(column))?;
    }
    Ok(Columns { places, count: header.len() })
}

/// A name has no line break in it, so that a record is a line.
fn fields(line: &[u8]) -> Result<csv::StringRecord, String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line);
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record).map_err(|_| "is not UTF-8".to_owned())?;
    Ok(record)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    user_id: String,
    username: String,
    email: String,
    creation_date: String,
}

/// The user that a line says; nobody where it is empty.
fn user_of(line: &[u8], columns: Option<&Columns>) -> Result<Option<UserDetails>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let said = match columns {
        Some(columns) => object_of(&fields(line)?, columns)?,
        None => serde_json::from_slice(line).map_err(|error| explain(&error))?,
    };
    let user = UserId::new(&said.user_id).map_err(|why| format!("userId: {why}"))?;
    let created = WallTime::deserialize(StrDeserializer::<Refused>::new(&said.creation_date));
    let created = created.map_err(|why| format!("creationDate: {why}, such as 2026-01-31T08:15:30Z"))?;
    let user = UserDetails { user, username: said.username, email: said.email, created };
    user.check().map_err(|why| why.to_string())?;
    Ok(Some(user))
}

fn object_of(record: &csv::StringRecord, columns: &Columns) -> Result<Object, String> {
    let (given, count) = (record.len(), columns.count);
    if given != count {
        return Err(format!("has {given} fields, the first line has {count}"));
    }
    let [user_id, username, email, creation_date] =
        columns.places.map(|place| record.get(place).unwrap_or_default().to_owned());
    Ok(Object { user_id, username, email, creation_date })
}

/// Without what the line says: it may be printed where others read.
fn explain(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let about_a_field = said.starts_with("missing field") || said.starts_with("duplicate field");
    match said.split_once(" at line") {
        Some((reason, _)) if about_a_field => reason.to_owned(),
        Some(_) | None => {
            "is no JSON object with the strings userId, username, email and creationDate".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::future::{BoxFuture, FutureExt as _};

    use super::*;

    /// Remembers who was put, and how many at once; refuses from so many calls on.
    #[derive(Default)]
    struct Put {
        users: Mutex<Vec<UserDetails>>,
        calls: Mutex<Vec<usize>>,
        fails_after: Option<usize>,
    }

    impl People for Put {
        fn put(&self, users: Vec<UserDetails>) -> BoxFuture<'_, Result<(), StoreError>> {
            let mut calls = self.calls.lock().unwrap();
            if self.fails_after.is_some_and(|most| calls.len() >= most) {
                return std::future::ready(Err(StoreError::Unavailable("away".to_owned()))).boxed();
            }
            calls.push(users.len());
            self.users.lock().unwrap().extend(users);
            std::future::ready(Ok(())).boxed()
        }

        fn get<'a>(&'a self, _user: &'a UserId) -> BoxFuture<'a, Result<Option<UserDetails>, StoreError>> {
            std::future::ready(Ok(None)).boxed()
        }

        fn forget<'a>(&'a self, _user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>> {
            std::future::ready(Ok(())).boxed()
        }
    }

    #[derive(Default)]
    struct Told {
        written: Vec<u64>,
        bad: Vec<(u64, String)>,
    }

    impl Progress for Told {
        fn written(&mut self, users: u64) {
            self.written.push(users);
        }

        fn bad(&mut self, line: u64, reason: &str) {
            self.bad.push((line, reason.to_owned()));
        }
    }

    fn run(text: &[u8], format: Format, people: &Put) -> (Result<(u64, u64), ImportError>, Told) {
        let mut told = Told::default();
        let done = import(text, format, people, &mut told).now_or_never().unwrap();
        (done, told)
    }

    const ANA: &str =
        r#"{"userId":"ana","username":"Ana","email":"a@x","creationDate":"2024-01-31T08:00:00Z"}"#;

    #[test]
    fn both_formats_say_the_same() {
        let csv = "\u{feff}email,userId,extra,username,creationDate\r\na@x,ana,1,\"Ana, \"\"A\"\"\",2024-01-31T08:00:00Z\r\n\n";
        let json = format!("{}\n\n", ANA.replace("Ana", r#"Ana, \"A\""#));
        let (of_csv, of_json) = (Put::default(), Put::default());
        assert_eq!(run(csv.as_bytes(), Format::Csv, &of_csv).0.unwrap(), (1, 0));
        assert_eq!(run(json.as_bytes(), Format::Ndjson, &of_json).0.unwrap(), (1, 0));
        let ana = [UserDetails {
            user: UserId::new("ana").unwrap(),
            username: "Ana, \"A\"".to_owned(),
            email: "a@x".to_owned(),
            created: WallTime::from_millis(1_706_688_000_000),
        }];
        assert_eq!(*of_csv.users.lock().unwrap(), ana);
        assert_eq!(*of_json.users.lock().unwrap(), ana);
    }

    #[test]
    fn bad_lines_are_named_and_do_not_end_it() {
        let long = "x".repeat(usize::try_from(LINE_BYTES).unwrap() + 1);
        let name = |bytes: usize| ANA.replace("Ana", &"n".repeat(bytes));
        let lines = [
            ANA.to_owned(),
            "nonsense".to_owned(),
            ANA.replace("ana", ""),
            name(256),
            name(257),
            ANA.replace("a@x", "ax"),
            ANA.replace("2024-01-31T08:00:00Z", "31.1.2024"),
            r#"{"userId":"ana"}"#.to_owned(),
            long,
            ANA.replace("ana", "ben"),
        ];
        let people = Put::default();
        let (done, told) = run(lines.join("\n").as_bytes(), Format::Ndjson, &people);
        assert_eq!(done.unwrap(), (3, 7));
        let reasons =
            ["no JSON", "userId", "username", "email", "creationDate", "missing field `username`", "65536"];
        let numbers = [2, 3, 5, 6, 7, 8, 9];
        for ((number, reason), (line, said)) in numbers.iter().zip(reasons).zip(&told.bad) {
            assert!(number == line && said.contains(reason), "{line}: {said}");
        }
        assert_eq!(told.bad.len(), numbers.len());
    }

    #[test]
    fn a_csv_line_has_the_fields_of_the_first_and_the_first_names_all() {
        let people = Put::default();
        let csv = b"userId,username,email,creationDate\nana,Ana\nben,B,b@x,2024-01-31T08:00:00Z,more\n";
        let (done, told) = run(csv, Format::Csv, &people);
        assert_eq!(done.unwrap(), (0, 2));
        assert_eq!(told.bad[0].1, "has 2 fields, the first line has 4");
        let (done, _) = run(b"userId,username,creationDate\n", Format::Csv, &people);
        assert!(matches!(done, Err(ImportError::Column("email"))));
        let (done, _) = run(b"", Format::Csv, &people);
        assert!(matches!(done, Err(ImportError::Column("userId"))));
        assert_eq!(run(b"", Format::Ndjson, &people).0.unwrap(), (0, 0));
    }

    #[test]
    fn many_go_in_parts_and_a_store_that_fails_says_how_far_it_came() {
        let text = format!("{ANA}\n").repeat(AT_ONCE + 1);
        let people = Put::default();
        let (done, told) = run(text.as_bytes(), Format::Ndjson, &people);
        assert_eq!(done.unwrap(), (1_001, 0));
        assert_eq!(
            (people.calls.lock().unwrap().as_slice(), told.written),
            ([1_000, 1].as_slice(), vec![1_000, 1_001])
        );
        let people = Put { fails_after: Some(1), ..Put::default() };
        let (done, _) = run(text.as_bytes(), Format::Ndjson, &people);
        assert!(matches!(done, Err(ImportError::Store { line: 1_000, .. })));
    }
}
