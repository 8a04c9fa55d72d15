#!/usr/bin/perl

# /v1/compare and the internal listener: several models at once, each leg a
# request of its own; and nobody else gets in by that door.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::UNIX;
use JSON::PP;
use Socket qw(SOCK_STREAM);
use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);
my $socket = $t->path('internal.sock');

$t->key('user');
$t->key('daily', team => 'daily', requests_per_day => 5,
    tokens_per_day => 1000);
$t->key('tight', team => 'tight', requests_per_minute => 2);
$t->key('narrow', team => 'narrow', models => ['gpt-*']);
$t->key('disabled', enabled => JSON::PP::false);
$t->key('single', team => 'single', concurrency => 1);

my $log = 'log_format llm escape=json \'{"id":"$llm_request_id",'
    . '"uri":"$uri","status":$status,"key":"$llm_key","model":"$llm_model",'
    . '"provider":"$llm_provider","attempts":"$llm_attempts",'
    . '"cache":"$llm_cache","prompt":"$llm_prompt_tokens",'
    . '"completion":"$llm_completion_tokens"}\';'
    . ' access_log %%DIR%%/llm.log llm;';

my $mock = $t->gateway(
    http => "llm_internal unix:$socket; $log",
    server => "listen unix:$socket; listen 127.0.0.1:%%PORT_H2%% http2;",
    location => 'llm_cache on ttl=1h; llm_retry tries=2 base=1ms;',
);


# one failing, one slow

