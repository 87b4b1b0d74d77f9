//! The encodings in which a secret may be printed.

/// The minimum length of a form. Shorter ones would match unrelated text.
const FORM_BYTES_MIN: usize = 8;
/// The line lengths of Base64 as printed by `base64` and in PEM files.
const LINES_OF_BASE64: [usize; 2] = [76, 64];

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters other than letters and digits that are not percent-encoded: by RFC 3986, in paths, by
/// `encodeURIComponent`, and in HTML forms.
const PLAIN_IN_URLS: [&str; 4] = ["-_.~", "-_.~/", "-_.~!'()*", "-_.*"];

/// Calls `found` with each form of a secret: the secret itself, each of its lines, and these with
/// the usual escapes (such as JSON) and percent-encoded; and the secret in Base64 at any position
/// of the encoded text.
pub(super) fn of(secret: &str, found: &mut impl FnMut(&[u8])) {
    let mut found = |form: &[u8]| {
        if form.len() >= FORM_BYTES_MIN {
            found(form);
        }
    };
    let lines = secret.lines().map(str::trim).filter(|line| !is_public(line));
    let lines: Vec<&str> = lines.filter(|_| secret.contains('\n')).collect();
    for text in [secret, secret.trim()].into_iter().chain(lines.iter().copied()) {
        found(text.as_bytes());
        found(text.escape_debug().to_string().as_bytes());
        found(text.escape_default().to_string().as_bytes());
        for form in json(text) {
            found(form.as_bytes());
        }
        for plain in PLAIN_IN_URLS {
            for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
                let form = percent(text, plain, digits);
                found(form.as_bytes());
                found(form.replace("%20", "+").as_bytes());
            }
        }
    }
    for alphabet in [STANDARD, URL_SAFE] {
        let whole = base64(secret.as_bytes(), 0, alphabet, true);
        found(&whole);
        let padded = [&whole[..], &b"=="[..(4 - whole.len() % 4) % 4]].concat();
        found(&padded);
        for offset in 0..3 {
            found(&base64(secret.as_bytes(), offset, alphabet, false));
        }
        let steady = base64(secret.as_bytes(), 0, alphabet, false);
        for n in LINES_OF_BASE64 {
            steady.chunks(n).for_each(&mut found);
        }
    }
}

/// Returns whether a line contains no secret, such as `-----BEGIN PRIVATE KEY-----`.
fn is_public(line: &str) -> bool {
    line.starts_with("-----")
}

/// Returns the text as in a JSON string, in variants with optional escapes, and HTML-escaped.
fn json(text: &str) -> Vec<String> {
    let quoted = serde_json::Value::from(text).to_string();
    let plain = quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned();
    let mut ascii = String::new();
    for c in plain.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    let slashes = plain.replace('/', "\\/");
    let unquoted = plain.replace("\\\"", "\"");
    let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    vec![plain, ascii, slashes, unquoted, html]
}

fn percent(text: &str, plain: &str, digits: &[u8; 16]) -> String {
    let mut out = String::with_capacity(3 * text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || plain.contains(c) && byte.is_ascii() {
            out.push(c);
        } else {
            out.push('%');
            out.push(char::from(digits[usize::from(byte >> 4)]));
            out.push(char::from(digits[usize::from(byte & 15)]));
        }
    }
    out
}

/// Returns the Base64 digits of `bytes` preceded by `offset` other bytes: only the digits that
/// depend on `bytes` alone, and with `is_end` also the last digit at the end of the text.
fn base64(bytes: &[u8], offset: usize, alphabet: &[u8; 64], is_end: bool) -> Vec<u8> {
    let n_bits = 8 * (offset + bytes.len());
    let bit = |at: usize| {
        let byte = (at / 8).checked_sub(offset).and_then(|at| bytes.get(at)).copied().unwrap_or(0);
        usize::from(byte >> (7 - at % 8) & 1)
    };
    let first = (8 * offset).div_ceil(6);
    let last = if is_end { n_bits.div_ceil(6) } else { n_bits / 6 };
    let digit = |at: usize| (0..6).fold(0, |digit, n| digit << 1 | bit(6 * at + n));
    (first..last).map(|at| alphabet[digit(at)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(secret: &str) -> Vec<String> {
        let mut all = Vec::new();
        of(secret, &mut |form| all.push(String::from_utf8(form.to_vec()).unwrap()));
        all
    }

    #[test]
    fn usual_encodings_of_a_secret_are_known() {
        let secret = "p\u{e9}ss w\"rd/&<+>?~'\\x";
        let all = forms(secret);
        for expected in [
            secret,
            "p%C3%A9ss%20w%22rd%2F%26%3C%2B%3E%3F~%27%5Cx",
            "p%c3%a9ss%20w%22rd%2f%26%3c%2b%3e%3f~%27%5cx",
            "p%C3%A9ss+w%22rd%2F%26%3C%2B%3E%3F%7E%27%5Cx",
            "p%C3%A9ss%20w%22rd/%26%3C%2B%3E%3F~%27%5Cx",
            "p\u{e9}ss w\\\"rd/&<+>?~'\\\\x",
            "p\\u00e9ss w\\\"rd/&<+>?~'\\\\x",
            "p\u{e9}ss w\\\"rd\\/&<+>?~'\\\\x",
            "p\u{e9}ss w\"rd/&amp;&lt;+&gt;?~'\\x",
            // As printed by `base64`, and URL-safe.
            "cMOpc3MgdyJyZC8mPCs+P34nXHg=",
            "cMOpc3MgdyJyZC8mPCs-P34nXHg",
        ] {
            let is_known =
                all.iter().any(|form| expected == form || expected == format!("{form}="));
            assert!(is_known, "{expected}: {all:#?}");
        }
    }

    #[test]
    fn in_base64_a_secret_is_known_wherever_it_stands() {
        let secret = "canary-of-the-test";
        let all = forms(secret);
        for before in ["", "u", "us", "use", "user:"] {
            for after in ["", "x", "xy", "xyz"] {
                let text = format!("{before}{secret}{after}");
                let encoded = base64(text.as_bytes(), 0, STANDARD, true);
                let encoded = String::from_utf8(encoded).unwrap();
                assert!(all.iter().any(|form| encoded.contains(form.as_str())), "{text}");
            }
        }
        assert_eq!(base64(b"\xfb\xff\xfe", 0, URL_SAFE, true), b"-__-");
    }

    #[test]
    fn lines_are_known_but_for_short_and_public_ones() {
        let all = forms("-----BEGIN KEY-----\nMIIBVAIBADANBgkq\r\nshort\n-----END KEY-----\n");
        assert!(all.iter().any(|form| form == "MIIBVAIBADANBgkq"));
        assert!(!all.iter().any(|form| form == "short" || form == "-----END KEY-----"));
        assert!(forms("one line").iter().all(|form| form.len() >= FORM_BYTES_MIN));
    }
}
