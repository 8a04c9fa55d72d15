#!/usr/bin/perl

# Two gateways while the Redis of their limits, cache and tasks fails over: by
# three Sentinels with a master and two replicas, and in a Cluster of three
# masters and three replicas, where before that the slot of all keys is moved
# to another node.  Everything goes on: what clients see, how long limits are
# not shared, what is admitted above them, what becomes of slots and tasks.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use List::Util qw(max sum0);
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::DNS;


my $SLOTS = 6;
my ($RATE, $BURST) = (20, 20);                # per second; at once
my $P = '{llm}:t:';

my ($x, $y, $hub, $mock, @both, $dns);

# who is sent how often, per second, and what it may be answered

my %class = (
    slots => { rate => 30, may => qr/^200$/ },
    rate => { rate => 60, may => qr/^(?:200|429)$/ },
    day => { rate => 20, may => qr/^200$/ },
    cached => { rate => 20, may => qr/^200$/ },
);

my (@pieces, %task, %admitted, @log);

sentinels();
cluster();

done_testing;


# --- by Sentinels

sub sentinels {
    begin();

    my $port = $hub->port('PORT_R');
    my @servers = map { server("redis$_", $port, "127.0.0.2$_",
        'min-replicas-to-write' => 1, 'min-replicas-max-lag' => 10,
        $_ == 1 ? () : (replicaof => "127.0.0.21 $port")) } 1 .. 3;
    my @watch = map { $hub->port("PORT_S$_") } 1 .. 3;
    my @sentinels = map { Test::LLM::Redis->sentinel($hub, "sentinel$_", $_,
        "127.0.0.21 $port") } @watch;

    $_->command(SENTINEL => 'SET', 'mymaster', 'quorum', 2) for @sentinels;

    ok $hub->until(sub {
        3 == grep { $_->command('INFO')
            =~ /status=ok,address=\S+,slaves=2,sentinels=3/ } @sentinels;
    }, 30), 'sentinel: three of them know a master and two replicas';
    ok $hub->until(sub { 2 == grep { linked($_) } @servers }, 30),
        'sentinel: the replicas are linked';

    gateways('redis+sentinel://' . join(',', map { "127.0.0.1:$_" } @watch)
        . '/mymaster');
    shared('sentinel', $servers[0]) or return;

    my $load = start_load();

    run_load($load, 2);
    my $killed = kill_it('sentinel', $servers[0]);
    my ($master, $heir_at);

    my $back = again($load, sub {
        ($master) = grep { role($_) eq 'master' } @servers[1, 2]
            if !$master;
        $heir_at //= time if $master;
        return $master && 2 == eval { $master->gateways };
    });

    ended('sentinel', $load, $killed, $heir_at, $back, $master);
}


# --- in a Cluster

