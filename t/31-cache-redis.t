#!/usr/bin/perl

# A Redis that is dead, silent or full is a miss and never an error, and what
# lies in memory is a hit all the while; the log says it once each way;
# everything comes back by itself.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new;

# long enough to be told from the noise of a busy machine
my $timeout = 0.4;
my $redis = $t->redis;
$t->token(REDIS => $redis->url . ' timeout=400ms');

# nothing in memory, so that each hit is one of Redis; and a server with it

my $mock = $t->gateway(location => 'llm_cache on memory=0; llm_retry tries=1;',
    http => <<'EOT');
    server {
        listen 127.0.0.1:%%PORT_MEMORY%%;
        location / { llm_gateway; llm_cache on; llm_retry tries=1; }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
my @memory = (port => $t->port('PORT_MEMORY'));
my $down = qr/redis ".*" is down/;
my $back = qr/redis ".*" is back/;

up('at first');
$t->chat('before');
like $t->chat('before')->header('Cache-Status'), qr/hit/, 'a hit';
$t->chat('here', @memory);
is said($down), 0, 'nothing to tell';


# dead

$redis->stop('KILL');
my $start = time;
for my $n (1 .. 20) {
    my $r = $t->chat('before');
    is $r->status, 200, "dead: request $n is served";
    unlike $r->header('Cache-Status'), qr/hit/, 'as a miss';
}
cmp_ok time - $start, '<', $timeout * 3, 'dead: and costs nothing';
my $r = $t->chat('here', @memory);
like $r->header('Cache-Status'), qr/hit/, 'dead: memory has its hits';
like $t->get('/readyz')->body, qr/"redis":"down"/, '/readyz tells';
is $t->get('/readyz')->status, 200, 'but is ready';
is said($down), 1, 'the log says it once';
is said($back), 0, 'and not yet that it is back';

$redis->start;
up('after death');
$t->chat('after');
like $t->chat('after')->header('Cache-Status'), qr/hit/, 'hits again';
ok $t->until(sub { said($back) == 1 }), 'the log says that it is back';
is said($down), 1, 'and no more';


# silent

$redis->pause;
$start = time;
$r = $t->chat('after');
my $took = time - $start;
is $r->status, 200, 'silent: served';
unlike $r->header('Cache-Status'), qr/hit/, 'as a miss';
cmp_ok $took, '>', $timeout * 0.9, 'after its timeout';
cmp_ok $took, '<', $timeout + 1, "and not much more: $took";
$start = time;
like $t->chat('here', @memory)->header('Cache-Status'), qr/hit/,
    'silent: memory has its hits';
cmp_ok time - $start, '<', $timeout * 0.9, 'at once';

# one late answer is no dead Redis; after a second of them it is

my $begin = time;
my ($n, $served, @slow, @later) = (0, 0);
while (time < $begin + 4) {
    $start = time;
    $served++ if $t->chat('after')->status == 200;
    $n++;
    next if time - $start < $timeout / 2;
    push @{$start < $begin + 1.5 ? \@slow : \@later}, time - $start;
}
continue {
    Test::LLM::HTTP->idle(0.02);
}
is $served, $n, 'silent: the next ones are served';
cmp_ok scalar @slow, '<=', 4, "silent: few of $n wait: @slow";
is "@later", '', 'silent: after a while none';
is said($down), 2, 'the log says it once';

$redis->resume;
up('after silence');
ok $t->until(sub { $t->chat('after')->header('Cache-Status') =~ /hit/ }),
    'hits again';
ok $t->until(sub { said($back) == 2 }), 'the log says that it is back';
is said($down), 2, 'and no more';

# many at a time, when it falls silent

$redis->pause;
$start = time;
my @all = map { $t->start_chat("many $_") } 1 .. 50;
$_->wait for @all;
is +(grep { $_->status == 200 } @all), 50, 'silent: fifty at a time';
cmp_ok time - $start, '<', $timeout + 2, 'wait together';
$redis->resume;
up('after fifty');


# full

$redis->command(CONFIG => 'SET', 'maxmemory', '1');
for (1, 2) {
    $r = $t->chat('full');
    is $r->status, 200, 'full: served';
    unlike $r->header('Cache-Status'), qr/hit/, 'as a miss';
}
$redis->command(CONFIG => 'SET', 'maxmemory', '0');
$t->chat('full');
like $t->chat('full')->header('Cache-Status'), qr/hit/, 'room again';


# a restart between two requests is noticed

$redis->stop('TERM');
$redis->start;
up('after a restart');
$t->chat('restarted');
like $t->chat('restarted')->header('Cache-Status'), qr/hit/, 'hits again';


# a client that leaves while Redis is silent

$redis->pause;
$r = $t->start_chat('leaves');
Test::LLM::HTTP->idle(0.1);
$r->abort;
Test::LLM::HTTP->idle($timeout);
$redis->resume;
up('after a client left');
is $t->chat('leaves')->status, 200, 'nothing is left of it';


# nginx ends although Redis is silent

$redis->pause;
is $t->quit, 0, 'nginx ends without an answer';
$redis->resume;
$redis->stop;


# it starts without a Redis, too

$t->nginx($t->{template});
is $t->chat('alone')->status, 200, 'without a Redis from the start';
$redis->start;
up('after a start alone');
ok $t->until(sub { $t->chat('alone')->header('Cache-Status') =~ /hit/ }),
    'hits';


# llm_redis off

my $off = Test::LLM->new;
$mock = $off->gateway(redis => 0, location => 'llm_cache on;');
for (1, 2) {
    $r = $off->chat('off');
    is $r->status, 200, 'llm_redis off: served';
}
like $r->header('Cache-Status'), qr/hit/, 'the second time from memory';
is $r->header('x-llm-provider'), 'mock', 'with its provider';
is $r->header('x-llm-model'), 'gpt-4o', 'and model';
is $mock->stats->{requests}, 1, 'one call';
like $off->get('/readyz')->body, qr/"redis":"off"/, '/readyz tells';
is scalar(() = $off->log =~ /redis/g), 0, 'no word of Redis in the log';

done_testing;


sub up {
    my ($when) = @_;

    ok $t->until(sub { $t->get('/readyz')->body =~ /"redis":"up"/ }, 10),
        "Redis is up $when";
}


sub said {
    my ($pattern) = @_;
    return scalar(() = $t->log =~ /$pattern/g);
}
