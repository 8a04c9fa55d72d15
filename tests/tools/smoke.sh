#!/bin/bash
#
# Copyright (C) the ngx-llm authors
#
# Builds the mock provider, the load generator and the fault proxy and checks
# what other tests rely on.  CC and CFLAGS choose the build; a directory with
# ready programs may be given as the only argument.

set -u

here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
bin=${1:-$tmp}
pids=()
n=0
failed=0

cleanup() {
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    rm -rf "$tmp"
}
trap cleanup EXIT

if [ $# -eq 0 ]; then
    cc="${CC:-gcc} ${CFLAGS:--O2}"
    $cc -o "$tmp/mock" "$here"/../mock/*.c "$here"/lib_*.c -lssl -lcrypto \
        || exit 1
    $cc -o "$tmp/load" "$here"/load*.c "$here"/lib_*.c || exit 1
    $cc -o "$tmp/faultproxy" "$here"/faultproxy*.c "$here"/lib_*.c || exit 1
fi

# start NAME COMMAND...: waits for the line that says it is ready
start() {
    local out="$tmp/$1.out"
    shift
    "$@" >"$out" 2>>"$tmp/err" &
    pids+=($!)
    for _ in $(seq 200); do
        grep -q listening "$out" && return
        sleep 0.02
    done
    echo "not started: $*"
    cat "$tmp/err"
    exit 1
}

# is NAME GOT EXPECTED (a pattern)
is() {
    n=$((n + 1))
    # shellcheck disable=SC2053
    if [[ "$2" == $3 ]]; then
        echo "ok $n - $1"
    else
        failed=$((failed + 1))
        echo "not ok $n - $1"
        echo "# got: ${2:0:600}"
        echo "# expected: $3"
    fi
}

get() { curl -sS -m 10 "$@" 2>/dev/null; }
code() { get -o /dev/null -w '%{http_code}' "$@"; }
exit_of() { get -o "$tmp/body" "$@"; echo $?; }
script() { get "$url/__mock/script" -d "$1"; }
events() { grep -c '^data: ' <<<"$1"; }
ms() { echo $(($(date +%s%N) / 1000000)); }

# port_of NAME [listening|control]
port_of() { sed -n "s/^mock ${2:-listening} on .*://p" "$tmp/$1.out"; }

start mock "$bin/mock"
port=$(port_of mock)
control=http://127.0.0.1:$(port_of mock control)/__mock
url=http://127.0.0.1:$port
chat=$url/v1/chat/completions
json='{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
sse='{"model":"gpt-4o","stream":true,"messages":[]}'
sse_usage='{"model":"gpt-4o","stream":true,"messages":[],
            "stream_options":{"include_usage":true}}'

# --- the plain answers

is "chat" "$(get $chat -d "$json")" \
    '{"id":"chatcmpl-mock*"total_tokens":30,*'
is "ids differ" "$(get $chat -d "$json" | cut -c1-40)" '*0002*'
is "completions" "$(get $url/v1/completions -d "$json")" \
    '*"object":"text_completion"*"text":"Hello *'
is "responses" "$(get $url/v1/responses -d "$json")" \
    '*"object":"response"*"input_tokens":10*'
is "embeddings" "$(get $url/v1/embeddings -d \
    '{"model":"e","input":["a","b"],"dimensions":2}')" \
    '*"embedding":\[-0.5,-0.35546875]*"index":1*"usage":*'
is "embeddings, base64" "$(get $url/v1/embeddings -d \
    '{"model":"e","input":"a","dimensions":1,"encoding_format":"base64"}')" \
    '*"embedding":"AAAAvw=="*'
is "models" "$(get $url/v1/models)" '{"object":"list",*"gpt-4.1"*'
is "a model" "$(get $url/openai/v1/models/x/y)" '{"id":"x/y","object":"model"*'
is "no such model" "$(code $url/v1/models/no-x)" 404
is "another prefix" "$(code $url/azure/chat/completions -d "$json")" 200
is "unknown path" "$(get $url/v1/nothing)" \
    '{"error":{"message":*"type":*"param":null,"code":"unknown_url"}}'
is "bad JSON" "$(code $chat -d '{"model":"gpt-4o",}')" 400
is "no model" "$(get $chat -d '{}')" '*"missing_required_parameter"*'
is "n" "$(get $chat -d '{"model":"m","n":3}')" \
    '*"index":0*"index":1*"index":2*'
is "chunked request" "$(code $chat \
    -H 'Transfer-Encoding: chunked' -d "$json")" 200
head -c 8000000 /dev/zero | tr '\0' x >"$tmp/x"
(printf '{"model":"m","a":"'; cat "$tmp/x"; printf '"}') >"$tmp/big"
is "8 MB" "$(code $chat --data-binary @"$tmp/big")" 200
is "8 MB chunked" "$(code $chat -H 'Transfer-Encoding: chunked' \
    --data-binary @"$tmp/big")" 200

stream=$(get $chat -d "$sse")
is "stream: events" "$(events "$stream")" 11
is "stream: shape" "$stream" \
    'data: *"role":"assistant"*"finish_reason":"stop"*data: \[DONE]*'
is "stream: no usage unasked" "$(grep -c usage <<<"$stream")" 0
stream=$(get $chat -d "$sse_usage")
is "stream: usage" "$stream" \
    '*"usage":null*"choices":\[],"usage":{"prompt_tokens":10*\[DONE]*'
stream=$(get $url/v1/responses -d "$sse")
is "responses stream" "$stream" \
    'event: response.created*"sequence_number":15*"status":"completed"*'
is "responses stream: no [DONE]" "$(grep -c DONE <<<"$stream")" 0

exec 3<>/dev/tcp/127.0.0.1/$port
one="POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\r\n"
printf "$one{\"model\":\"a\"}$one{\"model\":\"b\"}$one{\"model\":\"c\"}" >&3
is "pipelining" "$(timeout 1 cat <&3 | grep -o '"model":"."' | tr -d '\n')" \
    '"model":"a""model":"b""model":"c"'
exec 3>&-

# --- the script

is "script" "$(script '{"rules":[
    {"match":{"model":"a*"},"times":2,
     "status":429,"headers":{"retry-after":"3"}},
    {"match":{"headers":{"x-a":"b"}},"status":503,"error_code":"boo"},
    {"match":{"model":"a"},"status":200,"content":"A \"quote\""}]}')" \
    '{"rules":3}'
is "first" "$(get -i $chat -d '{"model":"a1"}')" \
    '*429*retry-after: 3*rate_limit*'
is "second" "$(code $chat -d '{"model":"a"}')" 429
is "third" "$(get $chat -d '{"model":"a"}')" '*"content":"A \\"quote\\""*'
is "header" "$(get $chat -H 'x-a: b' -d "$json")" '*"code":"boo"*'
is "others" "$(code $chat -d "$json")" 200
is "misspelt" "$(script '{"rules":[{"stauts":1}]}')" \
    '{"error":"unknown member *stauts*'
is "and nothing changed" "$(code $chat -H 'x-a: b' -d "$json")" 503
script '{}' >/dev/null

h() { local a=(); for x in "$@"; do a+=(-H "x-mock-$x"); done
      get -N -i $chat -d "$sse" "${a[@]}"; }
x() { local a=(); for v in "$@"; do a+=(-H "x-mock-$v"); done
      exit_of -N $chat -d "$sse" "${a[@]}"; }

is "headers act" "$(h 'status: 500')" '*500 Internal*"server_error"*'
is "unknown x-mock" "$(h 'stauts: 500')" '*400 Bad*"mock_script"*'
is "body" "$(h 'body: <html>' 'header: Content-Type: text/html')" \
    '*text/html*<html>'
is "chunks" "$(events "$(h 'chunks: 100' 'chunk-bytes: 3')")" 103
is "crlf" "$(h 'eol: crlf' | tr '\r' R)" '*DONE]R?R*'
is "cr" "$(h 'eol: cr' | tr '\r' R)" '*RRdata: \[DONE]RR*'
is "comment" "$(h 'comment: hey')" '*: hey*: hey*'
is "no usage" "$(get $chat -d "$sse_usage" -H 'x-mock-usage: none')" \
    '*"finish_reason":"stop"}]}*'
is "usage last" "$(h 'usage: last')" '*"stop"}],"usage":{*'
is "error event first" "$(h 'error-event: 0')" '*data: {"error":{"message"*'
is "error event: alone" "$(events "$(h 'error-event: 3')")" 4
is "no [DONE]" "$(events "$(h 'no-done: 1')")" 10
is "clean cut" "$(x 'cut: clean' 'cut-events: 3')" 0
is "clean cut: events" "$(events "$(cat "$tmp/body")")" 3
is "cut after events" "$(x 'cut-events: 3')" 18
is "cut at a byte" "$(x 'cut-at: 700')" 18
is "cut at a byte: all came" "$(stat -c %s "$tmp/body")" 700
is "reset in mid-stream" "$(x 'cut: rst' 'cut-events: 2')" 56
is "reset: events came" "$(events "$(cat "$tmp/body")")" 2
is "close at the start" "$(x 'cut-at: start')" 52
is "reset at the start" "$(x 'cut: rst')" 56
is "close after the head" "$(x 'cut-at: head')" 18
is "hang" "$(exit_of -m 0.2 $chat -d "$json" -H 'x-mock-hang: 1')" 28
is "hang in mid-stream" "$(exit_of -m 0.2 -N $chat -d "$sse" \
    -H 'x-mock-cut: hang' -H 'x-mock-cut-events: 2')" 28
is "truncated JSON" "$(get $chat -d "$json" -H 'x-mock-truncate: 30')" \
    '{"id":"chatcmpl-mock??????????'
is "lying length" "$(exit_of $chat -d "$json" \
    -H 'x-mock-content-length: 9999' -m 0.3)" 28
is "garbage" "$(get $chat -d "$json" -H 'x-mock-garbage: 500' | wc -c)" 500
is "raw" "$(exit_of --http1.1 $chat -d "$json" -H 'x-mock-raw: rubbish')" 1
is "until close" "$(h 'framing: close')" '*Connection: close*DONE]*'
is "stream with a length" "$(h 'framing: length')" '*Content-Length: *DONE]*'
is "early" "$(get -i $chat -H 'x-mock-early: 1' -H 'x-mock-status: 413' \
    -H 'Expect:' --data-binary @"$tmp/big")" '*413*'
is "tool call" "$(h 'tool-name: f')" '*"tool_calls"*"name":"f"*'

t=$(ms)
h 'pace-ms: 20' >/dev/null
t=$(($(ms) - t))
is "pace: 10 x 20 ms ($t)" "$((t >= 200 && t < 1000))" 1
t=$(ms)
get $chat -d "$json" -H 'x-mock-delay-ms: 100' -H 'x-mock-body-delay-ms: 100' \
    >/dev/null
t=$(($(ms) - t))
is "delays: 2 x 100 ms ($t)" "$((t >= 200 && t < 1000))" 1

# --- the journal

get -X POST $url/__mock/reset >/dev/null
get -N $chat -d "$sse" -H 'x-mock-keep: 1' -H 'x-mock-slice: 1' >"$tmp/sent"
is "sent, byte by byte" \
    "$(get "$url/__mock/sent?index=0" | cmp - "$tmp/sent" && echo same)" same
exit_of -m 0.2 $chat -d "$json" -H 'x-mock-hang: 1' >/dev/null
is "wait" "$(get "$url/__mock/wait?client_closed=1&in_flight=0")" \
    '{"requests":2,"in_flight":0,"max_in_flight":1,"client_closed":1,*'
is "wait: timeout" "$(code "$url/__mock/wait?requests=9&timeout_ms=50")" 408
is "wait: misspelt" "$(code "$url/__mock/wait?request=9")" 400
is "journal" "$(get $url/__mock/journal)" \
    '*"path":"/v1/chat/completions"*"sent_length":'"$(stat -c %s "$tmp/sent")"\
'*"ended":"client_closed"*'
for _ in 1 2 3; do get $chat -d "$json" -H 'x-mock-delay-ms: 300' & done \
    >/dev/null
is "in flight" "$(get "$url/__mock/wait?in_flight=3")" '*"max_in_flight":3,*'
is "in flight no more" "$(get "$url/__mock/wait?in_flight=0&done=4")" \
    '*"in_flight":0,*'

start mock2 "$bin/mock" --key sesame
keyed=http://127.0.0.1:$(port_of mock2)/v1/chat/completions
is "no key" "$(get $keyed -d "$json")" '*"code":"invalid_api_key"*'
is "key" "$(code $keyed -d "$json" -H 'Authorization: Bearer sesame')" 200
is "wrong key" "$(code $keyed -d "$json" -H 'Authorization: Bearer sesam')" 401

# --- a time for each rule, a pause here and there

script '{"rules":[{"fail_for_ms":300,"status":503},
    {"from_ms":300,"until_ms":600,"status":529}]}' >/dev/null
is "at first" "$(code $chat -d "$json")" 503
sleep 0.35
is "then" "$(code $chat -d "$json")" 529
sleep 0.35
is "and healthy" "$(code $chat -d "$json")" 200
is "control only" "$(code ${control%/__mock}/v1/chat/completions \
    -d "$json")" 404
get -X POST $control/reset >/dev/null
is "a reset begins anew" "$(code $chat -d "$json")" 503
script '{}' >/dev/null

t=$(ms); h 'ttft-ms: 150' 'idle-at: 3' 'idle-ms: 150' >/dev/null
t=$(($(ms) - t))
is "first event, idle: 2 x 150 ms ($t)" "$((t >= 300 && t < 1000))" 1
is "idle at an event" "$(exit_of -m 0.2 -N $chat -d "$sse" \
    -H 'x-mock-idle-at: 3' -H 'x-mock-idle-ms: 5000'; events \
    "$(cat "$tmp/body")")" '28?3'
t=$(ms)
for _ in 1 2 3 4 5 6; do
    get $chat -d "$json" -H 'x-mock-delay-jitter-ms: 100' >/dev/null
done
t=$(($(ms) - t))
is "jitter: six of 0 to 100 ms ($t)" "$((t >= 60 && t < 900))" 1

# --- limits

script '{"rules":[{"limit":{"requests_per_minute":60,"burst":2,
    "tokens_per_minute":6000}}]}' >/dev/null
is "limit: first" "$(get -i $chat -d "$json")" '*200 OK*'\
'x-ratelimit-limit-requests: 60*'
head=$(get -i $chat -d "$json")
is "limit: remaining" "$head" '*x-ratelimit-remaining-requests: 0?*'
is "limit: reset" "$head" '*x-ratelimit-reset-requests: [12]*s?*'
is "limit: tokens" "$head" '*x-ratelimit-remaining-tokens: 59[4-9]?*'\
'x-ratelimit-limit-tokens: 6000*'
head=$(get -i $chat -d "$json")
is "limit: 429" "$head" '*429 *retry-after-ms: *retry-after: 1*'\
'"message":"Rate limit reached for gpt-4o on requests per min: Limit 60,*'\
'"type":"requests"*"code":"rate_limit_exceeded"*'
is "limit: stats" "$(get $control/stats)" '*"limited":1,*"remaining":0,*'
wait_ms=$(sed -n 's/^retry-after-ms: \([0-9]*\).*/\1/p' <<<"$head")
sleep "$(printf '%d.%03d' $((wait_ms / 1000)) $((wait_ms % 1000)))"
is "limit: after that pause ($wait_ms ms)" "$(code $chat -d "$json")" 200
is "limit: reset" "$(get -X POST $control/reset)" '*"remaining":2,*'

script '{"rules":[{"limit":{"tokens_per_minute":60}}]}' >/dev/null
is "limit: tokens" "$(for _ in 1 2 3; do code $chat -d "$json"; done)" \
    200200429
is "limit: type" "$(get $chat -d "$json")" '*"type":"tokens"*'
script '{"rules":[{"limit":{"requests_per_minute":3,"window_ms":400}}]}' \
    >/dev/null
is "window" "$(for _ in 1 2 3 4; do code $chat -d "$json"; done)" \
    200200200429
sleep 0.4
is "the next window" "$(for _ in 1 2 3; do code $chat -d "$json"; done)" \
    200200200
for style in openai azure anthropic none; do
    script '{"rules":[{"limit_headers":"'$style'",
        "limit":{"requests_per_minute":6,"burst":1}}]}' >/dev/null
    get $chat -d "$json" >/dev/null
    get -i $chat -d "$json" | tr -d '\r' >"$tmp/$style"
