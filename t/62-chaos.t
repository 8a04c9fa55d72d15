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


my $seconds = $ENV{TEST_LLM_CHAOS} // 20;
my $seed = $ENV{TEST_LLM_SEED} // int rand 1 << 30;
my $clients = 200;

srand $seed;
note "TEST_LLM_SEED=$seed, $seconds seconds";

my $t = Test::LLM->new(workers => 2);

# Each kind of client has a team of its own, so that its day can be checked.
# The teams of the patient have the larger part of the provider's slots.

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

for my $name (keys %team) {
    $t->team($name, %{$team{$name}}, %day);
    $t->key("$name-$_", team => $name, concurrency => 6,
        queue => { size => 400, timeout_ms => 30_000 }) for 1, 2, 3;
}

# these wait for their rate, too

$t->key("rated-$_", team => 'rated', requests_per_minute => 600,
    burst_requests => 5, queue => { size => 400, timeout_ms => 30_000,
    rates => \1 }) for 1, 2, 3;

# an answer is 10 * 2 + 20 * 4 = 100 millionths of a dollar; the long ones of
# the slow clients have 60000 tokens in 240000 bytes

$t->write('prices.json', { '*' => { input => 2, output => 4 } });

my $mock = $t->gateway(redis => 0, mock => ['--journal', 1_000_000],
    http => 'llm_prices %%DIR%%/prices.json;',
    routes => "llm_provider gate uri=/llm/mock/ concurrency=$slots;
        llm_route * gate;",
    server => 'listen 127.0.0.1:%%PORT_BOTH%% reuseport sndbuf=16k;',
    location => 'llm_retry tries=3 base=5ms;');

$t->allow(qr/\[alert\] .*exited on signal 9/, qr/\[alert\] .*locked by/,
    qr/\[alert\].*ledger, it is derived anew/);

my %is = (
    whole => [
        [json => {}],
        [stream => { stream => 1 }],
    ],
    slow  => [
        [slow => { stream => 1, rcvbuf => 4096 }],
    ],
    rated => [
        [json => {}],
        [stream => { stream => 1 }],
        [line => {}],
    ],
    leave => [
        [leaves => { stream => 1 }],
        [leaves => {}],
        [line => { stream => 1 }],
    ],
    fault => [
        [json => {}],
        [stream => { stream => 1 }],
    ],
);

my @kinds = (('whole') x 20, ('slow') x 6, ('leave') x 8, ('fault') x 6,
    'rated');

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

my (%metric, @live, %outcome, %bad, %left);
my ($sent, $killed, $reloads) = (0, 0, 0);
my %completed = map { $_ => 0 } keys %team;
my %broken = map { $_ => 0 } keys %team;


sub metric {
    my ($name) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body
        // '';

    return $page =~ /^\Q$name\E (\d+)$/m ? $1 : -1;
}


# a new client; the slow ones are where the socket's buffer is no help

