#!/usr/bin/perl

# Bad requests: the right status, an error object of the API's shape, an id,
# one line in the log, nothing leaked, nothing asked of the provider, and the
# connection is good for the next request.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new;

$t->key('user');
$t->key('picky', models => ['gpt-4o']);
$t->key('gone', enabled => \0);
$t->key('past', expires => '2020-01-01T00:00:00Z');

my $mock = $t->gateway(redis => 0, server => 'client_header_timeout 5s;',
    routes => 'llm_route gpt-* mock; llm_route long* mock;');

my $chat = '/v1/chat/completions';
my $canary = 'canary-Z9-prompt';
my $bearer = 'Bearer ' . $t->secret('user');
my $good = '{"model":"gpt-4o","messages":[{"role":"user","content":"'
    . $canary . '"}]}';

my $calls = 0;
my $logged = 0;


# JSON: [name, body, code, pattern of the message, param]

for my $bad (
    [ 'no body', '', 'invalid_json', qr/byte 0/ ],
    [ 'blanks', "  \n ", 'invalid_json', qr/byte 4/ ],
    [ 'no JSON', "$canary", 'invalid_json', qr/byte 0/ ],
    [ 'half of it', '{"model":"gpt-4o","messages":', 'invalid_json',
        qr/byte 29/ ],
    [ 'an open string', "{\"model\":\"$canary", 'invalid_json',
        qr/byte \d+/ ],
    [ 'a trailing comma', '{"model":"gpt-4o",}', 'invalid_json',
        qr/byte 18/ ],
    [ 'a missing comma', '{"model":"gpt-4o" "n":1}', 'invalid_json',
        qr/byte 18/ ],
    [ 'single quotes', "{'model':'gpt-4o'}", 'invalid_json', qr/byte 1/ ],
    [ 'a comment', '{/**/"model":"gpt-4o"}', 'invalid_json', qr/byte 1/ ],
    [ 'something behind it', "$good$good", 'invalid_json',
        qr/byte ${\ length $good}/ ],
    [ 'a byte order mark', "\xef\xbb\xbf$good", 'invalid_json', qr/byte 0/ ],
    [ 'a leading zero', '{"model":"gpt-4o","n":01}', 'invalid_json',
        qr/byte 2[23]/ ],
    [ 'a plus sign', '{"model":"gpt-4o","n":+1}', 'invalid_json',
        qr/byte 22/ ],
    [ 'NaN', '{"model":"gpt-4o","x":NaN}', 'invalid_json', qr/byte 22/ ],
    [ 'a control character', "{\"model\":\"gpt\n4o\"}", 'invalid_json',
        qr/byte 13/ ],
    [ 'a NUL', "{\"model\":\"gpt-4o\"\0}", 'invalid_json', qr/byte 17/ ],
    [ 'a bad escape', '{"model":"gpt\x4o"}', 'invalid_json',
        qr/byte 1[34]/ ],
    [ 'a lone surrogate', '{"model":"gpt-4o","x":"\ud800"}',
        'invalid_json', qr/byte \d+/ ],
    [ 'invalid UTF-8', "{\"model\":\"gpt-4o\",\"x\":\"ab\xff\"}",
        'invalid_json', qr/byte 25/ ],
    [ 'overlong UTF-8', "{\"model\":\"gpt-4o\",\"x\":\"\xc0\xaf\"}",
        'invalid_json', qr/byte \d+/ ],
    [ 'half a character', "{\"model\":\"gpt-4o\",\"x\":\"\xe2\x82\"}",
        'invalid_json', qr/byte \d+/ ],
    [ 'depth 65', '{"model":"gpt-4o","x":' . '[' x 64 . ']' x 64 . '}',
        'invalid_json', qr/byte \d+/ ],
    [ 'depth 100000', '{"model":"gpt-4o","x":' . '[' x 100_000,
        'invalid_json', qr/byte \d+/ ],
    [ 'a duplicate', '{"model":"gpt-4o","model":"gpt-4.1"}',
        'duplicate_key', qr/byte 18/ ],
    [ 'an escaped duplicate', '{"model":"gpt-4o","mod\u0065l":"gpt-4.1"}',
        'duplicate_key', qr/byte 18/ ],
    [ 'a deep duplicate', '{"model":"gpt-4o","messages":[{"role":"user",'
        . '"role":"system"}]}', 'duplicate_key', qr/byte \d+/ ],
    [ 'an array', '["gpt-4o"]', undef, qr/object/ ],
    [ 'a string', '"gpt-4o"', undef, qr/object/ ],
    [ 'null', 'null', undef, qr/object/ ],
    [ 'no model', '{"messages":[]}', 'missing_required_parameter',
        qr/model/, 'model' ],
    [ 'a number for the model', '{"model":4}', undef, qr/./, 'model' ],
    [ 'null for the model', '{"model":null}', undef, qr/./, 'model' ],
    [ 'an empty model', '{"model":""}', undef, qr/./, 'model' ],
    [ 'a very long model', '{"model":"' . 'long' x 300 . '"}', undef, qr/./,
        'model' ],
    [ 'a line in the model', '{"model":"gpt\r\nx-evil: 1"}', undef, qr/./,
        'model' ],
    [ 'a string for stream', '{"model":"gpt-4o","stream":"true"}', undef,
        qr/./, 'stream' ],
    [ 'a number for stream', '{"model":"gpt-4o","stream":1}', undef, qr/./,
        'stream' ],
    [ 'a string for max_tokens', '{"model":"gpt-4o","max_tokens":"9"}',
        undef, qr/./, 'max_tokens' ],
    [ 'a negative n', '{"model":"gpt-4o","n":-1}', undef, qr/./, 'n' ],
) {
    my ($name, $body, $code, $message, $param) = @$bad;

    my $r = $t->post($chat, $body, key => 'user');
    refused($r, 400, $name);

    my $e = error($r);
    is $e->{code}, $code, "$name: code" if defined $code;
    like $e->{message}, $message, "$name: message";
    is $e->{param}, $param, "$name: param";
    is $e->{type}, 'invalid_request_error', "$name: type";
    usable($r, $name);
}

