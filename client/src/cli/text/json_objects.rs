//! The values of a JSON file one after the other, each with its line.

use std::io::BufRead;

use merganser::Error;
use serde_json::{Deserializer, value::RawValue};

use super::refusal;

/// Hands each value and its line to `take`. A value may go over several lines, and a line may have several values.
pub(super) fn each_value(
    mut reader: impl BufRead,
    mut take: impl FnMut(&str, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut text, mut line, mut wanted) = (Vec::new(), 1, 1);
    loop {
        let ended = read_lines(&mut reader, wanted, &mut text)?;
        let mut values = Deserializer::from_slice(&text).into_iter::<&RawValue>();
        let mut done = 0;
        let failed = loop {
            match values.next() {
                Some(Ok(value)) => {
                    let begin = values.byte_offset() - value.get().len();
                    line += line_feeds(&text[done..begin]);
                    take(value.get(), line)?;
                    line += line_feeds(value.get().as_bytes());
                    done = begin + value.get().len();
                }
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        match failed {
            None => {
                line += line_feeds(&text[done..]);
                text.clear();
                wanted = 1;
            }
            // Twice as many lines each time, so that looking anew at a long value costs no more than its length.
            Some(error) if error.is_eof() && !ended => {
                text.drain(..done);
                wanted *= 2;
            }
            Some(error) => return Err(refused(&error, line, &text[done..])),
        }
        if ended {
            return Ok(());
        }
    }
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
        let mut values = Vec::new();
        each_value(text, |value, line| {
            values.push((line, value.to_owned()));
            Ok(())
        })?;
        Ok(values)
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
