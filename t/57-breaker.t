#!/usr/bin/perl

# The breaker and the retry budget: a provider that answers nothing but 503
# for a while is not hit harder than before, is soon left alone, and has its
# full traffic back soon after it is well.  A tenth of the real times;
# TEST_LLM_LONG=60: these.
#
# Alone: rates are measured.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $ill = $ENV{TEST_LLM_LONG} // 6;     # seconds
my $eject = $ill / 2;       # for the first time, the second is twice as long
my $window = $ill / 6;
my $rate = 40;              # requests per second
my $budget = 20;            # % of the first attempts
my $floor = 1;              # retries per second
my $credit = 10;            # retries that a pause may save up

my $t = Test::LLM->new(workers => 4);
my $mock = $t->mock('--journal', 20000);
my $backup = $t->mock('--journal', 20000);

$t->key('user', requests_per_minute => 1_000_000, concurrency => 1000);
$t->token(BREAKER => breaker());
$t->gateway(
    redis => 0,
    location => "llm_retry tries=3 base=20ms cap=100ms budget=$budget
                           floor=$floor;
            %%BREAKER%%",
    server => 'location /llm/backup/ {
            internal; proxy_pass http://%%MOCK2%%/v1/; %%PROXY%%
        }',
    routes => 'llm_provider backup uri=/llm/backup/;
    llm_route budget mock:budget;
    llm_route counted mock:counted;
    llm_route fresh mock:fresh;
    llm_route alone mock:alone;
    ' . join("\n    ", map { "llm_route $_ mock:$_ backup:$_;" }
        qw(two two-cool two-reload two-panic)),
);

my @all;


# one target, without a breaker: the budget alone

$t->token(BREAKER => 'llm_breaker consecutive=0 ratio=0;');
$t->reload($t->{template});

my $denied = total('llm_retry_denied_total');
play('budget', 2, { fail_for_ms => 2000, status => 503 });
within_budget('budget', 2);
cmp_ok total('llm_retry_denied_total'), '>', $denied,
    'budget: retries were denied';
is scalar(grep { $_->{r}->status == 200 && $_->{at} < 1.5 } @all), 0,
    'budget: no retry can help';

# what clients try again by themselves is taken from it, too

my %calls;

for my $model (qw(counted fresh)) {
    $mock->script;
    $t->chat("$model $_", model => $model, headers => {
        'x-stainless-retry-count' => $model eq 'counted' ? 1 : 0 }) for 1 .. 40;

    $mock->script({ status => 503 });
    $t->chat("$model spent $_", model => $model) for 1 .. 6;
    $calls{$model} = $mock->stats->{requests};
}

note "calls for 6 requests: $calls{counted} and $calls{fresh}";
cmp_ok $calls{fresh}, '>=', 6 + 8, 'clients: first attempts have saved some up';
cmp_ok $calls{counted}, '<=', 6 + 4, 'clients: their own retries have not';

$t->token(BREAKER => breaker());
$t->reload($t->{template});


# one target

my $opened = play('alone', $ill + 2 * $eject,
    { fail_for_ms => $ill * 1000, status => 503, delay_ms => 100 });

within_budget('alone', $ill);
open_in_time('alone', $opened);
back('alone', sub { $_[0]->status == 200 });
is state('alone'), 0, 'alone: the breaker is closed again';


# two targets: the other one serves meanwhile, and all are served

$backup->script;
$opened = play('two', $ill + 2 * $eject,
    { fail_for_ms => $ill * 1000, status => 503, delay_ms => 100 });

open_in_time('two', $opened);
is scalar(grep { $_->{r}->status != 200 } @all), 0, 'two: all are served';
back('two', sub { $_[0]->header('x-llm-provider') eq 'mock' });
is state('two'), 0, 'two: the breaker is closed again';

# one probe, whatever the number of workers: half a second after it opened
# all that was under way has ended

