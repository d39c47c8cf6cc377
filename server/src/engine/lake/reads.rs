//! What may be read, where the operator limits it.
//!
//! DuckDB itself refuses every other file, whatever function or view a path comes in, and follows links and `..` of this
//! machine before it looks; addresses it compares as text. Its list is made once, when all is open that the configuration
//! declares, and stands until the end: from then on it neither loads an extension nor attaches a database of PostgreSQL.

use std::{fs, path::Path, sync::Arc};

use super::{AttachedCatalog, Connection, Error, Format, Lake, Result, Source, place::pattern};
use crate::{
    engine::{
        BadDirectory,
        export::{Directory, real_file},
        log_head::LOGS,
    },
    sql::literal,
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
}

/// What DuckDB may open.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    folders: Vec<String>,
    files: Vec<String>,
}

impl Lake {
    /// Where clients may read or write.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Directory> {
        let reads = self.reads.iter().flat_map(|reads| reads.directories.iter());
        reads.chain(self.exports.directories())
    }

    /// Keeps clients to what they may read. Nothing can be declared after this.
    ///
    /// # Errors
    /// [`Error::Setup`] for a source that would open everything.
    pub(in crate::engine) fn limit_reads(&self, connection: &Connection) -> Result<()> {
        if self.reads.is_none() {
            return Ok(());
        }
        let mut places = Places::default();
        places.folders.extend(self.directories().map(Directory::to_string));
        self.sources.iter().try_for_each(|source| places.add_source(source))?;
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
    fn add_source(&mut self, source: &Source) -> Result<()> {
        for path in &source.paths {
            let path = path.strip_prefix("file://").unwrap_or(path);
            let is_table = matches!(source.format, Format::Delta | Format::Iceberg);
            match pattern(path) {
                Some(folder) if is_everything(folder) => {
                    let what = format!("source {}", source.name);
                    let reason =
                        "its pattern begins at the root, so that read_directories would limit nothing";
                    return Err(Error::Setup { what, reason: reason.into() });
                }
                Some(folder) => self.add_folder(folder),
                None if is_table => self.add_table(path),
                None => self.add_file(path),
            }
        }
        Ok(())
    }

    /// The folder of a table. The path of one of Iceberg may be that of a file in a folder of the table.
    fn add_table(&mut self, path: &str) {
        let of_metadata =
            path.strip_suffix(".json").and_then(|path| path.rsplit_once('/')?.0.rsplit_once('/'));
        self.add_folder(of_metadata.map_or(path, |(table, _)| table));
    }

    /// Also one that is missing, for it may come.
    fn add_catalog(&mut self, catalog: &AttachedCatalog, connection: &Connection) -> Result<()> {
        if catalog.is_file() {
            let file = catalog.location.strip_prefix("sqlite:").unwrap_or(&catalog.location);
            self.add_file(file);
            LOGS.iter().for_each(|ending| self.add_file(&format!("{file}{ending}")));
        }
        match catalog.data_path(connection)? {
            Some(path) => self.add_data(catalog, &path),
            None => Ok(()),
        }
    }

    /// The folder of a lake's data, which DuckLake makes with its first file. It could not any more: what lies above it
    /// is out of its reach.
    fn add_data(&mut self, catalog: &AttachedCatalog, path: &str) -> Result<()> {
        if !path.contains("://") {
            fs::create_dir_all(path).map_err(|error| Error::Setup {
                what: format!("catalog {}", catalog.name),
                reason: format!("there is no folder for its data: {error}"),
            })?;
        }
        self.add_folder(path);
        self.add_file(path.trim_end_matches('/'));
        Ok(())
    }

    fn add_folder(&mut self, path: &str) {
        self.folders.push(format!("{}/", real(path).trim_end_matches('/')));
    }

    fn add_file(&mut self, path: &str) {
        self.files.push(real(path));
    }
}

/// Whether a folder is that of all others, of this machine or of a kind of storage.
fn is_everything(folder: &str) -> bool {
    folder.is_empty() || folder.ends_with(":/")
}

/// Where a path of this machine leads to now. DuckDB does this to what it is asked for; what begins with `~` it
/// understands itself.
fn real(path: &str) -> String {
    let is_here = !path.contains("://") && !path.starts_with('~');
    let real = if is_here { real_file(Path::new(path)) } else { None };
    real.and_then(|real| real.into_os_string().into_string().ok()).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(format: Format, path: &str) -> Source {
        let paths = vec![path.to_owned()];
        Source { name: "s".into(), description: None, format, paths, options: [].into(), required: true }
    }

    fn places(format: Format, path: &str) -> Places {
        let mut places = Places::default();
        places.add_source(&source(format, path)).unwrap();
        places
    }

    #[test]
    fn a_pattern_opens_the_folder_before_its_first_star() {
        for (path, folder) in [
            ("s3://b/trips/year=*/*.parquet", "s3://b/trips/"),
            ("/no/such/part-?.csv", "/no/such/"),
            ("~/rows/*.csv", "~/rows/"),
            ("file:///no/such/*", "/no/such/"),
        ] {
            assert_eq!(places(Format::Csv, path), Places { folders: vec![folder.into()], files: vec![] });
        }
        for path in ["/*.csv", "s3://*/x.csv", "/**/x"] {
            let refused = Places::default().add_source(&source(Format::Csv, path));
            assert!(matches!(refused, Err(Error::Setup { .. })), "{path}");
        }
    }

    #[test]
    fn a_file_opens_itself_alone() {
        let folder = fs::canonicalize(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = folder.join("Cargo.toml").display().to_string();
        let detour = format!("{}/src/../Cargo.toml", folder.display());
        for (path, file) in [
            (detour.as_str(), file.as_str()),
            ("https://host/x.csv?token=1", "https://host/x.csv?token=1"),
            ("s3://b/x.csv", "s3://b/x.csv"),
        ] {
            assert_eq!(places(Format::Csv, path), Places { folders: vec![], files: vec![file.into()] });
        }
    }

    #[test]
    fn a_table_opens_its_folder() {
        for path in ["s3://b/t", "s3://b/t/", "s3://b/t/metadata/v3.metadata.json"] {
            let folders = vec!["s3://b/t/".into()];
            assert_eq!(places(Format::Iceberg, path), Places { folders, files: vec![] });
        }
    }
}
