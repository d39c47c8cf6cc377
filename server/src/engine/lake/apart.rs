//! A lake has its place for itself. Maintenance deletes Parquet files there that the lake does not know, and those of a source,
//! of an export or of another lake are such.

use super::{AttachedCatalog, Connection, Error, Lake, Result, place::Place};

/// A lake that does not have its place for itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "is not the lake's alone: {other} lies there, and maintenance deletes Parquet files that are not the lake's; give each \
     a folder or prefix of its own, such as s3://BUCKET/lake/ beside s3://BUCKET/files/"
)]
pub struct NotApart {
    /// The name of the lake.
    pub lake: String,
    other: String,
}

impl Lake {
    /// Checks that lakes which take writes have their places for themselves, as far as the configuration names them.
    ///
    /// # Errors
    /// [`NotApart`].
    pub fn check_apart(&self) -> Result<(), NotApart> {
        let named = |lake: &AttachedCatalog| lake.kind.data_path().map(Place::of);
        self.check(self.catalogs.iter().filter_map(|lake| Some((lake, named(lake)?))).collect())
    }

    /// Checks the same once a lake is attached, which may know itself where its files are.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(super) fn check_attached(&self, connection: &Connection) -> Result<()> {
        let mut lakes = Vec::new();
        for lake in self.catalogs.iter().filter(|catalog| catalog.is_shared()) {
            if let Some(path) = lake.data_path(connection)? {
                lakes.push((lake, Place::of(&path)));
            }
        }
        self.check(lakes).map_err(|error| Error::Refused(format!("its data_path {error}")))
    }

    fn check(&self, lakes: Vec<(&AttachedCatalog, Place)>) -> Result<(), NotApart> {
        for (lake, place) in lakes.iter().filter(|(lake, _)| !lake.read_only) {
            let there = |other: &Place| other.is_under(place);
            let sources = self.sources.iter().filter(|source| {
                source.paths.iter().map(|path| Place::of_source(path)).any(|files| there(&files))
            });
            let exports = self.exports.directories().iter().filter(|it| there(&Place::of(&it.to_string())));
            let others = lakes.iter().filter(|(other, files)| !other.is_same_as(lake) && there(files));
            let mut found = (sources.map(|source| format!("the source {:?}", source.name)))
                .chain(exports.map(|directory| format!("the export directory {directory}")))
                .chain(others.map(|(other, _)| format!("the data_path of {:?}", other.name)));
            if let Some(other) = found.next() {
                return Err(NotApart { lake: lake.name.clone(), other });
            }
        }
        Ok(())
    }
}
