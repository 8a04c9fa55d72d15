#!/usr/bin/env bash
#
# run.sh: the gateway in the foreground, with everything it needs.  "make run"
# builds first and calls this.  SIGINT and SIGTERM stop all of it: nginx lets
# its requests end, then Redis saves; a second signal stops at once.
#
# PORT             8080, on 127.0.0.1
# OPENAI_BASE_URL  https://api.openai.com/v1 if there is a key
# OPENAI_API_KEY   with neither of the two: the bundled mock provider
# REDIS_URL        default: a Redis of its own in RUN_DIR; off: none
# TENANTS          config/tenants.json
# RUN_DIR          ./run: configuration, logs, data
# WORKERS          auto
# ADMIN_PORT       PORT + 1, on 127.0.0.1
# ADMIN_SECRET     default: made at the first start, kept in RUN_DIR
# SSL_CERT_FILE    default: the system's; whose certificates are good

set -u
umask 022

# a shell that starts this in the background may have it ignore SIGINT, and
# bash cannot take that back by itself
if [ -z "${NGX_LLM_SIGNALS:-}" ]; then
    NGX_LLM_SIGNALS=default \
        exec env --default-signal=INT,TERM,HUP,QUIT "$0" "$@"
fi

top=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$top/build}
demo_tenants=$top/config/tenants.json
demo_secret=sk-llm-demo000000000000000000000000000000000000

PORT=${PORT:-8080}
ADMIN_PORT=${ADMIN_PORT:-}
WORKERS=${WORKERS:-auto}
RUN_DIR=${RUN_DIR:-$top/run}
TENANTS=${TENANTS:-$top/config/tenants.json}
REDIS_URL=${REDIS_URL:-}
OPENAI_BASE_URL=${OPENAI_BASE_URL:-}
OPENAI_API_KEY=${OPENAI_API_KEY:-}
ADMIN_SECRET=${ADMIN_SECRET:-}

# nginx reads it from a file, nobody else needs it
export -n ADMIN_SECRET

nginx= redis= mock=
signals=0 stopping=


fail() {
    printf 'ngx-llm: %s\n' "$*" >&2
    stopping=soft
    stop_all TERM
    exit 1
}


is_port() {
    [[ $1 =~ ^[0-9]{1,5}$ ]] && [ "$1" -ge 1 ] && [ "$1" -le 65535 ]
}


# a process that has ended but was not waited for is not alive

alive() {
    local pid name state

    [ -n "$1" ] && read -r pid name state pid 2>/dev/null <"/proc/$1/stat" \
        && [ "$state" != Z ]
}


# Redis and the mock see no provider's key; none of the children is in this
# process group, so that an interrupt from the terminal is ours alone to pass
# on; should this script be killed, they end with it.

start() {
    local name=$1
    shift
    setsid setpriv --pdeathsig TERM "$@" \
        </dev/null >>"$RUN_DIR/logs/$name.log" 2>&1 8>&- 9>&- &
}


# A process that changes its user for a moment, as nginx's master does to try
# the tenants file, loses that promise: for nginx somebody watches.

watch_nginx() {
    exec 8> >(trap '' INT TERM HUP
              exec 9>&-
              read -r pid && { read -r _; kill -TERM "$pid"; } 2>/dev/null)
}


# Signals are only counted; this acts on them, and sleeps without a process.

pause() {
    read -rt "$1" -u "$clock"

    case $stopping$signals in
        0) ;;
        [1-9]*) stop ;;
        hard*) ;;
        soft1) ;;
        soft*) hard ;;
    esac
}


stop_child() {
    local left=${3:-0}

    alive "$1" || return 0

    kill -"$2" "$1" 2>/dev/null
    while alive "$1"; do
        pause 0.05
        [ $((left -= 1)) -ne 0 ] || kill -TERM "$1" 2>/dev/null
    done
}


# one after the other: what nginx still has to tell Redis, it can

stop_all() {
    stop_child "$nginx" "$1" 200
    stop_child "$redis" TERM
    stop_child "$mock" TERM
}


stop() {
    stopping=soft signals=1

    if alive "$nginx"; then
        echo "stopping; running requests have 10 s, again to stop now"
    fi

    stop_all QUIT
    exit 0
}


hard() {
    stopping=hard

    # a master that is killed leaves its workers; Redis saves in no time
    kill -KILL $(children "$nginx") $nginx $mock 2>/dev/null
    stop_child "$redis" TERM
    exit 1
}


