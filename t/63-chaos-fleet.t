#!/usr/bin/perl

# Two hundred clients of all kinds at two gateways on one Redis, while workers
# are killed, gateways are reloaded and Redis dies and comes back, with its
# data and once without: everybody has one outcome, all slots come back in
# shared memory and in Redis, and the day's money is what the provider billed.
# TEST_LLM_CHAOS=60 makes it longer.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $seconds = $ENV{TEST_LLM_CHAOS} // 20;
my $seed = $ENV{TEST_LLM_SEED} // int rand 1 << 30;
my $clients = 200;

srand $seed;
note "TEST_LLM_SEED=$seed, $seconds seconds";

# whoever has the mock and Redis is the last to be stopped

my ($x, $y, $hub) = map { Test::LLM->new(workers => 2) } 1 .. 3;
my @both = ($x, $y);

# Each kind of client has a team of its own, so that its day can be checked.
# All numbers of slots are even: each gateway's part is a half.  The provider
# has fewer than all teams together.

my %team = (
    whole => { concurrency => 12 },
    slow  => { concurrency => 8 },
    leave => { concurrency => 8 },
    fault => { concurrency => 6 },
    rated => { concurrency => 4 },
);

my $slots = 24;
my %day = (requests_per_day => 1_000_000_000,
    tokens_per_day => 1_000_000_000_000,
    budget => { usd => 1_000_000, period => 'day' });
my %queue = (size => 400, timeout_ms => 30_000);

for my $name (keys %team) {
    $hub->team($name, %{$team{$name}}, %day);
    $hub->key("$name-$_", team => $name, concurrency => 6,
        queue => \%queue) for 1, 2, 3;
}

# these wait for their rate, too

$hub->key("rated-$_", team => 'rated', requests_per_minute => 600,
    burst_requests => 5, queue => { %queue, rates => \1 }) for 1, 2, 3;

my $redis = $hub->redis(appendonly => 'yes', appendfsync => 'always');
my $mock = $hub->mock('--journal', 100_000);

# an answer is 10 * 2 + 20 * 4 = 100 millionths of a dollar; the long ones of
# the slow clients have 60000 tokens in 240000 bytes

my %cost = (whole => 100, rated => 100, slow => 240_020);

for my $t (@both) {
    $t->{tenants} = $hub->{tenants};
    $t->write('tenants.json', $hub->{tenants});
    $t->write('prices.json', { '*' => { input => 2, output => 4 } });
    $t->token(MOCK => $hub->token('MOCK'));
    $t->token(REDIS => $redis->url . ' timeout=200ms limits=exact gateways=2');
    $t->gateway(location => 'llm_retry tries=3 base=5ms;',
        http => 'llm_prices %%DIR%%/prices.json;',
        routes => "llm_provider gate uri=/llm/mock/ concurrency=$slots;
        llm_route * gate;",
        server => 'listen 127.0.0.1:%%PORT_BOTH%% reuseport sndbuf=16k;');

    # a lock that died with its worker is found by the next one
    $t->allow(qr/\[alert\].*ledger, it is derived anew/);
}

ok $x->until(sub { alive() == 2 }), 'two gateways';

my @ids = alive();

my %is = (
    whole => [[json => {}], [stream => { stream => 1 }]],
    slow  => [[slow => { stream => 1, rcvbuf => 4096 }]],
    rated => [[json => {}], [stream => { stream => 1 }]],
    leave => [[leaves => { stream => 1 }], [leaves => {}],
        [line => { stream => 1 }], [line => {}]],
    fault => [[json => {}], [stream => { stream => 1 }]],
);

my @kinds = (('whole') x 20, ('slow') x 6, ('leave') x 8, ('fault') x 6,
    ('rated') x 2);

$mock->script(
    { match => { model => 'slow' }, chunks => 60, chunk_bytes => 4000,
      prompt_tokens => 10, completion_tokens => 60_000 },
    { match => { model => 'fault' }, every => 7, status => 503 },
    { match => { model => 'fault' }, every => 5, cut => 'rst' },
    { match => { model => 'fault' }, every => 4, status => 500,
      delay_ms => 20 },
    { match => { model => 'fault', stream => \1 }, every => 3,
      cut => 'close', cut_events => 4 },
    { match => { model => 'leave', stream => \1 }, delay_ms => 20,
      chunks => 20, pace_ms => 10 },
    { match => { stream => \1 }, delay_ms => 10, pace_ms => 4 },
    { delay_ms => 40 },
);

