#!/usr/bin/perl

# Requests that share one call over two gateways of two workers each, on one
# Redis: what those of the other gateway get, and when; also when the leader's
# client, worker or gateway, the provider or Redis goes away.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Time::HiRes qw(time);

use Test::LLM;


# made at random, so that a lost or doubled piece shows
my @words = map { sprintf '<%d:%06x>', $_, rand 1 << 24 } 1 .. 40;
my $content = join '', @words;

my @rule = (content => $content, chunk_bytes => 16, delay_ms => 300,
    pace_ms => 10);

# whoever has the mock and Redis is the last to be stopped

my @gate = map { Test::LLM->new(workers => 2) } 1, 2;
my $hub = Test::LLM->new;
my $mock = $hub->mock('--journal', 4000);
my $redis = $hub->redis;
my $scene = 0;
my $part = '';

$hub->key('user');

for my $t (@gate) {
    $t->{tenants} = $hub->{tenants};
    $t->write('tenants.json', $hub->{tenants});
    $t->token(MOCK => $hub->token('MOCK'));
    $t->token(REDIS => $hub->token('REDIS') . ' timeout=500ms gateways=2');
    $t->gateway(location => 'llm_cache on; llm_retry tries=1;',
        server => '%%BOTH%%');
}

my ($here, $there) = @gate;

ready();


# a hundred at a time