my $from = ($opened // 2) * 1000 + 500;
my @probes = grep { $_ > $from && $_ < $ill * 1000 } $mock->arrivals;
cmp_ok scalar(@probes), '<=', 2, 'two: hardly a call while it is ejected';
cmp_ok scalar(@probes), '>=', 1, 'two: but a probe';
cmp_ok $probes[0] // 0, '>=', 1000 * $eject - 100,
    'two: when its first time is over';


# a 429 is no failure: a cool-down, and no ejection

my $ejections = total('llm_target_ejections_total');
$backup->script;
$mock->script({ times => 8, status => 429,
    headers => { 'retry-after-ms' => '1500' } });

my $start = time;
is $t->chat('limited', model => 'two-cool')->status, 200,
    'cool: the other target serves';
my $calls = $mock->stats->{requests};
is $t->chat("cool $_", model => 'two-cool')->header('x-llm-provider'),
    'backup', 'cool: and goes on to' for 1 .. 10;
my $took = time - $start;

SKIP: {
    skip "too slow: $took", 1 if $took > 1.2;
    is $mock->stats->{requests}, $calls, 'cool: the first is left alone';
}

is total('llm_target_ejections_total'), $ejections, 'cool: none is ejected';
is state('two-cool'), 0, 'cool: its breaker is closed';


# what is known survives a reload

$mock->script({ status => 503 });
$t->chat("reload $_", model => 'two-reload') for 1 .. 10;
is state('two-reload'), 1, 'reload: open';
$t->reload;
is state('two-reload'), 1, 'reload: open in the new workers';

$calls = $mock->stats->{requests};
$start = time;
is $t->chat('after', model => 'two-reload')->status, 200, 'reload: served';
$took = time - $start;

SKIP: {
    skip "too slow: $took", 1 if $took > 1.5;
    is $mock->stats->{requests}, $calls, 'reload: it is still left alone';
}


# when all are ill none is left out

$_->script({ status => 503 }) for $mock, $backup;
$t->chat("panic $_", model => 'two-panic') for 1 .. 20;
$_->reset for $mock, $backup;
my @r = map { $t->chat("all $_", model => 'two-panic') } 1 .. 20;
is scalar(grep { $_->status == 503 && $_->json->{error}{message} } @r), 20,
    'panic: an error of ours or theirs';
cmp_ok $mock->stats->{requests} + $backup->stats->{requests}, '>=', 1,
    'panic: somebody is asked';
$_->script for $mock, $backup;
ok $t->until(sub { $t->chat('well', model => 'two-panic')->status == 200 },
    2 * $eject), 'panic: it ends with the illness';

$t->all_back('at the end');

done_testing;


sub breaker {
    return "llm_breaker consecutive=5 ratio=50 window=${window}s "
        . "eject=${eject}s max_eject=5m;"
}


# Requests at a constant rate while the script is played; gives the second at
# which the breaker opened.  What came of each is in @all.

sub play {
    my ($model, $seconds, @rules) = @_;

    my ($opened, $sent, $looked) = (undef, 0, 0);

    @all = ();
    $mock->script(@rules);

    my $start = time;

    while ((my $now = time - $start) < $seconds) {
        for ( ; $sent < $now * $rate; $sent++) {
            push @all, { at => $now, r => $t->start_chat("$model $sent",
                model => $model, timeout => 20) };
        }

        if (!defined $opened && $now > $looked + 0.05) {
            $looked = $now;
            $opened = time - $start if state($model) == 1;
        }

        Test::LLM::HTTP->idle(0.005);
    }

    $_->{r}->wait for @all;

    is scalar(grep { !$_->{r}->complete || $_->{r}->status !~ /^(?:200|503)$/ }
        @all), 0, "$model: each has a whole answer, 200 or 503";

    return $opened;
}


# no more attempts than that while the provider is ill; requests that were
# sent shortly before its end may arrive after it

sub within_budget {
    my ($name, $seconds) = @_;

    my $requests = grep { $_->{at} < $seconds } @all;
    my $attempts = grep { $_ < $seconds * 1000 } $mock->arrivals;
    my $most = (1 + $budget / 100) * $requests + $floor * $seconds + $credit;

    diag(sprintf '%s: %d attempts for %d requests, at most %d', $name,
        $attempts, $requests, $most);
    cmp_ok $attempts, '<=', $most, "$name: attempts are within the budget";
    cmp_ok $attempts, '>', 0, "$name: and there were some";
}


sub open_in_time {
    my ($name, $opened) = @_;

    diag(sprintf '%s: the breaker opened after %s s', $name,
        $opened // 'never');
    cmp_ok $opened // 99, '<=', 2, "$name: the breaker opens within 2 s";
    cmp_ok total('llm_target_ejections_total'), '>', 0,
        "$name: and counts it";
}


# all that were sent from one ejection time after the illness on are good

sub back {
    my ($name, $good) = @_;

    my ($last) = sort { $b <=> $a } map { $_->{at} }
        grep { !$good->($_->{r}) } @all;

    diag(sprintf '%s: full traffic is back after %.2f s', $name,
        ($last // 0) - $ill);
    cmp_ok $last // 0, '>', 0.02, "$name: the illness was noticed";
    cmp_ok +($last // 0) - $ill, '<=', 2 * $eject - 1 / $rate,
        "$name: full traffic is back within one ejection time";
    cmp_ok scalar(grep { $_->{at} > $ill && $good->($_->{r}) } @all), '>',
        $rate / 2, "$name: and was seen to be";
}


# 0: well, 1: ejected, 2: a probe is under way

sub state {
    my ($model) = @_;
    return $t->metric("llm_target_state{target=\"mock:$model\"}");
}


# over all its labels

sub total {
    my ($name) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;
    my $sum = 0;

    $sum += $1 while $page =~ /^\Q$name\E(?:\{[^}]*\})? (\d+)$/mg;

    return $sum;
}
