//! Rows as text, alike from the server's HTTP and from the command line: every value of DuckDB that Arrow holds, also
//! what the Arrow library's own writers of text lack. Pure functions of batches; and where the rows of a text in CSV are.

mod clock;
mod csv;
mod csv_records;
mod names;
mod parquet;
mod temporal;
mod values;

pub use self::{
    csv::{csv_header, csv_lines},
    csv_records::{CsvFault, CsvNext, CsvRecords},
    names::{distinct, with_distinct},
    parquet::parquet_has,
    temporal::{Write, temporal},
    values::{json_values, options, text, value},
};
