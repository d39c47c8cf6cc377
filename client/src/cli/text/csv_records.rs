//! The rows of CSV files, read a piece at a time.

use std::{borrow::Cow, io::Read};

use merganser::Error;
use merganser_formats::{CsvFault, CsvNext, CsvRecords};

use super::refusal;

const READ_BYTES: usize = 1 << 20;
/// No more than a message may have; a quote that is not closed must not take all memory.
const MAX_ROW_BYTES: usize = 64 << 20;

/// Reads rows one after the other.
pub(super) struct Records<R> {
    reader: R,
    found: CsvRecords,
    /// What is read and not yet done with.
    buffer: Vec<u8>,
    ended: bool,
}

impl<R: Read> Records<R> {
    pub(super) fn new(reader: R, delimiter: u8) -> Self {
        Self { reader, found: CsvRecords::new(delimiter), buffer: Vec::new(), ended: false }
    }

    /// Reads the header.
    pub(super) fn header(&mut self) -> Result<Vec<String>, Error> {
        loop {
            match self.found.header(usize::MAX, &self.buffer, self.ended).map_err(refused)? {
                CsvNext::Row(line) => {
                    let names = 0..self.found.fields();
                    return names.map(|index| Ok(self.text(index, line)?.into_owned())).collect();
                }
                CsvNext::More => self.read_more()?,
                CsvNext::End => {
                    return Err(Error::Usage("it is empty: a CSV file has a header line".into()));
                }
            }
        }
    }

    /// Reads the next row of so many fields; returns its line, and none at the end.
    pub(super) fn row(&mut self, columns: usize) -> Result<Option<u64>, Error> {
        loop {
            match self.found.row(columns, &self.buffer, self.ended).map_err(refused)? {
                CsvNext::Row(line) => return Ok(Some(line)),
                CsvNext::More => self.read_more()?,
                CsvNext::End => return Ok(None),
            }
        }
    }

    /// A field of that row, in bytes that need not be UTF-8, and without the quotes.
    pub(super) fn bytes(&self, index: usize) -> Cow<'_, [u8]> {
        self.found.bytes(&self.buffer, index)
    }

    /// The same as text.
    pub(super) fn text(&self, index: usize, line: u64) -> Result<Cow<'_, str>, Error> {
        self.found.text(&self.buffer, index, line).map_err(refused)
    }

    /// How many bytes the row has, about.
    pub(super) fn row_bytes(&self) -> usize {
        self.found.row_bytes()
    }

    fn read_more(&mut self) -> Result<(), Error> {
        self.buffer.drain(..self.found.done());
        self.found.cut_off();
        if self.buffer.len() > MAX_ROW_BYTES {
            let text = "begins a row of more than 64 MiB; is a quote missing that closes a field?";
            return Err(refusal(self.found.line(), text));
        }
        // As much again, so that looking anew at a long row costs no more than its length.
        let wanted = READ_BYTES.max(self.buffer.len());
        let read = self.reader.by_ref().take(wanted as u64).read_to_end(&mut self.buffer)?;
        self.ended = read < wanted;
        Ok(())
    }
}

fn refused(fault: CsvFault) -> Error {
    refusal(fault.line, &fault.what)
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
            (b"a,b\n1,x\n2\n", "line 3 has 1 field, and there are 2 columns"),
            (b"a,b\n1,x,\n", "line 2 has more fields than there are columns, 2"),
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