children() {
    [ -n "$1" ] && cat "/proc/$1/task/$1/children" 2>/dev/null
}


# GNU make tells its children about SIGTERM but not about a SIGINT that was
# sent to make alone: it stops catching the signal and waits for us.

make_catches() {
    local name value

    while read -r name value; do
        if [ "$name" = SigCgt: ]; then
            (( 16#${value: -1} & 2 ))
            return
        fi
    done 2>/dev/null <"/proc/$PPID/status"

    return 1
}


free_port() {
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
        fail "port $1 is in use: choose another with $2="
    fi
}


# as root: somebody who may read the tenants file and enter RUN_DIR

may() {
    setpriv --reuid="$1" --regid="$(id -g "$1")" --init-groups \
        test -r "$TENANTS" -a -x "$RUN_DIR" 2>/dev/null
}


choose_user() {
    local candidate

    user= as=()
    [ "$(id -u)" -eq 0 ] || return

    for candidate in www-data "${SUDO_USER:-}" "$(stat -c %U "$TENANTS")"; do
        id -u "$candidate" >/dev/null 2>&1 || continue
        [ "$(id -u "$candidate")" -ne 0 ] && may "$candidate" || continue

        user=$candidate
        as=(--reuid="$user" --regid="$(id -g "$user")" --init-groups)
        return
    done

    user=root
    echo "ngx-llm: nobody but root may read $TENANTS or enter $RUN_DIR:" \
         "the workers run as root" >&2
}


# https://host:port/prefix, as the SDKs take it

split_url() {
    local url=$1 shape

    shape='^(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:([0-9]+))?'
    shape+='(/[A-Za-z0-9._~/-]*)?$'

    [[ $url =~ $shape ]] || fail "OPENAI_BASE_URL \"$url\": expected" \
        "http[s]://host[:port][/path]"

    scheme=${BASH_REMATCH[1]}
    name=${BASH_REMATCH[2]}
    host=$name${BASH_REMATCH[3]}
    base=${BASH_REMATCH[5]}

    local port=${BASH_REMATCH[4]}
    [ -n "$port" ] || { [ "$scheme" = https ] && port=443 || port=80; }
    is_port "$port" || fail "OPENAI_BASE_URL \"$url\": no such port"

    upstream=$name:$port
    server="server $upstream max_fails=0;"
    by_name "$name" && server="llm_resolve $upstream;"

    while [ "${base%/}" != "$base" ]; do
        base=${base%/}
    done
}


# what a name server knows, and not this machine alone

by_name() {
    [ -n "$resolver" ] && [[ $1 == *.* && ! $1 =~ ^([0-9.]+|\[.*)$ ]] \
        && ! getent -s files ahosts "$1" >/dev/null 2>&1
}


# the machine's name servers, as nginx wants them

find_resolver() {
    local word address

    resolver=
    while read -r word address _; do
        [ "$word" = nameserver ] || continue

        case $address in
            *%*) ;;
            *:*) resolver+=" [$address]" ;;
            *) resolver+=" $address" ;;
        esac
    done 2>/dev/null </etc/resolv.conf

    resolver=${resolver:+resolver$resolver;}
}


# Debian and Alpine, Fedora, openSUSE, BSD

