//! Where the broker's token comes from, and who may read it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_file_is_read_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    write(&path, "first\n", 0o600);
    let source = TokenSource::file(&path).unwrap();
    assert_eq!(source.current().await.expose(), "first");

    write(&path, "the-second\n", 0o600);
    assert_eq!(source.current().await.expose(), "first", "the file is looked at once a second");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(source.current().await.expose(), "the-second");

    // What cannot be used leaves the token in use.
    for (text, mode) in [("", 0o600), ("two words", 0o600), ("readable-by-all", 0o644)] {
        write(&path, text, mode);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(source.current().await.expose(), "the-second");
    }
    std::fs::remove_file(&path).unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(source.current().await.expose(), "the-second");
    write(&path, "third-one", 0o400);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(source.current().await.expose(), "third-one");
}

#[test]
fn a_token_that_others_may_read_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    for mode in [0o640, 0o604, 0o660, 0o644] {
        write(&path, "secret-token", mode);
        let text = TokenSource::file(&path).unwrap_err().to_string();
        let remedy = format!("chmod 600 {}", path.display());
        assert!(text.starts_with("token_file: ") && text.contains(&remedy), "{text}");
        assert!(!text.contains("secret-token"));
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    for text in ["", "\n", "a b", "a\nb", "é", &"x".repeat(9_000)] {
        write(&path, text, 0o600);
        assert!(TokenSource::file(&path).is_err(), "{}", text.len());
    }
    assert!(TokenSource::file(&dir.path().join("absent")).unwrap_err().to_string().contains("cannot be opened"));
    let text = TokenSource::environment("UNEFOIS_TEST_NO_SUCH_VARIABLE").unwrap_err().to_string();
    assert!(text.contains("UNEFOIS_TEST_NO_SUCH_VARIABLE is not set"), "{text}");
}

#[tokio::test]
async fn a_token_is_never_printed() {
    let source = TokenSource::environment(TOKEN_ENV).unwrap();
    assert_eq!(source.current().await.expose(), TOKEN);
    assert_eq!(format!("{source:?}"), "Environment([secret])");
}
