//! Decryption by a password: PKCS#5 (RFC 8018) and the older scheme of PKCS#12 (RFC 7292), as key files use them.
//!
//! By hand, over the crypto library that is here anyway. `p12-keystore` with `pkcs8` would bring 38 crates more, two of them
//! pre-releases; it limits the rounds of each key derivation and not of all together, and leaves decrypted keys in memory.

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{
        AES_128, AES_192, AES_256, Algorithm as Aes, DecryptionContext, PaddedBlockDecryptingKey,
        UnboundCipherKey,
    },
    digest::{self, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512},
    hmac, pbkdf2,
};
use cbc::{
    Decryptor,
    cipher::{BlockCipherDecrypt, BlockModeDecrypt as _, KeyInit, KeyIvInit as _, block_padding::Pkcs7},
};
use des::{TdesEde2, TdesEde3};
use rc2::Rc2;
use zeroize::Zeroizing;

use super::der::{Der, OCTETS, OID, SEQUENCE};

/// What keeps something from being decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not what it should be.
    Malformed,
    /// The password is not the one it was encrypted with, or it is damaged.
    Password,
    /// The derivation of its keys would take too long.
    Slow,
    /// It is made in a way that is not known here: in which.
    Unsupported(&'static str),
}

/// How many rounds of a hash all key derivations of a file may take together: some seconds on a slow machine. Files have 2,048
/// to 600,000 for each of two or three derivations.
const ROUNDS: u64 = 4_000_000;

/// What is left of the [rounds](ROUNDS).
pub(super) struct Budget(u64);

impl Budget {
    pub(super) fn new() -> Self {
        Self(ROUNDS)
    }

    fn spend(&mut self, rounds: u32, length: usize, digest: usize) -> Result<(), Fault> {
        // Each block of output has its own rounds.
        let rounds = u64::from(rounds) * length.div_ceil(digest) as u64;
        self.0 = self.0.checked_sub(rounds).ok_or(Fault::Slow)?;
        Ok(())
    }
}

/// PKCS#5 takes a password's octets.
/// PKCS#12 takes it in UTF-16 with a zero at its end, or, in some files, nothing at all for an empty one.
pub(super) struct Password {
    text: Zeroizing<Vec<u8>>,
    wide: Zeroizing<Vec<u8>>,
}

impl Password {
    pub(super) fn new(text: &str) -> Self {
        let mut wide = Zeroizing::new(Vec::with_capacity(2 * text.len() + 2));
        wide.extend(text.encode_utf16().chain([0]).flat_map(u16::to_be_bytes));
        let mut octets = Zeroizing::new(Vec::with_capacity(text.len()));
        octets.extend_from_slice(text.as_bytes());
        Self { text: octets, wide }
    }

    /// None at all, which is not the same as an empty one.
    pub(super) fn none() -> Self {
        Self { text: Zeroizing::default(), wide: Zeroizing::default() }
    }
}

/// What a key derived by the scheme of PKCS#12 is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// The key derivation of PKCS#12 (RFC 7292, appendix B.2).
pub(super) fn pkcs12_key(
    digest: &'static digest::Algorithm,
    purpose: Purpose,
    password: &Password,
    salt: &[u8],
    rounds: u32,
    length: usize,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    budget.spend(rounds.max(1), length, digest.output_len())?;
    let block = digest.block_len();
    let diversifier = vec![purpose as u8; block];
    let padded = |length: usize| length.div_ceil(block) * block;
    let (salted, secret) = (padded(salt.len()), padded(password.wide.len()));
    let mut input = Zeroizing::new(Vec::with_capacity(salted + secret));
    input.extend(salt.iter().cycle().take(salted));
    input.extend(password.wide.iter().cycle().take(secret));
    let mut key = Zeroizing::new(Vec::with_capacity(length + digest.output_len()));
    loop {
        let mut context = Context::new(digest);
        context.update(&diversifier);
        context.update(&input);
        let mut hash = context.finish();
        for _ in 1..rounds {
            hash = digest::digest(digest, hash.as_ref());
        }
        key.extend_from_slice(hash.as_ref());
        if key.len() >= length {
            key.truncate(length);
            return Ok(key);
        }
        // Each block of the input, as one number, plus the hash repeated to its length, plus one.
        for number in input.chunks_exact_mut(block) {
            let mut carry = 1;
            for (at, octet) in number.iter_mut().enumerate().rev() {
                let sum = u16::from(*octet) + u16::from(hash.as_ref()[at % hash.as_ref().len()]) + carry;
                *octet = sum as u8;
                carry = sum >> 8;
            }
        }
    }
}

