#!/usr/bin/env bash
# A real Weaviate for whoever has none: scripts/weaviate.sh start | stop | status | env
#
#   scripts/weaviate.sh start && eval "$(scripts/weaviate.sh env)"
#
# Runs docker-compose.yml where a Docker engine is up; else a `weaviate-server` on the PATH or among
# Go's binaries; else builds one, once, with Go. Data, key, log and pid live in WEAVIATE_HOME.
#
#   WEAVIATE_HOME       .weaviate at the root of the checkout
#   WEAVIATE_HTTP_PORT  8080
#   WEAVIATE_GRPC_PORT  50051; the four ports after it serve the one-node cluster
#   WEAVIATE_VERSION    the version pinned in docker-compose.yml
#   WEAVIATE_WAIT       seconds to wait until the server is ready: 120
#   WEAVIATE_BUILD      "no": exit with status 3 rather than build a server
#   WEAVIATE_READ_KEY   a second key, which may only read
#
# Weaviate's own variables, such as ASYNC_INDEXING or QUERY_MAXIMUM_RESULTS, reach a server that is
# not in Docker.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
compose_file=$root/docker-compose.yml
home=${WEAVIATE_HOME:-$root/.weaviate}
http_port=${WEAVIATE_HTTP_PORT:-8080}
grpc_port=${WEAVIATE_GRPC_PORT:-50051}
version=${WEAVIATE_VERSION:-$(sed -n 's/.*{WEAVIATE_VERSION:-\([0-9.]*\)}.*/\1/p' "$compose_file")}

say() { printf '%s\n' "$*" >&2; }
die() { say "weaviate.sh: $*"; exit 1; }

# --- what runs -----------------------------------------------------------------------------------

has_docker() { docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; }

# Compose with this home's own project, so that two homes are two servers.
compose() {
    WEAVIATE_API_KEY=$(cat "$home/key") WEAVIATE_VERSION=$version \
    WEAVIATE_HTTP_PORT=$http_port WEAVIATE_GRPC_PORT=$grpc_port \
        docker compose --file "$compose_file" \
        --project-name "tercet-$(printf %s "$home" | cksum | cut -d' ' -f1)" "$@"
}

# The pid file holds the server's process id, or the word "compose".
running() {
    local pid
    pid=$(cat "$home/pid" 2>/dev/null) || return 1
    case $pid in
        compose) [ -n "$(compose ps --quiet --status running 2>/dev/null)" ] ;;
        # A number may belong to another program by now, or to one that ended unreaped (Z).
        *) case $(ps -p "$pid" -o stat= -o comm= 2>/dev/null) in
               Z* | "") return 1 ;;
               *weaviate*) ;;
               *) return 1 ;;
           esac ;;
    esac
}

# The address it was started at, whatever the ports in today's environment.
address() {
    WEAVIATE_URL=http://127.0.0.1:$http_port
    WEAVIATE_GRPC_URL=http://127.0.0.1:$grpc_port
    # shellcheck source=/dev/null
    if [ -f "$home/address" ]; then . "$home/address"; fi
}

# The version that answers at the address and takes our key; fails while there is none. The key goes
# in by standard input: arguments can be read by every user of the machine.
served_version() {
    printf 'header = "Authorization: Bearer %s"\n' "$(cat "$home/key")" |
        curl --silent --fail --max-time 3 --noproxy '*' --config - \
            "$WEAVIATE_URL/v1/.well-known/ready" "$WEAVIATE_URL/v1/meta" |
        sed -n 's/.*"version":"\([^"]*\)".*/\1/p' | grep .
}

# --- which server --------------------------------------------------------------------------------

find_server() {
    local gobin=$HOME/go/bin
    if command -v go >/dev/null; then gobin=$(go env GOPATH)/bin; fi
    command -v weaviate-server || PATH=$gobin:$HOME/go/bin command -v weaviate-server
}

