//! Property tests of masks.

use proptest::prelude::*;

use super::*;

fn in_pieces<'a>(mask: &Mask, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stream = mask.stream();
    let mut out: Vec<u8> = pieces.into_iter().flat_map(|piece| stream.push(piece)).collect();
    out.extend(stream.finish());
    out
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn secrets_are_masked_and_the_rest_stays() {
    let mask = Mask::new(["hunter22", "22-and-more"]);
    for (text, expected) in [
        ("", ""),
        ("hunter2", "hunter2"),
        ("a hunter22 b", "a *** b"),
        ("hunter22hunter22", "***"),
        ("hunter22-and-more.", "***."),
        ("hunthunter22 hunter2hunter22", "hunt*** hunter2***"),
        ("key=aHVudGVyMjI=;", "key=***;"),
    ] {
        assert_eq!(mask.text(text), expected);
        assert_eq!(mask.is_in(text), expected.contains('*'), "{text}");
    }
}

#[test]
fn only_what_may_begin_a_secret_is_held_back() {
    let mask = Mask::new(["hunter22"]);
    let mut stream = mask.stream();
    assert_eq!(stream.push(b"password: "), b"password: ");
    assert_eq!(stream.push(b"a hunt"), b"a ");
    assert_eq!(stream.push(b"er"), b"");
    assert_eq!(stream.push(b"s"), b"hunters");
    assert_eq!(stream.push(b"hunter2"), b"");
    assert_eq!(stream.push(b"2"), b"");
    assert_eq!(stream.push(b"!"), b"***!");
    assert_eq!(stream.push(b"hunter"), b"");
    assert_eq!(stream.finish(), b"hunter");
}

#[test]
fn a_failure_is_masked_and_an_output_with_a_secret_is_refused() {
    let mask = Mask::new(["hunter22"]);
    let failure = Failure::new(Cause::exit_code(3), "no hunter22").raised("a.hunter22");
    let masked = mask.failure(&failure);
    assert_eq!((&*masked.message, &*masked.exception), ("no ***", "a.***"));
    assert_eq!(masked.cause, failure.cause);
    let outputs = |json: &str| Outputs([("out".into(), kahn_model::Value::from_json(json))].into());
    assert!(mask.checked(outputs("\"hunter2\"")).is_ok());
    let refused = mask.checked(outputs("[\"hunter22\"]")).unwrap_err();
    assert_eq!(refused.cause.kind, CauseKind::Policy);
    assert!(refused.message.contains("`out`") && !refused.message.contains("hunter22"));
}

/// Secrets and texts over a small alphabet, so that they overlap in all possible ways.
fn secret() -> impl Strategy<Value = String> {
    "[ab]{8,12}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn pieces_do_not_matter_and_no_secret_is_left(
        secrets in proptest::collection::vec(secret(), 1..4),
        parts in proptest::collection::vec(prop_oneof![Just(None), "[abc]{0,9}".prop_map(Some)], 0..8),
        cuts in proptest::collection::vec(proptest::collection::vec(1..20_usize, 1..30), 50),
    ) {
        let text: String = parts.into_iter().map(|part| part.unwrap_or_else(|| secrets[0].clone())).collect();
        let mask = Mask::new(secrets.iter().map(String::as_str));
        let whole = in_pieces(&mask, [text.as_bytes()]);
        for secret in &secrets {
            prop_assert!(!holds(&whole, secret.as_bytes()), "{text}");
        }
        prop_assert_eq!(whole.contains(&b'*'), secrets.iter().any(|secret| text.contains(secret)));
        let bytes = text.as_bytes();
        prop_assert_eq!(&in_pieces(&mask, bytes.chunks(1)), &whole);
        for lengths in cuts {
            let mut rest = bytes;
            let mut lengths = lengths.into_iter().cycle();
            let pieces = std::iter::from_fn(|| {
                let (piece, after) = rest.split_at(rest.len().min(lengths.next()?));
                rest = after;
                (!piece.is_empty()).then_some(piece)
            });
            prop_assert_eq!(&in_pieces(&mask, pieces), &whole);
        }
    }
}
