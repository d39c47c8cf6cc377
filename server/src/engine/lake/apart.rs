//! A lake has its place for itself. Maintenance deletes Parquet files there that the lake does not know, and those of a source,
//! of an export or of another lake are such.

use super::{AttachedCatalog, Connection, Error, Lake, Result, place::Place};

/// A lake that does not have its place for itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "is not the lake's alone: {why}; give each a folder or prefix of its own, such as s3://BUCKET/lake/ beside \
     s3://BUCKET/files/"
)]
pub struct NotApart {
    /// The name of the lake.
    pub lake: String,
    why: String,
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
        for (lake, place) in &lakes {
            let others = lakes.iter().filter(|(other, _)| !other.is_same_as(lake));
            let within = (!lake.read_only).then(|| self.lies_in(place, others)).flatten();
            if let Some(why) = within.or_else(|| self.reaches(place)) {
                return Err(NotApart { lake: lake.name.clone(), why });
            }
        }
        Ok(())
    }

    /// What lies in the place of a lake, where maintenance would delete it.
    fn lies_in<'a>(
        &self,
        place: &Place,
        mut others: impl Iterator<Item = &'a (&'a AttachedCatalog, Place)>,
    ) -> Option<String> {
        let there = |path: &str| Place::of(path).is_under(place);
        let is_read = |path: &String| Place::of_source(path).is_under(place);
        let source = || self.sources.iter().find(|source| source.paths.iter().any(is_read));
        let export = || self.exports.directories().iter().find(|directory| there(&directory.to_string()));
        let other = (source().map(|source| format!("the source {:?}", source.name)))
            .or_else(|| export().map(|directory| format!("the export directory {directory}")))
            .or_else(|| {
                let (other, _) = others.find(|(_, files)| files.is_under(place))?;
                Some(format!("the data_path of {:?}", other.name))
            })?;
        Some(format!("{other} lies there, and maintenance deletes Parquet files that are not the lake's"))
    }

    /// What may write around a lake, and so into it.
    fn reaches(&self, place: &Place) -> Option<String> {
        let around = |directory: &str| place.is_under(&Place::of(directory));
        let directory = self.exports.directories().iter().find(|directory| around(&directory.to_string()))?;
        Some(format!("it lies in the export directory {directory}, and an export could overwrite its files"))
    }
}