is $t->post($chat, '{"model":"gpt-4o","messages":' . '[' x 63 . ']' x 63
    . '}', key => 'user')->status, 200, 'depth 64 is fine';
$calls++;


# models

for my $bad (
    [ 'an unknown model', 'user', 'unknown' ],
    [ 'a forbidden one', 'picky', 'gpt-4.1' ],
    [ 'a strange one', 'user', "x\"\\<b>\x{263a}" ],
) {
    my ($name, $key, $model) = @$bad;

    my $r = $t->chat($canary, key => $key, model => $model);
    refused($r, 404, $name);
    is error($r)->{code}, 'model_not_found', "$name: code";
    is error($r)->{param}, 'model', "$name: param";
    like error($r)->{message}, qr/\Q$model\E/, "$name: named";
    usable($r, $name);
}

my $same = error($t->chat('x', key => 'picky', model => 'gpt-4.1'));
is $same->{message} =~ s/gpt-4.1/M/r, error($t->chat('x', key => 'picky',
    model => 'nope'))->{message} =~ s/nope/M/r,
    'a forbidden model is told like one that does not exist';


# keys

for my $bad (
    [ 'no key', [] ],
    [ 'an unknown key', [Authorization => 'Bearer sk-llm-' . 'x' x 40] ],
    [ 'half a key', [Authorization => substr $bearer, 0, -1] ],
    [ 'a longer key', [Authorization => $bearer . 'x'] ],
    [ 'an empty key', [Authorization => 'Bearer '] ],
    [ 'no scheme', [Authorization => $t->secret('user')] ],
    [ 'another scheme', [Authorization => 'Basic '
        . $t->secret('user')] ],
    [ 'Bearer alone', [Authorization => 'Bearer'] ],
    [ 'nothing in it', [Authorization => ''] ],
    [ 'a very long key', [Authorization => 'Bearer ' . 'k' x 6000] ],
    [ 'bytes', [Authorization => "Bearer \xff\xfe\x80"] ],
    [ 'a wrong api-key', ['api-key' => 'sk-llm-wrong'] ],
    [ 'a wrong key and a good api-key', [Authorization => 'Bearer wrong',
        'api-key' => $t->secret('user')] ],
) {
    my ($name, $headers) = @$bad;

    my $r = $t->post($chat, $good, headers => $headers);
    refused($r, 401, $name);
    is error($r)->{code}, 'invalid_api_key', "$name: code";
    usable($r, $name);
}