done
is "headers: openai" "$(cat "$tmp/openai")" '*reset-requests: *.[0-9]*s?*'
is "headers: azure" "$(grep -i reset "$tmp/azure")" \
    'x-ratelimit-reset-requests: 10'
is "headers: anthropic" "$(grep -i -e reset "$tmp/anthropic")" \
    'anthropic-ratelimit-requests-reset: 20??-??-??T??:??:??Z'
is "headers: none" "$(grep -ciE 'ratelimit-|retry' "$tmp/none")" 0
is "headers: none, 429" "$(cat "$tmp/none")" '*429 Too*'
is "limit: wrong" "$(script '{"rules":[{"limit":{"rpm":6}}]}')" \
    '{"error":"unknown member *limit*'
script '{}' >/dev/null

# --- the listening socket

listen() { get $control/listen -d "$1"; }

exec 3<>/dev/tcp/127.0.0.1/$port
printf '%s\r\nContent-Length: 13\r\n\r\n{"model":"a"}' \
    'POST /v1/completions HTTP/1.1' >&3
read -r -t 5 line <&3
is "a connection" "$line" '*200 OK*'
is "closed" "$(listen '{"open":false}')" '{"open":false,"accept":true}'
is "refuses" "$(exit_of $chat -d "$json")" 7
is "who is there stays" "$(get $control/stats)" '*"connections":1,*'
listen '{"drop":true}' >/dev/null
is "until dropped" "$(get $control/stats)" '*"connections":0,*'
exec 3>&-
listen '{"open":true}' >/dev/null
is "open again" "$(code $chat -d "$json")" 200
listen '{"accept":false}' >/dev/null
is "never connects" "$(get -m 0.3 -o /dev/null -w '%{time_connect}' \
    $chat -d "$json")" 0.000000
