#!/usr/bin/perl

# W1: workers are killed with what they hold.  The same, with all that is
# counted, by other clients: t/62-chaos.t and t/63-chaos-fleet.t.  At every
# instruction of every change of shared memory (W2):
# tests/unit/test_ledger_crash.c, test_book_crash.c, test_keyring_death.c.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use List::Util qw(max);
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Fault;


my $f = Test::LLM::Fault->new(
    fault => 'W1, workers are killed',
    method => 'kill -9 of a worker each 1.5 s for 24 s, under 200 clients '
        . 'at two gateways on one Redis',
    pass => "only who was with it is cut; 3 s after the last one no slot of "
        . "the dead is held\n"
        . "a limit of 8 slots is never exceeded, and all 8 can be had in "
        . "the end: nobody is refused for ever\n"
        . 'rated as ever; workers are as large as at the start',
    gateways => 2, kills_workers => 1,
    may => { map { $_ => [qw(whole broken)] } qw(stream cached json line) },
);

$f->warm;

my $end = time + 24;
my $kills = 0;

while (time < $end) {
    $f->kill_worker;
    $kills++;
    $f->run(1.5);
}

# what is held is what runs: of the clients of the line, seen by all gateways

ok $f->run(5, sub {
    my $n = 0;
    $n += $_->metric('llm_slots_in_use') for $f->all;
    return $n <= grep { $_->{r} } @{$f->{slots}};
}), 'no more slots are held than clients there are';

$f->run(2);
$f->calm;
$f->rates;

cmp_ok $kills, '>', 8, "$kills workers were killed";

my $most = overlap();

cmp_ok $most, '<=', 8, "the line never had more than its slots: $most";

# all can be had

$f->mock->script({ hang => \1 });

my @all = map { $f->any->start_chat("<all-$_>", key => 'line', timeout => 30) }
    1 .. 12;

ok $f->mock->wait(in_flight => 8, timeout_ms => 15_000),
    'all eight can be had';
ok !$f->mock->wait(min_in_flight => 9, timeout_ms => 300),
    'and no ninth';
$_->abort for @all;
$_->all_back('all') for $f->all;

done_testing;


# the most requests of the line that the provider had at a time

sub overlap {
    my ($r) = Test::LLM::HTTP->all({ port => $f->mock->control_port,
        timeout => 60, path => '/__mock/journal' });
    my @turns;

    for my $record (split /\{"index":/, $r->body) {
        next if $record !~ /"content\\":\\"<line-/;
        my ($from) = $record =~ /"arrival_ms":\s*([\d.]+)/;
        my ($to) = $record =~ /"end_ms":\s*([\d.]+)/;

        push @turns, [$from, 1], [$to, -1] if defined $to;
    }

    my ($n, $most) = (0, 0);

    # one that ends makes room for one that comes at that time

    for (sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } @turns) {
        $n += $_->[1];
        $most = max($most, $n);
    }

    return $most;
}
