//! Tokens of SQL: just enough to tell code from texts and comments, exactly as DuckDB's scanner does. A text that is read
//! otherwise than DuckDB reads it hides statements and names from every rule. (`scan.l` of DuckDB's libpg_query; before
//! that, `Parser::StripUnicodeSpaces`.)

use std::ops::Range;

use super::MAX_SQL_BYTES;

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

impl Token {
    /// What it says where it may be a name.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Quoted(name) => Some(name),
            Self::Literal | Self::Punctuation(_) => None,
        }
    }
}

/// Splits a text; an unterminated text or comment reaches to the end.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    spanned(text).map(|(token, _)| token).collect()
}

/// The same, each with the offset at which it ends.
pub(super) fn spanned(text: &str) -> impl Iterator<Item = (Token, usize)> + '_ {
    ranged(text).map(|(token, range)| (token, range.end))
}

/// The same, each with its place. A text that is too long for the gate has none: its tokens would take many times the
/// memory that it takes itself.
pub(super) fn ranged(text: &str) -> impl Iterator<Item = (Token, Range<usize>)> + '_ {
    let text = if text.len() > MAX_SQL_BYTES { "" } else { text };
    let mut lexer = Lexer::of(text);
    std::iter::from_fn(move || {
        lexer.skip_blank();
        let start = text.len() - lexer.rest.len();
        let token = lexer.next()?;
        Some((token, start..text.len() - lexer.rest.len()))
    })
}

/// Whether a space that is wider or narrower than others stands between tokens, where DuckDB may take it for a part of a
/// name: it makes it a plain one by a reading of its own, which knows neither block comments nor backslashes.
pub(super) fn has_doubtful_space(text: &str) -> bool {
    if text.is_ascii() {
        return false;
    }
    let mut lexer = Lexer::of(text);
    while lexer.next().is_some() {}
    lexer.is_in_tag || lexer.is_between && ["/*", "\\", "$"].iter().any(|sign| text.contains(sign))
}

/// Spaces to DuckDB's scanner.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// What DuckDB makes plain spaces. All else that is not ASCII is a part of a name.
fn is_unicode_space(c: char) -> bool {
    matches!(
        c,
        '\u{a0}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{205f}' | '\u{2060}' | '\u{3000}' | '\u{feff}'
    )
}

fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii() && !is_unicode_space(c)
}

fn is_in_name(c: char) -> bool {
    begins_name(c) || c.is_ascii_digit() || c == '$'
}

struct Lexer<'a> {
    rest: &'a str,
    /// A space that is no plain one was met between tokens,
    is_between: bool,
    /// or in the tag of a text.
    is_in_tag: bool,
}

impl<'a> Lexer<'a> {
    fn of(text: &'a str) -> Self {
        Self { rest: text, is_between: false, is_in_tag: false }
    }

    fn next(&mut self) -> Option<Token> {
        self.skip_blank();
        let first = self.rest.chars().next()?;
        Some(match first {
            '\'' => {
                self.text(after_text);
                Token::Literal
            }
            '"' => Token::Quoted(self.quoted_name().to_lowercase()),
            '$' if self.dollar_tag().is_some() => {
                self.dollar_quoted();
                Token::Literal
            }
            '0'..='9' => {
                self.number();
                Token::Literal
            }
            c if begins_name(c) => self.word(),
            c => {
                self.rest = &self.rest[c.len_utf8()..];
                Token::Punctuation(c)
            }
        })
    }

    fn skip_blank(&mut self) {
        loop {
            let trimmed = self.rest.trim_start_matches(|c| is_space(c) || is_unicode_space(c));
            let blank = &self.rest[..self.rest.len() - trimmed.len()];
            self.is_between |= !blank.is_ascii();
            self.rest = if trimmed.starts_with("--") {
                after_line_comment(trimmed)
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
        let word = self.take_while(is_in_name).to_lowercase();
        if word == "e" && self.rest.starts_with('\'') {
            self.text(after_escaped_text);
            return Token::Literal;
        }
        Token::Word(word)
    }

    /// Digits with single underscores between, a point, an exponent; letters right behind are a word of their own.
    fn number(&mut self) {
        self.digits();
        if let Some(rest) = self.rest.strip_prefix('.').filter(|rest| !rest.starts_with('.')) {
            self.rest = rest;
            self.digits();
        }
        let exponent = self.rest.strip_prefix(['e', 'E']);
        let digits = exponent.map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
        if let Some(digits) = digits.filter(|digits| digits.starts_with(|c: char| c.is_ascii_digit())) {
            self.rest = digits;
            self.take_while(|c| c.is_ascii_digit());
        }
    }

    fn digits(&mut self) {
        loop {
            self.take_while(|c| c.is_ascii_digit());
            match self.rest.strip_prefix('_') {
                Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => self.rest = rest,
                _ => return,
            }
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// A text in single quotes. One that follows on another line is its continuation, with the same escapes.
    fn text(&mut self, after: impl Fn(&str) -> &str) {
        loop {
            self.rest = after(self.rest);
            match continuation(self.rest) {
                Some(next) => self.rest = next,
                None => return,
            }
        }
    }

    /// What stands between two double quotes; a doubled quote is one.
    fn quoted_name(&mut self) -> String {
        let rest = after_quoted(self.rest, '"');
        let quoted = &self.rest[1..self.rest.len() - rest.len()];
        self.rest = rest;
        quoted.strip_suffix('"').unwrap_or(quoted).replace("\"\"", "\"")
    }

    /// The length of `$tag$` at the front; parameters such as `$1` and `$name` have no second dollar.
    fn dollar_tag(&self) -> Option<usize> {
        let after = &self.rest[1..];
        let end = after.find('$')?;
        let tag = &after[..end];
        let is_tag = tag.chars().all(|c| begins_name(c) || is_unicode_space(c) || c.is_ascii_digit())
            && !tag.starts_with(|c: char| c.is_ascii_digit());
        is_tag.then_some(end + 2)
    }

    fn dollar_quoted(&mut self) {
        let Some(length) = self.dollar_tag() else { return };
        let (tag, body) = self.rest.split_at(length);
        self.is_in_tag |= tag.contains(is_unicode_space);
        self.rest = body.find(tag).map_or("", |end| &body[end + length..]);
    }
}

fn after_text(text: &str) -> &str {
    after_quoted(text, '\'')
}

/// What follows a text or a name in quotes; a doubled quote does not end it.
fn after_quoted(text: &str, quote: char) -> &str {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return &text[at + 1..];
        }
    }
    ""
}

/// The same for a text with backslash escapes.
fn after_escaped_text(text: &str) -> &str {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '\'' if chars.next_if(|(_, next)| *next == '\'').is_none() => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

/// The part of a text that continues it, with nothing but blanks and the end of a line between.
fn continuation(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start_matches(|c| is_space(c) || is_unicode_space(c));
        if !trimmed.starts_with("--") {
            let between = &text[..text.len() - trimmed.len()];
            return (trimmed.starts_with('\'') && between.contains(['\n', '\r'])).then_some(trimmed);
        }
        rest = after_line_comment(trimmed);
    }
}

/// What follows a comment from its dashes to the end of the line. DuckDB takes both for that.
fn after_line_comment(text: &str) -> &str {
    text.find(['\n', '\r']).map_or("", |end| &text[end..])
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