my (@live, @kills, %bad, %outcome, %extra);
my ($sent, $open, $killed, $at_kill, $reloads, $restarts) = (0) x 6;
my ($completed, $broken, $left) = map { { map { $_ => 0 } keys %team } }
    1 .. 3;


# At first nobody is killed but Redis: then all is exact.

chaos(0.35 * $seconds, 0);
restart() if !$restarts;
drain('calm');
is_deeply \%bad, {}, 'calm: each has an outcome that he may have';
freed('calm');
money('calm', 0);

chaos(0.65 * $seconds, 0.5);
drain('chaos');
note "$sent clients, $killed kills with at most $at_kill requests in flight, "
    . "$reloads reloads, $restarts restarts of Redis; "
    . join ', ', map { "$_: $completed->{$_} whole, $broken->{$_} broken, "
    . "$left->{$_} left" } sort keys %team;

is eval { my $n = 0; $n += $_ for values %outcome; $n }, $sent,
    'each has one outcome';
is_deeply \%bad, {}, 'and none that it must not have';
cmp_ok $killed, '>', 0, 'workers were killed';
cmp_ok $completed->{whole}, '>', $sent * 0.2, 'and yet most was done';

freed('chaos');
money('chaos', 0);


# Redis comes back empty

$open = 1;
run_for(1);

my $billed = billed();
$redis->stop('KILL');
unlink glob $hub->path('redis/*/*');
run_for(0.3);
$redis->start;

ok run(sub { !grep { said($_, qr/shared again/)
    != said($_, qr/keeps to one part/) } @both }, 10),
    'both gateways are back with an empty Redis';
run_for(1.5);

my $loss = billed() - $billed;

drain('emptied');
is_deeply \%bad, {}, 'emptied: nobody has an outcome that he must not have';
freed('emptied');
money('emptied', $loss);


# as many at once as there are slots, over both gateways

$mock->script({ hang => \1 });

my @all;

for my $team (sort keys %team) {
    push @all, hang($team) for 1 .. $team{$team}{concurrency};
}

ok $mock->wait(in_flight => $slots, timeout_ms => 20_000),
    'all slots can be had' or diag(standing());
ok !$mock->wait(min_in_flight => $slots + 1, timeout_ms => 300),
    'and not one more';
$_->abort for @all;
freed('all');

# the gateways are who they were, and have complained of nothing

is join(' ', sort(alive())), join(' ', sort @ids),
    'the gateways are those of the start';

my $anew = 0;
$anew += () = $_->log =~ /ledger, it is derived anew/g for @both;
cmp_ok $anew, '<=', $killed, "what was derived anew was so for a kill: $anew";

done_testing;


# a while of it; so many of the faults are kills

sub chaos {
    my ($duration, $kills) = @_;

    my $end = time + $duration;

    $open = 1;
    run_for(0.5);

    while (time < $end) {
        my $what = rand;

        if ($what < $kills || ($kills && !$killed)) {
            kill_one($both[rand 2]);

        } elsif ($what < $kills + 0.4 * (1 - $kills)) {
            $both[rand 2]->reload;
            $reloads++;

        } else {
            restart();
        }

        run_for(0.3 + rand 1.2);
    }
}


sub restart {
    $redis->stop('KILL');
    run_for(rand 0.8);
    $redis->start;
    run_for(0.2);
    $restarts++;
}


# a new client; the slow ones are where the socket's buffer is no help

