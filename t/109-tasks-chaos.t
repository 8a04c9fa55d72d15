#!/usr/bin/perl

# Tasks at two gateways with two workers each, on one Redis, while workers,
# whole gateways and Redis are killed, and workers stopped for longer than
# their leases: what was accepted is there, has one
# terminal state and stays in it, ran again only where something died, and has
# the answer that the provider gave to it; nothing is left behind in Redis, in
# shared memory or in workers.  TEST_LLM_LONG=200: 10,000 tasks in so many
# seconds.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Compress::Raw::Zlib qw(crc32);
use JSON::PP;
use List::Util qw(max min shuffle sum0 uniq);
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime time);

use Test::LLM;
use Test::LLM::Queue;


my $P = Test::LLM::Queue->prefix;
my $HOUR = 3600000;
my $LEASE = 3;
my $seed = $ENV{TEST_LLM_SEED} // int rand 1 << 30;

srand $seed;

# whoever has the mock and Redis is the last to be stopped

my ($x, $y, $hub) = map { Test::LLM->new(workers => 2) } 1 .. 3;
my @both = ($x, $y);

my $long = $ENV{TEST_LLM_LONG};
my $tasks = $long ? 10_000 : $x->sanitized ? 600 : 1_500;
my $patience = $long || 35;

note "TEST_LLM_SEED=$seed, $tasks tasks";

my $redis = $hub->redis(appendonly => 'yes', appendfsync => 'always');
my $queue = Test::LLM::Queue->new($redis);
my $mock = $hub->mock('--journal', 100_000);
my %key = (red => 'user', blue => 'other');

gateway($_) for @both;
ok $x->until(sub { $redis->gateways == 2 }, 20), 'two gateways';

# who was killed, and from when to when it was away

my (@crashes, %killed, @stopped);

# texts by id, and what was last seen of a task

my (%text, %seen, @wrong);

$mock->script({});
wave('first', 200);

my $empty = memory();
my $before = keys %text;

forget();

# a killed process has some in flight

$mock->script({ keep => \1, delay_ms => 100, delay_jitter_ms => 400 });
chaos();
settled();

my %first = look('first look');

journal();
clean();

Test::LLM::HTTP->idle($LEASE + 1);
my %second = look('second look');

is_deeply \%second, \%first, 'nothing changes any more';

slots('chaos');

$mock->script({});
leaks();
slots('afterwards');
is shares(), '', 'nor is there anything of the dead';
back();

done_testing;


sub slurp {
    open my $in, '<', $_[0] or die "$_[0]: $!\n";
    local $/;
    return <$in>;
}