/// Whether `code` is the HMAC of `data` under a key derived by the scheme of PKCS#12 with the digest named by `oid`.
pub(super) fn has_mac(
    oid: &[u8],
    password: &Password,
    (salt, rounds): (&[u8], u32),
    data: &[u8],
    code: &[u8],
    budget: &mut Budget,
) -> Result<bool, Fault> {
    let (digest, algorithm) = match oid {
        [0x2b, 0x0e, 0x03, 0x02, 0x1a] => (&SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 1] => (&SHA256, hmac::HMAC_SHA256),
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 2] => (&SHA384, hmac::HMAC_SHA384),
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 3] => (&SHA512, hmac::HMAC_SHA512),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0e] => return Err(Fault::Unsupported("PBMAC1")),
        _ => return Err(Fault::Unsupported("an unusual digest")),
    };
    let key = pkcs12_key(digest, Purpose::Mac, password, salt, rounds, digest.output_len(), budget)?;
    Ok(hmac::verify(&hmac::Key::new(algorithm, &key), data, code).is_ok())
}

/// Decrypts by the algorithm at the head of `der`, which comes before what it was applied to.
pub(super) fn decrypt(
    (oid, parameters): (&[u8], Der<'_>),
    encrypted: &[u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut data = Zeroizing::new(encrypted.to_vec());
    let length = match oid {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, kind] => match kind {
            0x0d => pbes2(parameters, &mut data, password, budget)?,
            _ => return Err(Fault::Unsupported("single DES or RC2 of PKCS#5")),
        },
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01, kind] => {
            pbes1(*kind, parameters, &mut data, password, budget)?
        }
        _ => return Err(Fault::Unsupported("an unknown cipher")),
    };
    data.truncate(length);
    Ok(data)
}

/// The length of what is decrypted in place.
fn pbes1(
    kind: u8,
    mut parameters: Der<'_>,
    data: &mut [u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<usize, Fault> {
    let mut parameters = parameters.enter(SEQUENCE).ok_or(Fault::Malformed)?;
    let salt = parameters.take(OCTETS).ok_or(Fault::Malformed)?;
    let rounds = parameters.number().ok_or(Fault::Malformed)?;
    let length = match kind {
        3 => 24,
        4 | 5 => 16,
        6 => 5,
        _ => return Err(Fault::Unsupported("RC4")),
    };
    let mut derived = |purpose, length| {
        let digest = &SHA1_FOR_LEGACY_USE_ONLY;
        pkcs12_key(digest, purpose, password, salt, rounds, length, budget)
    };
    let (key, iv) = (derived(Purpose::Key, length)?, derived(Purpose::Iv, 8)?);
    match kind {
        3 => cbc::<TdesEde3>(&key, &iv, data),
        4 => cbc::<TdesEde2>(&key, &iv, data),
        _ => cbc::<Rc2>(&key, &iv, data),
    }
}

fn pbes2(
    mut parameters: Der<'_>,
    data: &mut [u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<usize, Fault> {
    let mut parameters = parameters.enter(SEQUENCE).ok_or(Fault::Malformed)?;
    let (kdf, mut derivation) = parameters.algorithm().ok_or(Fault::Malformed)?;
    let (cipher, mut iv) = parameters.algorithm().ok_or(Fault::Malformed)?;
    let iv = iv.take(OCTETS).ok_or(Fault::Malformed)?;
    let (aes, length): (Option<&'static Aes>, usize) = match cipher {
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x02] => (Some(&AES_128), 16),
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x16] => (Some(&AES_192), 24),
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a] => (Some(&AES_256), 32),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x07] => (None, 24),
        _ => return Err(Fault::Unsupported("a cipher that is neither AES-CBC nor 3DES-CBC")),
    };
    let mut key = Zeroizing::new(vec![0; length]);
    match kdf {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c] => {
            pbkdf2_key(&mut derivation, &mut key, password, budget)?;
        }
        [0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b] => {
            return Err(Fault::Unsupported("a key derived by scrypt"));
        }
        _ => return Err(Fault::Unsupported("an unknown key derivation")),
    }
    let Some(aes) = aes else { return cbc::<TdesEde3>(&key, iv, data) };
    let context = DecryptionContext::Iv128(iv.try_into().map_err(|_| Fault::Malformed)?);
    let key = UnboundCipherKey::new(aes, &key).and_then(PaddedBlockDecryptingKey::cbc_pkcs7);
    let plain = key.and_then(|key| key.decrypt(data, context).map(|plain| plain.len()));
    plain.map_err(|_| Fault::Password)
}

