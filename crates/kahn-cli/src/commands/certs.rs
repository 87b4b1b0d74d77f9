//! `kahn certs`: a small certificate authority, to try TLS without another tool.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kahn_net::authority::{Authority, AuthorityError, Issued, Usage};
use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;

/// The files of the authority, without the extension.
const AUTHORITY: &str = "ca";
/// The longest name of an authority, as of all common names (RFC 5280, appendix A.1).
const AUTHORITY_NAME_MAX: usize = 64;
/// The hosts of a certificate by default, besides its name.
const THIS_HOST: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Arguments of `certs`.
#[derive(Debug, Args)]
pub(crate) struct CertsArgs {
    #[command(subcommand)]
    command: CertsCommand,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// Create a certificate authority: ca.pem and ca.key
    Init(InitArgs),
    /// Issue a certificate for a coordinator, worker or client: NAME.pem and NAME.key
    Issue(IssueArgs),
}

#[derive(Debug, Args)]
struct InitArgs {
    /// Directory for the files
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    /// Name of the authority
    #[arg(long, default_value = "Kahn trial authority")]
    name: String,
    /// Days until the certificate expires
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

#[derive(Debug, Args)]
struct IssueArgs {
    /// Name of the files, and the subject of the certificate
    name: String,
    /// DNS name or IP address of the coordinator; can be repeated [default: NAME and this host]
    #[arg(long = "host", value_name = "HOST", conflicts_with = "client")]
    hosts: Vec<String>,
    /// For a worker or client: the certificate cannot be used by a coordinator
    #[arg(long)]
    client: bool,
    /// Replace existing files, which processes that use them notice
    #[arg(long)]
    replace: bool,
    /// Directory of the authority, and for the files
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    /// Days until the certificate expires
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

pub(crate) fn run(args: CertsArgs, context: &Context) -> Result<Exit, Failure> {
    let written = match args.command {
        CertsCommand::Init(args) => init(&args)?,
        CertsCommand::Issue(args) => issue(&args)?,
    };
    if context.is_json() {
        output::json(&json!({ "certificate": written.certificate, "key": written.key }))?;
    } else {
        let (certificate, key) = (written.certificate.display(), written.key.display());
        output::note(&format!("wrote {certificate} and the private key {key}"));
    }
    Ok(Exit::Success)
}

fn init(args: &InitArgs) -> Result<Paths, Failure> {
    if args.name.is_empty() || AUTHORITY_NAME_MAX < args.name.len() {
        let message = format!("the name of an authority has 1 to {AUTHORITY_NAME_MAX} bytes");
        return Err(Failure::bad_input(message));
    }
    let (_, issued) = Authority::create(&args.name, args.days)?;
    let paths = Paths::new(&args.dir, AUTHORITY);
    paths.check_absent()?;
    paths.write(&issued)?;
    Ok(paths)
}

fn issue(args: &IssueArgs) -> Result<Paths, Failure> {
    check_name(&args.name)?;
    let authority = Paths::new(&args.dir, AUTHORITY);
    let authority = Authority::open(&authority.read()?)
        .map_err(|error| Failure::from(error).advise("`kahn certs init` makes an authority"))?;
    let this_host = || THIS_HOST.into_iter().chain([args.name.as_str()]).map(str::to_owned);
    let hosts = match args.hosts.as_slice() {
        [] => this_host().collect(),
        hosts => hosts.to_vec(),
    };
    let usage = match args.client {
        true => Usage::Client,
        false => Usage::Server(&hosts),
    };
    let issued = authority.issue(&args.name, usage, args.days)?;
    let paths = Paths::new(&args.dir, &args.name);
    if !args.replace {
        paths.check_absent()?;
    }
    paths.write(&issued)?;
    Ok(paths)
}

/// Refuses names that are no file names, or are those of the authority.
fn check_name(name: &str) -> Result<(), Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_valid = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 60
        && name.chars().all(is_plain);
    if !is_valid || name == AUTHORITY {
        let message = format!("{name:?} cannot be the name of a certificate");
        return Err(Failure::bad_input(message)
            .advise("use up to 60 letters, digits, dots, hyphens and underscores, and not `ca`"));
    }
    Ok(())
}

/// Where a certificate and its key are.
struct Paths {
    certificate: PathBuf,
    key: PathBuf,
}

impl Paths {
    fn new(dir: &Path, name: &str) -> Self {
        let path = |extension: &str| dir.join(format!("{name}.{extension}"));
        Self { certificate: path("pem"), key: path("key") }
    }

