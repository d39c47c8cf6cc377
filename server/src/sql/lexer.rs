//! Tokens of PostgreSQL-like SQL: just enough to tell code from texts and comments.

use std::ops::Range;

/// A piece of SQL. Texts and numbers are not told apart: nothing here looks into them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word, in lower case.
    Word(String),
    /// An identifier in double quotes, in lower case as DuckDB compares it.
    Quoted(String),
    /// A text or a number.
    Literal,
    /// Anything else.
    Punctuation(char),
}

/// Splits a text; an unterminated text or comment reaches to the end.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    spanned(text).map(|(token, _)| token).collect()
}

/// The same, each with the offset at which it ends.
pub(super) fn spanned(text: &str) -> impl Iterator<Item = (Token, usize)> + '_ {
    ranged(text).map(|(token, range)| (token, range.end))
}

/// The same, each with its place.
pub(super) fn ranged(text: &str) -> impl Iterator<Item = (Token, Range<usize>)> + '_ {
    let mut lexer = Lexer { rest: text };
    std::iter::from_fn(move || {
        lexer.skip_blank();
        let start = text.len() - lexer.rest.len();
        let token = lexer.next()?;
        Some((token, start..text.len() - lexer.rest.len()))
    })
}

/// Spaces as DuckDB's parser knows them: it also strips those of Unicode that have no width.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

struct Lexer<'a> {
    rest: &'a str,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<Token> {
        self.skip_blank();
        let first = self.rest.chars().next()?;
        Some(match first {
            '\'' => {
                self.quoted('\'');
                Token::Literal
            }
            '"' => Token::Quoted(self.quoted('"').to_lowercase()),
            '$' if self.dollar_tag().is_some() => {
                self.dollar_quoted();
                Token::Literal
            }
            '0'..='9' => {
                self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '.');
                Token::Literal
            }
            c if c.is_alphabetic() || c == '_' => self.word(),
            c => {
                self.rest = &self.rest[c.len_utf8()..];
                Token::Punctuation(c)
            }
        })
    }

    fn skip_blank(&mut self) {
        loop {
            let trimmed = self.rest.trim_start_matches(is_blank);
            self.rest = if let Some(comment) = trimmed.strip_prefix("--") {
                // DuckDB takes both for the end of a line.
                comment.find(['\n', '\r']).map_or("", |end| &comment[end..])
            } else if trimmed.starts_with("/*") {
                after_block_comment(trimmed)
            } else {
                self.rest = trimmed;
                return;
            };
        }
    }

    /// A word; `E'...'` texts know backslash escapes, so that `E'\''` is one text.
    fn word(&mut self) -> Token {
        let word = self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '$').to_lowercase();
        if word == "e" && self.rest.starts_with('\'') {
            self.escaped_text();
            return Token::Literal;
        }
        Token::Word(word)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// What stands between two quotes; a doubled quote is one.
    fn quoted(&mut self, quote: char) -> String {
        let mut content = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c != quote {
                content.push(c);
            } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
                content.push(quote);
                chars.next();
            } else {
                self.rest = &self.rest[at + 1..];
                return content;
            }
        }
        self.rest = "";
        content
    }

    fn escaped_text(&mut self) {
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => drop(chars.next()),
                '\'' => {
                    self.rest = &self.rest[at + 1..];
                    return;
                }
                _ => {}
            }
        }
        self.rest = "";
    }

    /// The length of `$tag$` at the front; parameters such as `$1` and `$name` have no second dollar.
    fn dollar_tag(&self) -> Option<usize> {
        let after = &self.rest[1..];
        let end = after.find('$')?;
        let tag = &after[..end];
        let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !tag.starts_with(|c: char| c.is_ascii_digit());
        is_tag.then_some(end + 2)
    }

    fn dollar_quoted(&mut self) {
        let Some(length) = self.dollar_tag() else { return };
        let (tag, body) = self.rest.split_at(length);
        self.rest = body.find(tag).map_or("", |end| &body[end + length..]);
    }
}

/// What follows a block comment; these nest.
fn after_block_comment(text: &str) -> &str {
    let mut depth = 0_usize;
    let mut at = 0;
    let bytes = text.as_bytes();
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return &text[at..];
                }
            }
            _ => at += 1,
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_comments_hide_their_content() {
        let found = tokens("SELECT 'a''b', E'\\'', $t$ ; $t$, \"Q\"\"x\" /* /* */ ; */ -- ;\n $1");
        let words: Vec<_> = found.iter().filter(|token| !matches!(token, Token::Punctuation(','))).collect();
        assert_eq!(words[0], &Token::Word("select".into()));
        assert_eq!(words.iter().filter(|token| ***token == Token::Literal).count(), 4);
        assert!(found.contains(&Token::Quoted("q\"x".into())));
        assert!(!found.contains(&Token::Punctuation(';')));
    }

    #[test]
    fn a_comment_ends_where_duckdb_ends_it() {
        for end in ["\n", "\r", "\r\n"] {
            let found = tokens(&format!("SELECT 1 -- x{end}; CHECKPOINT"));
            assert_eq!(found.last(), Some(&Token::Word("checkpoint".into())), "{end:?}");
        }
    }

    #[test]
    fn the_unterminated_reaches_to_the_end() {
        for text in ["'a;", "\"a;", "/* ;", "$$ ;", "E'\\", "--"] {
            assert!(!tokens(text).contains(&Token::Punctuation(';')), "{text}");
        }
    }

    proptest::proptest! {
        /// Whatever a client sends, reading it ends and does not panic, and a text stays one token.
        #[test]
        fn any_text_is_read(text in "\\PC{0,60}", inside in "[^'\0]{0,20}") {
            tokens(&text);
            proptest::prop_assert_eq!(tokens(&format!("'{inside}'")), vec![Token::Literal]);
        }
    }
}
