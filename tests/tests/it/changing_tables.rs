//! A table that is changed twenty times a second under load: each unit is wholly of before or of after a change.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use futures::future::join_all;
use merganser::Error;
use merganser_tests::{TestServer, integer, integers, put, unit};
use tonic::Code;

const LOADERS: i64 = 8;
const ROWS: usize = 50;
const CHANGES: i64 = 60;
/// Between two changes.
const BETWEEN: Duration = Duration::from_millis(50);

/// The newest default, by when its change was begun and when it was done.
#[derive(Default)]
struct Versions {
    begun: AtomicI64,
    done: AtomicI64,
    over: AtomicBool,
}

/// What a loader has had acknowledged: its units, each with the defaults that it may have.
type Acknowledged = BTreeMap<i64, (i64, i64)>;

async fn load(server: &TestServer, loader: i64, versions: &Versions) -> Acknowledged {
    let client = server.client().await;
    let mut acknowledged = Acknowledged::new();
    for number in loader * 1_000_000.. {
        if versions.over.load(Ordering::SeqCst) {
            break;
        }
        let least = versions.done.load(Ordering::SeqCst);
        match put(&client, "t", unit(number, ROWS)).await {
            Ok(_) => drop(acknowledged.insert(number, (least, versions.begun.load(Ordering::SeqCst)))),
            // What the documentation says of a table that is being changed; nothing of the unit is stored.
            Err(Error::Server { code: Code::Aborted, slug, .. }) if slug == "TABLE_CHANGING" => {}
            Err(other) => panic!("{other}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_changed_every_50_ms_has_each_unit_whole_and_of_one_version() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let table = "CREATE TABLE t (unit BIGINT, part BIGINT, version BIGINT DEFAULT 0)";
    client.execute(table).await.unwrap();
    let versions = Versions::default();
    let changes = async {
        let mut ticks = tokio::time::interval(BETWEEN);
        for change in 1..=CHANGES {
            ticks.tick().await;
            versions.begun.store(change, Ordering::SeqCst);
            client.execute(&format!("ALTER TABLE t ALTER version SET DEFAULT {change}")).await.unwrap();
            versions.done.store(change, Ordering::SeqCst);
            // A column comes, and goes with the next change.
            let other = match change % 2 {
                1 => "ADD COLUMN more INTEGER DEFAULT 7",
                _ => "DROP COLUMN more",
            };
            client.execute(&format!("ALTER TABLE t {other}")).await.unwrap();
        }
        versions.over.store(true, Ordering::SeqCst);
    };
    let loaders = (0..LOADERS).map(|loader| load(&server, loader, &versions));
    let (acknowledged, ()) = futures::join!(join_all(loaders), changes);
    let acknowledged: Acknowledged = acknowledged.into_iter().flatten().collect();

    let torn = format!(
        "SELECT count(*) FROM (SELECT unit FROM t GROUP BY unit HAVING count(*) <> {ROWS} \
         OR count(DISTINCT part) <> {ROWS} OR count(DISTINCT version) <> 1)"
    );
    assert_eq!(integer(&client, &torn).await, 0);
    let units = integers(&client, "SELECT DISTINCT unit FROM t ORDER BY unit").await.unwrap();
    assert!(units.iter().eq(acknowledged.keys()));
    let used = integers(&client, "SELECT min(version) FROM t GROUP BY unit ORDER BY unit").await.unwrap();
    for ((unit, (least, most)), version) in acknowledged.iter().zip(&used) {
        assert!((least..=most).contains(&version), "unit {unit} has {version}, not {least} to {most}");
    }
    let different: std::collections::BTreeSet<_> = used.iter().collect();
    assert!(different.len() > CHANGES as usize / 2, "units of {} versions only", different.len());
    server.shutdown().await;
}
