#!/usr/bin/perl

# Two gateways, one Redis: slots, rates, tokens, money and days are counted
# once for both, whatever becomes of one of them.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my ($x, $y, $redis, $mock);
my @both;

fleet('timeout=500ms');


# who is alive

ok both(sub { alive() == 2 }), 'both gateways tell Redis that they live';
my @ids = alive();
like "@ids", qr/^[0-9a-f]{16} [0-9a-f]{16}$/, 'each by a name of its own';


# slots

$mock->script({ delay_ms => 300 });
my $start = time;
my @r = map { $both[$_ % 2]->start_chat("slot $_", key => 'two') } 1 .. 6;
$_->wait for @r;
my $took = time - $start;
is "@{[map { $_->status } @r]}", '200 ' x 5 . 200, 'six requests, two slots';
is $mock->stats->{max_in_flight}, 2, 'two ran at a time, never three';
cmp_ok $took, '>', 0.85, 'one after another';
cmp_ok $took, '<', 3, "without long breaks: $took s";

# a team's slots, by keys at different gateways

$mock->script({ delay_ms => 300 });
@r = map { $both[$_ % 2]->start_chat("team $_", key => ('left', 'right')[$_ % 2])
    } 1 .. 4;
$_->wait for @r;
is "@{[map { $_->status } @r]}", '200 200 200 200', 'two keys of a team';
is $mock->stats->{max_in_flight}, 1, 'its one slot goes from one gateway to '
    . 'the other';

# whoever waits at one gateway starts soon after the other's end

$mock->script({ times => 1, delay_ms => 300 });
my $first = $x->start_chat('first', key => 'one');
$mock->wait(requests => 1);
my $second = $y->start_chat('second', key => 'one');
$_->wait for $first, $second;
is $second->status, 200, 'a slot is free at the other gateway';
my @journal = $mock->journal;
my $gap = $journal[1]{arrival_ms} - $journal[0]{end_ms};
cmp_ok $gap, '>', 0, 'the next one begins behind it';
cmp_ok $gap, '<', 500, "and not long after: $gap ms";


# a slot comes back whatever ended the request

for my $case ([error => { status => 400 }], [rst => { cut => 'rst' }],
    [left => { delay_ms => 10000 }])
{
    my ($name, $rule) = @$case;

    $mock->script({ times => 1, %$rule });
    my $r = $x->start_chat($name, key => 'one');
    $mock->wait(requests => 1);
    $name eq 'left' ? $r->abort : $r->wait;

    is $y->chat("after $name", key => 'one', timeout => 5)->status, 200,
        "$name: the slot is free for the other gateway";
}


# requests per minute

$mock->script;
@r = map { $both[$_ % 2]->start_chat("rate $_", key => 'rate') } 1 .. 20;
$_->wait for @r;
is +(grep { $_->status == 200 } @r), 10, 'ten a minute are ten over both';
is +(grep { $_->status == 429 } @r), 10, 'the others are refused';
is $mock->stats->{requests}, 10, 'the provider saw ten';
for my $t (@both) {
    is $t->chat('rate', key => 'rate')->status, 429, 'both gateways know';
}


# a team's requests and a key's: all or nothing

@r = map { $both[$_ % 2]->start_chat("all $_", key => 'low') } 1 .. 10;
$_->wait for @r;
is +(grep { $_->status == 200 } @r), 3, 'a key gets its three';
@r = map { $both[$_ % 2]->start_chat("rest $_", key => 'high') } 1 .. 10;
$_->wait for @r;
is +(grep { $_->status == 200 } @r), 5, 'and took nothing else of its team';


# tokens: 30 for each request, known to both when it has ended

$start = time;
my $n = grep { $both[$_ % 2]->chat("tokens $_", key => 'tokens',
    body => { max_tokens => 20 })->status == 200 } 1 .. 20;
my $leaked = (time - $start) * 600 / 60;
cmp_ok $n * 30, '<=', 600 + $leaked, "tokens: $n requests fit into 600";
cmp_ok $n * 30, '>=', 600 - 150, 'and few less';


# money: 30 tokens of 0.001 dollars each

$n = grep { $both[$_ % 2]->chat("money $_", key => 'money',
    body => { max_tokens => 20 })->status == 200 } 1 .. 20;
cmp_ok $n, '<=', 10, "money: $n requests fit into the budget";
cmp_ok $n, '>=', 7, 'and few less';
ok both(sub { (day('money'))[2] == $n * 30000 }), 'and Redis knows the sum';


