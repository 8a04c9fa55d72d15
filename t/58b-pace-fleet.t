#!/usr/bin/perl

# What providers told one gateway of their limits, the other one knows: a
# cool-down is kept by both, also for targets and models that the other one
# has never asked for, a limit that begins anew is seldom hit by both at 150 %
# of it, and without Redis each gateway goes on by itself.  TEST_LLM_LONG=120
# makes it longer.
#
# Alone: a provider's limit is held.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $seconds = $ENV{TEST_LLM_LONG} // 16;
my $seed = $ENV{TEST_LLM_SEED} // int rand 1 << 30;

srand $seed;
note "TEST_LLM_SEED=$seed, $seconds seconds";

my $alone = $ENV{TEST_LLM_ALONE};              # to see what it was without

my $rate = 1.5 * 20;                           # requests a second
my %window = (requests_per_minute => 40, window_ms => 2000);

my @gateways = map { Test::LLM->new(workers => 2) } 1, 2;
my ($one, $two) = @gateways;
my $hub = Test::LLM->new;
my $redis = $hub->redis;

$hub->key('user', requests_per_minute => 1_000_000, concurrency => 1000,
    tokens_per_minute => 1_000_000_000);

my %mock = map { $_ => $hub->mock } qw(cool window);

for my $t (@gateways) {
    $t->{tenants} = $hub->{tenants};
    $t->write('tenants.json', $hub->{tenants});
    $t->token(MOCK => $hub->token('MOCK'));
    $t->token(REDIS => $redis->url . ' timeout=500ms gateways=2')
        unless $alone;
    $t->gateway(
        location => 'llm_retry tries=3 base=50ms cap=1s budget=100 floor=9;',
        server => '%%BOTH%%' . join('', map { "
        location /llm/$_/ {
            internal;
            proxy_pass http://127.0.0.1:" . $mock{$_}->port . '/v1/;
            %%PROXY%%
        }' } sort keys %mock),
        routes => '
    llm_provider cool uri=/llm/cool/;
    llm_provider window uri=/llm/window/ pace=on window=on margin=2;
    llm_route cool cool:named;
    llm_route met-* cool;
    llm_route window window;
    llm_route * mock;',
    );
}

if (!$alone) {
    ok $hub->until(sub {
        @{$redis->command(ZRANGE => '{llm}:g', 0, -1)} == 2;
    }), 'both gateways are there';

    # any letter that each of them has read
    ok $hub->until(sub {
        $mock{cool}->script({ times => 1, status => 429,
            headers => { 'retry-after-ms' => '250' } }, {});
        $one->chat('<first>', model => 'cool');
        return cooled($two) > 0;
    }, 20), 'letters are read';

    cool_downs('cool', 'a target');
    cool_downs('met-x', 'a model that only the one has met');
}

too_much();

if (!$alone) {
    nobody_between();
}

done_testing;


sub cooled {
    my ($t) = @_;
    my $n = $t->metric('llm_target_cooldowns_total');
    return $n < 0 ? 0 : $n;
}


# the one is told to wait for two seconds, so the other one does not ask

sub cool_downs {
    my ($model, $what) = @_;

    my $mock = $mock{cool};
    my $before = cooled($two);

    $mock->script({ times => 1, status => 429,
        headers => { 'retry-after' => '2' } }, {});

    my $start = time;
    my $r = $one->start_chat("<$model-one>", model => $model);

    ok $hub->until(sub { cooled($two) > $before }),
        "$what: the other gateway knows of it";
    my $knew = time - $start;

    my $other = $two->start_chat("<$model-two>", model => $model);
    $_->wait for $r, $other;

    is $other->status, 200, "$what: its request is answered";
    is $other->header('x-llm-attempts'), 1, '... by its first attempt';
    is $r->header('x-llm-attempts'), 2, '... and the other one by its second';
    is $mock->stats->{requests}, 3, '... so nobody asked in between';

    my ($first, $next) = $mock->arrivals;
    my $pause = $next - $first;
    cmp_ok $pause, '>', 1900, "... for two seconds ($pause ms)";

    note sprintf 'known to the other one after %.0f ms', 1000 * $knew;
}


# in an open loop, at both

sub too_much {
    my $mock = $mock{window};
    my ($due, $sent, @all) = (0, 0);

    $mock->script({ limit => \%window, delay_ms => 20,
        delay_jitter_ms => 60 });
    is $_->chat('<told>', model => 'window')->status, 200, 'it is told'
        for @gateways;

    my $start = time;

    until ((my $now = time - $start) >= $seconds) {
        while ($due <= $now) {
            push @all, $gateways[rand 2]->start_chat('<window-' . ++$sent . '>',
                model => 'window', timeout => 90,
                headers => { 'x-request-timeout-ms' => '80000' });
            $due -= log(1 - rand) / $rate;
        }

        Test::LLM::HTTP->idle(0.004);
    }

    my $stats = $mock->stats;
    my $served = $stats->{requests} - $stats->{limited};

    diag sprintf '%d asked for in %d s, %d served, %d refused (%.1f %%)',
        $sent, $seconds, $served, $stats->{limited},
        100 * $stats->{limited} / $served;

    cmp_ok $served, '>=', 0.85 * 20 * ($seconds - 2),
        'what there is is used';
    cmp_ok $stats->{limited}, '<=', 0.05 * $served,
        'few are refused by the provider';

    if (!$alone) {
        my $letters = $redis->command(XINFO => 'STREAM', '{llm}:board');
        my %board = @$letters;
        cmp_ok $board{'entries-added'} // $board{length}, '<', 20 * $seconds,
            'letters are not many';
    }

    $_->close for grep { !$_->complete } @all;
    $_->all_back('at the end') for @gateways;
}


sub nobody_between {
    my $mock = $mock{cool};

    $redis->stop('KILL');

    my $before = cooled($two);

    $mock->script({ times => 1, status => 429,
        headers => { 'retry-after-ms' => '400' } }, {});

    my $r = $one->chat('<alone>', model => 'cool', key => 'user');
    is $r->status, 200, 'without Redis a gateway goes on';
    is cooled($two), $before, '... and the other one hears nothing';
    is $two->chat('<too>', model => 'cool')->status, 200,
        '... and goes on, too';
}
