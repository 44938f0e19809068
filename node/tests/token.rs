//! Tokens that the program makes are tokens that gateways accept, under every algorithm.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::time::Duration;

use herenow::token::{Signer, Watch};
use herenow_gateway_core::Grants;
use herenow_gateway_server::auth::{Algorithm, AuthConfig, KeySource, Verifier};
use herenow_protocol::WallTime;

const MINUTE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "tokens run out by the wall clock")]
fn now() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    WallTime::from_millis(herenow_protocol::time::millis(since))
}

fn signer(algorithm: Algorithm, key: &[u8]) -> Signer {
    Signer::new(algorithm, key, Some("shop".to_owned()), Some("herenow".to_owned())).unwrap()
}

#[test]
fn private_keys_make_tokens_that_public_keys_verify() {
    for (algorithm, kind) in [
        (Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256),
        (Algorithm::EdDSA, &rcgen::PKCS_ED25519),
        (Algorithm::RS256, &rcgen::PKCS_RSA_SHA256),
    ] {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let path = std::env::temp_dir().join(format!("herenow-token-{}-{algorithm:?}", std::process::id()));
        std::fs::write(&path, pair.public_key_pem()).unwrap();
        let config = AuthConfig::new(algorithm, KeySource::PublicKeyFile(path.clone()), "shop", "herenow");
        let verifier = Verifier::load(&config);
        std::fs::remove_file(&path).unwrap();
        let signer = signer(algorithm, pair.serialize_pem().as_bytes());
        let token = signer.sign("ana", "presence:write", Watch::of(vec!["ben".to_owned()]), MINUTE).unwrap();
        let verified = verifier.unwrap().verify(&token, now()).unwrap();
        assert_eq!(verified.viewer.user.as_str(), "ana");
        assert!(verified.scopes.write && !verified.scopes.admin);
        assert!(matches!(verified.viewer.grants, Grants::Some(users) if users.len() == 1));
    }
}

#[test]
fn a_key_of_another_kind_is_refused() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for algorithm in [Algorithm::ES256, Algorithm::RS256] {
        assert!(
            Signer::new(algorithm, pair.serialize_pem().as_bytes(), None, None).is_err(),
            "{algorithm:?}"
        );
    }
    assert!(Signer::new(Algorithm::EdDSA, b"no key at all", None, None).is_err());
}