# days: what both used is in Redis

my $used = 0;
for my $n (1 .. 10) {
    $used++ if $both[$n % 2]->chat("day $n", key => 'day')->status == 200;
}
is $used, 10, 'ten requests of a day';
ok both(sub { (day('day'))[0] == 10 }), 'are told to Redis';
ok both(sub { (day('day'))[1] == 300 }), 'and their tokens';
is $_->chat('spent', key => 'few')->status, 200, 'a day of two' for @both;
is $_->chat('spent', key => 'few')->status, 429, 'is spent for both' for @both;


# many workers ask at once: little is sent

my $before = calls();
my $at = time;
@r = map { $both[$_ % 2]->start_chat("many $_", key => 'many') } 1 .. 100;
$_->wait for @r;
is +(grep { $_->status == 200 } @r), 100, 'a hundred at once';
my $sent = calls() - $before - 60 * (time - $at);
cmp_ok $sent, '<', 100, "asks share batches: $sent";


# a worker is killed, the agent among them: another goes on

for my $pid ($x->workers) {
    $x->kill_worker('KILL', $pid);
    $start = time;
    is $x->chat("after $pid", key => 'many')->status, 200,
        'a worker is killed: limits are still served';
    cmp_ok time - $start, '<', 1.5, 'in time';
}
is join(' ', sort(alive())), join(' ', sort @ids), 'the gateway is the same';

# with a batch on its way

$redis->pause;
my $late = $x->start_chat('late', key => 'many');
Test::LLM::HTTP->idle(0.05);
$x->kill_worker('KILL', agent($x));
$redis->resume;
$late->wait;
ok both(sub { $x->chat('goes on', key => 'many')->status == 200 }),
    'the agent is killed while it waits for Redis: another goes on';


# reload: the same gateway, nothing is forgotten

my $stream = $x->start_chat('long', key => 'two', stream => 1,
    headers => { 'x-mock-pace-ms' => 100 });
$stream->wait_events(1);
$_->reload for @both;
is join(' ', sort(alive())), join(' ', sort @ids),
    'after a reload the gateways are the same';
is $_->chat('rate', key => 'few')->status, 429, 'and know what is spent'
    for @both;
$stream->wait;
is $stream->status, 200, 'a stream lives over it';
ok both(sub { !@{$redis->command(HGETALL => '{llm}:s:k:two')} }),
    'and its slot is back';


# a gateway is killed as a whole: its slots come back when its life ends

$mock->script({ times => 2, delay_ms => 60000 });
@r = map { $y->start_chat("dies $_", key => 'two') } 1 .. 2;
$mock->wait(requests => 2);
murder($y);
my $wait = $x->start_chat('waits', key => 'two');
ok !$wait->wait(sub { $_[0]->headed }, 1), 'a gateway is killed: its slots '
    . 'are kept for it';

my ($dead) = grep { $_ ne id($x) } alive();
$redis->command(ZADD => '{llm}:g', 0, $dead);
$wait->wait;
is $wait->status, 200, 'until its life has ended';

$y->nginx($y->{template});
ok both(sub { alive() == 2 }), 'it comes back';
isnt id($y), $dead, 'as another';
is $y->chat('again', key => 'two')->status, 200, 'and serves';


# it quits: what it has goes back at once, what it used is told

$mock->script({ delay_ms => 300 });
my $last = $y->start_chat('last', key => 'one');
$mock->wait(requests => 1);
$wait = $x->start_chat('next', key => 'one');
my ($before_quit) = day('day');
my $more = $y->start_chat('day', key => 'day');
$mock->wait(requests => 2);
is $y->quit, 0, 'it quits';
$_->wait for $last, $more, $wait;
is $last->status, 200, 'it ends what it has begun';
is $wait->status, 200, 'the slot goes to the other';
is scalar(alive()), 1, 'it is gone from Redis at once';
is((day('day'))[0], $before_quit + 1, 'and has told what it used');
done($x);


# leased: no answer to wait for, and a bound

fleet('limits=leased ahead=1s timeout=500ms');

# it takes a moment until a use is known
for my $round (1 .. 3) {
    @r = map { $both[$_ % 2]->start_chat("warm $round $_", key => 'many') }
        1 .. 40;
    $_->wait for @r;
    Test::LLM::HTTP->idle(0.1);
}

