//! Certificates as people make them: by the `openssl` program.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{account::Account, scratch::Scratch};

/// An authority of its own, in a directory of its own. Its certificate is of version 3, as
/// `openssl req -x509` writes it.
pub struct Authority {
    scratch: Scratch,
    certificate: Certificate,
    next: AtomicU32,
}

/// A certificate and its key, in files that the servers' account owns.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

/// Kinds of keys, and of files that hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// P-256 in SEC1, behind its parameters, as `openssl ecparam -genkey` writes it.
    EcSec1,
    /// P-256 in PKCS#8.
    EcPkcs8,
    /// RSA in PKCS#1, as OpenSSL wrote it for long.
    RsaPkcs1,
    /// RSA in PKCS#8.
    RsaPkcs8,
    /// Ed25519 in PKCS#8.
    Ed25519,
}

/// A certificate to be made.
pub struct Request<'a> {
    authority: &'a Authority,
    subject: String,
    key: Key,
    days: i32,
    digest: Option<&'static str>,
    pss: bool,
    extensions: Vec<String>,
    signer: Option<Certificate>,
}

impl Authority {
    /// An authority of this name, with an EC key.
    pub fn new(name: &str) -> Self {
        Self::with_key(name, Key::EcPkcs8)
    }

    /// An authority with another kind of key.
    pub fn with_key(name: &str, key: Key) -> Self {
        let scratch = Scratch::new("certificates").expect("a directory");
        let certificate = Certificate {
            cert: scratch.path().join("ca.crt"),
            key: scratch.path().join("ca.key"),
        };
        let authority = Self {
            scratch,
            certificate,
            next: AtomicU32::new(0),
        };
        authority.make_key(key, "ca.key");
        let subject = format!("/CN={name}");
        authority.openssl(&[
            "req", "-x509", "-new", "-key", "ca.key", "-days", "100", "-subj", &subject, "-out",
            "ca.crt",
        ]);
        authority
    }

    /// The authority's own certificate and key.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// A certificate as PostgreSQL's manual makes it: of version 1, with a common name and no other,
    /// a text before it, and an EC key behind its parameters.
    pub fn issue(&self, common_name: &str) -> Certificate {
        self.request(common_name).issue()
    }

    /// A certificate of another kind.
    pub fn request(&self, common_name: &str) -> Request<'_> {
        Request {
            authority: self,
            subject: format!("/CN={common_name}"),
            key: Key::EcSec1,
            days: 50,
            digest: None,
            pss: false,
            extensions: Vec::new(),
            signer: None,
        }
    }

    /// A file that holds several others, one behind the other.
    pub fn joined(&self, files: &[&Path]) -> PathBuf {
        let name = format!("joined-{}.pem", self.next.fetch_add(1, Ordering::Relaxed));
        let text = files
            .iter()
            .map(|file| fs::read_to_string(file).expect("a file of ours"));
        let joined = self.scratch.write(&name, &text.collect::<String>());
        joined.expect("room for a file")
    }

    fn make_key(&self, key: Key, file: &str) {
        let curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"];
        let mut args = match key {
            Key::EcSec1 => vec!["ecparam", "-name", "prime256v1", "-genkey"],
            Key::EcPkcs8 => [&["genpkey", "-algorithm", "EC"], curve.as_slice()].concat(),
            Key::RsaPkcs1 => vec!["genrsa", "-traditional"],
            Key::RsaPkcs8 => vec!["genpkey", "-algorithm", "RSA"],
            Key::Ed25519 => vec!["genpkey", "-algorithm", "ED25519"],
        };
        args.extend(["-out", file]);
        if key == Key::RsaPkcs1 {
            args.push("2048");
        }
        self.openssl(&args);
    }

    /// Runs `openssl` under the servers' account, in our directory.
    fn openssl(&self, args: &[&str]) {
        let mut command = Account::for_servers().command("openssl");
        command.args(args).current_dir(self.scratch.path());
        let output = command.output().expect("the openssl program");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "openssl {}: {said}",
            args.join(" ")
        );
    }
}

impl Request<'_> {
    /// With another kind of key.
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// In force for so many days from now; with a negative number it never was.
    pub fn days(mut self, days: i32) -> Self {
        self.days = days;
        self
    }

    /// Signed with this hash.
    pub fn digest(mut self, digest: &'static str) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Signed with RSASSA-PSS, by an authority that has an RSA key.
    pub fn pss(mut self) -> Self {
        self.pss = true;
        self
    }

    /// With more in its subject, as in `/OU=x/CN=y`.
    pub fn subject(mut self, more: &str) -> Self {
        self.subject.push_str(more);
        self
    }

    /// With this extension, which makes it one of version 3: `subjectAltName = DNS:localhost`.
    pub fn extension(mut self, line: &str) -> Self {
        self.extensions.push(line.to_owned());
        self
    }

    /// Signed by the owner of this certificate instead, authority or not.
    pub fn signed_by(mut self, signer: &Certificate) -> Self {
        self.signer = Some(signer.clone());
        self
    }

    /// Makes it.
    pub fn issue(self) -> Certificate {
        let authority = self.authority;
        let number = authority.next.fetch_add(1, Ordering::Relaxed);
        let name = |ending: &str| format!("{number}.{ending}");
        let (key, csr, cert, extensions) = (name("key"), name("csr"), name("crt"), name("ext"));
        authority.make_key(self.key, &key);
        let subject = &self.subject;
        authority.openssl(&["req", "-new", "-key", &key, "-subj", subject, "-out", &csr]);
        let signer = self.signer.as_ref().unwrap_or(&authority.certificate);
        let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let (signer_cert, signer_key) = (path(&signer.cert), path(&signer.key));
        let days = self.days.to_string();
        let mut args = vec![
            "x509",
            "-req",
            "-in",
            &csr,
            "-text",
            "-days",
            &days,
            "-CAcreateserial",
            "-CA",
            &signer_cert,
            "-CAkey",
            &signer_key,
            "-out",
            &cert,
        ];
        args.extend(self.digest);
        if self.pss {
            args.extend(["-sigopt", "rsa_padding_mode:pss"]);
        }
        if !self.extensions.is_empty() {
            let written = authority
                .scratch
                .write(&extensions, &self.extensions.join("\n"));
            written.expect("room for a file");
            args.extend(["-extfile", &extensions]);
        }
        authority.openssl(&args);
        Certificate {
            cert: authority.scratch.path().join(cert),
            key: authority.scratch.path().join(key),
        }
    }
}

impl Certificate {
    /// Takes the place of another, whose files are read anew some time.
    pub fn replace(&self, other: &Self) {
        for (from, to) in [(&self.cert, &other.cert), (&self.key, &other.key)] {
            // The file stays its owner's.
            let text = fs::read(from).expect("a file of ours");
            fs::write(to, text).expect("a file of ours");
        }
    }
}