for my $bad ([ gone => 'key_disabled' ], [ past => 'key_expired' ]) {
    my ($key, $code) = @$bad;

    my $r = $t->post($chat, $good, key => $key);
    refused($r, 403, $code);
    is error($r)->{code}, $code, "$code: code";
    usable($r, $code);
}

is $t->post($chat, $good, headers => { 'api-key' => $t->secret('user') })
    ->status, 200, 'a good api-key';
is $t->post($chat, $good, headers => { Authorization => $bearer
    =~ s/Bearer/bEARER/r })->status, 200, 'the scheme in any case';
$calls += 2;


# URLs and methods

for my $bad (
    [ 404, GET => '/' ],
    [ 404, POST => '/v1/unknown' ],
    [ 404, POST => '/v1/chat/completions/' ],
    [ 404, POST => '/chat/completions' ],
    [ 404, GET => '/v1/models/a%2f..%2f..%2fetc' ],
    [ 405, GET => $chat ],
    [ 405, PUT => $chat ],
    [ 405, DELETE => $chat ],
    [ 405, PATCH => '/v1/embeddings' ],
    [ 405, POST => '/v1/models' ],
) {
    my ($status, $method, $path) = @$bad;
    my $name = "$method $path";

    my $r = $t->start_post($path, $method eq 'GET' ? undef : $good,
        method => $method, key => 'user');
    $r->wait;

    refused($r, $status, $name);
    usable($r, $name);
}

# what nginx itself refuses looks like nginx
for my $bad ([ 404, '/llm/mock/chat/completions' ], [ 400, '/v1/models/%00' ])
{
    is $t->post($bad->[1], $good, key => 'user')->status, $bad->[0],
        $bad->[1];
    nothing_new($bad->[1]);
}

my $head = $t->start_post($chat, undef, method => 'HEAD', key => 'user');
$head->wait;
is $head->status, 405, 'HEAD';


# sizes and encodings

my $huge = '{"model":"gpt-4o","x":"' . 'x' x 17_000_000 . '"}';
my $r = $t->post($chat, $huge, key => 'user', timeout => 20);
is $r->status, 413, 'a body over client_max_body_size';
shape($r, 'Content-Length');
is error($r)->{code}, 'request_too_large', 'code';

$r = $t->post($chat, undef, raw => request(
    "Authorization: $bearer\r\nTransfer-Encoding: chunked",
    join '', (sprintf("%x\r\n", 100_000) . 'x' x 100_000 . "\r\n") x 170,
    "0\r\n\r\n"), timeout => 20);
is $r->status, 413, 'a chunked one';
shape($r, 'chunked');
is error($r)->{code}, 'request_too_large', 'code';
nothing_new('413');
$logged = () = logged();

for my $encoding (qw(gzip br deflate), 'gzip, identity') {
    $r = $t->post($chat, $good, key => 'user',
        headers => { 'Content-Encoding' => $encoding });
    refused($r, 415, "Content-Encoding: $encoding");
    usable($r, $encoding);
}

