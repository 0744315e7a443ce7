//! Reads what a registry wants before it answers (RFC 9110, section 11.6.1).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What a registry wants (RFC 9110, section 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads the first challenge of a kind that mote can answer; bearer before basic. Challenges may be in
    /// fields of their own, or in one (RFC 9110, section 11.6.1).
    pub(crate) fn read(headers: &HeaderMap) -> Option<Challenge> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        let all: Vec<Offer> =
            values.filter_map(|value| value.to_str().ok()).flat_map(offers).collect();
        let bearer = all.iter().filter(|offer| offer.is("bearer")).find_map(|offer| {
            Some(Challenge::Bearer {
                realm: offer.get("realm")?,
                service: offer.get("service"),
                scope: offer.get("scope"),
            })
        });
        let basic = || all.iter().find(|offer| offer.is("basic")).map(|_| Challenge::Basic);
        bearer.or_else(basic)
    }
}

/// One scheme that a registry offers, and its parameters.
struct Offer<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

impl Offer<'_> {
    fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    fn get(&self, name: &str) -> Option<String> {
        let found = self.parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }
}

/// The challenges of one field: words that `=` follows are parameters of the scheme before them.
fn offers(mut rest: &str) -> Vec<Offer<'_>> {
    let mut offers: Vec<Offer> = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find([',', ' ', '\t', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() && after.is_empty() {
            return offers;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (value, offers.last_mut()) {
            (Some(value), Some(offer)) => {
                let (value, next) = parameter(value.trim_start_matches([' ', '\t']));
                offer.parameters.push((word, value));
                rest = next;
            }
            // A parameter of no scheme.
            (Some(value), None) => rest = parameter(value).1,
            (None, _) => {
                offers.push(Offer { scheme: word, parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

/// A parameter's value, a token or quoted, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_they_are_written_in_the_wild() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
            }
            Challenge::read(&headers)
        };
        let bearer =
            r#"Bearer realm="https://a.io/token",service="a.io",scope="repository:x:pull,push""#;
        let Some(Challenge::Bearer { realm, service, scope }) =
            read(&[r#"Basic realm="x""#, bearer])
        else {
            panic!("a bearer challenge");
        };
        assert_eq!((realm.as_str(), service.as_deref()), ("https://a.io/token", Some("a.io")));
        assert_eq!(scope.as_deref(), Some("repository:x:pull,push"));
        assert_eq!(read(&["Basic realm=x"]), Some(Challenge::Basic));
        assert_eq!(read(&["Negotiate"]), None);
        assert_eq!(read(&["Bearer service=\"no realm\""]), None);
    }

    #[test]
    fn a_scheme_that_stands_behind_another_in_one_field_is_read() {
        let read = |value: &'static str| {
            Challenge::read(&HeaderMap::from_iter([(WWW_AUTHENTICATE, value.parse().unwrap())]))
        };
        for value in [
            r#"Basic realm="x", Bearer realm="https://a.io/t",service="a.io""#,
            r#"Basic realm="Bearer, realm=\"x\"", bearer service = "a.io" , realm = "https://a.io/t""#,
            r#"Negotiate, Basic realm=x ,Bearer realm=https://a.io/t,service=a.io"#,
        ] {
            let bearer = Challenge::Bearer {
                realm: "https://a.io/t".into(),
                service: Some("a.io".into()),
                scope: None,
            };
            assert_eq!(read(value), Some(bearer), "{value}");
        }
        assert_eq!(read(r#"Bearer error="x", Basic realm="y""#), Some(Challenge::Basic));
        for value in ["", ",", "=", "realm=\"x\"", "Bearer realm=\"x", "===,\"\"\","] {
            let _ = read(value);
        }
    }
}
