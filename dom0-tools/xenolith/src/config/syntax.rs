//! xl's configuration syntax: settings of strings, numbers and lists, in the style of Python.

use super::Place;
use crate::failure::Result;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Where it was written.
    pub place: Place,
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// What it is.
    pub content: Content,
    /// Where.
    pub place: Place,
}

/// What a value can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// `"text"` or `'text'`
    Text(String),
    /// `12` or `0x1f`
    Number(i64),
    /// `[ value, value ]`
    List(Vec<Value>),
}

/// Reads all settings. A later setting of a key replaces an earlier one.
pub fn parse(source: &str, text: &str) -> Result<Vec<Entry>> {
    let mut parser = Parser {
        source,
        rest: text,
        line: 1,
        depth: 0,
    };
    let mut entries: Vec<Entry> = Vec::new();
    while let Some(entry) = parser.entry()? {
        entries.retain(|earlier| earlier.key != entry.key);
        entries.push(entry);
    }
    Ok(entries)
}

/// Lists in lists go no deeper than this: xl's own go to two, and each level takes some of the stack.
const DEPTH_MAX: usize = 16;

struct Parser<'a> {
    source: &'a str,
    rest: &'a str,
    line: usize,
    /// Lists that are not finished.
    depth: usize,
}

impl Parser<'_> {
    fn place(&self) -> Place {
        Place {
            source: self.source.to_owned(),
            line: self.line,
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        if next == '\n' {
            self.line += 1;
        }
        Some(next)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(next) = self.peek().filter(|next| wanted(*next)) {
            taken.push(next);
            self.advance();
        }
        taken
    }

    /// Skips blanks, a line continued with a backslash, and, where lines do not matter, their ends.
    fn skip_blanks(&mut self, across_lines: bool) {
        loop {
            match self.peek() {
                Some('#') => drop(self.take_while(|next| next != '\n')),
                Some('\n') if !across_lines => return,
                Some(next) if next.is_whitespace() => drop(self.advance()),
                Some('\\') if self.rest.starts_with("\\\n") => {
                    self.advance();
                    self.advance();
                }
                _ => return,
            }
        }
    }

    fn entry(&mut self) -> Result<Option<Entry>> {
        loop {
            self.skip_blanks(true);
            if self.peek() != Some(';') {
                break;
            }
            self.advance();
        }
        let Some(first) = self.peek() else { return Ok(None) };
        let place = self.place();
        if !(first.is_ascii_alphabetic() || first == '_') {
            return Err(place.fail(format!("`{first}` cannot begin a setting"), EXPECTED_SETTING));
        }
        let key = self.take_while(|next| next.is_ascii_alphanumeric() || next == '_');
        self.skip_blanks(false);
        if self.rest.starts_with("+=") {
            return Err(place.fail(
                format!("`{key} +=` is not supported"),
                "write the whole list with `=`",
            ));
        }
        if self.peek() != Some('=') {
            return Err(place.fail(format!("there is no `=` after `{key}`"), EXPECTED_SETTING));
        }
        self.advance();
        self.skip_blanks(false);
        let value = self.value(&key)?;
        self.skip_blanks(false);
        match self.peek() {
            None | Some('\n' | ';') => Ok(Some(Entry { key, value, place })),
            Some(other) => Err(self.place().fail(
                format!("`{other}` after the value of `{key}`"),
                "expected the end of the line there; a string needs quotes around it",
            )),
        }
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let place = self.place();
        let content = match self.peek() {
            Some(quote @ ('"' | '\'')) => Content::Text(self.text(quote, key)?),
            Some('[') => Content::List(self.list(key)?),
            Some(digit) if digit.is_ascii_digit() || digit == '-' => Content::Number(self.number(key)?),
            _ => return Err(place.fail(format!("`{key}` has no value"), EXPECTED_VALUE)),
        };
        Ok(Value { content, place })
    }

    fn text(&mut self, quote: char, key: &str) -> Result<String> {
        let place = self.place();
        self.advance();
        let mut text = String::new();
        loop {
            match self.advance() {
                Some(end) if end == quote => return Ok(text),
                Some('\\') => match self.advance() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(plain @ ('\\' | '\'' | '"')) => text.push(plain),
                    other => {
                        text.push('\\');
                        text.extend(other);
                    }
                },
                None | Some('\n') => {
                    let message = format!("the string in `{key}` has no end");
                    return Err(place.fail(message, format!("expected {quote} before the end of the line")));
                }
                Some(plain) => text.push(plain),
            }
        }
    }

    fn list(&mut self, key: &str) -> Result<Vec<Value>> {
        let place = self.place();
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("too many lists within lists in `{key}`");
            return Err(place.fail(message, format!("expected no more than {DEPTH_MAX}")));
        }
        self.advance();
        let mut values = Vec::new();
        loop {
            self.skip_blanks(true);
            match self.peek() {
                Some(']') => {
                    self.advance();
                    self.depth -= 1;
                    return Ok(values);
                }
                None => return Err(place.fail(format!("the list `{key}` has no end"), "expected `]`")),
                _ => values.push(self.value(key)?),
            }
            self.skip_blanks(true);
            match self.peek() {
                Some(',') => drop(self.advance()),
                Some(']') | None => {}
                Some(_) => {
                    let message = format!("two values of the list `{key}` are not separated");
                    return Err(self.place().fail(message, "expected `,` or `]`"));
                }
            }
        }
    }

    fn number(&mut self, key: &str) -> Result<i64> {
        let place = self.place();
        let text = self.take_while(|next| next.is_ascii_alphanumeric() || next == '-');
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map_err(|_| {
            place.fail(
                format!("`{text}` is no number"),
                format!("`{key}` wants a number like 256, or a string in quotes"),
            )
        })
    }
}

