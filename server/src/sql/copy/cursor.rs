//! Reading the tokens of one statement from left to right. What does not fit leaves the cursor where it is.

use std::ops::Range;

use super::super::lexer::Token;

/// A place in a statement.
pub(super) struct Cursor<'a> {
    text: &'a str,
    rest: &'a [(Token, Range<usize>)],
}

impl<'a> Cursor<'a> {
    /// At the first token of a statement of `text`.
    pub(super) fn new(text: &'a str, tokens: &'a [(Token, Range<usize>)]) -> Self {
        Self { text, rest: tokens }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn is_at(&self, token: &Token) -> bool {
        self.rest.first().is_some_and(|(next, _)| next == token)
    }

    pub(super) fn at_words(&self, words: &[&str]) -> bool {
        let is = |(word, (token, _)): (&&str, &(Token, Range<usize>))| matches!(token, Token::Word(found) if found == word);
        self.rest.len() >= words.len() && words.iter().zip(self.rest).all(is)
    }

    /// Takes a bare word, whatever it is, in lower case.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        let ((Token::Word(word), _), rest) = self.rest.split_first()? else { return None };
        self.rest = rest;
        Some(word)
    }

    /// Takes this word, if it is next.
    pub(super) fn is_word(&mut self, word: &str) -> bool {
        let is = self.at_words(&[word]);
        if is {
            self.rest = &self.rest[1..];
        }
        is
    }

    /// Takes this sign, if it is next.
    pub(super) fn punctuation(&mut self, sign: char) -> bool {
        let is = self.is_at(&Token::Punctuation(sign));
        if is {
            self.rest = &self.rest[1..];
        }
        is
    }

    /// Takes a name, as it is written.
    pub(super) fn identifier(&mut self) -> Option<&'a str> {
        self.take(|token| matches!(token, Token::Word(_) | Token::Quoted(_)))
    }

    /// Takes a text or a number, as it is written.
    pub(super) fn literal(&mut self) -> Option<&'a str> {
        self.take(|token| *token == Token::Literal)
    }

    /// Takes what stands in parentheses that begin here, and them; nothing where there are none, or nothing in them.
    pub(super) fn in_parentheses(&mut self) -> Option<&'a str> {
        if !self.is_at(&Token::Punctuation('(')) {
            return None;
        }
        let mut depth = 0_usize;
        let closes = self.rest.iter().position(|(token, _)| {
            match token {
                Token::Punctuation('(') => depth += 1,
                Token::Punctuation(')') => depth -= 1,
                _ => {}
            }
            depth == 0
        })?;
        let inside = self.rest.get(1..closes)?;
        let place = inside.first()?.1.start..inside.last()?.1.end;
        self.rest = &self.rest[closes + 1..];
        Some(&self.text[place])
    }

    /// Whether parentheses that begin here hold one of these words first.
    pub(super) fn opens_query(&self, words: &[&str]) -> bool {
        match self.rest.iter().map(|(token, _)| token).find(|token| **token != Token::Punctuation('(')) {
            Some(Token::Word(word)) => words.contains(&word.as_str()),
            _ => false,
        }
    }

    /// Takes everything up to a comma or the end of the parentheses around, as it is written; what is not of `allowed`
    /// fits nowhere.
    pub(super) fn value(&mut self, allowed: impl Fn(&Token, &str) -> bool) -> Option<&'a str> {
        let mut depth = 0_usize;
        let end = self.rest.iter().position(|(token, _)| match token {
            Token::Punctuation('(' | '[' | '{') => {
                depth += 1;
                false
            }
            Token::Punctuation(')' | ']' | '}') if depth > 0 => {
                depth -= 1;
                false
            }
            Token::Punctuation(')' | ',') => depth == 0,
            _ => false,
        })?;
        let (value, rest) = self.rest.split_at(end);
        if !value.iter().all(|(token, place)| allowed(token, &self.text[place.clone()])) {
            return None;
        }
        self.rest = rest;
        match (value.first(), value.last()) {
            (Some((_, first)), Some((_, last))) => Some(&self.text[first.start..last.end]),
            _ => Some(""),
        }
    }

    fn take(&mut self, fits: impl Fn(&Token) -> bool) -> Option<&'a str> {
        let ((token, place), rest) = self.rest.split_first()?;
        if !fits(token) {
            return None;
        }
        self.rest = rest;
        Some(&self.text[place.clone()])
    }
}