fn pbkdf2_key(
    derivation: &mut Der<'_>,
    key: &mut [u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<(), Fault> {
    let mut derivation = derivation.enter(SEQUENCE).ok_or(Fault::Malformed)?;
    let salt = derivation.take(OCTETS).ok_or(Fault::Malformed)?;
    let rounds = derivation.number().and_then(NonZeroU32::new).ok_or(Fault::Malformed)?;
    // The length of the key, which the cipher says as well.
    let _ = derivation.number();
    let (algorithm, digest) = match derivation.algorithm() {
        None => (pbkdf2::PBKDF2_HMAC_SHA1, 20),
        Some(([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, prf], _)) => match prf {
            7 => (pbkdf2::PBKDF2_HMAC_SHA1, 20),
            9 => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
            10 => (pbkdf2::PBKDF2_HMAC_SHA384, 48),
            11 => (pbkdf2::PBKDF2_HMAC_SHA512, 64),
            _ => return Err(Fault::Unsupported("an unusual digest")),
        },
        Some(_) => return Err(Fault::Unsupported("an unusual digest")),
    };
    // An HMAC is two hashes.
    budget.spend(rounds.get().saturating_mul(2), key.len(), digest)?;
    pbkdf2::derive(algorithm, rounds, salt, &password.text, key);
    Ok(())
}

fn cbc<C: BlockCipherDecrypt + KeyInit>(key: &[u8], iv: &[u8], data: &mut [u8]) -> Result<usize, Fault> {
    let cipher = Decryptor::<C>::new_from_slices(key, iv).map_err(|_| Fault::Malformed)?;
    let plain = cipher.decrypt_padded::<Pkcs7>(data).map_err(|_| Fault::Password)?;
    Ok(plain.len())
}

/// Decrypts an `EncryptedPrivateKeyInfo` of PKCS#8.
pub(super) fn decrypt_pkcs8(
    der: &[u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut info = Der::new(der).enter(SEQUENCE).ok_or(Fault::Malformed)?;
    let algorithm = info.algorithm().ok_or(Fault::Malformed)?;
    let encrypted = info.take(OCTETS).ok_or(Fault::Malformed)?;
    let plain = decrypt(algorithm, encrypted, password, budget)?;
    // One in 256 wrong passwords leaves a padding that looks right.
    let mut inner = Der::new(&plain).enter(SEQUENCE).ok_or(Fault::Password)?;
    let looks_right =
        inner.number().is_some() && inner.enter(SEQUENCE).is_some_and(|mut a| a.take(OID).is_some());
    if looks_right { Ok(plain) } else { Err(Fault::Password) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PBES2 with AES-256, and a number of rounds in four octets.
    fn pbes2_of(rounds: [u8; 4]) -> Vec<u8> {
        let kdf = [
            &[0x30, 26, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 0x0c, 0x30, 13][..],
            &[4, 5, 1, 2, 3, 4, 5, 2, 4],
            &rounds,
        ];
        let cipher = [&[0x30, 29, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 0x2a, 4, 16][..], &[7; 16]];
        let all = [kdf.concat(), cipher.concat()].concat();
        [&[0x30, all.len() as u8], &all[..]].concat()
    }

    fn pbes1_of(rounds: [u8; 4]) -> Vec<u8> {
        [&[0x30, 13, 4, 5, 1, 2, 3, 4, 5, 2, 4][..], &rounds].concat()
    }

    const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
    const TRIPLE_DES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01, 3];
    const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];

    fn outcome(oid: &[u8], parameters: &[u8], budget: &mut Budget) -> Result<(), Fault> {
        decrypt((oid, Der::new(parameters)), &[9; 32], &Password::new("x"), budget).map(drop)
    }

    #[test]
    fn a_billion_rounds_are_refused_before_the_first() {
        let billion = [0x7f, 0xff, 0xff, 0xff];
        assert_eq!(outcome(PBES2, &pbes2_of(billion), &mut Budget::new()), Err(Fault::Slow));
        assert_eq!(outcome(TRIPLE_DES, &pbes1_of(billion), &mut Budget::new()), Err(Fault::Slow));
        let password = Password::new("x");
        let mac = has_mac(SHA1, &password, (&[1], u32::MAX), &[], &[], &mut Budget::new());
        assert_eq!(mac, Err(Fault::Slow));
    }

    #[test]
    fn many_modest_derivations_share_one_budget() {
        // 20,000 rounds each, of two hashes, for a key of two blocks: fifty of them fit.
        let (parameters, mut budget) = (pbes2_of([0, 0, 0x4e, 0x20]), Budget::new());
        let ended = (0..200)
            .map(|_| outcome(PBES2, &parameters, &mut budget))
            .position(|ended| ended == Err(Fault::Slow));
        assert_eq!(ended, Some(50));
    }

    #[test]
    fn a_key_of_pkcs12_is_that_of_other_implementations() {
        // From the tests of Bouncy Castle and OpenSSL, over SHA-1.
        let key = |purpose, password: &str, salt: &[u8], rounds, length| {
            let digest = &SHA1_FOR_LEGACY_USE_ONLY;
            let password = Password::new(password);
            pkcs12_key(digest, purpose, &password, salt, rounds, length, &mut Budget::new()).unwrap().to_vec()
        };
        let salt = [0x0a, 0x58, 0xcf, 0x64, 0x53, 0x0d, 0x82, 0x3f];
        let expected = [
            0x8a, 0xaa, 0xe6, 0x29, 0x7b, 0x6c, 0xb0, 0x46, 0x42, 0xab, 0x5b, 0x07, 0x78, 0x51, 0x28, 0x4e,
            0xb7, 0x12, 0x8f, 0x1a, 0x2a, 0x7f, 0xbc, 0xa3,
        ];
        assert_eq!(key(Purpose::Key, "smeg", &salt, 1, 24), expected);
        assert_eq!(key(Purpose::Iv, "smeg", &salt, 1, 8), [0x79, 0x99, 0x3d, 0xfe, 0x04, 0x8d, 0x3b, 0x76]);
    }
}
