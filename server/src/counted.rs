//! Numbers with what they count, in texts for people.

use std::fmt::Display;

/// A number and its noun, which takes an `s` for all numbers but one: `1 row`, `2 rows`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let ending = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(0_u64, "row"), "0 rows");
        assert_eq!(counted(1_u64, "old file"), "1 old file");
        assert_eq!(counted(2_usize, "parameter"), "2 parameters");
    }
}
