//! A token for each administration.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::testing::logs::Logs;

const OTHER: &str = "99999999900017";

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A folder of mode 700 with these token files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tokens")).unwrap();
    for (name, text) in files {
        write(&dir.path().join("tokens").join(name), text, 0o600);
    }
    dir
}

fn tokens(dir: &Path, shared: Option<&str>) -> Tokens {
    let shared = shared.map(|text| {
        write(&dir.join("shared"), text, 0o600);
        TokenSource::file(&dir.join("shared")).unwrap()
    });
    Tokens { own: Some(TokenFolder::open(&dir.join("tokens")).unwrap()), shared }
}

async fn token(tokens: &Tokens, siret: &str) -> Result<String, SourceFault> {
    tokens.of(siret.parse().unwrap()).await.map(|token| token.expose().to_owned())
}

#[tokio::test]
async fn each_recipient_is_asked_for_with_its_own_token() {
    let dir = folder(&[(RECIPIENT, "of-the-recipient\n"), (OTHER, "of-the-other")]);
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let config = ApiParticulierConfig { token_env: None, token_dir: Some("tokens".into()), ..config(&server.url()) };
    let connector = ApiParticulier::open(&config, dir.path()).unwrap();
    connector.fetch(asked(&["valeur"]).fetch()).await.unwrap();
    assert!(server.requests()[0].contains("authorization: Bearer of-the-recipient\r\n"));
    assert_eq!(token(&connector.tokens, OTHER).await.unwrap(), "of-the-other");
}

#[tokio::test]
async fn a_recipient_without_a_token_is_not_asked_for() {
    let dir = folder(&[(OTHER, "of-the-other")]);
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let config = ApiParticulierConfig { token_env: None, token_dir: Some("tokens".into()), ..config(&server.url()) };
    let connector = ApiParticulier::open(&config, dir.path()).unwrap();
    let fault = connector.fetch(asked(&["valeur"]).fetch()).await.unwrap_err();
    assert_eq!(fault.outcome(), OutcomeCode::NotAuthorised);
    assert_eq!(server.requests(), Vec::<String>::new());
    // With the person's own token no other is needed.
    assert!(connector.fetch(asked(&["valeur"]).with_token("fc-token-1").fetch()).await.is_ok());
}

#[tokio::test]
async fn the_shared_token_is_for_those_without_their_own_and_for_nobody_else() {
    let dir = folder(&[(RECIPIENT, "two words"), (OTHER, "of-the-other")]);
    let tokens = tokens(dir.path(), Some("for-all"));
    assert_eq!(token(&tokens, OTHER).await.unwrap(), "of-the-other");
    assert_eq!(token(&tokens, "99999999800019").await.unwrap(), "for-all");
    let fault = token(&tokens, RECIPIENT).await.unwrap_err();
    assert_eq!(fault, SourceFault::NotAuthorised("the token file of the recipient cannot be used"));
}

#[tokio::test(start_paused = true)]
async fn token_files_that_come_change_and_go_are_followed() {
    let dir = folder(&[]);
    let tokens = tokens(dir.path(), None);
    let path = dir.path().join("tokens").join(RECIPIENT);
    let look = async || {
        tokio::time::advance(Duration::from_secs(1)).await;
        token(&tokens, RECIPIENT).await.ok()
    };
    assert_eq!(look().await, None);
    write(&path, "first", 0o600);
    assert_eq!(look().await.as_deref(), Some("first"));
    write(&path, "second-one", 0o600);
    assert_eq!(look().await.as_deref(), Some("second-one"));
    // One that is being written, or that others may read, leaves the one in use.
    for (text, mode) in [("", 0o600), ("readable-by-all", 0o644)] {
        write(&path, text, mode);
        assert_eq!(look().await.as_deref(), Some("second-one"));
    }
    // Whose file is gone has no right any more.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(look().await, None);
    // What was never in use and cannot be used is no token, and no reason for the shared one.
    write(&path, "readable-by-all", 0o644);
    assert_eq!(look().await, None);
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    write(&path, "readable-by-me", 0o600);
    assert_eq!(look().await.as_deref(), Some("readable-by-me"));
}

#[test]
fn the_operator_is_told_of_files_that_are_of_no_use() {
    let (logs, _capture) = Logs::capture();
    let dir = folder(&[("..data", "x"), ("mairie.token", "x"), ("12345678901234", "x"), (RECIPIENT, "two words")]);
    TokenFolder::open(&dir.path().join("tokens")).unwrap();
    let text = logs.text();
    assert_eq!(text.matches("is not named by a SIRET").count(), 2, "{text}");
    assert_eq!(text.matches("a token file cannot be used").count(), 1, "{text}");
    assert!(!text.contains("two words"));
}

#[test]
fn a_folder_that_is_none_or_that_others_may_write_is_refused() {
    let dir = folder(&[]);
    let path = dir.path().join("tokens");
    std::fs::write(dir.path().join("file"), "").unwrap();
    for (path, problem) in
        [(dir.path().join("absent"), "cannot be opened"), (dir.path().join("file"), "is not a folder")]
    {
        let text = TokenFolder::open(&path).unwrap_err().to_string();
        assert!(text.starts_with("token_dir: ") && text.contains(problem), "{text}");
    }
    std::fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    let text = TokenFolder::open(&path).unwrap_err().to_string();
    assert!(text.contains("chmod go-w"), "{text}");
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    assert!(TokenFolder::open(&path).is_ok());
}
