#!/usr/bin/perl

# What a Redis that is away or slow costs the requests: a hundred a second
# through a gateway whose limits are exact, and at the same time as many
# through one without Redis.  Nothing fails, only the first ones wait, the log
# is short, and all is as before soon after.
#
# Alone: latencies are measured.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Proxy;


my $seconds = 5;
my $rate = 100;
my $workers = 2;
my $deadline = 0.1;

# the last one to be stopped has Redis, the mock and the proxy

my ($y, $x, $hub) = map { Test::LLM->new(workers => $workers) } 1 .. 3;

$hub->key('user', requests_per_minute => 1_000_000,
    tokens_per_minute => 1_000_000_000, requests_per_day => 1_000_000_000,
    concurrency => 64);

my $redis = $hub->redis(appendonly => 'yes');
my $mock = $hub->mock;
my $proxy = Test::LLM::Proxy->new($hub, $redis);

for my $t ($x, $y) {
    $t->{tenants} = $hub->{tenants};
    $t->write('tenants.json', $hub->{tenants});
    $t->token(MOCK => $hub->token('MOCK'));
    $t->token(REDIS => $t == $x ? $proxy->url
        . ' timeout=100ms limits=exact' : 'off');
    $t->gateway(location => 'llm_retry tries=1;', server => '%%BOTH%%');
}

ok $x->until(sub { $redis->gateways == 1 }),
    'the gateway has its Redis';


# what is usual here: over it by 5 ms is what counts

load($_, 1)->() for $x, $y;
my $usual = load($y, 1)->()->{latency}{p50};
my $slow = 5000 + int $usual;
my $wait = 1e6 * $deadline / 2;


my ($r, $control_run) = phase('healthy', sub {}, sub {});
few($r, $control_run, 'healthy', 0.02 * $rate * $seconds);
is said(qr/keeps to one part/), 0, 'healthy: it is not alone';

for my $case (
    ['stopped',       sub { $redis->pause },     sub { $redis->resume }],
    ['killed',        sub { $redis->stop('KILL') }, sub { $redis->start }],
    ['500 ms slower', sub { $proxy->fault('down latency 500') },
        sub { $proxy->fault('pass') }],
) {
    my ($name, $break, $mend) = @$case;

    ($r, $control_run) = phase($name, $break, $mend);

    # whoever asked before it was known: one deadline's worth, and the asks of
    # each worker that were on their way
    few($r, $control_run, $name, $workers * 2 + 0.02 * $rate * $seconds);

    cmp_ok $r->{latency}{p50} - $control_run->{latency}{p50}, '<',
        $x->sanitized ? 20_000 : 5_000, "$name: most wait for nothing";
}

my $gone = said(qr/keeps to one part/);
is $gone, 3, 'each time it went on alone, once';

($r, $control_run) = phase('20 ms slower',
    sub { $proxy->fault('down latency 20') }, sub { $proxy->fault('pass') });
cmp_ok $r->{latency}{p50}, '>', 15_000, '20 ms slower: it is waited for';
cmp_ok over($r, 1e6 * $deadline), '<=', over($control_run, 1e6 * $deadline)
    + 0.02 * $rate * $seconds, '20 ms slower: but not for a deadline';
is said(qr/keeps to one part/), $gone, '20 ms slower: it is not alone';


# the log

my %minute;
$minute{$_}++ for $x->log =~ /^(\S+ \d+:\d+):\d+ .* llm: .*redis "/mg;
my ($most) = sort { $b <=> $a } values %minute;
cmp_ok $most // 0, '<=', 10, 'at most ten lines of it in a minute';
cmp_ok $most // 0, '>', 0, 'and some';

done_testing;


# load on both, the fault in between; the reports of both

sub phase {
    my ($name, $break, $mend) = @_;

    my $before = said(qr/./);
    my $both = [map { load($_, $seconds) } $x, $y];
    my $start = time;

    Test::LLM::HTTP->idle(0.3);
    $break->();
    Test::LLM::HTTP->idle($start + $seconds - 1 - time);
    $mend->();

    my $back = time;
    ok $x->until(sub { said(qr/shared again/) == said(qr/keeps to one part/) },
        20), "$name: it is back";
    my $took = time - $back;
    cmp_ok $took, '<', 2 + ($x->sanitized ? 2 : 0.5), "$name: soon";

    my @report = map { $_->() } @$both;

    for my $report (@report) {
        diag(sprintf '%-14s %-7s p50 %6.2f p90 %6.2f max %6.2f ms, over '
            . '%.1f ms: %5.2f %%, over %d ms: %d', $name,
            $report == $report[0] ? 'Redis' : 'control',
            map({ $_ / 1000 } @{$report->{latency}}{qw(p50 p90 max)}, $slow),
            100 * over($report, $slow) / $report->{requests}, $wait / 1000,
            over($report, $wait));
    }

    is $report[0]{ok}, $report[0]{requests}, "$name: all are served"
        or diag(encode_json($report[0]{errors}));
    cmp_ok $report[0]{requests}, '>', 0.9 * $rate * $seconds,
        "$name: and all were asked";
    cmp_ok $report[0]{latency}{max}, '<', $report[1]{latency}{max}
        + 1e6 * $deadline * 2 + 500_000,
        "$name: nobody waits longer than a deadline";

    my $lines = said(qr/./) - $before;
    cmp_ok $lines, '<=', 10, "$name: the log says little: $lines lines";

    return @report;
}


# how many waited longer than half a deadline; the control says how many do
# because the machine is busy

sub few {
    my ($report, $control_run, $name, $most) = @_;

    cmp_ok over($report, $wait), '<=', $most + 2 * over($control_run, $wait),
        "$name: hardly anybody waits";
}


sub over {
    my ($report, $us) = @_;
    return $report->{over}{int $us};
}


# starts a load; what is given waits for its report

sub load {
    my ($t, $duration) = @_;

    my $name = 'load' . ++$hub->{loads};
    my $pid = $hub->spawn($name, "$hub->{build}/load", '-c', 64, '-r', $rate,
        '-d', $duration, map({ ('--over', int $_) } $slow // 5000,
        $wait // 5000, 1e6 * $deadline), '-H',
        'Authorization: Bearer ' . $hub->secret('user'),
        'http://127.0.0.1:' . $t->port('PORT_BOTH') . '/v1/chat/completions');

    return sub {
        $hub->await($pid, $duration + 30);
        return decode_json($hub->read("$name.out"));
    };
}


# lines about Redis and limits

sub said {
    my ($pattern) = @_;
    return scalar grep { /llm: .*(?:redis "|limits are)/ && $_ =~ $pattern }
        split /^/, $x->log;
}
