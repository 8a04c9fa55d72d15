#!/usr/bin/env perl

# Two gateways of two workers, a Redis with an append-only file, a provider
# with errors, clients of all kinds and tasks, for SOAK seconds (3600), while a
# fault drawn by lot comes every five seconds or so: of Redis (R), of the
# provider (U) and of workers (W), as in tests/faults/README.md.  The lots are
# those of TEST_LLM_SEED.  It prints a line each minute and, in the end, what
# was right and what was not.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use JSON::PP;
use List::Util qw(max min sum0);
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Fault;
use Test::LLM::Queue;


my $seconds = $ENV{SOAK} || 3600;
my $words = 16;
my $builder = Test::More->builder;
my $tap = '';

$| = 1;
$builder->output(\$tap);

# what a provider can do wrong, to those who ask for it

my %ill = (
    503   => { status => 503 },
    429   => { status => 429, headers => { 'retry-after-ms' => '50' } },
    start => { cut => 'rst', cut_at => 'start' },
    mid   => { cut => 'rst', cut_events => 4 },
    event => { error_event => 3 },
    none  => { garbage => 500 },
);

# an error that the provider itself tells is passed on, and ends as it did

my $ends = 'a stream that broke off and ends';

my (@plan, %faults, @disturbed, @pieces, %left, @minutes, @wrong);
my ($tasks, $done, $kills, $reloads) = (0) x 4;

my $f = Test::LLM::Fault->new(
    fault => 'soak',
    method => "$seconds s, two gateways, 100 clients, 20 of them with a "
        . "provider that errs, tasks; a fault each 5 s",
    pass => "no wrong answer, no outcome but those that the fault of that "
        . "moment explains; each task is completed with its own answer\n"
        . 'slots and memory come back, memory of workers does not slope; '
        . 'tokens charged are those billed, but for what died or broke off',
    gateways => 2, proxy => 1, kills_workers => 1, pause => 0.5,

    # one that is killed has written what it confirmed; with everysec it holds
    # that back while the disk is busy
    redis => { appendonly => 'yes', appendfsync => 'no',
        'lua-time-limit' => 100 },
    tasks => 'lease=3s tries=100 deaths=100 backoff=100ms backoff_max=1s',
    zone => 'usage=32m',
    location => 'llm_retry tries=2 base=5ms cap=100ms;
        llm_timeout first_byte=6s between=6s total=40s;
        llm_breaker eject=1s max_eject=2s;',
    clients => { json => 25, stream => 30, cached => 10, rated => 6, line => 5,
        leave => 4, ill => 20 },
    teams => sub { $_[0]->key('task', team => 'green', concurrency => 40) },
    request => sub {
        my ($slot) = @_;
        return () if $slot->{kind} ne 'ill';
        my @ways = (sort(keys %ill), 'well', 'well');
        return (headers => { 'X-Fault' => $ways[rand @ways] });
    },
    may => { ill => [qw(whole failed broken refused), $ends] },
    excuse => \&excuse,
);

my $seed = $f->{seed};
my $start;

print "soak: $seconds s, TEST_LLM_SEED=$seed\n";
script();

$f->run(5);
ok $f->drain, 'warm: all come to an end';
$f->judge('warm');
$f->{memory} = max($f->memory);

my @warm = $f->tokens;

play();

# calm again: all is exact, and nothing is left

mend();
$f->run(5);
ok $f->drain, 'all come to an end';
ok settle(90), 'each task comes to an end' or diag(join "\n", map {
    "$_->{name}: $_->{said}" } @pieces);
is "@wrong[0 .. min(4, $#wrong)]", '', 'each with the answer to its prompt';
is $done, $tasks, "all $tasks tasks were completed";
$f->{hub}->until(sub { !grep { $_->metric('llm_slots_in_use') } $f->all }, 15);
totals();
exact();
$f->{room} = 4096;
$f->calm;
slope();

$_->becomes('llm_limits_shared', 1, 'the limits are shared') for $f->all;

report();

my @kinds = qw(json stream line);
my $whole = sum0(map { $f->n($_, 'whole') } @kinds);
my $all = sum0(map { values %{$f->{n}{$_}} } @kinds);

cmp_ok $whole, '>=', 0.7 * $all, "most was done: $whole of $all";

done_testing;

my @tests = $builder->summary;
my $failed = grep { !$_ } @tests;

print map { "$_\n" } grep { /^not ok/ } split /\n/, $tap;
print $f->tale, "\n";
printf "%d passed, %d failed\n", @tests - $failed, $failed;

exit($failed ? 1 : 0);


# The mock's rules hold for all of it, so that its bill is of all of it: words
# that tasks ask for, clients that ask for faults, and seconds in which all is
# refused, which are drawn beforehand.

