#!/usr/bin/perl

# A second attempt beside one that is late: the answer comes from whoever has
# one first, the other is left, and neither key nor slot nor byte gets lost.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $slow = 8000;            # ms; more than any test waits for

my $t = Test::LLM->new(workers => 2);
my $mock = $t->mock('--journal', 4000);
my $other = $t->mock('--journal', 4000);

$t->key('user', requests_per_minute => 1_000_000, concurrency => 500);
$t->write('other.key', "sk-other-secret\n");

my @models = (qw(json stream ttft first large failing fallback both refused
    leaves late busy taken stored cache heart reload killed detach),
    map { "crowd-$_" } 1 .. 8);

sub server {
    my ($port, $location) = @_;

    return <<EOT;
    server {
        listen 127.0.0.1:%%$port%%;
        location / { llm_gateway; $location }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
        location /llm/other/ {
            internal; proxy_pass http://%%MOCK2%%/v1/; %%PROXY%%
        }
    }
EOT
}

my $retry = 'llm_retry tries=2 base=5ms cap=10ms; llm_breaker off;';

$t->gateway(
    redis => 0,
    location => "llm_hedge budget=100 after=100ms; $retry",
    server => 'location /llm/other/ {
            internal; proxy_pass http://%%MOCK2%%/v1/; %%PROXY%%
        }',
    routes => 'llm_provider other uri=/llm/other/
            key=file:%%DIR%%/other.key;
        llm_provider one uri=/llm/other/ concurrency=1;
        llm_route taken one:taken;
        llm_route busy mock:busy one:busy;
        llm_route single mock:single;
        llm_route off mock:off other:off;
        llm_route budget mock:budget other:budget;
        ' . join("\n        ", map { "llm_route $_ mock:$_ other:$_;" }
            grep { !/^(?:busy|taken)$/ } @models),
    http => server(PORT_OFF => $retry)
        . server(PORT_BUDGET => "llm_hedge budget=10 after=20ms; $retry")
        . server(PORT_LATE => "llm_hedge budget=100 after=20ms; $retry")
        . server(PORT_CACHE => "llm_hedge on after=100ms budget=100;
            llm_cache on; $retry")
        . server(PORT_DRAIN => "llm_hedge budget=100 after=100ms;
            llm_timeout drain=5s; llm_cache on; llm_join off; $retry")
        . server(PORT_HEART => "llm_hedge budget=100 after=300ms;
            llm_heartbeat 30ms grace=0; $retry"),
);

my ($r, @r, %was, $start, $took);


# the second one answers, with its own key, and the first one is left

for my $kind (qw(json stream)) {
    my @stream = $kind eq 'stream' ? (stream => 1) : ();

    play({ delay_ms => $slow }, {});
    $start = time;
    $r = $t->chat("hello $kind", model => $kind, @stream);
    $took = time - $start;

    is $r->status, 200, "$kind: answered";
    ok $r->complete, "$kind: whole";
    is $r->header('x-llm-provider'), 'other', "$kind: by the other one";
    is $r->header('x-llm-attempts'), 2, "$kind: the second attempt";
    cmp_ok $took, '<', $slow / 2000, "$kind: in time: $took";
    ok $mock->wait(client_closed => 1), "$kind: the first one is left";
    is $mock->stats->{requests}, 1, "$kind: which was asked once";
    is $other->stats->{requests}, 1, "$kind: as was the other";
    is secret($mock), 'Bearer sk-provider-secret', "$kind: by its key";
    is secret($other), 'Bearer sk-other-secret', "$kind: each by its own";
    outcome($kind, won => 1);
    quiet($kind);

    next if $kind eq 'json';

    is scalar($r->data), 11, 'stream: all events';
    is(($r->data)[-1], '[DONE]', 'stream: to the end');
}

# a stream is late by its first event, not by its header

play({ ttft_ms => $slow }, { ttft_ms => 100, pace_ms => 5 });
$r = $t->chat('header', model => 'ttft', stream => 1);
is $r->header('x-llm-provider'), 'other', 'ttft: answered by the other one';
is scalar($r->data), 11, 'ttft: all events';
ok $mock->wait(client_closed => 1), 'ttft: the first one is left';
outcome('ttft', won => 1);
quiet('ttft');

# an event in pieces, before and behind the moment at which it wins

play({ delay_ms => $slow }, { slice => 7, slice_ms => 1, eol => 'crlf',
    before => ": one\n\n: two\n\n" });
$r = $t->chat('pieces', model => 'ttft', stream => 1);
is scalar($r->data), 11, 'pieces: all events';
ok $r->complete, 'pieces: whole';
outcome('pieces', won => 1);
quiet('pieces');

# the first one after all

play({ delay_ms => 400 }, { delay_ms => $slow });

for my $stream (0, 1) {
    $r = $t->chat("first $stream", model => 'first', stream => $stream);
    is $r->header('x-llm-provider'), 'mock', "first: it is the first, $stream";
    ok $r->complete, 'first: whole';
    ok $other->wait(client_closed => 1 + $stream), 'first: the other is left';
    outcome("first $stream", lost => 1);
    quiet("first $stream");
}

# what is too large to be held

play({ delay_ms => $slow }, { content_bytes => 3_000_000 });
$r = $t->chat('large', model => 'large');
is $r->header('x-llm-provider'), 'other', 'large: from the other one';
ok $r->complete, 'large: whole';
is length $r->json->{choices}[0]{message}{content}, 3_000_000,
    'large: all of it';
ok $mock->wait(client_closed => 1), 'large: the first one is left';
outcome('large', won => 1);
quiet('large');


# a hedge that fails is none

for my $rule ({ status => 503 }, { status => 400 }, { cut => 'rst' },
    { error_event => 0 })
{
    play({ delay_ms => 500 }, $rule);
    $r = $t->chat('failing', model => 'failing', stream => 1);
    my ($name) = map { "failing: $_" } %$rule;
    is $r->status, 200, $name;
    is $r->header('x-llm-provider'), 'mock', "$name: the first answers";
    ok $r->complete, "$name: whole";
    is $mock->stats->{requests} + $other->stats->{requests}, 2,
        "$name: and nobody is asked again";
    outcome($name, failed => 1);
    quiet($name);
}

# the first one fails: the other one is there already

play({ delay_ms => 300, status => 503 }, { delay_ms => 600 });

for my $stream (0, 1) {
    $r = $t->chat("fallback $stream", model => 'fallback', stream => $stream);
    is $r->status, 200, "fallback $stream: answered";
    is $r->header('x-llm-provider'), 'other', 'fallback: by the other one';
    ok $r->complete, 'fallback: whole';
    is $mock->stats->{requests}, 1 + $stream, 'fallback: no retry was needed';
    outcome("fallback $stream", won => 1);
    quiet("fallback $stream");
}

# both fail, one after the other, either first; then one is well again

for my $delay (150, 300) {
    play({ times => 1, delay_ms => 250, status => 503 },
        { times => 1, delay_ms => $delay, status => 503 });
    $r = $t->chat("both $delay", model => 'both');
    is $r->status, 200, "both $delay: a retry helps";
    is $mock->stats->{requests} + $other->stats->{requests}, 3,
        "both $delay: which is one";
    outcome("both $delay", failed => 1);
    quiet("both $delay");
}

play({ delay_ms => 200, status => 503 }, { delay_ms => 200, status => 503 });
$r = $t->chat('both, always', model => 'both');
is $r->status, 503, 'both: an error in the end';
cmp_ok $mock->stats->{requests} + $other->stats->{requests}, '<=', 5,
    'both: as many attempts as may be, and the hedge';
outcome('both, always', failed => 1);
quiet('both, always');

# what the other one would refuse as well

play({ delay_ms => 300, status => 400 }, { delay_ms => $slow });
$r = $t->chat('refused', model => 'refused');
is $r->status, 400, 'refused: at once';
ok $other->wait(client_closed => 1), 'refused: the other is left';
outcome('refused', lost => 1);
quiet('refused');


# the client leaves while both run

for my $way (qw(close abort)) {
    play({ delay_ms => $slow }, { delay_ms => $slow });
    $r = $t->start_chat("leaves $way", model => 'leaves',
        stream => $way eq 'close');
    ok $other->wait(requests => 1), "leaves, $way: both run";
    $r->$way;
    ok $_->wait(client_closed => 1), "leaves, $way: both are left"
        for $mock, $other;
    outcome("leaves, $way", lost => 1);
    quiet("leaves, $way");
}

# … and its answer is still wanted: one of them goes on

play({ delay_ms => 700 }, { delay_ms => $slow });
$r = $t->start_chat('detach', model => 'detach', port => $t->port('PORT_DRAIN'));
ok $other->wait(requests => 1), 'detach: both run';
$r->close;
ok $other->wait(client_closed => 1), 'detach: one is enough';
ok $mock->wait(done => 1), 'detach: which goes on';
quiet('detach');
$r = $t->chat('detach', model => 'detach', port => $t->port('PORT_DRAIN'));
like $r->header('cache-status'), qr/; hit/, 'detach: and is stored';
outcome('detach', lost => 1);


# late is what is later than most: P95, not below "after"

play({ delay_ms => 200 }, {});
$t->chat("usual $_", model => 'late', port => $t->port('PORT_OFF'))
    for 1 .. 25;
is $other->stats->{requests}, 0, 'late: nobody hedges where it is off';

# well below the usual time: the number of samples is what lets it be known

SKIP: {
    $start = time;
    $t->chat("as usual $_", model => 'late', port => $t->port('PORT_LATE'))
        for 1 .. 3;
    $took = (time - $start) / 3;
    skip "too slow: $took", 1 if $took > 0.205;
    cmp_ok $other->stats->{requests}, '<=', 1, 'late: not what is usual';
}

play({ delay_ms => $slow }, {});
$start = time;
$r = $t->chat('not as usual', model => 'late', port => $t->port('PORT_LATE'));
$took = time - $start;
is $r->header('x-llm-provider'), 'other', 'late: what is later';
cmp_ok $took, '>=', 0.15, "late: not before: $took";
outcome();
quiet('late');


# the budget holds, however slow all are

play({}, {});
$t->chat("quick $_", model => 'budget', port => $t->port('PORT_BUDGET'))
    for 1 .. 100;
$mock->script({ delay_ms => 600 });

@r = map { $t->start_chat("slow $_", model => 'budget',
    port => $t->port('PORT_BUDGET')) } 1 .. 50;
$_->wait for @r;

is scalar(grep { $_->status == 200 && $_->complete } @r), 50,
    'budget: all are served';
cmp_ok $other->stats->{requests}, '<=', 15, 'budget: a tenth is hedged';
cmp_ok $other->stats->{requests}, '>=', 10, 'budget: of all';
cmp_ok metric('denied'), '>=', $was{denied} + 35, 'budget: others are denied';
outcome();
quiet('budget');


# none where there is no other target, no slot of it, or it may not be

play({ delay_ms => 300 }, { delay_ms => 2000 });
is $t->chat('single', model => 'single')->status, 200, 'single: served';
is $mock->stats->{requests}, 1, 'single: asked once';
outcome('single');

$r = $t->start_chat('taken', model => 'taken');
ok $other->wait(requests => 1), 'busy: the only slot is taken';
is $t->chat('busy', model => 'busy')->header('x-llm-provider'), 'mock',
    'busy: the first answers';
is $other->stats->{requests}, 1, 'busy: no hedge waits';
$r->wait;
outcome('busy', denied => 1);
quiet('busy');

play({ delay_ms => 300 }, {});

for my $store ('true', 'false') {
    $r = $t->post('/v1/responses',
        qq({"model":"stored","input":"$store","store":$store}), key => 'user');
    is $r->status, 200, "stored, $store: served";
    is $other->stats->{requests}, $store eq 'true' ? 0 : 1,
        "stored, $store: " . ($store eq 'true' ? 'once' : 'twice');
}

outcome('stored', won => 1);
quiet('stored');


# those who wait for the same answer get it whole, and it is stored

play({ delay_ms => $slow }, { pace_ms => 20, delay_ms => 50 });
@r = map { $t->start_chat('cache', model => 'cache', stream => $_ % 2,
    port => $t->port('PORT_CACHE')) } 1 .. 6;
$_->wait for @r;
is scalar(grep { $_->status == 200 && $_->complete } @r), 6,
    'cache: all are served';
is scalar(keys %{{ map { said($_) => 1 } @r }}), 1, 'cache: the same';
cmp_ok $mock->stats->{requests}, '<=', 2, 'cache: few calls';
like $t->chat('cache', model => 'cache', port => $t->port('PORT_CACHE'))
    ->header('cache-status'), qr/; hit/, 'cache: stored';
outcome();
quiet('cache');


# behind heartbeats, whose header is out

play({ delay_ms => $slow }, { delay_ms => 200 });
$r = $t->chat('heart', model => 'heart', stream => 1,
    port => $t->port('PORT_HEART'));
like $r->body, qr/\A: keepalive\n/, 'heart: heartbeats';
is scalar($r->data), 11, 'heart: and all events';
ok $r->complete, 'heart: whole';
ok $mock->wait(client_closed => 1), 'heart: the first one is left';
outcome('heart', won => 1);
quiet('heart');


# a reload while both run

play({ delay_ms => $slow }, { delay_ms => 600 });
$r = $t->start_chat('reload', model => 'reload', stream => 1);
ok $other->wait(requests => 1), 'reload: both run';
$t->reload;
$r->wait;
is $r->status, 200, 'reload: answered';
ok $r->complete, 'reload: whole';
ok $t->until(sub { my @all = $t->workers(1); @all == 2 }, 5), 'reload: the old ones end';
outcome('reload', won => 1);
quiet('reload');

# the worker dies while both run

play({ delay_ms => $slow }, { delay_ms => $slow });
$r = $t->start_chat('killed', model => 'killed');
ok $other->wait(requests => 1), 'killed: both run';
$t->kill_worker('KILL', $_) for $t->workers;
$r->wait;
ok !$r->complete, 'killed: the client notices';
ok $_->wait(client_closed => 1), 'killed: both are left' for $mock, $other;
outcome();
quiet('killed');


# all at once: who is first is chance

play({ delay_ms => 60, delay_jitter_ms => 120, pace_ms => 1 },
    { delay_ms => 20, delay_jitter_ms => 200, pace_ms => 1 });

my %before = %was;

for my $n (1 .. 8) {
    @r = map { $t->start_chat("crowd $n $_", model => "crowd-$n",
        stream => $_ % 2, port => $t->port('PORT_LATE')) } 1 .. 50;
    $r[0]->wait;
    $_->close for map { $r[$_ * 7] } 1 .. 6;
    $_->wait for @r;

    my @left = grep { $_ % 7 || $_ == 0 || $_ > 42 } 0 .. $#r;
    is scalar(grep { $_->status == 200 && $_->complete
        && length said($_) == 57 } @r[@left]), scalar @left,
        "crowd $n: all who stay are served";
}

outcome();
quiet('crowd');
cmp_ok metric('won') - $before{won}, '>', 10, 'crowd: some by the second';
cmp_ok metric('lost') - $before{lost}, '>', 10, 'crowd: some by the first';


done_testing;


sub play {
    my @rules = @_;

    $mock->script($rules[0]);
    $other->script($rules[1]);
    outcome();
}


# what a chat answer says, as JSON or as a stream

sub said {
    my ($r) = @_;
    return $r->text || $r->json->{choices}[0]{message}{content};
}


sub secret { ($_[0]->journal)[-1]{headers}{authorization} // '' }


sub metric { $t->metric(qq(llm_hedges_total{result="$_[0]"})) }


# what was counted since the last time

sub outcome {
    my ($name, %more) = @_;

    my %now = map { $_ => metric($_) } qw(won lost failed denied);

    if ($name) {
        my %diff = map { $_ => $now{$_} - $was{$_} } keys %now;
        is_deeply \%diff, { won => 0, lost => 0, failed => 0, denied => 0,
            %more }, "$name: counted";
    }

    %was = %now;
}


sub quiet {
    my ($name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    $t->all_back($name);

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;
    my @busy = $page =~ /^(llm_target_running\{.*\} [1-9]\d*)$/mg;

    is "@busy", '', "$name: no target is busy";
}
