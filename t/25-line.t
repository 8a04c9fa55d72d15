#!/usr/bin/perl

# A long line: five hundred wait for one slot, leave it, run out of patience,
# and age; nobody is lost, nobody is served twice, nobody waits for ever.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time clock_gettime CLOCK_MONOTONIC);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

$t->key('one', concurrency => 1, queue => { size => 600,
    timeout_ms => 60_000 });
$t->key('hasty', concurrency => 1, queue => { size => 600,
    timeout_ms => 1000 });
$t->key('chain', concurrency => 1);

$t->team('single', concurrency => 1);
$t->key("step-$_", team => 'single', priority => $_) for 0, 1, 2;

my $mock = $t->gateway(redis => 0, mock => ['--journal', 4096],
    server => '%%BOTH%%',
    location => 'llm_retry tries=1;');

my @workers = $t->workers;
my $sanitized = $t->sanitized;
my @r;


# a chat request on worker 0 or 1

sub on {
    my ($worker, $key, $text, %spec) = @_;

    my $r = $t->on($workers[$worker], "<$text>", key => $key, timeout => 60,
        %spec);
    $r->{began} = clock_gettime(CLOCK_MONOTONIC);

    return $r;
}


sub journal {
    return sort { $a->{arrival_ms} <=> $b->{arrival_ms} } $mock->journal;
}


# n requests on both workers, each in line before the next one comes

sub line_up {
    my ($n, $key, $from) = @_;

    my @line;
    my $before = $t->metric('llm_slots_waiting');

    for my $i (1 .. $n) {
        push @line, on($i % 2, $key, $from + $i - 1);
        $t->until(sub { $t->metric('llm_slots_waiting') == $before + $i }, 10)
            or last;
    }

    return @line;
}


# five hundred; one in ten leaves, before it begins or while it moves

$mock->script({ match => { body => '<0>' }, hang => \1 }, { delay_ms => 10 });

my $holder = on(0, 'one', 0);
ok $mock->wait(in_flight => 1), 'the slot is taken';

@r = line_up(500, 'one', 1);
is @r, 500, 'five hundred asked';
$t->waiting(500);
is $mock->stats->{requests}, 1, 'none of them has reached the provider';

my %left;

for my $i (map { 20 * $_ - 1 } 1 .. 25) {
    $i % 40 == 19 ? $r[$i]->abort : $r[$i]->close;
    $left{$i + 1} = 1;
}

$t->waiting(475, 'who leaves is gone from the line at once');

$holder->abort;
ok $mock->wait(requests => 80, timeout_ms => 20_000), 'the line moves';

# far enough behind, so that it is not their turn yet

for my $i (map { 480 - 7 * $_ } 0 .. 24) {
    next if $left{$i + 1};
    $i % 2 ? $r[$i]->abort : $r[$i]->close;
    $left{$i + 1} = 1;
}

my @stay = map { $r[$_ - 1] } grep { !$left{$_} } 1 .. 500;
$_->wait for @stay;

