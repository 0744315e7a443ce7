//! Text of strangers (images, registries, guests, paths) as it may be shown to a person.
//!
//! A terminal takes ESC and its kin for commands, and reorders text at bidirectional marks. Every such text goes
//! through one of these functions before it is printed or put into a message.

/// Whether a terminal does something else with a character than to show it.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            // Marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9, section 2).
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Separators of lines and paragraphs, which only look like spaces, and a mark in the middle of text.
            | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// The text with replacement characters for what a terminal would take for a command. Lines and tabs stay.
pub fn shown(text: &str) -> String {
    let plain = |letter| match letter {
        '\n' | '\t' => letter,
        letter if is_hidden(letter) => char::REPLACEMENT_CHARACTER,
        letter => letter,
    };
    text.chars().map(plain).collect()
}

/// The same on one line, for a cell of a table: lines and tabs become spaces.
pub fn shown_in_a_line(text: &str) -> String {
    shown(text).replace(['\n', '\t'], " ")
}

/// JSON with escapes for such characters, which JSON itself allows in strings and which mean the same.
pub fn shown_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for letter in json.chars() {
        match is_hidden(letter) && letter != '\n' && letter != '\t' {
            true => {
                let units = letter.encode_utf16(&mut [0; 2]).to_vec();
                shown.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
            false => shown.push(letter),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\x1b]0;title\x07\r\u{9b}31m\u{202e}cba\u{2066}\u{200f}\u{2028}";

    #[test]
    fn no_command_of_a_terminal_is_left() {
        let shown = shown(&format!("{HOSTILE}\n\tb é 漢"));
        assert!(!shown.chars().any(|letter| is_hidden(letter) && letter != '\n' && letter != '\t'));
        assert!(shown.ends_with("\n\tb é 漢"), "{shown}");
        assert_eq!(shown_in_a_line("a\nb\tc"), "a b c");
    }

    #[test]
    fn json_says_the_same_without_them() {
        let json = format!("{{\n  \"label\": \"{}\"\n}}", "x\u{202e}y\u{9b}z\u{7f}");
        assert_eq!(shown_json(&json), "{\n  \"label\": \"x\\u202ey\\u009bz\\u007f\"\n}");
    }
}
