//! Bounds a program's own names of its functions: a trap copies those of twenty frames.

use crate::error::EngineError;

/// Bytes of a name, as of those that are imported and exported (WebAssembly JavaScript interface, "Implementation
/// limits").
const MAX_NAME: usize = 100_000;

/// Checks the names in every name section of a program, those of modules within a component too.
///
/// # Errors
/// Fails if one is too long. A section that cannot be read names nothing, and is the compiler's to judge.
pub(crate) fn check(wasm: &[u8]) -> Result<(), EngineError> {
    use wasmparser::{KnownCustom, Name, Parser, Payload};
    for payload in Parser::new(0).parse_all(wasm) {
        // What cannot be parsed does not compile, and then it is said why.
        let Ok(Payload::CustomSection(section)) = payload else { continue };
        let KnownCustom::Name(names) = section.as_known() else { continue };
        for part in names.into_iter().map_while(Result::ok) {
            match part {
                Name::Module { name, .. } => check_length(name)?,
                Name::Function(names) => {
                    let mut names = names.into_iter().map_while(Result::ok);
                    names.try_for_each(|naming| check_length(naming.name))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn check_length(name: &str) -> Result<(), EngineError> {
    match name.len() > MAX_NAME {
        true => Err(EngineError::LongName { length: name.len(), most: MAX_NAME }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Vec<u8> {
        wat::parse_str(format!("(module (func ${name} (nop)))")).unwrap()
    }

    #[test]
    fn a_function_with_a_name_that_fills_memory_is_refused() {
        assert!(check(&named("f")).is_ok());
        assert!(check(&named(&"N".repeat(MAX_NAME))).is_ok());
        let long = "N".repeat(MAX_NAME + 1);
        assert!(matches!(check(&named(&long)), Err(EngineError::LongName { .. })));
        let module = format!("(component (core module (func ${long} (nop))))");
        let component = wat::parse_str(module).unwrap();
        assert!(matches!(check(&component), Err(EngineError::LongName { .. })));
    }

    #[test]
    fn what_is_no_program_has_no_names() {
        assert!(check(b"").is_ok() && check(b"\0asm\x01\0\0\0\x00\xff").is_ok());
    }
}
