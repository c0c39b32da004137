//! SASLprep (RFC 4013), the way PostgreSQL prepares a password.

use stringprep::tables;
use zeroize::Zeroizing;

/// Prepares a password for hashing; what cannot be prepared is used as it is.
///
/// PostgreSQL judges the characters before it normalises them, the RFC afterwards. A password hashes
/// to the same keys only if we do as PostgreSQL does.
pub(super) fn saslprep(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password)
        .ok()
        .filter(|text| !text.is_ascii())
        .and_then(prepare);
    prepared.unwrap_or_else(|| Zeroizing::new(password.to_vec()))
}

fn prepare(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mapped: Zeroizing<String> = Zeroizing::new(text.chars().filter_map(map).collect());
    // A password of nothing but invisible characters must not become the blank one.
    if mapped.is_empty() || mapped.chars().any(is_prohibited) || !is_bidi_sound(&mapped) {
        return None;
    }
    // What is left to do for the library is the normalisation.
    let normalised = stringprep::saslprep(&mapped).ok()?;
    Some(Zeroizing::new(normalised.into_owned().into_bytes()))
}

fn map(c: char) -> Option<char> {
    if tables::non_ascii_space_character(c) {
        Some(' ')
    } else {
        (!tables::commonly_mapped_to_nothing(c)).then_some(c)
    }
}

fn is_prohibited(c: char) -> bool {
    tables::non_ascii_space_character(c)
        || tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
        || tables::unassigned_code_point(c)
}

/// Text from right to left must be so from end to end (RFC 3454, section 6).
fn is_bidi_sound(text: &str) -> bool {
    if !text.contains(tables::bidi_r_or_al) {
        return true;
    }
    !text.contains(tables::bidi_l)
        && text.starts_with(tables::bidi_r_or_al)
        && text.ends_with(tables::bidi_r_or_al)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prepared(password: &str) -> String {
        String::from_utf8(saslprep(password.as_bytes()).to_vec()).unwrap()
    }

    #[test]
    fn ascii_stays_as_it_is() {
        assert_eq!(prepared(""), "");
        assert_eq!(prepared("pencil"), "pencil");
        assert_eq!(prepared("tab\tand bell\x07"), "tab\tand bell\x07");
    }

    #[test]
    fn the_examples_of_rfc_4013_hold() {
        assert_eq!(prepared("I\u{ad}X"), "IX");
        assert_eq!(prepared("\u{aa}"), "a");
        assert_eq!(prepared("\u{2168}"), "IX");
    }

    #[test]
    fn spaces_become_plain_spaces() {
        assert_eq!(prepared("a\u{a0}b\u{3000}c"), "a b c");
    }

    #[test]
    fn what_cannot_be_prepared_is_used_as_it_is() {
        for raw in [
            "\u{ad}",            // nothing would be left
            "é\x07",             // a control character
            "é\u{e000}",         // private use
            "\u{627}\u{31}",     // from right to left, but not to its end
            "\u{627}a\u{628}",   // both directions
            "pass\u{1f600}word", // not yet assigned in Unicode 3.2
        ] {
            assert_eq!(prepared(raw), raw);
        }
        assert_eq!(*saslprep(b"\xe9t\xe9"), b"\xe9t\xe9");
    }

    #[test]
    fn characters_are_judged_before_they_are_normalised() {
        // U+0340 is prohibited, though it would become U+0300, which is not.
        assert_eq!(prepared("a\u{340}"), "a\u{340}");
        // U+1F100 is younger than Unicode 3.2, though it would become "0.".
        assert_eq!(prepared("\u{1f100}"), "\u{1f100}");
    }

    proptest! {
        #[test]
        fn any_password_is_prepared_without_panic(password in any::<Vec<u8>>()) {
            let prepared = saslprep(&password);
            prop_assert_eq!(prepared.is_empty(), password.is_empty());
        }

        #[test]
        fn any_text_is_prepared_without_panic(password in any::<String>()) {
            let prepared = saslprep(password.as_bytes());
            prop_assert_eq!(prepared.is_empty(), password.is_empty());
        }
    }
}
