//! A real LDAP server, made for one test and gone with it.

use std::{fs, io, path::Path, sync::Arc};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    account::Account,
    certificates::Authority,
    eventually::{GLANCE, PATIENCE},
    log::Log,
    port::Port,
    process::Process,
    scratch::Scratch,
    start_error::StartError,
};

/// A throw-away OpenLDAP server over `dc=example,dc=net`.
///
/// Entries below `ou=closed` are found by nobody but `cn=reader,dc=example,dc=net`, whose password
/// is `reading`. It speaks TLS as `localhost`, with a certificate of an authority of its own.
pub struct Slapd {
    // Before the directory it lives in.
    process: Process,
    port: Port,
    tls_port: Port,
    ca: String,
}

const PROGRAM: &str = "/usr/sbin/slapd";

/// Its configuration, but for where things are.
const CONFIG: &str = "
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile ca.pem
TLSCertificateFile server.pem
TLSCertificateKeyFile server.key
access to attrs=userPassword by anonymous auth
access to dn.subtree=\"ou=closed,dc=example,dc=net\"
  by dn.exact=\"cn=reader,dc=example,dc=net\" read
  by anonymous auth
access to * by * read
database mdb
maxsize 1048576
suffix \"dc=example,dc=net\"
directory data
";

/// The entries that are always there.
const BASE: &str = "\
dn: dc=example,dc=net
objectClass: dcObject
objectClass: organization
dc: example
o: example

dn: cn=reader,dc=example,dc=net
objectClass: person
cn: reader
sn: reader
userPassword: reading

";

impl Slapd {
    /// Starts one with these entries, in LDIF, and waits until it listens.
    pub async fn start(entries: &str) -> Self {
        Self::try_start(entries)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_start(entries: &str) -> Result<Self, StartError> {
        const TRIES: u32 = 5;
        let scratch = Scratch::new("slapd").map_err(StartError::io("making a directory"))?;
        let scratch = Arc::new(scratch);
        let mut tries = 0;
        let ca = furnish(&scratch, entries).map_err(StartError::io("furnishing slapd"))?;
        loop {
            tries += 1;
            match Self::launch(&scratch, &ca).await {
                Err(StartError::Exited { .. }) if tries < TRIES => {}
                outcome => return outcome,
            }
        }
    }

    async fn launch(scratch: &Arc<Scratch>, ca: &str) -> Result<Self, StartError> {
        let (port, tls_port) = (Port::claim()?, Port::claim()?);
        let urls = format!(
            "ldap://127.0.0.1:{} ldaps://127.0.0.1:{}",
            port.number, tls_port.number
        );
        let mut command = Account::for_servers().command(PROGRAM);
        // In the foreground, with a line for each operation.
        command.args(["-d", "stats", "-f", "slapd.conf", "-h", &urls]);
        let mut slapd = Self {
            process: Process::spawn(&mut command, scratch, Log::new())?,
            port,
            tls_port,
            ca: ca.to_owned(),
        };
        let deadline = Instant::now() + PATIENCE;
        while !slapd.listens().await {
            if let Some(error) = slapd.process.early_exit() {
                return Err(error);
            }
            if Instant::now() > deadline {
                return Err(slapd.process.silent());
            }
            sleep(GLANCE).await;
        }
        Ok(slapd)
    }

    async fn listens(&self) -> bool {
        let reach = |port: &Port| TcpStream::connect(("127.0.0.1", port.number));
        reach(&self.port).await.is_ok() && reach(&self.tls_port).await.is_ok()
    }

    /// Its port for `ldap://`, and for StartTLS.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Its port for `ldaps://`.
    pub fn tls_port(&self) -> u16 {
        self.tls_port.number
    }

    /// The certificate of the authority that vouches for its own, in PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// How many lines of its log contain the text.
    pub fn log_count(&self, text: &str) -> usize {
        self.process.log.count(text)
    }

    /// Waits until a line of its log contains the text, and returns that line.
    pub async fn wait_for_log(&self, text: &str) -> String {
        self.process.log.wait_for(text, 1).await
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.process.log.show_if_panicking("slapd");
    }
}

/// Writes the configuration, the certificates and the database; returns the authority's
/// certificate.
fn furnish(scratch: &Scratch, entries: &str) -> io::Result<String> {
    let account = Account::for_servers();
    if !Path::new(PROGRAM).exists() {
        let hint = format!("{PROGRAM} is missing: install slapd (make test does)");
        return Err(io::Error::other(hint));
    }
    account.make_dir(&scratch.path().join("data"))?;
    scratch.write("slapd.conf", CONFIG)?;
    scratch.write("entries.ldif", &format!("{BASE}{entries}"))?;
    let ca = certify(scratch)?;

    let mut command = account.command(PROGRAM);
    command.args(["-Tadd", "-f", "slapd.conf", "-l", "entries.ldif"]);
    let output = command.current_dir(scratch.path()).output()?;
    if output.status.success() {
        Ok(ca)
    } else {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(io::Error::other(said))
    }
}

/// Writes an authority's certificate, which is returned, and the server's.
fn certify(scratch: &Scratch) -> io::Result<String> {
    let authority = Authority::new("directories");
    let server = authority.request("directory");
    let server = server.extension("subjectAltName = DNS:localhost").issue();
    let ca = fs::read_to_string(&authority.certificate().cert)?;
    scratch.write("ca.pem", &ca)?;
    scratch.write("server.pem", &fs::read_to_string(server.cert)?)?;
    scratch.write("server.key", &fs::read_to_string(server.key)?)?;
    Ok(ca)
}
