#!/usr/bin/perl

# Slots and the line for them: how many run at once, who goes next, who is
# turned away, and that every slot comes back, with two workers.
#
# Alone: starts are measured to a tenth of a millisecond.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

$t->key('two', concurrency => 2);
$t->key('one', concurrency => 1);
$t->key('short', concurrency => 1, queue => { size => 2 });
$t->key('never', concurrency => 1, queue => { size => 0 });
$t->key('patient', concurrency => 1, queue => { timeout_ms => 400 });
$t->key('leave', concurrency => 1);
$t->key('back', concurrency => 1);
$t->key('grow', concurrency => 1);

$t->team('single', concurrency => 1);
$t->key('urgent', team => 'single', priority => 0);
$t->key('usual', team => 'single', priority => 1);

$t->team('pair', concurrency => 2);
$t->key('left', team => 'pair');
$t->key('right', team => 'pair');

$t->team('mixed', concurrency => 2);
$t->key('tight', team => 'mixed', concurrency => 1);
$t->key('loose', team => 'mixed');

# embeddings are of little patience

my $mock = $t->gateway(
    server => '%%BOTH%%',
    location => 'llm_retry tries=2 base=10ms;
        }
        location = /v1/embeddings {
            llm_gateway;
            llm_retry tries=1;
            llm_timeout first_byte=200ms;');

my @workers = $t->workers;
my ($r, @r);


# a chat request on worker 0 or 1

sub on {
    my ($worker, $key, $text, %spec) = @_;
    return $t->on($workers[$worker], $text, key => $key, %spec);
}


sub refused {
    my ($r, $code) = @_;

    is $r->status, 429, "$code: status";

    my $error = ($r->json // {})->{error} // {};
    is_deeply [sort keys %$error], [qw(code message param type)],
        "$code: shape";
    is $error->{code}, $code, "$code: code";
    cmp_ok $r->header('retry-after') // 0, '>=', 1, "$code: retry-after";
    cmp_ok $r->header('retry-after-ms') // 0, '>=', 1,
        "$code: retry-after-ms";
}


sub six {
    my ($what, $start) = @_;

    $mock->script({ delay_ms => 1000 });

    my $began = time;
    my @six = map { $start->($_) } 0 .. 5;
    $_->wait for @six;
    my $took = time - $began;

    is +(grep { $_->status == 200 } @six), 6, "$what: all six are answered";
    is $mock->stats->{max_in_flight}, 2, "$what: never more than two at once";
    cmp_ok $took, '>', 2.98, "$what: takes three seconds";
    cmp_ok $took, '<', 4.5, "$what: and not much more";

    my @queued = sort { $a <=> $b } map { $_->header('x-llm-queue-ms') } @six;

    for my $i (0 .. 5) {
        my $least = 1000 * int($i / 2);
        ok $queued[$i] >= $least - 20 && $queued[$i] < $least + 700,
            "$what: x-llm-queue-ms $queued[$i]";
    }

    $t->all_back($what);

    return @six;
}


six('one worker', sub { on(0, 'two', 'Hello') });

@r = six('two workers', sub { on($_[0] % 2, 'two', 'Hello') });
is_deeply [map { $_->header('x-pid') } @r], [(@workers) x 3],
    'three on each';


# first come, first served, over both workers

$mock->script({ match => { body => '"0"' }, hang => \1 }, { delay_ms => 20 });

@r = on(0, 'one', '0');
$mock->wait(in_flight => 1);

for my $i (1 .. 7) {
    push @r, on($i % 3 == 1 ? 1 : 0, 'one', $i);
    $t->until(sub { $t->metric('llm_slots_waiting') == $i });
}

$t->waiting(7);
$t->in_use(1);
is $mock->stats->{requests}, 1, 'who waits has not reached the provider';
(shift @r)->abort;
$_->wait for @r;
is join(' ', $mock->texts), '0 1 2 3 4 5 6 7', 'first come, first served';
is $mock->stats->{max_in_flight}, 1, 'one by one';
$t->all_back('a line');


# priorities

$mock->script({ match => { body => '"0"' }, hang => \1 }, { delay_ms => 20 });

@r = on(0, 'usual', '0');
$mock->wait(in_flight => 1);

for my $i (1 .. 4) {
    push @r, on($i % 2, $i > 2 ? 'urgent' : 'usual', $i);
    $t->until(sub { $t->metric('llm_slots_waiting') == $i });
}

(shift @r)->abort;
$_->wait for @r;
is join(' ', $mock->texts), '0 3 4 1 2', 'the smaller priority goes first';
$t->all_back('priorities');


# a full line

$mock->script({ match => { body => '"0"' }, hang => \1 });

@r = on(0, 'short', '0');
$mock->wait(in_flight => 1);
push @r, on(0, 'short', '1'), on(1, 'short', '2');
$t->waiting(2);

for my $worker (0, 1) {
    $r = on($worker, 'short', '3');
    $r->wait;
    refused($r, 'queue_full');
    cmp_ok $r->end, '<', 1, 'at once';
}

is $t->chat('4', key => 'loose')->status, 200, 'another key is served';
$t->waiting(2, 'who was in line is still there');
(shift @r)->abort;
$_->wait for @r;
is_deeply [map { $_->status } @r], [200, 200], 'and is served in the end';
$t->all_back('a full line');


$mock->script({ match => { body => '"0"' }, hang => \1 });

@r = on(0, 'never', '0');
$mock->wait(in_flight => 1);
$r = on(1, 'never', '1');
$r->wait;
refused($r, 'queue_full');
$r[0]->abort;
$t->all_back('a key without a line');


# a line has an end

$mock->script({ hang => \1 });

@r = on(0, 'patient', '0');
$mock->wait(in_flight => 1);

for my $worker (0, 1) {
    $r = on($worker, 'patient', '1');
    $r->wait;
    refused($r, 'queue_timeout');

    my $queued = $r->header('x-llm-queue-ms');
    ok $queued >= 400 && $queued < 1500, "after the time that was given: "
        . $queued;
    cmp_ok $r->end, '>', 0.39, 'not before';
}

$r = on(1, 'patient', '2', headers => { 'x-request-timeout-ms' => 100 });
$r->wait;
like $r->status, qr/^(?:429|504)$/, 'the client\'s own deadline';
ok $r->end > 0.09 && $r->end < 0.39, 'ends the wait, too';

is $mock->stats->{requests}, 1, 'none of them reached the provider';
$t->waiting(0);
$r[0]->abort;
$t->all_back('an end of waiting');


# a waiter whose client leaves

$mock->script({ match => { body => '"0"' }, hang => \1 });

@r = on(0, 'leave', '0');
$mock->wait(in_flight => 1);

for my $i (1 .. 4) {
    push @r, on($i % 2, 'leave', $i, stream => $i < 3);
    $t->waiting($i);
}

$r[1]->abort;
$t->waiting(3, 'a client that resets the connection is gone from the line');
$r[2]->close;
$t->waiting(2, 'one that closes it as well');
$r[0]->abort;
$_->wait for @r[3, 4];
is_deeply [map { $_->status } @r[3, 4]], [200, 200], 'the others are served';
is join(' ', $mock->texts), '0 3 4', 'who left never reached the provider';
$t->all_back('leaving');

ok $t->until(sub { 3 <= (() = $t->access_log =~ / 499 /g) }),
    'the access log says 499';


# a team's slots

$mock->script({ delay_ms => 200 });

@r = map { on($_ % 2, $_ < 3 ? 'left' : 'right', $_) } 0 .. 5;
$_->wait for @r;
is +(grep { $_->status == 200 } @r), 6, 'a team of two keys';
is $mock->stats->{max_in_flight}, 2, 'shares its slots';


# who is blocked by its own key is in nobody's way

$mock->script({ match => { body => '"t2"' } }, { match => { body => '"l3"' } },
    { hang => \1 });

my $tight = on(0, 'tight', 't1');
$mock->wait(in_flight => 1);
my $blocked = on(1, 'tight', 't2');
$t->waiting(1);

my $loose = on(1, 'loose', 'l1');
ok $mock->wait(in_flight => 2), 'passes who waits for its own key';
my $second = on(0, 'loose', 'l2');
$t->waiting(2);
my $third = on(1, 'loose', 'l3');
$t->waiting(3);

$loose->abort;
ok $mock->wait(requests => 3), 'the slot goes to the next of the team';
is join(' ', $mock->texts), 't1 l1 l2', 'that its own key does not block';
$t->waiting(2);

$tight->abort;
$_->wait for $blocked, $third;
is join(' ', $mock->texts), 't1 l1 l2 t2 l3', 'then to who was first';
$second->abort;
$t->all_back('a team');


# every slot comes back

sub gives_back {
    my ($what, $rule, $check, %spec) = @_;

    my $path = delete $spec{path};

    $mock->script($rule);
    my $r = $path ? $t->start_post($path, { model => 'gpt-4o', input => 'x' },
        key => 'back', %spec) : on(0, 'back', $what, %spec);
    $check->($r);
    $t->all_back($what);

    $mock->script();
    $r = on(1, 'back', 'next');
    $r->wait;
    is $r->header('x-llm-queue-ms'), 0, "$what: the next need not wait";
    $t->in_use(0);
}


sub status {
    my ($status) = @_;

    return sub {
        my ($r) = @_;
        $r->wait;
        is $r->status, $status, "status $status";
    };
}


sub aborted {
    my ($until) = @_;

    return sub {
        my ($r) = @_;
        $until->($r);
        is $t->metric('llm_slots_in_use'), 1, 'a slot is held';
        $r->abort;
        ok $mock->wait(in_flight => 0), 'the provider is called no more';
    };
}


my $called = sub { $mock->wait(in_flight => 1) };

gives_back('JSON', {}, status(200));
gives_back('a stream', {}, status(200), stream => 1);
gives_back('an error', { status => 400 }, status(400));
gives_back('an error and a retry', { status => 500 }, status(500));
gives_back('a reset', { cut => 'rst' }, status(502));
gives_back('a cut', { cut => 'close', cut_at => 100 }, status(502));
gives_back('a cut stream', { cut => 'rst', cut_events => 3 }, sub {
    $_[0]->wait;
    ok !$_[0]->complete, 'does not end properly';
}, stream => 1);
gives_back('no answer in time', { hang => \1 }, status(504),
    path => '/v1/embeddings');
gives_back('a deadline', { hang => \1 }, status(504),
    headers => { 'x-request-timeout-ms' => 200 });
gives_back('a deadline in a pause', { status => 503,
    headers => { 'retry-after-ms' => 100 } }, status(503),
    headers => { 'x-request-timeout-ms' => 50 });

gives_back('leaving before the head', { hang => \1 }, aborted($called));
gives_back('leaving before a stream', { hang => \1 }, aborted($called),
    stream => 1);
gives_back('leaving while the body comes', { body_delay_ms => 5000 },
    aborted($called));
gives_back('leaving in mid-stream', { chunks => 100, pace_ms => 100 },
    aborted(sub { $_[0]->wait_events(3) }), stream => 1);
gives_back('leaving in a pause', { status => 503, headers =>
    { 'retry-after-ms' => 5000 } },
    aborted(sub { $mock->wait(done => 1) }));

$mock->script({ times => 5, delay_ms => 30 }, { times => 5, pace_ms => 10 },
    { times => 5, status => 503 }, { times => 5, cut_at => 50 },
    { delay_ms => 3, pace_ms => 1 });

@r = map { on($_ % 2, 'two', "wild $_", stream => $_ % 3) } 1 .. 60;
my $n = 0;

while (my @left = grep { !defined $_->end } @r) {
    Test::LLM::HTTP->idle(0.002);
    $left[$n++ * 7 % @left]->abort if $n % 2 || @left > 30;
    last if $n > 2000;
}

cmp_ok $n, '<', 2000, 'a wild crowd';
$t->all_back('a wild crowd');
is $mock->stats->{max_in_flight}, 2, 'that never was more than two at once';


# more slots at run time start who waits, fewer take none away

$mock->script({ hang => \1 });

@r = map { on($_ % 2, 'grow', $_) } 0 .. 4;
$t->waiting(4);
$t->key('grow', concurrency => 3);
ok $mock->wait(in_flight => 3, timeout_ms => 2000),
    'more slots start who waits';
$t->waiting(2);

my $loaded = $t->said(qr/llm_tenants .* keys/);
$t->key('grow', concurrency => 2);
ok $t->until(sub {
    my $r = $t->start_chat('x', key => 'grow', timeout => 0.1);
    $r->wait;
    $r->abort;
    return $t->metric('llm_slots_in_use') == 3
        && $t->metric('llm_slots_waiting') == 2;
}), 'fewer slots take none away';
ok $t->until(sub { $t->said(qr/llm_tenants .* keys/) > $loaded }),
    'the file is loaded';

# … and each worker looks four times a second whether it has changed
Test::LLM::HTTP->idle(0.4);
$r[0]->abort;
$t->in_use(2);
$t->waiting(2, 'who waits now waits for one more');

$_->abort for @r;
$t->all_back('other limits');


# how long it takes until the next one starts, on the other worker

$mock->script({ delay_ms => 20 });

@r = map { on($_ % 2, 'one', $_) } 0 .. 30;
$_->wait for @r;

my @journal = sort { $a->{arrival_ms} <=> $b->{arrival_ms} } $mock->journal;
my @gaps = sort { $a <=> $b } map {
    $journal[$_]{arrival_ms} - $journal[$_ - 1]{end_ms} } 1 .. $#journal;

is +(grep { $_->status == 200 } @r), 31, 'a chain over both workers';
is $mock->stats->{max_in_flight}, 1, 'one after the other';
note sprintf 'from the end of one to the start of the next: median %.2f ms, '
    . 'worst %.2f ms', $gaps[@gaps / 2], $gaps[-1];
cmp_ok $gaps[@gaps / 2], '<', 15, 'the next one starts within milliseconds';

$t->all_back('all');

done_testing;