find_ca() {
    local own=${SSL_CERT_FILE:-}

    [ -z "$own" ] || { [ -r "$own" ] && own=$(realpath "$own") \
        && [[ $own != *[\"\$\;{}\\]* ]]; } \
        || fail "SSL_CERT_FILE \"$own\": cannot be used"

    for ca in ${own:+"$own"} \
        /etc/ssl/certs/ca-certificates.crt \
        /etc/pki/tls/certs/ca-bundle.crt \
        /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem \
        /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem \
        /usr/local/share/certs/ca-root-nss.crt
    do
        [ -r "$ca" ] && return
    done

    [ "$scheme" = http ] || fail "there is no list of certificate" \
        "authorities to trust: install ca-certificates or set SSL_CERT_FILE"
}


start_mock() {
    local log=$RUN_DIR/logs/mock.log i

    : >"$log"
    start mock "${as[@]}" env -u OPENAI_API_KEY "$build/mock" --port 0
    mock=$!

    for ((i = 0; i < 100; i++)); do
        if [[ $(<"$log") =~ listening\ on\ [^:]+:([0-9]+) ]]; then
            split_url "http://127.0.0.1:${BASH_REMATCH[1]}/v1"
            return
        fi
        alive "$mock" || break
        pause 0.05
    done

    cat "$log" >&2
    fail "the mock provider does not start"
}


start_redis() {
    local dir=$RUN_DIR/redis i
    local socket=$dir/redis.sock data=$dir

    # what the mock said must not come from the cache as a provider's answer
    [ -n "$mock" ] && data=$dir/mock

    mkdir -p "$data" && chmod 700 "$dir" || fail "cannot write to $data"
    [ "$user" = "" ] || chown -R "$user:" "$dir"

    start redis "${as[@]}" env -u OPENAI_API_KEY redis-server --port 0 \
        --unixsocket "$socket" --unixsocketperm 700 --dir "$data" \
        --appendonly yes --save '' --daemonize no
    redis=$!
    REDIS_URL=unix:$socket

    for ((i = 0; i < 200; i++)); do
        [ "$(redis-cli -s "$socket" ping 2>/dev/null)" = PONG ] && return
        alive "$redis" || break
        pause 0.05
    done

    tail -n 5 "$RUN_DIR/logs/redis.log" >&2
    fail "Redis does not start; its log is $RUN_DIR/logs/redis.log"
}


write_config() {
    local file=$RUN_DIR/nginx.conf text value token connections

    connections=$(ulimit -n)
    [ "$connections" = unlimited ] && connections=65536
    [ "$connections" -gt 16384 ] && connections=16384

    text=$(<"$top/config/nginx.conf")

    for token in "USER=${user:+user $user;}" "WORKERS=$WORKERS" \
        "MODULE=$build/ngx_http_llm_module.so" "CONNECTIONS=$connections" \
        "REDIS=\"$REDIS_URL\"" "TENANTS=\"$TENANTS\"" \
        "PRICES=\"$top/config/prices.json\"" \
        "KEY=${OPENAI_API_KEY:+key=env:OPENAI_API_KEY}" \
        "RESOLVER=$resolver" "SERVER=$server" "CA=$ca" "PORT=$PORT" \
        "SCHEME=$scheme" "BASE=$base" "HOST=$host" "NAME=$name" \
        "ADMIN_PORT=$ADMIN_PORT" "RUN_DIR=$RUN_DIR"
    do
        value=${token#*=}
        text=${text//"@${token%%=*}@"/"$value"}
    done

    (umask 077 && printf '%s\n' "$text" >"$file") || fail "cannot write $file"

    # the workers' user need not be one who may read the sources
    mkdir -p "$RUN_DIR/pages" && cp -R "$top/dashboard" "$RUN_DIR/pages" \
        && chmod -R a+rX "$RUN_DIR/pages" \
        || fail "cannot write $RUN_DIR/pages"
}


start_nginx() {
    local command=(nginx -p "$RUN_DIR/" -c "$RUN_DIR/nginx.conf"
                   -e "$RUN_DIR/logs/error.log" -g 'daemon off;')
    local said ready waited=0 i

    said=$("${command[@]}" -t -q 2>&1) || fail "$said"
    [ -z "$said" ] || printf '%s\n' "$said" >&2

    : >"$RUN_DIR/logs/nginx.log"
    watch_nginx
    start nginx "${command[@]}"
    nginx=$!
    echo "$nginx" >&8

    for ((i = 0; i < 300; i++)); do
        # a Redis that is there has a moment to be found
        ready=$(curl -sf "http://127.0.0.1:$ADMIN_PORT/readyz") \
            && { [[ $ready != *'"redis":"down"'* ]] || ((++waited > 40)); } \
            && return
        alive "$nginx" || break
        pause 0.05
    done

    cat "$RUN_DIR/logs/nginx.log" >&2
    tail -n 5 "$RUN_DIR/logs/error.log" >&2
    fail "the gateway does not start; its log is $RUN_DIR/logs/error.log"
}


admin_secret() {
    local file=$RUN_DIR/admin-secret

    if [ -n "$ADMIN_SECRET" ]; then
        (umask 077 && printf '%s\n' "$ADMIN_SECRET" >"$file")
    else
        [ -s "$file" ] || (umask 077 && head -c 32 /dev/urandom \
            | sha256sum | cut -c1-40 >"$file")
        ADMIN_SECRET=$(<"$file")
    fi

    [ -n "$ADMIN_SECRET" ] && chmod 600 "$file" || fail "cannot write $file"
}


tell() {
    local key='$LLM_KEY' url=http://127.0.0.1:$PORT/v1
    local headers body hint=' with the secret of a key in LLM_KEY'

    if grep -q "$(printf %s "$demo_secret" | sha256sum | cut -c1-64)" "$TENANTS"
    then
        key=$demo_secret
        hint=
    fi

    headers="-H \"Authorization: Bearer $key\""
    headers+=" -H 'Content-Type: application/json'"
    body='"model": "gpt-4o-mini",'
    body+=' "messages": [{"role": "user", "content": "Hello"}]'

    cat <<END
ngx-llm listens on $url
  provider      $provider
  redis         $redis_told
  tenants       $TENANTS
  metrics       http://127.0.0.1:$ADMIN_PORT/metrics
  admin         http://127.0.0.1:$ADMIN_PORT/admin/v1/
  dashboard     http://127.0.0.1:$ADMIN_PORT/dashboard/
  admin secret  $ADMIN_SECRET
  logs          $RUN_DIR/logs

Try it$hint:

curl $url/chat/completions $headers -d '{$body}'

curl -N $url/chat/completions $headers -d '{$body, "stream": true}'

Ctrl-C stops everything.
END
}


exec {clock}<> <(:)
by_make=
[ "$(cat "/proc/$PPID/comm" 2>/dev/null)" = make ] && make_catches && by_make=1
trap 'signals=$((signals + 1))' INT TERM HUP

is_port "$PORT" || fail "PORT \"$PORT\": expected a number from 1 to 65535"
[ -n "$ADMIN_PORT" ] || ADMIN_PORT=$((10#$PORT + 1))
is_port "$ADMIN_PORT" || fail "ADMIN_PORT \"$ADMIN_PORT\": expected a port"
[ "$PORT" != "$ADMIN_PORT" ] || fail "PORT and ADMIN_PORT are the same"
[[ $WORKERS =~ ^(auto|[1-9][0-9]{0,2})$ ]] \
    || fail "WORKERS \"$WORKERS\": expected a number or auto"

[ -r "$TENANTS" ] || fail "TENANTS \"$TENANTS\": cannot be read"
TENANTS=$(realpath "$TENANTS")

mkdir -p "$RUN_DIR/logs" "$RUN_DIR/tmp" && RUN_DIR=$(cd "$RUN_DIR" && pwd) \
    || fail "cannot write to RUN_DIR \"$RUN_DIR\""
case $RUN_DIR$TENANTS in
    *[\"\$\;{}\\]*) fail 'RUN_DIR and TENANTS: none of " $ ; { } \\ please' ;;
esac

# what a unix socket's address can hold
socket=$RUN_DIR/redis/redis.sock
[ "$(printf %s "$socket" | wc -c)" -lt 108 ] \
    || fail "RUN_DIR is too long for a unix socket in it: choose a shorter one"

exec 9>"$RUN_DIR/lock"
flock -n 9 || fail "a gateway runs in $RUN_DIR already: choose another RUN_DIR"

free_port "$PORT" PORT
free_port "$ADMIN_PORT" ADMIN_PORT

choose_user
ulimit -n "$(ulimit -Hn)" 2>/dev/null
admin_secret

export OPENAI_API_KEY

find_resolver

if [ -n "$OPENAI_BASE_URL$OPENAI_API_KEY" ]; then
    split_url "${OPENAI_BASE_URL:-https://api.openai.com/v1}"
    provider=$scheme://$host$base
else
    start_mock
    provider="the bundled mock, http://$host$base"
fi

find_ca

redis_told=off
if [ -z "$REDIS_URL" ]; then
    start_redis
    redis_told=$REDIS_URL
elif [ "$REDIS_URL" != off ]; then
    # without the password
    redis_told=$(sed -E 's,//[^/]*@,//…@,' <<<"$REDIS_URL")
fi

write_config
start_nginx
tell

while :; do
    pause 0.2

    for child in nginx redis mock; do
        if [ -n "${!child}" ] && ! alive "${!child}"; then
            tail -n 5 "$RUN_DIR/logs/$child.log" >&2
            fail "$child has ended unexpectedly; see $RUN_DIR/logs"
        fi
    done

    [ -z "$by_make" ] || make_catches || stop
done
