//! CSV files as rows of fields: RFC 4180 with any delimiter and any ends of lines.
//!
//! What other readers put up with is refused where it means that values end somewhere else than their author thought:
//! quotes that are never closed, text behind a closing quote, rows of too few or too many fields.

use std::{borrow::Cow, io::Read, ops::Range};

use merganser::Error;

use super::refusal;
use crate::cli::human;

const READ_BYTES: usize = 1 << 20;
/// No more than a message may have; a quote that is not closed must not take all memory.
const MAX_ROW_BYTES: usize = 64 << 20;

/// Reads rows one after the other.
pub(super) struct Records<R> {
    reader: R,
    delimiter: u8,
    /// What is read and not yet done with, from `begin` on.
    buffer: Vec<u8>,
    begin: usize,
    ended: bool,
    /// The line at `begin`.
    line: u64,
    fields: Vec<Field>,
}

/// A field of the row that was read last.
struct Field {
    range: Range<usize>,
    /// Whether quotes in it stand there twice.
    doubled: bool,
}

/// What there is from a place on.
enum Found {
    /// A row; the next one begins there, so many lines further on.
    Row {
        next: usize,
        lines: u64,
    },
    /// No row, but an empty line before that place.
    EmptyLine {
        next: usize,
    },
    /// More has to be read to know.
    Unknown,
    Nothing,
}

impl<R: Read> Records<R> {
    pub(super) fn new(reader: R, delimiter: u8) -> Self {
        let (buffer, fields) = (Vec::new(), Vec::new());
        Self { reader, delimiter, buffer, begin: 0, ended: false, line: 1, fields }
    }

    /// Reads the header. Empty lines before it belong to nothing.
    pub(super) fn header(&mut self) -> Result<Vec<String>, Error> {
        loop {
            let Some(line) = self.next()? else {
                return Err(Error::Usage("it is empty: a CSV file has a header line".into()));
            };
            if !self.is_empty_line() {
                let names = (0..self.fields.len()).map(|index| Ok(self.text(index, line)?.into_owned()));
                return names.collect();
            }
        }
    }

    /// Reads the next row of so many fields; returns its line, and none at the end.
    ///
    /// Empty lines hold no row, but where there is one column an empty line is how some programs write NULL, and to
    /// leave it out would lose a row without a word.
    pub(super) fn row(&mut self, columns: usize) -> Result<Option<u64>, Error> {
        while let Some(line) = self.next()? {
            if self.is_empty_line() {
                if columns > 1 {
                    continue;
                }
                let text = "is empty, which is no row: write \"\" for NULL, or leave the line out";
                return Err(refusal(line, text));
            }
            let count = self.fields.len();
            if count != columns {
                let fields = human::count(count as u64, "field");
                return Err(refusal(line, &format!("has {fields}, and the header has {columns}")));
            }
            return Ok(Some(line));
        }
        Ok(None)
    }

