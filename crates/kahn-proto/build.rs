//! Compiles every `.proto` file under `proto/` to Rust, without `protoc`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "../../proto";
const PACKAGES: [&str; 4] = ["externalscaler", "kahn.api.v1", "kahn.storage.v1", "kahn.worker.v1"];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut files = Vec::new();
    collect(Path::new(ROOT), &mut files)?;
    files.sort();
    let descriptors = protox::Compiler::new([ROOT])?
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?
        .encode_file_descriptor_set();
    let set = protox::compile(&files, [ROOT])?;
    fs::write(out.join("descriptors.bin"), descriptors)?;
    for package in PACKAGES {
        // A package without files produces no output, but the library includes all of them.
        fs::write(out.join(format!("{package}.rs")), "")?;
    }
    tonic_prost_build::configure().bytes(".").compile_fds(set)?;
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    emit(dir);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            emit(&path);
            files.push(path);
        }
    }
    Ok(())
}

/// Prints a directive for cargo.
fn emit(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
