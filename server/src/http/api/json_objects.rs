//! The objects of a body in JSON, found one after the other before they are decoded: where each is, and how much can
//! come of it.
//!
//! How deeply they are nested is looked at here as well. The decoder itself takes any depth, but what it says of a value
//! in the wrong place is made by recursion, whose stack would end, and the process with it.

use std::{ops::Range, slice};

use arrow_schema::ArrowError;

use super::json_members::Members;

/// As deep as `serde_json` goes.
const MAX_DEPTH: usize = 128;

/// Where the search is in a body.
pub(super) struct Objects {
    at: usize,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    /// In front of the array.
    Before,
    /// Behind the bracket that opens the array.
    Opened,
    /// Behind an object of the array.
    Behind,
    /// Behind the array.
    Ended,
    /// In objects with nothing but space in between.
    Lines,
}

/// One object of a body.
pub(super) struct Object {
    /// Where it is.
    pub(super) range: Range<usize>,
    /// The objects in it, itself included.
    pub(super) objects: usize,
    /// The values in it, at the most.
    pub(super) values: usize,
    /// How many of them are null.
    pub(super) nulls: usize,
}

impl Objects {
    /// Those of one array.
    pub(super) fn of_array() -> Self {
        Self { at: 0, place: Place::Before }
    }

    /// Those that follow each other, usually one a line.
    pub(super) fn of_lines() -> Self {
        Self { at: 0, place: Place::Lines }
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// [`ArrowError::JsonError`] where something else stands there, or one breaks off, is nested too deeply or has one of
    /// the `members` twice. What else is in an object is for the decoder to check.
    pub(super) fn next(&mut self, body: &[u8], members: &mut Members) -> Result<Option<Object>, ArrowError> {
        if matches!(self.place, Place::Before) {
            self.expect(body, b'[')?;
            self.place = Place::Opened;
        }
        let next = self.peek(body);
        match (self.place, next) {
            (Place::Opened | Place::Behind, Some(b']')) => {
                self.at += 1;
                self.place = Place::Ended;
                return if self.peek(body).is_none() { Ok(None) } else { Err(self.refusal()) };
            }
            (Place::Lines | Place::Ended, None) => return Ok(None),
            (Place::Behind, _) => self.expect(body, b',')?,
            _ => {}
        }
        if self.peek(body) != Some(b'{') || matches!(self.place, Place::Ended) {
            return Err(self.refusal());
        }
        if matches!(self.place, Place::Opened) {
            self.place = Place::Behind;
        }
        let object = measure(body, self.at, members)?;
        self.at = object.range.end;
        Ok(Some(object))
    }

    /// What comes after the space.
    fn peek(&mut self, body: &[u8]) -> Option<u8> {
        let rest = body.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        body.get(self.at).copied()
    }

    fn expect(&mut self, body: &[u8], wanted: u8) -> Result<(), ArrowError> {
        if self.peek(body) != Some(wanted) {
            return Err(self.refusal());
        }
        self.at += 1;
        Ok(())
    }

    fn refusal(&self) -> ArrowError {
        let wanted = match self.place {
            Place::Lines => "one object after the other",
            _ => "one array of objects",
        };
        ArrowError::JsonError(format!("the body has to be {wanted}; at byte {} it is not", self.at))
    }
}

/// The object that begins there.
fn measure(body: &[u8], start: usize, members: &mut Members) -> Result<Object, ArrowError> {
    let (mut depth, mut objects, mut values, mut nulls) = (0_usize, 0, 0, 0);
    let mut bytes = body[start..].iter();
    // Whether the next text is the name of a member of the row itself.
    let mut is_name = false;
    members.begin_row();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                let text = skip_string(&mut bytes);
                if is_name {
                    members.add(text)?;
                    is_name = false;
                }
            }
            b'[' | b'{' if depth == MAX_DEPTH => {
                return Err(ArrowError::JsonError(format!("it is nested deeper than {MAX_DEPTH} levels")));
            }
            b'[' | b'{' => {
                depth += 1;
                values += 1;
                objects += usize::from(*byte == b'{');
                is_name = depth == 1;
            }
            b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    let range = start..body.len() - bytes.len();
                    return Ok(Object { range, objects, values, nulls });
                }
            }
            b',' => {
                values += 1;
                is_name = depth == 1;
            }
            b'n' => nulls += 1,
            _ => {}
        }
    }
    Err(ArrowError::JsonError("it breaks off in the middle of a row".into()))
}

