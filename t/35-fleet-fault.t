#!/usr/bin/perl

# Redis dies, falls silent, forgets or is slow while two gateways share limits
# through it: no request fails or waits longer than one deadline, each gateway
# keeps to its part, and in the end Redis knows of everything.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Proxy;


# long enough to be told from the noise of a busy machine

my $deadline = 0.4;

my ($x, $y) = map { Test::LLM->new(workers => 2) } 1, 2;
my @both = ($x, $y);

$x->key('day', requests_per_day => 100000, tokens_per_day => 100000000);
$x->key("part$_", requests_per_minute => 2, burst_requests => 20) for 1, 2;
$x->key('slots', concurrency => 2);

my $redis = $x->redis(appendonly => 'yes', appendfsync => 'always');
my $mock = $x->mock;
my $proxy = Test::LLM::Proxy->new($x, $redis);

for my $t (@both) {
    $t->{tenants} = $x->{tenants};
    $t->write('tenants.json', $x->{tenants});
    $t->token(REDIS => $proxy->url
        . ' timeout=400ms limits=exact gateways=2');
    $t->token(MOCK => $x->token('MOCK'));
    $t->gateway(location => 'llm_retry tries=1;');
}

my %made = (day => 0);

ok both(sub { $redis->gateways == 2 }), 'two gateways';
serve('at first');


# killed

$redis->stop('KILL');
serve('killed');
ok alone($_), 'a gateway knows that it is alone' for @both;
is parts('part1'), 20, 'killed: each gateway serves its part of a rate';
slots('killed');
back(sub { $redis->start });
ok told(), 'what was used meanwhile was told';


# silent

$redis->pause;
serve('silent');
ok alone($_), 'a gateway knows that it is alone' for @both;
is parts('part2'), 20, 'silent: each gateway serves its part of a rate';
slots('silent');
back(sub { $redis->resume });
ok told(), 'what was used meanwhile was told';
is $_->chat('spent', key => 'part2')->status, 429, 'the rate is spent for both'
    for @both;


# its scripts are forgotten all the time

my $gone = gone();
for my $n (1 .. 10) {
    $redis->command('SCRIPT', 'FLUSH');
    request($both[$n % 2], "flush $n");
}
is gone(), $gone, 'a script that is forgotten is sent again';
ok told(), 'and nothing was lost or doubled';


# empty, with gateways that remember

$redis->command('FLUSHALL');
request($_, 'flushed') for @both;
ok told(), 'a Redis that forgot is told again';

$redis->stop('KILL');
unlink glob $x->path('redis/*/*');
serve('emptied');
back(sub { $redis->start });
ok told(20), 'one that comes back empty, too, but for what was not told';


# full

$redis->command(CONFIG => 'SET', 'maxmemory', '1');
request($both[$_ % 2], "full $_") for 1 .. 6;
$redis->command(CONFIG => 'SET', 'maxmemory', '0');
request($_, 'room') for @both;
ok told(), 'a full Redis: all was served and told';


# slow: within the deadline, and beyond

$gone = gone();
$proxy->fault('latency 20');
request($both[$_ % 2], "slow $_") for 1 .. 6;
ok told(), 'a slow Redis is waited for';
is gone(), $gone, 'and not given up';

$proxy->fault('latency 1000');
serve('too slow');
ok alone($_), 'too slow: a gateway knows that it is alone' for @both;
my $before = calls();
my $start = time;
serve('still too slow');
Test::LLM::HTTP->idle(1);
cmp_ok calls() - $before, '<=', 8 * (time - $start) + 8,
    'too slow: few commands';
back(sub { $proxy->fault('pass') });
ok told(), 'what was used meanwhile was told';


# a connection that breaks, in the middle of replies too

for my $n (1 .. 5) {
    $proxy->fault($n % 2 ? 'drop' : 'down rst-after 20');
    request($both[$n % 2], "broken $n");
    $proxy->fault('pass');
}
ok told(), 'broken connections: nothing was lost or doubled';