build_server() {
    if [ "${WEAVIATE_BUILD:-}" = no ]; then
        say "weaviate.sh: no Docker engine and no weaviate-server here, and WEAVIATE_BUILD=no"
        exit 3
    fi
    local have
    have=$(go env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//') || true
    if [ "$(printf '%s\n' 1.26 "${have:-0}" | sort -V | head -n 1)" != 1.26 ]; then
        die "needs a running Docker engine with compose, or a weaviate-server on the PATH, or" \
            "Go >= 1.26 to build one (found ${have:-none})"
    fi
    say "Building weaviate-server $version with Go, once: about five minutes."
    go install "github.com/weaviate/weaviate/cmd/weaviate-server@v$version" >&2
}

# REST, gossip and Raft listen on loopback. Weaviate has no setting for the address of its gRPC port
# and of its data port (the fourth after it): those two listen on every interface and are guarded
# by the key, the second as its password. On an open network, close both with a firewall.
launch() {
    export AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED=false
    export AUTHENTICATION_APIKEY_ENABLED=true
    AUTHENTICATION_APIKEY_ALLOWED_KEYS=$(cat "$home/key")
    export CLUSTER_BASIC_AUTH_USERNAME=tercet
    export CLUSTER_BASIC_AUTH_PASSWORD=$AUTHENTICATION_APIKEY_ALLOWED_KEYS
    export AUTHENTICATION_APIKEY_ALLOWED_KEYS AUTHENTICATION_APIKEY_USERS=tercet
    export AUTHORIZATION_ADMINLIST_ENABLED=true AUTHORIZATION_ADMINLIST_USERS=tercet
    if [ -n "${WEAVIATE_READ_KEY:-}" ]; then
        AUTHENTICATION_APIKEY_ALLOWED_KEYS+=,$WEAVIATE_READ_KEY
        AUTHENTICATION_APIKEY_USERS+=,reader
        export AUTHORIZATION_ADMINLIST_READONLY_USERS=reader
    fi
    export CLUSTER_HOSTNAME=node1 CLUSTER_IN_LOCALHOST=true
    export CLUSTER_BIND_ADDR=127.0.0.1 CLUSTER_ADVERTISE_ADDR=127.0.0.1
    export GRPC_PORT=$grpc_port
    export RAFT_PORT=$((grpc_port + 1)) RAFT_INTERNAL_RPC_PORT=$((grpc_port + 2))
    export CLUSTER_GOSSIP_BIND_PORT=$((grpc_port + 3)) CLUSTER_DATA_BIND_PORT=$((grpc_port + 4))
    export RAFT_JOIN=node1:$RAFT_PORT RAFT_BOOTSTRAP_EXPECT=1
    export PERSISTENCE_DATA_PATH=$home/data
    export QUERY_MAXIMUM_RESULTS=${QUERY_MAXIMUM_RESULTS:-10000}
    export API_BASED_MODULES_DISABLED=true DISABLE_TELEMETRY=true GO_PROFILING_DISABLE=true
    export LOG_LEVEL=${LOG_LEVEL:-warning}
    exec nohup "$1" --host 127.0.0.1 --port "$http_port" --scheme http \
        --read-timeout=600s --write-timeout=600s </dev/null >"$home/server.log" 2>&1
}

# --- the four verbs ------------------------------------------------------------------------------

start() {
    command -v curl >/dev/null || die "needs curl"
    mkdir -p "$home/data"
    if running; then
        address
        say "Weaviate is already running at $WEAVIATE_URL"
        return
    fi
    if [ ! -s "$home/key" ]; then
        (umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$home/key")
    fi
    printf 'WEAVIATE_URL=http://127.0.0.1:%s\nWEAVIATE_GRPC_URL=http://127.0.0.1:%s\n' \
        "$http_port" "$grpc_port" >"$home/address"
    if has_docker; then
        compose up --detach >"$home/server.log" 2>&1 || { tail -n 20 "$home/server.log" >&2; exit 1; }
        echo compose >"$home/pid"
    else
        local server
        server=$(find_server) || { build_server; server=$(find_server); }
        launch "$server" &
        echo $! >"$home/pid"
        until running || ! kill -0 $! 2>/dev/null; do sleep 0.05; done
        say "Its gRPC port will listen on every interface of this machine, guarded by the key."
    fi
    await
}

await() {
    local deadline=$((SECONDS + ${WEAVIATE_WAIT:-120})) served
    address
    until served=$(served_version); do
        if ! running || [ "$SECONDS" -ge "$deadline" ]; then
            say "Weaviate did not get ready at $WEAVIATE_URL; the end of $home/server.log:"
            if [ "$(cat "$home/pid")" = compose ]; then compose logs >"$home/server.log" 2>&1; fi
            tail -n 20 "$home/server.log" >&2
            stop
            exit 1
        fi
        sleep 0.5
    done
    say "Weaviate $served is ready at $WEAVIATE_URL (gRPC $WEAVIATE_GRPC_URL)"
    if [ "$served" != "$version" ]; then say "Note: $version is the version pinned."; fi
}

stop() {
    if ! running; then
        rm -f "$home/pid"
        say "Weaviate is not running"
        return
    fi
    local pid tries=0
    pid=$(cat "$home/pid")
    if [ "$pid" = compose ]; then
        compose down >&2
    else
        kill "$pid"
        while running; do
            tries=$((tries + 1))
            if [ "$tries" -eq 120 ]; then kill -KILL "$pid"; fi
            sleep 0.25
        done
    fi
    rm -f "$home/pid"
    say "Weaviate is stopped; its data stay in $home"
}

status() {
    address
    local served
    if running && served=$(served_version); then
        say "Weaviate $served is ready at $WEAVIATE_URL (gRPC $WEAVIATE_GRPC_URL)"
    elif running; then
        say "Weaviate is running at $WEAVIATE_URL but not ready"
        exit 1
    else
        say "Weaviate is not running"
        exit 1
    fi
}

# The only verb that prints the key: for eval, not for a log.
environment() {
    [ -s "$home/key" ] || die "no server was started in $home yet: scripts/weaviate.sh start"
    address
    printf 'export WEAVIATE_URL=%s WEAVIATE_GRPC_URL=%s WEAVIATE_API_KEY=%s\n' \
        "$WEAVIATE_URL" "$WEAVIATE_GRPC_URL" "$(cat "$home/key")"
    # Docker keeps its data in a volume of its own, out of reach.
    if [ "$(cat "$home/pid" 2>/dev/null)" != compose ]; then
        printf 'export WEAVIATE_DATA_PATH=%q\n' "$(cd "$home" && pwd)/data"
    fi
}

case ${1:-} in
    start | stop | status) "$1" ;;
    env) environment ;;
    *) say "usage: scripts/weaviate.sh start | stop | status | env"; exit 2 ;;
esac
