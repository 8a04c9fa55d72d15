#!/usr/bin/perl

# R1: Redis is killed under load.  What waits for it waits for one deadline
# (t/37-fleet-latency.t measures that without other load).

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Test::LLM;
use Test::LLM::Fault;


my $f = Test::LLM::Fault->new(
    fault => 'R1, Redis is killed',
    method => 'kill -9 for 6 s, twice, under 200 clients at two gateways; '
        . 'then it starts again',
    pass => "no request fails for it; who is rated gets its rate and, for "
        . "the change, a burst more\n"
        . "once it is known to be away nobody waits for it; back within 5 "
        . "s; at most 10 log lines a minute",
    may => { cached => [qw(whole broken)] }, gateways => 2, redis => { appendonly => 'yes' },
);

$f->warm;

# what a bystander waits for, usually

my $usual = $f->watch('chat', 3, 100)->();

for my $round (1, 2) {
    $f->run(1);
    $f->redis->stop('KILL');
    ok $f->run(5, sub { $f->alone }), "$round: the gateways know";

    # of the workers some do not know yet

    $f->run(1);

    my $r = $f->watch('chat', 4, 100)->();

    is $r->{ok}, $r->{requests}, "$round: a bystander is served";
    cmp_ok $r->{over}{100000} / $r->{requests}, '<=', 0.05
        + 2 * $usual->{over}{100000} / $usual->{requests},
        "$round: and waits for nothing";

    $f->redis->start;
    ok $f->run(5, sub { $f->together }), "$round: they share again";
}

$f->run(2);
$f->calm;
$f->rates(2 * $f->burst);
$f->quiet;

done_testing;
