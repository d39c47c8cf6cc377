//! Which types hold the columns of a file of JSON lines, by all of its rows.

use std::{collections::HashMap, sync::Arc};

use arrow_schema::{DataType, Field, FieldRef, Fields};
use merganser::Error;

use super::{TableTypes, json_scan::Scan, numbers::Numbers, refusal};

/// What the values at one place are, summed up.
#[derive(Debug, Default)]
struct Guess {
    booleans: bool,
    numbers: Option<Numbers>,
    text: bool,
    items: Option<Box<Guess>>,
    members: Option<Members>,
}

/// The columns of a file, or the members of objects, in the order in which they come.
#[derive(Debug, Default)]
pub(super) struct Members {
    table: Option<TableTypes>,
    names: HashMap<String, usize>,
    members: Vec<Member>,
    objects: u64,
}

#[derive(Debug)]
struct Member {
    name: String,
    /// The type that the table has for it: then its values are looked at when they are read.
    known: Option<DataType>,
    guess: Guess,
    /// The object that had it last, by its number.
    seen: u64,
}

impl Members {
    /// Those that become columns of a table, if it is there.
    pub(super) fn of(table: Option<&TableTypes>) -> Self {
        Self { table: table.cloned(), ..Self::default() }
    }

    /// Takes in a row, which is valid JSON.
    pub(super) fn add_row(&mut self, text: &str, line: u64) -> Result<(), Error> {
        let mut scan = Scan::new(text);
        match scan.peek() {
            b'{' => self.add(&mut scan, line),
            b'[' => Err(Error::Usage(
                "it is one JSON array: only JSON lines, one object a line, can be loaded".into(),
            )),
            _ => Err(refusal(line, "is no JSON object, such as {\"a\": 1}")),
        }
    }

    /// The columns; none where no row has any.
    pub(super) fn fields(&self) -> Vec<FieldRef> {
        let fields = self.members.iter();
        fields.map(|member| Arc::new(Field::new(&member.name, member.data_type(), true))).collect()
    }

    fn add(&mut self, scan: &mut Scan<'_>, line: u64) -> Result<(), Error> {
        self.objects += 1;
        let mut next = 0;
        scan.each(b'}', |scan| {
            let name = scan.name().ok_or_else(|| refusal(line, "has a key that is no Unicode"))?;
            let place = self.place(&name, next);
            next = place + 1;
            let member = &mut self.members[place];
            if std::mem::replace(&mut member.seen, self.objects) == self.objects {
                return Err(refusal(line, &format!("has the key {name:?} twice in one object")));
            }
            if member.known.is_some() {
                scan.value();
                return Ok(());
            }
            member.guess.add(scan, line).map_err(|what| match what {
                Refused::Here(what) => refusal(line, &format!("has in {name:?} {what}")),
                Refused::Inside(error) => error,
            })
        })
    }

    /// Where a member stands: most objects have the same ones in the same order.
    fn place(&mut self, name: &str, likely: usize) -> usize {
        if self.members.get(likely).is_some_and(|member| member.name == name) {
            return likely;
        }
        if let Some(place) = self.names.get(name) {
            return *place;
        }
        let place = self.members.len();
        self.names.insert(name.to_owned(), place);
        let known = self.table.as_ref().and_then(|table| table.of_json(name));
        self.members.push(Member { name: name.to_owned(), known, guess: Guess::default(), seen: 0 });
        place
    }
}

impl Member {
    fn data_type(&self) -> DataType {
        self.known.clone().unwrap_or_else(|| self.guess.data_type())
    }
}

/// Why a value is not taken in.
enum Refused {
    /// For what it is, which its member has a name for.
    Here(&'static str),
    Inside(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Inside(error)
    }
}

impl Guess {
    fn add(&mut self, scan: &mut Scan<'_>, line: u64) -> Result<(), Refused> {
        let (lists, objects) = (self.items.is_some(), self.members.is_some());
        let scalars = self.booleans || self.text || self.numbers.is_some();
        match scan.peek() {
            b'n' => {
                scan.value();
            }
            b'[' if objects || scalars => {
                return Err(Refused::Here("a list, and lines before have none there"));
            }
            b'{' if lists || scalars => {
                return Err(Refused::Here("an object, and lines before have none there"));
            }
            b'[' => {
                let items = self.items.get_or_insert_default();
                return deeper(scan, |scan| scan.each(b']', |scan| items.add(scan, line)));
            }
            b'{' => {
                let members = self.members.get_or_insert_default();
                return deeper(scan, |scan| Ok(members.add(scan, line)?));
            }
            _ if lists || objects => {
                return Err(Refused::Here("a single value, and lines before have a list or an object there"));
            }
            b'"' => {
                if scan.string().is_none() {
                    return Err(Refused::Here("a text that is no Unicode"));
                }
                self.text = true;
            }
            b't' | b'f' => {
                scan.value();
                self.booleans = true;
            }
            _ => {
                self.text |= !self.numbers.get_or_insert_default().add(scan.value());
            }
        }
        Ok(())
    }

