//! What may be read, where the operator limits it.
//!
//! DuckDB itself refuses every other file, in whatever way a statement comes to it, and follows links and `..` before it
//! looks. Its list is made once, when all is open that the configuration declares, and stands until the end: from then
//! on it neither loads an extension nor attaches a database of PostgreSQL.

use std::{fs, path::Path, sync::Arc};

use super::{AttachedCatalog, CatalogKind, Connection, Format, Lake, Result, Source};
use crate::{
    engine::{
        BadDirectory,
        answers::first_text,
        export::{Directory, real_file},
    },
    sql::{literal, quote},
};

/// Where clients may read, besides what the configuration declares.
#[derive(Debug, Clone)]
pub struct Reads {
    directories: Arc<[Directory]>,
}

impl Reads {
    /// Reads from these folders and addresses.
    ///
    /// # Errors
    /// [`BadDirectory`]: what is no folder and no address of object storage.
    pub fn under(directories: &[String]) -> Result<Self, BadDirectory> {
        let read = |text: &String| Directory::read(text, None);
        Ok(Self { directories: directories.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// Whether object storage is among them.
    pub(super) fn are_remote(&self) -> bool {
        self.directories.iter().any(|directory| matches!(directory, Directory::Remote(_)))
    }
}

/// What DuckDB may open.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    folders: Vec<String>,
    files: Vec<String>,
}

impl Lake {
    /// Keeps clients to what they may read. Nothing can be declared after this.
    pub(in crate::engine) fn limit_reads(&self, connection: &Connection) -> Result<()> {
        let Some(reads) = &self.reads else { return Ok(()) };
        let mut places = Places::default();
        let named = reads.directories.iter().chain(self.exports.directories());
        places.folders.extend(named.map(Directory::to_string));
        self.sources.iter().for_each(|source| places.add_source(source));
        for catalog in &self.catalogs {
            places.add_catalog(catalog, connection)?;
        }
        let list = |texts: &[String]| texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join(", ");
        connection.execute(&format!("SET GLOBAL allowed_directories = [{}]", list(&places.folders)))?;
        connection.execute(&format!("SET GLOBAL allowed_paths = [{}]", list(&places.files)))?;
        connection.execute("SET GLOBAL enable_external_access = false")?;
        Ok(())
    }
}

impl Places {
    fn add_source(&mut self, source: &Source) {
        for path in &source.paths {
            self.add(path);
            // The path of an Iceberg table may be one of its metadata files, which lie in a folder of the table.
            let table = path.rsplit_once('/').and_then(|(metadata, _)| metadata.rsplit_once('/'));
            if let (Format::Iceberg, true, Some((table, _))) = (source.format, path.ends_with(".json"), table)
            {
                self.add(table);
            }
        }
    }

    /// Also one that is missing, for it may come.
    fn add_catalog(&mut self, catalog: &AttachedCatalog, connection: &Connection) -> Result<()> {
        if catalog.is_file() {
            let file = catalog.location.strip_prefix("sqlite:").unwrap_or(&catalog.location);
            self.add(file);
            self.add(&format!("{file}.wal"));
        }
        let CatalogKind::DuckLake { data_path } = &catalog.kind else { return Ok(()) };
        if let Some(path) = data_path {
            self.add(path);
        } else if catalog.is_there(connection)? {
            let metadata = quote(&format!("__ducklake_metadata_{}", catalog.name));
            let path = format!("SELECT value FROM {metadata}.ducklake_metadata WHERE key = 'data_path'");
            self.add(&first_text(connection, &path)?);
        }
        Ok(())
    }

    /// A file, a folder, an address, or what lies before the stars of a pattern.
    fn add(&mut self, path: &str) {
        let path = path.strip_prefix("file://").unwrap_or(path);
        let is_web = path.starts_with("http://") || path.starts_with("https://");
        let pattern = path.find(['*', '?', '[', '{']).filter(|_| !is_web);
        let (path, is_folder) = match pattern.map(|at| path[..at].rsplit_once('/')) {
            None => (path, false),
            Some(Some((folder, _))) => (if folder.is_empty() { "/" } else { folder }, true),
            Some(None) => (".", true),
        };
        let is_remote = path.contains("://");
        let real = if is_remote { None } else { real_file(Path::new(path)) };
        let real = real.and_then(|real| real.into_os_string().into_string().ok());
        let path = real.as_deref().unwrap_or(path).trim_end_matches('/');
        // Of an address nobody knows whether it is a folder, such as that of a table, before it is asked.
        let may_be_folder = is_folder || is_remote || fs::metadata(path).is_ok_and(|path| path.is_dir());
        if may_be_folder {
            self.folders.push(format!("{path}/"));
        }
        if !is_folder {
            self.files.push(path.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(path: &str) -> (Vec<String>, Vec<String>) {
        let mut places = Places::default();
        places.add(path);
        (places.folders, places.files)
    }

    #[test]
    fn a_pattern_opens_the_folder_before_its_first_star() {
        let folders = |path| places(path).0;
        assert_eq!(folders("s3://b/trips/year=*/*.parquet"), ["s3://b/trips/"]);
        assert_eq!(folders("/no/such/part-?.csv"), ["/no/such/"]);
        assert_eq!(folders("/*.csv"), ["/"]);
        assert_eq!(places("s3://b/*").1, [""; 0]);
    }

    #[test]
    fn a_file_opens_itself_alone() {
        let folder = fs::canonicalize(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = folder.join("Cargo.toml").display().to_string();
        assert_eq!(places(&format!("{}/src/../Cargo.toml", folder.display())), (vec![], vec![file]));
        assert_eq!(
            places("https://host/x.csv?token=1"),
            (vec!["https://host/x.csv?token=1/".into()], vec!["https://host/x.csv?token=1".into()])
        );
    }
}
