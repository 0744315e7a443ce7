//! Docker's filters: `{"label": ["a=b"], "status": ["running"]}`, also in the older form whose inner
//! values are maps.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::DaemonError;

/// The filters of a request: all keys must match, each by one of its values.
#[derive(Debug, Default)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads them, and refuses a key that means nothing there: a filter that is ignored would show,
    /// or remove, too much.
    pub(crate) fn read(text: Option<&str>, known: &[&str]) -> Result<Filters, DaemonError> {
        let Some(text) = text else { return Ok(Filters::default()) };
        let bad = || DaemonError::BadRequest(format!("invalid filter: {text}"));
        let all: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| bad())?;
        let mut filters = BTreeMap::new();
        for (key, values) in all {
            if !known.contains(&key.as_str()) {
                return Err(DaemonError::BadRequest(format!(
                    "invalid filter '{key}'; {} are known here",
                    known.join(", ")
                )));
            }
            let values = match values {
                Value::Array(values) => {
                    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                }
                Value::Object(values) => values.keys().cloned().collect(),
                _ => return Err(bad()),
            };
            filters.insert(key, values);
        }
        Ok(Filters(filters))
    }

    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| !values.is_empty())
    }

    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Refuses values of a key that nothing could have.
    pub(crate) fn only(&self, key: &str, known: &[&str]) -> Result<(), DaemonError> {
        match self.values(key).iter().find(|value| !known.contains(&value.as_str())) {
            Some(value) => Err(DaemonError::BadRequest(format!(
                "invalid filter '{key}={value}'; {} are known here",
                known.join(", ")
            ))),
            None => Ok(()),
        }
    }

    /// Whether one of the values of a key matches; true without any.
    pub(crate) fn any(&self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| matches(value))
    }

    /// Whether all labels are there that are wanted: `key` or `key=value`.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_unknown_keys_refused() {
        for text in [r#"{"label":["a=b"]}"#, r#"{"label":{"a=b":true}}"#] {
            let filters = Filters::read(Some(text), &["label"]).unwrap();
            let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
            assert!(filters.labels(&labels), "{text}");
            assert!(!filters.labels(&BTreeMap::new()), "{text}");
        }
        assert!(Filters::read(Some(r#"{"lable":["a"]}"#), &["label"]).is_err());
        assert!(Filters::read(Some("nonsense"), &["label"]).is_err());
        let filters = Filters::read(Some(r#"{"status":["bogus"]}"#), &["status"]).unwrap();
        assert!(filters.only("status", &["running"]).is_err());
        assert!(filters.only("health", &["healthy"]).is_ok());
    }
}