sub compare {
    my ($text, $models, %spec) = @_;

    my %body = (models => $models,
        messages => [{ role => 'user', content => $text }],
        %{delete $spec{body} // {}});

    return $t->start_post('/v1/compare', \%body, key => 'user', %spec);
}

sub lines {
    my ($id) = @_;

    my @lines = sort { $a->{id} cmp $b->{id} }
        grep { $_->{id} =~ /^\Q$id\E/ }
        map { decode_json($_) } split /\n/, $t->read('llm.log');

    return @lines;
}

my @trouble = (
    { match => { model => 'bad' }, status => 503 },
    { match => { model => 'wrong' }, status => 400,
        error_message => 'No such parameter.' },
    { match => { model => 'slow*' }, delay_ms => 600 },
    { match => { model => 'hang*' }, hang => JSON::PP::true },
    { match => { model => 'large' }, content_bytes => 1100000 },
    { keep => JSON::PP::true },
);

$mock->script(@trouble);

my $begin = time;
my $r = compare('three', ['good', 'bad', 'slow'],
    headers => { 'x-request-id' => 'three', 'x-custom' => 'kept',
        'traceparent' => '00-4bf92f3577b34da6a3ce929d0e0e4736-'
            . '00f067aa0ba902b7-01' });
ok $r->wait, 'a comparison is answered';
my $took = time - $begin;

is $r->status, 200, 'status';
is $r->header('content-type'), 'application/json', 'type';
is $r->header('x-request-id'), 'three', 'its id';
my $data = $r->json->{data};
is $r->json->{object}, 'list', 'a list';
is_deeply [map { $_->{model} } @$data], ['good', 'bad', 'slow'],
    'in the order that was asked for';
is_deeply [map { $_->{status} } @$data], [200, 503, 200],
    'the failure in its place';
is_deeply [map { join ' ', sort keys %$_ } @$data],
    [('body latency_ms model provider status') x 3], 'members';
is_deeply [map { $_->{provider} } @$data], [('mock') x 3], 'providers';
is $data->[0]{body}{model}, 'good', 'body of the first';
is $data->[1]{body}{error}{type}, 'server_error', 'of the failure';
is $data->[2]{body}{usage}{total_tokens}, 30, 'of the slow one';
like $data->[2]{body}{choices}[0]{message}{content}, qr/^Hello/, 'its text';

SKIP: {
    skip 'time is no measure', 2 if $t->sanitized;
    cmp_ok $took, '<', 1.2, "as soon as the slow one is done: $took s";
    cmp_ok $data->[0]{latency_ms}, '<', 400, 'the quick one was quick';
}

cmp_ok $data->[2]{latency_ms}, '>=', 590, 'latency of the slow one';
cmp_ok $took, '>=', 0.59, 'which was waited for';

my @calls = $mock->journal;
is scalar @calls, 4, 'the failing one was tried twice';
my ($call) = grep { $_->{body} =~ /"good"/ } @calls;
is index($r->body, $mock->sent($call->{index})) >= 0, 1,
    'the body is the provider\'s, byte for byte';
is_deeply decode_json($call->{body}), { model => 'good',
    messages => [{ role => 'user', content => 'three' }] }, 'what was asked';
is $call->{headers}{'x-request-id'}, 'three-0', 'id of a leg';
is $call->{headers}{'x-custom'}, 'kept', 'a header goes along';
like $call->{headers}{traceparent}, qr/^00-4bf92f3577b34da6a3ce929d0e0e4736-/,
    'the trace, too';
is_deeply [grep { /^x-llm-|cookie|x-request-timeout/ }
    map { keys %{$_->{headers}} } @calls], [], 'no provider sees ours';
is $call->{headers}{authorization}, 'Bearer sk-provider-secret',
    'but its own key';

$t->until(sub { lines('three') == 4 });
my @lines = lines('three');
is_deeply [map { $_->{id} } @lines],
    ['three', 'three-0', 'three-1', 'three-2'], 'a log line for each leg';
is_deeply [map { $_->{uri} } @lines],
    ['/v1/compare', ('/v1/chat/completions') x 3], 'and one for all';
is_deeply [map { $_->{status} } @lines], [200, 200, 503, 200], 'statuses';
is_deeply [map { $_->{attempts} } @lines[1 .. 3]], [1, 2, 1], 'attempts';
is_deeply [map { $_->{key} } @lines], [('user') x 4], 'one key';
is_deeply [map { $_->{prompt} + $_->{completion} } @lines[1, 3]], [30, 30],
    'tokens';
$t->all_back('three');


# what was used, by the ledger; the cache

$mock->reset;
compare('ledger', ['good', 'bad', 'good2'], key => 'daily')->wait;
is $t->chat('four', key => 'daily')->status, 200, 'the fourth of five';
is $t->chat('five', key => 'daily')->status, 200, 'the fifth';
$r = $t->chat('six', key => 'daily');
is $r->status, 429, 'three legs were three requests of the key';

$mock->reset;
$r = compare('three', ['good', 'fresh'], headers => { 'x-request-id' => 'hit' });
$r->wait;
is_deeply [map { $_->{status} } @{$r->json->{data}}], [200, 200],
    'again, with another model';
is $mock->stats->{requests}, 1, 'one leg came from the cache';
$t->until(sub { lines('hit') == 3 });
is_deeply [map { $_->{cache} } (lines('hit'))[1, 2]], ['hit', 'miss'],
    'as its log line says';

$r = compare('three', ['good', 'good'],
    headers => { 'cache-control' => 'no-store' });
$r->wait;
is_deeply [map { $_->{status} } @{$r->json->{data}}], [200, 200],
    'a model twice';
is $mock->stats->{requests}, 3, 'and no cache: the wish goes along';


# limits and errors are each leg's own

$r = compare('tight', ['a', 'b', 'c'], key => 'tight');
$r->wait;
is join(' ', sort map { $_->{status} } @{$r->json->{data}}), '200 200 429',
    'one leg is over the limit';
my ($over) = grep { $_->{status} == 429 } @{$r->json->{data}};
is $over->{body}{error}{code}, 'rate_limit_exceeded', 'as its body says';
is $over->{provider}, undef, 'and no provider was asked';

$r = compare('narrow', ['gpt-4o', 'other'], key => 'narrow');
$r->wait;
is_deeply [map { $_->{status} } @{$r->json->{data}}], [200, 404],
    'a model that the key may not use';
is $r->json->{data}[1]{body}{error}{code}, 'model_not_found', 'is not there';

$r = compare('errors', ['wrong', 'large', 'good']);
$r->wait;
is_deeply [map { $_->{status} } @{$r->json->{data}}], [400, 502, 200],
    'an error of the provider, and an answer that is too large';
is $r->json->{data}[0]{body}{error}{message}, 'No such parameter.',
    'a provider\'s error as it is';
is $r->json->{data}[1]{body}{error}{code}, 'upstream_error', 'the large one';

$r = compare('single', ['slow', 'slow2'], key => 'single');
$r->wait;
is_deeply [map { $_->{status} } @{$r->json->{data}}], [200, 200],
    'with one slot';
cmp_ok $r->json->{data}[0]{latency_ms} + $r->json->{data}[1]{latency_ms},
    '>=', 1750, 'one waits for the other';

is compare('x', ['good'], key => 'disabled')->tap_status, 403,
    'a disabled key';


# what is no comparison

my $body = '"messages":[{"role":"user","content":"x"}]';
my @many = map { "\"m$_\"" } 1 .. 17;
my $all = '[' . join(',', @many[0 .. 15]) . ']';

for my $bad (
    [ "{$body}", 'missing_required_parameter', 'models' ],
    [ "{\"models\":[],$body}", 'invalid_value', 'models' ],
    [ "{\"models\":\"good\",$body}", 'invalid_type', 'models' ],
    [ "{\"models\":{\"a\":1},$body}", 'invalid_type', 'models' ],
    [ "{\"models\":[\"a\",1],$body}", 'invalid_type', 'models' ],
    [ "{\"models\":[[\"a\"]],$body}", 'invalid_type', 'models' ],
    [ "{\"models\":[\"\"],$body}", 'invalid_value', 'models' ],
    [ "{\"models\":[\"" . 'm' x 257 . "\"],$body}", 'invalid_value',
        'models' ],
    [ "{\"models\":[" . join(',', @many) . "],$body}", 'invalid_value',
        'models' ],
    [ "{\"models\":[\"a\"],\"models\":[\"b\"],$body}", 'duplicate_key' ],
    [ "{\"models\":[\"a\"],\"model\":1,\"mod\\u0065l\":2}",
        'duplicate_key' ],
    [ "{\"models\":[\"a\"],\"stream\":true,$body}", 'unsupported_value',
        'stream' ],
    [ "{\"models\":[\"a\",$body}", 'invalid_json' ],
    [ "{\"models\":[\"a\"],$body", 'invalid_json' ],
    [ "{\"models\":[\"a\"],$body}}", 'invalid_json' ],
    [ "[]", 'invalid_json' ],
    [ "", 'invalid_json' ],
) {
    my ($text, $code, $param) = @$bad;

    my $r = $t->post('/v1/compare', $text, key => 'user',
        headers => { 'Content-Type' => 'application/json' });
    my $error = ($r->json // {})->{error} // {};

    is $r->status . " $error->{code} " . ($error->{param} // '-'),
        "400 $code " . ($param // '-'), substr $text, 0, 50;
}

is $t->get('/v1/compare', key => 'user')->status, 405, 'GET';
is $t->post('/v1/compare', "{$body}")->status, 401, 'without a key';


# how a leg's body is made of the client's

for my $shape (
    [ '{"models":["A"],"n":1}', '{"model":"A","n":1}' ],
    [ ' { "n" : 1 , "models" : [ "A" ] } ', ' { "n" : 1 , "model":"A" } ' ],
    [ '{"mod\u0065ls":["\u0041"]}', '{"model":"\u0041"}' ],
    [ '{"models":["A"],"model":"B"}', '{"model":"A"}' ],
    [ '{"model":"B","models":["A"]}', '{"model":"A"}' ],
    [ '{"model":"B", "n": 1 , "models" : ["A"], "seed":2}',
        '{"model":"A", "n": 1, "seed":2}' ],
    [ '{"models":["A"], "n": 1 , "model" : null, "seed":2}',
        '{"n": 1 , "model" : "A", "seed":2}' ],
) {
    my ($from, $to) = @$shape;

    my $add = '"messages":[{"role":"user","content":"shape"}]}';
    $_ =~ s/\}\s*$/,$add/ for $from, $to;

    $mock->reset;
    $t->post('/v1/compare', $from, key => 'user', headers => {
        'Content-Type' => 'application/json',
        'Cache-Control' => 'no-store' });

    my ($call) = $mock->journal;
    is $call->{body} // '', $to, $from;
}

$r = $t->post('/v1/compare', "{\"models\":$all,$body}", key => 'user');
is scalar(grep { $_->{status} == 200 } @{$r->json->{data}}), 16,
    'sixteen models at once';
is_deeply [map { $_->{model} } @{$r->json->{data}}],
    [map { "m$_" } 1 .. 16], 'in their order';


# the time is up

$mock->reset;
$begin = time;
$r = compare('deadline', ['good', 'hang'],
    headers => { 'x-request-timeout-ms' => 500 });
$r->wait;
$took = time - $begin;
is_deeply [map { $_->{status} } @{$r->json->{data}}], [200, 504],
    'who is late gets a 504';
is $r->json->{data}[1]{body}{error}{code}, 'upstream_timeout', 'with words';

SKIP: {
    skip 'time is no measure', 1 if $t->sanitized;
    ok $took > 0.4 && $took < 0.65, "in time: $took s";
}

ok $mock->wait(in_flight => 0), 'its call is over';
$t->all_back('deadline');


# the client leaves

for my $way ('close', 'abort') {
    $mock->reset;
    $r = compare('leaves', ['hang', 'hang2', 'hang3'],
        headers => { 'x-request-id' => "leaves-$way" });
    ok $mock->wait(in_flight => 3), "$way: three calls";
    $r->$way;
    ok $mock->wait(client_closed => 3, in_flight => 0),
        "$way: none when the client has left";
    $t->all_back($way);

    $t->until(sub { lines("leaves-$way") == 4 });
    is_deeply [map { $_->{status} } lines("leaves-$way")], [(499) x 4],
        "$way: 499";
}


# over HTTP/2

SKIP: {
    skip 'no curl', 3 if system 'curl --version >/dev/null 2>&1';

    my @curl = ('curl', '-s', '--http2-prior-knowledge', '-H',
        'Authorization: Bearer ' . $t->secret('user'), '-d',
        "{\"models\":[\"good\",\"bad\",\"hang\"],$body}",
        'http://127.0.0.1:' . $t->port('PORT_H2') . '/v1/compare');

    $mock->reset;
    open my $said, '-|', @curl, '-H', 'x-request-timeout-ms: 500' or die;
    my $json = eval { decode_json(join '', <$said>) };
    is join(' ', map { $_->{status} } @{$json->{data}}), '200 503 504',
        'HTTP/2';

    $mock->reset;
    my $pid = $t->spawn('curl', @curl);
    ok $mock->wait(min_in_flight => 1, requests => 3), 'a leg runs';
    $t->stop_child($pid, 'KILL');
    ok $mock->wait(in_flight => 0), 'and none when the client has left';
    $t->all_back('HTTP/2');
}


# the door is for this nginx alone

my @stat = stat $socket;
is sprintf('%o', $stat[2] & 07777), '600', 'mode of the socket';
is $stat[4], $> ? $> : scalar getpwnam($t->{user}), 'and its owner';

sub knock {
    my (%headers) = @_;

    my $s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $socket)
        or return "no connection: $!";
    my $json = "{\"model\":\"good\",$body}";

    print $s "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        . "Connection: close\r\nContent-Length: " . length($json) . "\r\n"
        . join('', map { "$_: $headers{$_}\r\n" } sort keys %headers)
        . "\r\n$json";

    local $/;
    my $said = <$s> // '';

    return $said =~ m{^HTTP/1.1 (\d+)} ? $1 : $said;
}

$mock->reset;
is knock(), 401, 'nothing';
is knock('X-LLM-Key' => 'user'), 401, 'a key\'s name without the secret';
is knock('X-LLM-Key' => 'user', 'X-LLM-Internal' => 'f' x 64), 401,
    'with a wrong one';
is knock('X-LLM-Key' => 'user', 'X-LLM-Internal' => ''), 401, 'an empty one';
is knock('X-LLM-Internal' => 'f' x 64,
    Authorization => 'Bearer ' . $t->secret('user')), 401,
    'a client\'s key is none there';
is $mock->stats->{requests}, 0, 'nobody was asked';

my @forged = ('X-LLM-Key' => 'daily', 'X-LLM-Internal' => 'f' x 64);

is $t->chat('forged', key => undef, headers => { @forged })->status, 401,
    'forged headers do not help at the front door';
$r = $t->chat('forged', headers => { @forged, 'x-request-id' => 'forged' });
is $r->status, 200, 'and do no harm to who has a key';
$t->until(sub { lines('forged') == 1 });
is((lines('forged'))[0]{key}, 'user', 'which counts');
($call) = $mock->journal;
is_deeply [grep { /^x-llm-/ } keys %{$call->{headers}}], [],
    'the provider does not see them';


# a reload while legs run, and a start after a crash

$mock->reset;
$r = compare('reload', ['slow', 'slow2']);
ok $mock->wait(in_flight => 2), 'two legs run';
$t->reload;
ok $r->wait, 'the comparison outlives a reload';
is_deeply [map { $_->{status} } @{$r->json->{data}}], [200, 200],
    'with both answers';
is compare('after', ['good', 'good2'])->tap_legs, '200 200',
    'the new workers have the secret, too';
@stat = stat $socket;
is sprintf('%o', $stat[2] & 07777), '600', 'the mode stays';

# a connection that was open before the reload asks new workers

$r = $t->chat('before');
$t->reload;
is compare('twice reloaded', ['good'])->tap_legs, '200', 'once more';

$t->kill_worker;
is compare('respawn', ['good', 'good2'])->tap_legs, '200 200',
    'a new worker has it';

$t->kill_all;
ok -S $socket, 'a crash leaves the socket';
$t->start;
is compare('crash', ['good'])->tap_legs, '200', 'which is in nobody\'s way';
$t->all_back('crash');

is $t->quit, 0, 'nginx ends';
ok !-e $socket, 'and removes the socket';


# configurations that are refused

sub config {
    my ($internal, $listen, $location) = @_;

    return <<EOT;
%%GLOBALS%%
http {
    %%GLOBALS_HTTP%%
    llm_zone llm 1m;
    llm_tenants %%DIR%%/tenants.json;
    llm_provider mock uri=/llm/mock/;
    llm_route * mock;
    $internal
    server {
        listen 127.0.0.1:%%PORT%%;
        location / { llm_gateway; }
        location /llm/mock/ {
            internal; proxy_pass http://%%MOCK%%/v1/; %%PROXY%%
        }
    }
    server {
        $listen
        location / { $location }
        location /llm/mock/ {
            internal; proxy_pass http://%%MOCK%%/v1/; %%PROXY%%
        }
    }
}
EOT
}

my $unix = "unix:$socket";

for my $try (
    [ "llm_internal $unix;", "listen $unix;", 'llm_gateway;', undef ],
    [ '', "listen $unix;", 'llm_gateway;', undef ],
    [ "llm_internal $unix;", 'listen 127.0.0.1:%%PORT_B%%;', 'llm_gateway;',
        qr/llm_internal "\Q$unix\E" in .*test.conf:\d+ needs a server/ ],
    [ "llm_internal $unix;", "listen unix:$socket.2;", 'llm_gateway;',
        qr/llm_internal .* needs a server/ ],
    [ "llm_internal $unix;", "listen $unix;", 'return 404;',
        qr/llm_internal .* needs an "llm_gateway" in each server/ ],
    [ "llm_internal $unix;", "listen $unix proxy_protocol;", 'llm_gateway;',
        qr/needs a listener without "ssl" and "proxy_protocol"/ ],
    [ "llm_internal $unix; llm_internal $unix;", "listen $unix;",
        'llm_gateway;', qr/is duplicate/ ],
    [ 'llm_internal unix:internal.sock;', '', 'llm_gateway;',
        qr/expected unix: and an absolute path of at most 107 bytes/ ],
    [ 'llm_internal unix:/' . 'x' x 107 . ';', '', 'llm_gateway;',
        qr/expected unix: and an absolute path/ ],
    [ 'llm_internal 127.0.0.1:80;', '', 'llm_gateway;',
        qr/expected unix:/ ],
) {
    my ($internal, $listen, $location, $expect) = @$try;
    my ($ok, $said) = $t->test_config(config($internal, $listen, $location));
    my $name = "$internal $listen $location";

    if ($expect) {
        ok !$ok, "refused: $name";
        like $said, $expect, 'and why';

    } else {
        ok $ok, "taken: $name" or diag $said;
    }
}

ok !-e $socket, 'a test leaves no socket';


# without an internal listener

$t->nginx(config('', 'listen 127.0.0.1:%%PORT_B%%;', 'llm_gateway;'));
$r = compare('none', ['good']);
$r->wait;
is $r->status, 404, 'no comparisons without llm_internal';
like $r->json->{error}{message}, qr/llm_internal/, 'as it says';


done_testing;


# the status, and those of the legs, of an answer that is waited for

sub Test::LLM::HTTP::tap_status {
    my ($r) = @_;

    $r->wait;
    return $r->status;
}

sub Test::LLM::HTTP::tap_legs {
    my ($r) = @_;

    $r->wait;
    return join ' ', map { $_->{status} } @{($r->json // {})->{data} // []};
}