    /// Text where nothing else holds all of it: there the number and the word stand as they are written. A column of
    /// nothing but nulls is text, too, which takes whatever comes later.
    fn data_type(&self) -> DataType {
        if let Some(items) = &self.items {
            return DataType::List(Arc::new(Field::new_list_field(items.data_type(), true)));
        }
        if let Some(members) = &self.members {
            // By name, so that files whose objects have another order go into the same table.
            let mut fields = members.fields();
            fields.sort_by(|one, other| one.name().cmp(other.name()));
            return DataType::Struct(Fields::from(fields));
        }
        let known = match self {
            Self { text: true, .. } => None,
            Self { booleans: true, numbers: None, .. } => Some(DataType::Boolean),
            Self { booleans: false, numbers: Some(numbers), .. } => numbers.data_type(),
            _ => None,
        };
        known.unwrap_or(DataType::Utf8)
    }
}

fn deeper<'a>(
    scan: &mut Scan<'a>,
    inside: impl FnOnce(&mut Scan<'a>) -> Result<(), Refused>,
) -> Result<(), Refused> {
    if !scan.enter() {
        return Err(Refused::Here("more lists or objects in each other than can be loaded"));
    }
    inside(scan)?;
    scan.leave();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(rows: &[&str]) -> Result<Vec<String>, Error> {
        let mut members = Members::default();
        for (row, line) in rows.iter().zip(1..) {
            members.add_row(row, line)?;
        }
        let fields = members.fields();
        Ok(fields.iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect())
    }

    #[test]
    fn a_type_holds_every_value_or_the_column_is_text() {
        for (values, expected) in [
            (&["1", "2"][..], "Int64"),
            (&["1", "null", "1.75"], "Float64"),
            (&["1", "\"x\""], "Utf8"),
            (&["1", "true"], "Utf8"),
            (&["true", "false"], "Boolean"),
            (&["18446744073709551615"], "UInt64"),
            (&["-1", "18446744073709551615"], "Decimal128(38, 0)"),
            (&["18446744073709551615", "1.5"], "Decimal128(38, 1)"),
            (&["1e400"], "Utf8"),
            (&["null"], "Utf8"),
            (&["[1]", "[]", "[null, 2.5]"], "List(Float64)"),
            (&["[1]", "[\"x\\\"]\"]"], "List(Utf8)"),
            (
                &["{\"y\":1}", "{\"x\":\"}\", \"y\" : 18446744073709551615 }"],
                "Struct(\"x\": Utf8, \"y\": UInt64)",
            ),
        ] {
            let rows: Vec<_> = values.iter().map(|value| format!("{{\"a\": {value}}}")).collect();
            let rows: Vec<_> = rows.iter().map(String::as_str).collect();
            assert_eq!(columns(&rows).unwrap(), [format!("a {expected}")], "{values:?}");
        }
    }

    #[test]
    fn columns_come_in_the_order_of_the_file() {
        let rows = ["{\"z\":1,\"b\":null}", "{\"c\":1,\"b\":2,\"aa\":[null]}", "{\"\\u0061\":1}"];
        let expected = ["z Int64", "b Int64", "c Int64", "aa List(Utf8)", "a Int64"];
        assert_eq!(columns(&rows).unwrap(), expected);
    }

    #[test]
    fn what_no_column_can_hold_is_refused_by_its_line() {
        for (row, expected) in [
            ("{\"b\":1,\"b\":2}", "line 2 has the key \"b\" twice"),
            ("{\"a\":5}", "line 2 has in \"a\" a single value"),
            ("{\"a\":[1]}", "line 2 has in \"a\" a list"),
            ("{\"l\":{}}", "line 2 has in \"l\" an object"),
            ("{\"a\":{\"b\":[]}}", "line 2 has in \"b\" a list"),
            ("5", "line 2 is no JSON object"),
            ("{\"x\":\"\\ud800\"}", "line 2 has in \"x\" a text that is no Unicode"),
            ("[{\"a\":1}]", "JSON array"),
        ] {
            let error = columns(&["{\"a\":{\"b\":1},\"l\":[1]}", row]).unwrap_err().to_string();
            assert!(error.contains(expected), "{row}: {error}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(columns(&[&deep]).unwrap_err().to_string().contains("in each other"));
    }
}