sub client {
    my $team = $kinds[rand @kinds];
    my ($kind, $spec) = @{$is{$team}[rand @{$is{$team}}]};
    my %spec = %$spec;

    $spec{port} = $t->port('PORT_BOTH') if $kind eq 'slow' || rand() < 0.5;
    $spec{headers} = { Connection => 'close' } if rand() < 0.3;

    my $r = $t->start_chat('<' . ++$sent . '>', key => "$team-"
        . (1 + int rand 3), model => $team, timeout => 60,
        body => { max_tokens => 20 }, %spec);

    return { r => $r, team => $team, kind => $kind, began => time,
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

    my $r = $c->{r};
    my $status = $r->status // 0;

    $outcome{$c->{team}}++;

    if ($c->{left}) {
        $left{$c->{team}}++;

    } elsif (!defined $r->error && $r->complete && $status == 200) {
        my $whole = $r->header('content-type') =~ /event-stream/
            ? ($r->data)[-1] eq '[DONE]' : defined $r->json->{usage};

        $whole ? $completed{$c->{team}}++ : $broken{$c->{team}}++;
        $bad{'an answer that is not whole'}++
            if !$whole && $c->{team} ne 'fault';

    } elsif (!defined $r->error && $r->complete) {
        # the mock's errors get through to "fault" alone
        $bad{"$c->{team}: status $status"}++ if $c->{team} ne 'fault';
        $broken{$c->{team}}++;

    } elsif (($r->error // '') eq 'timeout') {
        $bad{"$c->{team}: no outcome"}++;

    } else {
        # cut: by the mock, or with its worker
        $broken{$c->{team}}++;
    }
}


my $start = time;
my $next = $start + 1;
my $open = 1;

sub run {
    my ($done) = @_;

    return $t->until(sub {
        live($_) for grep { !defined $_->{r}->end } @live;
        ended($_) for grep { defined $_->{r}->end } @live;
        @live = grep { !defined $_->{r}->end } @live;

        return 1 if $done->();
        push @live, client() while $open && @live < $clients;
        return 0;
    }, 90);
}


while (time - $start < $seconds) {
    run(sub { time > $next });

    if (rand() < 0.7) {
        my @workers = $t->workers(1);
        my $pid = $workers[rand @workers];

        # a draining one is not replaced
        if (grep { $_ == $pid } $t->workers) {
            $t->kill_worker('KILL', $pid);

        } else {
            kill 'KILL', $pid;
        }

        $killed++;

    } else {
        $t->reload;
        $reloads++;
    }

    $next = time + 0.3 + rand 1.2;
}

$open = 0;
ok run(sub { !@live }), 'everybody comes to an end';

note sprintf '%d clients, %d kills, %d reloads; %s', $sent, $killed, $reloads,
    join ', ', map { "$_: $completed{$_} whole, $broken{$_} broken, "
    . ($left{$_} // 0) . ' left' } sort keys %team;

is eval { my $n = 0; $n += $_ for values %outcome; $n }, $sent,
    'each has one outcome';
is_deeply \%bad, {}, 'and none that it must not have';
cmp_ok $killed, '>', 1, 'workers were killed';
cmp_ok $completed{whole}, '>', $sent * 0.2, 'and yet most was done';


# all is free

ok $t->until(sub { metric('llm_slots_in_use') == 0 }, 10), 'no slot is in use'
    or diag(metric('llm_slots_in_use'));
is metric('llm_slots_waiting'), 0, 'nobody is in line';
is metric('llm_ledger_tickets_used'), 0, 'no ticket is left';
ok $t->until(sub { $mock->stats->{in_flight} == 0 }),
    'and the provider has nothing to do';

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


my ($reached, $done) = records();
my ($in, $out) = $mock->billed;


# as many at once as there are slots

$mock->script({ hang => \1 });

my $asked = 0;
my @all = map { my $team = $_; map { $t->start_chat('<all' . ++$asked . '>',
    key => "$team-" . (1 + $_ % 3), model => $team, timeout => 60) }
    1 .. $team{$team}{concurrency} } sort keys %team;

ok $mock->wait(in_flight => $slots, timeout_ms => 10_000),
    'all slots of the provider can be had';
ok !$mock->wait(min_in_flight => $slots + 1, timeout_ms => 300),
    'and not one more';
is metric('llm_slots_waiting'), $asked - $slots, 'the others wait';
$_->abort for @all;
ok $t->until(sub { metric('llm_ledger_tickets_used') == 0 }),
    'and are given back';

my ($again) = records();
$mock->script();


# The day's tallies, told when the limit is one.  What was in flight when its
# worker died is counted although its end is not known: that is the only
# difference there may be.

my $file = 0;


sub tallies {
    my ($limits, $pattern) = @_;

    my ($same, %told) = (0);

    $t->team($_, %$limits) for keys %team;
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

    for my $team (keys %team) {
        my $r = $t->chat('<told>', key => "$team-1", model => 'told',
            body => { max_tokens => 1 });
        ($told{$team}) = $r->body =~ $pattern or diag($r->body);
    }

    return %told;
}


my %requests = tallies({ requests_per_day => 1 }, qr/Used (\d+)/);
my %money = tallies({ budget => { usd => 0.000001, period => 'day' } },
    qr/\$([\d.]+) of/);

for my $team (sort keys %team) {
    my $there = keys(%{$reached->{$team}}) + keys(%{$again->{$team}});
    my $more = $requests{$team} - $there;

    note "$team: $requests{$team} counted, $there at the provider, "
        . "\$$money{$team}";

    cmp_ok $more, '>=', 0,
        "$team: each that reached the provider is counted";
    cmp_ok $more, '<=', $killed * $team{$team}{concurrency},
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
    my $dead = keys(%{$reached->{$team}}) - $completed{$team};
    my $least = $cost{$team} * $completed{$team};
    my $most = $least + $cost{$team} * $dead * 1.05
        + 50 * $team{$team}{concurrency};

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
cmp_ok $money{fault}, '>=', 100 * $completed{fault} - 1,
    'who got an answer has paid';
cmp_ok $money{fault}, '<=', 100 * keys(%{$reached->{fault}}) + 500,
    'and nobody for more than an answer';

# estimates of who left are right within a tenth, and by a prompt each

$unknown += 0.1 * ($money{leave} + $money{fault})
    + 20 * (($left{leave} // 0) + $broken{leave} + $broken{fault});
$paid += $_ for values %money;

note sprintf 'paid %.0f, billed %.0f', $paid, 2 * $in + 4 * $out;
cmp_ok abs($paid - 2 * $in - 4 * $out), '<=', $unknown,
    'all in all the provider\'s bill is ours';

done_testing;
