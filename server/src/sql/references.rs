//! Where a query names tables: by the tree that DuckDB's own parser makes of it (`json_serialize_sql`), which knows what
//! is a name of WITH, what a column and what a text, and by the places of names that the tree has.

use std::ops::Range;

use serde_json::{Map, Value};

use super::{Token, lexer::ranged, quote};

/// A table as a query spells it, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spelled {
    /// The catalog, where the query says it,
    pub(crate) catalog: Option<String>,
    /// and the schema; alone it may be a catalog as well.
    pub(crate) schema: Option<String>,
    /// The table.
    pub(crate) table: String,
}

/// The tables and columns that a query names.
#[derive(Debug, Default)]
pub(crate) struct References {
    tables: Vec<TableReference>,
    columns: Vec<ColumnReference>,
}

#[derive(Debug)]
struct TableReference {
    spelled: Spelled,
    place: Range<usize>,
    /// The query may call it by its own name: it gives it no other, and another could be given here.
    keeps_name: bool,
}

/// A column with names before it.
#[derive(Debug)]
struct ColumnReference {
    parts: Vec<String>,
    /// Where each part begins.
    places: Vec<usize>,
}

/// The tree tells of the text otherwise than the text is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

type Read<T> = Result<T, Unreadable>;

impl References {
    /// Reads the tree of a text.
    ///
    /// # Errors
    /// [`Unreadable`]: DuckDB makes no tree of the text, or it is nested too deeply, or its places are not those of the names.
    pub(crate) fn of(text: &str, tree: &str) -> Read<Self> {
        let tree: Value = serde_json::from_str(tree).map_err(|_| Unreadable)?;
        if tree.get("error").and_then(Value::as_bool) != Some(false) {
            return Err(Unreadable);
        }
        let mut found = Self::default();
        found.walk(text, &tree, &[])?;
        Ok(found)
    }

    /// The tables, those of WITH left out. What is asked of a table at another time is that of then, and left out too.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Spelled> {
        self.tables.iter().map(|table| &table.spelled)
    }

    /// The text with other tables in the place of some, which keep their names within the query.
    pub(crate) fn redirected(&self, text: &str, target: impl Fn(&Spelled) -> Option<String>) -> String {
        let mut edits = Vec::new();
        for table in &self.tables {
            let Some(target) = target(&table.spelled) else { continue };
            let name =
                if table.keeps_name { format!(" AS {}", quote(&table.spelled.table)) } else { String::new() };
            edits.push((table.place.clone(), target + &name));
            if table.keeps_name {
                let cuts = self.columns.iter().filter_map(|column| column.prefix_of(&table.spelled));
                edits.extend(cuts.map(|cut| (cut, String::new())));
            }
        }
        apply(text, edits)
    }

    /// `names` are those of WITH that can be seen from here.
    fn walk(&mut self, text: &str, value: &Value, names: &[String]) -> Read<()> {
        match value {
            Value::Array(values) => values.iter().try_for_each(|value| self.walk(text, value, names)),
            Value::Object(node) => self.walk_node(text, node, names),
            _ => Ok(()),
        }
    }

    fn walk_node(&mut self, text: &str, node: &Map<String, Value>, names: &[String]) -> Read<()> {
        let mut names = names.to_vec();
        let with = node.get("cte_map").and_then(|with| with.get("map")).and_then(Value::as_array);
        for named in with.into_iter().flatten() {
            let name = text_of(named, "key").to_lowercase();
            let query = named.get("value").unwrap_or(&Value::Null);
            if is_recursive(query) {
                names.push(name);
                self.walk(text, query, &names)?;
            } else {
                self.walk(text, query, &names)?;
                names.push(name);
            }
        }
        match node.get("type").and_then(Value::as_str) {
            Some("BASE_TABLE") => self.add_table(text, node, &names)?,
            Some("COLUMN_REF") => self.add_column(text, node)?,
            _ => {}
        }
        let others = node.iter().filter(|(key, _)| *key != "cte_map");
        others.map(|(_, value)| value).try_for_each(|value| self.walk(text, value, &names))
    }

    fn add_table(&mut self, text: &str, node: &Map<String, Value>, names: &[String]) -> Read<()> {
        let part = |key| node.get(key).and_then(Value::as_str).filter(|part| !part.is_empty());
        let part = |key| part(key).map(str::to_lowercase);
        let (catalog, schema) = (part("catalog_name"), part("schema_name"));
        let table = part("table_name").ok_or(Unreadable)?;
        let is_of_with = schema.is_none() && names.contains(&table);
        let is_of_then = node.get("at_clause").is_some_and(|at| !at.is_null());
        if is_of_with || is_of_then {
            return Ok(());
        }
        let spelled = Spelled { catalog, schema, table };
        let at = place_of(node)?;
        let parts = spelled.parts();
        let place = at..end_of(text, at, &parts)?;
        let keeps_name = part("alias").is_none() && !stands_alone(text, at);
        self.tables.push(TableReference { spelled, place, keeps_name });
        Ok(())
    }

    fn add_column(&mut self, text: &str, node: &Map<String, Value>) -> Read<()> {
        let parts = node.get("column_names").and_then(Value::as_array).into_iter().flatten();
        let parts: Vec<_> = parts.filter_map(Value::as_str).map(str::to_lowercase).collect();
        if parts.len() < 3 {
            return Ok(());
        }
        // A column that no text stands for, such as one of USING, has no place.
        let Ok(at) = place_of(node) else { return Ok(()) };
        let spelled: Vec<_> = parts.iter().map(String::as_str).collect();
        let places = places_of(text, at, &spelled)?.into_iter().map(|place| place.start).collect();
        self.columns.push(ColumnReference { parts, places });
        Ok(())
    }
}

