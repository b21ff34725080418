//! Which messages a Protobuf schema has. The bytes themselves are the generated type's.

use super::editions::without_edition;
use crate::error::panic::without_panic;
use base64::Engine;
use prost::Message as _;

/// The names of a schema's messages, as a record's indexes lead to them.
#[derive(Debug)]
pub(crate) struct Messages(Vec<Message>);

#[derive(Debug)]
struct Message {
    /// With its package and the messages around it.
    name: String,
    nested: Messages,
}

impl Messages {
    /// Whether one of them has this full name.
    pub(crate) fn have(&self, name: &str) -> bool {
        self.0.iter().any(|message| message.name == name || message.nested.have(name))
    }

    /// The indexes that lead to the message of this full name.
    pub(crate) fn way_to(&self, name: &str) -> Option<Vec<usize>> {
        self.0.iter().enumerate().find_map(|(index, message)| {
            let rest = if message.name == name { Some(Vec::new()) } else { message.nested.way_to(name) };
            rest.map(|rest| std::iter::once(index).chain(rest).collect())
        })
    }

    /// Follows indexes from message to message; gives the last one's name.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk { inside: self, name: None }
    }
}

/// A way through a schema.
#[derive(Debug)]
pub(crate) struct Walk<'m> {
    inside: &'m Messages,
    name: Option<&'m str>,
}

impl<'m> Walk<'m> {
    /// Goes to a message; `false` where there is none.
    pub(crate) fn step(&mut self, index: usize) -> bool {
        let Some(message) = self.inside.0.get(index) else { return false };
        (self.inside, self.name) = (&message.nested, Some(message.name.as_str()));
        true
    }

    pub(crate) fn name(&self) -> &'m str {
        self.name.unwrap_or_default()
    }
}

/// Deeper than anybody nests; what is deeper would end on the stack.
const DEEPEST: usize = 32;
/// Longer than anybody's names are.
const LONGEST: usize = 512;

/// Reads the names of a schema's messages.
pub(crate) fn parse(text: &str) -> Result<Messages, String> {
    let file = match serialized(text) {
        Some(file) => file,
        None if is_too_deep(text) => {
            return Err(unusable(&"it is nested too deep, or is no text of a schema"));
        }
        None => {
            let plain = without_edition(text);
            let text = plain.as_deref().unwrap_or(text);
            // Built for tests it asserts that no number is `008`.
            let parsed = without_panic("protox-parse", || protox_parse::parse("schema.proto", text));
            parsed.map_err(|error| unusable(&error))?.map_err(|error| unusable(&error))?
        }
    };
    messages(&file.message_type, file.package(), 0).ok_or_else(|| unusable(&"a name is too long"))
}

/// Whether braces are so deep in braces that reading them would end on the stack; or comments
/// and texts are such that it cannot be told, which is no schema either.
fn is_too_deep(text: &str) -> bool {
    let mut depth = 0usize;
    let mut rest = text;
    while let Some(place) = rest.find(['{', '}', '"', '\'', '/', '#']) {
        let found = &rest[place..];
        let mut behind = &found[1..];
        match found.as_bytes() {
            [b'{', ..] => depth += 1,
            [b'}', ..] => depth = depth.saturating_sub(1),
            [quote @ (b'"' | b'\''), ..] => match text_end(behind, (*quote).into()) {
                Some(end) => behind = &behind[end..],
                None => return true,
            },
            [b'/', b'*', ..] => match found[2..].split_once("*/") {
                Some((comment, after)) if !comment.contains("/*") => behind = after,
                _ => return true,
            },
            [b'/', b'/', ..] => behind = behind.split_once('\n').map_or("", |(_, behind)| behind),
            // A comment in some places only.
            [b'#', ..] => {
                let (comment, after) = behind.split_once('\n').unwrap_or((behind, ""));
                if comment.contains(['{', '}', '"', '\'', '*']) {
                    return true;
                }
                behind = after;
            }
            _ => {}
        }
        if depth > 2 * DEEPEST {
            return true;
        }
        rest = behind;
    }
    false
}

