#!/usr/bin/perl

# X2: clients leave while they wait in line.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Fault;


my $waiters = 400;

my $f = Test::LLM::Fault->new(
    fault => 'X2, clients leave while they wait',
    method => "$waiters clients wait for the slots of one key at two "
        . "gateways, beside 150 others; all leave at once, by FIN and by RST",
    pass => "the line is empty within 1 s (2 s here, on a busy machine), "
        . "nobody of them is asked about at the provider afterwards\n"
        . 'all others as ever',
    gateways => 2,
    clients => { json => 40, stream => 60, line => 0 },
);

$f->{hub}->key('queue', team => 'red', concurrency => 4,
    queue => { size => 1000, timeout_ms => 60_000 });
$_->write('tenants.json', $f->{hub}{tenants}) for $f->all;
$f->run(2);
$f->warm;

for my $way ('close', 'abort') {
    $f->script({ match => { body => "<hold-$way" }, delay_ms => 60_000 });

    # they hold what there is

    my @hold = map { $f->any->start_chat("<hold-$way-$_>", key => 'queue',
        timeout => 60) } 1 .. 4;

    ok $f->run(15, sub { waiting() == 0 && $f->mock->stats->{in_flight} >= 4
        && in_use() >= 4 }), "$way: the slots are in use";

    my @line = map { $f->any->start_chat("<gone-$way-$_>", key => 'queue',
        stream => rand() < 0.5, timeout => 60) } 1 .. $waiters;

    ok $f->run(20, sub { waiting() >= $waiters }), "$way: all wait";

    my $start = time;

    $_->$way for @line;

    ok $f->run(10, sub { waiting() < 10 }), "$way: they are gone";

    my $took = time - $start;

    cmp_ok $took, '<', 2, sprintf "$way: within %.2f s", $took
        if !$f->{hub}->sanitized;

    $_->abort for @hold;
    $f->run(2);

    my ($r) = Test::LLM::HTTP->all({ port => $f->mock->control_port,
        timeout => 60, path => '/__mock/journal' });

    is scalar(() = $r->body =~ /<gone-$way/g), 0,
        "$way: the provider was asked nothing for them";
}

$f->calm;
$f->rates;

done_testing;


sub waiting {
    my $n = 0;
    $n += $_->metric('llm_slots_waiting') for $f->all;
    return $n;
}


sub in_use {
    my $n = 0;
    $n += $_->metric('llm_slots_in_use') for $f->all;
    return $n;
}
