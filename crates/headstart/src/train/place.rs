//! Where in a recipe's text an error is: line, column, and a word that may have been meant.

use crate::error::Error;

/// Adds line and column to an error about a value: the line of the key it names that also holds the value it quotes.
pub(super) fn point(error: Error, text: &str, file: &str) -> Error {
    let Error::BadRecipe { place, what, hint } = error else { return error };
    let quoted: Vec<&str> = what.split('`').skip(1).step_by(2).collect();
    let key = place.strip_prefix(file).and_then(|rest| rest.split(": ").nth(1)).unwrap_or("");
    let starts = |line: &str, key: &str| {
        let line = line.trim_start();
        !key.is_empty() && line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let keys = || [key].into_iter().chain(quoted.iter().map(|q| q.split([' ', '=']).next().unwrap_or("")));
    let lines = || text.lines().enumerate().filter(|(_, line)| keys().any(|key| starts(line, key)));
    let holds = |line: &str| quoted.iter().any(|q| line.contains(q));
    let found = lines().find(|(_, line)| holds(line)).or_else(|| lines().next());
    let place = match found {
        Some((i, line)) => {
            let column = line.len() - line.trim_start().len() + 1;
            let rest = place.strip_prefix(file).unwrap_or("");
            format!("{file}:{}:{column}{rest}", i + 1)
        }
        None => place,
    };
    Error::BadRecipe { place, what, hint }
}

/// Turns the parser's error into file, line, column and a suggestion.
pub(super) fn toml_error(error: &toml::de::Error, text: &str, place: &str) -> Error {
    let (line, column) = error.span().map_or((1, 1), |span| {
        let before = &text[..span.start.min(text.len())];
        (before.matches('\n').count() + 1, before.len() - before.rfind('\n').map_or(0, |i| i + 1) + 1)
    });
    let message = error.message();
    // serde's words: unknown field `X`, expected one of `A`, `B`; a word of a list is a variant
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let hint = match quoted.split_first() {
        Some((word, known)) if message.starts_with("unknown") => {
            match crate::models::nearest(word, known.iter().copied()).first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known: {}", known.join(", ")),
            }
        }
        _ => String::new(),
    };
    let what = message.split(", expected").next().unwrap_or(message).to_string();
    Error::BadRecipe { place: format!("{place}:{line}:{column}"), what, hint }
}
