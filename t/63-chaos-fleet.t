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
use Test::LLM::Crowd;


my $seconds = $ENV{TEST_LLM_CHAOS} // 20;
my $seed = $ENV{TEST_LLM_SEED} // int rand 1 << 30;
my $slots = 24;

srand $seed;
note "TEST_LLM_SEED=$seed, $seconds seconds";

# whoever has the mock and Redis is the last to be stopped

my ($x, $y, $hub) = map { Test::LLM->new(workers => 2) } 1 .. 3;
my @both = ($x, $y);

# the provider has fewer slots than all teams together

my $crowd = Test::LLM::Crowd->new(gateways => \@both);

$crowd->tenants($hub);

my $redis = $hub->redis(appendonly => 'yes', appendfsync => 'always');
my $mock = $hub->mock('--journal', 100_000);

# of an answer, in millionths of a dollar

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
        server => 'listen 127.0.0.1:%%PORT_BOTH%% reuseport sndbuf=16k;
            add_header X-Pid $pid always;');

    # a lock that died with its worker is found by the next one
    $t->allow(qr/\[alert\].*ledger, it is derived anew/);
}

ok $x->until(sub { $redis->gateways == 2 }), 'two gateways';

my @ids = $redis->gateways;

$crowd->provider($mock);

my %extra;
my ($reloads, $restarts) = (0) x 2;


# At first nobody is killed but Redis: then all is exact.

chaos(0.35 * $seconds, 0);
restart() if !$restarts;
$crowd->drain('calm');
freed('calm');
money('calm', 0);

chaos(0.65 * $seconds, 0.5);
$crowd->drain('chaos');

my ($sent, $killed, $at_kill) = @$crowd{qw(sent killed at_kill)};

note "$sent clients, $killed kills with at most $at_kill requests in flight, "
    . "$reloads reloads, $restarts restarts of Redis; " . $crowd->tale;

cmp_ok $killed, '>', 0, 'workers were killed';
cmp_ok $crowd->{completed}{whole}, '>', $sent * 0.2, 'and yet most was done';

freed('chaos');
money('chaos', 0);


# Redis comes back empty

$crowd->run_for(1);

my $billed = $crowd->billed;
$redis->stop('KILL');
unlink glob $hub->path('redis/*/*');
$crowd->run_for(0.3);
$redis->start;

ok $crowd->run(sub { !grep { $_->said(qr/shared again/)
    != $_->said(qr/keeps to one part/) } @both }, 10),
    'both gateways are back with an empty Redis';
$crowd->run_for(1.5);

my $loss = $crowd->billed - $billed;

$crowd->drain('emptied');
freed('emptied');
money('emptied', $loss);


# as many at once as there are slots, over both gateways

$mock->script({ hang => \1 });

my @all;

for my $team ($crowd->teams) {
    push @all, hang($team) for 1 .. $crowd->slots($team);
}

ok $mock->wait(in_flight => $slots, timeout_ms => 20_000),
    'all slots can be had' or diag(standing());
ok !$mock->wait(min_in_flight => $slots + 1, timeout_ms => 300),
    'and not one more';
$_->abort for @all;
freed('all');

# the gateways are who they were, and have complained of nothing

is join(' ', sort($redis->gateways)), join(' ', sort @ids),
    'the gateways are those of the start';

my $anew = 0;
$anew += () = $_->log =~ /ledger, it is derived anew/g for @both;
cmp_ok $anew, '<=', $killed, "what was derived anew was so for a kill: $anew";

done_testing;


# a while of it; so many of the faults are kills

sub chaos {
    my ($duration, $kills) = @_;

    my $end = time + $duration;

    $crowd->run_for(0.5);

    while (time < $end) {
        my $what = rand;

        if ($what < $kills || ($kills && !$crowd->{killed})) {
            $crowd->kill_one($both[rand 2]);

        } elsif ($what < $kills + 0.4 * (1 - $kills)) {
            $both[rand 2]->reload;
            $reloads++;

        } else {
            restart();
        }

        $crowd->run_for(0.3 + rand 1.2);
    }
}