$before = calls();
$at = time;
for my $round (1 .. 10) {
    @r = map { $both[$_ % 2]->start_chat("leased $round $_", key => 'many') }
        1 .. 20;
    $_->wait for @r;
    is +(grep { $_->status == 200 } @r), 20, "leased: round $round";
}
$sent = calls() - $before - 60 * (time - $at);
cmp_ok $sent, '<', 100, "leased: 200 requests, far fewer commands: $sent";

# 600 a minute, ten at once, two gateways with a chunk of five each

$start = time;
my $admitted = 0;
while (time < $start + 3) {
    @r = map { $both[$_ % 2]->start_chat("bound $_", key => 'bound') }
        1 .. 6;
    $_->wait for @r;
    $admitted += grep { $_->status == 200 } @r;
    Test::LLM::HTTP->idle(0.02);
}
$took = time - $start;
cmp_ok $admitted, '<=', 10 + 10 * $took + 2 * 5, "leased: $admitted in $took s "
    . 'are within the bound';
cmp_ok $admitted, '>=', 9 * $took, 'and no less than the rate';

my ($day) = day('many');
$_->quit for @both;
is scalar(alive()), 0, 'both are gone';
is((day('many'))[0], 320, 'what was kept for later is given back: the day is '
    . 'exact');

done_testing;


# gateways with the same tenants, Redis and provider

sub fleet {
    my ($options) = @_;

    @both = ($x, $y) = map { Test::LLM->new(workers => 2) } 1, 2;

    $x->team('single', concurrency => 1);
    $x->key('left', team => 'single');
    $x->key('right', team => 'single');
    $x->team('five', requests_per_minute => 8);
    $x->key('low', team => 'five', requests_per_minute => 3);
    $x->key('high', team => 'five');
    $x->key('two', concurrency => 2);
    $x->key('one', concurrency => 1);
    $x->key('rate', requests_per_minute => 10);
    $x->key('tokens', tokens_per_minute => 600);
    $x->key('day', requests_per_day => 100000, tokens_per_day => 100000000);
    $x->key('few', requests_per_day => 2);
    $x->key('money', budget => { usd => 0.3, period => 'day' });
    $x->key('many', requests_per_day => 100000);
    $x->key('bound', requests_per_minute => 600, burst_requests => 10);

    $redis = $x->redis;
    $mock = $x->mock;

    for my $t (@both) {
        $t->{tenants} = $x->{tenants};
        $t->write('tenants.json', $x->{tenants});
        $t->token(REDIS => $redis->url . " $options");
        $t->token(MOCK => $x->token('MOCK'));
        $t->write('prices.json', { '*' => { input => 1000, output => 1000 } });
        $t->gateway(location => 'llm_retry tries=1;',
            http => 'llm_prices %%DIR%%/prices.json;');
    }

    ok both(sub { alive() == 2 }), 'two gateways';
}


sub done {
    my ($t) = @_;
    is $t->quit, 0, 'the other one quits, too';
}


sub both {
    my ($condition) = @_;
    return $x->until($condition, 5);
}


sub alive {
    return @{$redis->command(ZRANGE => '{llm}:g', 0, -1)};
}


# a gateway's name in Redis, and the pid of its agent

sub id {
    my ($t) = @_;

    my ($id) = reverse $t->log =~ /llm: gateway ([0-9a-f]{16}): this worker/g;

    return $id;
}


sub agent {
    my ($t) = @_;

    my ($pid) = reverse $t->log
        =~ /(\d+)#\d+: llm: gateway \w+: this worker is the agent/g;

    return $pid;
}


# the later day of a key's tallies: requests, tokens, micro-dollars

sub day {
    my ($key) = @_;

    my @f = split / /, $redis->command(GET => "{llm}:l:k:$key") // '';
    return (0, 0, 0) if @f < 13;

    return $f[5] > $f[9] ? @f[6 .. 8] : @f[10 .. 12];
}


sub calls {
    my $info = $redis->command(INFO => 'commandstats');
    return $info =~ /cmdstat_evalsha:calls=(\d+)/ ? $1 : 0;
}


sub murder {
    my ($t) = @_;

    my $master = delete $t->{master};
    my @workers = Test::LLM::workers_of($master, 1);

    delete $t->{children}{$master};
    kill 'KILL', $master, @workers;
    waitpid $master, 0;
    $t->until(sub { !grep { kill 0, $_ } @workers });
}
