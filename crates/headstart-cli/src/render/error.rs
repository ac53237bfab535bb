//! The one place where errors become text.

use std::error::Error as _;

use headstart::Error;
use serde_json::json;

/// Prints an error with its causes and hints to stderr, or as JSON to stdout.
pub fn show(error: &Error, as_json: bool) {
    let causes: Vec<String> =
        std::iter::successors(error.source(), |cause| (*cause).source()).map(ToString::to_string).collect();
    if as_json {
        println!("{}", json!({ "error": error.to_string(), "causes": causes, "hints": error.hints() }));
        return;
    }
    eprintln!("error: {error}");
    for cause in causes {
        eprintln!("cause: {cause}");
    }
    let hints = error.hints();
    if !hints.is_empty() {
        eprintln!();
    }
    for hint in hints {
        eprintln!("hint: {hint}");
    }
}
