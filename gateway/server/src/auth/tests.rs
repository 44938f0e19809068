//! Tokens good and bad, as tables.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use herenow_gateway_core::Grants;
use herenow_protocol::{UserId, WallTime};
use jsonwebtoken::{EncodingKey, crypto};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "a secret of the tests, long enough for HS256";
const NOW: u64 = 1_767_225_600;

pub(crate) fn hs256_config() -> AuthConfig {
    AuthConfig::new(Algorithm::HS256, KeySource::Secret(SECRET.to_owned()), "https://issuer", "herenow")
}

fn verifier() -> Verifier {
    Verifier::load(&hs256_config()).unwrap()
}

fn now() -> WallTime {
    WallTime::from_millis(NOW * 1_000)
}

pub(crate) fn test_now() -> WallTime {
    now()
}

pub(crate) fn good_token() -> String {
    token(&claims())
}

pub(crate) fn good_verified(now: WallTime) -> Verified {
    let mut verified = check(&good_token()).unwrap();
    verified.expires = now.after(Duration::from_secs(600));
    verified
}

fn claims() -> Value {
    json!({ "iss": "https://issuer", "aud": "herenow", "sub": "ana", "exp": NOW + 600, "iat": NOW })
}

/// The claims with one of them changed, or with `null` taken away.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    claims
}

fn signed_as(head: &str, body: &str, key: &EncodingKey, algorithm: jsonwebtoken::Algorithm) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(body));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn signed(head: &Value, body: &str) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    signed_as(&head.to_string(), body, &key, jsonwebtoken::Algorithm::HS256)
}

fn token(claims: &Value) -> String {
    signed(&json!({ "alg": "HS256", "typ": "JWT" }), &claims.to_string())
}

fn check(token: &str) -> Result<Verified, AuthError> {
    verifier().verify(token, now())
}

#[test]
fn a_good_token_says_who_may_see_whom() {
    let verified = check(&token(&claims())).unwrap();
    assert_eq!(verified.viewer.user.as_str(), "ana");
    assert_eq!(verified.viewer.grants, Grants::Nobody);
    assert_eq!(verified.scopes, Scopes::default());
    assert_eq!(verified.expires, WallTime::from_millis((NOW + 600) * 1_000));
}

#[test]
fn scopes_and_watch_decide_the_rights() {
    let rights = |name: &str, value: Value| check(&token(&with(name, value))).unwrap();
    assert_eq!(rights("scope", json!("presence:read")).viewer.grants, Grants::Everybody);
    assert!(rights("scope", json!("openid presence:write")).scopes.write);
    assert!(!rights("scope", json!("presence:writer")).scopes.write);
    let admin = rights("scope", json!(["presence:admin"]));
    assert_eq!((admin.scopes, admin.viewer.grants), (Scopes { write: true, admin: true }, Grants::Everybody));
    assert_eq!(rights("watch", json!("*")).viewer.grants, Grants::Everybody);
    let Grants::Some(users) = rights("watch", json!(["bo", "*.>"])).viewer.grants else { panic!("no list") };
    assert!(users.contains(&UserId::new("bo").unwrap()) && users.contains(&UserId::new("*.>").unwrap()));
}

#[test]
fn tokens_at_the_edge_are_accepted() {
    let good = [
        ("expired within the leeway", with("exp", json!(NOW - 4))),
        ("fractional expiry", with("exp", json!(NOW as f64 + 0.5))),
        ("audience in a list", with("aud", json!(["other", "herenow"]))),
        ("not before, within the leeway", with("nbf", json!(NOW + 4))),
        ("issued by a clock that is ahead", with("iat", json!(NOW + 4))),
        ("no iat", with("iat", Value::Null)),
        ("good for a day", with("exp", json!(NOW + 24 * 3600))),
        ("a subject of odd characters", with("sub", json!("*.> 😀"))),
    ];
    for (what, claims) in good {
        assert!(check(&token(&claims)).is_ok(), "{what}: {:?}", check(&token(&claims)));
    }
}