impl Spelled {
    fn parts(&self) -> Vec<&str> {
        let before = [&self.catalog, &self.schema].into_iter().flatten();
        before.map(String::as_str).chain([self.table.as_str()]).collect()
    }
}

impl ColumnReference {
    /// What stands before the name of a table that has these parts, if this is a column of it.
    fn prefix_of(&self, table: &Spelled) -> Option<Range<usize>> {
        let table = table.parts();
        let with = (2..=table.len()).find(|count| {
            let parts = &table[table.len() - count..];
            self.parts.len() > *count && self.parts.iter().zip(parts).all(|(own, part)| own == part)
        })?;
        Some(self.places[0]..self.places[with - 1])
    }
}

fn apply(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
    edits.dedup_by_key(|(place, _)| place.start);
    let mut text = text.to_owned();
    for (place, with) in edits {
        text.replace_range(place, &with);
    }
    text
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_recursive(named: &Value) -> bool {
    let node = named.get("query").and_then(|query| query.get("node"));
    node.is_some_and(|node| text_of(node, "type") == "RECURSIVE_CTE_NODE")
}

fn place_of(node: &Map<String, Value>) -> Read<usize> {
    let place = node.get("query_location").and_then(Value::as_u64);
    place.and_then(|place| usize::try_from(place).ok()).filter(|place| *place < usize::MAX).ok_or(Unreadable)
}

/// Where a name with these parts ends.
fn end_of(text: &str, at: usize, parts: &[&str]) -> Read<usize> {
    Ok(places_of(text, at, parts)?.last().ok_or(Unreadable)?.end)
}

/// Where the parts of a name stand that begins at `at`. A table may also be named by a text.
fn places_of(text: &str, at: usize, parts: &[&str]) -> Read<Vec<Range<usize>>> {
    let rest = text.get(at..).ok_or(Unreadable)?;
    let mut tokens = ranged(rest);
    let mut places = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        if index > 0 && tokens.next().is_none_or(|(token, _)| token != Token::Punctuation('.')) {
            return Err(Unreadable);
        }
        match tokens.next() {
            Some((Token::Word(name) | Token::Quoted(name), place)) if name == *part => places.push(place),
            Some((Token::Literal, place)) if parts.len() == 1 => places.push(place),
            _ => return Err(Unreadable),
        }
    }
    Ok(places.into_iter().map(|place| at + place.start..at + place.end).collect())
}

/// Whether a table stands where it can have no other name: behind one of these words.
fn stands_alone(text: &str, at: usize) -> bool {
    let before = ranged(text).take_while(|(_, place)| place.end <= at).last();
    matches!(before, Some((Token::Word(word), _))
        if ["table", "describe", "desc", "show", "summarize"].contains(&word.as_str()))
}
