//! How the rows of an upload enter their table.

use std::{sync::Arc, time::Duration};

use arrow_schema::SchemaRef;

use super::{Entry, IfExists, IngestRequest, Matching, fit::Fit, merge_stage::Entering};
use crate::engine::{
    Engine, Error, Result,
    catalog::{FullName, TEMPORARY, TableInfo},
    insert::Target,
    writer::Held,
};

/// How an upload enters its table: decided when its rows are ready.
pub(in crate::engine) struct Admission {
    pub(super) name: FullName,
    pub(super) fit: Fit,
    /// The statements that create, replace or widen the table.
    pub(super) create: Option<String>,
    /// The table was not there, or is replaced.
    pub(super) makes_table: bool,
    pub(super) replaces: bool,
    /// How its rows are matched with those that are there.
    pub(super) matching: Option<Matching>,
    /// An append to the table at the same time may make the two fail.
    pub(super) collides: bool,
    pub(super) held: Held,
}

impl Admission {
    /// By the table as it is now, if it is there.
    pub(super) fn new(name: FullName, entry: Entry, table: Option<&TableInfo>, held: Held) -> Self {
        let collides = entry.matching.is_some() && table.is_some_and(|table| table.keys.unique);
        let Entry { fit, create, matching, widens, replaces } = entry;
        let makes_table = create.is_some() && !widens;
        Self { name, fit, create, makes_table, replaces, matching, collides, held }
    }

    /// What is done with rows that are staged.
    pub(super) fn entering(&self) -> Entering<'_> {
        Entering {
            name: &self.name,
            fit: &self.fit,
            matching: self.matching.as_ref(),
            create: self.create.as_deref(),
            is_there: !self.makes_table,
        }
    }

    pub(super) fn target(&self) -> Target {
        Target { table: self.name.clone(), columns: self.fit.columns().to_vec(), casts: self.fit.casts() }
    }
}

impl Engine {
    /// Decides how the rows enter the table. Whoever needs the turn takes it before announcing the append,
    /// as ALTER does, so that the two never wait for each other; the table is looked at again afterwards.
    pub(super) async fn admit(
        &self,
        request: &IngestRequest,
        schema: &SchemaRef,
        patience: Duration,
    ) -> Result<Admission> {
        let name = self.full_name(request);
        let mut turn = None;
        loop {
            let appending = self.shared.turn.appending_within(&name, patience).await?;
            let table = self.table_info(&name).await?;
            let entry = Entry::decide(&name, table.as_deref(), request, schema)?;
            if entry.needs_turn() && turn.is_none() {
                drop(appending);
                turn = Some(self.shared.turn.take_within(patience).await?);
                continue;
            }
            // Somebody else created it while we waited: no need to hold the turn any longer.
            let turn = if entry.needs_turn() { turn } else { None };
            let mut held = Held { appending: Some(appending), turn, ..Held::nothing() };
            if entry.widens {
                self.shut_out_appends(&name, &mut held, patience).await?;
            }
            return Ok(Admission::new(name, entry, table.as_deref(), held));
        }
    }

    /// The same as [`Engine::admit`] for an upload without rows. It may still make its table, or advance the sequence of
    /// its loader; `None` where there is nothing to do.
    pub(super) async fn admit_without_rows(
        &self,
        request: &IngestRequest,
        schema: &SchemaRef,
        keyed: bool,
    ) -> Result<Option<Admission>> {
        let name = self.full_name(request);
        if keyed && self.brings_key_alone(request, &name).await? {
            return Ok(Some(Admission::new(name, Entry::of_key_alone(), None, Held::nothing())));
        }
        let table = self.table_info(&name).await?;
        let entry = Entry::decide(&name, table.as_deref(), request, schema)?;
        if entry.create.is_none() && !keyed {
            return Ok(None);
        }
        let admission = self.admit(request, schema, self.shared.options.wait).await?;
        // Somebody else may have made the table meanwhile.
        Ok((admission.create.is_some() || keyed).then_some(admission))
    }

    /// Whether a unit without rows goes to a table that is there. Then its columns need not fit, so that a unit that the
    /// table refuses can be skipped by one with the same columns and no rows.
    pub(super) async fn brings_key_alone(&self, request: &IngestRequest, name: &FullName) -> Result<bool> {
        Ok(request.if_exists == IfExists::Append && self.table_info(name).await?.is_some())
    }

    /// The whole name of the table. The server's own catalog and that of temporary tables have one spelling.
    pub(super) fn full_name(&self, request: &IngestRequest) -> FullName {
        let name = match &request.names {
            Some(names) => request.table.resolve(names),
            None => request.table.resolve(&self.default_names()),
        };
        let own = [self.default_catalog(), TEMPORARY];
        match own.into_iter().find(|own| name.catalog.eq_ignore_ascii_case(own)) {
            Some(own) => FullName { catalog: own.to_owned(), ..name },
            None => name,
        }
    }

    pub(super) async fn table_info(&self, name: &FullName) -> Result<Option<Arc<TableInfo>>> {
        if let Some(info) = self.shared.catalog.known(name) {
            return Ok(Some(info));
        }
        let (catalog, name) = (Arc::clone(&self.shared.catalog), name.clone());
        self.blocking(move || catalog.look_up(&name)).await
    }
}

/// Refuses the catalog of temporary tables: on the connection that writes, nobody would see them.
pub(super) fn check_shared(name: &FullName) -> Result<()> {
    match name.catalog == TEMPORARY {
        true => Err(Error::BadName(
            "the catalog temp is that of one session; send the rows inside of a session as an ingest with \
             temporary = true, or leave the catalog out"
                .into(),
        )),
        false => Ok(()),
    }
}
