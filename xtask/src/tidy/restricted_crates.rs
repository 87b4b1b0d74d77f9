//! Some crates are used only in the folders meant for them; tests may use them anywhere.
//!
//! In a file that declares `mod redis`, the name refers to that module.

use super::Problem;
use super::source::{SourceFile, Tree, find_word};

/// A crate that may not be used everywhere.
struct RestrictedCrate {
    /// The name of the crate in paths.
    krate: &'static str,
    /// Returns whether the file at a path may use it.
    allows: fn(&str) -> bool,
    rule: &'static str,
}

const RESTRICTED_CRATES: [RestrictedCrate; 2] = [
    RestrictedCrate {
        krate: "redis",
        allows: |path| path.starts_with("crates/kahn-store/src/redis"),
        rule: "`redis::` belongs into crates/kahn-store/src/redis*",
    },
    RestrictedCrate {
        krate: "tonic",
        allows: |path| !path.starts_with("crates/kahn-coordinator/src/service"),
        rule: "`tonic::` belongs into crates/kahn-coordinator/src/grpc: the service is independent \
               of the protocol",
    },
];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    RESTRICTED_CRATES
        .iter()
        .flat_map(|restricted| tree.rust().flat_map(|file| restricted.check(file)))
        .collect()
}

impl RestrictedCrate {
    fn check(&self, file: &SourceFile) -> Vec<Problem> {
        let is_module = file.code.contains(&format!("mod {};", self.krate));
        if is_module || (self.allows)(&file.path) {
            return Vec::new();
        }
        let lines = file.shipped_lines().filter(|(_, line)| self.is_named(line));
        lines.map(|(number, _)| Problem::new(&file.path, number, self.rule)).collect()
    }

    /// Returns whether the line refers to the crate: `kahn_store::redis::` is our module.
    fn is_named(&self, line: &str) -> bool {
        find_word(line, self.krate).any(|at| {
            let rest = &line[at + self.krate.len()..];
            rest.starts_with("::") && !line[..at].ends_with("::")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn redis_is_found_outside_its_home() {
        for (path, text, expected) in [
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
            assert_eq!(count(path, text), expected, "{path}");
        }
    }

    #[test]
    fn tonic_is_found_in_the_service_layer() {
        let uses = "use tonic::Status;";
        assert_eq!(count("crates/kahn-coordinator/src/service.rs", uses), 1);
        assert_eq!(count("crates/kahn-coordinator/src/service/view/run.rs", uses), 1);
        assert_eq!(count("crates/kahn-coordinator/src/grpc/runs.rs", uses), 0);
    }
}
