//! Catalogs that were missing at the start, and are not required: they are tried again until they are there.

use std::{collections::HashMap, time::Duration};

use super::{Engine, Result, lake::AttachedCatalog};

/// Upper bound of the first pause,
const FIRST: Duration = Duration::from_millis(500);
/// and of every pause.
const LARGEST: Duration = Duration::from_secs(30);

impl Engine {
    /// Tries catalogs that are missing, now or after the database was opened again, until they are there. Call it within
    /// a runtime.
    pub fn await_missing(&self) {
        // Without one that is required the database does not open.
        if self.shared.options.lake.catalogs.iter().any(|catalog| !catalog.required) {
            tokio::spawn(bring_back(self.clone()));
        }
    }
}

async fn bring_back(engine: Engine) {
    let database = &engine.shared.database;
    let stop = database.stopping();
    // How often those that are missing were tried; none where there are none.
    let (mut tries, mut told) = (Some(0), HashMap::new());
    loop {
        let pause = tries.map_or(LARGEST, pause_after);
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        let missing: Vec<_> = database.missing_catalogs().cloned().collect();
        tries = (!missing.is_empty()).then(|| tries.map_or(0, |tries: u32| tries.saturating_add(1)));
        for catalog in missing {
            let (name, trying) = (catalog.name.clone(), engine.clone());
            match engine.blocking(move || trying.attach_late(&catalog)).await {
                Ok(()) => {
                    tracing::info!(catalog = name, "a catalog that was missing is there");
                    told.remove(&name);
                }
                // The same reason again and again would fill the log.
                Err(error) => {
                    let reason = error.to_string();
                    if told.get(&name) != Some(&reason) {
                        tracing::warn!(
                            catalog = name,
                            reason,
                            "a catalog is still missing, and is tried again"
                        );
                        told.insert(name, reason);
                    }
                }
            }
        }
    }
}

/// Evenly from half a bound that doubles with each try to all of it: servers that started together do not come
/// together.
fn pause_after(tries: u32) -> Duration {
    bound_after(tries).mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn bound_after(tries: u32) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(tries)).min(LARGEST)
}

impl Engine {
    /// Attaches a catalog, unless an instance that was opened meanwhile has it, and starts its writer.
    fn attach_late(&self, catalog: &AttachedCatalog) -> Result<()> {
        let shared = &self.shared;
        let connection = shared.database.private_connection()?;
        // What fails in another database does not condemn this one.
        connection.forgive();
        if !catalog.is_there(&connection)? {
            shared.options.lake.attach_late(catalog, &connection, shared.options.read_only)?;
        }
        shared.attached.add(catalog, &shared.database, &shared.clock, &shared.options)?;
        shared.database.has_come(catalog);
        shared.clock.schema_changed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_largest() {
        let bounds: Vec<_> = (0..8).map(|tries| bound_after(tries).as_millis()).collect();
        assert_eq!(bounds, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(bound_after(u32::MAX), LARGEST);
        assert!((0..40).all(|tries| (bound_after(tries) / 2..=LARGEST).contains(&pause_after(tries))));
    }
}
