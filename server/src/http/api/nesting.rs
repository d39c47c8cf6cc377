//! How deeply a body in JSON is nested.
//!
//! The reader itself takes any depth, but what it says of a value in the wrong place is made by recursion, whose stack
//! would end, and the process with it.

use arrow_schema::ArrowError;

/// As deep as `serde_json` goes.
const MAX_DEPTH: usize = 128;

/// Refuses a body that is nested too deeply.
///
/// # Errors
/// [`ArrowError::JsonError`].
pub(super) fn check(body: &[u8]) -> Result<(), ArrowError> {
    let (mut depth, mut bytes) = (0_usize, body.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' if depth == MAX_DEPTH => {
                return Err(ArrowError::JsonError(format!("it is nested deeper than {MAX_DEPTH} levels")));
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

fn skip_string<'a>(bytes: &mut impl Iterator<Item = &'a u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_no_text_counts() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(check(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(check(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        let in_text = format!(r#"[{{"a\"": "{}", "b": [1]}}]"#, nested(500));
        assert!(check(in_text.as_bytes()).is_ok());
        let behind_closers = r#"["]]", "#.repeat(MAX_DEPTH + 1);
        assert!(check(behind_closers.as_bytes()).is_err());
        assert!(check("[1],".repeat(1_000).as_bytes()).is_ok());
    }
}