sub script {
    my @rules;
    my $at = 20;

    while ($at < $seconds) {
        my $from = int 1000 * $at;
        my $for = 500 + int rand 2000;

        push @rules, { from_ms => $from, fail_for_ms => $from + $for,
            status => 503 };
        push @disturbed, ['U6', $at, $at + $for / 1000];
        $at += 20 + rand 40;
    }

    # the others, with what they draw, so that they do not hang on the clients'

    for ($at = 2; $at < $seconds - 5; $at += 3 + rand 4) {
        push @plan, [$at, rand, 0.5 + rand 3, rand];
    }

    push @rules, map { { match => { headers => { 'x-fault' => $_ } },
        %{$ill{$_}} } } sort keys %ill;
    push @rules, map { { match => { body => "<task-$_>" },
        content => "$_ was asked for by a task, and this is for $_.",
        delay_ms => 20, delay_jitter_ms => 200 } } 1 .. $words;

    $f->script(@rules);
    $start = time;
}


# Redis is never the reason that a request fails, but who follows a call of the
# other gateway may see it break off.  After a fault of the provider, or of the
# worker of a call that is shared, requests fail for a while.

sub excuse {
    my ($slot, $is) = @_;

    return () if $is ne 'failed' && $is ne 'broken';

    my $from = $slot->{began} - $start;
    my $to = $from + $slot->{r}->end;
    my %seen = map { substr($_->[0], 0, 1) => 1 } grep { $_->[1] < $to
        && ($_->[2] // 9e9) > $from - 5 } @disturbed;

    return qw(failed broken) if $seen{U};
    return 'broken' if $slot->{kind} eq 'cached' && ($seen{R} || $seen{W});
    return 'broken' if $seen{W};
    return ();
}


# A fault that is to be mended at a time, and what is to be done then; one of
# Redis and one of the provider at a time.

my (%mend);

sub play {
    my $end = $start + $seconds;
    my $minute = $start + 60;
    my $piece = time;

    while (time < $end) {
        $f->run(0.2);

        for my $of (keys %mend) {
            mend($of) if time > $mend{$of}[0];
        }

        fault(@{shift @plan}) if @plan && time > $start + $plan[0][0];

        if (time > $piece) {
            tasks();
            $piece = time + 1;
        }

        if (time > $minute) {
            report();
            $minute += 60;
        }
    }
}


sub fault {
    my (undef, $lot, $for, $which) = @_;
    my $redis = $f->redis;

    my %can = (
        R1 => ['Redis', sub { $redis->stop('KILL') }, sub { $redis->start }],
        R2 => ['Redis', sub { $redis->pause }, sub { $redis->resume }],
        R3 => ['Redis', sub { $f->proxy->fault('down latency '
            . (5, 50, 500)[3 * $which]) }, sub { $f->proxy->fault('pass') }],
        R4 => ['Redis', sub { $f->proxy->fault((qw(drop refuse))[2 * $which]) },
            sub { $f->proxy->fault('pass') }],
        R6 => ['Redis', sub { $redis->command(SCRIPT => 'FLUSH') }, sub {}],
        R7a => ['Redis', sub { $redis->command(CONFIG => 'SET', 'maxmemory',
            1) }, sub { $redis->command(CONFIG => 'SET', 'maxmemory', 0) }],
        R7b => ['Redis', sub { $redis->command(REPLICAOF => '127.0.0.1', 1) },
            sub { $redis->command(REPLICAOF => 'NO', 'ONE') }],
        R7c => ['Redis', sub { $redis->another->ask(EVAL => 'while true do end',
            0) }, sub { eval { $redis->command(SCRIPT => 'KILL') } }],
        U1 => ['provider', sub { kill 'STOP', $f->mock->pid },
            sub { kill 'CONT', $f->mock->pid }],
        U2 => ['provider', sub { $f->mock->listen(drop => 1) }, sub {}],
        U5 => ['provider', sub { $f->mock->listen(open => 0, drop => 1) },
            sub { $f->mock->serve }],
        W1 => ['worker', sub { kill_one(($f->all)[2 * $which]) }, sub {}],
        W3 => ['worker', sub { ($f->all)[2 * $which]->reload; $reloads++ }, sub {}],
    );

    my @names = sort keys %can;
    my $name = $names[$lot * @names];
    my ($of, $break, $heal) = @{$can{$name}};

    return if $mend{$of};

    # a Redis with its clients away from it can still be told

    $faults{$name}++;
    push @disturbed, [$name, time - $start, undef];
    $mend{$of} = [time + $for, $heal, $disturbed[-1]];
    $break->();
}


sub kill_one {
    $f->kill_worker($_[0]);
    $kills++;
}


sub mend {
    my @of = @_ ? @_ : keys %mend;

    for my $of (@of) {
        my $it = delete $mend{$of};
        $it->[1]->();
        $it->[2][2] = time - $start;
    }

    my $old = time - $start - 120;
    @disturbed = grep { !defined $_->[2] || $_->[2] > $old } @disturbed;
}


# Tasks: twenty at a time, sent again until they are accepted, and asked for
# until all of them have ended.

sub tasks {
    push @pieces, { words => [map { 1 + int rand $words } 1 .. 20],
        name => "piece-$seed-" . ++$left{sent} } if @pieces < 20 && !$left{end};

    for my $piece (@pieces) {
        next if $piece->{r} && !defined $piece->{r}->end;
        look($piece);
    }

    @pieces = grep { !$_->{done} } @pieces;
}


sub look {
    my ($piece) = @_;

    my $r = delete $piece->{r};

    $piece->{said} = substr +($r->error // '') . ' ' . $r->body, 0, 500 if $r;

    my $good = $r && $r->complete && ($r->status // 0) == 200;

    if ($good && !$piece->{ids}) {
        $piece->{ids} = $r->json->{task_ids};
        $tasks += @{$piece->{ids}};

    } elsif ($good) {
        my $told = $r->json;
        my @state = map { $told->{$_}{status} // 'unknown' } @{$piece->{ids}};

        if (!grep { /queued|processing/ } @state) {
            $piece->{done} = 1;
            answers($piece, $told);
            return;
        }
    }

    my $t = $f->any;

    $piece->{r} = $piece->{ids}
        ? $t->start_get('/api/tasks?task_ids=' . join(',', @{$piece->{ids}}),
            key => 'task', timeout => 15)
        : $t->start_post('/api/tasks', { model => 'gpt-4o', prompts =>
            [map { "<task-$_>" } @{$piece->{words}}] }, key => 'task',
            timeout => 15, headers => { 'Idempotency-Key' => $piece->{name} });
}


sub answers {
    my ($piece, $told) = @_;

    for my $i (0 .. $#{$piece->{ids}}) {
        my $task = $told->{$piece->{ids}[$i]};
        my $word = $piece->{words}[$i];
        my $is = $task->{result}{choices}[0]{message}{content} // '';

        if ($task->{status} eq 'completed' && $is
            eq "$word was asked for by a task, and this is for $word.")
        {
            $done++;

        } else {
            push @wrong, "$piece->{ids}[$i]: $task->{status}, $is";
        }
    }
}


sub settle {
    my ($patience) = @_;

    $left{end} = 1;

    return $f->{hub}->until(sub {
        tasks();
        Test::LLM::HTTP->idle(0.2);
        return !@pieces;
    }, $patience);
}


# Tokens.  Of who died, and of answers that were dropped and asked for once
# more, the end is not known: an answer is 30, a hundred are in flight.  What is
# estimated is off by a little.

sub totals {
    my ($charged, $billed) = $f->tokens;
    my $guessed = $f->n('ill', 'broken');
    my $open = 0;

    for my $kind (keys %{$f->{n}}) {
        $guessed += $f->n($kind, 'left');
        $open += $f->n($kind, 'cut');
        $open += $f->n($kind, 'broken') if $kind ne 'ill';
    }

    my $drops = sum0(map { $faults{$_} // 0 } qw(U2 U5));
    my $may = 30 * $open + 6 * $guessed + 3000 * ($kills + $drops)
        + 0.002 * $billed;

    print "tokens: $charged charged, $billed billed\n";
    cmp_ok abs($charged - $billed), '<=', $may, "tokens: $charged charged, "
        . "$billed billed, may differ by $may";
}


# without faults they are the same to the token; who leaves does not come

sub exact {
    my @slots = @{$f->{slots}};
    my @before = $f->tokens;

    $f->{slots} = [grep { $_->{kind} !~ /leave|ill/ } @slots];
    $f->run(6);
    $f->drain;
    $f->{hub}->until(sub { !grep { $_->metric('llm_slots_in_use') }
        $f->all }, 15);
    $f->{slots} = \@slots;

    my @after = $f->tokens;

    is $after[0] - $before[0], $after[1] - $before[1],
        'without faults what is charged is what is billed';
}


# Each minute: the largest worker (they are exchanged now and then), and Redis.

sub report {
    my ($worker) = max(0, $f->memory);

    # by a connection of its own: one that is left while Redis stands still
    # has the reply before its own next one

    my $info = eval { local $SIG{ALRM} = sub { die }; alarm 2;
        my $is = $f->redis->another->command(INFO => 'memory'); alarm 0; $is }
        // '';
    my ($redis) = $info =~ /^used_memory:(\d+)/m;

    alarm 0;
    push @minutes, $worker;

    printf "%4d s: %d clients, %d tasks, %d faults (%s), %d kills, %d reloads, "
        . "%d complaints, workers %.1f MB, Redis %s MB\n", time - $start,
        $f->{sent}, $tasks, sum0(values %faults), join(' ', map {
        "$_ $faults{$_}" } sort keys %faults), $kills, $reloads,
        sum0(values %{$f->{complaints}}) + @wrong, $worker / 1024,
        defined $redis ? sprintf '%.1f', $redis / 1048576 : '?';
}


sub slope {
    return if @minutes < 8 || $f->{hub}->sanitized;

    my @first = @minutes[1 .. @minutes / 2];
    my @second = @minutes[@minutes / 2 .. $#minutes];
    my ($early, $late) = map { sum0(@$_) / @$_ } \@first, \@second;

    cmp_ok $late, '<=', 1.15 * $early + 1024, sprintf 'memory of workers has '
        . 'no slope: %.0f KB, then %.0f', $early, $late;
}