listen '{"accept":true}' >/dev/null
is "accepts again" "$(code $chat -d "$json")" 200
listen '{"accept":false,"backlog":8}' >/dev/null
is "connects to nobody" "$(get -m 0.3 -o /dev/null -w '%{time_connect}' \
    $chat -d "$json")" '0.0??[0-9]*[1-9]*'
listen '{"accept":true}' >/dev/null
is "listen: misspelt" "$(code $control/listen -d '{"closed":true}')" 400

# --- TLS

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout "$tmp/key.pem" -out "$tmp/cert.pem" -days 2 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
start mock3 "$bin/mock" --tls "$tmp/cert.pem" "$tmp/key.pem"
tls=https://localhost:$(port_of mock3)/v1/chat/completions
tls_control=http://127.0.0.1:$(port_of mock3 control)/__mock
safe=(--cacert "$tmp/cert.pem" --resolve "localhost:$(port_of mock3):127.0.0.1")
is "TLS" "$(get "${safe[@]}" $tls -d "$json")" '{"id":"chatcmpl-mock*'
is "TLS: stream" "$(events "$(get "${safe[@]}" -N $tls -d "$sse" \
    -H 'x-mock-chunks: 20000' -H 'x-mock-chunk-bytes: 200')")" 20003
is "TLS: slices" "$(events "$(get "${safe[@]}" -N $tls -d "$sse" \
    -H 'x-mock-slice: 7')")" 11