sub restart {
    $redis->stop('KILL');
    $crowd->run_for(rand 0.8);
    $redis->start;
    $crowd->run_for(0.2);
    $restarts++;
}


# nothing is held, neither in shared memory nor in Redis

sub freed {
    my ($when) = @_;

    my @names = qw(llm_slots_in_use llm_slots_waiting
        llm_ledger_tickets_used);

    for my $t (@both) {
        for my $name (@names) {
            $t->becomes($name, 0, "$when: $name is 0");
        }
    }

    ok $x->until(sub { $mock->stats->{in_flight} == 0 }, 10),
        "$when: the provider has nothing to do";

    # within the life of a gateway's word at the latest
    my ($held, $foreign);

    ok $x->until(sub {
        ($held, $foreign) = $redis->shares;
        return $held == 0;
    }, 20), "$when: no slot is held in Redis" or diag($held);

    is $foreign, '', "$when: only the living have shares";
}


# Requests and money of the day, in millionths of a dollar, as Redis has them.
# It is told with the next batches, until nothing changes.

sub tallies {
    my (%requests, %money);
    my ($before, $since) = ('', 0);

    my $still = $x->until(sub {
        my $now = '';

        for my $team ($crowd->teams) {
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


# What Redis has is what the provider billed.  Of whom the end is unknown, for
# his worker died, may have paid anything up to an answer.  "loss" may be
# missing where Redis has forgotten.

sub money {
    my ($when, $loss) = @_;

    my ($requests, $money) = tallies();
    my ($reached) = $crowd->records;
    my $bill = $crowd->billed;
    my ($killed, $at_kill) = @$crowd{qw(killed at_kill)};
    my ($completed, $broken, $left) = @$crowd{qw(completed broken left)};
    my ($paid, $unknown, $dead) = (0, 0, 0);

    for my $team ($crowd->teams) {
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

        cmp_ok $more, '<=', $killed * $crowd->slots($team) + $hasty,
            "$when: $team: and no more than died with their workers: $more";
    }

    for my $team (sort keys %cost) {
        my $gone = keys(%{$reached->{$team}}) - $completed->{$team};
        my $least = $cost{$team} * $completed->{$team}
            + 100 * ($extra{$team} // 0);
        my $most = $least + $cost{$team} * $gone * 1.05
            + 50 * $killed * $crowd->slots($team);

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
            $hub->team($team, $crowd->team($team),
                budget => { usd => $usd, period => 'day' });
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

    # Each worker follows the file by itself: some may still have the old
    # limits when others have the new ones.

    for my $t (@both) {
        my %old = map { my $pid = $_; map { ("$_ $pid" => 1) } @teams }
            $t->workers;

        ok $x->until(sub {
            for my $team (@teams) {
                my $r = $t->chat('<told>', key => "$team-1", model => 'told',
                    port => $t->port('PORT_BOTH'), body => { max_tokens => 1 });

                next if $r->status != 200;
                $extra{$team}++;
                delete $old{"$team " . $r->header('x-pid')};
            }

            return !%old;
        }, 10), "$when: and the budget is as it was, for all workers"
            or diag(join ', ', sort keys %old);
    }
}


sub hang {
    my ($team) = @_;

    my $n = ++$crowd->{sent};

    return $both[$n % 2]->start_chat("<all-$n>", key => "$team-"
        . (1 + $n % 3), model => $team, timeout => 60);
}


# who has what, when it is not as it should be

sub standing {
    my $text = 'in flight: ' . $mock->stats->{in_flight} . "\n";

    for my $t (@both) {
        $text .= join(', ', map { "$_ " . $t->metric($_) } qw(llm_slots_in_use
            llm_slots_waiting llm_ledger_tickets_used)) . "\n";
    }

    for my $key (sort @{$redis->command(KEYS => '{llm}:s:*')}) {
        my %share = @{$redis->command(HGETALL => $key)};
        $text .= "$key: " . join(', ', map { "$_: $share{$_}" }
            sort keys %share) . "\n";
    }

    return $text;
}