    /// A field of that row, in bytes that need not be UTF-8, and without the quotes.
    pub(super) fn bytes(&self, index: usize) -> Cow<'_, [u8]> {
        let field = &self.fields[index];
        let bytes = &self.buffer[field.range.clone()];
        if field.doubled { Cow::Owned(without_doubled_quotes(bytes)) } else { Cow::Borrowed(bytes) }
    }

    /// The same as text.
    pub(super) fn text(&self, index: usize, line: u64) -> Result<Cow<'_, str>, Error> {
        let text = match self.bytes(index) {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
        };
        text.ok_or_else(|| refusal(line, "is no text in UTF-8: convert the file, as by iconv"))
    }

    /// How many bytes the row has, about.
    pub(super) fn row_bytes(&self) -> usize {
        self.fields.iter().map(|field| field.range.len()).sum()
    }

    fn is_empty_line(&self) -> bool {
        self.fields.is_empty()
    }

    /// Reads a row or an empty line and returns its number.
    fn next(&mut self) -> Result<Option<u64>, Error> {
        let line = self.line;
        loop {
            match self.find()? {
                Found::Row { next, lines } => {
                    (self.begin, self.line) = (next, line + lines);
                    return Ok(Some(line));
                }
                Found::EmptyLine { next } => {
                    (self.begin, self.line) = (next, line + 1);
                    return Ok(Some(line));
                }
                Found::Nothing => return Ok(None),
                Found::Unknown => self.read_more()?,
            }
        }
    }

    fn read_more(&mut self) -> Result<(), Error> {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        if self.buffer.len() > MAX_ROW_BYTES {
            let text = "begins a row of more than 64 MiB; is a quote missing that closes a field?";
            return Err(refusal(self.line, text));
        }
        // As much again, so that looking anew at a long row costs no more than its length.
        let wanted = READ_BYTES.max(self.buffer.len());
        let read = self.reader.by_ref().take(wanted as u64).read_to_end(&mut self.buffer)?;
        self.ended = read < wanted;
        Ok(())
    }

    fn find(&mut self) -> Result<Found, Error> {
        self.fields.clear();
        let (buffer, mut at, mut lines) = (self.buffer.as_slice(), self.begin, 1);
        match end_of_line(buffer, at, self.ended) {
            _ if at == buffer.len() => {
                return Ok(if self.ended { Found::Nothing } else { Found::Unknown });
            }
            End::At(next) => return Ok(Found::EmptyLine { next }),
            End::Unknown => return Ok(Found::Unknown),
            End::No => {}
        }
        loop {
            let (field, behind) = if buffer.get(at) == Some(&b'"') {
                match quoted(buffer, at + 1, self.ended) {
                    Quoted::Field(field, behind) => {
                        lines += line_feeds(&buffer[field.range.clone()]);
                        (field, behind)
                    }
                    Quoted::Unknown => return Ok(Found::Unknown),
                    Quoted::NeverClosed => {
                        let text =
                            "opens a quote that is never closed: close it, or write it twice inside quotes";
                        return Err(refusal(self.line + lines - 1, text));
                    }
                }
            } else {
                let end = unquoted_end(buffer, at, self.delimiter);
                (Field { range: at..end, doubled: false }, end)
            };
            self.fields.push(field);
            match buffer.get(behind) {
                None if self.ended => return Ok(Found::Row { next: behind, lines }),
                None => return Ok(Found::Unknown),
                Some(byte) if *byte == self.delimiter => at = behind + 1,
                Some(_) => match end_of_line(buffer, behind, self.ended) {
                    End::At(next) => return Ok(Found::Row { next, lines }),
                    End::Unknown => return Ok(Found::Unknown),
                    End::No => {
                        let text = "has text behind a closing quote; is a quote missing in it or in a line before? \
                                    A quote inside of quotes is written twice";
                        return Err(refusal(self.line + lines - 1, text));
                    }
                },
            }
        }
    }
}

fn unquoted_end(buffer: &[u8], at: usize, delimiter: u8) -> usize {
    let rest = buffer[at..].iter();
    let length = rest.take_while(|&&byte| byte != delimiter && byte != b'\n' && byte != b'\r').count();
    at + length
}

/// Whether a line ends at a place.
enum End {
    /// The next one begins there.
    At(usize),
    No,
    Unknown,
}

fn end_of_line(buffer: &[u8], at: usize, ended: bool) -> End {
    match buffer.get(at) {
        Some(b'\n') => End::At(at + 1),
        Some(b'\r') => match buffer.get(at + 1) {
            Some(b'\n') => End::At(at + 2),
            None if !ended => End::Unknown,
            _ => End::At(at + 1),
        },
        _ => End::No,
    }
}

enum Quoted {
    /// And what is behind the quote that closes it.
    Field(Field, usize),
    NeverClosed,
    Unknown,
}