sub cluster {
    begin();

    # one name for all nodes, on one port; what it has without the resolver
    # is the address of nobody

    my $port = $hub->port('PORT_C');
    my @nodes = map { server("node$_", $port, "127.0.0.1$_",
        'cluster-enabled' => 'yes', 'cluster-node-timeout' => 1000,
        'cluster-port' => $hub->port("PORT_B$_"),
        'cluster-replica-validity-factor' => 0) } 1 .. 6;
    my %bus = map { ($_ => $hub->port("PORT_B$_")) } 1 .. 6;

    for my $i (0 .. 2) {
        $nodes[$i]->command(CLUSTER => 'SET-CONFIG-EPOCH', $i + 1);
        $nodes[$i]->command(CLUSTER => 'ADDSLOTSRANGE',
            int($i * 16384 / 3), int(($i + 1) * 16384 / 3) - 1);
    }

    $nodes[0]->command(CLUSTER => 'MEET', "127.0.0.1$_", $port, $bus{$_})
        for 2 .. 6;
    ok $hub->until(sub { 6 == grep { $_->command(CLUSTER => 'INFO')
        =~ /cluster_known_nodes:6/ } @nodes }, 30), 'cluster: six nodes met';

    my @id = map { $_->command(CLUSTER => 'MYID') } @nodes;

    for my $i (3 .. 5) {
        ok $hub->until(sub { eval {
            $nodes[$i]->command(CLUSTER => 'REPLICATE', $id[$i - 3]) } }, 10),
            'cluster: a replica';
    }

    ok $hub->until(sub { 3 == grep { linked($_) } @nodes }, 30),
        'cluster: the replicas are linked';
    ok $hub->until(sub { 6 == grep { $_->command(CLUSTER => 'INFO')
        =~ /cluster_state:ok/ } @nodes }, 30), 'cluster: it serves';

    $dns = Test::LLM::DNS->new($hub);
    $dns->say(localhost => { A => [map { "127.0.0.1$_" } 1 .. 6] });

    gateways("redis://localhost:$port", 'resolver 127.0.0.1:' . $dns->port
        . ' valid=1s ipv6=off;');

    my $slot = $nodes[0]->command(CLUSTER => 'KEYSLOT', '{llm}');
    my $from = int($slot / (16384 / 3));
    my $to = ($from + 1) % 3;

    shared('cluster', $nodes[$from]) or return;

    # the slot goes to another node

    my $load = start_load();

    run_load($load, 1.5);
    move($load, $slot, $port, \@nodes, \@id, $from, $to);
    my $moved = time;
    my $back = again($load, sub { 2 == eval { $nodes[$to]->gateways } });
    seen('cluster: the slot is moved', $moved, $back);
    run_load($load, 1);

    # and that one dies

    my $heir = $nodes[$to + 3];
    my $killed = kill_it('cluster', $nodes[$to]);

    my $heir_at;

    $back = again($load, sub {
        return 0 if role($heir) ne 'master';
        $heir_at //= time;
        return 2 == eval { $heir->gateways };
    });

    ended('cluster', $load, $killed, $heir_at, $back, $heir);
}


# slot by slot, as redis-cli does it

sub move {
    my ($load, $slot, $port, $nodes, $id, $from, $to) = @_;

    my ($source, $target) = @$nodes[$from, $to];
    my $n = 0;

    $target->command(CLUSTER => 'SETSLOT', $slot, 'IMPORTING', $id->[$from]);
    $source->command(CLUSTER => 'SETSLOT', $slot, 'MIGRATING', $id->[$to]);

    while (1) {
        my $keys = $source->command(CLUSTER => 'GETKEYSINSLOT', $slot, 10);

        last if !@$keys;
        $n += @$keys;
        $source->command(MIGRATE => '127.0.0.1' . ($to + 1), $port, '', 0,
            5000, 'KEYS', @$keys);
        run_load($load, 0.01);
    }

    $nodes->[$_]->command(CLUSTER => 'SETSLOT', $slot, 'NODE', $id->[$to])
        for $to, $from, grep { $_ != $to && $_ != $from } 0 .. 2;

    note "cluster: $n keys were moved";
    cmp_ok $n, '>', 10, 'cluster: keys were moved';
}


# --- servers

# at an address where nobody else has ports

sub server {
    my ($name, $port, $address, %options) = @_;

    return Test::LLM::Redis->new($hub, name => $name, port => $port,
        bind => $address, 'bind-source-addr' => $address,
        'repl-diskless-sync-delay' => 0, 'protected-mode' => 'no', %options);
}


sub linked {
    my ($server) = @_;
    return $server->command('INFO', 'replication')
        =~ /role:slave.*master_link_status:up/s;
}


