//! Blocks of metadata that a process was killed in writing.
//!
//! A checkpoint of DuckDB (1.5.5) writes everything anew and switches to it by one header at the end, but for one thing: 64
//! pieces of metadata share a block, and where some of them are free it puts new ones there and writes the block over
//! itself (`MetadataManager::Flush`). A process that is killed in that write leaves a block of which a part is new, and
//! whose checksum is that of neither: DuckDB then reads nothing of the database any more. What the header still leads to
//! is whole, though: the pieces in use are the same in the old block and in the new one. So the checksum is all that has
//! to be mended, and it is, before DuckDB opens the file; the block as it was is kept beside the file.
//!
//! Only metadata is mended, and only where a log is left: after a clean stop there is none, and a checksum that is wrong
//! then has another cause.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use rustix::fs::{FlockOperation, fcntl_lock};

use super::{Error, Result, log_head::logs_of};

/// Where the blocks begin, behind three headers of 4,096 bytes.
const FIRST_BLOCK: u64 = 3 * HEADER_BYTES;
const HEADER_BYTES: u64 = 4096;
/// A checksum stands in front of each header and block.
const CHECKSUM_BYTES: usize = 8;
/// How many pieces share a block.
const PIECES: u64 = 64;
/// No piece follows.
const NONE: u64 = u64::MAX;

/// Mends the metadata of a database that is about to be opened, unless another process has it open.
///
/// # Errors
/// [`Error::Setup`] for those of the file system. What cannot be read as a database is left for DuckDB to tell of.
pub(super) fn mend(path: &Path) -> Result<()> {
    if !path.exists() || !is_log_left(path) {
        return Ok(());
    }
    mend_file(path).map_err(|error| Error::Setup {
        what: "the database".into(),
        reason: format!("its blocks of metadata cannot be looked through: {error}"),
    })
}

fn mend_file(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // The lock is that of DuckDB: another process may be writing such a block just now.
    if fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    match Layout::read(&file).and_then(|layout| layout.metadata_blocks(&file).map(|blocks| (layout, blocks)))
    {
        Ok((layout, blocks)) => {
            blocks.into_iter().try_for_each(|block| layout.mend_block(&file, path, block))
        }
        Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            tracing::debug!(%error, "the metadata of the database cannot be looked through");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// A process that ends well leaves none.
fn is_log_left(path: &Path) -> bool {
    logs_of(path).any(|log| log.metadata().is_ok_and(|log| log.len() > 0))
}

/// What the newest header says.
#[derive(Clone, Copy)]
struct Layout {
    iteration: u64,
    /// The first piece of the list of free blocks, behind which that of metadata stands.
    free_list: u64,
    block_count: u64,
    /// With its checksum.
    block_bytes: u64,
}

impl Layout {
    fn read(file: &File) -> io::Result<Self> {
        let mut main = [0; 64];
        file.read_exact_at(&mut main, 0)?;
        // The flags follow the magic bytes and the version; the first one tells of encryption.
        if &main[8..12] != b"DUCK" || main[20] & 1 != 0 {
            return Err(invalid("no plain database"));
        }
        let newest = [1, 2].into_iter().filter_map(|at| Self::of_header(file, at * HEADER_BYTES));
        newest.max_by_key(|layout| layout.iteration).ok_or_else(|| invalid("no header"))
    }

    fn of_header(file: &File, at: u64) -> Option<Self> {
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut header, at).ok()?;
        let number = |index: usize| number_at(&header, CHECKSUM_BYTES + 8 * index);
        let block_bytes = number(4);
        let is_whole = number_at(&header, 0) == checksum(&header[CHECKSUM_BYTES..]);
        let is_plain = block_bytes.is_power_of_two() && (16 << 10..=256 << 10).contains(&block_bytes);
        (is_whole && is_plain).then(|| Self {
            iteration: number(0),
            free_list: number(2),
            block_count: number(3),
            block_bytes,
        })
    }

    /// The blocks that hold metadata.
    fn metadata_blocks(self, file: &File) -> io::Result<Vec<u64>> {
        let mut list = Pieces { file, layout: self, next: self.free_list, rest: Vec::new(), read: 0 };
        if self.free_list == NONE {
            return Ok(Vec::new());
        }
        for _ in 0..list.number()? {
            list.number()?;
        }
        for _ in 0..list.number()? {
            list.take(8 + 4)?;
        }
        let mut blocks = Vec::new();
        for _ in 0..list.number()? {
            blocks.push(list.number()?);
            list.number()?;
        }
        Ok(blocks)
    }

    fn mend_block(self, file: &File, path: &Path, block: u64) -> io::Result<()> {
        let place = self.place_of(block)?;
        let mut bytes = vec![0; self.block_bytes as usize];
        file.read_exact_at(&mut bytes, place)?;
        let right = checksum(&bytes[CHECKSUM_BYTES..]);
        if number_at(&bytes, 0) == right {
            return Ok(());
        }
        let mut kept = path.as_os_str().to_owned();
        kept.push(format!(".torn-{}-{block}", self.iteration));
        let mut copy = File::create(&kept)?;
        copy.write_all(&bytes)?;
        copy.sync_all()?;
        file.write_all_at(&right.to_le_bytes(), place)?;
        file.sync_all()?;
        tracing::warn!(
            block,
            kept = %Path::new(&kept).display(),
            "a checkpoint was killed in writing a block of metadata; its checksum is mended, and the block as it was is kept"
        );
        Ok(())
    }

    fn place_of(self, block: u64) -> io::Result<u64> {
        match block < self.block_count {
            true => Ok(FIRST_BLOCK + block * self.block_bytes),
            false => Err(invalid("a block beyond the end")),
        }
    }

    fn piece_bytes(self) -> u64 {
        ((self.block_bytes - CHECKSUM_BYTES as u64) / PIECES) & !7
    }
}

/// A list that goes on from piece to piece, each of which begins with where the next one is.
struct Pieces<'a> {
    file: &'a File,
    layout: Layout,
    next: u64,
    /// What is left of the present piece.
    rest: Vec<u8>,
    read: u64,
}

