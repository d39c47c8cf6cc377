//! Targets on this machine: where a path really leads to, and what lies there.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{refuse, spared};
use crate::engine::{Result, log_head::log_of};

/// What DuckDB puts before the name of a file that is not complete yet.
pub(super) const UNFINISHED: &str = "tmp_";

/// Links and files that are looked at below a folder before a client is told to choose a new one.
const MAX_ENTRIES: usize = 100_000;

/// The real path of a folder that is there.
pub(super) fn real_folder(text: &str) -> Option<PathBuf> {
    fs::canonicalize(text).ok().filter(|folder| folder.is_dir())
}

/// The real path of a file that may not be there yet.
pub(in crate::engine) fn real_file(file: &Path) -> Option<PathBuf> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::canonicalize(file).ok().or_else(|| Some(fs::canonicalize(folder).ok()?.join(file.file_name()?)))
}

/// Where a target really is; `None` where that is not under `folder`.
pub(super) fn under_folder(folder: &Path, target: &str) -> Option<PathBuf> {
    real_place(target).filter(|place| place.starts_with(folder) && place != folder)
}

/// A place as text, if it is none of these databases and has no links in it.
///
/// # Errors
/// [`crate::engine::Error::ExportRefused`].
pub(super) fn checked(place: PathBuf, databases: &[PathBuf]) -> Result<String> {
    check(&place, databases)?;
    place.into_os_string().into_string().or_else(|_| refuse("the path of the export directory must be text"))
}

/// An absolute path without detours, with the links before its last name followed. What is not there yet is taken as
/// it is written.
pub(super) fn real_place(target: &str) -> Option<PathBuf> {
    let target = target.strip_suffix('/').unwrap_or(target);
    let names = target.strip_prefix('/')?;
    let is_plain = |name: &str| !name.is_empty() && name != "." && name != "..";
    if !names.split('/').all(is_plain) || names.contains(['*', '?', '[', '\\', '\0']) {
        return None;
    }
    let path = Path::new(target);
    let mut there = path.parent()?;
    while matches!(fs::symlink_metadata(there), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        there = there.parent()?;
    }
    let missing = path.strip_prefix(there).ok()?;
    Some(fs::canonicalize(there).ok()?.join(missing))
}

/// Refuses what is a link, or a database that is open, under whatever name.
fn check(place: &Path, databases: &[PathBuf]) -> Result<()> {
    let unfinished = place.file_name().map(|name| {
        let mut unfinished = std::ffi::OsString::from(UNFINISHED);
        unfinished.push(name);
        place.with_file_name(unfinished)
    });
    let mut waiting: Vec<PathBuf> = std::iter::once(place.to_owned()).chain(unfinished).collect();
    for written in &waiting {
        spared::check(written, databases)?;
    }
    let mut seen = 0;
    while let Some(path) = waiting.pop() {
        seen += 1;
        if seen > MAX_ENTRIES {
            return refuse("the folder holds too many files; export to a new one");
        }
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_symlink() {
            return refuse(
                "the target is a link, or has one in it, which is not followed; choose another name",
            );
        }
        if is_database(&found, databases) {
            return refuse("the target is a database that is open");
        }
        if found.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten();
            waiting.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
    }
    Ok(())
}

/// A file may have several names.
fn is_database(found: &fs::Metadata, databases: &[PathBuf]) -> bool {
    let is = |file: &Path| {
        fs::metadata(file).is_ok_and(|file| (file.dev(), file.ino()) == (found.dev(), found.ino()))
    };
    databases.iter().any(|database| is(database) || is(&log_of(database)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// `out` is the export directory, `private` is not; the database is in neither.
    fn folders() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().canonicalize().unwrap();
        for folder in ["out", "out/inside", "private", "outside"] {
            fs::create_dir(path.join(folder)).unwrap();
        }
        for file in ["db.duckdb", "db.duckdb.wal", "private/x.csv"] {
            fs::write(path.join(file), "x").unwrap();
        }
        (root, path)
    }

    /// What comes of a target, with `@` for the folder around all.
    fn placed(root: &Path, target: &str) -> Option<Result<String>> {
        let target = target.replace('@', root.to_str().unwrap());
        let place = under_folder(&root.join("out"), &target)?;
        Some(checked(place, &[root.join("db.duckdb")]))
    }

    #[test]
    fn what_is_under_the_folder_is_placed() {
        let (_kept, root) = folders();
        symlink(root.join("out"), root.join("other-name")).unwrap();
        symlink(root.join("out/inside"), root.join("out/link-inside")).unwrap();
        for (target, place) in [
            ("@/out/x.csv", "out/x.csv"),
            ("@/out/new/folder/x.csv", "out/new/folder/x.csv"),
            ("@/out/folder/", "out/folder"),
            ("@/other-name/x.csv", "out/x.csv"),
            ("@/out/link-inside/x.csv", "out/inside/x.csv"),
        ] {
            let found = placed(&root, target).unwrap().unwrap();
            assert_eq!(Path::new(&found), root.join(place), "{target}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_not() {
        let (_kept, root) = folders();
        symlink(root.join("private"), root.join("out/link")).unwrap();
        symlink(root.join("nowhere"), root.join("out/dangling")).unwrap();
        for target in [
            "@/private/x.csv",
            "@/out",
            "@/out/",
            "@/outside/x.csv",
            "@/out/../private/x.csv",
            "@/out/./x.csv",
            "@/out//x.csv",
            "@/out/link/x.csv",
            "@/out/link/new/x.csv",
            "@/out/dangling/x.csv",
            "@/out/*.csv",
            "out/x.csv",
            "x.csv",
            "file://@/out/x.csv",
            "file:@/out/x.csv",
            "~/x.csv",
            "/",
            "",
        ] {
            assert!(placed(&root, target).is_none(), "{target}");
        }
    }

    #[test]
    fn links_and_the_database_are_not_written_to() {
        let (_kept, root) = folders();
        fs::create_dir(root.join("out/parts")).unwrap();
        symlink(root.join("private"), root.join("out/parts/year=2025")).unwrap();
        symlink(root.join("private/x.csv"), root.join("out/link.csv")).unwrap();
        symlink(root.join("private/x.csv"), root.join("out/tmp_unfinished.csv")).unwrap();
        fs::hard_link(root.join("db.duckdb"), root.join("out/twin.csv")).unwrap();
        fs::hard_link(root.join("db.duckdb.wal"), root.join("out/log.csv")).unwrap();
        for target in
            ["@/out/link.csv", "@/out/unfinished.csv", "@/out/parts", "@/out/twin.csv", "@/out/log.csv"]
        {
            assert!(placed(&root, target).unwrap().is_err(), "{target}");
        }
    }
}
