#!/usr/bin/perl

# L3: whatever limit refuses, nothing else is taken; here of one team that six
# keys use at the same time, each of which has another limit that is spent.
# One after the other: t/24-limits.t.  What is admitted at all (L1):
# t/36-fleet-rate.t, tests/unit/test_ledger_model.c, test_quota_fleet.c and
# make sim.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Test::LLM;
use Test::LLM::Fault;


my %limits = (
    rate   => { requests_per_minute => 60, burst_requests => 5 },
    tokens => { tokens_per_minute => 3000, burst_tokens => 400 },
    day    => { requests_per_day => 200 },
    words  => { tokens_per_day => 6000 },
    money  => { budget => { usd => 0.02, period => 'day' } },
    slots  => { concurrency => 2, queue => { size => 3,
        timeout_ms => 20_000 } },
);

# of an answer: 10 tokens at 2 and 20 at 4 dollars a million, in millionths

my ($tokens, $cost) = (30, 100);

my (%got, %refused);

my $f = Test::LLM::Fault->new(
    fault => 'L3, all or nothing',
    method => "60 of 200 clients have keys of one team: each key has one "
        . "limit that is spent all the time\n"
        . '(' . join(', ', sort keys %limits) . '); two gateways',
    pass => "each key gets answers and refusals, the latter with 429 and an "
        . "error object\n"
        . "the team's day in Redis, to the unit: requests, tokens and money "
        . "of the answers, nothing of the refused\n"
        . 'no key got more than its limit',
    gateways => 2,
    http => 'llm_prices %%DIR%%/prices.json;',
    files => { 'prices.json' => { '*' => { input => 2, output => 4 } } },
    clients => { ill => 60, json => 40, stream => 60, leave => 0 },
    may => { ill => [qw(whole refused)] },
    location => 'llm_retry tries=1; llm_cache off;',
    request => sub {
        my ($slot) = @_;
        return () if $slot->{kind} ne 'ill';
        $slot->{key} = (sort keys %limits)[rand keys %limits];
        return (key => $slot->{key});
    },
    each => sub {
        my ($slot, $is) = @_;
        return if $slot->{kind} ne 'ill' || !$slot->{key};
        ($is eq 'whole' ? \%got : \%refused)->{$slot->{key}}++;
    },
    teams => sub {
        my ($hub) = @_;

        $hub->team('blue', requests_per_day => 1_000_000_000,
            tokens_per_day => 1_000_000_000_000, concurrency => 200,
            budget => { usd => 1_000_000, period => 'day' });
        $hub->key($_, team => 'blue', %{$limits{$_}}) for keys %limits;
    },
);

$f->run(20);
$f->calm;
$f->rates;

for my $key (sort keys %limits) {
    note sprintf '%-6s %5d answers, %5d refusals', $key, $got{$key} // 0,
        $refused{$key} // 0;
    cmp_ok $got{$key} // 0, '>', 0, "$key: answers";
    cmp_ok $refused{$key} // 0, '>', 0, "$key: refusals";
}

cmp_ok $got{day}, '<=', 200, 'day: no more than it may';
cmp_ok $got{words} * $tokens, '<=', 6000 + $tokens, 'words: no more';
cmp_ok $got{money} * $cost, '<=', 20_000 + $cost, 'money: no more';

my $n = 0;
$n += $_ for values %got;

my $want = join ' ', $n, $n * $tokens, $n * $cost;
my $is;

ok $f->{hub}->until(sub {
    my @day = split / /, $f->redis->command(GET => '{llm}:l:t:blue') // '';

    return 0 if @day < 13;
    $is = join ' ', map { $day[$_] + $day[$_ + 4] } 6, 7, 8;
    return $is eq $want;
}, 15), 'the team has used what was answered and nothing more';
is $is, $want, 'requests, tokens, millionths of a dollar';

done_testing;
