//! The parts of a certificate, cut where they stand: nothing is interpreted, and nothing is taken
//! that is not DER.

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
/// `[0]`, explicit: the version of a certificate that is not of version 1.
const VERSION: u8 = 0xa0;

/// A certificate's parts. Those called `…_id` are the insides of an AlgorithmIdentifier.
pub(super) struct Parts<'a> {
    /// What is signed.
    pub(super) signed: &'a [u8],
    /// True if it names a version: those of version 1 do not.
    pub(super) has_version: bool,
    /// The algorithm of the signature, as the signed part tells it.
    pub(super) signed_signature_id: &'a [u8],
    /// Who signed.
    pub(super) issuer: &'a [u8],
    /// Whose it is.
    pub(super) subject: &'a [u8],
    /// SubjectPublicKeyInfo, whole.
    pub(super) key_info: &'a [u8],
    /// The algorithm of the key.
    pub(super) key_id: &'a [u8],
    /// The key.
    pub(super) key: &'a [u8],
    /// What follows the key in the signed part: nothing, in version 1.
    pub(super) extensions: &'a [u8],
    /// The algorithm of the signature.
    pub(super) signature_id: &'a [u8],
    /// The signature.
    pub(super) signature: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Cuts a certificate; `None` if it is none, or anything follows it.
    pub(super) fn of(der: &'a [u8]) -> Option<Self> {
        let (certificate, []) = take(SEQUENCE, der)? else {
            return None;
        };
        let (signed_body, rest) = take(SEQUENCE, certificate)?;
        let signed = &certificate[..certificate.len() - rest.len()];
        let (signature_id, rest) = take(SEQUENCE, rest)?;
        let (signature, []) = take_bits(rest)? else {
            return None;
        };

        let has_version = signed_body.first() == Some(&VERSION);
        let rest = match take(VERSION, signed_body) {
            Some((_, rest)) => rest,
            None if has_version => return None,
            None => signed_body,
        };
        let (_serial, rest) = take(INTEGER, rest)?;
        let (signed_signature_id, rest) = take(SEQUENCE, rest)?;
        let (issuer, rest) = take(SEQUENCE, rest)?;
        let (_validity, rest) = take(SEQUENCE, rest)?;
        let (subject, at_key) = take(SEQUENCE, rest)?;
        let (key_body, extensions) = take(SEQUENCE, at_key)?;
        let key_info = &at_key[..at_key.len() - extensions.len()];
        let (key_id, rest) = take(SEQUENCE, key_body)?;
        let (key, []) = take_bits(rest)? else {
            return None;
        };
        Some(Self {
            signed,
            has_version,
            signed_signature_id,
            issuer,
            subject,
            key_info,
            key_id,
            key,
            extensions,
            signature_id,
            signature,
        })
    }
}

/// The contents of the first value, which must have this tag, and what follows it.
pub(super) fn take(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = digits.iter().fold(0, |len, &d| len << 8 | usize::from(d));
            // DER has one way to say a length, the shortest.
            let shortest = match digits.len() {
                1 => 0x80,
                2 => 0x100,
                _ => 0x1_0000,
            };
            (len >= shortest).then_some((len, rest))?
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(len))?
}

/// The contents of a BIT STRING of whole bytes.
fn take_bits(der: &[u8]) -> Option<(&[u8], &[u8])> {
    match take(BIT_STRING, der)? {
        ([0, bits @ ..], rest) => Some((bits, rest)),
        _ => None,
    }
}
