#!/bin/bash
# Runs in the virtual machine, as root, and powers it off. Reports each fact in a line of its own.
exec >/dev/ttyS1 2>&1
export KAHN_TOKEN_FILE=/etc/kahn/client.token HOME=/root NO_COLOR=1 LC_ALL=C

# Reports whether a command succeeds, with its output if not.
check() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then echo "PASS $what"; else echo "FAIL $what: $said"; fi
}

# Waits until a command succeeds. This machine is slow.
eventually() {
    for _ in $(seq 100); do
        if "$@"; then return 0; fi
        sleep 0.5 # poll
    done
    echo "not within 50 s: $*"
    return 1
}

serves() { kahn list >/dev/null 2>&1; }
has_worker() { [ "$(kahn workers 2>/dev/null | grep -c attached)" -ge 1 ]; }
task() { kahn get last --tasks | grep -E "^$1 "; }
submit() { printf '%s\n' "$1" >/tmp/dag.yaml && kahn submit /tmp/dag.yaml "${@:2}" >/tmp/submitted 2>&1; }
no_process() { ! pgrep -x tail >/dev/null; }
main_pid() { systemctl show --property MainPID --value kahn-coordinator; }
is_replaced() { local now; now=$(main_pid); [ "$now" != "$1" ] && [ "$now" != 0 ]; }
only_root_reads() { [ "$(stat --format '%U %a' "$1")" = 'root 600' ]; }
is_gone() { ! ls -d /var/lib/kahn* /etc/kahn /usr/bin/kahn /usr/lib/systemd/system/kahn* 2>/dev/null; }
is_kept() { [ -d /var/lib/kahn ] && [ -d /var/lib/kahn-worker ] && [ -e /etc/kahn/client.token ]; }
waits_for_the_task() { [ "$(systemctl is-active kahn-worker)" = deactivating ]; }

check 'the machine has control groups of version 2' test "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs
check 'the package is installed' dpkg --install /root/kahn.deb
check 'tokens are generated for root alone' only_root_reads /etc/kahn/client.token
check 'nothing is started' test "$(systemctl is-active kahn-coordinator)" = inactive
check 'both units start and tell that they serve' systemctl start kahn-coordinator kahn-worker
check 'the worker is attached' eventually has_worker
check 'an example runs' kahn submit /usr/share/doc/kahn/examples/hello.yaml --wait

submit 'policy: { on_failure: continue }
defaults: { resources: { memory: 64Mi } }
tasks:
  alone: { run: "head -c 300M /dev/zero | tail | wc -c" }
  together: { run: "for n in 1 2 3; do (head -c 100M /dev/zero | tail | wc -c) & done; wait; echo survived" }
  small: { run: "head -c 20M /dev/zero | tail | wc -c" }
  token: { run: "cat /etc/kahn/client.token" }
  state: { run: "ls /var/lib/kahn" }
  system: { run: "touch /etc/x" }' --wait
check 'an attempt that exceeds its memory is out of memory' grep -q 'out of memory: killed at 64Mi' <<<"$(task alone)"
check 'it is killed with all its processes' grep -q 'out of memory: killed at 64Mi' <<<"$(task together)"
check 'nothing of it is left' eventually no_process
check 'one that does not exceed it succeeds' grep -q succeeded <<<"$(task small)"
check 'tasks cannot read the token of clients' grep -q failed <<<"$(task token)"
check 'tasks cannot read the state of the coordinator' grep -q failed <<<"$(task state)"
check 'tasks cannot write to the system' grep -q failed <<<"$(task system)"

submit 'tasks: { a: { run: "sleep 15; echo end" } }'
sleep 2
check 'a second version is installed while a task runs' dpkg --install /root/kahn2.deb
check 'the worker waits for its task' eventually waits_for_the_task
check 'the coordinator serves again' eventually serves
check 'the task succeeds' kahn watch last
check 'in its first attempt' grep -qE '^a +succeeded +1 ' <<<"$(kahn get last --tasks)"
check 'the worker is started again' eventually systemctl --quiet is-active kahn-worker

pid=$(main_pid)
kill -STOP "$pid"
check 'a coordinator that does not go on is replaced' eventually is_replaced "$pid"
check 'with its state' eventually serves

check 'the package is removed' dpkg --remove kahn
check 'data and tokens are kept' is_kept
check 'the package is purged' dpkg --purge kahn
check 'nothing is left' is_gone
echo END
poweroff --force