$r = $t->post($chat, undef, raw => request(
    "Authorization: $bearer\r\nTransfer-Encoding: chunked", "zz\r\n"));
is $r->status, 400, 'a broken chunk';
shape($r, 'chunk');

$r = $t->post($chat, undef, raw => "POST $chat HTTP/1.1\r\nHost: x\r\n"
    . "Authorization: $bearer\r\nX-Large: " . 'x' x 40_000 . "\r\n\r\n");
ok $r->status == 400 || $r->status == 494, 'a header too large'
    or diag $r->status;
nothing_new('broken HTTP');


# ids and injection

$r = $t->chat('x', headers => { 'x-request-id' => 'mine-1.A_b' });
is $r->header('x-request-id'), 'mine-1.A_b', 'a sane id is kept';
is +($mock->journal)[-1]{headers}{'x-request-id'}, 'mine-1.A_b',
    'and told to the provider';

for my $id ('a b', 'a"b', "a\tb", 'x' x 500, "\xe4", '<script>', '$uri',
    'a;b', '../x')
{
    $r = $t->chat('x', headers => { 'x-request-id' => $id });
    is $r->status, 200, 'an insane id';
    like $r->header('x-request-id'), qr/^req_[0-9a-f]{32}$/, 'is replaced';
}

$r = $t->chat('x', model => "gpt-\r\nx-evil: 1");
is $r->status, 400, 'a model with a line end';
unlike $r->{head}, qr/evil/i, 'comes into no header';

$r = $t->chat('x', model => 'gpt-"x%0d%0ax-evil: 1');
is $r->status, 200, 'any other model name';
unlike $r->{head}, qr/^x-evil/mi, 'is only a value';
$mock->reset;
$calls = 0;


# who is refused before the body is asked for

$r = $t->post($chat, undef, raw => "POST $chat HTTP/1.1\r\nHost: x\r\n"
    . "Authorization: Bearer wrong\r\nContent-Length: 100000\r\n\r\n");
is $r->status, 401, 'a wrong key is told before the body comes';

$r = $t->start_post($chat, undef, raw => "POST $chat HTTP/1.1\r\nHost: x\r\n"
    . "Authorization: $bearer\r\nContent-Length: 1000\r\n\r\n{\"model\":");
Test::LLM::HTTP->idle(0.1);
$r->close;
is $t->chat('x')->status, 200, 'half a body disturbs nobody';
is $mock->stats->{requests}, 1, 'and goes nowhere';


# with a cache: what is large or strange costs neither memory nor time

my $cached = Test::LLM->new;
my $other = $cached->gateway(redis => 0, location => 'llm_cache on;');

for (1 .. 3) {
    # the memory that a worker keeps for its ordinary work
    $cached->post($chat, members('x' x 4_000_000), key => 'user');
    $cached->post($chat, members('y'), key => 'user');
}

my $calm = memory($cached, 'VmRSS');
my $many = join ',', ('{}') x 1_390_000;
my $distinct = join ',', map { qq("k$_":$_) } 1 .. 20_000;
my $most = join ',', map { qq("k$_":$_) } 1 .. 200_000;
my $mixed = join ',', map { qq({"role":"user","content":"$_ \\u00e9"}) }
    1 .. 100_000;
my $deep = '[' x 62 . ']' x 62;

