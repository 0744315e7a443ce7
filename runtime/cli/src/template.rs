//! The part of Go's templates that listings use: `{{.Field.Sub}}`, `{{json .Field}}`, text between.

use std::str::FromStr;

use mote_spec::foreign;
use serde_json::Value;

use crate::error::CliError;

/// A parsed template.
#[derive(Debug, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    Field(Vec<String>),
    Json(Vec<String>),
}

impl FromStr for Template {
    type Err = CliError;

    fn from_str(text: &str) -> Result<Template, CliError> {
        let bad =
            || CliError::new(format!("`{text}` is not a template: write fields as {{{{.Name}}}}"));
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            parts.push(Part::Text(unescape(before)));
            let (inside, next) = after.split_once("}}").ok_or_else(bad)?;
            parts.push(action(inside.trim()).ok_or_else(bad)?);
            rest = next;
        }
        parts.push(Part::Text(unescape(rest)));
        Ok(Template(parts))
    }
}

fn action(text: &str) -> Option<Part> {
    let path = |text: &str| {
        let text = text.strip_prefix('.')?;
        Some(text.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    };
    match text.strip_prefix("json ") {
        Some(rest) => Some(Part::Json(path(rest.trim())?)),
        None => Some(Part::Field(path(text)?)),
    }
}

/// A shell hands over `\t` and `\n` as they are typed.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

impl Template {
    pub(crate) fn fill(&self, value: &Value) -> Result<String, CliError> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Field(path) => filled.push_str(&text(find(value, path)?)),
                Part::Json(path) => {
                    filled.push_str(&foreign::shown_json(&find(value, path)?.to_string()));
                }
            }
        }
        Ok(filled)
    }

    /// The names of the fields, in capitals, where a row has the values.
    pub(crate) fn heading(&self) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(path) | Part::Json(path) => path.join(".").to_uppercase(),
        };
        self.0.iter().map(part).collect()
    }
}

/// A field as a person reads it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn find<'a>(value: &'a Value, path: &[String]) -> Result<&'a Value, CliError> {
    path.iter().try_fold(value, |value, name| {
        let missing = || {
            let has: Vec<&str> =
                value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            CliError::new(format!("there is no field `{name}`; there is {}", has.join(", ")))
        };
        match value {
            Value::Object(fields) => fields
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
                .ok_or_else(missing),
            _ => Err(missing()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str) -> String {
        let value = serde_json::json!({"ID": "ab", "Size": 3, "Config": {"Env": ["A=1"]}});
        template.parse::<Template>().unwrap().fill(&value).unwrap()
    }

    #[test]
    fn fields_and_json_are_filled_in() {
        assert_eq!(fill("{{.ID}}\\t{{ .Size }}"), "ab\t3");
        assert_eq!(fill("{{json .Config.Env}}"), "[\"A=1\"]");
        assert_eq!(fill("x"), "x");
    }

    #[test]
    fn what_is_missing_or_malformed_is_an_error() {
        for bad in ["{{.ID", "{{ID}}", "{{range .}}"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
        let template: Template = "{{.Nope}}".parse().unwrap();
        assert!(template.fill(&serde_json::json!({"ID": 1})).is_err());
    }
}
