//! `cargo xtask kubernetes`: starts a cluster, and tests the chart in it.

#![expect(clippy::print_stdout, reason = "it tells what it does")]

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use kahn_e2e::kahn_path;
use kahn_e2e::kubernetes::{Image, Kubernetes, Programs, create_volumes, remove_leftovers};
use kahn_e2e::operator::{self, Group, Report};
use tokio::time::Instant;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["up", programs, dir] => up(programs.into(), dir.into()),
        ["test", programs, dir, ref groups @ ..] => {
            let groups = groups.iter().map(|group| group.parse()).collect::<anyhow::Result<_>>()?;
            test(programs.into(), dir.into(), groups)
        }
        ["down", dir] => remove_leftovers(&PathBuf::from(dir)),
        _ => bail!(
            "usage: kubernetes up PROGRAMS DIR, kubernetes test PROGRAMS DIR [release] [pods] \
             [scaling], or \
             kubernetes down DIR"
        ),
    }
}

/// Starts a cluster, which ends when the standard input does.
fn up(programs: PathBuf, dir: PathBuf) -> anyhow::Result<()> {
    let cluster = Kubernetes::start(&dir, Programs::find(&programs)?)?;
    println!("{}", cluster.kubectl(&["get", "nodes", "--output", "wide"])?);
    println!("{:?}\nEnd it with Ctrl-D.", cluster.command("kubectl"));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Starts a cluster, and does in it what an operator does. No groups stand for all.
fn test(programs: PathBuf, dir: PathBuf, groups: Vec<Group>) -> anyhow::Result<()> {
    let groups = if groups.is_empty() { Group::ALL.to_vec() } else { groups };
    let began = Instant::now();
    let mut cluster = Kubernetes::start(&dir, Programs::find(&programs)?)?;
    println!("{} after {:.1} s", cluster.kubectl(&["version"])?, began.elapsed().as_secs_f64());
    for tag in ["1", "2"] {
        let image = Image::new(&format!("kahn.test/kahn:{tag}"), &["kahn"]);
        cluster.load(&image.with(&kahn_path(), "/usr/local/bin/kahn"))?;
    }
    let mut redis = Image::new("kahn.test/redis:1", &["redis-server"]);
    for program in ["redis-server", "redis-cli"] {
        redis =
            redis.with(&Path::new("/usr/bin").join(program), &format!("/usr/local/bin/{program}"));
    }
    cluster.load(&redis)?;
    // For pods, of which there are many: each has a copy of its image.
    cluster.load(&Image::new("kahn.test/shell:1", &["sh"]))?;
    if let (Some(chart), Some(kahn)) =
        (std::env::var_os("KAHN_OLD_CHART"), std::env::var_os("KAHN_OLD_BIN"))
    {
        cluster.set_earlier(chart.as_ref(), kahn.as_ref())?;
    }
    create_volumes(&cluster, &dir, 4)?;
    let mut report = Report::default();
    let done = operator::run(&cluster, &groups, &mut report);
    println!("{report}");
    done
}