sub gateway {
    my ($t) = @_;

    $t->key($key{$_}, team => $_, concurrency => 40) for keys %key;
    $t->token(MOCK => $hub->token('MOCK'));
    $t->token(REDIS => $redis->url . ' timeout=500ms limits=exact gateways=2');
    $t->tasks_gateway("lease=${LEASE}s tries=50 deaths=50 backoff=50ms"
        . ' backoff_max=400ms',
        routes => 'llm_provider gate uri=/llm/mock/ concurrency=64;
        llm_route * gate;');

    # a lock that died with its worker is found by the next one

    $t->allow(qr/\[alert\].*ledger, it is derived anew/);
}


# What is to be sent, in pieces, each of which is sent with its
# Idempotency-Key until it is accepted.

sub pieces {
    my ($name, $n) = @_;

    my @pieces;

    for (my $i = 0; $i < $n;) {
        my $most = min($n - $i, 1 + int rand(rand() < 0.2 ? 450 : 60));
        my @texts = map { '<' . $name . ($i + $_) . '>' } 1 .. $most;

        push @pieces, { texts => \@texts, team => rand() < 0.5 ? 'red'
            : 'blue', name => "$name-$i", body => encode_json({
            model => 'gpt-4o', prompts => \@texts,
            priority => (qw(high normal low))[rand 3] }) };
        $i += $most;
    }

    return @pieces;
}


sub send_piece {
    my ($piece) = @_;

    $piece->{sent}++;
    $piece->{r} = $both[rand 2]->start_post('/api/tasks', $piece->{body},
        key => $key{$piece->{team}}, timeout => 10,
        headers => ['Idempotency-Key' => $piece->{name}]);

    return $piece;
}


# true: accepted

sub accepted {
    my ($piece) = @_;

    my $r = delete $piece->{r};

    if (!$r->complete || $r->status != 200) {
        push @wrong, "$piece->{name}: " . $r->status . ' ' . $r->body
            if $r->complete && $r->status < 500 && $r->status != 429;
        return 0;
    }

    my @ids = @{$r->json->{task_ids}};
    my @texts = @{$piece->{texts}};

    push @wrong, "$piece->{name}: " . @ids . ' ids' if @ids != @texts;
    @text{@ids} = @texts;
    $seen{$_} = { team => $piece->{team}, state => 'queued' } for @ids;

    return 1;
}


sub forget { %text = %seen = () }


sub wave {
    my ($name, $n) = @_;

    my @pieces = pieces($name, $n);

    for my $piece (@pieces) {
        $x->until(sub {
            send_piece($piece);
            $piece->{r}->wait;
            return accepted($piece);
        }, 20) or return fail("$name: a piece is not accepted");
    }

    settled($name);
}


# All is sent, while something dies every now and then.

sub chaos {
    my @pieces = pieces('t', $tasks);
    my (@sent, $watch);
    my ($pieces, $resent) = (scalar @pieces, 0);
    my $since = time;
    my $until = $since + $patience;
    my $next = $since + 0.5;

    # new ones come as long as it goes on, and then those are run that came

    my $pace = @pieces / ($patience * 0.6);

    while (time < $until) {
        my @done = grep { $_->{r}{state} eq 'done' } @sent;
        my @again = grep { !accepted($_) } @done;

        @sent = grep { $_->{r} } @sent;
        unshift @pieces, @again;
        $resent += @again;

        push @sent, send_piece(shift @pieces) while @pieces && @sent < 3
            && $pieces - @pieces < $pace * (time - $since);

        $watch = watched($watch);
        last if !@pieces && !@sent && left() < $tasks / 20;

        Test::LLM::HTTP->idle(0.02);

        if (time > $next) {
            crash();
            $next = time + 0.2 + rand 1;
        }

        goes_on() if @stopped && time > $stopped[0]{until};
    }

    goes_on() while @stopped;

    # what has not been accepted by now is the last to come

    for my $piece (@sent, @pieces) {
        $x->until(sub {
            send_piece($piece) if !$piece->{r};
            $piece->{r}->wait;
            return accepted($piece);
        }, 20) or fail("$piece->{name} is not accepted");
    }

    note sprintf '%.0f s: %d faults: %s; %d of %d calls were sent again',
        time - $since, scalar @crashes, join(', ', map { "$killed{$_} x $_" }
        sort keys %killed), $resent, $pieces;

    ok $killed{$_}, "that happened: $_" for qw(worker gateway Redis stopped);
    is "@wrong", '', 'what was seen meanwhile';
    @wrong = ();
}


sub crash {
    my ($t) = grep { !@stopped || $_ != $stopped[0]{of} } shuffle @both;
    my $what = rand;
    my $from = clock_gettime(CLOCK_MONOTONIC) * 1000;

    if (!@stopped && ($what < 0.1 || (@crashes > 5 && !$killed{stopped}))) {
        my $pid = ($t->workers)[rand 2];

        $killed{stopped}++;
        push @crashes, [$from, 9e9];
        push @stopped, { of => $t, pid => $pid, until => time + $LEASE + 2,
            crash => $crashes[-1] };
        kill 'STOP', $pid;
        return;
    }

    if ($what < 0.55) {
        $killed{worker}++;
        $t->kill_worker('KILL', ($t->workers)[rand 2]);

    } elsif ($what < 0.8 && $killed{worker}) {
        $killed{gateway}++;
        $t->kill_all;
        Test::LLM::HTTP->idle(rand 0.5);
        $t->start;

    } else {
        $killed{Redis}++;
        $redis->stop('KILL');
        Test::LLM::HTTP->idle(rand 0.8);
        $redis->start;
    }

    push @crashes, [$from, clock_gettime(CLOCK_MONOTONIC) * 1000];
}


# One that was stopped, and not killed meanwhile, ends what it had, which
# is no longer its own.

sub goes_on {
    my $one = shift @stopped;

    kill 'CONT', $one->{pid};
    $one->{crash}[1] = clock_gettime(CLOCK_MONOTONIC) * 1000;
}


# Meanwhile somebody asks for some of them, again and again: a terminal state
# is the last one, and nothing that was accepted is unknown.

sub watched {
    my ($watch) = @_;

    if (!$watch) {
        my $team = rand() < 0.5 ? 'red' : 'blue';
        my @ids = shuffle(grep { $seen{$_}{team} eq $team } keys %seen);

        return undef if !@ids;

        splice @ids, 100 if @ids > 100;

        return $both[rand 2]->start_get('/api/tasks?result=0&task_ids='
            . join(',', @ids), key => $key{$team}, timeout => 5);
    }

    return $watch if $watch->{state} ne 'done';

    if ($watch->complete && $watch->status == 200) {
        my $r = $watch->json;

        for my $id (keys %$r) {
            my $was = $seen{$id}{state};
            my $is = join ' ', $r->{$id}{status},
                $r->{$id}{finished_at} // ();

            push @wrong, "$id: $is after $was"
                if $is !~ /^(?:queued|processing|completed)/
                || ($was =~ /^completed/ && $is ne $was);

            $seen{$id}{state} = $is;
        }
    }

    return undef;
}


sub left {
    my $got = eval { $redis->command(HMGET => "${P}stat",
        'queued', 'processing') };
    my ($queued, $running) = @{$got // [$tasks, 0]};

    return ($queued // 0) + ($running // 0);
}


sub settled {
    my ($when) = @_;

    ok $x->until(sub { left() == 0 }, $long ? 180 : 60), ($when // 'chaos')
        . ': all have ended' or diag(left() . ' have not');
}


# what the API tells of each task: "STATE FINISHED CRC" by id

sub look {
    my ($what) = @_;

    my %is;
    my $object = qr/(\{(?:[^{}"]++|"(?:[^"\\]++|\\.)*+"|(?-1))*+\})/s;

    for my $team (sort keys %key) {
        my @ids = grep { $seen{$_}{team} eq $team } keys %seen;

        while (my @some = splice @ids, 0, 500) {
            my $r = $both[rand 2]->get('/api/tasks?task_ids='
                . join(',', @some), key => $key{$team}, timeout => 30);
            my $body = $r->body;

            diag($r->status . " $body") if $r->status != 200;

            # too many for a JSON parser in Perl

            while ($body =~ /"(task-\w+)":$object/g) {
                my ($id, $task) = ($1, $2);
                my ($state) = $task =~ /^\{"status":"(\w+)"/;
                my ($finished) = $task =~ /"finished_at":([\d.]+)/;
                my ($result) = $task =~ /"result":$object/;

                # the mock ends its answers with a line's end

                $is{$id} = join ' ', $state, $finished // '-',
                    defined $result ? crc32("$result\n") : '-';
            }
        }
    }

    my %n;
    $n{(split / /)[0]}++ for values %is;

    is join(', ', map { "$n{$_} $_" } sort keys %n), "$tasks completed",
        "$what: all have completed";

    return %is;
}


# What the provider did: [arrival, crc or undef] by text.  A task ran again
# only where something died while it ran, and its result is an answer to it.

sub journal {
    my ($r) = Test::LLM::HTTP->all({ port => $mock->control_port,
        timeout => 120, path => '/__mock/journal' });
    my %runs;

    for my $record (split /\{"index":/, $r->body) {
        my ($text) = $record =~ /"content\\":\\"(<\w+>)/ or next;
        my ($at) = $record =~ /"arrival_ms":\s*([\d.]+)/;
        my ($crc) = $record =~ /"sent_crc32":\s*(\d+)/;

        undef $crc if $record !~ /"ended":\s*"done"/;
        push @{$runs{$text}}, [$at, $crc];
    }

    my (%times, @never, @again, @foreign);

    for my $id (keys %text) {
        my @runs = sort { $a->[0] <=> $b->[0] } @{$runs{$text{$id}} // []};
        my $crc = (split / /, $first{$id} // '- - -')[2];

        $times{@runs}++;
        push @never, $id if !@runs;
        push @foreign, $id if !grep { ($_->[1] // '?') eq $crc } @runs;

        for my $i (1 .. $#runs) {
            my ($from, $to) = ($runs[$i - 1][0], $runs[$i][0]);

            push @again, sprintf '%s %s: at %.0f and %.0f', $id,
                $text{$id}, $from, $to
                if !grep { $_->[1] > $from - 200 && $_->[0] < $to } @crashes;
        }
    }

    note 'ends that came too late: ', join ' + ', map {
        $_->said(qr/not ours any more/) } @both;
    note 'runs: ', join ', ', map { "$times{$_} x $_" }
        sort { $a <=> $b } keys %times;

    is "@never", '', 'each ran';
    is join("\n", @again), '', 'again only where something died meanwhile'
        or diag(join ', ', map { sprintf '%.0f to %.0f', @$_ } @crashes);
    is "@foreign", '', 'the results are what the provider answered';
    is join(' ', grep { !/^<t\d+>$/ } keys %runs), '',
        'nothing else was asked';
    is scalar(uniq(values %text)), $tasks, 'each text was a task';

    # attempts and deaths of each are its own

    my @more;

    for my $id (keys %text) {
        my ($tries, $deaths) = @{$redis->command(HMGET => "${P}job:$id", 'a',
            'd')};

        push @more, "$id: " . @{$runs{$text{$id}} // []} . " of $tries"
            if @{$runs{$text{$id}} // []} > $tries || $deaths > $tries - 1;
    }

    is "@more", '', 'none ran more often than it was tried';
}


# nothing is left in the queue, and each task has ended once

sub clean {
    my %s = @{$queue->call('sweep', $HOUR, $HOUR)};

    is $s{submitted} - $before, $tasks, 'each was submitted once';
    is $s{completed} - $before, $tasks, '... and completed once';
    is $s{error} + $s{cancelled}, 0, '... none in another way';

    my @left = map { "$_=$s{$_}" } grep { $s{$_} } qw(queued processing
        delayed dead length0 length1 length2 pending0 pending1 pending2);

    for my $class (0 .. 2) {
        my $pending = eval { $redis->command(XPENDING => "${P}q:$class",
            'run') } // [0];

        push @left, "XPENDING $class" if $pending->[0];
        push @left, "XLEN $class" if $redis->command(XLEN => "${P}q:$class");
    }

    push @left, grep { /:/ } @{$redis->command(HKEYS => "${P}stat")};
    push @left, @{$redis->command(KEYS => "${P}$_")} for 'b:*', 'delayed',
        'held', 'dead', 'todo', 'doing';

    is "@left", '', 'nothing is left in the queue';
}


# no slot is held, neither in shared memory nor in Redis

sub slots {
    my ($when) = @_;

    for my $t (@both) {
        $t->all_back($when);
        $t->becomes('llm_tasks_running', 0, "$when: nothing runs");
    }

    ok $x->until(sub { $mock->stats->{in_flight} == 0 }, 10),
        "$when: the provider has nothing to do";

    # of the dead nothing is left within the life of a gateway's word, and
    # their shares go when somebody asks for the same slots

    ok $x->until(sub { $redis->gateways == 2 }, 20),
        "$when: the dead are forgotten";

    my $shares;

    ok $x->until(sub { ($shares = shares($redis->gateways)) eq '' }, 10),
        "$when: no slot is held in Redis" or diag($shares);
}


# slots that are kept in Redis, of these gateways or of any

sub shares {
    my %of = map { $_ => 1 } @_;
    my @shares;

    for my $key (@{$redis->command(KEYS => '{llm}:s:*')}) {
        my %share = @{$redis->command(HGETALL => $key)};

        push @shares, map { "$key of $_: $share{$_}" }
            grep { !%of || ($of{$_} && (split / /, $share{$_})[0]) }
            sort keys %share;
    }

    return join "\n", @shares;
}


# more of the same in quiet: workers do not grow

sub leaks {
    # also asks for the slots of both keys, by which shares of the dead go

    wave('warm', 400);
    return if $x->sanitized;

    my $sizes = sub {
        map { my $pid = $_; slurp("/proc/$pid/status")
            =~ /^RssAnon:\s+(\d+)/m } map { $_->workers } @both;
    };

    my @before = $sizes->();
    wave($_, 200) for qw(more again last);
    my @after = $sizes->();
    my @grown = map { $after[$_] - $before[$_] } 0 .. $#before;

    note "KB of workers: @before, then @after";
    cmp_ok max(@grown), '<', 1024, 'workers do not grow';
}


# bytes in Redis, but for what its connections have

sub memory {
    removed();

    my $info = $redis->command(INFO => 'memory');
    my %info = $info =~ /^(\w+):(\d+)\r?$/mg;

    return $info{used_memory} - $info{mem_clients_normal}
        - $info{mem_aof_buffer};
}


# what is kept for a time, as if that were over

sub removed {
    my @ids = map { substr $_, length "${P}job:" }
        @{$redis->command(KEYS => "${P}job:*")};

    while (my @some = splice @ids, 0, 200) {
        $queue->call('drop', @some);
    }

    $redis->command(DEL => $_)
        for @{$redis->command(KEYS => "${P}idem:*")};
}


sub back {
    my $now = memory();

    is join(' ', grep { !/^\Q$P\E(?:stat|q:[012])$/ }
        @{$redis->command(KEYS => "${P}*")}), '',
        'when its time is over nothing of a task is left';

    note sprintf 'KB of Redis: %.0f, then %.0f', $empty / 1024, $now / 1024;
    cmp_ok $now - $empty, '<', 512 * 1024, 'and Redis is as small as before';
}
