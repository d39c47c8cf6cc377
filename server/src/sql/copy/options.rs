//! The options of a `COPY ... TO`. Those that are part of a path are looked into; those that nobody here knows are
//! refused, because an extension may take a path in them.

use super::super::{backup::unquoted, lexer::Token};
use super::{Piece, cursor::Cursor, not_understood};

/// Formats that DuckDB's library writes itself.
const FORMATS: [&str; 3] = ["csv", "json", "parquet"];

/// Options that change what is in the files, or how many there are.
const KNOWN: [&str; 45] = [
    "append",
    "array",
    "bloom_filter_false_positive_ratio",
    "chunk_size",
    "codec",
    "compression",
    "compression_level",
    "dateformat",
    "date_format",
    "delim",
    "delimiter",
    "dictionary_compression_ratio_threshold",
    "dictionary_size_limit",
    "encoding",
    "escape",
    "field_ids",
    "file_extension",
    "file_size_bytes",
    "filename_pattern",
    "force_quote",
    "format",
    "geoparquet_version",
    "header",
    "kv_metadata",
    "null",
    "nullstr",
    "overwrite",
    "overwrite_or_ignore",
    "parquet_version",
    "partition_by",
    "per_thread_output",
    "prefix",
    "preserve_order",
    "quote",
    "row_group_size",
    "row_group_size_bytes",
    "row_groups_per_file",
    "sep",
    "string_dictionary_page_size_limit",
    "suffix",
    "timestampformat",
    "timestamp_format",
    "use_tmp_file",
    "write_bloom_filter",
    "write_partition_columns",
];

/// Reads the options, if any, as they are written. One of them is the format: DuckDB would guess it by the target's
/// name, and load an extension for it.
pub(super) fn read(cursor: &mut Cursor<'_>, target: &str) -> Result<Vec<String>, Piece> {
    let mut options = Vec::new();
    let mut has_format = false;
    if cursor.punctuation('(') {
        loop {
            let name = cursor.word().ok_or_else(not_understood)?;
            let value = cursor.value(is_plain).ok_or_else(not_understood)?;
            check(name, value)?;
            has_format |= name == "format";
            options.push(format!("{} {value}", name.to_uppercase()).trim_end().to_owned());
            if cursor.punctuation(')') {
                break;
            }
            if !cursor.punctuation(',') {
                return Err(not_understood());
            }
        }
    }
    if !has_format {
        options.push(format!("FORMAT {}", format_of(target)));
    }
    Ok(options)
}

/// Whether an option, as [`read`] gives it, is the format Parquet.
pub(super) fn is_parquet(option: &str) -> bool {
    option.strip_prefix("FORMAT ").is_some_and(|value| format_named(value) == "parquet")
}

fn format_named(value: &str) -> String {
    unquoted(value).unwrap_or_else(|| value.to_owned()).to_lowercase()
}

fn check(name: &str, value: &str) -> Result<(), Piece> {
    let refused =
        |reason: &str| Err(Piece::Refused(format!("the option {} of COPY {reason}", name.to_uppercase())));
    match name {
        "format" => match FORMATS.contains(&format_named(value).as_str()) {
            true => Ok(()),
            false => refused("is to be csv, json or parquet here"),
        },
        "filename_pattern" | "file_extension" => match unquoted(value).filter(|value| is_part_of_name(value))
        {
            Some(_) => Ok(()),
            None => refused(
                "is to be letters, digits, and -, _, {, } or single dots, in single quotes, and not that of a log of a \
                 database (.wal)",
            ),
        },
        known if KNOWN.contains(&known) => Ok(()),
        _ => refused("is not served"),
    }
}

/// What cannot lead out of a folder, nor make the name of a database's log.
fn is_part_of_name(text: &str) -> bool {
    let may_stand = |c: char| c.is_ascii_alphanumeric() || "-_{}.".contains(c);
    let is_logs = |part: &str| part.eq_ignore_ascii_case("wal");
    text.chars().all(may_stand) && !text.contains("..") && !text.split('.').any(is_logs)
}

/// What can be read in one way only.
fn is_plain(token: &Token, written: &str) -> bool {
    match token {
        Token::Word(_) | Token::Quoted(_) => true,
        Token::Literal => {
            let is_number = written.starts_with(|c: char| c.is_ascii_digit());
            is_number || unquoted(written).is_some() || is_plain_escaped(written)
        }
        Token::Punctuation(sign) => "(),:{}[].-+*".contains(*sign),
    }
}

/// `E'\t'` and the like, with no quote inside.
fn is_plain_escaped(written: &str) -> bool {
    let text = written.strip_prefix(['e', 'E']).and_then(|text| text.strip_prefix('\'')?.strip_suffix('\''));
    text.is_some_and(|text| !text.contains('\''))
}

/// As DuckDB guesses it of its own formats.
fn format_of(target: &str) -> &'static str {
    let name = target.to_lowercase();
    let name = [".gz", ".zst"].iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(&name);
    match name.rsplit('.').next() {
        Some("parquet") => "parquet",
        Some("json" | "jsonl" | "ndjson") => "json",
        _ => "csv",
    }
}