/// What is in the string that has just begun, as it is written.
fn skip_string<'a>(bytes: &mut slice::Iter<'a, u8>) -> &'a [u8] {
    let text = bytes.as_slice();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return &text[..text.len() - bytes.len() - 1],
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    fn members() -> Members {
        Members::of(&Schema::new(vec![Field::new("a", DataType::Int64, true)]))
    }

    fn found(mut objects: Objects, body: &str) -> Result<Vec<&str>, String> {
        let (mut found, mut members) = (Vec::new(), members());
        let text = |error: ArrowError| error.to_string();
        while let Some(object) = objects.next(body.as_bytes(), &mut members).map_err(text)? {
            found.push(&body[object.range]);
        }
        assert!(objects.next(body.as_bytes(), &mut members).is_ok_and(|after| after.is_none()), "{body}");
        Ok(found)
    }

    #[test]
    fn objects_are_found_in_an_array_and_in_lines() {
        let array = r#" [ {"a]}": [1, {}]} ,{"b": "\"}"}] "#;
        assert_eq!(found(Objects::of_array(), array).unwrap(), [r#"{"a]}": [1, {}]}"#, r#"{"b": "\"}"}"#]);
        assert_eq!(found(Objects::of_array(), " [] ").unwrap(), [""; 0]);
        assert_eq!(
            found(Objects::of_lines(), "{}\n\n {\"a\":\n1} {}\n").unwrap(),
            ["{}", "{\"a\":\n1}", "{}"]
        );
        assert_eq!(found(Objects::of_lines(), " ").unwrap(), [""; 0]);
    }

    #[test]
    fn what_stands_between_is_refused() {
        for body in [
            "",
            "{}",
            "[",
            "[,{}]",
            "[{},]",
            "[{},,{}]",
            "[{} {}]",
            "[{}",
            "[{}]]",
            "[{}] {}",
            "[1]",
            "[{},null]",
        ] {
            assert!(found(Objects::of_array(), body).is_err(), "{body}");
        }
        for body in ["[]", "{},{}", "1", "{", "{}]"] {
            assert!(found(Objects::of_lines(), body).is_err(), "{body}");
        }
    }

    #[test]
    fn what_can_come_of_an_object_is_counted_outside_of_texts() {
        let body = br#"{"a,n{": [null, "n,,{", null], "b": {"c": 1}}"#;
        let object = Objects::of_lines().next(body, &mut members()).unwrap().unwrap();
        assert_eq!((object.objects, object.nulls, object.values), (2, 2, 6));
    }

    #[test]
    fn a_member_of_a_row_is_there_once_and_what_is_deeper_is_none() {
        for body in [
            r#"{"b": {"a": 1, "a": 2}, "a": "a", "c": ["a", "a", {"a": 1}], "d": "a"}"#,
            r#"{"a": 1} {"a": 2}"#,
            r#"{"x": "\",\"a\":", "a": 1}"#,
        ] {
            found(Objects::of_lines(), body).unwrap();
        }
        for body in [r#"{} {"a": 1, "a": 2}"#, r#"{} {"a": {"b": [1]}, "x": "a", "\u0061": null}"#] {
            assert!(
                found(Objects::of_lines(), body).unwrap_err().contains("row 2 has \"a\" twice"),
                "{body}"
            );
        }
    }

    #[test]
    fn only_what_is_no_text_counts_as_nested() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        let next = |body: &str| Objects::of_lines().next(body.as_bytes(), &mut members()).map(|_| ());
        assert!(next(&nested(MAX_DEPTH - 1)).is_ok());
        assert!(next(&nested(MAX_DEPTH)).is_err());
        assert!(next(&format!(r#"{{"a\"": "{}", "b": [1]}}"#, "[".repeat(500))).is_ok());
        assert!(next(&format!("{{\"a\":[{}0]}}", "[1],".repeat(1_000))).is_ok());
    }
}
