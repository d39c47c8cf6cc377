//! Where the rows of a text in CSV are: RFC 4180 with any delimiter and any ends of lines.
//!
//! What other readers put up with is refused where it means that values end somewhere else than their author thought:
//! quotes that are never closed, text behind a closing quote, rows of too few or too many fields.

use std::{borrow::Cow, ops::Range};

/// A line that cannot be read, and why: `line 2 has 1 field, and there are 2 columns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvFault {
    /// Its number, from 1 on.
    pub line: u64,
    /// What follows its number in an error.
    pub what: String,
}

/// What there is next in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CsvNext {
    /// A row, which begins in this line.
    Row(u64),
    /// More of the text is needed to know.
    More,
    /// Nothing any more.
    End,
}

/// Finds one row after the other in a text of which more and more becomes known.
pub struct CsvRecords {
    delimiter: u8,
    /// Where the next row begins in what is known of the text,
    begin: usize,
    /// and in which line.
    line: u64,
    /// Of the row that was found last.
    fields: Vec<Field>,
}

struct Field {
    /// Without the quotes around it.
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
    /// A row of more fields than there may be.
    TooMany,
    Unknown,
    Nothing,
}

impl CsvRecords {
    /// Begins with the first line.
    #[must_use]
    pub fn new(delimiter: u8) -> Self {
        Self { delimiter, begin: 0, line: 1, fields: Vec::new() }
    }

    /// Finds the header, which has no more fields than `most`. Empty lines before it belong to nothing.
    ///
    /// `text` is what is known, from where it was cut off last; `ended` tells that there is no more.
    ///
    /// # Errors
    /// [`CsvFault`] for more fields, and for quotes that end nowhere, or not where the value ends.
    pub fn header(&mut self, most: usize, text: &[u8], ended: bool) -> Result<CsvNext, CsvFault> {
        loop {
            let next = self.next(most, text, ended)?;
            if !matches!(next, CsvNext::Row(_)) || !self.fields.is_empty() {
                return Ok(next);
            }
        }
    }

    /// Finds the next row of so many fields.
    ///
    /// Empty lines hold no row, but where there is one column an empty line is how some programs write NULL, and to
    /// leave it out would lose a row without a word.
    ///
    /// # Errors
    /// As [`CsvRecords::header`], and for a row of more or fewer fields.
    pub fn row(&mut self, columns: usize, text: &[u8], ended: bool) -> Result<CsvNext, CsvFault> {
        loop {
            let next = self.next(columns, text, ended)?;
            let CsvNext::Row(line) = next else { return Ok(next) };
            match self.fields.len() {
                count if count == columns => return Ok(next),
                0 if columns > 1 => {}
                0 => {
                    let what = "is empty, which is no row: write \"\" for NULL, or leave the line out";
                    return Err(CsvFault { line, what: what.into() });
                }
                count => {
                    let fields = if count == 1 { "field" } else { "fields" };
                    let what = format!("has {count} {fields}, and there are {columns} columns");
                    return Err(CsvFault { line, what });
                }
            }
        }
    }

    /// The number of fields of the row that was found last.
    #[must_use]
    pub fn fields(&self) -> usize {
        self.fields.len()
    }