const EXPECTED_SETTING: &str = "expected a line like: memory = 256";
const EXPECTED_VALUE: &str = "expected a string in quotes, a number, or a list in brackets";

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str) -> Vec<(String, Content)> {
        parse("t.cfg", text)
            .unwrap()
            .into_iter()
            .map(|entry| (entry.key, entry.value.content))
            .collect()
    }

    #[test]
    fn all_forms_are_read() {
        let text = "# comment\nname = \"web\" # more\nmemory=0x100;vcpus = 2\ndisk = [ 'a,b',\n  \"c\", ]\nextra='it\\'s'\n";
        let list = |entry: &(String, Content)| match &entry.1 {
            Content::List(values) => values.iter().map(|value| value.place.line).collect(),
            _ => vec![],
        };
        let entries = contents(text);
        assert_eq!(entries[0], ("name".into(), Content::Text("web".into())));
        assert_eq!(entries[1], ("memory".into(), Content::Number(256)));
        assert_eq!(entries[2], ("vcpus".into(), Content::Number(2)));
        assert_eq!(list(&entries[3]), [4, 5]);
        assert_eq!(entries[4], ("extra".into(), Content::Text("it's".into())));
    }

    #[test]
    fn the_last_setting_counts() {
        assert_eq!(contents("a=1\na=2"), [("a".to_owned(), Content::Number(2))]);
    }

    #[test]
    fn mistakes_name_file_and_line() {
        for (text, line, part) in [
            ("a=1\nb", 2, "no `=`"),
            ("a=\n", 1, "no value"),
            ("a=1\n\nname=\"web\nb=1", 3, "no end"),
            ("a=[1, 2\n", 1, "no end"),
            ("a=[1 2]", 1, "not separated"),
            ("name=web", 1, "no value"),
            ("a=1 b", 1, "after the value"),
            ("a=12x", 1, "no number"),
            ("a=1\n=2", 2, "cannot begin"),
            ("a+=[1]", 1, "not supported"),
            ("a=[[[[[[[[[[[[[[[[[", 1, "lists within lists"),
        ] {
            let failure = parse("t.cfg", text).unwrap_err();
            assert!(
                failure.message.starts_with(&format!("t.cfg:{line}: ")),
                "{text:?}: {failure}"
            );
            assert!(failure.message.contains(part), "{text:?}: {failure}");
            assert!(failure.advice.is_some());
        }
    }

    #[test]
    fn lists_without_end_are_a_mistake_and_not_the_end_of_the_stack() {
        let failure = parse("t.cfg", &format!("a={}", "[".repeat(1 << 20))).unwrap_err();
        assert!(failure.message.contains("lists within lists"), "{failure}");
        let many_beside_each_other = format!("a=[{}]", "[[1]],".repeat(100));
        assert_eq!(parse("t.cfg", &many_beside_each_other).unwrap().len(), 1);
    }

    #[test]
    fn no_input_is_a_panic() {
        let text = "name = \"wéb\"\ndisk=[ 'a',\n\"b\" ] ; x = 0x1f # é\n\\\ny=-3";
        for (end, _) in text.char_indices() {
            let _ = parse("t.cfg", &text[..end]);
        }
        for (start, _) in text.char_indices() {
            let _ = parse("t.cfg", &text[start..]);
        }
    }
}
