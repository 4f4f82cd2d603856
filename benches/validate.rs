//! What it costs to validate a token whose key is at hand: little more than to verify its signature. Exits with 1 where it
//! allocates more than it says here.
//!
//! `cargo bench --bench validate --features validate`, or with `-- --smoke` just to see that it works.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]

#[path = "support/windows.rs"]
mod windows;

use std::{alloc::System, env, error::Error, hint::black_box, process::ExitCode};

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{
        KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaPublicKeyComponents,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use entra_broker::{Authority, BoxFuture, Pool, TokenValidator, Transport, TransportError, TrustedIssuer};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use windows::{Contestant, Plan, measure, ready, take};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const AUDIENCE: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const RAW: &str = "signature, key parsed";
const VALIDATED: &str = "validate";
const REFUSED: &str = "… refused: signature";

/// In signatures, and in allocations for one token: header, claims and signature decoded, a text for each claim that is
/// looked at, their names, and the verifier with its copy of the key.
const AT_MOST: (f64, usize) = (1.5, 40);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    // `cargo bench` says `--bench`; `cargo test --benches` does not.
    let smoke = has("--smoke") || has("--test") || !has("--bench");

    let fixture = Fixture::new()?;
    let contestants = fixture.contestants();
    let speeds = measure(&contestants, &Plan::new(smoke));
    println!("a token of {} bytes, RS256, 2,048 bits; medians; in total: two threads\n", fixture.token.len());
    println!(
        "{:<26} {:>8} {:>8} {:>8} {:>12} {:>12}",
        "", "ns", "× raw", "at most", "k/s in total", "allocations"
    );
    let raw = speeds[0].ns;
    let mut most = 0;
    for (contestant, speed) in contestants.iter().zip(&speeds) {
        let allocated = allocations(contestant);
        let named = contestant.name == VALIDATED;
        most = most.max(allocated);
        let at_most = if named { format!("{:.1}", AT_MOST.0) } else { "–".to_owned() };
        println!(
            "{:<26} {:>8.0} {:>8.2} {at_most:>8} {:>12.0} {allocated:>12}",
            contestant.name,
            speed.ns,
            speed.ns / raw,
            speed.total_mops * 1e3,
        );
    }
    println!("\nraw: the signature alone, by a key that is kept as the library holds it.");
    if most > AT_MOST.1 {
        println!("{most} allocations for a token are more than {}", AT_MOST.1);
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

struct Fixture {
    token: String,
    forged: String,
    signed: Vec<u8>,
    signature: Vec<u8>,
    parsed: ParsedPublicKey,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    validator: TokenValidator,
}

impl Fixture {
    fn new() -> Result<Self, Box<dyn Error>> {
        let pair = KeyPair::generate(KeySize::Rsa2048)?;
        let public = pair.public_key();
        let modulus = public.modulus().big_endian_without_leading_zero().to_vec();
        let exponent = public.exponent().big_endian_without_leading_zero().to_vec();
        let der: PublicKeyX509Der<'_> = public.as_der()?;
        let parsed = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der.as_ref())?;
        let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({
            "kty": "RSA", "use": "sig", "kid": "key", "n": base64(&modulus), "e": base64(&exponent),
            "issuer": "https://login.microsoftonline.com/{tenantid}/v2.0",
        });
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": "key", "x5t": "key" }).to_string();
        let signed = format!("{}.{}", base64(header.as_bytes()), base64(claims().to_string().as_bytes()));
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)?;
        let token = format!("{signed}.{}", base64(&signature));
        let forged = format!("{signed}.{}", base64(&[1; 256]));
        let keys = Keys(json!({ "keys": [jwk] }).to_string().into());
        let validator = TokenValidator::builder()
            .issuer(TrustedIssuer::tenant(&Authority::public(), TENANT)?)
            .audiences([AUDIENCE])
            .transport(keys)
            .build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(validator.validate(&token))?;
        Ok(Self { token, forged, signed: signed.into(), signature, parsed, modulus, exponent, validator })
    }

    fn contestants(&self) -> Vec<Contestant<'_>> {
        vec![
            Contestant::new(RAW, |count| {
                for _ in 0..count {
                    take(self.parsed.verify_sig(black_box(&self.signed), black_box(&self.signature)));
                }
            }),
            Contestant::new("signature, key as parts", |count| {
                let key = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
                for _ in 0..count {
                    take(key.verify(
                        &RSA_PKCS1_2048_8192_SHA256,
                        black_box(&self.signed),
                        black_box(&self.signature),
                    ));
                }
            }),
            Contestant::new("… and wrong", |count| {
                let key = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
                for _ in 0..count {
                    let refused = key.verify(&RSA_PKCS1_2048_8192_SHA256, black_box(&self.signed), &[1; 256]);
                    take(refused.err().ok_or("a wrong signature was taken"));
                }
            }),
            Contestant::new(VALIDATED, |count| {
                ready(async {
                    for _ in 0..count {
                        take(self.validator.validate(black_box(&self.token)).await);
                    }
                });
            }),
            Contestant::new(REFUSED, |count| {
                ready(async {
                    for _ in 0..count {
                        let refused = self.validator.validate(black_box(&self.forged)).await;
                        take(refused.err().ok_or("a forged token was taken"));
                    }
                });
            }),
        ]
    }
}

/// As Entra gives them to an application's user.
fn claims() -> serde_json::Value {
    json!({
        "aud": AUDIENCE,
        "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
        "iat": 1_767_924_132, "nbf": 1_767_924_132, "exp": 4_102_444_800_u64,
        "aio": "AVQAq/8TAAAAzL9yB3bQkGmR1oF4vW5tYp0cXeHn2uJ7sKdLwZfT6iMxVgNqPbCyErUaOjSh8DkIl0",
        "azp": "11112222-bbbb-3333-cccc-4444dddd5555", "azpacr": "1",
        "name": "Alice Example", "oid": "33334444-dddd-5555-eeee-6666ffff7777",
        "preferred_username": "alice@contoso.com", "rh": "0.ARoAv4j5cvGGr0GRqy180BHbRx8fHx-fHx8fHx8fHx8fHx8aAAA.",
        "roles": ["Orders.Read.All", "Orders.Write"], "scp": "Orders.Read Orders.Write access_as_user",
        "sid": "44445555-eeee-6666-ffff-7777aaaa8888", "sub": "hKHtw1VZfSXq0nXkN1c2gYb0VbJ3mQ4rW5sT6uU7vV8",
        "tid": TENANT, "uti": "q1w2e3r4t5y6u7i8o9p0AA", "ver": "2.0", "xms_cc": ["CP1"],
    })
}

#[derive(Debug)]
struct Keys(Bytes);

impl Transport for Keys {
    fn send<'a>(
        &'a self,
        _: Pool,
        _: http::Request<Bytes>,
        _: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async { Ok(http::Response::new(self.0.clone())) })
    }
}

/// For one token. A warm one, and no other thread runs meanwhile.
fn allocations(contestant: &Contestant<'_>) -> usize {
    const COUNTED: usize = 100;
    (contestant.run)(1);
    let region = Region::new(ALLOCATOR);
    (contestant.run)(COUNTED as u64);
    let change = region.change();
    (change.allocations + change.reallocations).div_ceil(COUNTED)
}