    /// A field of that row, in bytes that need not be UTF-8, and without the quotes.
    #[must_use]
    #[inline]
    pub fn bytes<'a>(&self, text: &'a [u8], index: usize) -> Cow<'a, [u8]> {
        let field = &self.fields[index];
        let bytes = &text[field.range.clone()];
        if field.doubled { Cow::Owned(without_doubled_quotes(bytes)) } else { Cow::Borrowed(bytes) }
    }

    /// The same as text.
    ///
    /// # Errors
    /// [`CsvFault`] for what is no UTF-8; the row begins in `line`.
    #[inline]
    pub fn text<'a>(&self, text: &'a [u8], index: usize, line: u64) -> Result<Cow<'a, str>, CsvFault> {
        let text = match self.bytes(text, index) {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
        };
        text.ok_or_else(|| CsvFault { line, what: "is no text in UTF-8: convert it, as by iconv".into() })
    }

    /// How many bytes the row has, about.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.fields.iter().map(|field| field.range.len()).sum()
    }

    /// The line in which the next row begins.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The bytes of the text that are done with.
    #[must_use]
    pub fn done(&self) -> usize {
        self.begin
    }

    /// That these bytes are cut off the text.
    pub fn cut_off(&mut self) {
        self.begin = 0;
    }

    /// A row, or an empty line as a row of no fields.
    fn next(&mut self, most: usize, text: &[u8], ended: bool) -> Result<CsvNext, CsvFault> {
        let line = self.line;
        (self.begin, self.line) = match self.find(most, text, ended)? {
            Found::Row { next, lines } => (next, line + lines),
            Found::EmptyLine { next } => (next, line + 1),
            Found::TooMany => {
                return Err(CsvFault {
                    line,
                    what: format!("has more fields than there are columns, {most}"),
                });
            }
            Found::Nothing => return Ok(CsvNext::End),
            Found::Unknown => return Ok(CsvNext::More),
        };
        Ok(CsvNext::Row(line))
    }

    /// Stops where there are too many fields: a line of nothing but commas would become millions of them.
    fn find(&mut self, most: usize, text: &[u8], ended: bool) -> Result<Found, CsvFault> {
        self.fields.clear();
        let (mut at, mut lines) = (self.begin, 1);
        match end_of_line(text, at, ended) {
            _ if at == text.len() => return Ok(if ended { Found::Nothing } else { Found::Unknown }),
            End::At(next) => return Ok(Found::EmptyLine { next }),
            End::Unknown => return Ok(Found::Unknown),
            End::No => {}
        }
        loop {
            if self.fields.len() == most {
                return Ok(Found::TooMany);
            }
            let (field, behind) = if text.get(at) == Some(&b'"') {
                match quoted(text, at + 1, ended) {
                    Quoted::Field(field, behind) => {
                        lines += line_feeds(&text[field.range.clone()]);
                        (field, behind)
                    }
                    Quoted::Unknown => return Ok(Found::Unknown),
                    Quoted::NeverClosed => {
                        let what =
                            "opens a quote that is never closed: close it, or write it twice inside quotes";
                        return Err(self.fault(lines, what));
                    }
                }
            } else {
                let end = unquoted_end(text, at, self.delimiter);
                (Field { range: at..end, doubled: false }, end)
            };
            self.fields.push(field);
            match text.get(behind) {
                None if ended => return Ok(Found::Row { next: behind, lines }),
                None => return Ok(Found::Unknown),
                Some(byte) if *byte == self.delimiter => at = behind + 1,
                Some(_) => match end_of_line(text, behind, ended) {
                    End::At(next) => return Ok(Found::Row { next, lines }),
                    End::Unknown => return Ok(Found::Unknown),
                    End::No => {
                        let what = "has text behind a closing quote; is a quote missing in it or in a line before? \
                                    A quote inside of quotes is written twice";
                        return Err(self.fault(lines, what));
                    }
                },
            }
        }
    }

    /// What is wrong in one of the lines of the next row, counted from 1 on.
    fn fault(&self, lines: u64, what: &str) -> CsvFault {
        CsvFault { line: self.line + lines - 1, what: what.into() }
    }
}

fn unquoted_end(text: &[u8], at: usize, delimiter: u8) -> usize {
    let rest = text[at..].iter();
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

fn end_of_line(text: &[u8], at: usize, ended: bool) -> End {
    match text.get(at) {
        Some(b'\n') => End::At(at + 1),
        Some(b'\r') => match text.get(at + 1) {
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
fn quoted(text: &[u8], begin: usize, ended: bool) -> Quoted {
    let (mut at, mut doubled) = (begin, false);
    loop {
        let Some(length) = text[at..].iter().position(|byte| *byte == b'"') else {
            return if ended { Quoted::NeverClosed } else { Quoted::Unknown };
        };
        at += length + 1;
        match text.get(at) {
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
