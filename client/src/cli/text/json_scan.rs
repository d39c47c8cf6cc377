//! A way through JSON that is known to be valid.

use std::borrow::Cow;

/// Deeper than any table; what is deeper still must not exhaust the stack.
const MAX_DEPTH: usize = 64;

/// Goes through one value, from its beginning on.
#[derive(Clone)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Scan<'a> {
    /// Before the value that `text` begins with.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The next byte behind spaces.
    pub(super) fn peek(&mut self) -> u8 {
        while self.byte().is_ascii_whitespace() {
            self.at += 1;
        }
        self.byte()
    }

    /// Goes into a list or an object; false where it is too deep.
    pub(super) fn enter(&mut self) -> bool {
        self.depth += 1;
        self.depth <= MAX_DEPTH
    }

    /// Out again.
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Goes through the elements of a list or an object, from what opens it to what closes it.
    pub(super) fn each<E>(
        &mut self,
        close: u8,
        mut element: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.peek();
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

    /// The name of a member, and the colon behind it; none where it is no Unicode.
    pub(super) fn name(&mut self) -> Option<Cow<'a, str>> {
        self.peek();
        let name = self.string();
        self.peek();
        self.at += 1;
        name
    }

    /// What a string says. Half of a surrogate pair is the only thing that valid JSON has and Unicode has not: then none.
    pub(super) fn string(&mut self) -> Option<Cow<'a, str>> {
        let written = self.value();
        if written.contains('\\') {
            return serde_json::from_str(written).map(Cow::Owned).ok();
        }
        Some(Cow::Borrowed(&written[1..written.len() - 1]))
    }

    /// What the next value is as text: what a string says, and everything else as it is written.
    pub(super) fn text(&mut self) -> Cow<'a, str> {
        let mut ahead = self.clone();
        let said = if self.peek() == b'"' { self.string() } else { None };
        said.unwrap_or_else(|| Cow::Borrowed(ahead.value()))
    }

    /// The next value as it is written, whatever it is.
    pub(super) fn value(&mut self) -> &'a str {
        self.peek();
        let begin = self.at;
        match self.byte() {
            b'"' => self.pass_string(),
            b'{' | b'[' => self.pass_nested(),
            _ => self.pass_word(),
        }
        &self.text[begin..self.at]
    }

    fn pass_string(&mut self) {
        self.at += 1;
        while !matches!(self.byte(), b'"' | 0) {
            self.at += if self.byte() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
    }

    /// Counts instead of recursing: what is not looked at may be as deep as it likes.
    fn pass_nested(&mut self) {
        let mut open = 0_usize;
        loop {
            match self.byte() {
                b'"' => {
                    self.pass_string();
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return;
            }
        }
    }

    /// A number, or `null`, `true`, `false`.
    fn pass_word(&mut self) {
        while matches!(self.byte(), b'0'..=b'9' | b'-' | b'+' | b'.' | b'a'..=b'z' | b'E') {
            self.at += 1;
        }
    }

    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_as_they_are_written() {
        for value in ["1.50", "-1E+5", "null", "true", "\"a\\\"]}\"", "[1, \"]\", {\"a\":[]}]", "{}", "\"é\""]
        {
            for text in [format!(" {value} , 1"), format!("\n{value}]")] {
                let mut scan = Scan::new(&text);
                assert_eq!(scan.value(), value);
                assert!([b',', b']'].contains(&scan.peek()));
            }
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(Scan::new(&deep).value(), deep);
    }

    #[test]
    fn strings_say_what_they_stand_for() {
        for (written, said) in
            [("\"a\"", Some("a")), ("\"\\u00e9\\n\"", Some("é\n")), ("\"\\ud800\"", None), ("\"\"", Some(""))]
        {
            assert_eq!(Scan::new(written).string().as_deref(), said, "{written}");
        }
    }
}
