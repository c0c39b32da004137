//! The hash of a server's certificate that SCRAM can be bound to: tls-server-end-point (RFC 5929).

use std::sync::Arc;

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::der::{Parts, take};

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
/// `[0]`, explicit: the hash among the parameters of RSASSA-PSS.
const HASH: u8 = 0xa0;

/// The hash of a certificate; `None` if none is defined for the way it is signed.
pub(super) fn end_point(certificate: &[u8]) -> Option<Arc<[u8]>> {
    let parts = Parts::of(certificate)?;
    Some(match Hash::of(parts.signature_id)? {
        Hash::Sha224 => Arc::from(&*Sha224::digest(certificate)),
        Hash::Sha256 => Arc::from(&*Sha256::digest(certificate)),
        Hash::Sha384 => Arc::from(&*Sha384::digest(certificate)),
        Hash::Sha512 => Arc::from(&*Sha512::digest(certificate)),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// 1.2.840.113549.1.1: RSA, with a hash.
const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4: ECDSA with SHA-1.
const ECDSA_SHA1: [u8; 6] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
/// 1.2.840.10045.4.3: ECDSA with another hash.
const ECDSA: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
/// 2.16.840.1.101.3.4.2: hashes.
const HASHES: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

impl Hash {
    /// The signature's own hash, but SHA-256 for the two that are too weak. Ed25519 and its like
    /// name none.
    fn of(signature_id: &[u8]) -> Option<Self> {
        let (id, parameters) = take(OBJECT_ID, signature_id)?;
        let (&number, family) = id.split_last()?;
        if family == RSA {
            match number {
                // MD5 and SHA-1.
                4 | 5 => Some(Self::Sha256),
                10 => Self::of_pss(parameters),
                11 => Some(Self::Sha256),
                12 => Some(Self::Sha384),
                13 => Some(Self::Sha512),
                14 => Some(Self::Sha224),
                _ => None,
            }
        } else if family == ECDSA {
            match number {
                1 => Some(Self::Sha224),
                2 => Some(Self::Sha256),
                3 => Some(Self::Sha384),
                4 => Some(Self::Sha512),
                _ => None,
            }
        } else {
            (family == ECDSA_SHA1 && number == 1).then_some(Self::Sha256)
        }
    }

    /// RSASSA-PSS names its hash among its parameters; if it does not, it is SHA-1.
    fn of_pss(parameters: &[u8]) -> Option<Self> {
        let (parameters, _) = take(SEQUENCE, parameters)?;
        let Some((hash, _)) = take(HASH, parameters) else {
            return Some(Self::Sha256);
        };
        let (hash, _) = take(SEQUENCE, hash)?;
        let (id, _) = take(OBJECT_ID, hash)?;
        match id.split_last()? {
            (1, family) if family == HASHES => Some(Self::Sha256),
            (2, family) if family == HASHES => Some(Self::Sha384),
            (3, family) if family == HASHES => Some(Self::Sha512),
            (4, family) if family == HASHES => Some(Self::Sha224),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(hex: &str) -> Option<Hash> {
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let der: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
        Hash::of(&der)
    }

    #[test]
    fn the_hash_is_the_signatures_own_unless_that_is_weak() {
        let rsa = "06092a864886f70d0101";
        for (number, hash) in [
            ("04", Hash::Sha256),
            ("05", Hash::Sha256),
            ("0b", Hash::Sha256),
            ("0c", Hash::Sha384),
            ("0d", Hash::Sha512),
            ("0e", Hash::Sha224),
        ] {
            assert_eq!(hash_of(&format!("{rsa}{number}0500")), Some(hash));
        }
        for (id, hash) in [
            ("06072a8648ce3d0401", Hash::Sha256),
            ("06082a8648ce3d040301", Hash::Sha224),
            ("06082a8648ce3d040302", Hash::Sha256),
            ("06082a8648ce3d040303", Hash::Sha384),
            ("06082a8648ce3d040304", Hash::Sha512),
        ] {
            assert_eq!(hash_of(id), Some(hash));
        }
    }

    #[test]
    fn pss_names_its_hash_or_means_sha_1() {
        let pss = "06092a864886f70d01010a";
        let sha384 = "300fa00d300b0609608648016503040202";
        assert_eq!(hash_of(&format!("{pss}{sha384}")), Some(Hash::Sha384));
        assert_eq!(hash_of(&format!("{pss}3000")), Some(Hash::Sha256));
    }

    #[test]
    fn what_names_no_hash_has_no_binding() {
        assert_eq!(hash_of("06032b6570"), None, "Ed25519");
        assert_eq!(hash_of("06032b6571"), None, "Ed448");
        assert_eq!(hash_of(""), None);
        assert_eq!(hash_of("0600"), None);
    }
}