cmp_ok scalar(keys %left), '>', 40, keys(%left) . ' left';
is +(grep { ($_->status // 0) == 200 && $_->complete } @stay), scalar @stay,
    'all who stayed are served';

my @texts = $mock->texts;
is shift(@texts), 0, 'behind the one that held the slot';
is_deeply \@texts, [grep { !$left{$_} } 1 .. 500],
    'in the order in which they came, each once, and nobody who had left';
is $mock->stats->{max_in_flight}, 1, 'one by one';
$t->all_back('five hundred');


# x-llm-queue-ms is the time from the request to its turn

my (%arrived, @off);

$arrived{$_->{body} =~ /"content":"<(.*?)>"/ ? $1 : ''} = $_->{arrival_ms}
    for $mock->journal;

for my $i (grep { !$left{$_} } 1 .. 500) {
    my $r = $r[$i - 1];
    push @off, abs($arrived{$i} - $r->{began} * 1000
        - $r->header('x-llm-queue-ms'));
}

@off = sort { $a <=> $b } @off;
cmp_ok $off[@off / 2], '<', $sanitized ? 50 : 10,
    sprintf 'x-llm-queue-ms is right: %.1f ms off', $off[@off / 2];
cmp_ok $off[-1], '<', $sanitized ? 1000 : 300,
    sprintf 'of everybody: %.1f ms', $off[-1];


# patience that ends: served or refused, never both, never neither

$mock->script({ delay_ms => 25 });

@r = map { on($_ % 2, 'hasty', $_) } 1 .. 120;
$_->wait for @r;

my @served = grep { ($_->status // 0) == 200 } @r;
my @late = grep { ($_->status // 0) == 429 } @r;

is @served + @late, 120, 'each of 120 has one outcome';
cmp_ok scalar(@served), '>', 5, @served . ' were served';
cmp_ok scalar(@late), '>', 20, @late . ' ran out of patience';
is +(grep { ($_->json // {})->{error}{code} eq 'queue_timeout' } @late),
    scalar @late, 'which is said';
is $mock->stats->{requests}, scalar @served,
    'the provider has seen who was served, and nobody else';
is keys %{{ map { $_ => 1 } $mock->texts }}, scalar @served, 'each once';
ok !(grep { $_->end < 0.99 } @late), 'nobody is refused too early';
ok !(grep { $_->header('x-llm-queue-ms') < 1000
    || $_->header('x-llm-queue-ms') > ($sanitized ? 4000 : 2000) } @late),
    'nor late';
ok !(grep { $_->header('x-llm-queue-ms') > ($sanitized ? 4000 : 2000) }
    @served), 'nobody is served too late';
$t->all_back('patience');


# a flood of urgent ones keeps a usual one waiting for ten seconds, a step of
# the priorities, and no longer

$mock->script({ match => { body => 'hold' }, hang => \1 },
    { delay_ms => 100 });

$holder = on(0, 'step-0', 'hold');
$mock->wait(in_flight => 1);
my $slow = on(1, 'step-2', 'slow');
my $usual = on(1, 'step-1', 'usual');
$t->waiting(2);

my @urgent = map { on($_ % 2, 'step-0', 'urgent') } 1 .. 3;
$t->waiting(5);
my $began = time;
$holder->abort;

ok $t->until(sub {
    @urgent = grep { !defined $_->end } @urgent;
    push @urgent, on(@urgent % 2, 'step-0', 'urgent') while @urgent < 3;
    return defined $usual->end;
}, 30), 'a usual one is served among urgent ones';

my $queued = $usual->header('x-llm-queue-ms');

cmp_ok $queued, '>', 9900, "not before those of its ten seconds: $queued ms";
cmp_ok $queued, '<', $sanitized ? 13_000 : 11_500, 'and no later';
ok !defined $slow->end, 'one of two steps still waits';

my @order = $mock->texts;
cmp_ok scalar(grep { $_ eq 'urgent' } @order), '>', 50, 'many urgent ones';

# the slot was never without work

my @journal = journal();
my @gaps = sort { $a <=> $b } map {
    $journal[$_]{arrival_ms} - $journal[$_ - 1]{end_ms} } 2 .. $#journal;
cmp_ok $gaps[@gaps / 2], '<', 20, 'and a busy slot';

$_->wait for @urgent;
$slow->wait;
is $slow->status, 200, 'who has the line for itself is served, too';
$t->all_back('aging');


# how long from one to the next, on the other worker

my ($median, $worst);

for my $round (1 .. 5) {
    $mock->script({ delay_ms => 10 });

    @r = map { on($_ % 2, 'chain', $_) } 1 .. 40;
    $_->wait for @r;

    is +(grep { $_->status == 200 } @r), 40, 'a chain over both workers';

    @journal = journal();
    @gaps = sort { $a <=> $b } map {
        $journal[$_]{arrival_ms} - $journal[$_ - 1]{end_ms} } 1 .. $#journal;
    ($median, $worst) = ($gaps[@gaps / 2], $gaps[-1]);
    note sprintf 'from the end of one to the start of the next: '
        . 'median %.2f ms, worst %.2f ms', $median, $worst;

    last if $median < 1;
}

cmp_ok $median, '<', $sanitized ? 15 : 1,
    'the next one reaches the provider within a millisecond';

$t->all_back('all');

done_testing;
