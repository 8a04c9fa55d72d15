#!/usr/bin/perl

# R2: Redis is there and says nothing: stopped, or paused by a client.  The
# hang that other gateways know: connecting works, so no connect timeout helps.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Test::LLM;
use Test::LLM::Fault;


my $f = Test::LLM::Fault->new(
    fault => 'R2, Redis is frozen',
    method => 'SIGSTOP for 6 s, then CLIENT PAUSE 6000 ALL, under 200 '
        . 'clients at two gateways',
    pass => "no request fails for it, no worker is blocked: its other "
        . "locations answer as before\n"
        . "once it is known nobody waits for it; back within 5 s; rated as "
        . "in R1; at most 10 log lines a minute",
    may => { cached => [qw(whole broken)] }, gateways => 2,
);

$f->warm;

my $usual = $f->watch('chat', 3, 100)->();
my $before = $f->watch('alive', 3, 200)->();

for my $way (
    ['stopped', sub { $f->redis->pause }, sub { $f->redis->resume }],
    ['paused', sub { $f->redis->command(CLIENT => 'PAUSE', 6000, 'ALL') },
        sub {}],
) {
    my ($name, $break, $mend) = @$way;

    $f->run(1);

    my $alive = $f->watch('alive', 6, 200);

    $break->();
    ok $f->run(5, sub { $f->alone }), "$name: the gateways know";
    $f->run(1);

    my $r = $f->watch('chat', 3, 100)->();

    is $r->{ok}, $r->{requests}, "$name: a bystander is served";
    cmp_ok $r->{over}{100000} / $r->{requests}, '<=', 0.05
        + 2 * $usual->{over}{100000} / $usual->{requests},
        "$name: and waits for nothing";

    $r = $alive->();
    is $r->{ok}, $r->{requests}, "$name: no worker is blocked";
    cmp_ok $r->{over}{200000} / $r->{requests}, '<=', 0.02
        + 2 * $before->{over}{200000} / $before->{requests},
        "$name: not for as long as Redis is waited for";

    $mend->();
    ok $f->run(10, sub { $f->together }), "$name: they share again";
}

$f->run(1);
$f->calm;
$f->rates(2 * $f->burst);
$f->quiet;

done_testing;