for my $case (
    [ '4 MB of {} for messages', 200,
        qq({"model":"gpt-4o","messages":[$many]}) ],
    [ '4 MB of {}', 200, members("[$many]", 1) ],
    [ '4 MB of 1', 200, members('[' . join(',', (1) x 2_000_000) . ']', 1) ],
    [ '4 MB of []', 200, members('[' . join(',', ('[]') x 1_390_000) . ']',
        1) ],
    [ '4 MB of deep lists', 200, members('[' . join(',', ($deep) x 33_000)
        . ']', 1) ],
    [ '20 000 members', 200, members("{$distinct}", 1) ],
    [ '200 000 members', 400, members("{$most}", 1), 'request_too_complex' ],
    [ '100 000 messages', 200,
        qq({"model":"gpt-4o","messages":[$mixed]}) ],
    [ 'a string of 1 MB', 200, members('s' x 1_000_000) ],
    [ 'a string of 12 MB', 200, members('s' x 12_000_000) ],
    [ '1 MB of escapes', 200, members('\\u00e9' x 170_000) ],
    [ 'a number of 1 MB', 200, members('1' x 1_000_000, 1) ],
    [ 'a name of 1 MB', 200, members('{"' . 'n' x 1_000_000 . '":1}', 1) ],
    [ 'ten strings of 1 MB', 200, members('["' . join('","',
        ('s' x 1_000_000) x 10) . '"]', 1) ],
    [ '64 deep', 200, members('[' x 63 . ']' x 63, 1) ],
    [ '65 deep', 400, members('[' x 64 . ']' x 64, 1), 'invalid_json' ],
    [ '4 MB of [', 400, members('[' x 4_000_000, 1), 'invalid_json' ],
    [ '4 MB of {"a":', 400, members('{"a":' x 800_000, 1), 'invalid_json' ],
    [ 'the last member twice', 400, members("{$distinct,\"k1\":1}", 1),
        'duplicate_key' ],
    [ 'the same member 300 000 times', 400, members('{' . join(',',
        ('"a":1') x 300_000) . '}', 1), 'duplicate_key' ],
    [ 'a member twice, deep', 400, members("[$many,{\"a\":1,\"a\":1}]", 1),
        'duplicate_key' ],
    [ 'a member twice in disguise', 400,
        members('{"ab":1,"a\\u0062":1}', 1), 'duplicate_key' ],
) {
    my ($name, $status, $body, $code) = @$case;

    $other->reset;
    peak($cached);
    my $started = time;
    my $r = $cached->post($chat, $body, key => 'user', timeout => 30);
    my $took = time - $started;
    my $high = memory($cached, 'VmHWM');

    is $r->status, $status, "cache: $name: $status";
    is error($r)->{code}, $code, "cache: $name: code" if $code;
    is $other->stats->{requests}, $status == 200 ? 1 : 0,
        "cache: $name: calls";
    cmp_ok $took, '<', 5, "cache: $name: $took s";

    if ($status == 200) {
        # what was stored is what was asked for, or it passed by
        my $again = $cached->post($chat, $body, key => 'user',
            timeout => 30);
        is $again->status, 200, "cache: $name: again";
        my $hit = $again->header('Cache-Status') =~ /hit/ ? 1 : 0;
        is $again->body eq $r->body ? 1 : 0, $hit,
            "cache: $name: hit: $hit";
        isnt $cached->post($chat, $body =~ s/gpt-4o/gpt-4.1/r,
            key => 'user', timeout => 30)->body, $r->body,
            "cache: $name: another model";
    }

    if (!$cached->sanitized) {
        my $now = memory($cached, 'VmRSS');
        cmp_ok $high - $calm, '<', 40_960 + 2 * length($body) / 1024,
            "cache: $name: at most " . ($high - $calm) . ' KB more';
        cmp_ok $now - $calm, '<', 20_480, "cache: $name: and given back: "
            . ($now - $calm);
    }
}

peak($cached);
my @all = map { $cached->start_post($chat, qq({"model":"gpt-4o","n":$_,)
    . qq("messages":[$many]}), key => 'user', timeout => 60) } 1 .. 10;
$_->wait for @all;
is scalar(grep { $_->status == 200 } @all), 10, 'cache: ten at a time';
cmp_ok memory($cached, 'VmHWM') - $calm, '<', 10 * 16_384,
    'cache: no more memory than for each alone' if !$cached->sanitized;


# the logs: nothing that is secret

