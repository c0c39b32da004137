//! Values in PostgreSQL's binary format, which drivers prefer: from their text, and to it.
//!
//! Only for the types that the pooler itself sends and takes.

use std::borrow::Cow;

/// Types by their OIDs (pg_type.oid).
pub mod oid {
    /// bytea
    pub const BYTEA: u32 = 17;
    /// bigint
    pub const INT8: u32 = 20;
    /// smallint
    pub const INT2: u32 = 21;
    /// integer
    pub const INT4: u32 = 23;
    /// text
    pub const TEXT: u32 = 25;
    /// A literal whose type was left open.
    pub const UNKNOWN: u32 = 705;
    /// varchar
    pub const VARCHAR: u32 = 1043;
    /// numeric
    pub const NUMERIC: u32 = 1700;
}

/// Writes a value of that type, given as text; `None` if it can't be.
pub fn encode(type_oid: u32, text: &str) -> Option<Cow<'_, [u8]>> {
    Some(match type_oid {
        oid::TEXT => Cow::Borrowed(text.as_bytes()),
        oid::INT4 => Cow::Owned(text.parse::<i32>().ok()?.to_be_bytes().into()),
        oid::INT8 => Cow::Owned(text.parse::<i64>().ok()?.to_be_bytes().into()),
        oid::NUMERIC => Cow::Owned(whole_number(text.parse().ok()?)),
        oid::BYTEA => Cow::Owned(unhex(text.strip_prefix("\\x")?)?),
        _ => return None,
    })
}

/// Reads a value of that type into text; `None` if it can't be.
pub fn decode(type_oid: u32, bytes: &[u8]) -> Option<Cow<'_, str>> {
    Some(match type_oid {
        oid::TEXT | oid::VARCHAR | oid::UNKNOWN => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
        oid::INT2 => Cow::Owned(i16::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::INT4 => Cow::Owned(i32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::INT8 => Cow::Owned(i64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        _ => return None,
    })
}

/// A numeric without a fraction: digits to the base of 10,000 behind how many there are, the place
/// of the first, the sign and the count of decimals.
fn whole_number(mut number: u64) -> Vec<u8> {
    let mut digits = Vec::new();
    while number > 0 {
        digits.push(u16::try_from(number % 10_000).unwrap_or(0));
        number /= 10_000;
    }
    digits.reverse();
    let count = u16::try_from(digits.len()).unwrap_or(0);
    let head = [count, count.saturating_sub(1), 0, 0];
    let all = head.into_iter().chain(digits);
    all.flat_map(u16::to_be_bytes).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_postgresql_writes_them() {
        let shown = |oid, text: &str| encode(oid, text).unwrap().into_owned();
        assert_eq!(shown(oid::TEXT, "é"), "é".as_bytes());
        assert_eq!(shown(oid::INT4, "-2"), [255, 255, 255, 254]);
        assert_eq!(shown(oid::INT8, "258"), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(shown(oid::BYTEA, "\\x00ff"), [0, 255]);
        assert_eq!(shown(oid::NUMERIC, "0"), [0; 8]);
        // 1|2345|6789
        let expected = [0, 3, 0, 2, 0, 0, 0, 0, 0, 1, 0x09, 0x29, 0x1a, 0x85];
        assert_eq!(shown(oid::NUMERIC, "123456789"), expected);
        assert_eq!(encode(oid::INT4, "2147483648"), None);
        assert_eq!(encode(16, "t"), None);
    }

    #[test]
    fn parameters_are_read_by_their_types() {
        assert_eq!(decode(oid::INT2, &[1, 2]).unwrap(), "258");
        assert_eq!(decode(oid::INT4, &[255, 255, 255, 254]).unwrap(), "-2");
        assert_eq!(decode(oid::INT8, &[0; 8]).unwrap(), "0");
        assert_eq!(decode(oid::VARCHAR, b"shop").unwrap(), "shop");
        for (oid, bytes) in [
            (oid::INT4, &b"123"[..]),
            (oid::TEXT, b"\xff"),
            (16, b"\x01"),
        ] {
            assert_eq!(decode(oid, bytes), None);
        }
    }
}
