//! What a declared identity may look like.

/// Whether it is empty, or nothing but white space: no id.
pub(crate) fn is_blank(id: &[u8]) -> bool {
    id.iter().all(u8::is_ascii_whitespace)
}

/// Whether it is the nil UUID, in any form in which a UUID is written: what some platforms send for
/// an id that was never set.
pub(crate) fn is_nil(id: &[u8]) -> bool {
    if *id == [0; 16] {
        return true;
    }
    let is_urn = id.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"urn:uuid:"));
    let digits = match if is_urn { &id[9..] } else { id } {
        [b'{', inner @ .., b'}'] | [b'(', inner @ .., b')'] => inner,
        plain => plain,
    };
    let is_plain = || digits.iter().all(|digit| *digit == b'0');
    digits.len() == 32 && is_plain() || parse_uuid(digits) == Some(0)
}

/// `8-4-4-4-12` hexadecimal digits.
pub(super) fn parse_uuid(text: &[u8]) -> Option<u128> {
    let dashes = [8, 13, 18, 23];
    if text.len() != 36 || dashes.iter().any(|&at| text[at] != b'-') {
        return None;
    }
    text.iter()
        .enumerate()
        .filter(|(at, _)| !dashes.contains(at))
        .try_fold(0, |uuid: u128, (_, &digit)| Some(uuid << 4 | u128::from(char::from(digit).to_digit(16)?)))
}
