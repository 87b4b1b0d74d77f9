//! Malicious files: each is answered quickly and with little memory.
//!
//! The only test of its process, because it measures the memory of the process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use kahn_spec::compile;

/// Maximum processor time. Only release builds are measured; debug builds only have to finish.
const TIME_MAX: Duration =
    if cfg!(debug_assertions) { Duration::from_secs(20) } else { Duration::from_millis(100) };
const MEMORY_MAX: u64 = 64 << 20;

fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..10 {
        let _ = write!(laughs, "a{level}: &a{level} [");
        (0..9).for_each(|_| _ = write!(laughs, "*a{}, ", level - 1));
        laughs.push_str("]\n");
    }
    let mut keys = String::new();
    let mut json_keys = "{\"tasks\":{\"a\":{\"noop\":true}}".to_owned();
    for key in 0..1_000_000 {
        let _ = writeln!(keys, "k{key}: 1");
        let _ = write!(json_keys, ",\"k{key}\":1");
    }
    json_keys.push('}');
    let merges: String = (1..2000).fold("m0: &m0 {a: 1}\n".to_owned(), |mut text, level| {
        let _ = writeln!(text, "m{level}: &m{level} {{<<: *m{}, b{level}: 1}}", level - 1);
        text
    });
    let digits = "9".repeat(100_000);
    let nested_json = format!("{{\"tasks\":{}1{}}}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
    let deep_matrix =
        format!("{{\"tasks\":{{\"a\":{{\"matrix\":{{\"v\":[{}]}}}}}}}}", "[".repeat(100_000));
    let wide = (0..7).map(|axis| format!("v{axis}: [1,2,3,4,5,6,7,8,9,10]")).collect::<Vec<_>>();
    vec![
        ("billion laughs", laughs.into_bytes()),
        ("nested lists", "[".repeat(100_000).into_bytes()),
        ("nested lists in a task", format!("tasks: {{a: {}", "[".repeat(100_000)).into_bytes()),
        ("nested maps", "{a: ".repeat(100_000).into_bytes()),
        (
            "nested blocks",
            (0..3000).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>().into_bytes(),
        ),
        ("nested JSON", nested_json.into_bytes()),
        ("nested JSON lists", deep_matrix.into_bytes()),
        ("a million keys", keys.into_bytes()),
        ("a million JSON keys", json_keys.into_bytes()),
        (
            "a huge integer",
            format!("tasks: {{a: {{noop: true, priority: {digits}}}}}").into_bytes(),
        ),
        ("a huge JSON integer", format!("{{\"policy\": {{\"priority\": {digits}}}}}").into_bytes()),
        ("invalid UTF-8", b"tasks:\n  a: \xff\xfe\n".to_vec()),
        ("merge keys", merges.into_bytes()),
        (
            "a long text behind many aliases",
            format!("params: {{a: &a {}, b: [{}]}}", "x".repeat(100_000), "*a, ".repeat(9_000))
                .into_bytes(),
        ),
        ("a merge of itself", b"a: &a {<<: *a}\n".to_vec()),
        (
            "a wide matrix",
            format!("tasks: {{a: {{noop: true, matrix: {{{}}}}}}}", wide.join(", ")).into_bytes(),
        ),
        ("an endless quote", format!("tasks: \"{}", "x".repeat(1_000_000)).into_bytes()),
        ("a wall of dashes", "- ".repeat(100_000).into_bytes()),
        ("a wall of question marks", "? ".repeat(100_000).into_bytes()),
        (
            "a wall of anchors",
            (0..100_000).map(|n| format!("- &a{n} x\n")).collect::<String>().into_bytes(),
        ),
    ]
}

/// Returns the peak resident memory of this process since the last reset, if available.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Returns the processor time of this process, which does not depend on other processes.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(10 * (user + system)))
}

#[test]
fn bombs_are_refused_soon_and_in_little_memory() {
    let mut too_much = Vec::new();
    for (name, source) in bombs() {
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let before = peak_memory();
        let started = processor_time().unwrap_or_default();
        let result = compile(&source, name, &BTreeMap::new());
        let took = processor_time().unwrap_or_default().saturating_sub(started);
        let grown =
            peak_memory().zip(before).map_or(0, |(after, before)| after.saturating_sub(before));
        let found = result.expect_err(name);
        let first = &found.items[0];
        let (kib, code) = (grown >> 10, first.code.as_str());
        println!("{name}: {took:?}, {kib} KiB: {code} {}", first.message);
        let rendered = found.render();
        assert!(!rendered.contains("budget"), "{rendered}");
        let n_rendered = rendered.len();
        if took > TIME_MAX || grown > MEMORY_MAX || n_rendered > 64 << 10 {
            too_much.push(format!("{name}: {took:?}, {grown} bytes, {n_rendered} rendered"));
        }
    }
    assert!(too_much.is_empty(), "{too_much:#?}");
}
