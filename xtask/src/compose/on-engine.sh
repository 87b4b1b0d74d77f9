#!/bin/bash
# Builds the image, runs its roles, and starts docker-compose.yml. DOCKER_HOST names the engine. Reports each fact in a line of its own.
#
#   on-engine.sh PROJECT SYSTEM KAHN DIRECTORY
project=$1 system=$2 kahn=$3 directory=$4
export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0 COMPOSE_PROJECT_NAME=kahn-test NO_COLOR=1
cd "$directory" || exit 1

check() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then echo "PASS $what"; else echo "FAIL $what: $said"; fi
}

eventually() {
    for _ in $(seq 120); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.5 # poll
    done
    echo "not within a minute: $*"
    return 1
}

# The base: Debian without a registry.
import_base() { tar -C "$system" --exclude './proc/*' --exclude './sys/*' --one-file-system -c . | docker import - debian:bookworm-slim; }

# An image with programs of this machine. Reads the end of its Dockerfile.
with_programs() {
    local tag=$1 program file
    shift
    rm -rf image && mkdir image
    for program in "$@"; do
        for file in "$program" $(ldd "$program" | grep -o '/[^ ]*'); do
            install -D "$(readlink -f "$file")" "image/root$file"
        done
    done
    { echo 'FROM debian:bookworm-slim'; echo 'COPY root/ /'; cat; } >image/Dockerfile
    docker build --quiet --tag "$tag" image
}

redis_image() { with_programs redis:7-bookworm /usr/bin/redis-server /usr/bin/redis-cli <<<'RUN useradd --system redis && install -d -o redis /data
USER redis
WORKDIR /data'; }

# Instead of a compiler, it has a cargo that hands over a binary that was compiled before.
compiler_image() {
    rm -rf compiler && mkdir compiler
    strip --strip-unneeded -o compiler/kahn "$kahn"
    printf '#!/bin/sh\nmkdir -p target/release && cp /kahn target/release/kahn\n' >compiler/cargo
    printf 'FROM debian:bookworm-slim\nCOPY kahn /kahn\nCOPY --chmod=755 cargo /usr/local/bin/\n' | sed 's/ --chmod=755//' >compiler/Dockerfile
    chmod 755 compiler/cargo
    echo 'RUN mkdir -p /etc/ssl/certs && touch /etc/ssl/certs/ca-certificates.crt' >>compiler/Dockerfile
    docker build --quiet --tag rust:1.95-bookworm compiler
}

bytes() { docker image inspect --format '{{.Size}}' "$1"; }
is_small() { [ $(($(bytes kahn:compose) - $(bytes debian:bookworm-slim))) -lt 60000000 ]; }
in_image() { docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --network none --env KAHN_DATA_DIR=/tmp/kahn "$@"; }
is_nobody_special() { [ "$(in_image --entrypoint id kahn:compose -u)" = 65532 ]; }
runs_a_file() { in_image --volume "$project/examples:/examples:ro" kahn:compose run /examples/hello.yaml; }

compose() { docker-compose --file "$project/docker-compose.yml" --project-directory "$project" "$@"; }
client() { compose exec -T "$1" kahn "${@:2}"; }
is_healthy() { [ "$(docker ps --filter health=healthy --filter name=kahn-test --format '{{.Names}}' | wc -l)" = 5 ]; }
runs_with_tls_alone() { compose exec -T coordinator-1 sh -c 'KAHN_COORDINATOR_URL=http://coordinator-1:7400 kahn list 2>&1' | grep -q 'write https://'; }
keeps_the_authority() {
    local files
    files=$(compose exec -T coordinator-1 sh -c 'ls /var/lib/kahn-certs/*') && grep -q ca.pem <<<"$files" && ! grep -q ca.key <<<"$files"
}
leads() { compose logs "$1" | grep -q 'leading'; }
follows() { ! leads "$1"; }
leader() { if leads coordinator-1; then echo coordinator-1; else echo coordinator-2; fi; }
has_started() { [ "$(starts "$other")" -gt 0 ]; }
is_active() { client "$other" get last --output json | grep -qE '"state": ?"active"'; }
starts() { client "$1" events last --output json | grep -c task_started; }

check 'a base is imported' import_base
check 'an image of Redis is made' redis_image
check 'an image in place of a compiler is made' compiler_image
check 'the image is built from the tree' docker build --quiet --file "$project/deploy/Dockerfile" --tag kahn:compose "$project"
check 'it has less than 60 MB more than its base' is_small
check 'it does not run as root' is_nobody_special
check 'it runs a file with a root file system that cannot be written' runs_a_file
check 'it has an autoscaler' in_image kahn:compose autoscaler --help
check 'it shows its configuration' in_image kahn:compose config show

check 'compose starts' compose up --detach --no-build
check 'all are healthy' eventually is_healthy
check 'a client runs an example' client coordinator-1 submit /examples/hello.yaml --wait
check 'without TLS a client is told what to write' runs_with_tls_alone
check 'the key of the authority is nowhere else' keeps_the_authority

leader=$(leader)
other=coordinator-$((3 - ${leader#coordinator-}))
load=$(printf 'defaults: { resources: { cpu: 0.2 } }\ntasks:\n'; for n in $(seq 40); do echo "  t$n: { run: sleep 10 }"; done)
compose exec -T "$other" sh -c 'cat >/tmp/load.yaml && kahn submit /tmp/load.yaml' <<<"$load" >/dev/null
check 'one coordinator leads' leads "$leader"
check 'and the other one does not' follows "$other"
check 'tasks have started' eventually has_started
check 'the leader is killed' compose kill "$leader"
check 'the other one takes over' eventually leads "$other"
check 'before the run has ended' is_active
check 'the run succeeds' client "$other" watch last
check 'and no task is repeated' test "$(starts "$other")" = 40
check 'compose starts again with new certificates' compose up --detach --no-build
check 'all are healthy again' eventually is_healthy
check 'a client runs an example again' client coordinator-1 submit /examples/hello.yaml --wait
check 'compose ends, and removes its volumes' compose down --volumes --timeout 20
echo END
