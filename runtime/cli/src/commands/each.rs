//! Does the same to each of several containers or volumes.

use crate::error::CliError;
use crate::output;

/// Does something to each; the exit code is 1 if one of them failed.
pub(crate) fn each(
    names: &[String],
    act: impl Fn(&str) -> Result<String, CliError>,
) -> Result<u8, CliError> {
    let mut failed = 0;
    for name in names {
        match act(name) {
            Ok(said) => output::line(&said),
            Err(error) => {
                output::error(&error.to_string());
                failed = 1;
            }
        }
    }
    Ok(failed)
}