for my $shape ([ 'streams', stream => 1 ], [ 'JSON answers' ]) {
    my ($name, @shape) = @$shape;

    begin("a hundred $name");
    my @r = crowd(100, @shape);
    whole("a hundred $name", @r);
    equal('are equal', @r);
    calls(1, 'by one call');
    is +(grep { ($_->header('Cache-Status') // '') =~ /; collapsed$/ } @r), 99,
        'that all but one joined';
    is scalar(keys %{{ map { $_->header('x-pid') => 1 } @r }}), 4,
        'on four workers';
    is scalar(keys %{{ map { $_->header('x-request-id') => 1 } @r }}), 100,
        'each with an x-request-id of its own';
}

quiet('a hundred');


# as it comes

begin('live', pace_ms => 20);
my $leader = lead(stream => 1);
my @r = follow($there, 4, stream => 1);
wait_for($leader, @r);
whole('followers elsewhere', $leader, @r);
equal('have what the leader has', $leader, @r);

my @late = sort { $a <=> $b } map { my $r = $_; map { at($r, $_)
    - at($leader, $_) } 0 .. $#{$leader->events} } @r;
diag(sprintf 'later than the leader\'s: median %.1f ms, 95 %% %.1f ms, most '
    . '%.1f ms', map { 1000 * $_ } @late[@late / 2, 0.95 * @late, -1]);
cmp_ok $late[0.95 * @late], '<', 0.05, 'within 50 ms of the leader';
cmp_ok $late[-1], '<', 0.25, 'all of them';
calls(1, 'by one call');

begin('late', pace_ms => 20);
$leader = lead(stream => 1);
$leader->wait_events(20);
my $late = on($there, 0, stream => 1);
my $later = on($there, 1, stream => 1);
$_->wait for $leader, $late, $later;
whole('who comes late elsewhere', $late, $later);
equal('has all of it', $leader, $late, $later);
my @at = map { $_->{time} } @{$late->events};
cmp_ok $at[15] - $at[0], '<', 0.1, 'the beginning at once';
cmp_ok abs(at($late, -1) - at($leader, -1)), '<', 0.1, 'the rest as it comes';
calls(1, 'by one call');


# shapes

begin('shapes');
$leader = lead(stream => 1);
my ($usage) = follow($there, 1, stream => 1,
    body => { stream_options => { include_usage => JSON::PP::true } });
my ($plain) = follow($there, 1, stream => 1);
my ($json) = follow($there, 1);
$_->wait for $leader, $json, $usage, $plain;
is outcome($json), 'whole', 'JSON of another gateway\'s stream';
is $json->json->{object}, 'chat.completion', 'it is';
is $plain->body, $leader->body, 'a stream without usage';
is scalar(@{$usage->events}), @{$leader->events} + 1, 'one with';
is +(grep { /"usage":\{/ } $usage->data), 1, 'in one event';
calls(1, 'all by one call');


# clients go

for my $when ('before a byte', 'in the middle') {
    begin("the leader's client goes $when");
    $leader = lead(stream => 1);
    @r = (follow($there, 4, stream => 1), follow($here, 2, stream => 1));
    $leader->wait_events(10) if $when =~ /middle/;
    $leader->close;
    wait_for(@r);
    whole("the leader's client leaves $when", @r);
    equal('nobody notices', @r);
    calls(1, 'one call');
}

begin('followers go', pace_ms => 40);
$leader = lead(stream => 1);
@r = follow($there, 3, stream => 1);
$leader->wait_events(3);
$_->close for @r;
becomes($here, 'llm_flight_followers', 0, 'when all followers have gone, '
    . 'nothing is sent to them any more');
$leader->wait;
is outcome($leader), 'whole', 'the leader goes on';

begin('all go', pace_ms => 40);
$leader = lead(stream => 1);
@r = follow($there, 3, stream => 1);
$leader->wait_events(3);
$_->close for $leader, @r;
ok $mock->wait(client_closed => 1), 'when all are gone the call is ended';
quiet('all gone');


# the leader's worker dies, of a call without a byte and of one in the middle

my ($early, $middle) = two("the leader's worker");
my $start = time;
$here->kill_worker('KILL', ($here->workers)[0]);
wait_for(@$early, @$middle);
took($start);
own_tries(@$early);
broken(@$middle);
calls(3, 'a call more for those who had nothing yet');
ready();
quiet('a worker died');


# the provider fails

begin('reset', cut => 'rst', cut_events => 12);
$leader = lead(stream => 1);
@r = follow($there, 6, stream => 1);
wait_for($leader, @r);
is_deeply [map { outcome($_) } $leader, @r], [('broken') x 7],
    'a call that breaks off ends with one error event for each';
calls(1, 'and there is no other');

for my $shape ([ 'streams', stream => 1 ], [ 'JSON answers' ]) {
    my ($name, @shape) = @$shape;

    begin("503, $name");
    $mock->script({ times => 1, delay_ms => 300, status => 503 }, { @rule });
    $leader = lead(@shape);
    @r = follow($there, 4, @shape);
    wait_for($leader, @r);
    is $leader->status, 503, "$name: the leader is told of a 503";
    whole('the others try for themselves', @r);
}


# letters get lost

begin('letters', pace_ms => 20);
$leader = lead(stream => 1);
@r = follow($there, 4, stream => 1);
$r[0]->wait_events(5);
$start = time;
$redis->command(CLIENT => 'KILL', 'ID', $_) for readers();
wait_for($leader, @r);
took($start);
whole('the connections for letters are cut: all have their answer', $leader,
    @r);
ready();

begin('nothing left', pace_ms => 20);
$leader = lead(stream => 1);
@r = follow($there, 4, stream => 1);
$r[0]->wait_events(5);
$start = time;
$redis->command('FLUSHALL');
wait_for($leader, @r);
took($start);
is outcome($leader), 'whole', 'Redis is emptied: the leader goes on';
one_outcome('of the others each has one outcome', @r);
ready();
quiet('an empty Redis');


# the leading gateway dies

($early, $middle) = two('the leading gateway');
$start = time;
$here->kill_all;
wait_for(@$early, @$middle);
took($start);
own_tries(@$early);
broken(@$middle);
calls(3, 'a call more for those who had nothing yet');
$here->start;
ready();

# what it led before can be led again
begin('again');
$leader = lead(stream => 1);
@r = follow($there, 2, stream => 1);
wait_for($leader, @r);
equal('then all is as before', $leader, @r);
calls(1, 'one call');
quiet('a gateway died');


# Redis dies

($early, $middle) = two('Redis');
$start = time;
$redis->stop('KILL');
wait_for(@$early, @$middle);
took($start);
whole('the leader\'s gateway goes on', @$_[0, 7, 8]) for $early, $middle;
equal('with one call', @$_[0, 7, 8]) for $early, $middle;
own_tries(@$early[0 .. 6]);
one_outcome('who has read has one outcome', @$middle[1 .. 6]);
quiet('Redis died');
$redis->start;
ready();

begin('back');
$leader = lead(stream => 1);
@r = follow($there, 2, stream => 1);
wait_for($leader, @r);
equal('with Redis back they share again', $leader, @r);
calls(1, 'one call');

quiet('at the end');
ok $hub->until(sub { !grep { $redis->command(PTTL => $_) < 0 }
    grep { !/^\{llm\}:/ } @{$redis->command(KEYS => '*')} }),
    'nothing is left in Redis for ever';
is +(grep { ($redis->command(TYPE => $_) eq 'string')
    && $redis->command(PTTL => $_) < 30_000 }
    grep { !/^\{llm\}:/ } @{$redis->command(KEYS => '*')}), 0,
    'and no lock';

done_testing;


# a scene has its own text, and its own rule of the mock

sub begin {
    my ($what, %rule) = @_;

    note $what;
    $scene++;
    $mock->script({ @rule, %rule });
}


sub text { "scene $scene$part" }


# both gateways speak with Redis, and letters reach them

sub ready {
    for my $t (@gate) {
        ok $t->until(sub { ($t->get('/readyz', port => $t->port('PORT_ADMIN'))
            ->json // {})->{redis} eq 'up' }, 15), 'Redis is up';
    }

    ok $hub->until(sub { (() = readers()) == 4 }, 15),
        'and all workers read letters';
}


# the connections that wait for letters

sub readers {
    return $redis->command(CLIENT => 'LIST') =~ /^id=(\d+) .* cmd=xread /mg;
}


sub on {
    my ($t, $i, @spec) = @_;
    return $t->on(($t->workers)[$i % 2], text(), timeout => 20, @spec);
}


# the leader, on the first worker of the first gateway; its call has reached
# the provider

sub lead {
    my $before = $mock->stats->{requests};
    my $r = on($here, 0, @_);
    $mock->wait(requests => $before + 1) or die "no call\n";

    return $r;
}


sub follow {
    my ($t, $n, @spec) = @_;

    my $before = metric($t, 'llm_flight_followers');
    my @r = map { on($t, $_, @spec) } 1 .. $n;

    $t->until(sub { metric($t, 'llm_flight_followers') >= $before + $n }, 10)
        or diag("not $n followers");

    # and those who lead know of them
    $here->until(sub { metric($here, 'llm_flight_followers') > 0 }, 10)
        or diag('nobody follows');

    return @r;
}


# Two calls of one worker, one without a byte so far and one in the middle:
# of each the leader, six followers elsewhere and two beside it.

sub two {
    my ($what) = @_;

    begin("$what dies");
    $mock->script({ match => { body => 'early' }, times => 1, @rule,
        delay_ms => 2500 }, { match => { body => 'middle' }, @rule,
        pace_ms => 30 }, { @rule });

    my @both;

    for (' early', ' middle') {
        $part = $_;
        push @both, [lead(stream => 1)];
        push @{$both[-1]}, follow($there, 6, stream => 1),
            follow($here, 2, stream => 1);
    }

    $both[1][1]->wait_events(10);
    is scalar(@{$both[0][1]->events}), 0, "$what dies, one call is early";
    $part = '';

    return @both;
}


sub wait_for { $_->wait for @_ }


# elsewhere

sub own_tries {
    my @r = @_[1 .. 6];

    whole('before a byte: the others call for themselves', @r);
    equal('together', @r);
}


sub broken {
    my @r = @_[1 .. 6];

    is_deeply [map { outcome($_) } @r], [('broken') x 6],
        'in the middle: one error event for each';
}


# as many at the same time, on all workers

sub crowd {
    my ($n, @spec) = @_;

    for my $t (@gate) {
        my $idle = $t->{idle} //= {};

        while (grep { @{$idle->{$_} // []} < $n / 4 } $t->workers) {
            my @c = map { $t->start_get('/healthz',
                port => $t->port('PORT_BOTH')) } 1 .. 10;
            $_->wait for @c;
            push @{$idle->{$_->header('x-pid')}}, $_ for @c;
        }
    }

    my @worker = map { [$_->workers] } @gate;
    my @r = map { $gate[$_ & 1]->on($worker[$_ & 1][$_ / 2 % 2], text(),
        timeout => 20, @spec) } 0 .. $n - 1;
    wait_for(@r);

    return @r;
}


# "whole": the answer and nothing else; "broken": its beginning and one error
# event; else what it is

sub outcome {
    my ($r) = @_;

    return 'no answer: ' . ($r->error // '?') if !$r->status;
    return $r->status . ' ' . ($r->json->{error}{code} // '-')
        if $r->status != 200;

    if (($r->header('content-type') // '') !~ /event-stream/) {
        my $said = ($r->json // {})->{choices}[0]{message}{content} // '';
        return $r->complete && $said eq $content ? 'whole'
            : 'JSON: ' . $r->body;
    }

    my @data = $r->data;
    my %id = map { /"id":"(chatcmpl-\w+)"/ ? ($1 => 1) : () } @data;
    my $done = grep { $_ eq '[DONE]' } @data;
    my $errors = grep { /^\{"error"/ } @data;
    my $text = $r->text;

    return 'mixed: ' . join ' ', sort keys %id if keys %id != 1;

    return 'whole' if $r->complete && $text eq $content && $done == 1
        && !$errors && $data[-1] eq '[DONE]';

    return 'broken' if !$done && $errors == 1 && $data[-1] =~ /"error"/
        && $text ne $content && index($content, $text) == 0;

    return sprintf 'stream: %d events, %d errors, %d [DONE], %d bytes of '
        . 'text, %s, last: %s', scalar(@data), $errors, $done, length $text,
        $r->error // 'no error', $data[-1];
}


sub whole {
    my ($what, @r) = @_;
    is_deeply [map { outcome($_) } @r], [('whole') x @r], $what;
}


sub one_outcome {
    my ($what, @r) = @_;
    is_deeply [grep { !/^(?:whole|broken)$/ } map { outcome($_) } @r], [],
        $what;
}


sub equal {
    my ($what, @r) = @_;
    is scalar(keys %{{ map { $_->body => 1 } @r }}), 1, $what;
}


sub calls {
    my ($n, $what) = @_;
    is $mock->stats->{requests}, $n, "$what: $n";
}


sub took {
    my $took = time - $_[0];
    cmp_ok $took, '<', 10, sprintf 'all were told within %.1f s', $took;
}


# when the i-th event came

sub at {
    my ($r, $i) = @_;
    return $r->{start} + $r->events->[$i]{time};
}


sub metric {
    my ($t, $name) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;

    return $page =~ /^\Q$name\E (\d+)$/m ? $1 : -1;
}


sub becomes {
    my ($t, $name, $value, $what) = @_;
    ok $t->until(sub { metric($t, $name) == $value }), $what
        or diag("$name: " . metric($t, $name));
}


sub quiet {
    my ($what) = @_;

    for my $t (@gate) {
        becomes($t, 'llm_flights{state="open"}', 0, "$what: no call is open");
        becomes($t, 'llm_flight_followers', 0, 'nobody follows');
        becomes($t, 'llm_flight_bytes', 0, 'the memory is free');
        becomes($t, 'llm_slots_in_use', 0, 'the slots are back');
        becomes($t, 'llm_ledger_tickets_used', 0, 'no ticket is left');
    }
}