#[test]
fn bad_claims_are_refused() {
    let bad = [
        ("no exp", with("exp", Value::Null)),
        ("no aud", with("aud", Value::Null)),
        ("no sub", with("sub", Value::Null)),
        ("no iss", with("iss", Value::Null)),
        ("another audience", with("aud", json!("other"))),
        ("no audience in the list", with("aud", json!([]))),
        ("audience of the wrong type", with("aud", json!([1]))),
        ("another issuer", with("iss", json!("https://issuer/"))),
        ("issuer in a list", with("iss", json!(["https://issuer"]))),
        ("exp as text", with("exp", json!((NOW + 600).to_string()))),
        ("exp of 2^64", with("exp", json!(1.844_674_407_370_955_2e19))),
        ("exp of 1e300", with("exp", json!(1e300))),
        ("good for more than a day", with("exp", json!(NOW + 24 * 3600 + 10))),
        ("nbf in the future", with("nbf", json!(NOW + 60))),
        ("nbf as text", with("nbf", json!("0"))),
        ("iat in the future", with("iat", json!(NOW + 60))),
        ("iat long ago", with("iat", json!(NOW - 24 * 3600))),
        ("sub empty", with("sub", json!(""))),
        ("sub a number", with("sub", json!(7))),
        ("sub a list", with("sub", json!(["ana"]))),
        ("sub with a line break", with("sub", json!("a\r\nb"))),
        ("sub of 129 bytes", with("sub", json!("x".repeat(129)))),
        ("watch of the wrong type", with("watch", json!(7))),
        ("watch of one user as text", with("watch", json!("bo"))),
        ("watch of no user", with("watch", json!([""]))),
        ("scope of the wrong type", with("scope", json!({}))),
    ];
    for (what, claims) in bad {
        let result = check(&token(&claims));
        assert!(matches!(result, Err(AuthError::Invalid(_))), "{what}: {result:?}");
    }
    assert_eq!(check(&token(&with("exp", json!(NOW - 30)))), Err(AuthError::Expired));
    assert_eq!(check(&token(&with("exp", json!(-1)))), Err(AuthError::Expired));
}

#[test]
fn heads_that_choose_their_own_verification_are_refused_or_ignored() {
    let body = claims().to_string();
    for alg in [json!("none"), json!("None"), json!("HS384"), json!("RS256"), json!(["HS256"]), json!(null)] {
        let result = check(&signed(&json!({ "alg": alg }), &body));
        assert!(matches!(result, Err(AuthError::Invalid(_))), "{alg}: {result:?}");
    }
    assert!(check(&signed(&json!({ "typ": "JWT" }), &body)).is_err(), "no alg");
    for crit in [json!(["exp"]), json!([]), json!("b64")] {
        let result = check(&signed(&json!({ "alg": "HS256", "crit": crit }), &body));
        assert_eq!(result, Err(AuthError::Invalid("crit")));
    }
    for name in ["kid", "jku", "x5u", "jwk"] {
        let head = json!({ "alg": "HS256", name: "../../dev/null" });
        assert!(check(&signed(&head, &body)).is_ok(), "{name} is not looked at");
    }
}

#[test]
fn malformed_tokens_are_refused() {
    let good = token(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = EncodingKey::from_secret(b"another secret that is long enough for HS256");
    let head = json!({ "alg": "HS256" }).to_string();
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(1_000), "]".repeat(1_000));
    let twice = claims().to_string().replacen("\"sub\"", "\"sub\":\"eve\",\"sub\"", 1);
    let bad = [
        ("two parts", message.to_owned()),
        ("four parts", format!("{good}.x")),
        ("no signature", format!("{message}.")),
        ("half a signature", format!("{message}.{}", &signature[..signature.len() / 2])),
        ("padding", format!("{good}=")),
        ("another key", signed_as(&head, &claims().to_string(), &other, jsonwebtoken::Algorithm::HS256)),
        ("HS384 under the key", {
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            signed_as(&head, &claims().to_string(), &key, jsonwebtoken::Algorithm::HS384)
        }),
        ("12 KB", token(&with("pad", json!("x".repeat(12_000))))),
        ("deeply nested", signed(&json!({ "alg": "HS256" }), &deep)),
        ("sub twice", signed(&json!({ "alg": "HS256" }), &twice)),
        ("claims in a list", signed(&json!({ "alg": "HS256" }), "[]")),
        ("not base64", "a b.c d.e f".to_owned()),
        (
            "not UTF-8 inside",
            format!("{}.{}.x", URL_SAFE_NO_PAD.encode([0xff]), URL_SAFE_NO_PAD.encode([0xff])),
        ),
    ];
    for (what, token) in bad {
        let result = check(&token);
        assert!(matches!(result, Err(AuthError::Invalid(_))), "{what}: {result:?}");
    }
    assert_eq!(check(""), Err(AuthError::Missing));
}

