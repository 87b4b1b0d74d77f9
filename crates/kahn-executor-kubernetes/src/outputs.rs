//! Reads the outputs of a task from the status of its pod.

use kahn_executor::output_file;
use kahn_model::Outputs;

/// The size at which Kubernetes cuts the file off at its beginning.
const BYTES_MAX: usize = 4096;

/// Parses the content of the file of outputs.
///
/// # Errors
///
/// Returns a message if the file was cut off, or a line is invalid.
pub(super) fn parse(text: &str) -> Result<Outputs, String> {
    if text.len() >= BYTES_MAX {
        return Err(format!(
            "the outputs of a pod must have less than {BYTES_MAX} bytes; write larger ones to a \
             volume or to a store"
        ));
    }
    output_file::parse(text.as_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_that_kubernetes_has_cut_off_are_an_error() {
        let outputs = parse("a=1\nb:=[2]\n").unwrap();
        assert_eq!(outputs.0.len(), 2);
        assert_eq!(parse("").unwrap(), Outputs::default());
        assert!(parse("nothing").unwrap_err().contains("line 1"));
        let long = format!("a={}", "x".repeat(BYTES_MAX - 2));
        assert!(parse(&long).unwrap_err().contains("4096"));
    }
}
