#!/usr/bin/perl

# Redis is told the sums each second by whichever worker's turn it is: also
# when that one has died and the other has just looked, a moment too early.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use List::Util qw(max);
use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

my $redis = $t->redis;
$t->token(REDIS => $redis->url . ' timeout=500ms');
$t->key('user', team => 'search');
$t->gateway;

my $asked = 0;
my $known = '';
my @written;


# a request, so that there is something to tell, and a look at what was told

sub ask {
    my $r = $t->chat('request ' . ++$asked, key => 'user');
    die "request $asked: " . $r->status if $r->status != 200;

    my $sums = join '', map { @{$redis->command(HGETALL => $_)} }
        sort grep { /:d:\d+:\d+$/ } @{$redis->command(KEYS => '{llm}:u:*')};

    if ($sums ne $known) {
        $known = $sums;
        push @written, time;
    }

    return;
}


sub ask_until {
    my ($condition) = @_;
    ok $t->until(sub { ask(); $condition->() }), 'the sums are told';
}


# a worker dies so long after the sums were told

sub dies {
    my ($pid, $after) = @_;

    my $n = @written;
    ask_until(sub { @written > $n });
    ask_until(sub { time - $written[-1] > $after });
    $t->kill_worker('KILL', $pid);
}


for my $round (1 .. 3) {
    my ($left, $dead) = $t->workers;

    # the new one looks just before each turn of the one that is left, which
    # dies before its turn comes; the next one's is not for a while

    dies($dead, 0.85);
    dies($left, 0.75);
}

my $n = @written;
ask_until(sub { @written > $n + 1 });

my @gaps = map { $written[$_] - $written[$_ - 1] } 1 .. $#written;
note sprintf 'told after %s s', join ', ', map { sprintf '%.2f', $_ } @gaps;
cmp_ok max(@gaps), '<', 1.6, 'each second, whoever dies';

$t->all_back('at the end');

done_testing;