sub client {
    my $team = $kinds[rand @kinds];
    my ($kind, $spec) = @{$is{$team}[rand @{$is{$team}}]};
    my %spec = %$spec;
    my $t = $both[rand 2];

    $spec{port} = $t->port('PORT_BOTH') if $kind eq 'slow' || rand() < 0.5;
    $spec{headers} = { Connection => 'close' } if rand() < 0.3;

    my $r = $t->start_chat('<' . ++$sent . '>', key => "$team-"
        . (1 + int rand 3), model => $team, timeout => 60,
        body => { max_tokens => 20 }, %spec);

    return { r => $r, t => $t, team => $team, kind => $kind, began => time,
        until => time + 0.005 + rand($kind eq 'line' ? 0.05 : 0.6),
        rst => rand() < 0.5 };
}


# what a client does meanwhile

sub live {
    my ($c) = @_;

    my $r = $c->{r};

    if ($c->{kind} eq 'leaves' || $c->{kind} eq 'line') {
        return if time < $c->{until};
        $c->{left} = 1;
        $c->{rst} ? $r->abort : $r->close;

    } elsif ($c->{kind} eq 'slow') {
        # reads a little at a time
        (time * 20) % 5 ? $r->pause : $r->resume;
        $r->resume if time > $c->{began} + 5;
    }
}


# the one outcome of a client that has ended

