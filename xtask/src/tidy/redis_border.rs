//! Only `kahn-store/src/redis*` uses the `redis` crate; tests may use it, too.
//!
//! In a file that declares `mod redis`, the name refers to that module.

use super::Problem;
use super::source::{SourceFile, Tree, find_word};

const HOME: &str = "crates/kahn-store/src/redis";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    tree.rust()
        .filter(|file| !file.path.starts_with(HOME) && !file.code.contains("mod redis;"))
        .flat_map(check_file)
        .collect()
}

fn check_file(file: &SourceFile) -> impl Iterator<Item = Problem> {
    file.shipped_lines().filter(|(_, line)| names_redis(line)).map(|(number, _)| {
        Problem::new(&file.path, number, format!("`redis::` belongs into {HOME}*"))
    })
}

/// Returns whether the line refers to the crate: `kahn_store::redis::` is our module.
fn names_redis(line: &str) -> bool {
    find_word(line, "redis")
        .any(|at| line[at..].starts_with("redis::") && !line[..at].ends_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_is_found_outside_its_home() {
        for (path, text, count) in [
            ("crates/kahn-store/src/memory.rs", "use redis::Client;", 1),
            ("crates/kahn-coordinator/src/driver.rs", "let c = redis::Client::open();", 1),
            ("crates/kahn-store/src/redis.rs", "use redis::Client;", 0),
            ("crates/kahn-store/src/redis/term.rs", "use redis::Client;", 0),
            ("crates/kahn-store/tests/contract.rs", "use redis::Client;", 0),
            ("crates/kahn-store/src/lib.rs", "pub use redis::Client;", 1),
            ("crates/kahn-store/src/lib.rs", "mod redis;\npub use redis::Log;", 0),
            ("crates/kahn-store/src/lib.rs", "pub use self::redis::Log;", 0),
            ("crates/kahn-cli/src/main.rs", "// redis::Client\nlet url = \"redis://\";", 0),
        ] {
            assert_eq!(check(&Tree::of(&[(path, text)])).len(), count, "{path}");
        }
    }
}