is "TLS: 8 MB" "$(get "${safe[@]}" -o /dev/null -w '%{http_code}' $tls \
    --data-binary @"$tmp/big")" 200
is "TLS: cut" "$(exit_of "${safe[@]}" -N $tls -d "$sse" \
    -H 'x-mock-cut-events: 3')" 18
is "TLS: reset" "$(exit_of "${safe[@]}" -N $tls -d "$sse" \
    -H 'x-mock-cut: rst' -H 'x-mock-cut-events: 3')" 56
is "TLS: until close" "$(exit_of "${safe[@]}" -N $tls -d "$sse" \
    -H 'x-mock-framing: close')" 0
is "TLS: not trusted" "$(exit_of $tls -d "$json")" 60
is "TLS: counted" "$(get "$tls_control/wait?tls_failed=1")" \
    '*"tls_failed":1,*'
is "TLS: journal" "$(get $tls_control/journal)" '*"sni":"localhost"*'
is "TLS: bad file" "$("$bin/mock" --tls "$tmp/cert.pem" "$tmp/x" 2>&1)" \
    '*/x: error:*'

# --- load

is "load: closed loop" "$("$bin/load" -c 4 -n 500 --expect '"stop"' $chat)" \
    '{"requests":500,"ok":500,*'
is "load: rate" "$("$bin/load" -c 4 -r 200 -d 0.5 $chat)" \
    '{"requests":100,"ok":100,*"late":0,*'
