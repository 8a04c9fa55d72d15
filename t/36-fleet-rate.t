#!/usr/bin/perl

# Two gateways of two workers, one Redis, three times as much as a limit
# allows, in an open loop: what gets through is the limit, in exact mode to
# the request, in leased mode within the stated bound.  All flows run at the
# same time.  TEST_LLM_LONG=600 makes it longer.
#
# Alone: rates are measured.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Time::HiRes qw(time);

use Test::LLM;


my $seconds = $ENV{TEST_LLM_LONG} // 20;
my $seed = $ENV{TEST_LLM_SEED} // int rand 1 << 30;

srand $seed;
note "TEST_LLM_SEED=$seed, $seconds seconds";

# An answer is 30 tokens, so each limit lets ten requests a second through.
# A chunk is the rate, times "ahead", over the gateways.

my @flows = (
    { name => 'exact', mode => 'exact', unit => 1, burst => 10, rate => 10,
      more => 0, least => 0.99, limit => { requests_per_minute => 600,
      burst_requests => 10 } },
    { name => 'tokens', mode => 'exact', unit => 30, burst => 300,
      rate => 300, more => 30, least => 0.99, limit => {
      tokens_per_minute => 18_000, burst_tokens => 300 } },
    { name => 'leased', mode => 'leased', unit => 1, burst => 10,
      rate => 10, more => 2 * 5, least => 0.95, limit => {
      requests_per_minute => 600, burst_requests => 10 } },

    # for a while there is enough left to be given ahead
    { name => 'ahead', mode => 'leased', unit => 1, burst => 100,
      rate => 10, more => 2 * 5, least => 0.95, limit => {
      requests_per_minute => 600, burst_requests => 100 } },
);

# whoever has the mock and Redis is the last to be stopped

my %fleet = map { $_ => [map { Test::LLM->new(workers => 2) } 1, 2] }
    qw(exact leased);
my $hub = Test::LLM->new;
my $mock = $hub->mock('--journal', 200 * $seconds);
my %redis = map { $_ => $hub->redis(name => "redis-$_") } keys %fleet;

for my $flow (@flows) {
    $hub->team("team-$flow->{name}", requests_per_minute => 1200,
        burst_requests => 200, tokens_per_minute => 100_000);
    $hub->key($flow->{name}, team => "team-$flow->{name}", %{$flow->{limit}});
}

$hub->key('warm', team => 'warm', requests_per_day => 1_000_000_000);
$hub->key('many', team => 'many', requests_per_minute => 100_000_000,
    tokens_per_minute => 10_000_000_000, requests_per_day => 1_000_000_000);

for my $mode (keys %fleet) {
    for my $t (@{$fleet{$mode}}) {
        $t->{tenants} = $hub->{tenants};
        $t->write('tenants.json', $hub->{tenants});
        $t->token(MOCK => $hub->token('MOCK'));
        $t->token(REDIS => $redis{$mode}->url . " limits=$mode ahead=1s "
            . 'timeout=500ms gateways=2');
        $t->gateway(location => 'llm_retry tries=1;', server => '%%BOTH%%');
    }

    ok $hub->until(sub {
        @{$redis{$mode}->command(ZRANGE => '{llm}:g', 0, -1)} == 2;
    }), "$mode: both gateways are there";
}


# each worker has had a request before it counts

for my $mode (keys %fleet) {
    for my $t (@{$fleet{$mode}}) {
        for my $pid ($t->workers) {
            is $t->on($pid, 'warm', key => 'warm')->wait, 1, 'a worker serves';
        }
    }
}


my $start = time;

