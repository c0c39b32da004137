//! Certificates and keys in files, and what tells whether they have changed.

use std::fs;
use std::io;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use sha2::{Digest, Sha256};

use super::TlsSetupError;
use super::identity::Identity;

/// A fingerprint of all that a context is made of.
#[derive(Default)]
pub(super) struct Printer(Sha256);

/// What comes of it.
pub(super) type Print = [u8; 32];

impl Printer {
    /// Takes one more thing in.
    pub(super) fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.0.update(part.len().to_be_bytes());
        self.0.update(part);
    }

    /// The fingerprint.
    pub(super) fn print(self) -> Print {
        self.0.finalize().into()
    }
}

/// The files that one side's settings name.
pub(super) struct Files<'a> {
    /// What the settings' names begin with.
    pub(super) side: &'static str,
    pub(super) ca: Option<&'a Path>,
    pub(super) cert: Option<&'a Path>,
    pub(super) key: Option<&'a Path>,
}

impl Files<'_> {
    /// Our own certificate and key, if there are any.
    pub(super) fn identity(
        &self,
        printer: &mut Printer,
    ) -> Result<Option<Identity>, TlsSetupError> {
        let (cert, key) = match (self.cert, self.key) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(self.needs("cert_file", "key_file")),
            (None, Some(_)) => return Err(self.needs("key_file", "cert_file")),
        };
        let chain = certificates("certificate", cert, printer)?;
        let what = "private key";
        let text = read(what, key, printer)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| bad(what, key, error))?;
        Identity::new(chain, key).map(Some)
    }

    /// The authorities that are believed, if any are named.
    pub(super) fn authorities(
        &self,
        printer: &mut Printer,
    ) -> Result<Option<Vec<CertificateDer<'static>>>, TlsSetupError> {
        let named = self.ca.map(|path| certificates("CA", path, printer));
        named.transpose()
    }

    /// Those that the system believes.
    pub(super) fn world(
        &self,
        printer: &mut Printer,
    ) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
        let mut found = rustls_native_certs::load_native_certs().certs;
        // Nobody chose these one by one: those that can't be read vouch for nobody.
        found.retain(|authority| RootCertStore::empty().add(authority.clone()).is_ok());
        if found.is_empty() {
            return Err(self.needs("sslmode", "ca_file"));
        }
        found.iter().for_each(|authority| printer.add(authority));
        Ok(found)
    }

    /// That a setting of this side needs another.
    pub(super) fn needs(&self, setting: &str, other: &str) -> TlsSetupError {
        let key = |name: &str| format!("{}_{name}", self.side);
        TlsSetupError::Needs(key(setting), key(other))
    }
}

/// The certificates in a file, of which there must be one; text around them is passed over.
fn certificates(
    what: &'static str,
    path: &Path,
    printer: &mut Printer,
) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let text = read(what, path, printer)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(bad(what, path, pem::Error::NoItemsFound)),
        Err(error) => Err(bad(what, path, error)),
    }
}

fn read(what: &'static str, path: &Path, printer: &mut Printer) -> Result<Vec<u8>, TlsSetupError> {
    let text = fs::read(path).map_err(|error| unreadable(what, path, error))?;
    printer.add(&text);
    Ok(text)
}

fn bad(what: &'static str, path: &Path, error: pem::Error) -> TlsSetupError {
    let error = io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    unreadable(what, path, error)
}

fn unreadable(what: &'static str, path: &Path, error: io::Error) -> TlsSetupError {
    let path = path.display().to_string();
    TlsSetupError::File { what, path, error }
}