impl Pieces<'_> {
    fn number(&mut self) -> io::Result<u64> {
        Ok(number_at(&self.take(8)?, 0))
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.rest.len() < count {
            self.read_next()?;
        }
        Ok(self.rest.drain(..count).collect())
    }

    fn read_next(&mut self) -> io::Result<()> {
        self.read += 1;
        if self.next == NONE || self.read > self.layout.block_count * PIECES {
            return Err(invalid("a list without its end"));
        }
        // The number of the block, and in the highest byte that of the piece.
        let (block, piece) = (self.next & (NONE >> 8), self.next >> 56);
        let bytes = self.layout.piece_bytes();
        let mut read = vec![0; bytes as usize];
        let place = self.layout.place_of(block)? + CHECKSUM_BYTES as u64 + piece * bytes;
        self.file.read_exact_at(&mut read, place)?;
        self.next = number_at(&read, 0);
        self.rest.extend_from_slice(&read[8..]);
        Ok(())
    }
}

/// DuckDB's own checksum, of whole words of 8 bytes.
fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8).map(|word| number_at(word, 0));
    words.fold(5381, |sum, word| sum ^ word.wrapping_mul(0xbf58_476d_1ce4_e5b9))
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::engine::{
        AttachedCatalog, CatalogKind, Maintenance, answers::count, ffi::Database, log_head::log_of,
    };

    const TABLES: usize = 40;
    const ROWS: &str = "SELECT sum(rows)::BIGINT FROM (SELECT count(hash(COLUMNS(*))) AS rows FROM (FROM t0 UNION ALL FROM t1 UNION ALL FROM t39))";

    fn files(folder: &Path, name: &str) -> [PathBuf; 2] {
        let path = folder.join(name);
        [path.clone(), log_of(&path)]
    }

    fn copy(from: &[PathBuf; 2], to: &[PathBuf; 2]) {
        for (from, to) in from.iter().zip(to) {
            std::fs::copy(from, to).unwrap();
        }
    }

    /// The rows, or what DuckDB says.
    fn rows(path: &Path) -> Result<u64, String> {
        let database = Database::open(Some(path), &[]).map_err(|error| error.message)?;
        count(&database.connect().unwrap(), ROWS).map_err(|error| error.to_string())
    }

    /// A database as it was before a checkpoint, with its log, and the file as the checkpoint has left it.
    fn around_a_checkpoint(folder: &Path) -> ([PathBuf; 2], PathBuf) {
        let (used, before) = (files(folder, "used.db"), files(folder, "before.db"));
        let database = Database::open(Some(&used[0]), &[]).unwrap();
        let connection = database.connect().unwrap();
        for table in 0..TABLES {
            connection
                .execute(&format!(
                    "CREATE TABLE t{table} AS SELECT range AS a, 'x' || range AS b FROM range(1000)"
                ))
                .unwrap();
        }
        for round in 0..4 {
            connection.execute("CHECKPOINT").unwrap();
            for table in 0..TABLES {
                connection
                    .execute(&format!("INSERT INTO t{table} SELECT {round}, 'more' FROM range(10)"))
                    .unwrap();
            }
        }
        copy(&used, &before);
        connection.execute("CHECKPOINT").unwrap();
        let after = folder.join("after.db");
        std::fs::copy(&used[0], &after).unwrap();
        (before, after)
    }

    /// Blocks of metadata that the checkpoint wrote over themselves, as a kill in the midst of each leaves them; how many.
    fn tear(before: &Path, after: &Path) -> usize {
        let (old, new) =
            (OpenOptions::new().read(true).write(true).open(before).unwrap(), File::open(after).unwrap());
        let layout = Layout::read(&old).unwrap();
        let mut torn = 0;
        for block in layout.metadata_blocks(&old).unwrap() {
            let place = layout.place_of(block).unwrap();
            let [mut was, mut is] = [(); 2].map(|()| vec![0; layout.block_bytes as usize]);
            old.read_exact_at(&mut was, place).unwrap();
            new.read_exact_at(&mut is, place).unwrap();
            // A page of it is new, in which the checksum is, and the rest is as it was.
            let page = HEADER_BYTES as usize;
            if was[page..] != is[page..] {
                old.write_all_at(&is[..page], place).unwrap();
                torn += 1;
            }
        }
        torn
    }

    #[test]
    fn a_block_that_was_killed_in_its_write_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = around_a_checkpoint(folder.path());
        let whole = files(folder.path(), "whole.db");
        copy(&before, &whole);
        let expected = rows(&whole[0]).unwrap();
        assert!(tear(&before[0], &after) > 0, "the checkpoint wrote no metadata over itself");
        // DuckDB alone is lost.
        let unmended = files(folder.path(), "unmended.db");
        copy(&before, &unmended);
        let told = rows(&unmended[0]).unwrap_err();
        assert!(told.contains("does not match stored checksum"), "{told}");

        mend(&before[0]).unwrap();
        assert_eq!(rows(&before[0]), Ok(expected));
        let kept = std::fs::read_dir(folder.path()).unwrap().filter_map(Result::ok);
        let kept = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("before.db.torn-"));
        assert!(kept.count() > 0);
    }

    #[test]
    fn the_file_of_a_catalog_is_mended_unless_it_is_only_read() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = around_a_checkpoint(folder.path());
        tear(&before[0], &after);
        let server = Database::open(None, &[]).unwrap();
        let connection = server.connect().unwrap();
        let catalog = AttachedCatalog {
            name: "side".into(),
            kind: CatalogKind::DuckDb,
            location: before[0].to_str().unwrap().into(),
            secret: None,
            read_only: false,
            required: true,
            maintenance: Maintenance::default(),
        };
        let torn = std::fs::read(&before[0]).unwrap();
        assert!(catalog.attach(&connection, true).is_err());
        assert!(std::fs::read(&before[0]).unwrap() == torn);
        catalog.attach(&connection, false).unwrap();
        assert_eq!(count(&connection, "SELECT count(*) FROM side.t0").unwrap(), 1040);
    }

    #[test]
    fn what_has_another_cause_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (before, _) = around_a_checkpoint(folder.path());
        let file = OpenOptions::new().read(true).write(true).open(&before[0]).unwrap();
        let layout = Layout::read(&file).unwrap();
        let metadata = layout.metadata_blocks(&file).unwrap();
        // A block of rows,
        let of_rows = (0..layout.block_count).find(|block| !metadata.contains(block)).unwrap();
        let place = layout.place_of(of_rows).unwrap();
        file.write_all_at(b"changed!", place + 100).unwrap();
        let changed = std::fs::read(&before[0]).unwrap();
        mend(&before[0]).unwrap();
        assert!(std::fs::read(&before[0]).unwrap() == changed);
        // and one of metadata after a clean stop.
        file.write_all_at(b"changed!", layout.place_of(metadata[0]).unwrap() + 100).unwrap();
        let changed = std::fs::read(&before[0]).unwrap();
        std::fs::remove_file(&before[1]).unwrap();
        mend(&before[0]).unwrap();
        assert!(std::fs::read(&before[0]).unwrap() == changed);
    }

    #[test]
    fn what_is_no_database_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let [path, log] = files(folder.path(), "a.db");
        std::fs::write(&log, "log").unwrap();
        for bytes in [&b""[..], b"no database", &[b'D'; 20_000]] {
            std::fs::write(&path, bytes).unwrap();
            mend(&path).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}
