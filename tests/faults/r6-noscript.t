#!/usr/bin/perl

# R6: the scripts of Redis are forgotten all the time.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Fault;


my $f = Test::LLM::Fault->new(
    fault => 'R6, NOSCRIPT',
    method => 'SCRIPT FLUSH ten times a second for 8 s, under 200 clients '
        . 'at two gateways',
    pass => "no request fails, no gateway goes on alone\n"
        . "scripts are sent again no more often than they are forgotten by "
        . "each connection; rated as ever",
    gateways => 2,
);

$f->warm;
$f->redis->command(CONFIG => 'RESETSTAT');

my ($flushes, $next, $until) = (0, time, time + 8);

$f->run(10, sub {
    if (time > $next) {
        $f->redis->command(SCRIPT => 'FLUSH');
        $flushes++;
        $next = time + 0.1;
    }

    return time > $until;
});

my $stats = $f->redis->command(INFO => 'commandstats');
my ($evalsha) = $stats =~ /cmdstat_evalsha:calls=(\d+)/;
my ($eval) = $stats =~ /cmdstat_eval:calls=(\d+)/;
my ($rejected) = $stats =~ /cmdstat_evalsha:.*failed_calls=(\d+)/;

$eval //= 0;
note "$flushes flushes, $evalsha evalsha, $rejected of them failed, $eval eval";
cmp_ok $flushes, '>', 40, 'they were forgotten';
cmp_ok $rejected, '>', 0, 'and that was noticed';

# of four connections each knows by itself, and three scripts are in use

cmp_ok $eval, '<=', $rejected, 'each is sent once for it';
cmp_ok $rejected, '<=', 12 * $flushes, 'one round trip more, not many';

$f->calm;
ok $f->together && !grep({ $_->said(qr/keeps to one part/) } $f->all),
    'no gateway was alone';
$f->rates;
$f->quiet;

done_testing;
