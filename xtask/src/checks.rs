//! Scripts that report facts: a line `PASS …` or `FAIL …` for each `check '…'`, and `END`.

use anyhow::{Result, bail};

use crate::process::say;

/// Fails unless every check of a script has passed.
///
/// # Errors
///
/// Returns an error that says how many have.
pub(crate) fn judge(script: &str, said: &str) -> Result<()> {
    say(said);
    let n_checks = script.lines().filter(|line| line.starts_with("check '")).count();
    let begins = |prefix: &str| said.lines().filter(|line| line.starts_with(prefix)).count();
    let (n_passed, n_failed) = (begins("PASS "), begins("FAIL "));
    if n_failed > 0 || n_passed != n_checks || begins("END") != 1 {
        bail!("{n_passed} of {n_checks} checks have passed, {n_failed} have failed");
    }
    say(&format!("{n_passed} checks have passed\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_script_whose_every_check_has_passed_passes() {
        let script = "check 'one' true\ncheck 'two' true\n";
        let passes = |said: &str| judge(script, said).is_ok();
        assert!(passes("PASS one\r\nPASS two\r\nEND\r\n"));
        assert!(!passes("PASS one\nPASS two\n"), "it has not come to its end");
        assert!(!passes("PASS one\nEND\n"));
        assert!(!passes("PASS one\nFAIL two: no\nEND\n"));
        assert!(!passes("PASS one\nPASS two\nFAIL three: no\nEND\n"));
    }
}
