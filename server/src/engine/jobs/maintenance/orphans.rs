//! Orphans of a lake: files of commits that broke off, which nothing has written down.
//!
//! DuckLake (1.5.5) takes every Parquet file below the lake's data_path for one that its metadata do not name, by the same text.
//! That would as well delete files of others which came to lie there, and the lake's own where the storage tells them by
//! another text than its data_path, as with one that begins with `~`. Nothing brings them back. So the server looks at what
//! would go, and lets nothing go unless all of it is named as orphans of this lake are.

use arrow_array::cast::AsArray;

use crate::engine::{
    Error, Result,
    ffi::Connection,
    lake::{data_path_of, is_its_file},
};

/// What DuckLake would delete as orphans.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files that are named as those of the lake are.
    orphans: u64,
    /// Other files,
    foreign: u64,
    /// and those that the lake has in use.
    in_use: u64,
    /// One that is no orphan, for the log.
    example: Option<String>,
}

impl Found {
    /// Looks at them. `listed` is the function of DuckLake that lists them, with its arguments; `metadata` is the quoted name
    /// of the catalog that is the lake's metadata.
    ///
    /// # Errors
    /// Whatever DuckDB says.
    pub(super) fn look(connection: &Connection, lake: &str, metadata: &str, listed: &str) -> Result<Self> {
        let data_path = data_path_of(connection, lake)?;
        // What the lake knows has a name that is nobody else's, wherever it is said to be.
        let known = ["data_file", "delete_file", "files_scheduled_for_deletion"]
            .map(|table| format!("SELECT parse_filename(path) FROM {metadata}.ducklake_{table}"))
            .join(" UNION ALL ");
        let sql = format!("SELECT path, parse_filename(path) IN ({known}) FROM {listed}");
        let mut rows = connection.extract(&sql)?.prepare(0)?.execute()?;
        let mut found = Self::default();
        while let Some(batch) = rows.next()? {
            let (paths, known) = (batch.column(0).as_string::<i32>(), batch.column(1).as_boolean());
            for (path, is_known) in paths.iter().zip(known) {
                found.add(&data_path, path.unwrap_or_default(), is_known.unwrap_or_default());
            }
        }
        Ok(found)
    }

    fn add(&mut self, data_path: &str, path: &str, is_known: bool) {
        let count = match () {
            () if is_known => &mut self.in_use,
            () if is_named_as_its_own(data_path, path) => &mut self.orphans,
            () => &mut self.foreign,
        };
        *count += 1;
        if self.example.is_none() && self.foreign + self.in_use > 0 {
            self.example = Some(path.to_owned());
        }
    }

    /// How many orphans there are, where all of it is.
    ///
    /// # Errors
    /// [`Error::NotOrphans`].
    pub(super) fn check(&self, lake: &str) -> Result<u64> {
        let Some(example) = &self.example else { return Ok(self.orphans) };
        let Self { foreign, in_use, .. } = self;
        tracing::warn!(
            lake,
            foreign,
            in_use,
            example,
            "what DuckLake takes for orphans is none; nothing of it is deleted"
        );
        Err(Error::NotOrphans { lake: lake.to_owned(), foreign: *foreign, in_use: *in_use })
    }
}

/// Whether a file lies where DuckLake puts those of a lake, and is called so: the folders of its schema, its table and its
/// partition, and a name of its own making. Files of a lake in a folder of this one lie deeper.
fn is_named_as_its_own(data_path: &str, path: &str) -> bool {
    let Some(below) = path.strip_prefix(data_path) else { return false };
    let names: Vec<_> = below.split('/').collect();
    let [schema, table, partition @ .., file] = names.as_slice() else { return false };
    !schema.is_empty()
        && !table.is_empty()
        && partition.iter().all(|name| name.contains('='))
        && is_its_file(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "01a21ce2-0498-7d89-a955-08e842d49755";

    /// Whether a file below `s3://b/lake/` is taken for one of the lake's.
    fn is_own(below: &str) -> bool {
        is_named_as_its_own(
            "s3://b/lake/",
            &format!("s3://b/lake/{}", below.replace('@', &format!("ducklake-{UUID}"))),
        )
    }

    #[test]
    fn the_lakes_own_files_are_known_by_their_place_and_name() {
        for own in [
            "main/t/@.parquet",
            "main/t/@-delete.parquet",
            "main/t/region=n/year=1970/@.parquet",
            "main/t/y=/@.parquet",
            "01a21ce2-0498-7d89-a955-08e842d49755/01a21ce2-04ef-7ffa-a731-506b8f07558c/@.parquet",
        ] {
            assert!(is_own(own), "{own}");
        }
        for foreign in [
            "x.parquet",
            "@.parquet",
            "t/@.parquet",
            "readings/2024/x.parquet",
            "main/t/x.parquet",
            "main/t/@.csv",
            "main/t/x@.parquet",
            "main/t/@x.parquet",
            "main/t/ducklake-.parquet",
            "main/t/ducklake-01a21ce2-0498-7d89-a955.parquet",
            "main/t/ducklake-01a21ce2-0498-7d89-a955-08e842d4975x.parquet",
            // Another lake in a folder of this one.
            "other/main/t/@.parquet",
            "other/main/t/y=1/@.parquet",
            "/main/@.parquet",
        ] {
            assert!(!is_own(foreign), "{foreign}");
        }
        let elsewhere = format!("/home/me/lake/main/t/ducklake-{UUID}.parquet");
        assert!(!is_named_as_its_own("~/lake/", &elsewhere));
    }

    #[test]
    fn one_file_that_is_no_orphan_keeps_all() {
        let mut found = Found::default();
        let orphan = format!("l/main/t/ducklake-{UUID}.parquet");
        found.add("l/", &orphan, false);
        assert_eq!(found.check("lake").unwrap(), 1);
        found.add("l/", "l/x.parquet", false);
        found.add("l/", &orphan, true);
        let told = found.check("lake").unwrap_err().to_string();
        assert!(matches!(found.check("lake"), Err(Error::NotOrphans { foreign: 1, in_use: 1, .. })));
        assert!(!told.contains(".parquet"), "{told}");
    }
}
