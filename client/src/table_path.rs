//! Names of tables.

use std::{fmt, str::FromStr};

use crate::Error;

/// A table, with or without its schema and catalog.
///
/// Parses `table`, `schema.table` and `catalog.schema.table`. A part that contains dots, quotes or
/// spaces is written in double quotes, with `""` for a quote: `"my data"."2024.csv"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TablePath {
    catalog: Option<String>,
    schema: Option<String>,
    table: String,
}

impl TablePath {
    /// A table by its bare name, taken as it is; the server looks it up in its current schema.
    pub fn new(table: impl Into<String>) -> Self {
        Self { catalog: None, schema: None, table: table.into() }
    }

    /// The same table in a schema of the current catalog.
    pub fn with_schema(self, schema: impl Into<String>) -> Self {
        Self { schema: Some(schema.into()), ..self }
    }

    /// The same table in a catalog and one of its schemas; a catalog alone does not say where to look.
    pub fn with_catalog(self, catalog: impl Into<String>, schema: impl Into<String>) -> Self {
        Self { catalog: Some(catalog.into()), ..self.with_schema(schema) }
    }

    /// The catalog (the attached database), if it is named.
    pub fn catalog(&self) -> Option<&str> {
        self.catalog.as_deref()
    }

    /// The schema, if it is named.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The name of the table itself.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The parts that are named, outermost first: what a Flight path descriptor holds.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.catalog().into_iter().chain(self.schema()).chain([self.table()])
    }
}

impl FromStr for TablePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = split(text)?.into_iter();
        let path = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(table), None, None, None) => Self::new(table),
            (Some(schema), Some(table), None, None) => Self::new(table).with_schema(schema),
            (Some(catalog), Some(schema), Some(table), None) => {
                Self::new(table).with_catalog(catalog, schema)
            }
            _ => return Err(usage(text, "it has more than three parts")),
        };
        Ok(path)
    }
}

/// Splits at the dots outside quotes and takes the quotes off.
fn split(text: &str) -> Result<Vec<String>, Error> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted).ok_or_else(|| usage(text, "a quote is not closed"))?,
            None => take_bare(rest),
        };
        if part.is_empty() {
            return Err(usage(text, "a part of it is empty"));
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(parts),
            None => return Err(usage(text, "a part is quoted in the middle only")),
        }
    }
}

/// Takes up to the next dot or quote.
fn take_bare(text: &str) -> (String, &str) {
    let (part, rest) = text.split_at(text.find(['.', '"']).unwrap_or(text.len()));
    (part.to_owned(), rest)
}

/// Takes up to the closing quote, the opening one being gone already; none when it never closes.
fn take_quoted(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let (inside, after) = rest.split_once('"')?;
        part.push_str(inside);
        match after.strip_prefix('"') {
            Some(next) => {
                part.push('"');
                rest = next;
            }
            None => return Some((part, after)),
        }
    }
}

fn usage(text: &str, why: &str) -> Error {
    Error::Usage(format!("{text:?} does not name a table: {why}"))
}

impl fmt::Display for TablePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            let bare = !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || !b.is_ascii());
            if bare {
                write!(f, "{dot}{part}")?;
            } else {
                write!(f, "{dot}\"{}\"", part.replace('"', "\"\""))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<String> {
        let path: TablePath = text.parse().unwrap();
        path.parts().map(str::to_owned).collect()
    }

    #[test]
    fn one_two_and_three_parts() {
        assert_eq!(parts("t"), ["t"]);
        assert_eq!(parts("s.t"), ["s", "t"]);
        assert_eq!(parts("c.s.t"), ["c", "s", "t"]);
        assert_eq!(parts("größe"), ["größe"]);
    }

    #[test]
    fn quotes_protect_dots_and_quotes() {
        assert_eq!(parts(r#""a.b""#), ["a.b"]);
        assert_eq!(parts(r#"s."say ""hi""""#), ["s", r#"say "hi""#]);
        assert_eq!(parts(r#""c"."s"."t""#), ["c", "s", "t"]);
        assert_eq!(parts(r#""""""#), [r#"""#]);
        assert_eq!(parts("my table"), ["my table"]);
    }

    #[test]
    fn what_names_no_table_is_refused() {
        for text in ["", ".", "a.", ".a", "a..b", "a.b.c.d", "\"a", "\"\"", "a\"b\"", "\"a\"b", "\"a\"\""] {
            let error = text.parse::<TablePath>().unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{text}");
        }
    }

    #[test]
    fn display_parses_back() {
        for path in [
            TablePath::new("t"),
            TablePath::new("a.b").with_schema("say \"hi\""),
            TablePath::new("t t").with_catalog("c-1", "größe"),
        ] {
            assert_eq!(path.to_string().parse::<TablePath>().unwrap(), path);
        }
        assert_eq!(TablePath::new("t t").with_schema("main").to_string(), "main.\"t t\"");
    }
}
