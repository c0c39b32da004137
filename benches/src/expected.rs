//! Compares what arrives with what must arrive, however it is cut up.

use crate::{failure::Failure, pieces::Piece};

/// An answer of which a part has arrived.
pub(crate) struct Expected<'a> {
    /// What has not been heard to its end.
    pieces: &'a [Piece],
    /// Where we stand in the first of these.
    repetitions: usize,
    offset: usize,
    heard: u64,
}

impl<'a> Expected<'a> {
    pub(crate) fn new(pieces: &'a [Piece]) -> Self {
        Self {
            pieces,
            repetitions: 0,
            offset: 0,
            heard: 0,
        }
    }

    /// What is left after so much of it has arrived.
    pub(crate) fn after(pieces: &'a [Piece], heard: u64) -> Self {
        let mut expected = Self::new(pieces);
        while expected.heard < heard && !expected.is_met() {
            let rest = expected.rest().len() as u64;
            let len = rest.min(heard - expected.heard);
            expected.advance(len as usize);
        }
        expected
    }

    /// Has all of it arrived?
    pub(crate) fn is_met(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How much of it has arrived.
    pub(crate) fn heard(&self) -> u64 {
        self.heard
    }

    /// Takes what has arrived; one wrong byte, or one too many, is a failure.
    pub(crate) fn hear(&mut self, mut arrived: &[u8]) -> Result<(), Failure> {
        while !arrived.is_empty() {
            let wanted = self.rest();
            let len = wanted.len().min(arrived.len());
            if len == 0 || wanted[..len] != arrived[..len] {
                return Err(self.wrong(arrived));
            }
            arrived = &arrived[len..];
            self.advance(len);
        }
        Ok(())
    }

    /// What must follow, as far as it is in one piece.
    fn rest(&self) -> &'a [u8] {
        (self.pieces.first()).map_or(&[], |piece| &piece.bytes[self.offset..])
    }

    fn advance(&mut self, len: usize) {
        self.heard += len as u64;
        self.offset += len;
        let Some((piece, later)) = self.pieces.split_first() else {
            return;
        };
        if self.offset == piece.bytes.len() {
            self.offset = 0;
            self.repetitions += 1;
        }
        if self.repetitions == piece.times {
            self.repetitions = 0;
            self.pieces = later;
        }
    }

    fn wrong(&self, arrived: &[u8]) -> Failure {
        let wanted = self.rest();
        let right = (wanted.iter().zip(arrived))
            .take_while(|(wanted, arrived)| wanted == arrived)
            .count();
        let expected = match &wanted[right..] {
            [] => "nothing more".to_owned(),
            rest => excerpt(rest),
        };
        Failure::Wrong {
            at: self.heard + right as u64,
            expected,
            heard: excerpt(&arrived[right..]),
        }
    }
}

/// The beginning, as long as a line of a log may be.
fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 160;
    let (shown, more) = match bytes.get(..SHOWN) {
        Some(shown) => (shown, "…"),
        None => (bytes, ""),
    };
    format!("\"{}\"{more}", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<Piece> {
        vec![
            Piece::once("head "),
            Piece::repeated("row ", 3),
            Piece::once("end"),
        ]
    }

    #[test]
    fn an_answer_may_be_cut_up_anywhere() {
        let (pieces, bytes) = (answer(), b"head row row row end");
        for cut in 0..=bytes.len() {
            let mut expected = Expected::new(&pieces);
            for part in [&bytes[..cut], &bytes[cut..]] {
                expected.hear(part).unwrap();
            }

            assert!(expected.is_met());
            assert_eq!(expected.heard(), 20);
        }
    }

    #[test]
    fn an_answer_may_be_heard_in_two_parts() {
        let (pieces, bytes) = (answer(), b"head row row row end");
        for cut in 0..=bytes.len() {
            let mut rest = Expected::after(&pieces, cut as u64);
            rest.hear(&bytes[cut..]).unwrap();

            assert!(rest.is_met());
        }
    }

    #[test]
    fn an_answer_that_lacks_a_byte_is_not_met() {
        let pieces = answer();
        let mut expected = Expected::new(&pieces);
        expected.hear(b"head row row row en").unwrap();

        assert!(!expected.is_met());
    }

    #[test]
    fn a_row_too_few_or_too_many_is_wrong() {
        for bytes in [&b"head row row end"[..], b"head row row row row end"] {
            assert!(Expected::new(&answer()).hear(bytes).is_err());
        }
    }

    #[test]
    fn a_wrong_answer_says_where_and_what() {
        let pieces = answer();
        let mut expected = Expected::new(&pieces);
        let failure = expected.hear(b"head row rot row end").unwrap_err();

        assert_eq!(
            failure.to_string(),
            r#"wrong answer at byte 11: expected "w ", heard "t row end""#
        );
    }

    #[test]
    fn a_byte_after_the_end_is_wrong() {
        let pieces = answer();
        let failure = Expected::new(&pieces).hear(b"head row row row end!");

        assert_eq!(
            failure.unwrap_err().to_string(),
            r#"wrong answer at byte 20: expected nothing more, heard "!""#
        );
    }
}
