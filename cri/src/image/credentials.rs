//! What a kubelet gives along to a pull.

use agent_engine::view::Credentials;
use tonic::Status;

use cri_api::AuthConfig;

/// None where nothing was given.
///
/// # Errors
/// `InvalidArgument`: the pair of user and password cannot be read.
pub fn read(auth: AuthConfig) -> Result<Option<Credentials>, Status> {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let mut credentials = Credentials {
        username: auth.username,
        password: auth.password,
        identity_token: some(auth.identity_token),
        registry_token: some(auth.registry_token),
        server: some(auth.server_address),
    };
    if credentials.username.is_empty() && !auth.auth.is_empty() {
        let (username, password) =
            Credentials::read_pair(&auth.auth).map_err(|error| Status::invalid_argument(format!("auth: {error}")))?;
        (credentials.username, credentials.password) = (username, password);
    }
    Ok((!credentials.is_empty()).then_some(credentials))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pairs_names_and_tokens_are_read() {
        assert!(read(AuthConfig::default()).unwrap().is_none());
        let pair = AuthConfig {
            auth: "dTpwOnE=".to_owned(),
            ..AuthConfig::default()
        };
        let read_pair = read(pair).unwrap().unwrap();
        assert_eq!((read_pair.username.as_str(), read_pair.password.as_str()), ("u", "p:q"));
        let token = AuthConfig {
            registry_token: "t".to_owned(),
            ..AuthConfig::default()
        };
        assert_eq!(read(token).unwrap().unwrap().registry_token.as_deref(), Some("t"));
        for bad in ["!", "bm9jb2xvbg=="] {
            let auth = AuthConfig {
                auth: bad.to_owned(),
                password: "secret".to_owned(),
                ..AuthConfig::default()
            };
            assert!(!format!("{auth:?}").contains("secret"));
            assert_eq!(read(auth).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }
}
