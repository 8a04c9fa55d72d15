#!/bin/bash
#
# deb-tour.sh: run by deb-test.sh as root inside of a bare Debian with the
# package, where every port is free: docs/install.md, then the README.

set -u

url=http://127.0.0.1:8080/v1
key=sk-llm-demo000000000000000000000000000000000000
hello='"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]'
site=/etc/nginx/sites-available/ngx-llm
bad=0

ok() {
    local what=$1
    shift

    if "$@"; then
        echo "ok - $what"
    else
        echo "not ok - $what"
        bad=1
    fi
}

await() {
    local i

    for ((i = 0; i < 200; i++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done

    return 1
}

has() {
    local text=$1 part
    shift

    for part in "$@"; do
        [[ $text == *"$part"* ]] || { printf '%s\n' "no $part in:" "$text"
                                      return 1; }
    done
}

ask() {
    curl -sS -i "$url/chat/completions" -H "Authorization: Bearer $key" \
        -H 'Content-Type: application/json' -d "$1" | tr -d '\r'
}


redis-server --daemonize yes --dir /tmp >/dev/null
mock --port 9999 >/tmp/mock.log 2>&1 &
ok 'Redis' await redis-cli ping
ok 'the mock' await grep -q listening /tmp/mock.log

# another provider, as the head of the site says
sed -i -e 's,server api.openai.com:443 ,server 127.0.0.1:9999 ,' \
    -e 's,https://openai/v1/,http://openai/v1/,' "$site"

# systemd is not here
systemctl() {
    [ "$*" = 'reload nginx' ] && nginx
}

set -e
. /root/told.sh
set +e

ok 'ready, with Redis' await sh -c \
    "curl -sf http://127.0.0.1:8081/readyz | grep -q '\"redis\":\"up\"'"
curl -s http://127.0.0.1:8081/readyz
ok 'healthy' curl -sf -o /dev/null http://127.0.0.1:8081/healthz

said=$(ask "{$hello}")
ok 'the first time from the provider' has "$said" 'HTTP/1.1 200 OK' \
    'Cache-Status: ngx-llm; fwd=uri-miss' 'x-llm-provider: openai' \
    'x-llm-attempts: 1' 'Hello from the mock provider'

said=$(ask "{$hello}")
ok 'again from the cache' has "$said" 'HTTP/1.1 200 OK' \
    'Cache-Status: ngx-llm; hit' 'x-llm-attempts: 0' \
    'Hello from the mock provider'

said=$(curl -sSN "$url/chat/completions" -H "Authorization: Bearer $key" \
    -H 'Content-Type: application/json' -d "{$hello, \"stream\": true}")
ok 'a stream' has "$said" 'data: {"id":"chatcmpl-mock' \
    '"object":"chat.completion.chunk"' 'data: [DONE]'

said=$(curl -sS -i "$url/models" -H 'Authorization: Bearer sk-llm-nobody')
ok 'a wrong key' has "$said" ' 401 ' '"code":"invalid_api_key"'

said=$(curl -sS http://127.0.0.1:8081/metrics)
ok 'metrics' has "$said" \
    'llm_http_requests_total{endpoint="chat_completions",status="200"} 3' \
    'llm_cache_requests_total{result="hit"}' 'llm_slots_in_use 0'

said=$(curl -sS -i http://127.0.0.1:8081/dashboard/)
ok 'the dashboard' has "$said" ' 200 ' 'Content-Security-Policy' '<!doctype'

export LLMCTL_SECRET_FILE=/etc/nginx/llm/admin-secret
secret=$(llmctl key create guest --team demo)
ok 'llmctl makes a key' has "$secret" sk-llm-
key=$secret
ok 'which works' has "$(ask "{$hello}")" 'HTTP/1.1 200 OK'

ok 'the log' grep -q '"team":"demo".*"cache":"hit"' /var/log/nginx/llm.log
ok 'no alarm' sh -c '! grep -E "\[(alert|crit|emerg)\]" /var/log/nginx/error.log'

nginx -s quit
ok 'nginx ends' await sh -c '! test -e /run/nginx.pid'
ok 'what was used is kept' test -s /var/lib/nginx/llm/tallies
redis-cli shutdown nosave 2>/dev/null
kill %1

exit $bad
