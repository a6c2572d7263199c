//! RFC 4180 to the letter, for the quotes: a reader that forgives a stray one gives a person the lines of others.

/// Refuses quotes that RFC 4180 does not allow, and a cell in quotes that may have swallowed lines because a quote is missing: one that
/// holds both a line break and a separator.
pub(super) fn check(content: &[u8], separator: u8) -> Result<(), String> {
    let mut place = Place::CellBegins;
    let mut line = Lines::default();
    let mut bytes = content.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let at = line.number;
        line.see(byte);
        place = match place {
            Place::CellBegins if byte == b'"' => Place::InQuotes(Quoted { line: at, separators: false }),
            Place::CellBegins | Place::InCell if ends_cell(byte, separator) => Place::CellBegins,
            Place::InCell if byte == b'"' => {
                return Err(format!("line {at}: a quote within a cell that does not begin with one"));
            }
            Place::CellBegins | Place::InCell => Place::InCell,
            Place::InQuotes(quoted) if byte != b'"' => {
                Place::InQuotes(Quoted { separators: quoted.separators || byte == separator, ..quoted })
            }
            Place::InQuotes(quoted) if bytes.next_if_eq(&b'"').is_some() => Place::InQuotes(quoted),
            Place::InQuotes(quoted) if quoted.separators && quoted.line != at => return Err(missing(quoted.line)),
            Place::InQuotes(quoted) => Place::Quoted(quoted.line),
            Place::Quoted(_) if ends_cell(byte, separator) => Place::CellBegins,
            Place::Quoted(opened) => return Err(missing(opened)),
        };
    }
    if let Place::InQuotes(quoted) = place { Err(missing(quoted.line)) } else { Ok(()) }
}

fn missing(line: u64) -> String {
    format!("line {line}: a cell in quotes does not end as it must; is a quote missing, or one too many?")
}

fn ends_cell(byte: u8, separator: u8) -> bool {
    byte == separator || byte == b'\n' || byte == b'\r'
}

/// Where the reader is.
#[derive(Clone, Copy)]
enum Place {
    CellBegins,
    InCell,
    InQuotes(Quoted),
    /// After a quote that ends a cell which began on this line.
    Quoted(u64),
}

#[derive(Clone, Copy)]
struct Quoted {
    /// On which it begins.
    line: u64,
    /// It holds one.
    separators: bool,
}

/// Counts lines as an editor does: LF, CR and CR LF end one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    /// Of the next byte, from 1.
    pub(super) number: u64,
    after_cr: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self { number: 1, after_cr: false }
    }
}

impl Lines {
    /// Goes past a byte.
    pub(super) fn see(&mut self, byte: u8) {
        self.number += u64::from(byte == b'\r' || (byte == b'\n' && !self.after_cr));
        self.after_cr = byte == b'\r';
    }

    /// The line of the first byte of `content` at or after `offset` that ends none; `self` has seen those before `from`, which is set to
    /// where it has come.
    pub(super) fn of_record(&mut self, content: &[u8], from: &mut usize, offset: usize) -> u64 {
        while let Some(byte) = content.get(*from).filter(|byte| *from < offset || matches!(byte, b'\r' | b'\n')) {
            self.see(*byte);
            *from += 1;
        }
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<String> {
        check(text.as_bytes(), b';').err()
    }

    #[test]
    fn quotes_stand_around_whole_cells_and_twice_within() {
        for good in ["a;\"b\";c\n", "\"a;\"\"b\"\"\";\"\"\n", "a;\"b\r\nc\";d\r\n", "\"a\"", "a;\"b;c\"\r\"d\";e\r"] {
            assert_eq!(refused(good), None, "{good:?}");
        }
        for (bad, line) in [
            ("a\nb;c\"d\"\n", 2),
            ("a\r\nb;\"c\"d\r\n", 2),
            ("a\rb;\"c\rd;e\r\"f\"\r", 2),
            ("a\n\n\"b\nc;d\n", 3),
            // Two stray quotes that fit each other: without this rule one person gets the line of another.
            ("a;1\nb;\"2\nc;3\"\nd;4\n", 2),
            ("\"a\" ;b\n", 1),
        ] {
            let said = refused(bad).unwrap();
            assert!(said.starts_with(&format!("line {line}: ")), "{bad:?}: {said}");
        }
    }

    #[test]
    fn lines_are_counted_as_an_editor_does() {
        for text in ["a\nb\n\nc", "a\r\nb\r\n\r\nc", "a\rb\r\rc"] {
            let (mut lines, mut from) = (Lines::default(), 0);
            let places: Vec<_> = text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_lowercase()).collect();
            let numbers: Vec<_> =
                places.iter().map(|(offset, _)| lines.of_record(text.as_bytes(), &mut from, *offset)).collect();
            assert_eq!(numbers, [1, 2, 4], "{text:?}");
        }
        // The place of a record may be that of the line ends before it.
        assert_eq!(Lines::default().of_record(b"a\r\n\r\nb", &mut 0, 1), 3);
    }
}
