//! Empty lines of a CSV file with one column.
//!
//! The CSV reader skips empty lines. In a file of several columns they hold no row, but where there is one column an
//! empty line is how some programs write NULL, and skipping it would lose a row without a word.

use std::io::{self, ErrorKind, Read};

/// Reads on until an empty line comes behind the header, which is an error that names the line.
pub(crate) struct RefuseEmptyLines<R> {
    reader: R,
    line: u64,
    at: At,
    /// A line feed behind it belongs to the same end of a line.
    after_return: bool,
}

/// Where in the text the next byte is.
#[derive(Clone, Copy)]
enum At {
    /// Before anything of the header.
    Top,
    LineStart,
    Unquoted,
    Quoted,
    /// Behind a quote that ends the value, unless another one follows.
    Quote,
}

impl<R> RefuseEmptyLines<R> {
    /// Of a file that stands at its beginning.
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, line: 1, at: At::Top, after_return: false }
    }

    fn take(&mut self, byte: u8) -> io::Result<()> {
        let follows_return = std::mem::replace(&mut self.after_return, byte == b'\r');
        if byte == b'\n' && follows_return {
            return Ok(());
        }
        let ends_line = matches!(byte, b'\n' | b'\r');
        self.at = match (self.at, byte) {
            (At::Top | At::LineStart | At::Quote, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::Quote,
            (At::Quoted, _) => At::Quoted,
            (At::Top, _) if ends_line => At::Top,
            (At::LineStart, _) if ends_line => return Err(self.refusal()),
            _ if ends_line => At::LineStart,
            _ => At::Unquoted,
        };
        self.line += u64::from(ends_line);
        Ok(())
    }

    fn refusal(&self) -> io::Error {
        let line = self.line;
        let text =
            format!("line {line} is empty, which is no row: write \"\" for NULL, or leave the line out");
        io::Error::new(ErrorKind::InvalidData, text)
    }
}

impl<R: Read> Read for RefuseEmptyLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        buffer[..count].iter().try_for_each(|byte| self.take(*byte))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<String> {
        let mut read = String::new();
        let error = RefuseEmptyLines::new(text.as_bytes()).read_to_string(&mut read).err()?;
        Some(error.to_string())
    }

    #[test]
    fn an_empty_line_is_refused_by_its_number() {
        for (text, line) in [
            ("a\n1\n\n3\n", 3),
            ("a\r\n1\r\n\r\n3\r\n", 3),
            ("a\r1\r\r3", 3),
            ("a\n1\n\n", 3),
            ("\n\na\n\n1\n", 4),
            ("a\n\"x\n\ny\"\n\n", 5),
            ("a\n\"he said \"\"x\"\"\"\n\n", 3),
            ("a\n1\"\n\n2\"\n", 3),
        ] {
            let error = refused(text).unwrap();
            assert!(error.starts_with(&format!("line {line} is empty")), "{text:?}: {error}");
        }
    }

    #[test]
    fn lines_that_only_look_empty_pass() {
        for text in
            ["", "a", "a\n1\n2\n", "a\r\n1\r\n", "\n\na\n1\n", "a\n\"\"\n \n", "a\n\"x\n\n\r\n\"\"\n\ny\"\n1"]
        {
            assert_eq!(refused(text), None, "{text:?}");
        }
    }
}