/// Reads a field from behind the quote that opens it.
fn quoted(buffer: &[u8], begin: usize, ended: bool) -> Quoted {
    let (mut at, mut doubled) = (begin, false);
    loop {
        let Some(length) = buffer[at..].iter().position(|byte| *byte == b'"') else {
            return if ended { Quoted::NeverClosed } else { Quoted::Unknown };
        };
        at += length + 1;
        match buffer.get(at) {
            Some(b'"') => (at, doubled) = (at + 1, true),
            None if !ended => return Quoted::Unknown,
            _ => return Quoted::Field(Field { range: begin..at - 1, doubled }, at),
        }
    }
}

fn without_doubled_quotes(bytes: &[u8]) -> Vec<u8> {
    let mut after_quote = false;
    let keep = |byte: &u8| {
        after_quote = *byte == b'"' && !after_quote;
        after_quote || *byte != b'"'
    };
    bytes.iter().copied().filter(keep).collect()
}

fn line_feeds(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time, so that each place is the end of what is known once.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = usize::from(!self.0.is_empty()).min(buffer.len());
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn rows(text: &[u8]) -> Result<Vec<(u64, Vec<String>)>, Error> {
        let mut records = Records::new(Dribble(text), b',');
        let columns = records.header()?.len();
        let mut rows = Vec::new();
        while let Some(line) = records.row(columns)? {
            let fields = (0..columns).map(|index| Ok(records.text(index, line)?.into_owned()));
            rows.push((line, fields.collect::<Result<_, Error>>()?));
        }
        Ok(rows)
    }

    #[test]
    fn fields_are_what_stands_between_delimiters_and_quotes() {
        let rows =
            rows(b"\n\na,b\r\n1,x\n\n\"2\",\"y,\r\n\"\"z\"\"\"\r3,in\"side\r\n,\n \"a\" ,\"\"\n5, last");
        let texts = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
        assert_eq!(
            rows.unwrap(),
            [
                (4, texts(["1", "x"])),
                (6, texts(["2", "y,\r\n\"z\""])),
                (8, texts(["3", "in\"side"])),
                (9, texts(["", ""])),
                (10, texts([" \"a\" ", ""])),
                (11, texts(["5", " last"])),
            ]
        );
    }

    #[test]
    fn what_ends_somewhere_else_than_it_seems_is_refused_by_its_line() {
        for (text, expected) in [
            (&b"a,b\n1,\"x\n2,y\n"[..], "line 2 opens a quote that is never closed"),
            (b"a,b\n1,\"x\n2,\"y\"\n", "line 3 has text behind a closing quote"),
            (b"a,b\n\"x\ny\",\"z\n", "line 3 opens a quote"),
            (b"a,b\n1,x\n2\n", "line 3 has 1 field, and the header has 2"),
            (b"a,b\n1,x,\n", "line 2 has 3 fields"),
            (b"a,b\n1,\xe9\n", "line 2 is no text in UTF-8"),
            (b"a\n1\n\n3\n", "line 3 is empty"),
            (b"a\r\n1\r\n\r\n3\r\n", "line 3 is empty"),
            (b"a\r1\r\r3", "line 3 is empty"),
            (b"a\n1\n\n", "line 3 is empty"),
            (b"\n\na\n\n1\n", "line 4 is empty"),
            (b"a\n\"x\n\ny\"\n\n", "line 5 is empty"),
            (b"", "it is empty"),
            (b"\n\n", "it is empty"),
        ] {
            let error = rows(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn lines_of_one_column_that_only_look_empty_pass() {
        for text in [&b"a"[..], b"a\n1\n2\n", b"a\r\n1\r\n", b"a\n\"\"\n \n", b"a\n\"x\n\n\r\n\"\"\n\ny\"\n1"]
        {
            rows(text).unwrap();
        }
    }

    #[test]
    fn a_row_without_end_does_not_take_all_memory() {
        let text = std::io::repeat(b'x').take(1 << 40);
        let mut records = Records::new((&b"a,b\n1,\"x"[..]).chain(text), b',');
        records.header().unwrap();
        let error = records.row(2).unwrap_err().to_string();
        assert!(error.contains("line 2 begins a row of more than 64 MiB"), "{error}");
    }
}