my $logs = $t->log . $t->access_log;
unlike $logs, qr/\Q$canary\E/, 'no prompt in the logs';
unlike $logs, qr/sk-llm-\w|sk-provider/, 'no key in the logs';
unlike $t->log, qr/x-evil: 1\n|\r/, 'no line of a client\'s making';


# our own lines of a debug log neither; nginx's do hold the header

my $debug = Test::LLM->new(debug => 1);
$debug->gateway(location => 'llm_cache on;');
is $debug->chat($canary)->status, 200, 'with a debug log';
is $debug->chat($canary, body => { n => 'x' })->status, 400, 'and refused';
is $debug->chat($canary, stream => 1)->status, 200, 'and as a stream';
my @ours = grep { /\[debug\].* llm / } split /^/, $debug->log;
cmp_ok scalar @ours, '>', 10, 'our lines of the debug log';
is scalar(grep { /\Q$canary\E|sk-llm-\w|sk-provider/ } @ours), 0,
    'hold no secrets';

done_testing;


sub request {
    my ($headers, $body) = @_;

    return "POST $chat HTTP/1.1\r\nHost: localhost\r\n$headers\r\n\r\n$body";
}


# a request with the text in its prompt, or with JSON beside it

sub members {
    my ($text, $plain) = @_;

    return '{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],'
        . qq("x":$text}) if $plain;

    return '{"model":"gpt-4o","messages":[{"role":"user","content":"'
        . $text . '"}]}';
}


# KB of the worker; "VmHWM": the most since peak()

sub memory {
    my ($g, $what) = @_;

    my ($pid) = $g->workers;
    open my $file, '<', "/proc/$pid/status" or return 0;

    return (map { /^$what:\s+(\d+)/ } <$file>)[0];
}


sub peak {
    my ($g) = @_;

    my ($pid) = $g->workers;
    open my $file, '>', "/proc/$pid/clear_refs" or return;
    print $file "5\n";
}


sub error {
    my ($r) = @_;

    my $e = ($r->json // {});
    $e = ref $e eq 'HASH' ? $e->{error} : {};

    return ref $e eq 'HASH' ? $e : {};
}


# {"error": {...}} with all four members, an id, as JSON

sub shape {
    my ($r, $name) = @_;

    my $e = error($r);
    my $json = $r->json;

    is join(' ', map { sort keys %{$_ // {}} } $json, $e),
        'error code message param type', "$name: the API's shape";
    ok !ref $e->{code} && (!defined $e->{code} || length $e->{code})
        && $r->body !~ /"code":[0-9]/, "$name: the code is text or null";
    ok length($e->{message} // ''), "$name: a message";
    like $r->header('Content-Type') // '', qr{^application/json},
        "$name: JSON";
    ok length($r->header('x-request-id') // ''), "$name: x-request-id";
    unlike $r->{head} . $r->body, qr/sk-llm-\w|sk-provider/,
        "$name: no secret";
}


sub nothing_new {
    my ($name) = @_;
    is $mock->stats->{requests}, $calls, "$name: nothing for the provider";
}


sub refused {
    my ($r, $status, $name) = @_;

    is $r->status, $status, "$name: $status";
    shape($r, $name);
    unlike $r->body, qr/\Q$canary\E/, "$name: no prompt";
    nothing_new($name);
}


# lines of the error log about requests

sub logged {
    return grep { /\] \d+#\d+: \*/ && !/closed keepalive/ }
        split /^/, $t->log;
}


# another request on the connection, and how much the first one logged

sub usable {
    my ($r, $name) = @_;

    my @lines = logged();
    my @mine = splice @lines, $logged;
    $logged += @mine;

    cmp_ok scalar @mine, '<=', 1, "$name: at most one line in the log"
        or diag @mine;
    is scalar(grep { !/\[info\]/ } @mine), 0, "$name: not above info";

    $r = $r->again(method => 'GET', path => '/healthz', headers => []);
    $r->wait;
    is $r->status, 200, "$name: the connection is usable";
}
