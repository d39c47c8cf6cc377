//! The values of a JSON file one after the other, each with its line.

use std::io::BufRead;

use merganser::Error;
use serde_json::{Deserializer, value::RawValue};

use super::refusal;

/// The values, of which one may go over several lines, and several may stand on one.
pub(super) struct Values<R> {
    reader: R,
    /// Lines of which the first bytes are done with.
    text: Vec<u8>,
    done: usize,
    /// Where the bytes begin that are not done with.
    line: u64,
    ended: bool,
}

impl<R: BufRead> Values<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, text: Vec::new(), done: 0, line: 1, ended: false }
    }

    /// The next value and the line on which it begins; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(&str, u64)>, Error> {
        let mut wanted = 1;
        loop {
            let rest = &self.text[self.done..];
            let mut values = Deserializer::from_slice(rest).into_iter::<&RawValue>();
            match values.next() {
                Some(Ok(value)) => {
                    let length = value.get().len();
                    let begin = values.byte_offset() - length;
                    let line = self.line + line_feeds(&rest[..begin]);
                    self.line = line + line_feeds(&rest[begin..begin + length]);
                    let begin = self.done + begin;
                    self.done = begin + length;
                    let value = std::str::from_utf8(&self.text[begin..self.done]);
                    return value.map(|value| Some((value, line))).map_err(|_| no_unicode(line));
                }
                None if self.ended => return Ok(None),
                // Twice as many lines each time, so that looking anew at a long value costs no more than its length.
                Some(Err(error)) if !error.is_eof() || self.ended => {
                    return Err(refused(&error, self.line, rest));
                }
                found => {
                    if found.is_none() {
                        self.line += line_feeds(rest);
                        self.done = self.text.len();
                    }
                    self.text.drain(..self.done);
                    self.done = 0;
                    self.ended = read_lines(&mut self.reader, wanted, &mut self.text)?;
                    wanted *= 2;
                }
            }
        }
    }
}

fn no_unicode(line: u64) -> Error {
    refusal(line, "is no Unicode")
}

/// Reads lines behind what there is; true at the end.
fn read_lines(reader: &mut impl BufRead, count: usize, text: &mut Vec<u8>) -> Result<bool, Error> {
    for _ in 0..count {
        if reader.read_until(b'\n', text)? == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The place in the error counts from where reading began; the line of the value is better known.
fn refused(error: &serde_json::Error, line: u64, rest: &[u8]) -> Error {
    let before = rest.iter().take_while(|byte| byte.is_ascii_whitespace());
    let line = line + before.filter(|byte| **byte == b'\n').count() as u64;
    let text = error.to_string();
    let what = text.split_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    refusal(line, &format!("is no JSON: {what}"))
}

fn line_feeds(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &[u8]) -> Result<Vec<(u64, String)>, Error> {
        let (mut values, mut found) = (Values::new(text), Vec::new());
        while let Some((value, line)) = values.next()? {
            found.push((line, value.to_owned()));
        }
        Ok(found)
    }

    #[test]
    fn values_have_lines_however_they_are_laid_out() {
        let text = b"\n{\"a\":1}\n\n{\n \"a\":\n2}{\"a\":3} {\"a\":\n4}\n\n{\"a\":5}";
        let found: Vec<_> = values(text).unwrap().into_iter().map(|(line, _)| line).collect();
        assert_eq!(found, [2, 4, 6, 6, 9]);
    }

    #[test]
    fn what_is_no_json_is_refused_by_its_line() {
        for (text, expected) in [
            (&b"{\"a\":1}\n{\"a\":"[..], "line 2 is no JSON: EOF"),
            (b"{\"a\":1} x\n", "line 1 is no JSON: expected value"),
            (b"{\"a\":1}\n\n{\"a\":01}\n", "line 3 is no JSON"),
            (b"{\"a\":1}\n{\"a\":\"\xe9\"}\n", "line 2 is no JSON"),
            (b"{\"a\":1,,\"b\":2}\n", "line 1 is no JSON"),
        ] {
            let error = values(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