sub role {
    my ($server) = @_;
    return (eval { $server->command('ROLE') } // [''])->[0];
}


# --- gateways

sub begin {
    ($x, $y, $hub) = map { Test::LLM->new(workers => 2) } 1 .. 3;
    @both = ($x, $y);
    @pieces = ();
    %task = %admitted = ();
    $mock = $hub->mock('--journal', 100_000);

    # whose texts they are

    $mock->script({ match => { body => '<slots' }, delay_ms => 150 },
        { match => { body => '<task' }, delay_ms => 20,
          delay_jitter_ms => 60 });
}


sub gateways {
    my ($url, $http) = @_;

    $hub->key('slots', team => 'slots', concurrency => $SLOTS,
        queue => { size => 1000, timeout_ms => 30000 });
    $hub->key('rate', team => 'rate', requests_per_minute => 60 * $RATE,
        burst_requests => $BURST);
    $hub->key('day', team => 'day', requests_per_day => 1_000_000);
    $hub->key('cached', team => 'cached');
    $hub->key('user', team => 'tasks', concurrency => 40);

    for my $t (@both) {
        $t->{tenants} = $hub->{tenants};
        $t->write('tenants.json', $hub->{tenants});
        $t->token(MOCK => $hub->token('MOCK'));
        $t->token(REDIS => "$url timeout=200ms limits=exact gateways=2");
        $t->tasks_gateway('lease=2s tries=50 deaths=50 backoff=50ms'
            . ' backoff_max=400ms', http => $http // '',
            location => 'llm_cache on ttl=1h;');
    }
}


sub shared {
    my ($what, $redis) = @_;

    return ok $hub->until(sub {
        2 == $redis->gateways
            && 2 == grep { $_->metric('llm_limits_shared') == 1 } @both;
    }, 20), "$what: limits are shared";
}


# --- load, in an open loop

sub start_load {
    return { since => time, ran => 0, all => [], n => {}, piece => 0 };
}


sub run_load {
    my ($load, $seconds) = @_;

    my $until = time + $seconds;

    while (time < $until) {
        my $ran = time - $load->{since};

        for my $name (keys %class) {
            my $due = int($ran * $class{$name}{rate});

            send_one($load, $name) while ($load->{n}{$name} // 0) < $due;
        }

        submit($load) while $load->{piece} < int($ran * 5);
        accepted();
        look_at();
        Test::LLM::HTTP->idle(0.005);
    }
}


sub send_one {
    my ($load, $name) = @_;

    my $n = $load->{n}{$name}++;
    my $text = $name eq 'cached' ? $n % 7 : $n;

    push @{$load->{all}}, { name => $name, at => time,
        r => $both[$n % 2]->start_chat("<$name $text>", key => $name,
            timeout => 40, headers => $name eq 'cached' ? {}
                : { 'Cache-Control' => 'no-store' }) };
}


# ten tasks, sent until they are accepted

sub submit {
    my ($load) = @_;

    my $n = $load->{piece}++;
    my $piece = { name => "piece-$n", texts => [map { "<task $n-$_>" }
        1 .. 10], sent => 0 };

    push @pieces, $piece;
    again_piece($piece);
}


sub again_piece {
    my ($piece) = @_;

    $piece->{due} = undef;
    $piece->{sent}++;
    $piece->{r} = $both[rand 2]->start_post('/api/tasks',
        { model => 'gpt-4o', prompts => $piece->{texts} }, key => 'user',
        timeout => 10, headers => ['Idempotency-Key' => $piece->{name}]);
}


sub accepted {
    for my $piece (@pieces) {
        next if $piece->{ids};
        again_piece($piece) if !$piece->{r} && time > $piece->{due};

        my $r = $piece->{r};

        next if !$r || $r->{state} ne 'done';

        if ($r->complete && $r->status == 200) {
            $piece->{ids} = $r->json->{task_ids};
            $piece->{at} = time;
            next;
        }

        $piece->{said}{$r->complete ? $r->status : $r->error}++;
        delete $piece->{r};
        $piece->{due} = time + 0.3;
    }
}


# how limits are shared, as it changes

sub look_at {
    for my $t (@both) {
        next if ($t->{looked} // 0) > time - 0.1;

        $t->{looked} = time;
        my $now = $t->metric('llm_limits_shared');

        push @log, [time, $t, $now] if $now != ($t->{last} // -1);
        $t->{last} = $now;
    }
}


sub kill_it {
    my ($what, $server) = @_;

    my $at = time;
    $server->stop('KILL');

    return $at;
}


# the load goes on until both share again: when that was

sub again {
    my ($load, $there) = @_;

    my $until = time + 20;
    my $back;

    while (time < $until) {
        run_load($load, 0.05);

        if ($there->() && 2 == grep { $_->{last} == 1 } @both) {
            $back //= time;
            last if time > $back + 0.5;

        } else {
            undef $back;
        }
    }

    return $back;
}


sub seen {
    my ($what, $from, $back) = @_;

    my @away = map { sprintf '%s %s at %.2f s', $_->[1] == $x ? 'one'
        : 'other', (qw(off shared leased alone))[$_->[2]], $_->[0] - $from }
        grep { $_->[0] > $from - 0.2 } @log;

    ok $back, "$what: limits are shared again";
    note sprintf '%s: shared again after %.2f s (%s)', $what,
        ($back // time) - $from, join ', ', @away;
    cmp_ok(($back // 9e9) - $from, '<', 10, "$what: in time");
}


# --- what came of it

sub ended {
    my ($what, $load, $killed, $heir_at, $back, $master) = @_;

    note sprintf '%s: there is another master after %.2f s', $what,
        ($heir_at // 9e9) - $killed;
    seen("$what: the master is killed", $killed, $back);
    cmp_ok(($back // 9e9) - ($heir_at // 0), '<', 4,
        "$what: soon after there is another one");
    run_load($load, 1.5);

    # the load alone leaves slots free; now both have a line

    send_one($load, 'slots') for 1 .. 8 * $SLOTS;
    $_->{r}->wait for @{$load->{all}};

    # what has not been accepted

    ok $hub->until(sub {
        accepted();
        return !grep { !$_->{ids} } @pieces;
    }, 20), "$what: all tasks are accepted";

    clients($what, $load);
    bounded($what, $load);
    tallied($what, $load, $master);
    tasks_of($what, $killed, $master);
    slots_of($what, $master);
    $_->quit for @both;
    delete $_->{master} for @both;
}


sub clients {
    my ($what, $load) = @_;

    my (%bad, %slow, %n);

    for my $one (@{$load->{all}}) {
        my $r = $one->{r};
        my $is = $r->complete ? $r->status : $r->error // 'cut';

        $n{$one->{name}}{$is}++;
        $bad{"$one->{name} $is"}++ if $is !~ $class{$one->{name}}{may};
        $slow{$one->{name}} = max($slow{$one->{name}} // 0,
            $r->{end} // 99);
    }

    is join(', ', map { "$bad{$_} x $_" } sort keys %bad), '',
        "$what: no client saw it";

    # one deadline of Redis at most, and the machine's own slowness

    for my $name (sort keys %slow) {
        note sprintf '%s: %s: %s, slowest %.0f ms', $what, $name,
            join(', ', map { "$n{$name}{$_} x $_" } sort keys %{$n{$name}}),
            $slow{$name} * 1e3;
        cmp_ok $slow{$name}, '<', 2, "$what: $name: nobody waited long"
            if $name ne 'slots';
    }

    my %said;

    for my $piece (@pieces) {
        $said{$_} += $piece->{said}{$_} for keys %{$piece->{said} // {}};
    }

    note "$what: calls with tasks that were refused: ",
        join(', ', map { "$said{$_} x $_" } sort keys %said) || 'none';
    is join(' ', grep { !/^503$/ } keys %said), '',
        "$what: by 503 and nothing else";
}


# limits.md: over the change itself once more a burst, and what the old master
# had not passed on

sub bounded {
    my ($what, $load) = @_;

    my @rate = sort { $a <=> $b } map { $_->{at} }
        grep { $_->{name} eq 'rate' && $_->{r}->status == 200 }
        @{$load->{all}};
    my $took = $rate[-1] - $load->{since};
    my $plain = $BURST + $RATE * $took;

    note sprintf '%s: %d admitted in %.1f s, %.0f without faults', $what,
        scalar @rate, $took, $plain;

    my $changes = $what eq 'cluster' ? 2 : 1;

    cmp_ok scalar @rate, '<=', $plain + $changes * (2 * $BURST) + $RATE,
        "$what: a burst more at each change, at most";
    cmp_ok scalar @rate, '>=', 0.8 * $RATE * $took,
        "$what: and no less than the rate";

    my @runs = map { ([$_->{arrival_ms}, 1], [$_->{end_ms}, -1]) }
        grep { defined $_->{end_ms} && $_->{body} =~ /<slots/ }
        $mock->journal(limit => 100_000);
    my ($now, $most) = (0, 0);

    for (sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } @runs) {
        $now += $_->[1];
        $most = max($most, $now);
    }

    note "$what: at most $most at a time in $SLOTS slots";
    cmp_ok $most, '>=', $SLOTS, "$what: all slots were used";
    cmp_ok $most, '<=', $SLOTS + $SLOTS / 2 * 2,
        "$what: each gateway had its part more at most";
}


# the day's tally: what was lost of it is told again by those who know it

sub tallied {
    my ($what, $load, $master) = @_;

    my $sent = grep { $_->{name} eq 'day' && $_->{r}->status == 200 }
        @{$load->{all}};
    my $told;

    my $day = sub {
        my @l = split / /, $master->command(GET => '{llm}:l:k:day') // '';

        return max(@l[6, 10]);
    };

    $hub->until(sub { ($told = $day->()) >= $sent }, 3);
    note "$what: $sent of the day, Redis has $told";
    cmp_ok $told, '<=', $sent + 20, "$what: no day's request counts twice";
    cmp_ok $told, '>=', $sent - 2 * $class{day}{rate},
        "$what: and a second's at most are lost";
}


# Each task that was accepted half a second before the master died, or later
# than that, has one end.

sub tasks_of {
    my ($what, $killed, $master) = @_;

    my %known = map { my $p = $_; map { ($_ => $p) } @{$p->{ids}} } @pieces;
    my %first = states(\%known);

    ok $hub->until(sub {
        %first = states(\%known);
        return !grep { /^(?:queued|processing)/ } values %first;
    }, 30), "$what: all tasks have ended";

    my @gone = grep { $first{$_} eq 'not_found' } keys %first;
    my @odd = grep { $first{$_} !~ /^(?:not_found|completed)/ } keys %first;
    my @late = grep { my $at = $known{$_}{at};
        $at < $killed - 0.5 || $at > $killed } @gone;

    note sprintf '%s: %d tasks, %d of them gone with the old master', $what,
        scalar keys %known, scalar @gone;
    is "@odd", '', "$what: by completion";
    is "@late", '', "$what: none is lost that was passed on";

    Test::LLM::HTTP->idle(2.5);
    my %second = states(\%known);
    is_deeply \%second, \%first, "$what: and it is the only end";

    my %runs;

    for my $record ($mock->journal(limit => 100_000)) {
        $runs{$1}++ if $record->{body} =~ /(<task [\d-]+>)/;
    }

    my $more = grep { $runs{$_} > 1 } keys %runs;

    note "$what: $more tasks ran again";
    is scalar(grep { !$runs{$_} } map { @{$_->{texts}} } grep {
        $_->{at} < $killed - 0.5 || $_->{at} > $killed } @pieces), 0,
        "$what: all of them ran";

    my %s = @{$master->command(HGETALL => "${P}stat")};
    is(($s{queued} // 0) + ($s{processing} // 0), 0,
        "$what: nothing is left in the queue");
}


sub states {
    my ($known) = @_;

    my @ids = sort keys %$known;
    my %is;

    while (my @some = splice @ids, 0, 100) {
        my $r = $both[rand 2]->get('/api/tasks?result=0&task_ids='
            . join(',', @some), key => 'user', timeout => 20);

        if (!$r->complete || $r->status != 200) {
            $is{$_} = 'queued' for @some;
            next;
        }

        my $tasks = $r->json;
        $is{$_} = join ' ', $tasks->{$_}{status},
            $tasks->{$_}{finished_at} // () for @some;
    }

    return %is;
}


# no slot is lost: none is held, and all can be had at one gateway

sub slots_of {
    my ($what, $master) = @_;

    $_->all_back($what) for @both;

    my $t = $both[0];

    $mock->script({ match => { body => '<all' }, hang => \1 });
    my @all = map { $t->start_chat("<all $_>", key => 'slots',
        timeout => 60) } 1 .. $SLOTS + 2;

    ok $mock->wait(in_flight => $SLOTS, timeout_ms => 20_000),
        "$what: all slots can be had at one gateway";
    ok !$mock->wait(min_in_flight => $SLOTS + 1, timeout_ms => 300),
        "$what: and not one more";
    $_->abort for @all;
    $t->becomes('llm_ledger_tickets_used', 0, "$what: and are given back");
}