until (time >= $start + $seconds) {
    for my $flow (@flows) {
        my $due = int((time - $start) * 30);
        $due = $seconds * 30 - 1 if $due >= $seconds * 30;

        send_one($flow) while ($flow->{sent} // 0) <= $due;
    }

    Test::LLM::HTTP->idle(0.004);
}

for my $flow (@flows) {
    $_->{r}->wait for @{$flow->{all}};
}


my $reached = reached();

judge($_) for @flows;

for my $mode (sort keys %fleet) {
    for my $t (@{$fleet{$mode}}) {
        my %seen = map { ($_->{r}->header('x-pid') // 0) => 1 }
            map { grep { $_->{t} == $t } @{$_->{all}} } @flows;
        is scalar(keys %seen), 2, "$mode: both workers of a gateway took part";
    }
}


# leased: few commands, when the limit is far

my $x = $fleet{leased}[0];

load(1);
my $before = commands();
$start = time;
my $done = load(3);
my $took = time - $start;
my $after = commands();

is $done->{errors}{status}, 0, 'many: none is refused';
is $done->{ok}, $done->{requests}, 'and each has its answer';

my $sent = $after->{own} - $before->{own};
diag(sprintf 'leased, 32 connections: %d requests a second, %.4f Redis '
    . 'commands per request (%.1f a second; %.4f with those inside of '
    . 'scripts)', $done->{requests} / $took, $sent / $done->{requests},
    $sent / $took, ($after->{all} - $before->{all}) / $done->{requests});

# a machine that is busy with other things does not reach the full load
my $most = 0.1 * $done->{requests};
$most = 75 * $took if $most < 75 * $took;
cmp_ok $sent, '<=', $most, 'leased: at most a command for ten requests';

for my $mode (keys %fleet) {
    for my $t (@{$fleet{$mode}}) {
        unlike $t->log, qr/keeps to one part/, "$mode: none was alone";
    }
}

done_testing;


sub send_one {
    my ($flow) = @_;

    my $t = $fleet{$flow->{mode}}[rand 2];
    my $text = "<$flow->{name}-" . ++$flow->{sent} . '>';
    my $now = time;

    push @{$flow->{all}}, { t => $t, text => $text, at => $now,
        r => $t->start_chat($text, key => $flow->{name}, timeout => 30,
            port => $t->port('PORT_BOTH'), body => { max_tokens => 20 },
            headers => { Connection => 'close' }) };
}


# what the provider saw: how often each text

sub reached {
    my ($r) = Test::LLM::HTTP->all({ port => $mock->port, timeout => 60,
        path => '/__mock/journal' });
    my %reached;

    $reached{$_}++ for $r->body =~ /"content\\":\s*\\"(<[\w-]+>)/g;

    return \%reached;
}


sub judge {
    my ($flow) = @_;

    my ($name, $unit) = @$flow{qw(name unit)};
    my @all = @{$flow->{all}};
    my @in = grep { ($_->{r}->status // 0) == 200 } @all;
    my @out = grep { ($_->{r}->status // 0) == 429 } @all;

    is scalar(@all), $seconds * 30, "$name: all were sent";
    is scalar(grep { !$_->{r}->complete || defined $_->{r}->error } @all), 0,
        "$name: each has exactly one whole answer";
    is @in + @out, scalar(@all), "$name: admitted or refused";
    is scalar(grep { $_->{r}->json->{error}{code} ne 'rate_limit_exceeded' }
        @out), 0, "$name: refused for the rate";

    is scalar(grep { ($reached->{$_->{text}} // 0) != 1 } @in), 0,
        "$name: who was admitted was so once";
    is scalar(grep { $reached->{$_->{text}} } @out), 0,
        "$name: who was refused was not admitted";

    # the longest and the shortest time that it can have taken

    my ($first, $last) = ($all[0]{at}, $all[-1]{at});
    my ($end) = sort { $b <=> $a } map { $_->{at} + $_->{r}->end } @all;
    my $used = $unit * @in;
    my $least = $flow->{burst} + $flow->{rate} * ($last - $first);
    my $most = $flow->{burst} + $flow->{rate} * ($end - $first)
        + $flow->{more};
    my $gap = 0;

    for my $i (1 .. $#all) {
        my $n = $all[$i]{at} - $all[$i - 1]{at};
        $gap = $n if $n > $gap;
    }

    diag(sprintf '%s: %d of %d admitted in %.2f s: %.2f %% of %.1f, at most '
        . '%.1f', $name, scalar(@in), scalar(@all), $last - $first,
        100 * $used / $least, $least, $most);

    cmp_ok $used, '<=', $most, "$name: within burst and rate";

    # a client that was held up for long has not asked for all
    cmp_ok $used, '>=', $flow->{least} * $least - lost($flow, $gap),
        "$name: and hardly less (the longest pause was $gap s)";

    cmp_ok worst($flow, @in), '<=', $flow->{burst} + $flow->{more},
        "$name: at any time";
}


# A bucket that is empty after a pause of the client has leaked in vain.

sub lost {
    my ($flow, $gap) = @_;

    my $full = $flow->{burst} / $flow->{rate};

    return $gap > $full ? ($gap - $full) * $flow->{rate} : 0;
}


# The most that was admitted within any time, less what leaked meanwhile: each
# was admitted after it was sent and before its answer was there.

sub worst {
    my ($flow, @in) = @_;

    my $worst = 0;
    my @end = map { $_->{at} + $_->{r}->end } @in;

    for my $i (0 .. $#in) {
        my $used = 0;
        my $from = $in[$i]{at};
        my $to = $from;

        for my $k ($i .. $#in) {
            last if $in[$k]{at} > $from + 20;
            $used += $flow->{unit};
            $to = $end[$k] if $end[$k] > $to;

            my $more = $used - $flow->{rate} * ($to - $from);
            $worst = $more if $more > $worst;
        }
    }

    return $worst;
}


# a closed loop through one gateway

sub load {
    my ($duration) = @_;

    my $out = "load-$duration";
    my $pid = $hub->spawn($out, "$hub->{build}/load", '-c', 32,
        '-d', $duration, '-H', 'Authorization: Bearer ' . $hub->secret('many'),
        'http://127.0.0.1:' . $x->port('PORT_BOTH')
        . '/v1/chat/completions');

    $hub->await($pid, $duration + 30);

    return decode_json($hub->read("$out.out"));
}


# what clients sent to Redis, and with what their scripts did

sub commands {
    my $info = $redis{leased}->command('INFO', 'everything');
    my %calls = $info =~ /cmdstat_(\S+?):calls=(\d+)/g;
    my ($all) = $info =~ /total_commands_processed:(\d+)/;
    my $own = 0;

    for my $name (grep { /^(?:evalsha|eval|ping|script|client|select)/ }
        keys %calls)
    {
        $own += $calls{$name};
    }

    return { own => $own, all => $all };
}
