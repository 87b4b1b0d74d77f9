//! The objects, values and DAG files of the scenarios.

/// What the tasks refer to.
pub(super) const OBJECTS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: { name: reader, namespace: kahn }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: settings, namespace: kahn }
data: { colour: red }
---
apiVersion: v1
kind: Secret
metadata: { name: words, namespace: kahn }
stringData: { word: hidden-word }
";

/// A pool whose worker runs pods.
pub(super) const VALUES: &str = "
pools:
  default: {}
  pods:
    replicas: 1
    kubernetes: { enabled: true }
    capacity: { cpu: 1000, memory: 1000Gi }
    secrets: { word: { name: words, key: word } }
    config:
      leases_max: 1000
      kubernetes:
        pending_timeout: 15s
        force_delete: true
        allow:
          service_accounts: [reader]
          node_selectors: [kubernetes.io/hostname, missing]
          tolerations: [spot]
          annotations: [note]
          config_maps: [settings]
";

/// A task that asks for everything, and checks that it gets it.
pub(super) const EVERYTHING: &str = r#"name: everything
tasks:
  all:
    resources: { cpu: 0.1, memory: 64Mi }
    env:
      WORD: { secret: word }
      WORD_FILE: { secret: word, as: file }
      PLAIN: "$(WORD) $$"
    container:
      image: kahn.test/shell:1
      pull: never
      via: kubernetes
      command: [sh, -c]
      args:
      - |
        set -e
        test "$WORD" = "hidden-$(echo word)"
        test "$(cat "$WORD_FILE")" = "$WORD"
        test "$PLAIN" = '$(WORD) $$'
        test "$(cat /settings/colour)" = red
        test "$(id -u)" = 65532
        test -f /var/run/secrets/kubernetes.io/serviceaccount/token
        echo x > /scratch/file
        echo x > /tmp/file
        if echo x > /file; then exit 7; fi 2> /dev/null
        echo hello from a pod
        echo "word= $WORD"
        echo colour=red >> "$KAHN_OUTPUT"
        sleep 3
      kubernetes:
        service_account: reader
        node_selector: { kubernetes.io/hostname: kahn-node-2 }
        tolerations: [{ key: spot, effect: NoSchedule }]
        annotations: { note: a b }
        volumes:
        - { config_map: settings, target: /settings }
        - { empty: true, target: /scratch }
"#;

/// Returns a task with a script that runs as a pod. `more` are further fields of the task. With much
/// less of a processor, the limit would make the start of the container slow.
pub(super) fn task(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::Value::from(script);
    format!(
        "  {name}:\n    resources: {{ cpu: 0.1, memory: 32Mi }}\n    container: {{ image: kahn.test/shell:1, pull: never, \
         via: kubernetes, command: [sh, -c], args: [{script}] }}\n{more}"
    )
}

/// A task that prints this many lines, one every 50 ms.
pub(super) fn counting(n_lines: u32) -> String {
    let script =
        format!("n=0; while [ $n -lt {n_lines} ]; do n=$((n+1)); echo line $n; sleep 0.05; done");
    format!("name: counting\ntasks:\n{}", task("count", &script, ""))
}

/// Tasks one after the other.
pub(super) fn chain(n_tasks: u32) -> String {
    let mut file = "name: chain\ntasks:\n".to_owned();
    for n in 0..n_tasks {
        let needs = n.checked_sub(1).map(|before| format!("    needs: [t{before}]\n"));
        file += &task(&format!("t{n}"), "exit 0", &needs.unwrap_or_default());
    }
    file
}

/// Tasks without dependencies, which wait for a node as long as it takes. None ends before all pods
/// exist.
pub(super) fn many(n_tasks: usize) -> String {
    let mut file = "name: many\ntasks:\n".to_owned();
    for n in 0..n_tasks {
        file += &task(&format!("t{n}"), "sleep 20", "    timeouts: { start: 1h }\n");
    }
    file
}

/// The pod of a task of [`chain`], without Kahn.
pub(super) fn bare_pod(n: u32) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: bare-{n}, namespace: kahn }}\nspec:\n  \
         restartPolicy: Never\n  automountServiceAccountToken: false\n  containers:\n  - \
         {{ name: task, image: 'kahn.test/shell:1', imagePullPolicy: Never, command: [sh, -c, exit 0] }}\n"
    )
}
