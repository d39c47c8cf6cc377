//! Errors of DuckDB's own making, which have its stack behind them.

/// What comes between such an error and its stack.
const STACK: &str = "\n\nStack Trace:";

/// How DuckLake (1.5.5) fails where PostgreSQL has not given it the rows of a table that are in the metadata: it looks at the
/// columns of the answer before it asks whether there is one.
const WITHOUT_COLUMNS: &str = "INTERNAL Error: Attempted to access index 0 within vector of size 0";
/// What of it was reading; other faults have the same words.
const READER: &str = "DuckLakeInlinedDataReader";

/// An error without its stack, which has addresses and paths in it and is for the log.
pub(super) fn without_stack(mut message: String) -> String {
    let is_inside = ["INTERNAL Error", "FATAL Error"].iter().any(|head| message.starts_with(head));
    if let Some(end) = message.find(STACK).filter(|_| is_inside) {
        tracing::error!(message, "an error inside DuckDB");
        message.truncate(end);
    }
    message
}

/// Whether it says that the metadata of a lake could not be read, which is no fault of the statement.
pub(super) fn is_of_unread_metadata(message: &str) -> bool {
    let stack = message.strip_prefix(WITHOUT_COLUMNS).and_then(|rest| rest.strip_prefix(STACK));
    stack.is_some_and(|stack| stack.contains(READER))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Class, DuckError},
        *,
    };

    #[test]
    fn the_stack_of_an_error_inside_duckdb_is_not_for_clients() {
        let message =
            "INTERNAL Error: no such entry\n\nLINE 1: ...\n\nStack Trace:\n\n/opt/libduckdb.so(+0x1) [0x2]";
        let error = DuckError::from_message(message.into());
        assert_eq!(
            (error.class, &*error.message),
            (Class::Internal, "INTERNAL Error: no such entry\n\nLINE 1: ...")
        );
    }

    #[test]
    fn only_a_lake_whose_metadata_was_not_read_is_out_of_reach() {
        let class = |message: String| DuckError::from_message(message).class;
        let reader =
            "(_ZN6duckdb25DuckLakeInlinedDataReader17TryInitializeScanERNS_13ClientContextE+0x116c) [0x7f]";
        let stack =
            |frames: &str| format!("{WITHOUT_COLUMNS}{STACK}\n\n/d/ducklake.duckdb_extension{frames}");
        let error = DuckError::from_message(stack(reader));
        assert_eq!((error.class, &*error.message), (Class::Unreachable, WITHOUT_COLUMNS));
        assert_eq!(class(stack("(_ZN6duckdb9Optimizer8OptimizeE+0x1) [0x7f]")), Class::Internal);
        assert_eq!(class(format!("INTERNAL Error: {READER}{STACK}\n\n{reader}")), Class::Internal);
        assert_eq!(class(format!("Conversion Error: '{}'", stack(reader))), Class::Conversion);
        assert_eq!(class(WITHOUT_COLUMNS.into()), Class::Internal);
    }
}
