//! Files side by side, each whole or not at all.

use std::{
    cell::Cell,
    collections::VecDeque,
    path::{Path, PathBuf},
};

use futures::{StreamExt, stream};
use merganser::{Client, Error, IngestMode, IngestOptions};

use super::{LoadArgs, total::Total};
use crate::cli::{
    progress::{FileBar, FileBars},
    terminal,
};

/// Loads the files; prints the error of each that fails.
pub(super) async fn load(args: &LoadArgs, client: &Client, bars: &FileBars) -> Total {
    let total = Cell::new(Total::default());
    let add = |change: &dyn Fn(&mut Total)| {
        let mut sum = total.take();
        change(&mut sum);
        total.set(sum);
    };
    let load = async |path: PathBuf, mode: IngestMode| {
        let bar = bars.add(path.file_name().unwrap_or(path.as_os_str()));
        let mut tries = 0;
        let sent = send(args, client, &bar, &path, mode, &mut tries).await;
        bar.clear();
        add(&|total| total.retries += tries.max(1) - 1);
        match &sent {
            Ok(rows) => add(&|total| {
                total.loaded += 1;
                total.rows += rows;
            }),
            Err(error) => {
                add(&|total| total.failed += 1);
                let name = path.display();
                bars.suspend(|| terminal::print_error(&format_args!("{name}: {error}")));
            }
        }
        sent.is_ok()
    };

    let mut pending = VecDeque::from(args.files.clone());
    let mut mode = IngestMode::from(args.mode);
    // Only one file may make the table. Should it fail, the next has to make it.
    let mut makes =
        matches!(mode, IngestMode::Create | IngestMode::Replace) || finds_types(args, client).await;
    while makes {
        let Some(path) = pending.pop_front() else {
            break;
        };
        if load(path, mode).await {
            makes = false;
            mode = IngestMode::Append;
        }
    }
    let load = &load;
    let others = stream::iter(pending).map(|path| async move { load(path, mode).await });
    others.buffer_unordered(usize::from(args.parallel)).for_each(async |_| ()).await;
    total.take()
}

/// Whether the first file tells the types of a table that is not there, and the others are to be read by them: side by
/// side each would have types of its own.
async fn finds_types(args: &LoadArgs, client: &Client) -> bool {
    let [first, _, ..] = args.files.as_slice() else { return false };
    // What goes wrong here is met again, and told, by the file itself.
    args.is_text(first) && matches!(args.types(client, first, args.mode.into()).await, Ok(None))
}

/// Sends one file as one unit. Another try reads the file again from its beginning.
async fn send(
    args: &LoadArgs,
    client: &Client,
    bar: &FileBar,
    path: &Path,
    mode: IngestMode,
    tries: &mut u64,
) -> Result<u64, Error> {
    let options = IngestOptions { mode, ..args.ingest() };
    let try_once = || {
        *tries += 1;
        bar.tries(*tries);
        async {
            let types = args.types(client, path, mode).await?;
            let (schema, batches) = args.source(path, types).open(bar.clone()).await?;
            client.ingest_with(&args.table, &options, schema, batches).await
        }
    };
    let acknowledged = args.retry().run(client, false, try_once).await?;
    Ok(acknowledged.rows)
}
