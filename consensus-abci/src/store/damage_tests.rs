//! Files that something outside has damaged: an older whole state, or a refusal that says what to
//! do; never another state.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::{tests::*, *};

/// A directory's files: below it each name, what is in it up to the last byte that is not zero
/// (journals are allocated far beyond what is in them), and how long it is.
struct Copy(Vec<(PathBuf, Vec<u8>, u64)>);

impl Copy {
    fn of(dir: &Path) -> Copy {
        let mut files = Vec::new();
        let mut dirs = vec![dir.to_owned()];
        while let Some(at) = dirs.pop() {
            for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(entry.path());
                    continue;
                }
                let mut bytes = fs::read(entry.path()).unwrap();
                let len_bytes = bytes.len() as u64;
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
                files.push((entry.path().strip_prefix(dir).unwrap().into(), bytes, len_bytes));
            }
        }
        files.sort();
        Copy(files)
    }

    /// All files into an empty directory; `len` says how long one is, or that it is not there.
    fn write(&self, to: &Path, len: impl Fn(&Path, u64, u64) -> Option<u64>) {
        let _ = fs::remove_dir_all(to);
        for (name, bytes, len_bytes) in &self.0 {
            let target = to.join(name);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            if let Some(len_bytes) = len(name, bytes.len() as u64, *len_bytes) {
                fs::write(&target, bytes).unwrap();
                File::options().write(true).open(&target).unwrap().set_len(len_bytes).unwrap();
            }
        }
    }
}

fn is_journal(name: &Path) -> bool {
    name.extension().is_some_and(|end| end == "jnl")
}

/// Each height's head and content.
type History = BTreeMap<u64, (Head, BTreeMap<Vec<u8>, Vec<u8>>)>;

fn content(view: &Snapshot) -> BTreeMap<Vec<u8>, Vec<u8>> {
    view.prefix(b"").collect::<Result<_, _>>().unwrap()
}

/// A chain of so many blocks, each of which changes 20 values of so many bytes.
fn chain(dir: &Path, heights: u64, value_bytes: usize) -> History {
    let store = Store::open(dir).unwrap();
    let mut history = History::new();
    for height in 0..=heights {
        let write = |at: u64| {
            let key = format!("k{}", (height * 13 + at * 7) % 101).into_bytes();
            let mut value = height.to_be_bytes().to_vec();
            value.resize(value_bytes, at as u8);
            (key, (at != 5).then_some(value))
        };
        let writes = (0..20).map(write).collect();
        let update = Update { height, block_time_ms: height, writes, ..Update::default() };
        store.commit(&store.prepare(update).unwrap()).unwrap();
        let view = store.snapshot().unwrap();
        history.insert(height, (view.head().unwrap(), content(&view)));
    }
    history
}

/// Opens what is left: `Some(height)`, whole, or `None`, with a sentence.
#[track_caller]
fn check(dir: &Path, history: &History, what: &str) -> Option<u64> {
    let view = match Store::open(dir) {
        Ok(store) => store.snapshot().unwrap(),
        Err(error @ (StoreError::Damaged { .. } | StoreError::Format { .. })) => {
            assert!(error.to_string().contains("emove the directory"), "{what}: {error}");
            return None;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    let Some(head) = view.head() else {
        assert!(content(&view).is_empty(), "{what}: values without a head");
        return Some(0);
    };
    let (was, state) = &history[&head.height];
    assert_eq!(head, *was, "{what}");
    assert!(content(&view) == *state, "{what}: another state of height {}", head.height);
    assert_eq!(root_of_flat(&view), head.app_hash, "{what}");
    Some(head.height)
}

#[test]
fn a_journal_that_lost_its_end_gives_an_older_whole_state() {
    let (dir, twin) = (Dir::new(), Dir::new());
    let history = chain(dir.path(), 30, 40);
    let copy = Copy::of(dir.path());
    let used = copy.0.iter().find(|(name, ..)| is_journal(name)).unwrap().1.len() as u64;
    let mut heights = Vec::new();
    for lost in [0, 1, 7, 8, 9, 100, 1000, 5000, used / 2, used - 10, used] {
        copy.write(twin.path(), |name, used, len| {
            Some(if is_journal(name) { used - lost } else { len })
        });
        heights.push((lost, check(twin.path(), &history, &format!("{lost} bytes less"))));
    }
    assert_eq!(heights[0].1, Some(30), "{heights:?}");
    assert!(
        heights[1].1.is_some_and(|height| height < 30),
        "a block that is not whole: {heights:?}"
    );
    let is_between = |height: &Option<u64>| height.is_some_and(|height| (1..29).contains(&height));
    assert!(heights.iter().any(|(_, height)| is_between(height)), "{heights:?}");
}

/// The tables reach the disk at different times. With a journal's end gone they are of several
/// heights.
#[test]
fn tables_of_different_heights_are_refused() {
    let (dir, twin) = (Dir::new(), Dir::new());
    // Some tables outgrow their share of memory and are written, others do not.
    let history = chain(dir.path(), 100, 6000);
    let copy = Copy::of(dir.path());
    let mut refused = 0;
    for lost in [1, 1000, 1_000_000, u64::MAX] {
        copy.write(twin.path(), |name, used, len| {
            Some(if is_journal(name) { used.saturating_sub(lost) } else { len })
        });
        refused += u32::from(check(twin.path(), &history, &format!("{lost} less")).is_none());
    }
    assert!(refused > 0, "no case was one of different heights");
}

#[test]
fn any_file_that_is_cut_or_gone_is_noticed_or_does_not_matter() {
    let (dir, twin) = (Dir::new(), Dir::new());
    let history = chain(dir.path(), 100, 6000);
    let copy = Copy::of(dir.path());
    assert!(copy.0.len() > 8);
    let mut refused = 0;
    for (damaged, ..) in &copy.0 {
        for part in [None, Some(0), Some(60)] {
            copy.write(twin.path(), |name, _, len| {
                if name == damaged { part.map(|percent| len * percent / 100) } else { Some(len) }
            });
            let what = format!("{} kept to {part:?} %", damaged.display());
            refused += u32::from(check(twin.path(), &history, &what).is_none());
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let dir = Dir::new();
    fs::write(dir.path().join("version"), b"FJL\x01").unwrap();
    let Err(error) = Store::open(dir.path()) else { panic!("that is no database") };
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}
