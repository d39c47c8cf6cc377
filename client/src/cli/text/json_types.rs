//! Which types hold the columns of a file of JSON lines, by all of its rows.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use arrow_schema::{DataType, Field, FieldRef, Fields};
use merganser::Error;

use super::{numbers::Numbers, refusal};

/// Deeper than any table; what is deeper still must not exhaust the stack.
const MAX_DEPTH: usize = 64;

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
    names: HashMap<String, usize>,
    members: Vec<Member>,
    objects: u64,
}

#[derive(Debug)]
struct Member {
    name: String,
    guess: Guess,
    /// The object that had it last, by its number.
    seen: u64,
}

impl Members {
    /// Takes in a row, which is valid JSON.
    pub(super) fn add_row(&mut self, text: &str, line: u64) -> Result<(), Error> {
        let mut scan = Scan { text: text.as_bytes(), at: 0, line, depth: 0 };
        match scan.peek() {
            b'{' => self.add(&mut scan),
            b'[' => Err(Error::Usage(
                "it is one JSON array: only JSON lines, one object a line, can be loaded".into(),
            )),
            _ => Err(refusal(line, "is no JSON object, such as {\"a\": 1}")),
        }
    }

    /// The columns; none where no row has any.
    pub(super) fn fields(&self) -> Vec<FieldRef> {
        let fields = self.members.iter();
        fields.map(|member| Arc::new(Field::new(&member.name, member.guess.data_type(), true))).collect()
    }

    fn add(&mut self, scan: &mut Scan<'_>) -> Result<(), Error> {
        self.objects += 1;
        let mut next = 0;
        scan.each(b'}', |scan| {
            let name = scan.name()?;
            let place = self.place(&name, next);
            next = place + 1;
            let member = &mut self.members[place];
            if std::mem::replace(&mut member.seen, self.objects) == self.objects {
                return Err(refusal(scan.line, &format!("has the key {name:?} twice in one object")));
            }
            member.guess.add(scan).map_err(|what| match what {
                Refused::Here(what) => refusal(scan.line, &format!("has in {name:?} {what}")),
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
        self.members.push(Member { name: name.to_owned(), guess: Guess::default(), seen: 0 });
        place
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
    fn add(&mut self, scan: &mut Scan<'_>) -> Result<(), Refused> {
        let (lists, objects) = (self.items.is_some(), self.members.is_some());
        let scalars = self.booleans || self.text || self.numbers.is_some();
        match scan.peek() {
            b'n' => scan.word(),
            b'[' if objects || scalars => {
                return Err(Refused::Here("a list, and lines before have none there"));
            }
            b'{' if lists || scalars => {
                return Err(Refused::Here("an object, and lines before have none there"));
            }
            b'[' => {
                let items = self.items.get_or_insert_default();
                return scan.deeper(|scan| scan.each(b']', |scan| items.add(scan)));
            }
            b'{' => {
                let members = self.members.get_or_insert_default();
                return scan.deeper(|scan| Ok(members.add(scan)?));
            }
            _ if lists || objects => {
                return Err(Refused::Here("a single value, and lines before have a list or an object there"));
            }
            b'"' => {
                let text = scan.string();
                // Half of a surrogate pair is the only thing that valid JSON has and Unicode has not.
                if text.windows(2).any(|pair| pair == b"\\u")
                    && serde_json::from_slice::<String>(text).is_err()
                {
                    return Err(Refused::Here("a text that is no Unicode"));
                }
                self.text = true;
            }
            b't' | b'f' => {
                scan.word();
                self.booleans = true;
            }
            _ => {
                let number = scan.number();
                self.text |= !self.numbers.get_or_insert_default().add(number);
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

/// Goes through JSON that is known to be valid.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
    depth: usize,
}

impl<'a> Scan<'a> {
    /// The next byte behind spaces.
    fn peek(&mut self) -> u8 {
        while self.byte().is_ascii_whitespace() {
            self.at += 1;
        }
        self.byte()
    }

    fn byte(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or_default()
    }

    fn deeper(&mut self, inside: impl FnOnce(&mut Self) -> Result<(), Refused>) -> Result<(), Refused> {
        if self.depth == MAX_DEPTH {
            return Err(Refused::Here("more lists or objects in each other than can be loaded"));
        }
        self.depth += 1;
        inside(self)?;
        self.depth -= 1;
        Ok(())
    }

    /// Goes through the elements of a list or an object, from what opens it to what closes it.
    fn each<E>(&mut self, close: u8, mut element: impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.at += 1;
        while self.peek() != close {
            element(self)?;
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        Ok(())
    }

    /// The name of a member, and the colon behind it.
    fn name(&mut self) -> Result<Cow<'a, str>, Error> {
        self.peek();
        let text = self.string();
        self.peek();
        self.at += 1;
        let name = match text.contains(&b'\\') {
            false => std::str::from_utf8(&text[1..text.len() - 1]).map(Cow::Borrowed).ok(),
            true => serde_json::from_slice(text).map(Cow::Owned).ok(),
        };
        name.ok_or_else(|| refusal(self.line, "has a key that is no Unicode"))
    }

    /// A string with its quotes.
    fn string(&mut self) -> &'a [u8] {
        let begin = self.at;
        self.at += 1;
        while !matches!(self.byte(), b'"' | 0) {
            self.at += if self.byte() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        &self.text[begin..self.at]
    }

    fn word(&mut self) {
        while self.byte().is_ascii_alphabetic() {
            self.at += 1;
        }
    }

    fn number(&mut self) -> &'a str {
        let begin = self.at;
        while matches!(self.byte(), b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') {
            self.at += 1;
        }
        std::str::from_utf8(&self.text[begin..self.at]).unwrap_or_default()
    }
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
