//! What an error says, with what caused it.

use super::panic::without_panic;
use std::fmt;

/// An error with why it came about, and why that did, in one line.
pub(crate) fn in_one_line<'e>(error: &'e (dyn std::error::Error + 'static)) -> impl fmt::Display + 'e {
    OneLine(error)
}

struct OneLine<'e>(&'e (dyn std::error::Error + 'static));

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        for error in chain(self.0).skip(1) {
            let text = error.to_string();
            // Many errors, sqlx's among them, say what their source says.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
        }
        Ok(())
    }
}

/// An error and what caused it, outermost first. Bounded: an error may name itself as its cause.
pub(crate) fn chain<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    const DEEPEST: usize = 64;
    std::iter::successors(Some(error), |error| error.source()).take(DEEPEST)
}

/// The text of an error and of what caused it, capped: what a handler puts into
/// its errors must not fill logs and headers, and may panic as it is written.
pub(crate) fn capped(error: impl fmt::Display) -> String {
    const MOST: usize = 1024;
    let text = without_panic("the error's text", || error.to_string());
    let mut text = text.unwrap_or_else(|panic| panic.to_string());
    if text.len() > MOST {
        let end = (0..=MOST).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_letters() {
        let text = capped("é".repeat(2000));
        assert!(text.len() < 1030 && text.ends_with("é…"), "{}", text.len());
        assert_eq!(capped("short"), "short");
        struct Panics;
        impl fmt::Display for Panics {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("no text")
            }
        }
        assert_eq!(capped(Panics), "the error's text panicked: no text");
    }
}
