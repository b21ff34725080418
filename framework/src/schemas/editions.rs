//! Protobuf schemas that name an edition in place of a syntax, which the parser does not know. Only
//! the names of messages are taken from a schema, and those stand there as ever.

/// The text with a syntax, where it has an edition; `None` else.
pub(super) fn without_edition(text: &str) -> Option<String> {
    let mut words = Words { text, rest: text };
    let edition = words.find(|_| true)?;
    (edition == "edition").then_some(())?;
    let mut plain = "syntax = \"proto3\";".to_owned();
    words.find(|word| *word == ";")?;
    let mut copied = words.place();
    let (mut is_begin, mut is_reserved, mut depth) = (true, false, 0_usize);
    while let Some(word) = words.next() {
        let (begin, end) = (words.place() - word.len(), words.place());
        let other = match word {
            // Which messages other files see.
            "export" | "local" if is_begin && words.is_before(&["message", "enum"]) => Some(String::new()),
            "option" if text[..begin].trim_end().ends_with("import") => Some(String::new()),
            // The syntax that has no labels has no defaults either, but options of any name.
            "default" if depth > 0 && words.is_before(&["="]) => Some("(default)".to_owned()),
            // Reserved names stand in quotes, of old.
            "to" | "max" => None,
            name if is_reserved
                && name.starts_with(|letter: char| letter.is_alphabetic() || letter == '_') =>
            {
                Some(format!("\"{name}\""))
            }
            _ => None,
        };
        if let Some(other) = other {
            plain.extend([&text[copied..begin], &other]);
            copied = end;
        }
        match word {
            "[" => depth += 1,
            "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_reserved = (is_begin && word == "reserved") || (is_reserved && word != ";");
        is_begin = matches!(word, ";" | "{" | "}");
    }
    plain += &text[copied..];
    Some(plain)
}

/// Words and signs, without comments. A text in quotes is one word.
struct Words<'t> {
    text: &'t str,
    rest: &'t str,
}

impl Words<'_> {
    /// Behind the last word.
    fn place(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn is_before(&self, words: &[&str]) -> bool {
        let next = Words { text: self.text, rest: self.rest }.next();
        next.is_some_and(|next| words.contains(&next))
    }
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        loop {
            self.rest = self.rest.trim_start();
            let behind = match self.rest {
                comment if comment.starts_with("//") => {
                    comment.split_once('\n').map_or("", |(_, behind)| behind)
                }
                comment if comment.starts_with("/*") => comment.split_once("*/")?.1,
                _ => break,
            };
            self.rest = behind;
        }
        let mut letters = self.rest.char_indices();
        let (_, first) = letters.next()?;
        let is_of_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.');
        let length = match first {
            '"' | '\'' => {
                let mut is_escaped = false;
                let end = letters.find(|(_, letter)| {
                    let is_end = *letter == first && !is_escaped;
                    is_escaped = *letter == '\\' && !is_escaped;
                    is_end
                });
                end.map_or(self.rest.len(), |(place, letter)| place + letter.len_utf8())
            }
            letter if is_of_word(letter) => {
                letters.find(|(_, letter)| !is_of_word(*letter)).map_or(self.rest.len(), |(place, _)| place)
            }
            sign => sign.len_utf8(),
        };
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::super::protobuf::parse;
    use super::*;

    #[test]
    fn a_schema_of_an_edition_has_its_messages() {
        let text = r#"// edition = "1999";
            /* of a test */ edition = "2023"; package shop;
            import "google/protobuf/descriptor.proto";
            option features.field_presence = IMPLICIT;
            message Order {
                reserved note, "quoted", total; // reserved a, b;
                reserved 4, 9 to 11, 100 to max;
                string id = 1 [features.field_presence = EXPLICIT, default = "a; reserved b"];
                repeated int32 counts = 2 [features.repeated_field_encoding = EXPANDED];
                Line line = 3 [features.message_encoding = DELIMITED];
                message Line { int64 reserved = 1; }
                extensions 200 to 300;
            }
            enum Kind { option features.enum_type = CLOSED; NEW = 1; reserved OLD; }
            message Bill {}"#;
        let messages = parse(text).unwrap();
        for name in ["shop.Order", "shop.Order.Line", "shop.Bill"] {
            assert!(messages.have(name), "{name}");
        }
        assert_eq!(messages.way_to("shop.Bill"), Some(vec![1]));
    }

    #[test]
    fn what_an_edition_of_2024_says_of_who_sees_it_is_left_out() {
        let text = "edition = '2024'; import option 'a.proto'; export message A { local enum B { C = 0; } }
            local message D { string export = 1; }";
        let messages = parse(text).unwrap();
        assert!(messages.have("A") && messages.have("D"));
    }

    #[test]
    fn a_schema_with_a_syntax_is_left_as_it_is() {
        for text in
            ["syntax = \"proto3\"; message edition {}", "message A {}", "", "/* edition", "// edition = 1;"]
        {
            assert_eq!(without_edition(text), None);
        }
        for broken in ["edition", "edition = ", "edition = \"2023\"; message A { reserved \"", "edition=1;/*"]
        {
            let _ = parse(broken);
        }
    }
}
