#!/usr/bin/perl

# Deadlines, the time to the first byte, and clients that leave: what happens
# to the attempt, to its connection and to the slot.
#
# Alone: pauses are measured.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new;

$t->key('user');
$t->key('single', team => 'single', concurrency => 1);

sub server {
    my ($port, $location) = @_;

    return <<EOT;
    server {
        listen 127.0.0.1:%%$port%%;
        location / { llm_gateway; $location }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
}

my $mock = $t->gateway(
    location => 'llm_retry budget=100 floor=1000 base=10ms cap=20ms;',
    http => server(PORT_TOTAL => 'llm_timeout total=600ms;')
        . server(PORT_FIRST => 'llm_timeout first_byte=400ms;
            llm_retry budget=100 floor=1000 tries=2 base=10ms cap=20ms;')
        . server(PORT_DRAIN => 'llm_timeout drain=5s; llm_cache on;')
        . server(PORT_BRIEF => 'llm_timeout drain=300ms; llm_cache on;'),
);

ok $t->until(sub { ($t->get('/readyz', port => $t->port('PORT_ADMIN'))
    ->json // {})->{redis} eq 'up' }), 'Redis is up';

my %hang = (hang => \1);


# the deadline

$mock->script({ %hang });
my $r = $t->chat('hello', headers => { 'x-request-timeout-ms' => '500' });
is $r->status, 504, 'x-request-timeout-ms';
error_is($r, 'upstream_timeout', 'deadline');
ok $r->end >= 0.49 && $r->end < 2, 'in time: ' . $r->end;
ok $mock->wait(client_closed => 1), 'the provider\'s connection is closed';
is $mock->stats->{requests}, 1, 'there was no time for another attempt';

$mock->script({ %hang });
$r = $t->chat('hello', port => $t->port('PORT_TOTAL'));
is $r->status, 504, 'llm_timeout total';
ok $r->end >= 0.59 && $r->end < 2, 'in time: ' . $r->end;

$r = $t->chat('hello', port => $t->port('PORT_TOTAL'),
    headers => { 'x-request-timeout-ms' => '60000' });
is $r->status, 504, 'no client gets more than that';
ok $r->end < 2, 'in time: ' . $r->end;

$mock->script();
for my $nonsense ('abc', '-5', '0', '', '1e3', '99999999999999999999999') {
    $r = $t->chat('hello',
        headers => { 'x-request-timeout-ms' => $nonsense });
    is $r->status, 200, "x-request-timeout-ms: \"$nonsense\" says nothing";
}

$mock->script({ cut => 'hang', cut_at => 'head' });
$r = $t->chat('hello', headers => { 'x-request-timeout-ms' => '500' });
is $r->status, 504, 'the header came, the body did not';
error_is($r, 'upstream_timeout', 'body');
ok $r->end < 2, 'in time: ' . $r->end;

$mock->script({ status => 503, headers => { 'retry-after-ms' => '200' } });
$r = $t->chat('hello', headers => { 'x-request-timeout-ms' => '300' });
is $r->status, 503, 'an error before the deadline is the answer';
is $r->header('x-llm-attempts'), 2, 'when no further pause fits';
ok $r->end < 2, 'in time: ' . $r->end;


# the first byte

$mock->script({ times => 1, %hang });
$r = $t->chat('hello', port => $t->port('PORT_FIRST'));
is $r->status, 200, 'first_byte: the attempt is given up';
is $r->header('x-llm-attempts'), 2, 'and another one made';
ok $r->end >= 0.39 && $r->end < 2.5, 'in time: ' . $r->end;
ok $mock->wait(client_closed => 1), 'the first connection is closed';

$mock->script({ %hang });
$r = $t->chat('hello', port => $t->port('PORT_FIRST'));
is $r->status, 504, 'first_byte twice';
error_is($r, 'upstream_timeout', 'first byte');
ok $r->end >= 0.79 && $r->end < 3, 'in time: ' . $r->end;
ok $mock->wait(client_closed => 2), 'both connections are closed';

$mock->script({ body_delay_ms => 700 });
$r = $t->chat('hello', port => $t->port('PORT_FIRST'));
is $r->status, 200, 'only the header has to come in time';
is $r->header('x-llm-attempts'), 1, 'no second attempt';

$mock->script({ times => 1, %hang });
$r = $t->chat('hello', port => $t->port('PORT_FIRST'), stream => 1);
is +($r->data)[-1], '[DONE]', 'a stream, too';
is $r->header('x-llm-attempts'), 2, 'is tried again';


# a client that leaves during an attempt

for my $way (qw(close abort)) {
    for my $place ('before the header', 'after the header') {
        $mock->script({ times => 1, $place =~ /before/ ? %hang
            : (cut => 'hang', cut_at => 'head') });
        $r = $t->start_chat('hello', key => 'single');
        ok $mock->wait(in_flight => 1), "$way $place: the attempt runs";
        $r->$way;
        ok $mock->wait(client_closed => 1), 'the provider is left, too';
        is $t->chat('hello', key => 'single')->status, 200,
            'the slot is free';
        is $mock->stats->{requests}, 2, 'nothing was repeated';
    }
}


# and during a pause: silence for longer than the pause

$mock->script({ status => 503, headers => { 'retry-after-ms' => '400' } });
$r = $t->start_chat('hello', key => 'single');
ok $mock->wait(done => 1), 'the first attempt failed';
$r->close;
ok $t->wait_log(qr/client closed connection in stage "forward"/),
    'noticed at once';
Test::LLM::HTTP->idle(0.9);
is $mock->stats->{requests}, 1, 'no second attempt for nobody';
$mock->script();
is $t->chat('hello', key => 'single')->status, 200, 'the slot is free';


# a call that may outlive its client

$mock->script({ delay_ms => 500 });
$r = $t->start_chat('drained', key => 'single',
    port => $t->port('PORT_DRAIN'));
ok $mock->wait(in_flight => 1), 'the attempt runs';
$r->close;
ok $mock->wait(done => 1), 'and ends although the client left';
ok $t->until(sub { @{$t->{redis}->command(KEYS => '{llm}:c*')} == 1 }),
    'is stored';
$r = $t->chat('drained', key => 'single', port => $t->port('PORT_DRAIN'));
like $r->header('Cache-Status'), qr/hit/, 'for the next one';
my $stats = $mock->stats;
is $stats->{requests}, 1, 'one call';
is $stats->{client_closed}, 0, 'that was not cut off';
$r = $t->chat('next', key => 'single', port => $t->port('PORT_DRAIN'));
is $r->status, 200, 'the slot is free';

$mock->script({ %hang });
$r = $t->start_chat('too long', key => 'single',
    port => $t->port('PORT_BRIEF'));
ok $mock->wait(in_flight => 1), 'an attempt that hangs';
$r->close;
ok !$mock->wait(client_closed => 1, timeout_ms => 150),
    'is not cut off at once';
ok $mock->wait(client_closed => 1), 'but when drain is over';
is $mock->stats->{requests}, 1, 'and not repeated';

$mock->script({ times => 1, status => 503, delay_ms => 300 });
$r = $t->start_chat('fails', port => $t->port('PORT_DRAIN'));
ok $mock->wait(in_flight => 1), 'an attempt that will fail';
$r->close;
ok $mock->wait(done => 1), 'after the client left';
ok !$mock->wait(requests => 2, timeout_ms => 300), 'is not repeated';

$mock->script({ chunks => 100, pace_ms => 50 });
$r = $t->start_chat('stream', stream => 1, port => $t->port('PORT_DRAIN'));
ok $r->wait_events(2), 'a stream';
$r->close;
ok $mock->wait(client_closed => 1, timeout_ms => 2000),
    'ends with its client';
$mock->script();

done_testing;


sub error_is {
    my ($r, $code, $name) = @_;

    my $e = ($r->json // {})->{error} // {};

    is join(' ', sort keys %$e), 'code message param type',
        "$name: the API's shape";
    is $e->{code}, $code, "$name: code";
}
