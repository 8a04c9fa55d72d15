#!/usr/bin/perl

# Requests in the background, as tasks make them: they take only what leaves
# enough to others, never stand in line, and come again when they are told to;
# at one gateway, and at two that share their limits.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/background";

use Time::HiRes qw(time);

use Test::LLM;
use Background;


my $slow = 20000;           # ms; more than any test waits for

my $t = Background->new(workers => 2);

$t->key('four', concurrency => 4);
$t->key('one', concurrency => 1);
$t->team('eight', concurrency => 8);
$t->key("eight-$_", team => 'eight') for 1, 2;
$t->key('rate', requests_per_minute => 60, burst_requests => 8,
    queue => { rates => \1, timeout_ms => 20_000 });
$t->key('tokens', tokens_per_minute => 6000, burst_tokens => 1000);
$t->key('cached', requests_per_minute => 1, burst_requests => 4);
$t->key('user');
$t->team($_) for qw(left right);
$t->key($_, team => $_) for qw(left right);

my $mock = $t->gateway($t->with(redis => 0, mock => ['--journal', 4096],
    routes => 'llm_provider four uri=/llm/mock/ concurrency=4;
        llm_provider slow uri=/llm/mock/;
        llm_route four* four;
        llm_route hedged mock:hedged slow:hedged;
        llm_route * mock;',
    location => 'llm_cache on ttl=1h; llm_retry tries=2 base=1ms;
        llm_hedge budget=100 after=100ms;
        llm_heartbeat 100ms grace=100ms;'));

my ($r, @r);


# slots of a key

held(four => 3);
is code($r = $t->behind('late', key => 'four')), 'background_busy',
    'of four slots one is kept';
is $r->status, 429, 'a 429';
is $r->json->{error}{type}, 'requests', 'of requests';
is $r->json->{error}{message}, 'No slot of key four is free for what runs in '
    . 'the background: of 4 some are kept for other requests.', 'that says so';
is $r->header('retry-after-ms'), 40, 'and when to come again';
is $t->chat('people', key => 'four')->status, 200, 'others have it, at once';
is $t->chat('x', key => 'four', headers => { 'x-llm-background' => 1 })->status,
    200, "a client's header of that name is nobody's";
is $t->behind('plain', key => 'four', arguments => 'plain=1')->status, 200,
    'nor are all calls of our own in the background';
released('four');


# who waits goes first, and a slot that gets free is theirs

held(one => 1);
my $waits = $t->start_chat('waits', key => 'one');
$t->waiting(1, 'somebody waits');
is code($t->behind('one', key => 'one')), 'background_busy',
    'nobody comes in past a line, or stands in it';
released('one');
$waits->wait;
is $waits->status, 200, 'whoever waited is served';
is $t->behind('one', key => 'one')->status, 200, 'and then it may';


# a team's, by two keys and both workers

held('eight-1' => 3);
my @first = @r;
held('eight-2' => 3, 6);
is code($t->behind('late', key => "eight-$_")), 'background_busy',
    'of eight two are kept' for 1, 2;
push @r, @first;
released('a team');


# a provider's, and what was taken before goes back

held(left => 3, 3, 'four');
is code($r = $t->behind('late', key => 'right', model => 'four')),
    'background_busy', 'of four at a provider one is kept';
like $r->json->{error}{message}, qr/provider four/, 'that it names';
is $t->chat('people', key => 'right', model => 'four')->status, 200,
    'others have it';
released('a provider');


# requests per minute: a quarter is kept, and the wait is right

$mock->script;
is $t->behind("rate $_", key => 'rate')->status, 200, 'six of eight' for 1 .. 6;
my $start = time;
$r = $t->behind('rate', key => 'rate');
is $r->status, 429, 'a quarter of the bucket is kept';
is code($r), 'rate_limit_exceeded', 'by the usual name';
like $r->json->{error}{message}, qr/Limit 8, Used \d, Requested 1\. In the /,
    'with the usual words, and why';
cmp_ok time - $start, '<', 1, 'at once, where others would wait';
my $wait = $r->header('retry-after-ms');
cmp_ok $wait, '>', 0, "in $wait ms";
cmp_ok $wait, '<=', 1000, 'it may come again';
is $t->chat('people', key => 'rate')->status, 200, 'others have the rest';
$wait = $t->behind('rate', key => 'rate')->header('retry-after-ms');
Test::LLM::HTTP->idle($wait / 1000 + 0.005);
is $t->behind('rate again', key => 'rate')->status, 200,
    "after $wait ms there is one for it";


# tokens

my %body = (max_tokens => 600);
is $t->behind('a', key => 'tokens', body => \%body)->status, 200,
    'tokens that leave a quarter';
%body = (max_tokens => 900);
$mock->script({ delay_ms => 300 });
@r = $t->start_chat('b', key => 'tokens', body => { max_tokens => 30 });
$mock->wait(in_flight => 1);
$r = $t->behind('b', key => 'tokens', body => \%body);
is $r->json->{error}{type}, 'tokens', 'a large need waits for a full bucket';
$_->wait for @r;
Test::LLM::HTTP->idle(0.4);
is $t->behind('b', key => 'tokens', body => \%body)->status, 200,
    'and has it then';
is $t->behind('b', key => 'tokens', body => { max_tokens => 2000 })->status,
    413, 'what never fits is told so';


# hits in the cache are requests, too

$mock->script;
is $t->behind('same', key => 'cached')->status, 200, 'an answer is stored';
$r = $t->behind('same', key => 'cached');
like $r->header('cache-status'), qr/; hit/, 'and found';
is $t->behind('same', key => 'cached')->status, 200, 'three of four';
is code($t->behind('same', key => 'cached')), 'rate_limit_exceeded',
    'the last one is kept';
like $t->chat('same', key => 'cached')->header('cache-status'), qr/; hit/,
    'others have it';


# it joins a call of others, and they join its call

$mock->script({ delay_ms => 300 });
$r = $t->start_chat('joined', key => 'user');
$mock->wait(in_flight => 1);
like $t->behind('joined', key => 'user')->header('cache-status'),
    qr/collapsed/, 'it joins a call of others';
$r->wait;
$mock->script({ delay_ms => 300 });
$r = $t->start_behind('joined too', key => 'user');
$mock->wait(in_flight => 1);
like $t->chat('joined too', key => 'user')->header('cache-status'),
    qr/collapsed/, 'others join its call';
$r->wait;


# no second attempts, no heartbeats, no header for the provider

$mock->script({ delay_ms => 400 });
is $t->chat('hedged', model => 'hedged')->status, 200, 'a late answer';
is $mock->stats->{requests}, 2, 'is asked for twice';
$mock->script({ delay_ms => 400 });
is $t->behind('not hedged', model => 'hedged')->status, 200,
    'in the background';
is $mock->stats->{requests}, 1, 'it is not';

$mock->script({ delay_ms => 400 });
like $t->chat('beats', stream => 1, body => { user => 'a' })->body,
    qr/keepalive/, 'a late stream has heartbeats';
$r = $t->behind('beats', body => { stream => \1 });
like $r->body, qr/\[DONE\]/, 'one in the background';
unlike $r->body, qr/keepalive/, 'has none';

$mock->script;
$t->behind('bare');
unlike +($mock->journal)[-1]{head}, qr/x-llm-/i,
    'providers hear of nothing of it';


$t->all_back('in the end');


# two gateways with one Redis

for my $mode ('exact', 'leased') {
    fleet($mode);
}

done_testing;


# so many run in the background until released()

sub held {
    my ($key, $n, $sum, $model) = @_;

    $mock->script({ match => { body => 'held' }, delay_ms => $slow });
    @r = map { $t->start_behind("held $key $_", key => $key,
        model => $model // 'gpt-4o') } 1 .. $n;
    $mock->wait(in_flight => $sum // $n);
    is $mock->stats->{in_flight}, $sum // $n, "$n run in the background";
}


sub released {
    my ($what) = @_;

    $_->abort for @r;
    $t->until(sub { !$mock->stats->{in_flight} }, 5);
    $mock->script;
    ok $t->until(sub { $t->metric('llm_concurrency_in_use') <= 0 }, 5),
        "$what: slots are back";
}


sub code { ($_[0]->json // {})->{error}{code} // '' }


sub fleet {
    my ($mode) = @_;

    my @both = map { Background->new(workers => 2) } 1, 2;
    my ($x, $y) = @both;

    $x->key('eight', concurrency => 8);
    $x->key('one', concurrency => 1);
    $x->key('rate', requests_per_minute => 60, burst_requests => 8);

    my $redis = $x->redis;
    my $mock = $x->mock;

    for my $t (@both) {
        $t->{tenants} = $x->{tenants};
        $t->write('tenants.json', $x->{tenants});
        $t->token(REDIS => $redis->url . " timeout=500ms limits=$mode");
        $t->token(MOCK => $x->token('MOCK'));
        $t->gateway($t->with(location => 'llm_retry tries=1;'));
    }

    ok $x->until(sub { $redis->gateways == 2 }, 5), "$mode: two gateways";

    # rates

    my @r = map { $both[$_ % 2]->start_behind("rate $_", key => 'rate') }
        1 .. 12;
    $_->wait for @r;
    my @ok = grep { $_->status == 200 } @r;
    my @no = grep { $_->status == 429 } @r;
    is @ok, 6, "$mode: six of eight, at both";
    is @no, 6, "$mode: the others are refused";
    ok !(grep { code($_) ne 'rate_limit_exceeded'
        || $_->header('retry-after-ms') > 1000 } @no), "$mode: for a while";
    is $_->chat('people', key => 'rate')->status, 200, "$mode: others are not"
        for @both;

    # slots: whoever comes again gets all but two, at either gateway

    for my $t (@both) {
        $mock->script({ match => { body => 'held' }, delay_ms => $slow });
        my @run = again($t, $mock, 6);
        is @run, 6, "$mode: six of eight slots when nobody wants them";
        is code($_->behind('more', key => 'eight')), 'background_busy',
            "$mode: and no more" for @both;
        is $_->chat('people', key => 'eight')->status, 200,
            "$mode: others have theirs at once, at both" for @both;

        $_->abort for @run;
        ok $x->until(sub { !$mock->stats->{in_flight} }, 5), "$mode: they end";
    }

    # the only slot there is

    my @run = again($y, $mock, 1, 'one');
    is @run, 1, "$mode: the only slot";
    $mock->script;
    my $waits = $x->start_chat('waits', key => 'one', timeout => 10);
    Test::LLM::HTTP->idle(0.3);
    is code($y->behind('one', key => 'one')), 'background_busy',
        "$mode: somebody waits for it elsewhere";
    $_->abort for @run;
    $waits->wait;
    is $waits->status, 200, "$mode: and has it";
    @run = again($x, $mock, 1, 'one');
    is @run, 1, "$mode: then it may again";
    $_->abort for @run;

    $_->all_back($mode) for @both;
}


# comes again until so many run, for a while

sub again {
    my ($t, $mock, $n, $key) = @_;

    $key //= 'eight';
    $mock->script({ match => { body => 'held' }, delay_ms => $slow });

    my $until = time + 15;
    my @run;

    while (@run < $n && time < $until) {
        my @r = map { $t->start_behind("held $_ " . rand, key => $key) }
            1 .. $n - @run;
        Test::LLM::HTTP->idle(0.2);
        push @run, grep { !$_->headed } @r;
    }

    return @run;
}
