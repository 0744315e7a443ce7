//! Says an error with its causes, for a person.

use std::error::Error;

use mote_spec::foreign;

/// An error and what caused it, on one line.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut said = text.clone();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        // Some libraries repeat their cause in their own text.
        if !said.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        said = more;
        cause = next.source();
    }
    foreign::shown(&text)
}
