#!/usr/bin/perl

# Workers come and go: killed ones give back what they held, a reload cuts
# nothing and loses no count, and the end is prompt.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

$t->key('one', concurrency => 1);
$t->key('two', concurrency => 2);
$t->key('four', concurrency => 4);
$t->key('free');

$t->team('single', concurrency => 1);
$t->key('urgent', team => 'single', priority => 0);
$t->key('usual', team => 'single', priority => 1);

my $mock = $t->gateway(provider => 'include_usage=off',
    server => '%%BOTH%%',
    location => 'llm_cache off; llm_retry tries=2 base=10ms;');

my (@r, $r);


# a stream on a given worker

sub on {
    my ($pid, $key, $text, %spec) = @_;
    return $t->on($pid, $text, key => $key, stream => 1, timeout => 20,
        %spec);
}


# have the draining workers ended?

sub gone {
    return $t->until(sub { 2 == (() = $t->workers(1)) });
}


sub whole {
    return scalar grep { ($_->status // 0) == 200 && $_->complete
        && ($_->data)[-1] eq '[DONE]' } @_;
}


# a worker with slots dies, the line is on the other one

for my $round (1 .. 3) {
    my ($dead, $alive) = $t->workers;

    $mock->script({ match => { body => 'held' }, hang => \1 });

    @r = map { on($dead, 'two', "held $_") } 1, 2;
    $mock->wait(in_flight => 2);
    push @r, map { on($alive, 'two', "next $_") } 1 .. 4;
    $t->becomes('llm_slots_waiting', 4, 'a line on the other worker');

    my $killed = time;
    $t->kill_worker('KILL', $dead);

    $_->wait for @r;
    cmp_ok time - $killed, '<', 2, 'kill -9 of a worker with slots: they are '
        . 'free within two seconds';
    is whole(@r[2 .. 5]), 4, 'the line is served';
    is whole(@r[0, 1]), 0, 'the requests of the dead worker are not';
    $t->all_back('a dead worker');
}

like $t->log, qr/gave back 2 slots/, 'the log tells';


# the same, but nobody else has anything to do with it

my ($dead, $alive) = $t->workers;

$mock->script({ hang => \1 });
@r = map { on($dead, 'two', $_) } 1, 2;
$mock->wait(in_flight => 2);
$t->kill_worker('KILL', $dead);
cmp_ok $t->becomes('llm_slots_in_use', 0, 'slots without a line come back', 5),
    '<', 2, 'within two seconds';


# a worker with a line dies, the slot is with the other one

($dead, $alive) = $t->workers;

$mock->script({ match => { body => 'held' }, hang => \1 });
@r = on($alive, 'one', 'held');
$mock->wait(in_flight => 1);

for my $i (1 .. 4) {
    push @r, on($i == 3 ? $alive : $dead, 'one', $i);
    $t->becomes('llm_slots_waiting', $i, "$i in line");
}

$t->kill_worker('KILL', $dead);
cmp_ok $t->becomes('llm_slots_waiting', 1, 'a dead worker leaves the line'),
    '<', 2, 'within two seconds';
is $t->metric('llm_slots_in_use'), 1, 'the slot stays with its owner';

push @r, on(($t->workers)[1], 'one', 5);
$t->becomes('llm_slots_waiting', 2, 'a new one joins the line');
$r[0]->abort;
$_->wait for @r[3, 5];
is whole(@r[3, 5]), 2, 'those who stayed are served';
is join(' ', $mock->texts), 'held 3 5', 'nobody else reached the provider';
$t->all_back('a dead line');


# both at once

$mock->script({ hang => \1 });
@r = map { my $pid = $_; map { on($pid, 'two', $_) } 1 .. 3 } $t->workers;
$mock->wait(in_flight => 2);
$t->becomes('llm_slots_waiting', 4, 'four in line');

my @both = $t->workers;
kill 'KILL', $both[1];
$t->kill_worker('KILL', $both[0]);
$t->allow(qr/\[alert\] .*process $both[1] exited on signal/);
$t->until(sub { 2 == grep { $_ != $both[1] } $t->workers });
$t->{expected} = [$t->workers];
$_->wait for @r;
$t->all_back('two dead workers');

$mock->script();
is $t->chat('Hello', key => 'two')->status, 200, 'the new ones serve';


# deaths under load

$mock->script({ delay_ms => 5, pace_ms => 1 });

my ($sent, $good) = (0, 0);
my %live;


# keeps n requests in flight for a while

sub load {
    my ($n, $condition) = @_;

    $t->until(sub {
        for my $id (keys %live) {
            next if !defined $live{$id}->end;
            my $r = delete $live{$id};
            $good++ if $r->status && $r->status == 200 && $r->complete;
        }

        return 1 if $condition->();

        while (keys %live < $n) {
            $live{++$sent} = $t->start_chat("load $sent", key => 'four',
                stream => $sent % 2, timeout => 15,
                headers => { Connection => 'close' });
        }

        return 0;
    }, 30) or diag('load: ' . keys(%live) . ' left');
}


for my $round (1 .. 6) {
    my $until = $sent + 40 + $round;
    load(12, sub { $sent >= $until });
    $t->kill_worker('KILL', ($t->workers)[$round % 2]);
}

load(0, sub { !%live });
cmp_ok $good, '>=', $sent - 6 * 12, 'deaths take only their own with them';
$t->all_back('deaths under load');


# a reload during streams

$mock->script({ chunks => 15, pace_ms => 100, keep => \1 });

my @old = $t->workers;
@r = map { on($old[$_ % 2], 'free', "stream $_") } 0 .. 3;
$_->wait_events(3) for @r;

$t->reload;
is $t->metric('llm_slots_in_use'), 4, 'a reload keeps the count';
my @fresh = map { on($_, 'free', 'fresh') } $t->workers;
$_->wait_events(1) for @fresh;
is $t->metric('llm_slots_in_use'), 6, 'old and new workers count together';
$_->wait for @r, @fresh;
is whole(@r, @fresh), 6, 'and cuts no stream';
is_deeply [map { $_->body } sort { $a->body cmp $b->body } @r, @fresh],
    [sort map { $mock->sent($_) } 0 .. 5], 'not by a byte';
$t->all_back('a reload during streams');
ok gone(), 'the old workers are gone';


# from a worker that drains to a new one and back

@old = $t->workers;
$mock->script({ match => { body => 'old' }, chunks => 10, pace_ms => 100 });

@r = on($old[0], 'usual', 'old 1');
$mock->wait(in_flight => 1);
push @r, on($old[1], 'usual', 'old 2');
$t->becomes('llm_slots_waiting', 1, 'one in line before the reload');

$t->reload;
push @r, on(($t->workers)[0], 'urgent', 'new 3');
push @r, on(($t->workers)[1], 'usual', 'new 4');
$t->becomes('llm_slots_waiting', 3, 'two more after it');
ok !defined $r[0]->end, 'the old stream still runs';

$_->wait for @r;
is whole(@r), 4, 'all are served';
is join(' ', $mock->texts), 'old 1 new 3 old 2 new 4',
    'from an old worker to a new one, back, and forth again';
is $mock->stats->{max_in_flight}, 1, 'one by one';

my @journal = sort { $a->{arrival_ms} <=> $b->{arrival_ms} } $mock->journal;

for my $i (1 .. 3) {
    my $gap = $journal[$i]{arrival_ms} - $journal[$i - 1]{end_ms};
    ok $gap < 200, sprintf 'at once (%.2f ms)', $gap;
}

$t->all_back('a slot that changes hands');
ok gone(), 'the old workers are gone';


# twenty reloads under load

$mock->script({ delay_ms => 20, pace_ms => 5 });
($sent, $good) = (0, 0);

for my $round (1 .. 20) {
    my $until = $sent + 10;
    load(12, sub { $sent >= $until });
    $t->reload;
}

load(0, sub { !%live });
cmp_ok $sent, '>=', 200, 'twenty reloads under load';
is $good, $sent, 'without a failed request';
$t->all_back('twenty reloads');
ok gone(), 'no old worker stays';
is $mock->stats->{max_in_flight}, 4, 'four at once all the time';


# the end waits for requests, those in line too, and for nothing else

$mock->script({ delay_ms => 200 });

@r = map { on($_, 'two', 'Hello', headers => { Connection => 'close' }) }
    ($t->workers) x 3;
$mock->wait(in_flight => 2);
$t->becomes('llm_slots_waiting', 4, 'four in line at the end');

kill 'QUIT', $t->master;
$_->wait for @r;
my $start = time;
is $t->quit, 0, 'quit';
is whole(@r), 6, 'after all are answered';
cmp_ok time - $start, '<', 1, 'and at once then';

my $t2 = Test::LLM->new(workers => 2);
my $mock2 = $t2->gateway(location => 'llm_cache on;');

is $t2->chat('Hello')->header('Cache-Status'), 'ngx-llm; fwd=uri-miss',
    'another gateway, with a cache';
like $t2->chat('Hello')->header('Cache-Status'), qr/hit/, 'that is in use';

$start = time;
is $t2->quit, 0, 'with an idle Redis';
cmp_ok time - $start, '<', 1, 'the end comes at once';

my $t3 = Test::LLM->new(workers => 2);
my $mock3 = $t3->gateway;
$mock3->script({ hang => \1 });
$t3->start_chat('Hello') for 1 .. 4;
$mock3->wait(in_flight => 4);

$start = time;
is $t3->stop, 0, 'TERM';
cmp_ok time - $start, '<', 1, 'does not wait for anybody';

done_testing;
