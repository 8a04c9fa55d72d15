#!/usr/bin/perl

# R3: Redis is slow, by 5, 50 and 500 ms; the deadline is 200 ms.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Fault;


my $f = Test::LLM::Fault->new(
    fault => 'R3, Redis is slow',
    method => 'the fault proxy delays its replies by 5, 50 and 500 ms for 5 '
        . 's each; the deadline is 200 ms',
    pass => "no request fails; with 5 and 50 ms it is waited for and not "
        . "given up\n"
        . "with 500 ms the gateways go on alone and nobody waits; commands "
        . "about limits a second: at most 1.1 times those before",
    may => { cached => [qw(whole broken)] }, gateways => 2, proxy => 1,
);

$f->warm;
$f->run(1);

my $usual = $f->watch('chat', 3, 200)->();
my $usually = commands(3);

for my $ms (5, 50) {
    $f->proxy->fault("down latency $ms");

    my $r = $f->watch('chat', 3, 200);
    my $rate = commands(3);

    $r = $r->();
    is $r->{ok}, $r->{requests}, "$ms ms: a bystander is served";
    cmp_ok $r->{latency}{p50}, '>', 1000 * $ms, "$ms ms: it is waited for";
    cmp_ok $r->{over}{200000} / $r->{requests}, '<=', 0.05
        + 2 * $usual->{over}{200000} / $usual->{requests},
        "$ms ms: but not for a deadline";
    cmp_ok $rate, '<=', 1.1 * $usually, sprintf
        '%d ms: no storm: %.0f commands a second, %.0f before', $ms, $rate,
        $usually;
    ok $f->together, "$ms ms: it is not given up";
}

$f->proxy->fault('down latency 500');
ok $f->run(5, sub { $f->alone }), '500 ms: the gateways go on alone';
$f->run(1);

my $r = $f->watch('chat', 3, 100);
my $rate = commands(3);

$r = $r->();
is $r->{ok}, $r->{requests}, '500 ms: a bystander is served';
cmp_ok $r->{latency}{p50}, '<', 100_000, '500 ms: nobody waits for it';
cmp_ok $rate, '<=', 1.1 * $usually, sprintf
    '500 ms: no storm: %.0f commands a second', $rate;

$f->proxy->fault('pass');
ok $f->run(5, sub { $f->together }), 'they share again';

$f->run(1);
$f->calm;
$f->rates(2 * $f->burst);
$f->quiet;

done_testing;


# commands a second that the gateways send about limits

sub commands {
    my ($seconds) = @_;

    my $count = sub {
        my $n = 0;
        $n += $_->metric('llm_limits_commands_total') for $f->all;
        return $n;
    };

    my ($before, $start) = ($count->(), time);

    $f->run($seconds);

    return ($count->() - $before) / (time - $start);
}