sub ended {
    my ($c) = @_;

    my ($r, $team) = @$c{qw(r team)};
    my $status = $r->status // 0;

    $outcome{$team}++;

    if ($c->{left}) {
        $left->{$team}++;

    } elsif (!defined $r->error && $r->complete && $status == 200) {
        my $whole = $r->header('content-type') =~ /event-stream/
            ? ($r->data)[-1] eq '[DONE]' : defined $r->json->{usage};

        $whole ? $completed->{$team}++ : $broken->{$team}++;
        $bad{'an answer that is not whole'}++ if !$whole && $team ne 'fault';

    } elsif (!defined $r->error && $r->complete) {
        # the mock's errors get through to "fault" alone
        $bad{"$team: status $status " . $r->body}++ if $team ne 'fault';
        $broken->{$team}++;

    } elsif (($r->error // '') eq 'timeout') {
        $bad{"$team: no outcome"}++;

    } else {
        # cut: by the mock, or with its worker
        $broken->{$team}++;
        $bad{sprintf '%s: cut without a kill: %s, status %s, after %.2f s',
            $team, $r->error // 'no error', $status, $r->end}++
            if $team ne 'fault' && !died($c);
    }
}


# whether a worker was killed at the client's gateway just before its end; who
# pauses hears of it later

sub died {
    my ($c) = @_;

    my $end = $c->{began} + $c->{r}->end;

    return scalar grep { $_->{t} == $c->{t} && $_->{at} < $end
        && $_->{at} > $end - 3 } @kills;
}


sub run {
    my ($done, $patience) = @_;

    return $hub->until(sub {
        live($_) for grep { !defined $_->{r}->end } @live;
        ended($_) for grep { defined $_->{r}->end } @live;
        @live = grep { !defined $_->{r}->end } @live;

        return 1 if $done->();
        push @live, client() while $open && @live < $clients;
        return 0;
    }, $patience);
}


sub run_for {
    my ($duration) = @_;

    my $until = time + $duration;

    run(sub { time > $until }, $duration + 1);
}


sub drain {
    my ($when) = @_;

    $open = 0;
    ok run(sub { !@live }, 90), "$when: everybody comes to an end";
}


# any worker, also one that is shutting down; that one is not replaced

sub kill_one {
    my ($t) = @_;

    my @workers = $t->workers(1);
    my $pid = $workers[rand @workers];

    $at_kill += $mock->stats->{in_flight};
    $killed++;
    push @kills, { t => $t, at => time - 0.1 };

    return $t->kill_worker('KILL', $pid) if grep { $_ == $pid } $t->workers;

    $t->allow(qr/\[alert\] .*process $pid exited on signal 9/,
        qr/\[alert\] .*locked by $pid/);
    kill 'KILL', $pid;
}


# nothing is held, neither in shared memory nor in Redis

sub freed {
    my ($when) = @_;

    my @names = qw(llm_slots_in_use llm_slots_waiting
        llm_ledger_tickets_used);

    for my $t (@both) {
        for my $name (@names) {
            ok $x->until(sub { metric($t, $name) == 0 }, 10),
                "$when: $name is 0" or diag(metric($t, $name));
        }
    }

    ok $x->until(sub { $mock->stats->{in_flight} == 0 }, 10),
        "$when: the provider has nothing to do";

    # within the life of a gateway's word at the latest
    my ($held, $foreign);

    ok $x->until(sub {
        ($held, $foreign) = shares();
        return $held == 0;
    }, 20), "$when: no slot is held in Redis" or diag($held);

    is $foreign, '', "$when: only the living have shares";
}


# slots that are kept in Redis, and for whom that is no gateway

sub shares {
    my %alive = map { $_ => 1 } alive();
    my ($held, %foreign) = (0);

    for my $key (@{$redis->command(KEYS => '{llm}:s:*')}) {
        my %share = @{$redis->command(HGETALL => $key)};

        for my $id (keys %share) {
            $foreign{$id} = 1 if !$alive{$id};
            $held += (split / /, $share{$id})[0];
        }
    }

    return ($held, join ' ', sort keys %foreign);
}


# Requests and money of the day, in millionths of a dollar, as Redis has them.
# It is told with the next batches, until nothing changes.

sub tallies {
    my (%requests, %money);
    my ($before, $since) = ('', 0);

    my $still = $x->until(sub {
        my $now = '';

        for my $team (keys %team) {
            ($requests{$team}, $money{$team}) = tally($team);
            $now .= "$requests{$team} $money{$team} ";
        }

        ($before, $since) = ($now, time) if $now ne $before;
        return time > $since + 1.5;
    }, 15);

    ok $still, 'nothing more is told' or diag($before);

    return (\%requests, \%money);
}


sub tally {
    my ($team) = @_;

    my @f = split / /, $redis->command(GET => "{llm}:l:t:$team") // '';

    return @f < 13 ? (0, 0) : ($f[6] + $f[10], $f[8] + $f[12]);
}


# The mock's records: which request of which team got there, and what ended
# well.  They are too many for a JSON parser in Perl.

sub records {
    my ($r) = Test::LLM::HTTP->all({ port => $mock->port, timeout => 60,
        path => '/__mock/journal' });
    my (%reached, %done);

    for my $record (split /\{"index":/, $r->body) {
        my ($text) = $record =~ /"content\\":\\"<(\w+)>/ or next;
        my ($team) = $record =~ /"model\\":\\"(\w+)\\"/ or next;

        $reached{$team}{$text}++;
        $done{$team}++ if $record =~ /"ended":\s*"done"/
            && $record =~ /"status":\s*200\b/;
    }

    return (\%reached, \%done);
}


sub billed {
    my ($in, $out) = $mock->billed;
    return 2 * $in + 4 * $out;
}


# What Redis has is what the provider billed.  Of whom the end is unknown, for
# his worker died, may have paid anything up to an answer.  "loss" may be
# missing where Redis has forgotten.

sub money {
    my ($when, $loss) = @_;

    my ($requests, $money) = tallies();
    my ($reached, $done) = records();
    my $bill = billed();
    my ($paid, $unknown, $dead) = (0, 0, 0);

    for my $team (sort keys %team) {
        my $there = keys %{$reached->{$team}};

        $paid += $money->{$team};
        note "$when: $team: $requests->{$team} counted, $there at the "
            . "provider, $money->{$team} paid";

        next if $loss;

        my $more = $requests->{$team} - $there - ($extra{$team} // 0);

        cmp_ok $more, '>=', 0,
            "$when: $team: each that reached the provider is counted";
        # who leaves while the provider is being asked has asked, also if
        # the provider had not read all of it yet

        my $hasty = $team eq 'leave' ? 1 + int $there / 50 : 0;

        cmp_ok $more, '<=', $killed * $team{$team}{concurrency} + $hasty,
            "$when: $team: and no more than died with their workers: $more";
    }

    for my $team (sort keys %cost) {
        my $gone = keys(%{$reached->{$team}}) - $completed->{$team};
        my $least = $cost{$team} * $completed->{$team}
            + 100 * ($extra{$team} // 0);
        my $most = $least + $cost{$team} * $gone * 1.05
            + 50 * $killed * $team{$team}{concurrency};

        $dead += $gone;
        $unknown += $most - $least;

        cmp_ok $money->{$team}, '>=', $least - 1 - $loss,
            "$when: $team: what was answered is paid";
        cmp_ok $money->{$team}, '<=', $most, "$when: $team: and but for "
            . "$gone that died with a worker nothing more";
        is scalar(grep { $_ > 1 } values %{$reached->{$team}}), 0,
            "$when: $team: none was asked twice";
    }

    # some more may have come between the count and the kill
    cmp_ok $dead, '<=', $at_kill + 4 * $killed,
        "$when: $dead died, $at_kill were in flight";

    # estimates of who left are right within a tenth, and by a prompt each

    $unknown += 0.1 * ($money->{leave} + $money->{fault})
        + 20 * ($left->{leave} + $broken->{leave} + $broken->{fault});

    diag(sprintf '%s: %d kills, %d in flight then, %d of the patient died; '
        . 'paid %.0f, billed %.0f, may differ by %.0f', $when, $killed,
        $at_kill, $dead, $paid, $bill, $unknown + $loss);
    cmp_ok $paid, '<=', $bill + $unknown, "$when: no more is paid than billed";
    cmp_ok $paid, '>=', $bill - $unknown - $loss, "$when: and no less";

    told($when);
}


# Both gateways know the same sum: it is in what they say to who comes when
# the budget is spent.

sub told {
    my ($when) = @_;

    my @teams = qw(whole slow);
    my $limits = sub {
        my ($usd) = @_;

        for my $team (@teams) {
            $hub->team($team, %{$team{$team}}, %day, budget => { usd => $usd,
                period => 'day' });
        }

        $_->write('tenants.json', $hub->{tenants}) for @both;
    };

    $limits->(0.000001);

    for my $t (@both) {
        for my $team (@teams) {
            my ($told, $is) = ('nothing', 0);

            ok $x->until(sub {
                my $r = $t->chat('<told>', key => "$team-1", model => 'told',
                    body => { max_tokens => 1 });
                $extra{$team}++ if $r->status == 200;
                $is = (tally($team))[1] / 1e6;
                return 0 if $r->status != 429
                    || $r->body !~ /(\$(\d+(?:\.\d+)?)) of/;
                $told = $1;
                return abs($2 - $is) < ($is < 1 ? 1e-5 : 0.006);
            }, 10), "$when: a gateway says what Redis says of $team"
                or diag("$told, not $is");
        }
    }

    $limits->(1_000_000);

    for my $t (@both) {
        ok $x->until(sub {
            my @served = grep { $t->chat('<told>', key => "$_-1",
                model => 'told', body => { max_tokens => 1 })->status == 200 }
                @teams;
            $extra{$_}++ for @served;
            return @served == @teams;
        }, 10), "$when: and the budget is as it was";
    }
}


sub hang {
    my ($team) = @_;

    my $n = ++$sent;

    return $both[$n % 2]->start_chat("<all-$n>", key => "$team-"
        . (1 + $n % 3), model => $team, timeout => 60);
}


# who has what, when it is not as it should be

sub standing {
    my $text = 'in flight: ' . $mock->stats->{in_flight} . "\n";

    for my $t (@both) {
        $text .= join(', ', map { "$_ " . metric($t, $_) } qw(llm_slots_in_use
            llm_slots_waiting llm_ledger_tickets_used)) . "\n";
    }

    for my $key (sort @{$redis->command(KEYS => '{llm}:s:*')}) {
        my %share = @{$redis->command(HGETALL => $key)};
        $text .= "$key: " . join(', ', map { "$_: $share{$_}" }
            sort keys %share) . "\n";
    }

    return $text;
}


sub metric {
    my ($t, $name) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body
        // '';

    return $page =~ /^\Q$name\E (\d+)$/m ? $1 : -1;
}


sub alive {
    return @{$redis->command(ZRANGE => '{llm}:g', 0, -1)};
}


sub said {
    my ($t, $pattern) = @_;
    return scalar(() = $t->log =~ /$pattern/g);
}
