#!/usr/bin/perl

# Pacing: two gateways of four workers ask for 95 % of what providers with a
# true limit of 600 a minute allow, whose buckets are empty when it begins.
# Not one 429 is given: the headers were read, and who is too much waits.
# TEST_LLM_LONG=120 makes it longer.
#
# Alone: a provider's limit is held.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $seconds = $ENV{TEST_LLM_LONG} // 20;
my $seed = $ENV{TEST_LLM_SEED} // int rand 1 << 30;

srand $seed;
note "TEST_LLM_SEED=$seed, $seconds seconds";

my $rate = 0.95 * 10;

# A window of four seconds has as much as four seconds of a bucket.  "left" is
# what the bucket has when it begins, "lump" how many ask at once then.

my @flows = (
    { name => 'openai', left => 3, lump => 15, style => 'openai',
      limit => { requests_per_minute => 600, burst => 600 } },
    { name => 'azure', left => 3, lump => 15, style => 'azure',
      limit => { requests_per_minute => 600, burst => 600 } },
    { name => 'window', style => 'openai', options => ' window=on',
      limit => { requests_per_minute => 40, window_ms => 4000 } },
);

# whoever has the mocks and Redis is the last to be stopped

my @gateways = map { Test::LLM->new(workers => 4) } 1, 2;
my $hub = Test::LLM->new;
my $redis = $hub->redis;

$hub->key('user', requests_per_minute => 1_000_000, concurrency => 1000,
    tokens_per_minute => 1_000_000_000);

for my $flow (@flows) {
    $flow->{mock} = $hub->mock('--journal', int(2000 + 20 * $seconds));
    $flow->{mock}->script({ limit => $flow->{limit},
        limit_headers => $flow->{style}, delay_ms => 20,
        delay_jitter_ms => 30 });
}

for my $t (@gateways) {
    $t->{tenants} = $hub->{tenants};
    $t->write('tenants.json', $hub->{tenants});
    $t->token(MOCK => $hub->token('MOCK'));
    $t->token(REDIS => $redis->url . ' timeout=500ms gateways=2');
    $t->gateway(
        location => 'llm_retry tries=3 base=50ms cap=1s budget=20 floor=1;',
        server => '%%BOTH%%' . join('', map { "
        location /llm/$_->{name}/ {
            internal;
            proxy_pass http://127.0.0.1:" . $_->{mock}->port . '/v1/;
            %%PROXY%%
        }' } @flows),
        routes => join("\n    ", map {
            "llm_provider $_->{name} uri=/llm/$_->{name}/ pace=on margin=4"
                . ($_->{options} // '') . ";
    llm_route $_->{name} $_->{name};" } @flows) . "\n    llm_route * mock;",
    );
}

ok $hub->until(sub {
    @{$redis->command(ZRANGE => '{llm}:g', 0, -1)} == 2;
}), 'both gateways are there';


# somebody else has emptied the bucket, and both gateways could know

for my $flow (@flows) {
    if ($flow->{left}) {
        my $mock = $flow->{mock};

        while ((my $n = $mock->stats->{remaining} - $flow->{left}) > 0) {
            my @r = map { $hub->start_chat('drain', port => $mock->port) }
                1 .. ($n > 50 ? 50 : $n);
            $_->wait for @r;
        }
    }

    is $_->chat("<$flow->{name}-told>", model => $flow->{name})->status, 200,
        "$flow->{name}: a gateway is told" for @gateways;

    $flow->{before} = $flow->{mock}->stats->{limited};
}


# in an open loop, each request at a time of its own

my $start = time;

for my $flow (@flows) {
    my $lump = $flow->{lump} // 0;

    send_one($flow, 0) for 1 .. $lump;
    $flow->{due} = next_due($lump / $rate);
}

until ((my $now = time - $start) >= $seconds) {
    for my $flow (@flows) {
        while ($flow->{due} <= $now) {
            send_one($flow, $now);
            $flow->{due} = next_due($flow->{due});
        }
    }

    Test::LLM::HTTP->idle(0.004);
}

for my $flow (@flows) {
    $_->{r}->wait for @{$flow->{all}};
}

judge($_) for @flows;

for my $t (@gateways) {
    my %seen = map { ($_->{r}->header('x-pid') // 0) => 1 }
        grep { $_->{t} == $t } map { @{$_->{all}} } @flows;
    is scalar(keys %seen), 4, 'all workers of a gateway took part';
    $t->all_back('at the end');
}

done_testing;


# requests that know nothing of each other

sub next_due {
    my ($due) = @_;
    return $due - log(1 - rand) / $rate;
}


sub send_one {
    my ($flow, $now) = @_;

    my $t = $gateways[rand 2];
    my $text = "<$flow->{name}-" . ++$flow->{sent} . '>';

    push @{$flow->{all}}, { t => $t, at => $now,
        r => $t->start_chat($text, model => $flow->{name}, timeout => 60,
            port => $t->port('PORT_BOTH'),
            headers => { Connection => 'close' }) };
}


sub judge {
    my ($flow) = @_;

    my $name = $flow->{name};
    my @all = @{$flow->{all}};
    my $stats = $flow->{mock}->stats;
    my @took = sort { $a <=> $b } map { $_->{r}->end // 60 } @all;

    diag(sprintf '%s: %d requests in %d s, half of them in %.2f s, '
        . '99 %% in %.2f s; %d left', $name, scalar(@all), $seconds,
        $took[@took / 2], $took[0.99 * @took], $stats->{remaining});

    cmp_ok scalar(@all), '>=', 0.7 * $rate * $seconds,
        "$name: they asked for nearly the limit";
    is $stats->{limited} - $flow->{before}, 0,
        "$name: not one 429 from the provider";
    is scalar(grep { ($_->{r}->status // 0) != 200 || !$_->{r}->complete }
        @all), 0, "$name: each is answered";
    is scalar(grep { ($_->{r}->header('x-llm-attempts') // 0) != 1 } @all), 0,
        "$name: at the first attempt";

    # at 95 % a request waits for a second or so, more after a lump
    cmp_ok $took[@took / 2], '<', 5, "$name: half wait for a short time";
    cmp_ok $took[0.99 * @took], '<', 15, "$name: none waits for long";
}
