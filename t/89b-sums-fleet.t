#!/usr/bin/perl

# The same as 89-sums.t with two gateways and one Redis: each has metrics of
# its own, and within two seconds both tell the sums of both; through the
# death of a worker and a reload.  A budget is spent for both.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use List::Util qw(sum);
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Sums;


my $seed = $ENV{TEST_LLM_SEED} // int(time) % 100_000;
srand $seed;
note "TEST_LLM_SEED=$seed";

# the day must not end between two looks at it

my $left = 86_400 - time % 86_400;
Test::LLM::HTTP->idle($left + 1) if $left < 120;

my @both = map { Test::LLM->new(workers => 2) } 1, 2;
my $s = Test::LLM::Sums->new(gateways => \@both, redis => 1);

$s->crowd(150);
$s->make('made1', team => 'red', tokens_per_day => 4000);
$s->make('made2', team => 'green');
$s->crowd(100);
$s->equal('a part');

$both[1]->kill_worker('KILL', ($both[1]->workers)[0]);
$s->crowd(100);
$s->equal('after the death of a worker');

$s->reload($both[0]);
$s->crowd(150);

$s->equal('at the end');
$s->everything($_) for @both;
$s->reported(150);
$s->kinds;
$s->compared(10);

# a budget: each answer costs more than it was thought to, the second one
# more than there is

my ($x, $y) = @both;
my $asked = 0;

sub ask {
    my ($t) = @_;

    return $t->post('/v1/chat/completions', { model => 'alpha',
        messages => [{ role => 'user', content => 'budget ' . ++$asked }],
        max_tokens => 100 }, headers => [Authorization =>
        "Bearer $s->{secret}{last}", 'x-mock-completion-tokens' => 1200]);
}

# a gateway tells what it heard last: who spent last knows of all

sub ratio {
    my @told = sort { $a <=> $b }
        map { $_->metric('llm_budget_used_ratio{team="last"}') } @both;
    return $told[-1];
}

# tokens of the team's day that Redis was told of, which a gateway does within
# some 20 ms: the others are let in until then

sub told {
    my $level = $s->{redis}->command(GET => '{llm}:l:t:last');
    return (split ' ', $level)[7];
}

$s->make('last', team => 'last');

my @spent = ask($x);
is $spent[0]->status, 200, 'more than half of a budget is spent here';
ok $x->until(sub { ratio() > 0.5 }, 2), 'as its metrics tell';
my $part = ratio();
cmp_ok $part, '<', 1, 'there is more';
push @spent, ask($y);
is $spent[1]->status, 200, 'and the rest there';
ok $x->until(sub { ratio() >= 1 }, 2), 'that is all';
is sprintf('%.6f', ratio()), sprintf('%.6f', 2 * $part),
    'what both have spent';

my $tokens = sum map { $_->json->{usage}{total_tokens} } @spent;
ok $x->until(sub { told() == $tokens }, 2), 'Redis knows of it';

for my $t (@both) {
    my $r = ask($t);
    is $r->status, 429, 'the next is refused';
    is $r->json->{error}{code}, 'insufficient_quota', 'for its budget';
}

$s->equal('with the last ones');
$_->all_back('the crowd') for @both;

done_testing;
