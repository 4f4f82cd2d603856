//! Variables that belong together.

use crate::{Authority, ClientId, Env, Error, TenantId};

/// All of them, in the order of `names`, without blanks and line ends around them. Called where it is clear that they are
/// meant, so that a set with a gap is a mistake.
///
/// # Errors
///
/// `Config`, which names each that is missing; `whose` sets them, as the subject of a sentence.
pub(super) fn all<const N: usize>(
    env: &Env,
    whose: &str,
    names: [&'static str; N],
    advice: &'static str,
) -> Result<[String; N], Error> {
    let mut values = [const { String::new() }; N];
    let mut missing = Vec::new();
    for (value, name) in values.iter_mut().zip(names) {
        match env.get(name)? {
            Some(mut set) => {
                // In place, since one of them may be a secret.
                set.truncate(set.trim_end().len());
                set.drain(..set.len() - set.trim_start().len());
                *value = set;
            }
            None => missing.push(name),
        }
    }
    match &*missing {
        [] => Ok(values),
        [one] => Err(Error::config(format!("{whose}: {one} is not set")).with_advice(advice)),
        several => {
            Err(Error::config(format!("{whose}: {} are not set", several.join(" and "))).with_advice(advice))
        }
    }
}

/// Reads a tenant and a client id, and names the variable of the one that is malformed.
///
/// # Errors
///
/// `Config`.
pub(super) fn ids(tenant: (&str, &str), client_id: (&str, &str)) -> Result<(), Error> {
    TenantId::parse(tenant.1).map_err(|error| named(tenant.0, &error))?;
    ClientId::parse(client_id.1).map_err(|error| named(client_id.0, &error))?;
    Ok(())
}

pub(super) const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";

/// The cloud of [`AUTHORITY`], or what stands in for one: the public one where it is not set.
///
/// # Errors
///
/// `Config`.
pub(super) fn authority(env: &Env) -> Result<Authority, Error> {
    match env.get(AUTHORITY)? {
        Some(host) => Authority::custom(host.trim()).map_err(|error| named(AUTHORITY, &error)),
        None => Ok(Authority::public()),
    }
}

/// The same error, with the variable in front.
pub(super) fn named(variable: &str, error: &Error) -> Error {
    Error::new(error.kind(), format!("{variable}: {error}")).with_advice(error.advice().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_that_is_missing_is_named() {
        let env = Env::from_iter([("A", "1"), ("B", " "), ("D", "\t1 2\r\n")]);
        assert_eq!(all(&env, "it", ["A", "D"], "").unwrap(), ["1", "1 2"]);
        let told = |names: [&'static str; 3]| all(&env, "it", names, "do").unwrap_err().to_string();
        assert_eq!(told(["A", "B", "A"]), "it: B is not set");
        assert_eq!(told(["C", "A", "B"]), "it: C and B are not set");
    }

    #[test]
    fn a_malformed_id_is_told_with_its_variable_and_not_shown() {
        let id = "00001111-aaaa-2222-bbbb-3333cccc4444";
        assert!(ids(("T", "contoso.com"), ("C", id)).is_ok());
        for (tenant, client_id, name) in
            [("hunter2", id, "T: tenant: "), ("contoso.com", "hunter2", "C: client id: ")]
        {
            let error = ids(("T", tenant), ("C", client_id)).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
}
