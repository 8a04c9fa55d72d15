#!/usr/bin/perl

# A provider's own slots: never more requests at once than it may get, shared
# between teams by weight, and given back like those of a key.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

$t->team('team');
$t->key($_, queue => { size => 500, timeout_ms => 60_000 })
    for qw(user another);
$t->key('patient', queue => { timeout_ms => 400 });
$t->key('short', queue => { size => 2 });
$t->key('pair', concurrency => 2);
$t->key('metered', requests_per_minute => 1, burst_requests => 100,
    tokens_per_minute => 1, burst_tokens => 100_000,
    queue => { timeout_ms => 300 });

my %weight = (heavy => 3, light => 1, crowd => 1, lonely => 1, big => 10);

for my $name (keys %weight) {
    $t->team($name, weight => $weight{$name});
    $t->key("$name-$_", team => $name, queue => { size => 500,
        timeout_ms => 60_000 }) for 1, 2;
}

my $mock = $t->gateway(redis => 0, mock => ['--journal', 4096],
    routes => 'llm_provider three uri=/llm/mock/ concurrency=3;
        llm_provider one uri=/llm/mock/ concurrency=1;
        llm_route three* three;
        llm_route one* one;
        llm_route * mock;',
    server => '%%BOTH%%',
    location => 'llm_retry tries=2 base=10ms;
        }
        location = /v1/embeddings {
            llm_gateway;
            llm_retry tries=1;
            llm_timeout first_byte=200ms;');

my @workers = $t->workers;
my ($r, @r);


# a chat request on worker 0 or 1

sub on {
    my ($worker, $key, $model, $text, %spec) = @_;
    return $t->on($workers[$worker], "<$text>", key => $key, model => $model,
        timeout => 60, %spec);
}


sub code { ($_[0]->json // {})->{error}{code} // '' }


# never more than three, over both workers, and all of them in use

$mock->script({ delay_ms => 30 });

@r = map { on($_ % 2, 'user', 'three', $_) } 1 .. 60;
$_->wait for @r;

is +(grep { $_->status == 200 } @r), 60, 'sixty are served';
is $mock->stats->{max_in_flight}, 3, 'never more than three at once';
is_deeply [sort { $a <=> $b } $mock->texts], [1 .. 60], 'each once';
cmp_ok +(grep { $_->header('x-llm-queue-ms') > 0 } @r), '>=', 55,
    'the others tell that they waited';
$t->all_back('three');

$mock->script({ delay_ms => 100 });
@r = ((map { on($_ % 2, 'user', 'three', 'x') } 1 .. 9),
    map { on($_ % 2, 'user', 'gpt-4o', 'y') } 1 .. 9);
$_->wait for @r;
is $mock->stats->{max_in_flight}, 12, 'other providers are free';
$t->all_back('two providers');


# the slots of the key count besides

$mock->script({ delay_ms => 20 });
@r = map { on($_ % 2, 'pair', 'three', $_) } 1 .. 10;
$_->wait for @r;
is +(grep { $_->status == 200 } @r), 10, 'a key of two';
is $mock->stats->{max_in_flight}, 2, 'never has more than two';

@r = ((map { on($_ % 2, 'pair', 'three', $_) } 1 .. 10),
    map { on($_ % 2, 'user', 'three', $_) } 1 .. 10);
$_->wait for @r;
is +(grep { $_->status == 200 } @r), 20, 'two keys';
is $mock->stats->{max_in_flight}, 3, 'have three';
$t->all_back('a key of two');


# Teams share by weight.  The line is made while the only slot is held, so
# that who is served is a matter of the line alone.

sub shares {
    my ($what, @asks) = @_;

    $mock->script({ match => { body => '<held>' }, hang => \1 },
        { delay_ms => 2 });

    my $holder = on(0, 'user', 'one', 'held');
    $mock->wait(in_flight => 1);

    my @line;

    for my $ask (@asks) {
        my ($n, $key) = @$ask;
        push @line, map { on($_ % 2, "$key-" . (1 + $_ % 2), 'one', $key) }
            1 .. $n;
        $t->waiting(scalar @line, "$what: $n of $key");
    }

    $holder->abort;
    $_->wait for @line;

    is +(grep { $_->status == 200 } @line), @line, "$what: all are served";
    is $mock->stats->{max_in_flight}, 1, "$what: one at a time";
    $t->all_back($what);

    my (undef, @order) = $mock->texts;
    return @order;
}


my @order = shares('weights', [90, 'light'], [90, 'heavy']);

for my $first (20, 40, 80, 120) {
    my $heavy = grep { $_ eq 'heavy' } @order[0 .. $first - 1];
    my $error = abs($heavy - $first * 0.75);
    cmp_ok $error, '<=', $first * 0.025 + 1.5,
        "weights: $heavy of the first $first have three times the weight";
}

@order = shares('equal', [100, 'crowd'], [3, 'lonely']);
my @place = grep { $order[$_] eq 'lonely' } 0 .. $#order;
is @place, 3, 'equal: few are served among many';
ok !(grep { $place[$_] > 2 * $_ + 3 } 0 .. 2),
    "equal: at once, not behind them: @place";

@order = shares('starving', [100, 'big'], [2, 'light']);
@place = grep { $order[$_] eq 'light' } 0 .. $#order;
ok $place[0] <= 12 && $place[1] <= 23,
    "starving: a tenth of the weight is a tenth of the slots: @place";

# who was not there has saved nothing up

@order = shares('alone', [30, 'crowd']);
@order = shares('saved', [30, 'crowd'], [30, 'lonely']);
my $lonely = grep { $_ eq 'lonely' } @order[0 .. 19];
ok $lonely >= 8 && $lonely <= 12, "saved: $lonely of the first 20";


# within a team: first come, first served

$mock->script({ match => { body => '<held>' }, hang => \1 },
    { delay_ms => 2 });
my $holder = on(0, 'user', 'one', 'held');
$mock->wait(in_flight => 1);

@r = ();

for my $i (1 .. 20) {
    push @r, on($i % 2, 'light-' . (1 + $i % 2), 'one', $i);
    $t->until(sub { $t->metric('llm_slots_waiting') == $i });
}

$holder->abort;
$_->wait for @r;
is join(' ', $mock->texts), join(' ', 'held', 1 .. 20), 'a team\'s own order';
$t->all_back('order');


# given back, whatever happens

sub gives_back {
    my ($what, $rule, $check, %spec) = @_;

    my $path = delete $spec{path};

    $mock->script($rule);

    my @three = map { $path
        ? $t->start_post($path, { model => 'three', input => 'x' },
            key => 'pair', %spec)
        : on($_ % 2, 'user', 'three', $_, %spec) } 1 .. 3;
    $check->($_) for @three;
    $t->all_back($what);

    # three at once, without waiting, is only possible with all slots free
    $mock->script({ delay_ms => 30 });
    @three = map { on($_ % 2, 'another', 'three', $_) } 1 .. 3;
    $_->wait for @three;
    is join(' ', map { $_->header('x-llm-queue-ms') } @three), '0 0 0',
        "$what: three need not wait";
    $t->all_back("$what, and three more");
}


sub status {
    my ($status) = @_;

    return sub {
        $_[0]->wait;
        is $_[0]->status, $status, "status $status";
    };
}


sub leaves {
    my ($until) = @_;

    return sub {
        my ($r) = @_;
        $until->($r);
        $r->abort;
    };
}


gives_back('JSON', {}, status(200));
gives_back('a stream', {}, status(200), stream => 1);
gives_back('an error', { status => 400 }, status(400));
gives_back('an error and a retry', { status => 500 }, status(500));
gives_back('a reset', { cut => 'rst' }, status(502));
gives_back('a cut', { cut => 'close', cut_at => 100 }, status(502));
gives_back('a cut stream', { cut => 'rst', cut_events => 3 }, sub {
    $_[0]->wait;
    ok !$_[0]->complete, 'does not end properly';
}, stream => 1);
gives_back('no answer in time', { hang => \1 }, status(504),
    path => '/v1/embeddings');
gives_back('a deadline', { hang => \1 }, status(504),
    headers => { 'x-request-timeout-ms' => 200 });
gives_back('leaving before the head', { hang => \1 },
    leaves(sub { $mock->wait(requests => 3) }));
gives_back('leaving in mid-stream', { chunks => 100, pace_ms => 100 },
    leaves(sub { $_[0]->wait_events(3) }), stream => 1);
gives_back('leaving in a pause', { status => 503, headers =>
    { 'retry-after-ms' => 5000 } }, leaves(sub { $mock->wait(done => 3) }));


# who pauses before a retry leaves the slot to others

$mock->script({ match => { body => '<sick>' }, status => 503, times => 1,
    headers => { 'retry-after-ms' => 1500 } });
my $sick = on(0, 'user', 'one', 'sick');
$mock->wait(done => 1);
$r = on(1, 'user', 'one', 'well');
$r->wait;
is $r->status, 200, 'a request in its pause before a retry';
ok !defined $sick->end, 'does not hold the slot';
$sick->wait;
is $sick->status, 200, 'and gets it again';
is join(' ', $mock->texts), 'sick well sick', 'afterwards';
$t->all_back('a pause');


# in line for the provider: the line ends, is full, is left

$mock->script({ match => { body => '<held>' }, hang => \1 });
$holder = on(0, 'user', 'one', 'held');
$mock->wait(in_flight => 1);

$r = on(1, 'patient', 'one', 1);
$r->wait;
is $r->status, 429, 'no slot in time';
is code($r), 'queue_timeout', 'code';
cmp_ok $r->header('x-llm-queue-ms'), '>=', 400, 'x-llm-queue-ms';
cmp_ok $r->header('retry-after'), '>=', 1, 'retry-after';
is $r->header('x-llm-attempts'), 0, 'no attempt';
cmp_ok $r->end, '>', 0.39, 'not too early';
cmp_ok $r->end, '<', $t->sanitized ? 4 : 2, 'nor late';

# a request that did not get to the provider has cost nothing

sub left {
    my $r = on(0, 'metered', 'two', 'x', body => { max_tokens => 2e9 });
    $r->wait;

    return join ' ', map { $r->header("x-ratelimit-remaining-$_") // 'none' }
        qw(requests tokens);
}

is left(), '100 100000', 'what a key has';
$r = on(0, 'metered', 'one', 'x', body => { max_tokens => 500 });
$t->waiting(1);
$r->wait;
is code($r), 'queue_timeout', 'no slot in time';
is left(), '100 100000', 'costs nothing';
$r = on(1, 'metered', 'one', 'x');
$t->waiting(1);
$r->abort;
$t->waiting(0);
is left(), '100 100000', 'who leaves the line has paid nothing';

$r = on(1, 'user', 'one', 2, headers => { 'x-request-timeout-ms' => 200 });
$r->wait;
like $r->status, qr/^(?:429|504)$/, 'the client\'s own deadline';
cmp_ok $r->end, '<', $t->sanitized ? 4 : 2, 'ends the wait, too';

@r = map { on($_ % 2, 'short', 'one', $_) } 3, 4;
$t->waiting(2);
$r = on(1, 'short', 'one', 5);
$r->wait;
is code($r), 'queue_full', 'a full line';
push @r, on(1, 'another', 'one', 6);
$t->waiting(3);
$r[0]->abort;
$t->waiting(2, 'who leaves the line is gone');
$r[1]->close;
$t->waiting(1, 'by FIN as well');
$holder->abort;
$r[2]->wait;
is $r[2]->status, 200, 'who stayed is served';
is join(' ', $mock->texts), 'held 6', 'the others never reached the provider';
$t->all_back('a line');


# a reload: who waits is served by the old workers, new ones share the slots

$mock->script({ match => { body => '<held>' }, hang => \1 },
    { delay_ms => 20 });
@r = map { on(0, 'user', 'three', 'held') } 1 .. 3;
$mock->wait(in_flight => 3);

for my $i (1 .. 4) {
    push @r, on($i % 2, 'user', 'three', "old $i");
    $t->waiting($i);
}

$t->reload;
@workers = $t->workers;

for my $i (1 .. 4) {
    push @r, on($i % 2, 'user', 'three', "new $i");
    $t->waiting(4 + $i);
}

is $mock->stats->{in_flight}, 3, 'a reload makes no slots';
$_->abort for @r[0 .. 2];
$_->wait for @r;
is +(grep { ($_->status // 0) == 200 } @r[3 .. 10]), 8, 'all are served';

# three at a time may overtake each other on their way
my @text = ((map { "old $_" } 1 .. 4), map { "new $_" } 1 .. 4);
my %turn = map { $text[$_] => $_ } 0 .. 7;
@text = ($mock->texts)[3 .. 10];
ok !(grep { abs($turn{$text[$_]} - $_) > 2 } 0 .. 7), "in their order: @text";
is $mock->stats->{max_in_flight}, 3, 'never more than three at once';
$t->all_back('a reload');


# a worker dies with slots, and with waiters

$mock->script({ match => { body => '<held>' }, hang => \1 });
my ($dead, $alive) = @workers;
@r = map { on(0, 'user', 'three', 'held') } 1 .. 3;
$mock->wait(in_flight => 3);
push @r, map { on($_ % 2, 'user', 'three', $_) } 1 .. 4;
$t->waiting(4);

my $killed = time;
$t->kill_worker('KILL', $dead);
@workers = $t->workers;
$_->wait for @r;

is +(grep { ($_->status // 0) == 200 } @r[3 .. 6]), 2,
    'those of the other worker get the slots';
cmp_ok time - $killed, '<', $t->sanitized ? 6 : 3, 'soon';
$t->all_back('a dead worker');

$mock->script({ delay_ms => 50 });
@r = map { on($_ % 2, 'user', 'three', $_) } 1 .. 3;
$_->wait for @r;
is join(' ', map { $_->header('x-llm-queue-ms') } @r), '0 0 0',
    'all slots are there';


# a crowd that comes and goes

$mock->script({ times => 10, delay_ms => 20 }, { times => 10, pace_ms => 5 },
    { times => 10, status => 503 }, { times => 10, cut_at => 50 },
    { times => 5, cut => 'rst', cut_events => 3 }, { delay_ms => 3 });

@r = map { on($_ % 2, (keys %weight)[$_ % 5] . '-1', 'three', $_,
    stream => $_ % 3) } 1 .. 90;
my $n = 0;

while (my @left = grep { !defined $_->end } @r) {
    Test::LLM::HTTP->idle(0.002);
    $left[$n++ * 7 % @left]->abort if $n % 3 == 0 || @left > 60;
    last if ++$n > 6000;
}

cmp_ok $n, '<', 6000, 'a wild crowd';
$t->all_back('a wild crowd');
cmp_ok $mock->stats->{max_in_flight}, '<=', 4,
    'that never was more than three at once';


# what is no number of slots

for my $value (qw(0 -1 1.5 x 10000000000), '') {
    my ($ok, $said) = $t->test_config($t->{template}
        =~ s{uri=/llm/mock/ key}{uri=/llm/mock/ concurrency=$value key}r);
    ok !$ok, "concurrency=$value is refused";
    like $said, qr/concurrency=.*expected/, 'it says why';
}

done_testing;
