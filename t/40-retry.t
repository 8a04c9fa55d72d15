#!/usr/bin/perl

# Retries: what is tried again and what is not, how long the pauses are, the
# next target of a route, and what the client gets when nothing helps.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use POSIX qw(strftime);

use Test::LLM;


my $t = Test::LLM->new;
my $mock = $t->mock;
my $backup = $t->mock;

# bound, but nobody listens
my $dead = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp');
$t->token(DEAD => '127.0.0.1:' . $dead->sockport);

# the providers of every server, and servers with other settings

sub provider {
    my ($name, $address) = @_;

    return <<EOT;
        location /llm/$name/ {
            internal; proxy_pass http://$address/v1/; %%PROXY%%
        }
EOT
}

sub server {
    my ($port, $retry) = @_;

    return <<EOT;
    server {
        listen 127.0.0.1:%%$port%%;
        location / { llm_gateway; $retry }
        %%OTHERS%%
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
}

$t->token(OTHERS => provider(backup => '%%MOCK2%%')
    . provider(dead => '%%DEAD%%'));

$t->gateway(
    redis => 0,
    location => 'llm_retry budget=100 floor=1000 tries=3 base=20ms cap=50ms max_wait=30s;
        access_log %%DIR%%/llm.log llm;',
    server => '%%OTHERS%%',
    http => server(PORT_SLOW => 'llm_retry budget=100 floor=1000 tries=2 base=5s cap=5s;')
        . server(PORT_GROW => 'llm_retry budget=100 floor=1000 tries=6 base=100ms cap=400ms;')
        . q{
    log_format llm '$llm_request_id attempts=$llm_attempts '
        'upstream="$upstream_status" error=$llm_error '
        'provider=$llm_provider model=$llm_model';
    },
    routes => '
    llm_provider backup uri=/llm/backup/;
    llm_provider dead uri=/llm/dead/;
    llm_route two mock:first backup:second;
    llm_route failover dead mock;
    llm_route dead dead;
    llm_route * mock;',
);

my $quick = { 'retry-after-ms' => '1' };


# the way out of an overload

$mock->script({ times => 1, status => 503 }, { times => 1, status => 429,
    headers => { 'retry-after-ms' => '300' } });

my $r = $t->chat('hello', headers => { 'x-request-id' => 'overload' });
is $r->status, 200, '503, 429, then 200: one 200';
is $r->header('x-llm-attempts'), 3, 'after three attempts';
is $r->header('x-llm-provider'), 'mock', 'of the provider';
ok !defined $r->header('retry-after-ms'), 'nothing of the errors is left';

my @journal = $mock->journal;
is @journal, 3, 'the mock saw three';
my $pause = $journal[2]{arrival_ms} - $journal[1]{end_ms};
ok $pause > 295 && $pause < 1500, "retry-after-ms was kept: $pause";
$pause = $journal[1]{arrival_ms} - $journal[0]{end_ms};
ok $pause < 600, "the first pause is one of ours: $pause";

is logged('overload'), 'attempts=3 upstream="503 : 429 : 200" error=- '
    . 'provider=mock model=gpt-4o', 'the log tells all attempts';
is $journal[0]{headers}{authorization}, 'Bearer sk-provider-secret',
    'the key of the provider';
is +(grep { $_->{head} =~ /sk-llm/ } @journal), 0, 'not of the client';


# what no repetition heals

for my $status (400, 401, 403, 404, 413, 422) {
    $mock->script({ status => $status, keep => \1, headers => $quick });
    $r = $t->chat('hello');
    is $r->status, $status, "status $status";
    is $r->body, $mock->sent(0), "$status: the provider's own words";
    is $r->header('x-llm-attempts'), 1, "$status: one attempt";
    is $mock->stats->{requests}, 1, "$status: one call";
}

$mock->script({ status => 429, keep => \1,
    error_type => 'insufficient_quota', error_code => 'insufficient_quota' });
$r = $t->chat('hello');
is $r->status, 429, 'insufficient_quota';
is $r->body, $mock->sent(0), 'in the provider\'s words';
is $mock->stats->{requests}, 1, 'after one call';
is $r->header('x-should-retry'), 'false', 'and no client should retry it';


# what a repetition may heal

for my $status (408, 409, 429, 500, 502, 503, 504, 529) {
    $mock->script({ times => 1, status => $status, headers => $quick });
    $r = $t->chat('hello');
    is $r->status, 200, "$status is retried";
    is $r->header('x-llm-attempts'), 2, "$status: two attempts";
}

$mock->script(map { { times => 1, status => 503, keep => \1,
    error_message => "failure $_" } } 1 .. 9);
$r = $t->chat('hello', headers => { 'x-request-id' => 'fails' });
is $r->status, 503, 'all attempts fail';
is $r->body, $mock->sent(2), 'the last error in the provider\'s words';
is $r->json->{error}{message}, 'failure 3', 'indeed the last';
is $r->header('x-llm-attempts'), 3, 'of three';
is $mock->stats->{requests}, 3, 'and no more';
like logged('fails'), qr/attempts=3 upstream="503 : 503 : 503"/, 'log';


# errors that no client could read: what can be read of them is kept

my $large = '{"error":{"message":"' . 'x' x 100_000
    . '","type":"t","param":null,"code":null}}';

for my $wrong (
    [ 'HTML', "<html><body>Bad Gateway</body></html>\n" ],
    [ 'an array', '[{"error":{"message":"m"}}]', undef ],
    [ 'nothing', '' ],
    [ 'a string', '"error"', undef ],
    [ 'an error string', '{"error":"m"}', undef ],
    [ 'a message alone', '{"message":"m"}', undef ],
    [ 'a numeric code', '{"error":{"message":"m","type":"t","param":null,'
        . '"code":500}}', '500' ],
    [ 'half a JSON', '{"error":{"message":"m","type":', undef ],
    [ 'a large error', $large ],
) {
    my ($name, $body) = @$wrong;
    my $code = @$wrong == 3 ? $wrong->[2] : 'upstream_error';

    for my $status (400, 500) {
        $mock->script({ status => $status, body => $body,
            headers => { %$quick, 'content-type' => 'text/html' } });
        $r = $t->chat('hello');
        is $r->status, $status, "$name keeps its status $status";
        error_is($r, $code, "$name with $status");
        is $mock->stats->{requests}, $status == 400 ? 1 : 3,
            "$name with $status: calls";
    }
}

for my $status (204, 302) {
    $mock->script({ status => $status, body => '' });
    $r = $t->chat('hello');
    is $r->status, 502, "$status is no answer";
    error_is($r, 'upstream_error', "$status");
}


# answers that break

my $error = '{"error":{"message":"m","type":"t","param":null,"code":null}}';

for my $broken (
    [ 'reset before the header', { cut => 'rst', cut_at => 'start' } ],
    [ 'closed before the header', { cut => 'close', cut_at => 'start' } ],
    [ 'reset after the header', { cut => 'rst', cut_at => 'head' } ],
    [ 'closed after the header', { cut => 'close', cut_at => 'head' } ],
    [ 'reset in the body', { cut => 'rst', cut_at => 40 } ],
    [ 'closed in the body', { cut => 'close', cut_at => 40 } ],
    [ 'closed in a chunked body', { cut => 'close', cut_at => 40,
        framing => 'chunked' } ],
    [ 'clean end within the JSON', { cut => 'clean', cut_at => 40,
        framing => 'chunked' } ],
    [ 'Content-Length too large', { content_length => 5000,
        keep_alive => \0 } ],
    [ 'Content-Length too small', { content_length => 50 } ],
    [ 'truncated JSON', { truncate => 50 } ],
    [ 'truncated, framed by the end', { truncate => 50,
        framing => 'close' } ],
    [ 'no HTTP', { raw => "so sorry\r\n\r\n" } ],
    [ 'half a head', { raw => "HTTP/1.1 200 OK\r\nContent-Ty" } ],
    [ 'text', { body => 'so sorry' } ],
    [ 'random bytes', { garbage => 300 } ],
    [ 'nothing', { body => '' } ],
    [ 'an array', { body => '[]' } ],
    [ 'JSON and more', { body => '{"choices":[]} {}' } ],
    [ 'an error with 200', { body => $error }, undef ],
) {
    my ($name, $rule) = @$broken;
    my $code = @$broken == 3 ? $broken->[2] : 'upstream_error';

    $mock->script({ times => 1, %$rule });
    $r = $t->chat('hello');
    is $r->status, 200, "$name is retried";
    is $r->header('x-llm-attempts'), 2, "$name: twice";
    is ref $r->json, 'HASH', "$name: a whole answer";

    $mock->script($rule);
    $r = $t->chat('hello');
    is $r->status, 502, "$name for ever is 502";
    error_is($r, $code, $name);
    is $mock->stats->{requests}, 3, "$name: three calls";
}


# the next target

$mock->script();
my $start = Time::HiRes::time();
for (1 .. 5) {
    $r = $t->chat('hello', model => 'failover', port => $t->port('PORT_SLOW'));
    is $r->status, 200, "nobody listens: the next target ($_)";
    is $r->header('x-llm-attempts'), 2, 'is the second attempt';
}
my $took = Time::HiRes::time() - $start;
cmp_ok $took, '<', 2, "at once: $took";

$r = $t->chat('hello', model => 'dead');
is $r->status, 503, 'nobody listens, and nobody else is there';
error_is($r, 'upstream_unavailable', 'unreachable');

$mock->script({ status => 503, headers => $quick });
$backup->script();
my $body = "{ \"model\" : \"tw\\u006f\" ,\n\"messages\":[{\"role\":\"user\","
    . "\"content\":\"two\"}], \"x\":1.50 }";
$r = $t->post('/v1/chat/completions', $body, key => 'user',
    headers => { Cookie => 'c=1', 'api-key' => 'k',
        'x-request-id' => 'second' });
is $r->status, 200, 'the second target answers';
is $r->header('x-llm-attempts'), 4, 'after three attempts at the first';
is $r->header('x-llm-provider'), 'backup', 'x-llm-provider';
is $r->header('x-llm-model'), 'second', 'x-llm-model';
is_deeply [map { $_->{body} } $mock->journal],
    [($body =~ s/"tw\\u006f"/"first"/r) x 3],
    'only the name of the model is exchanged';
my ($second) = $backup->journal;
is $second->{body}, $body =~ s/"tw\\u006f"/"second"/r, 'also for the second';
unlike $second->{head}, qr/sk-llm|sk-provider|cookie|api-key/i,
    'that has no key, gets none, and no cookie';
is logged('second'), 'attempts=4 upstream="503 : 503 : 503 : 200" error=- '
    . 'provider=backup model=two', 'log';

$mock->script({ status => 400 });
$backup->script();
is $t->chat('hello', model => 'two')->status, 400, 'a 400 of the first';
is $backup->stats->{requests}, 0, 'is nothing for the second';

$mock->script({ status => 503, error_message => 'one', headers => $quick });
$backup->script({ status => 500, error_message => 'two', headers => $quick });
$r = $t->chat('hello', model => 'two');
is $r->status, 500, 'both fail';
is $r->json->{error}{message}, 'two', 'the last one is told';
is $r->header('x-llm-attempts'), 6, 'after six attempts';


# how long the provider wants to be left alone

sub pause_after {
    my (%headers) = @_;

    $mock->script({ times => 1, status => 503, headers => \%headers });
    my $r = $t->chat('hello');
    is $r->status, 200, join ' ', 'waited:', %headers;
    my @journal = $mock->journal;

    return $journal[1]{arrival_ms} - $journal[0]{end_ms};
}

$pause = pause_after('retry-after' => 1);
ok $pause > 990 && $pause < 2500, "retry-after: one second ($pause)";

$pause = pause_after('retry-after-ms' => 100, 'retry-after' => 9);
ok $pause > 95 && $pause < 1500, "milliseconds come first ($pause)";

$pause = pause_after('retry-after' => strftime('%a, %d %b %Y %H:%M:%S GMT',
    gmtime(time + 2)));
ok $pause > 900 && $pause < 3500, "a date ($pause)";

for my $nonsense ('soon', '-1', '', '1e9x') {
    $pause = pause_after('retry-after' => $nonsense);
    ok $pause < 800, "\"$nonsense\" says nothing ($pause)";
}

$mock->script({ status => 429, keep => \1,
    headers => { 'retry-after' => '120' } });
$r = $t->chat('hello');
is $r->status, 429, 'longer than max_wait';
is $r->body, $mock->sent(0), 'is the client\'s business';
is $r->header('retry-after'), 120, 'who is told how long';
is $r->header('retry-after-ms'), 120_000, 'in milliseconds, too';
is $r->header('x-should-retry'), 'false', 'and that it is too long';
is $mock->stats->{requests}, 1, 'one call';
cmp_ok $r->end, '<', 2, 'no wait';

$backup->script();
$r = $t->chat('hello', model => 'two');
is $r->status, 200, 'another target is asked at once';
is $r->header('x-llm-attempts'), 2, 'as second attempt';
cmp_ok $r->end, '<', 2, 'no wait';

$mock->script({ status => 503, headers => { 'retry-after' => '20' } });
$r = $t->chat('hello', headers => { 'x-request-timeout-ms' => '3000' });
is $r->status, 503, 'longer than the client waits';
is $r->header('retry-after'), 20, 'is told';
cmp_ok $r->end, '<', 2, 'at once';


# the pauses of our own grow and are random

$mock->script({ status => 503 });
my @all = map { $t->start_chat("grow $_", port => $t->port('PORT_GROW'),
    headers => { 'x-request-id' => "grow-$_" }) } 1 .. 8;
$_->wait for @all;
is +(grep { $_->header('x-llm-attempts') == 6 } @all), 8, 'six attempts each';

my (%ended, @pauses);
for my $record ($mock->journal) {
    my $id = $record->{headers}{'x-request-id'};
    push @{$ended{$id}}, $record->{arrival_ms} - $ended{$id}[0]
        if $ended{$id};
    $ended{$id}[0] = $record->{end_ms};
}

for my $n (1 .. 5) {
    my @nth = map { $ended{"grow-$_"}[$n] } 1 .. 8;
    my $bound = 100 * 2 ** ($n - 1);
    $bound = 400 if $bound > 400;
    is +(grep { $_ > $bound + 250 } @nth), 0,
        "pause $n is at most $bound ms: " . join ' ', map { int } @nth;
    push @pauses, $n > 2 ? @nth : ();
}

# of 24 between 0 and 400 ms: fewer than 3 is a chance of 1 to 20000
cmp_ok scalar(grep { $_ > 200 } @pauses), '>=', 3, 'the later are longer';
cmp_ok scalar(grep { $_ < 200 } @pauses), '>=', 3, 'but not always';
$mock->script();

done_testing;


sub error_is {
    my ($r, $code, $name) = @_;

    my $json = $r->json // {};
    my $e = ref $json->{error} eq 'HASH' ? $json->{error} : {};

    is join(' ', sort keys %$json), 'error', "$name: an error object";
    is join(' ', sort keys %$e), 'code message param type',
        "$name: in the API's shape";
    is $e->{code}, $code, "$name: code";
    ok length($e->{message} // ''), "$name: message";
    like $r->header('Content-Type') // '', qr{^application/json},
        "$name: JSON";
}


# the line of a request's log, without its id

sub logged {
    my ($id) = @_;

    my $line;
    $t->until(sub { ($line) = $t->read('llm.log') =~ /^$id (.*)/m });

    return $line;
}
