//! Many clients at once.

use std::sync::Arc;
use std::time::Duration;

use kahn_e2e::{Cluster, ClusterOptions, Store, WorkerOptions, wait_until};

const CLIENTS: usize = 20;
const RUNS_PER_CLIENT: usize = 5;

fn hundred_tasks() -> String {
    let mut file = String::from("name: hundred\ntasks:\n");
    for task in 0..100 {
        file.push_str(&format!("  t{task}:\n    noop: {{}}\n"));
        if task >= 10 {
            file.push_str(&format!("    needs: [t{}]\n", task - 10));
        }
    }
    file
}

#[test]
fn a_hundred_runs_of_twenty_clients_all_succeed() -> anyhow::Result<()> {
    let worker = WorkerOptions {
        name: "w1".into(),
        capacity: "cpu=2 memory=1Gi".into(),
        label: ("zone".into(), "eu".into()),
    };
    let options = ClusterOptions { store: Store::RedisEverysec, workers: vec![worker] };
    let cluster = Arc::new(Cluster::start(&options)?);
    let file = cluster.write("hundred.yaml", &hundred_tasks())?.display().to_string();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..RUNS_PER_CLIENT {
                    let answer = cluster.kahn(&["submit", &file, "--output", "json"]).unwrap();
                    assert_eq!(answer.code, 0, "{answer:?}");
                }
            });
        }
    });
    wait_until("all runs to succeed", Duration::from_secs(60), || {
        let listed = cluster.kahn(&["list", "--output", "json", "--limit", "200"]);
        let runs = listed.ok().and_then(|answer| answer.json_lines().ok()).unwrap_or_default();
        let n = runs.iter().filter(|run| run["state"] == "succeeded").count();
        n == CLIENTS * RUNS_PER_CLIENT
    })?;
    assert_eq!(cluster.metric("kahn_auditor_repairs_total")?, 0.0);
    Ok(())
}
