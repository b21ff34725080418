//! Decimals, ids, dates and times as texts, which every crate's own type of them reads.

use super::plan::{Logical, Unit};

/// A longer number nobody writes, and to make a text of it takes for ever.
const LONGEST: usize = 1024;

/// The digits of a big-endian number in two's complement, with so many behind the point.
pub(super) fn decimal(bytes: &[u8], scale: usize) -> Option<String> {
    (bytes.len() <= LONGEST && scale <= LONGEST).then_some(())?;
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut digits = match bytes.len() {
        0..=16 => small(bytes, is_negative).to_string(),
        _ => large(bytes, is_negative),
    };
    if scale > 0 {
        if digits.len() <= scale {
            digits.insert_str(0, &"0".repeat(scale + 1 - digits.len()));
        }
        digits.insert(digits.len() - scale, '.');
    }
    if is_negative {
        digits.insert(0, '-');
    }
    Some(digits)
}

fn small(bytes: &[u8], is_negative: bool) -> u128 {
    let mut whole = [if is_negative { 0xff } else { 0 }; 16];
    whole[16 - bytes.len()..].copy_from_slice(bytes);
    i128::from_be_bytes(whole).unsigned_abs()
}

fn large(bytes: &[u8], is_negative: bool) -> String {
    const BASE: u64 = 1_000_000_000;
    let mut magnitude = bytes.to_vec();
    if is_negative {
        let mut carries = true;
        for byte in magnitude.iter_mut().rev() {
            let (sum, carried) = (!*byte).overflowing_add(carries.into());
            (*byte, carries) = (sum, carried);
        }
    }
    let mut parts = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut left = 0;
        for byte in &mut magnitude {
            left = left << 8 | u64::from(*byte);
            *byte = (left / BASE) as u8;
            left %= BASE;
        }
        parts.push(left);
    }
    let mut parts = parts.into_iter().rev();
    let mut digits = parts.next().unwrap_or_default().to_string();
    parts.for_each(|part| digits += &format!("{part:09}"));
    digits
}

/// The same of a number that brings its scale: its bytes, behind their length, and the scale.
pub(super) fn big_decimal(bytes: &[u8]) -> Option<String> {
    let (length, rest) = long(bytes)?;
    let (number, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let (scale, rest) = long(rest)?;
    if !rest.is_empty() {
        return None;
    }
    match usize::try_from(scale) {
        Ok(scale) => decimal(number, scale),
        Err(_) => {
            let zeros = usize::try_from(scale.unsigned_abs()).ok().filter(|zeros| *zeros <= LONGEST)?;
            let digits = decimal(number, 0)?;
            Some(if digits == "0" { digits } else { digits + &"0".repeat(zeros) })
        }
    }
}

fn long(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut number = 0_u64;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(((number >> 1) as i64 ^ -((number & 1) as i64), &bytes[place + 1..]));
        }
    }
    None
}

/// The number that a decimal is without its point, if it has no more digits behind it.
pub(super) fn unscaled(text: &str, scale: usize) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let zeros = scale.checked_sub(fraction.len()).filter(|zeros| *zeros <= LONGEST)?;
    format!("{whole}{fraction}{}", "0".repeat(zeros)).parse().ok()
}

/// The bytes of a decimal that brings its scale.
pub(super) fn with_scale(text: &str) -> Option<Vec<u8>> {
    let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let number = unscaled(text, scale)?.to_be_bytes();
    // Of 16 bytes the length is one byte, and so is that of any scale that fits.
    let scale = u8::try_from(scale).ok().filter(|scale| *scale < 64)?;
    Some([&[32][..], &number, &[scale * 2]].concat())
}

/// The bytes of an id, with hyphens or without.
pub(super) fn uuid_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<char> = text.chars().filter(|letter| *letter != '-').collect();
    let digit = |letter: char| letter.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?))
        .collect::<Option<_>>()?;
    (bytes.len() == 16).then_some(bytes)
}

/// An id in the form that has hyphens.
pub(super) fn uuid(bytes: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    (bytes.len() == 16).then_some(text)
}

/// Months, days and milliseconds.
pub(super) fn duration(bytes: &[u8]) -> Option<[u32; 3]> {
    let (parts, rest) = bytes.as_chunks();
    let parts: [[u8; 4]; 3] = parts.try_into().ok()?;
    rest.is_empty().then(|| parts.map(u32::from_le_bytes))
}

const DAY: i64 = 86_400;