    fn read(&self) -> Result<Issued, Failure> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| {
                Failure::bad_input(format!("{}: {error}", path.display()))
                    .advise("`kahn certs init` makes an authority; --dir says where it is")
            })
        };
        Ok(Issued { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }

    /// Refuses to replace existing files.
    fn check_absent(&self) -> Result<(), Failure> {
        match [&self.certificate, &self.key].into_iter().find(|path| path.exists()) {
            None => Ok(()),
            Some(path) => Err(Failure::refused(format!("{} exists already", path.display()))
                .advise("choose another name or --dir; `kahn certs issue --replace` renews it")),
        }
    }

    /// Writes both files beside their places, and then puts them there.
    fn write(&self, issued: &Issued) -> Result<(), Failure> {
        let dir = self.key.parent().unwrap_or(Path::new("."));
        let failed = |path: &Path, error: io::Error| {
            Failure::refused(format!("cannot write {}: {error}", path.display()))
        };
        let mut directories = DirBuilder::new();
        directories.recursive(true).mode(0o700).create(dir).map_err(|error| failed(dir, error))?;
        let files =
            [(&self.key, &issued.key, 0o600), (&self.certificate, &issued.certificate, 0o644)];
        for (path, text, mode) in files {
            write(&beside(path), text, mode).map_err(|error| failed(path, error))?;
        }
        for (path, _, _) in files {
            std::fs::rename(beside(path), path).map_err(|error| failed(path, error))?;
        }
        Ok(())
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    // Left by a command that was interrupted, perhaps with another mode.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl From<AuthorityError> for Failure {
    fn from(error: AuthorityError) -> Self {
        Self::bad_input(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use kahn_runtime::config::Environment;

    use super::*;
    use crate::context::Globals;

    fn run_with(dir: &Path, args: &[&str]) -> Result<Exit, Failure> {
        #[derive(clap::Parser)]
        struct Parsed {
            #[command(flatten)]
            args: CertsArgs,
        }
        let dir = dir.display().to_string();
        let all = ["certs"].iter().chain(args).copied().chain(["--dir", &dir]);
        let parsed = <Parsed as clap::Parser>::try_parse_from(all).unwrap();
        let context = Context::of(Globals::default(), Environment::from_pairs([]));
        run(parsed.args, &context)
    }

    #[test]
    fn keys_are_private_and_existing_files_are_kept_unless_they_are_to_be_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("certs");
        assert!(run_with(&dir, &["issue", "a"]).is_err());
        run_with(&dir, &["init"]).unwrap();
        run_with(&dir, &["issue", "a"]).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        assert_eq!((mode(&dir.join("a.key")), mode(&dir.join("ca.key"))), (0o600, 0o600));

        let read = || std::fs::read_to_string(dir.join("a.key")).unwrap();
        let before = read();
        assert!(run_with(&dir, &["init"]).is_err());
        assert!(run_with(&dir, &["issue", "a"]).is_err());
        assert_eq!(read(), before);
        run_with(&dir, &["issue", "a", "--client", "--replace"]).unwrap();
        assert_ne!(read(), before);
    }

    #[test]
    fn names_that_are_paths_or_the_authority_are_refused() {
        for name in ["", "ca", "../a", ".a", "a b", "-a"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        check_name("worker-1.example.com").unwrap();
    }
}