is "load: stream" "$("$bin/load" -c 2 -n 10 --stream $chat)" \
    '{"requests":10,"ok":10,*"events":110,*'
is "load: stamps" "$("$bin/load" -n 2 --stream -H 'x-mock-stamp: 1' $chat)" \
    '*"transit":{"p50":*"count":16}*'
is "load: no [DONE]" "$("$bin/load" -n 3 --stream \
    -H 'x-mock-no-done: 1' $chat)" \
    '*"ok":0,*"body":3,*'
is "load: status" "$("$bin/load" -n 3 -H 'x-mock-status: 500' $chat)" \
    '*"ok":0,*"status":3,*'
is "load: expected text" "$("$bin/load" -n 3 --expect nowhere $chat)" \
    '*"ok":0,*"body":3,*'
is "load: cut" "$("$bin/load" -n 3 -H 'x-mock-cut-at: 20' $chat)" \
    '*"ok":0,*"closed":3,*'
is "load: timeout" "$("$bin/load" -n 1 --timeout 50 \
    -H 'x-mock-hang: 1' $chat)" \
    '*"ok":0,*"timeout":1,*'
is "load: a server that stalls shows" "$("$bin/load" -c 1 -r 100 -d 0.5 \
    -H 'x-mock-delay-ms: 20' $chat | sed 's/.*"max":\([0-9]*\).*/\1/')" \
    '[2-9]?????'