/// A date or a time in the form of ISO 8601; of an instant, in UTC.
pub(super) fn moment(logical: Logical, number: i64) -> Option<String> {
    let mut text = String::new();
    match logical {
        Logical::Date => date(number, &mut text),
        Logical::Time(unit) => {
            (0..DAY * per_second(unit)).contains(&number).then(|| time(number, unit, &mut text))?;
        }
        Logical::Timestamp(unit) | Logical::LocalTimestamp(unit) => {
            let day = DAY * per_second(unit);
            date(number.div_euclid(day), &mut text);
            text.push('T');
            time(number.rem_euclid(day), unit, &mut text);
            text += if matches!(logical, Logical::Timestamp(_)) { "Z" } else { "" };
        }
        _ => return None,
    }
    Some(text)
}

fn per_second(unit: Unit) -> i64 {
    match unit {
        Unit::Millis => 1_000,
        Unit::Micros => 1_000_000,
        Unit::Nanos => 1_000_000_000,
    }
}

/// By Howard Hinnant's `civil_from_days`.
fn date(days: i64, text: &mut String) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    *text += &match year {
        0..=9999 => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{year:+05}-{month:02}-{day:02}"),
    };
}

fn time(number: i64, unit: Unit, text: &mut String) {
    let (second, fraction) = (number / per_second(unit), number % per_second(unit));
    *text += &format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    if fraction != 0 {
        *text += &match unit {
            Unit::Millis => format!(".{fraction:03}"),
            Unit::Micros => format!(".{fraction:06}"),
            Unit::Nanos => format!(".{fraction:09}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_all_their_digits() {
        let minus_one = [0xff; 40];
        for (bytes, scale, text) in [
            (&[][..], 0, "0"),
            (&[0x30, 0x39], 2, "123.45"),
            (&[0x30, 0x39], 0, "12345"),
            (&[0xff], 3, "-0.001"),
            (&[0x80], 0, "-128"),
            (&minus_one, 40, "-0.0000000000000000000000000000000000000001"),
        ] {
            assert_eq!(decimal(bytes, scale).as_deref(), Some(text), "{bytes:?}");
        }
        // 2^127, 2^128 and 10^38 - 1, and the same below zero.
        let power = |zeros: usize, first: u8| [vec![0, first], vec![0; zeros]].concat();
        assert_eq!(decimal(&power(15, 0x80), 0).unwrap(), "170141183460469231731687303715884105728");
        assert_eq!(decimal(&power(16, 1), 0).unwrap(), "340282366920938463463374607431768211456");
        let least = [vec![0x80], vec![0; 16]].concat();
        assert_eq!(decimal(&least, 1).unwrap(), "-4355614296588012332331194975126633106636.8");
        assert_eq!(decimal(&[1; 2000], 0), None);
    }

    #[test]
    fn a_decimal_with_a_scale_of_its_own_is_read() {
        assert_eq!(big_decimal(&[4, 0x30, 0x39, 4]).as_deref(), Some("123.45"));
        assert_eq!(big_decimal(&[2, 0x07, 3]).as_deref(), Some("700"));
        for wrong in [&[][..], &[4, 1], &[2, 7], &[2, 7, 4, 0], &[2, 7, 0xff, 0xff, 0xff, 0x0f]] {
            assert_eq!(big_decimal(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn dates_and_times_are_those_of_iso_8601() {
        use Unit::{Micros, Millis, Nanos};
        for (logical, number, text) in [
            (Logical::Date, 0, "1970-01-01"),
            (Logical::Date, -1, "1969-12-31"),
            (Logical::Date, 11_016, "2000-02-29"),
            (Logical::Date, 19_782, "2024-02-29"),
            (Logical::Date, -719_528, "0000-01-01"),
            (Logical::Date, 2_932_897, "+10000-01-01"),
            (Logical::Time(Millis), 86_399_999, "23:59:59.999"),
            (Logical::Time(Micros), 1, "00:00:00.000001"),
            (Logical::Timestamp(Millis), 1_522_949_460_000, "2018-04-05T17:31:00Z"),
            (Logical::Timestamp(Micros), -1, "1969-12-31T23:59:59.999999Z"),
            (Logical::Timestamp(Nanos), i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (Logical::LocalTimestamp(Millis), 1_500, "1970-01-01T00:00:01.500"),
        ] {
            assert_eq!(moment(logical, number).as_deref(), Some(text));
        }
        assert_eq!(moment(Logical::Time(Millis), 86_400_000), None);
        assert_eq!(moment(Logical::Time(Micros), -1), None);
        for far in [i64::MIN, i64::MAX] {
            assert!(moment(Logical::Timestamp(Millis), far).is_some());
        }
    }

    #[test]
    fn an_id_has_its_hyphens() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes).as_deref(), Some("00010203-0405-0607-0809-0a0b0c0d0e0f"));
        assert_eq!(uuid(&bytes[1..]), None);
        assert_eq!(duration(&[1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 0, 0]), Some([1, 2, 259]));
        assert_eq!(duration(&[1, 0]), None);
    }
}
