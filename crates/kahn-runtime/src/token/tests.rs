//! Real files with real modes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn a_new_token_has_256_bits_and_is_never_the_same() {
    let token = Token::generate().unwrap();
    assert_eq!(token.expose().len(), PREFIX.len() + 64);
    assert!(!token.matches(Token::generate().unwrap().expose()));
}

#[test]
fn only_the_very_same_token_matches() {
    let token = Token::generate().unwrap();
    let text = token.expose().to_owned();
    assert!(token.matches(&text));
    for other in [&text[..text.len() - 1], &format!("{text}0"), "", "nothing"] {
        assert!(!token.matches(other), "{other}");
    }
}

#[test]
fn only_a_bearer_header_with_the_token_matches() {
    let token = Token::generate().unwrap();
    let text = token.expose();
    assert!(token.matches_header(Some(token.to_header().expose())));
    assert!(token.matches_header(Some(&format!("bearer {text}"))));
    for header in [None, Some(text), Some(&*format!("Basic {text}")), Some("Bearer nothing")] {
        assert!(!token.matches_header(header), "{header:?}");
    }
}

#[test]
fn short_or_unprintable_texts_are_refused_without_being_shown() {
    let long = "x".repeat(MAX_LENGTH + 1);
    for text in ["hunter2", "", "hunter2 hunter2 hunter2 hunter2 hunter2", long.as_str()] {
        let error = Token::from_secret(&Secret::new(text), "--token").unwrap_err().to_string();
        assert!(error.starts_with("--token is not a token"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_first_start_makes_a_private_file_and_later_ones_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/token");
    let first = Token::from_file_or_generate(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert!(Token::from_file_or_generate(&path).unwrap().matches(first.expose()));
    assert!(Token::from_file(&path).unwrap().matches(first.expose()));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn processes_that_start_at_once_agree_on_one_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let tokens: Vec<Token> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Token::from_file_or_generate(&path).unwrap())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(tokens.iter().all(|token| token.matches(tokens[0].expose())));
}

#[test]
fn a_file_open_to_others_is_refused_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    Token::from_file_or_generate(&path).unwrap();
    for mode in [0o644, 0o604, 0o620] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for read in [Token::from_file(&path), Token::from_file_or_generate(&path)] {
            let error = read.unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
            assert!(error.contains(&format!("mode {mode:03o}")), "{error}");
        }
    }
}

#[test]
fn a_missing_file_is_refused_where_none_may_be_made() {
    let error = Token::from_file(Path::new("/does/not/exist")).unwrap_err();
    assert!(error.to_string().contains("/does/not/exist"));
}

#[test]
fn only_root_may_let_a_group_read_a_token() {
    assert_ne!(0o640 & open_bits(1000), 0);
    assert_eq!(0o640 & open_bits(0), 0);
    assert_eq!(0o440 & open_bits(0), 0);
    for mode in [0o660, 0o650, 0o644, 0o641] {
        assert_ne!(mode & open_bits(0), 0, "{mode:o}");
    }
}
