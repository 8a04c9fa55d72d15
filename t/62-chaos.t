#!/usr/bin/perl

# Two hundred clients of all kinds, while workers are killed and nginx is
# reloaded: everybody has one outcome, all slots come back, and what was
# counted is what was done.  TEST_LLM_CHAOS=60 makes it longer.

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

my $t = Test::LLM->new(workers => 2);
my $crowd = Test::LLM::Crowd->new(gateways => [$t], is => {
    rated => [[json => {}], [stream => { stream => 1 }], [line => {}]] });

# the teams of the patient have the larger part of the provider's slots

$crowd->tenants($t);
$t->write('prices.json', { '*' => { input => 2, output => 4 } });

my $mock = $t->gateway(redis => 0, mock => ['--journal', 1_000_000],
    http => 'llm_prices %%DIR%%/prices.json;',
    routes => "llm_provider gate uri=/llm/mock/ concurrency=$slots;
        llm_route * gate;",
    server => 'listen 127.0.0.1:%%PORT_BOTH%% reuseport sndbuf=16k;',
    location => 'llm_retry tries=3 base=5ms;');

$t->allow(qr/\[alert\] .*exited on signal 9/, qr/\[alert\] .*locked by/,
    qr/\[alert\].*ledger, it is derived anew/);

$crowd->provider($mock);

my $end = time + $seconds;
my $reloads = 0;

$crowd->run_for(1);

while (time < $end) {
    if (rand() < 0.7) {
        $crowd->kill_one($t);

    } else {
        $t->reload;
        $reloads++;
    }

    $crowd->run_for(0.3 + rand 1.2);
}

$crowd->drain('chaos');

my ($sent, $killed) = @$crowd{qw(sent killed)};
my ($completed, $broken, $left) = @$crowd{qw(completed broken left)};

note "$sent clients, $killed kills, $reloads reloads; ", $crowd->tale;

cmp_ok $killed, '>', 1, 'workers were killed';
cmp_ok $completed->{whole}, '>', $sent * 0.2, 'and yet most was done';


# all is free

$t->all_back('chaos');
ok $t->until(sub { $mock->stats->{in_flight} == 0 }),
    'and the provider has nothing to do';

my ($reached, $done) = $crowd->records;
my $bill = $crowd->billed;


# as many at once as there are slots

$mock->script({ hang => \1 });

my $asked = 0;
my @all = map { my $team = $_; map { $t->start_chat('<all' . ++$asked . '>',
    key => "$team-" . (1 + $_ % 3), model => $team, timeout => 60) }
    1 .. $crowd->slots($team) } $crowd->teams;

ok $mock->wait(in_flight => $slots, timeout_ms => 10_000),
    'all slots of the provider can be had';
ok !$mock->wait(min_in_flight => $slots + 1, timeout_ms => 300),
    'and not one more';
is $t->metric('llm_slots_waiting'), $asked - $slots, 'the others wait';
$_->abort for @all;
$t->becomes('llm_ledger_tickets_used', 0, 'and are given back');

my ($again) = $crowd->records;
$mock->script();


# The day's tallies, told when the limit is one.  What was in flight when its
# worker died is counted although its end is not known: that is the only
# difference there may be.

my $file = 0;


sub tallies {
    my ($limits, $pattern) = @_;

    my ($same, %told) = (0);

    $t->team($_, %$limits) for $crowd->teams;
    $t->key('rated-1', team => 'rated');
    $t->key('sentinel', tokens_per_minute => ++$file);

    # in both workers, whichever it is that answers
    $t->until(sub {
        my $limit = $t->chat('<told>', key => 'sentinel', model => 'told',
            body => { max_tokens => 2_000_000_000 })
            ->header('x-ratelimit-limit-tokens');

        $same = ($limit // 0) == $file ? $same + 1 : 0;
        return $same == 30;
    }, 10) or diag('the tenants file is not in force');

    for my $team ($crowd->teams) {
        my $r = $t->chat('<told>', key => "$team-1", model => 'told',
            body => { max_tokens => 1 });
        ($told{$team}) = $r->body =~ $pattern or diag($r->body);
    }

    return %told;
}


my %requests = tallies({ requests_per_day => 1 }, qr/Used (\d+)/);
my %money = tallies({ budget => { usd => 0.000001, period => 'day' } },
    qr/\$([\d.]+) of/);

for my $team ($crowd->teams) {
    my $there = keys(%{$reached->{$team}}) + keys(%{$again->{$team}});
    my $more = $requests{$team} - $there;

    note "$team: $requests{$team} counted, $there at the provider, "
        . "\$$money{$team}";

    cmp_ok $more, '>=', 0,
        "$team: each that reached the provider is counted";
    cmp_ok $more, '<=', $killed * $crowd->slots($team),
        "$team: and no more than died with their workers: $more";
}

is +(grep { $_ > 1 } map { values %{$reached->{$_}} } qw(whole slow leave)),
    0, 'none was asked twice but for its errors';


# Money, in millionths.  Of whom the end is unknown, for his worker died, may
# have paid anything up to an answer; the last ones have paid their prompts.

my %cost = (whole => 100, slow => 240_020);
my ($paid, $unknown) = (0, 0);

$_ *= 1e6 for values %money;

for my $team (qw(whole slow)) {
    my $dead = keys(%{$reached->{$team}}) - $completed->{$team};
    my $least = $cost{$team} * $completed->{$team};
    my $most = $least + $cost{$team} * $dead * 1.05
        + 50 * $crowd->slots($team);

    cmp_ok $money{$team}, '>=', $least - 1,
        "$team: what was answered is paid";
    cmp_ok $money{$team}, '<=', $most, "$team: $money{$team}, "
        . "and but for $dead that died with a worker nothing more";
    cmp_ok abs($money{$team} - $cost{$team} * ($done->{$team} // 0)), '<=',
        $most - $least, "$team: as the provider billed it";

    $unknown += $most - $least;
}

cmp_ok $money{leave}, '>', 5 * keys %{$reached->{leave}},
    'who left has paid at least a prompt';
cmp_ok $money{leave}, '<', 150 * $requests{leave},
    'and hardly more than an answer';
cmp_ok $money{fault}, '>=', 100 * $completed->{fault} - 1,
    'who got an answer has paid';
cmp_ok $money{fault}, '<=', 100 * keys(%{$reached->{fault}}) + 500,
    'and nobody for more than an answer';

# estimates of who left are right within a tenth, and by a prompt each

$unknown += 0.1 * ($money{leave} + $money{fault})
    + 20 * ($left->{leave} + $broken->{leave} + $broken->{fault});
$paid += $_ for values %money;

note sprintf 'paid %.0f, billed %.0f', $paid, $bill;
cmp_ok abs($paid - $bill), '<=', $unknown,
    'all in all the provider\'s bill is ours';

done_testing;
