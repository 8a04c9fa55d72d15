#!/usr/bin/perl

# R7: Redis answers with errors: full, read-only, unable to save, busy, and
# loading after a start.  Which class each is, t/32-redis-client.t tests.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Test::LLM;
use Test::LLM::Fault;


my $f = Test::LLM::Fault->new(
    fault => 'R7, errors of Redis',
    method => "OOM (maxmemory 1), READONLY (replicaof nobody), MASTERDOWN, "
        . "BUSY (a script without end) and\n"
        . 'LOADING (killed and started with 300,000 keys), 3 s each, under '
        . '200 clients at two gateways',
    pass => "no request fails, rated as in R1; under OOM slots are given "
        . "back in Redis\n"
        . 'back within 5 s of each; what is used is counted: the day of the '
        . 'team, afterwards, is that of its clients',
    may => { cached => [qw(whole broken)] }, gateways => 2, redis => { 'lua-time-limit' => 100,
        'enable-debug-command' => 'yes', dbfilename => 'dump.rdb' },
);

my $redis = $f->redis;

$f->warm;

for my $case (
    ['OOM', sub { $redis->command(CONFIG => 'SET', 'maxmemory', 1) },
        sub { $redis->command(CONFIG => 'SET', 'maxmemory', 0) }],
    ['READONLY', sub { $redis->command(REPLICAOF => '127.0.0.1', 1) },
        sub { $redis->command(REPLICAOF => 'NO', 'ONE') }],
    ['MASTERDOWN', sub {
        $redis->command(CONFIG => 'SET', 'replica-serve-stale-data', 'no');
        $redis->command(REPLICAOF => '127.0.0.1', 1) },
        sub { $redis->command(REPLICAOF => 'NO', 'ONE') }],
    ['BUSY', sub { $redis->another->ask(EVAL => 'while true do end', 0) },
        sub { $redis->command(SCRIPT => 'KILL') }],
    ['LOADING', sub {
        $redis->command(DEBUG => 'POPULATE', 300_000, 'many');
        $redis->command('SAVE');
        $redis->stop('KILL');
        $redis->start;
    }, sub { }],
) {
    my ($name, $break, $mend) = @$case;
    my $was = errors($name);

    $f->run(0.5);
    $break->();
    $f->run(3);

    # a full Redis takes back what it gave

    if ($name eq 'OOM') {
        ok $f->drain, 'OOM: all come to an end';
        $f->leases('OOM');
        $f->run(1);
    }

    cmp_ok errors($name), '>', $was, "$name: it was noticed"
        if $name ne 'LOADING';

    $mend->();
    ok $f->run(10, sub { $f->together }), "$name: the gateways share again";
}

$f->run(1);
$f->calm;
$f->rates(5 * $f->burst);
$f->quiet;

# each took one request from the day of the team, unless it came to nothing

my ($least, $most) = (0, 0);

for my $kind (qw(json stream line leave cached)) {
    $least += $f->n($kind, 'whole') if $kind ne 'cached';
    $most += $_ for values %{$f->{n}{$kind}};
}

my $told;

ok $f->{hub}->until(sub {
    my @day = split / /, $redis->command(GET => '{llm}:l:t:red') // '';
    $told = @day < 13 ? 0 : $day[6] + $day[10];
    return $told >= $least && $told <= $most;
}, 15), 'the day knows of all' or diag("$least <= $told <= $most");

done_testing;


# how often Redis said so

sub errors {
    my ($name) = @_;

    my $stats = eval { $redis->command(INFO => 'errorstats') };

    if (!defined $stats) {
        my $n = 0;
        $n += $_->metric('llm_limits_alone_total') for $f->all;
        return $n;
    }

    return $stats =~ /^errorstat_$name:count=(\d+)/m ? $1 : 0;
}