/// Where a text ends that is in quotes.
fn text_end(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (place, character) in text.char_indices() {
        match character {
            '\n' => return None,
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return Some(place + 1),
            _ => {}
        }
    }
    None
}

fn unusable(error: &dyn std::fmt::Display) -> String {
    format!("its Protobuf schema cannot be used: {error}")
}

/// Python's serializer registers the compiled file, in Base64, and not every registry makes
/// a text of it.
fn serialized(text: &str) -> Option<prost_types::FileDescriptorProto> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    prost_types::FileDescriptorProto::decode(&*bytes).ok()
}

/// `None` where a name is too long: each message repeats those around it.
fn messages(all: &[prost_types::DescriptorProto], around: &str, depth: usize) -> Option<Messages> {
    let message = |message: &prost_types::DescriptorProto| {
        let dot = if around.is_empty() { "" } else { "." };
        let name = format!("{around}{dot}{}", message.name());
        let nested = if depth < DEEPEST { &message.nested_type[..] } else { &[] };
        (name.len() <= LONGEST).then_some(())?;
        Some(Message { nested: messages(nested, &name, depth + 1)?, name })
    };
    Some(Messages(all.iter().map(message).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_lead_to_the_name_of_a_message() {
        let text = r#"syntax = "proto3"; package shop;
            import "other.proto";
            message Order { message Line { message Part {} } message Note { Line line = 1; } map<string, Line> lines = 1; }
            enum Kind { NEW = 0; } message Bill {}"#;
        let messages = parse(text).unwrap();
        let name = |indexes: &[usize]| {
            let mut walk = messages.walk();
            indexes.iter().all(|index| walk.step(*index)).then(|| walk.name().to_owned())
        };
        assert_eq!(name(&[0]).as_deref(), Some("shop.Order"));
        assert_eq!(name(&[1]).as_deref(), Some("shop.Bill"));
        assert_eq!(name(&[0, 1]).as_deref(), Some("shop.Order.Note"));
        assert_eq!(name(&[0, 0, 0]).as_deref(), Some("shop.Order.Line.Part"));
        for way in [&[0][..], &[1], &[0, 1], &[0, 0, 0]] {
            assert_eq!(messages.way_to(&name(way).unwrap()).as_deref(), Some(way));
        }
        assert_eq!(messages.way_to("Order"), None);
        assert_eq!(name(&[2]), None);
        assert_eq!(name(&[1, 0]), None);
        assert!(parse("message {").is_err());
    }

    #[test]
    fn messages_too_deep_in_messages_are_refused_before_the_stack_ends() {
        for opening in
            ["message A {", "optional group A = 1 {", "message A { // }\n", "message A { /* } */", "\"}\"{"]
        {
            assert!(parse(&format!("message M {{{}", opening.repeat(50_000))).is_err());
            assert!(is_too_deep(&opening.repeat(100)), "{opening}");
        }
        for odd in ["/* /* */ */", "\"", "'\n'", "# }"] {
            assert!(is_too_deep(odd), "{odd}");
        }
        let many = "message A { message B { /* { */ } optional string c = 1 [default = \"{\\\"{\"]; } // {\n"
            .repeat(100);
        assert!(!is_too_deep(&many));
        assert!(parse(&many).is_ok());
    }

    #[test]
    fn a_number_on_which_the_parser_panics_is_a_fault_of_the_schema() {
        assert!(parse("message M { optional int32 a = 008; }").is_err());
    }

    #[test]
    fn long_names_are_not_repeated_by_each_message_in_them() {
        let long = |length| format!("message {} {{ {} }}", "a".repeat(length), "message b {}".repeat(10));
        assert!(parse(&long(400)).is_ok());
        assert!(parse(&long(1_000)).is_err());
    }

    #[test]
    fn a_compiled_schema_is_read_too() {
        let text = "Cg1jb3VudGVkLnByb3RvEgR0ZXN0IgcKBU90aGVyIhkKB0NvdW50ZWQSDgoGbnVtYmVyGAEgASgDYgZwcm90bzM=";
        let messages = parse(text).unwrap();
        let mut walk = messages.walk();
        assert!(walk.step(1));
        assert_eq!(walk.name(), "test.Counted");
    }
}
