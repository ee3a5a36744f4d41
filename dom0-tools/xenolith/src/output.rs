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

/// Prints rows in columns. The first row is the heading; columns of numbers are set to the right.
pub fn table(rows: &[Vec<String>]) {
    // What is not known is a dash, and what does not apply is empty.
    let is_number = |cell: &String| {
        cell.is_empty() || cell == "-" || cell.starts_with(|letter: char| letter.is_ascii_digit())
    };
    let numeric = |column: usize| {
        rows.iter()
            .skip(1)
            .filter_map(|row| row.get(column))
            .all(is_number)
    };
    columns(rows, numeric);
}

/// Prints names and their values.
pub fn fields(rows: &[Vec<String>]) {
    columns(rows, |_| false);
}

fn columns(rows: &[Vec<String>], to_the_right: impl Fn(usize) -> bool) {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let layout: Vec<(usize, bool)> = (0..count)
        .map(|column| (width(column), to_the_right(column)))
        .collect();
    for row in rows {
        let cells = row.iter().zip(&layout).map(|(cell, (width, right))| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        line(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