# A server that stands still while requests go on being due: nothing may be left
# out, each counts from when it was due.
stalled() {
    local seconds=$1 load
    shift
    script '{}' >/dev/null
    "$bin/load" -r 500 --over 100000 "$@" $chat >"$tmp/stalled" &
    load=$!
    get "$url/__mock/wait?requests=100" >/dev/null
    kill -STOP "${pids[0]}"
    sleep "$seconds"
    kill -CONT "${pids[0]}"
    wait $load
}
stalled_field() { sed "s/.*\"$1\":{*\(\"100000\":\)*\([0-9]*\).*/\2/" \
    "$tmp/stalled"; }

# those due in the first 150 ms of 250 wait for over 100 ms: 75, or 74
for c in 2 1024; do
    stalled 0.25 -c $c -d 1.5
    is "load: 250 ms of stall, $c connections" "$(cat "$tmp/stalled")" \
        '{"requests":750,"ok":750,*'
    is "load: 74 or more were over 100 ms ($(stalled_field over))" \
        "$(($(stalled_field over) >= 74))" 1
done
is "load: at a rate it does not wait for answers" "$(cat "$tmp/stalled")" \
    '*"late":0,*'
stalled 0.6 -c 2 -d 0.6
is "load: over the end, what is due is sent" "$(cat "$tmp/stalled")" \
    '{"requests":300,"ok":300,*'
