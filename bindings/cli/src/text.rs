//! Text of others on a terminal: what a token file, a device or a plugin says must
//! not steer it.

use std::borrow::Cow;

/// `text` with what a terminal would act upon, line ends too, in visible form.
pub fn plain(text: &str) -> Cow<'_, str> {
    visible(text, steers)
}

/// The same of a text of several lines.
pub fn plain_lines(text: &str) -> Cow<'_, str> {
    visible(text, |c| c != '\n' && steers(c))
}

fn visible(text: &str, hides: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hides) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match hides(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Control characters of both sets, and what reorders the text around it.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_steers_it() {
        let said = "a\x1b[2J\nb\r\u{9b}1m\u{202e}ü";
        assert_eq!(plain(said), "a\\u{1b}[2J\\nb\\r\\u{9b}1m\\u{202e}ü");
        assert_eq!(plain_lines(said), "a\\u{1b}[2J\nb\\r\\u{9b}1m\\u{202e}ü");
        assert!(matches!(plain("host:/dev/sdä"), Cow::Borrowed(_)));
    }
}
