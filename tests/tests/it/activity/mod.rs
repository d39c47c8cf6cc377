//! What runs and who is there can be seen over SQL, and ended.

mod command;
mod ending;
mod listing;
mod log;
mod sessions;
mod turn;

use futures::TryStreamExt;
use merganser::{Client, Error};
use merganser_tests::{integers, texts, until};

/// A query that would take hours.
const HOURS: &str = "SELECT count(*) FROM range(10000000) a, range(10000000) b";

async fn read(client: Client, sql: String) -> Result<(), Error> {
    client.query(&sql).await?.try_collect::<Vec<_>>().await.map(drop)
}

/// Waits until a statement whose text begins so is at something, and gives its id.
async fn seen(client: &Client, begin: &str, state: &str) -> i64 {
    let sql = format!(
        "SELECT id FROM merganser_statements() WHERE starts_with(sql, '{begin}') AND state = '{state}' AND kind <> 'plan'"
    );
    let mut ids = Vec::new();
    until(&format!("{begin} is {state}"), async || {
        ids = integers(client, &sql).await.unwrap();
        !ids.is_empty()
    })
    .await;
    assert_eq!(ids.len(), 1, "{begin}");
    ids[0]
}

/// Waits until it is not there any more.
async fn gone(client: &Client, id: i64) {
    let sql = format!("SELECT id FROM merganser_statements() WHERE id = {id}");
    until("the statement has ended", async || integers(client, &sql).await.unwrap().is_empty()).await;
}

async fn cancel(client: &Client, id: i64) -> Result<i64, Error> {
    client.execute(&format!("CANCEL STATEMENT {id}")).await
}

/// The number of a client's own session.
async fn session_of(client: &Client) -> i64 {
    let own = "SELECT session FROM merganser_statements() WHERE starts_with(sql, 'SELECT session FROM') AND kind = 'read'";
    let sessions = integers(client, own).await.unwrap();
    assert_eq!(sessions.len(), 1);
    sessions[0]
}

/// What a query over the lists says of one row, as one text.
async fn told(client: &Client, sql: &str) -> String {
    let told = texts(client, sql).await.unwrap();
    assert_eq!(told.len(), 1, "{sql}: {told:?}");
    told[0].clone()
}