is "load: but late" "$(($(stalled_field late) > 0))" 1

# --- faultproxy

start proxy "$bin/faultproxy" --to "127.0.0.1:$port"
pport=$(sed 's/.*127.0.0.1:\([0-9]*\) control.*/\1/' "$tmp/proxy.out")
cport=$(sed 's/.*://' "$tmp/proxy.out")
via=http://127.0.0.1:$pport/v1/chat/completions

start proxy2 "$bin/faultproxy" --listen "unix:$tmp/sock" \
    --to "127.0.0.1:$port" --do 'up latency 1'

exec 4<>/dev/tcp/127.0.0.1/$cport
say() { echo "$*" >&4; read -r answer <&4; echo "$answer"; }

is "proxy" "$(get $via -d "$json")" '{"id":"chatcmpl-mock*'
is "bad command" "$(say latency)" 'error: *'
is "latency" "$(say down latency 150)" ok
t=$(ms); get $via -d "$json" >/dev/null; t=$(($(ms) - t))
is "150 ms one way ($t)" "$((t >= 150 && t < 290))" 1
is "pass" "$(say pass)" ok
say down rst-after 300 >/dev/null
is "reset after 300 bytes" "$(exit_of -N $via -d "$sse")" 56
say down close-after 300 >/dev/null
is "close after 300 bytes" "$(exit_of -N $via -d "$sse")" 18
say down stall-after 300 >/dev/null
is "stall after 300 bytes" "$(exit_of -m 0.3 -N $via -d "$sse")" 28
script '{}' >/dev/null
get $via -d "$json" >"$tmp/late" &
late=$!
get "$url/__mock/wait?done=1" >/dev/null
say pass >/dev/null
wait $late
is "and goes on" "$(cat "$tmp/late")" '{"id":"chatcmpl-mock*'
say slice 7 >/dev/null
is "slices" "$(events "$(get -N $via -d "$sse")")" 11
say refuse >/dev/null
is "refuse" "$(exit_of $via -d "$json")" 7
say pass >/dev/null
is "accepts again" "$(code $via -d "$json")" 200
say hang >/dev/null
is "hang" "$(exit_of -m 0.2 $via -d "$json")" 28
say pass >/dev/null
say rate 4000 >/dev/null
t=$(ms); get -N $via -d "$sse" >/dev/null; t=$(($(ms) - t))
is "2.8 kB at 4 kB/s ($t ms)" "$((t >= 500 && t < 2000))" 1
is "stats" "$(say stats)" '{"accepted":10,"open":0,*'
is "load by a unix socket" "$("$bin/load" -n 5 \
    "unix:$tmp/sock:/v1/chat/completions")" '{"requests":5,"ok":5,*'

exec 4>&-
for pid in "${pids[@]}"; do
    kill "$pid"
    wait "$pid"
    is "ends on SIGTERM" $? 0
done
pids=()
is "nothing on stderr" "$(cat "$tmp/err")" ''

echo "1..$n"
[ "$failed" -eq 0 ]