/// Removes its file in the end.
struct TempFile(std::path::PathBuf);

impl TempFile {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("herenow-auth-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn public_keys_verify_and_cannot_be_used_as_secrets() {
    let cases = [
        (Algorithm::ES256, "ES256", &rcgen::PKCS_ECDSA_P256_SHA256, jsonwebtoken::Algorithm::ES256),
        (Algorithm::EdDSA, "EdDSA", &rcgen::PKCS_ED25519, jsonwebtoken::Algorithm::EdDSA),
        (Algorithm::RS256, "RS256", &rcgen::PKCS_RSA_SHA256, jsonwebtoken::Algorithm::RS256),
    ];
    for (algorithm, name, kind, library) in cases {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let file = TempFile::new(name, &pair.public_key_pem());
        let source = KeySource::PublicKeyFile(file.0.clone());
        let config = AuthConfig::new(algorithm, source, "https://issuer", "herenow");
        let verifier = Verifier::load(&config).unwrap();
        let private = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(private.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(private.as_bytes()),
            Algorithm::ES256 | Algorithm::HS256 => EncodingKey::from_ec_pem(private.as_bytes()),
        };
        let head = json!({ "alg": name }).to_string();
        let good = signed_as(&head, &claims().to_string(), &key.unwrap(), library);
        assert!(verifier.verify(&good, now()).is_ok(), "{name}");
        for head in [json!({ "alg": "HS256" }), json!({ "alg": name })] {
            let secret = EncodingKey::from_secret(pair.public_key_pem().as_bytes());
            let forged =
                signed_as(&head.to_string(), &claims().to_string(), &secret, jsonwebtoken::Algorithm::HS256);
            assert!(verifier.verify(&forged, now()).is_err(), "{name} forged");
        }
    }
}

#[test]
fn a_second_key_is_accepted_while_one_replaces_another() {
    let mut config = hs256_config();
    config.keys.insert(0, KeySource::Secret("the next secret, also long enough for HS256".to_owned()));
    assert!(Verifier::load(&config).unwrap().verify(&token(&claims()), now()).is_ok());
}

#[test]
fn bad_configurations_name_the_key() {
    let refused = |change: fn(&mut AuthConfig)| {
        let mut config = hs256_config();
        change(&mut config);
        Verifier::load(&config).unwrap_err()
    };
    assert!(refused(|c| c.keys.clear()).starts_with("keys"));
    assert!(refused(|c| c.keys = vec![KeySource::Secret("short".to_owned())]).contains("32 bytes"));
    assert!(
        refused(|c| c.keys = vec![KeySource::SecretFile("/nonexistent".into())]).contains("/nonexistent")
    );
    assert!(refused(|c| c.algorithm = Algorithm::ES256).contains("public_key_file"));
    assert!(refused(|c| c.issuer.clear()).starts_with("issuer"));
    assert!(refused(|c| c.audience.clear()).starts_with("audience"));
    assert!(refused(|c| c.leeway = Duration::from_secs(6)).starts_with("leeway"));
    let file = TempFile::new("wrong", "not a key");
    let source = KeySource::PublicKeyFile(file.0.clone());
    assert!(Verifier::load(&AuthConfig::new(Algorithm::RS256, source, "i", "a")).is_err());
}

#[test]
fn secrets_are_never_shown() {
    let config = hs256_config();
    assert!(!format!("{config:?}").contains(SECRET));
    assert!(!serde_json::to_string(&config).unwrap().contains(SECRET));
}
