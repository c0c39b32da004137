//! What it costs to prove a client by SCRAM, and to be proven to a server.
//!
//! `cargo bench -p pgusher-auth`

use base64::prelude::{BASE64_STANDARD, Engine};
use divan::{Bencher, black_box};
use pgusher_auth::scram::{ClientExchange, ServerExchange};
use pgusher_auth::{ChannelBinding, Nonce, Password, ScramKeys, Verifier};
use sha2::{Digest, Sha256};

fn main() {
    divan::main();
}

const SALT: &[u8] = b"sixteen bytes it";
const ITERATIONS: u32 = 4096;
const KEYS: ([u8; 32], [u8; 32]) = ([7; 32], [9; 32]);

/// Both sides of one exchange, from the first message to the last, with keys that are known.
#[divan::bench]
fn exchange(bencher: Bencher<'_, '_>) {
    let keys = ScramKeys::new(KEYS.0, KEYS.1);
    let verifier = verifier();
    bencher.bench(|| converse(black_box(&keys), black_box(&verifier)));
}

/// What a client with its password in clear costs at its first login.
#[divan::bench(args = [1, 4096])]
fn derive(bencher: Bencher<'_, '_>, iterations: u32) {
    let password = Password::new("not a secret");
    bencher.bench(|| Verifier::from_password(black_box(&password), iterations, SALT));
}

/// The stored text becomes a verifier.
#[divan::bench]
fn parse(bencher: Bencher<'_, '_>) {
    let text = verifier().encode();
    bencher.bench(|| Verifier::parse(black_box(text.as_bytes())));
}

fn converse(keys: &ScramKeys, verifier: &Verifier) {
    const WORKS: &str = "both sides have the same keys";
    let nonce = |byte| Nonce::from_bytes([byte; Nonce::LEN]);
    let (client, first) = ClientExchange::begin(nonce(1), ChannelBinding::None);
    let (salt, iterations) = (verifier.salt(), verifier.iterations());
    let binding = ChannelBinding::None;
    let begun = ServerExchange::begin(first.as_bytes(), &nonce(2), salt, iterations, &binding);
    let (server, server_first) = begun.expect(WORKS);
    let challenge = client.challenged(server_first.as_bytes()).expect(WORKS);
    let (signature, client_final) = challenge.answer(keys);
    let proof = server.proof(client_final.as_bytes()).expect(WORKS);
    let accepted = proof.check(verifier).expect(WORKS);
    (signature.verify(accepted.server_final.as_bytes())).expect(WORKS);
}

/// As PostgreSQL stores it.
fn verifier() -> Verifier {
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let (stored, server) = (Sha256::digest(KEYS.0), KEYS.1);
    let (salt, stored, server) = (encode(SALT), encode(&stored), encode(&server));
    let text = format!("SCRAM-SHA-256${ITERATIONS}:{salt}${stored}:{server}");
    Verifier::parse(text.as_bytes()).expect("written as PostgreSQL does")
}
