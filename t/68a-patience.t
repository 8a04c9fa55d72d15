#!/usr/bin/perl

# How long what is waited for: the first event of a stream, a connection, and
# what the official clients say of their own patience.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new;
my $mock = $t->mock;

$t->key('user', requests_per_minute => 1_000_000);

sub server {
    my ($port, $location) = @_;

    return <<EOT;
    server {
        listen 127.0.0.1:%%$port%%;
        location / { llm_gateway; $location }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
        location /llm/deaf/ {
            internal; proxy_pass http://%%MOCK2%%/v1/; %%PROXY%%
        }
    }
EOT
}

my $deaf = $t->mock;
my $retry = 'llm_retry budget=100 floor=1000 tries=2 base=5ms cap=10ms;';

$t->gateway(
    redis => 0,
    location => "$retry llm_breaker consecutive=3 ratio=0;",
    server => 'location /llm/deaf/ {
            internal; proxy_pass http://%%MOCK2%%/v1/; %%PROXY%%
        }',
    routes => 'llm_provider deaf uri=/llm/deaf/;
        llm_route deaf* deaf;
        llm_route well* mock:well; llm_route * mock;',
    http => server(PORT_FIRST => "llm_timeout first_byte=400ms; $retry
            llm_breaker off;")
        . server(PORT_BEATS => "$retry llm_heartbeat 50ms grace=0;"),
);

my ($r, $start, $took);


# a header is no first event

$mock->script({ times => 1, ttft_ms => 20_000 });
$start = time;
$r = $t->chat('one', stream => 1, port => $t->port('PORT_FIRST'), timeout => 9);
$took = time - $start;
is $r->status, 200, 'first event: a header alone is tried again';
is scalar($r->data), 11, 'first event: all of the second';
ok $r->complete, 'first event: whole';
cmp_ok $took, '>=', 0.39, "first event: after its time: $took";
ok $mock->wait(client_closed => 1), 'first event: the first is left';
$t->all_back('first event');

$mock->script({ ttft_ms => 20_000, before => ": working on it\n\n" });
$r = $t->chat('none', stream => 1, port => $t->port('PORT_FIRST'), timeout => 9);
is $r->status, 504, 'first event: an error in the end, comments are none';
is $r->json->{error}{code}, 'upstream_timeout', 'first event: of its own';
is $mock->stats->{requests}, 2, 'first event: two tries';
$t->all_back('no first event');


# what the clients say: for how long they bear silence

for my $case (['x-stainless-read-timeout', '0.5', 500],
    ['x-stainless-read-timeout', '1', 1000],
    ['X-Stainless-Timeout', '1', 1000])
{
    my ($name, $value, $ms) = @$case;

    $mock->script({ delay_ms => 20_000 });
    $start = time;
    $r = $t->chat("$name $value", headers => { $name => $value }, timeout => 9);
    $took = 1000 * (time - $start);
    is $r->status, 504, "$name: $value: 504";
    is $r->json->{error}{code}, 'upstream_timeout', "$name: its code";
    cmp_ok $took, '>=', $ms, "$name: not before: $took";
    cmp_ok $took, '<', $ms + 2500, "$name: and soon";
    is $mock->stats->{requests}, 1, "$name: no time for another";

    $mock->script({ idle_at => 3, idle_ms => 20_000 });
    $start = time;
    $r = $t->chat("$name $value", headers => { $name => $value }, stream => 1,
        timeout => 9);
    $took = 1000 * (time - $start);
    like $r->body, qr/upstream_timeout/, "$name: the same between events";
    ok !$r->complete, "$name: and no clean end";
    cmp_ok $took, '>=', $ms, "$name: not before: $took";
    cmp_ok $took, '<', $ms + 2500, "$name: and soon";
    $t->all_back("$name: $value");
}

for my $value ('0', '', '-1', 'never', '1e9', '999999999999999999999', '600',
    '600.0', '20.123456', '.')
{
    $mock->script({ delay_ms => 20, idle_at => 3, idle_ms => 100 });
    $r = $t->chat("value $value", stream => 1,
        headers => { 'x-stainless-read-timeout' => $value });
    is $r->status, 200, "'$value' is no hurry";
    ok $r->complete, "'$value': whole";
}

# whole answers may take long between events, if nobody waits for silence

$mock->script({ delay_ms => 1200, idle_at => 3, idle_ms => 1200 });
$r = $t->chat('beats', stream => 1, port => $t->port('PORT_BEATS'),
    headers => { 'x-stainless-read-timeout' => '0.4' });
is scalar(grep { /\S/ } $r->data), 11, 'heartbeats are no silence';
ok $r->complete, 'heartbeats: whole';

# impatience says nothing of the provider

$mock->script({ delay_ms => 600 });
$t->chat("hurry $_", model => 'well',
    headers => { 'x-request-timeout-ms' => 50 }) for 1 .. 5;
$t->chat('impatient', model => 'well',
    headers => { 'x-stainless-read-timeout' => '0.05' }) for 1 .. 4;
is $t->metric('llm_target_state{target="mock:well"}'), 0,
    'a hurry ejects nobody';
$mock->script;
is $t->chat('well', model => 'well')->status, 200, 'who is well';


# connections that come to nothing are told apart

$deaf->listen(accept => 0);
$r = $t->chat('deaf', model => 'deaf', port => $t->port('PORT_FIRST'),
    timeout => 9);
is $r->status, 504, 'connect: a timeout';
is $r->json->{error}{code}, 'upstream_timeout', 'connect: its code';
like $r->json->{error}{message}, qr/reached/, 'connect: its words';
is attempts('deaf', 'connect_timeout'), 2, 'connect: counted as such';
is attempts('deaf', 'timeout'), 0, 'connect: as nothing else';
$deaf->listen(accept => 1);

$deaf->refuse;
$r = $t->chat('refused', model => 'deaf', port => $t->port('PORT_FIRST'),
    timeout => 9);
is $r->status, 503, 'connect: refused';
is attempts('deaf', 'connect'), 2, 'connect: counted as such';
$deaf->serve;
$t->all_back('connect');


done_testing;


sub attempts {
    my ($provider, $result) = @_;

    return $t->metric(qq(llm_upstream_attempts_total{provider="$provider",)
        . qq(result="$result"}));
}