for my $t (@both) {
    my %minute;
    $minute{$_}++ for $t->log =~ /^(\S+ \d+:\d+):\d+ .* llm: .*redis/mg;
    my ($most) = sort { $b <=> $a } values %minute;
    cmp_ok $most, '<=', 10, "at most ten lines in a minute: $most";
}


# the provider has seen all and nothing else: no request was lost

is $mock->stats->{broken}, 0, 'the provider saw whole requests';

done_testing;


# requests at both gateways: all are served, at most the first ones wait

sub serve {
    my ($when) = @_;

    my @slow;

    for my $n (1 .. 20) {
        my $took = request($both[$n % 2], "$when $n");
        push @slow, $took if $took > $deadline / 2;
        Test::LLM::HTTP->idle(0.02);
    }

    cmp_ok scalar(@slow), '<=', 2, "$when: only the first one at each gateway "
        . "waits";
    is scalar(grep { $_ > $deadline + 0.5 } @slow), 0, "$when: and no longer "
        . "than the deadline: @slow";
}


sub request {
    my ($t, $text) = @_;

    my $start = time;
    my $r = $t->chat($text, key => 'day');

    $made{day}++;
    is $r->status, 200, "$text: is served" if $r->status != 200;

    return time - $start;
}


# how many of twenty at each gateway get through while both are alone

sub parts {
    my ($key) = @_;

    my @r = map { $both[$_ % 2]->start_chat("$key $_", key => $key) } 1 .. 40;
    $_->wait for @r;

    is +(grep { $_->status != 200 && $_->status != 429 } @r), 0, 'no errors';

    return scalar grep { $_->status == 200 } @r;
}


sub slots {
    my ($when) = @_;

    $mock->script({ delay_ms => 100 });
    my @r = map { $both[$_ % 2]->start_chat("slot $_", key => 'slots') }
        1 .. 6;
    $_->wait for @r;
    is +(grep { $_->status == 200 } @r), 6, "$when: six requests";
    is $mock->stats->{max_in_flight}, 2, "$when: by one slot at each gateway";
    $mock->script;
}


sub back {
    my ($action) = @_;

    my @said = map { $_->said(qr/shared again/) } @both;
    my @gone = map { $_->said(qr/keeps to one part/) } @both;
    my $start = time;

    $action->();

    ok $x->until(sub { !grep { $_->said(qr/shared again/)
        != $_->said(qr/keeps to one part/) } @both }, 10), 'they are back';
    my $took = time - $start;
    cmp_ok $took, '<', 2.5, "soon: $took s";

    # both workers' connections and the agent each say it twice

    for my $t (@both) {
        my @lines = grep { /redis "|limits are/ } split /^/,
            substr $t->log, $t->{seen} // 0;
        cmp_ok scalar(@lines), '<=', 10, 'the log says little: ' . @lines;
        $t->{seen} = length $t->log;
    }
}


sub alone {
    my ($t) = @_;

    return $t->until(sub { $t->said(qr/keeps to one part/)
        > $t->said(qr/shared again/) }, 5);
}


sub gone {
    return join ' ', map { $_->said(qr/keeps to one part/) } @both;
}


sub both {
    my ($condition) = @_;
    return $x->until($condition, 5);
}


# the later day of the key's tallies is what was made, or, if Redis lost all,
# so much less at the most: it then begins with the most that somebody knows

sub told {
    my ($less) = @_;

    my $have;

    my $ok = both(sub {
        $have = day();
        return $have <= $made{day} && $have >= $made{day} - ($less // 0);
    });

    diag("$made{day} requests, Redis has " . ($have // 0)) if !$ok;

    # from here on it is exact again
    Test::LLM::HTTP->idle(1.5) if $less;
    $made{day} = day() if $less;

    return $ok;
}


sub day {
    my @f = split / /, $redis->command(GET => '{llm}:l:k:day') // '';

    return @f < 13 ? 0 : $f[5] > $f[9] ? $f[6] : $f[10];
}


sub calls {
    my $info = $redis->command(INFO => 'commandstats');
    return $info =~ /cmdstat_evalsha:calls=(\d+)/ ? $1 : 0;
}
