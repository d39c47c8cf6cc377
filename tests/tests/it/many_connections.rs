//! A thousand connections at once.

use futures::{StreamExt, stream};
use merganser::{Client, Error};
use merganser_tests::{DatabaseFile, Process, TestServer, integer, put, soon, unit, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::SERVER;

const CONNECTIONS: i64 = 1_000;
/// Opened side by side.
const AT_ONCE: usize = 50;
const ROWS: usize = 10;
/// More than the server may have needed at any time, in bytes.
#[cfg(target_os = "linux")]
const MEMORY: u64 = 512 << 20;

/// Lets this process, and those that it starts, have more files open than the usual 1,024.
fn allow_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = 4 * CONNECTIONS as u64;
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    }
}

/// The most memory that a process has had at any time, in bytes.
#[cfg(target_os = "linux")]
fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024 * line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_each_put_and_query_in_bounded_memory() {
    allow_files();
    let file = DatabaseFile::new();
    let server = Process::start(SERVER, file.path(), &[]).await;
    let first = server.client().await;
    first.execute("CREATE TABLE t (unit BIGINT, part BIGINT)").await.unwrap();
    let connections = stream::iter(0..CONNECTIONS).map(async |number| {
        let client = server.client().await;
        put(&client, "t", unit(number, ROWS)).await.unwrap();
        let own = format!("SELECT count(*) FROM t WHERE unit = {number}");
        assert_eq!(integer(&client, &own).await, ROWS as i64);
        client
    });
    let connections: Vec<_> = connections.buffer_unordered(AT_ONCE).collect().await;
    // All of them are still good.
    let last = stream::iter(&connections).map(async |client| integer(client, "SELECT 1").await);
    assert_eq!(last.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await, vec![1; CONNECTIONS as usize]);
    let rows = CONNECTIONS * ROWS as i64;
    assert_eq!(integer(&first, "SELECT count(*) FROM t").await, rows);
    #[cfg(target_os = "linux")]
    {
        let peak = peak_memory(server.id());
        assert!(peak < MEMORY, "the server took {} MiB", peak >> 20);
    }
    drop(connections);
    assert_eq!(server.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_closed_at_once_and_is_welcome_when_another_has_gone() {
    const MOST: usize = 3;
    let server = TestServer::with(|config| config.network.max_connections = MOST).await;
    let mut clients = Vec::new();
    for _ in 0..MOST {
        let client = server.client().await;
        assert_eq!(integer(&client, "SELECT 1").await, 1);
        clients.push(client);
    }
    let url = server.address().to_string();
    // The handshake of TCP may succeed before the server closes; then the first call does not.
    let refused = async || match Client::connect(&url).await {
        Ok(client) => client.query("SELECT 1").await.map(drop),
        Err(error) => Err(error),
    };
    let error = soon("a refusal", refused()).await.unwrap_err();
    assert!(matches!(error, Error::Connect(_) | Error::Disconnected(_)), "{error}");
    for client in &clients {
        assert_eq!(integer(client, "SELECT 2").await, 2);
    }
    drop(clients.pop());
    until("there is room again", async || refused().await.is_ok()).await;
    drop(clients);
    server.shutdown().await;
}
