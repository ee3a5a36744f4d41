//! What users see: text, or JSON.

use crate::failure::Failure;
use serde_json::{Value, json};
use std::io::Write;

/// Tells of a failure.
pub fn report(failure: &Failure, as_json: bool) {
    if as_json {
        document(&json!({ "error": { "message": failure.message, "advice": failure.advice } }));
    }
    eprintln!("xenolith: {}", failure.message);
    for line in failure.advice.iter().flat_map(|advice| advice.lines()) {
        eprintln!("  {line}");
    }
}

/// Prints a JSON document.
pub fn document(value: &Value) {
    line(&value.to_string());
}

/// Prints a line. A reader that went away (`xenolith dmesg | head`) is no failure.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints rows in columns; numbers to the right.
pub fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let numeric = rows[if index == 0 { 1.min(rows.len() - 1) } else { index }]
                .get(column)
                .is_some_and(|cell| cell.starts_with(|letter: char| letter.is_ascii_digit()));
            match numeric {
                true => format!("{cell:>width$}", width = widths[column]),
                false => format!("{cell:<width$}", width = widths[column]),
            }
        });
        line(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
