#!/usr/bin/perl

# The Redis client on its own, with real servers: commands, scripts, every
# class of error that a real server gives, its return, Sentinel and Cluster.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/redis";

use Time::HiRes qw(time);

use Test::LLM;
use RedisClient;


my $t = RedisClient->new;
my $redis = $t->redis(requirepass => 'hush-hush', 'enable-debug-command' => 'yes',
    maxclients => 100);
$redis->command(AUTH => 'hush-hush');

my $url = 'unix://:hush-hush@' . $redis->path;

$t->client("$url?db=3", scripts => [
    'return {KEYS[1], ARGV[1], #ARGV, false}',
    "redis.call('SET', KEYS[1], ARGV[1]) return 'written'",
]);
$t->up('at first');


# commands and replies

is $t->run('c=SET&c=a&c=1%0d%0a%00x'), 'status:OK', 'SET';
like $t->run('c=GET&c=a'), qr/^string:1\r\n\0x/, 'binary safe';
is $t->run('c=INCR&c=n'), 'integer:1', 'INCR';
is $t->run('c=GET&c=none'), 'nil', 'nil';
is $t->run('c=MGET&c=n&c=none'), '[string:1 nil]', 'an array';
like $t->run('c=INCR&c=a'), qr/^error:other:ERR value/, 'an error';
is $t->run('c=ECHO&c='), 'string:', 'an empty argument';
is $t->run('c=ECHO&c=' . 'x' x 3000), 'string:' . 'x' x 3000, 'a long one';

$redis->command(SELECT => 3);
is $redis->command(GET => 'n'), 1, 'in its database';


# scripts

my $eval = 'eval=0&keys=1&c=k&c=v&c=w';
my $good = '[string:k string:v integer:2 nil]';
is $t->run($eval), $good, 'a script';
is $t->stat('resent'), 0, 'was loaded before';

$redis->command(SCRIPT => 'FLUSH');
is $t->run($eval), $good, 'forgotten: it comes anyway';
is $t->stat('resent'), 1, 'sent as a text';
is $t->run($eval), $good, 'and then not again';
is $t->stat('resent'), 1, 'since the server knows it';

my $failed = 0;
for (1 .. 50) {
    $redis->command(SCRIPT => 'FLUSH');
    $failed++ if $t->run($eval) ne $good;
    $failed++ if $t->run("$eval&times=10") ne $good;
}
is $failed, 0, 'SCRIPT FLUSH fifty times: none failed';
is $t->stat('noscript'), $t->stat('resent'), 'each of them resent once';


# OOM: told, the connection stays

$redis->command(CONFIG => 'SET', 'maxmemory', 1);
like $t->run('eval=1&keys=1&c=k&c=v'), qr/^error:oom:/, 'OOM of a script';
like $t->run('c=SET&c=k&c=v'), qr/^error:oom:/, 'OOM of a command';
like $t->run('c=GET&c=n'), qr/^string:1/, 'reading goes on';
is $t->stat('reconnects'), 0, 'on the same connection';
$redis->command(CONFIG => 'SET', 'maxmemory', 0);
is $t->run('c=SET&c=k&c=v'), 'status:OK', 'room again';
is $t->said(qr/answered with an error: OOM/), 1, 'the log says it once';


# READONLY: connects anew

$redis->command(REPLICAOF => '127.0.0.1', 1);
like $t->run('c=SET&c=k&c=v'), qr/^error:readonly:/, 'READONLY';
ok $t->until(sub { $t->stat('reconnects') >= 1 }), 'connects anew';
$redis->command(REPLICAOF => 'NO', 'ONE');
$t->up('as a master');
is $t->run('c=SET&c=k&c=v'), 'status:OK', 'writes again';
ok $t->until(sub { $t->said(qr/is back/) }), 'the log says that it is back';


# MASTERDOWN: a pause

$redis->command(CONFIG => 'SET', 'replica-serve-stale-data', 'no');
$redis->command(REPLICAOF => '127.0.0.1', 1);
like $t->run('c=GET&c=n'), qr/^error:masterdown:/, 'MASTERDOWN';
is $t->run('c=GET&c=n'), 'refused', 'then none are taken';
$redis->command(REPLICAOF => 'NO', 'ONE');
$redis->command(CONFIG => 'SET', 'replica-serve-stale-data', 'yes');
$t->up('with data');


# BUSY: a pause

$redis->command(CONFIG => 'SET', 'busy-reply-threshold', 50);
my $other = $redis->another;
$other->command(AUTH => 'hush-hush');
$other->ask(EVAL => 'while true do end', 0);
ok $t->until(sub { eval { $redis->command('PING'); 0 } || $@ =~ /BUSY/ }),
    'a script that does not end';
like $t->run('c=GET&c=n'), qr/^error:busy:/, 'BUSY';
is $t->run('c=GET&c=n'), 'refused', 'then none are taken';
$redis->command(SCRIPT => 'KILL');
$t->up('not busy');
is $t->run('c=GET&c=n'), 'string:1', 'and good again';


# death and return

$redis->stop('KILL');
ok $t->until(sub { !$t->connected }), 'dead';
my $start = time;
is $t->run('c=GET&c=n'), 'refused', 'dead: refused' for 1 .. 20;
cmp_ok time - $start, '<', 1, 'at no cost';
$redis->start;
$start = time;
$t->up('after death');
cmp_ok time - $start, '<', 2, 'within 2 s: ' . (time - $start);
is $t->run($eval), $good, 'scripts are loaded again';
is $t->stat('resent'), $t->stat('noscript'), 'no script was missed';


# an operator's mistakes are said once

my $wrong = RedisClient->new;
for my $case ([ 'unix://:wrong-word@' . $redis->path, qr/AUTH: WRONGPASS/ ],
    [ 'unix:' . $redis->path, qr/: NOAUTH/ ],
    [ "$url?db=99", qr/SELECT: ERR DB index/ ])
{
    my ($what, $pattern) = @$case;

    $wrong->client($what);
    ok $wrong->wait_log($pattern), "the log says $pattern";
    Test::LLM::HTTP->idle(1);
    is $wrong->said(qr/is down/), 1, 'once';
    is $wrong->run('c=GET&c=n'), 'refused', 'refused';
    is $wrong->quit, 0, 'ends';
    unlike $wrong->log, qr/wrong-word|hush-hush/, 'without a password';
    unlink $wrong->path('error.log');
}

$redis->command(AUTH => 'hush-hush');
$redis->command(ACL => 'SETUSER', 'poor', 'on', '>poor-word', '~*', '+ping',
    '+get');
$wrong->client('unix://poor:poor-word@' . $redis->path);
$wrong->up('with few rights');
is $wrong->run('c=GET&c=n'), 'nil', 'what is allowed';
like $wrong->run('c=SET&c=n&c=2'), qr/^error:noauth:NOPERM/, 'what is not';
is $wrong->run('c=GET&c=n'), 'refused', 'then refused';
is $wrong->said(qr/is down: NOPERM/), 1, 'said once';
$redis->command(ACL => 'SETUSER', 'poor', '+set');
$start = time;
$wrong->up('with more rights', 8);
cmp_ok time - $start, '<', 6, 'tried every 5 s';
is $wrong->run('c=SET&c=n&c=2'), 'status:OK', 'and allowed';

is $t->quit, 0, 'ends';
unlike $t->log, qr/hush-hush/, 'no password in the log';


# Sentinel: the master by name, and after a failover the other one

my $s = RedisClient->new;
my ($first, $second) = map { $s->port("PORT_R$_") } 1, 2;
my $watch = $s->port('PORT_S');

my $one = Test::LLM::Redis->new($s, name => 'one', port => $first);
my $two = Test::LLM::Redis->new($s, name => 'two', port => $second,
    replicaof => "127.0.0.1 $first");
my $sentinel = Test::LLM::Redis->sentinel($s, 'sentinel', $watch,
    "127.0.0.1 $first", head => 'requirepass sentinel-word');

$sentinel->command(AUTH => 'sentinel-word');
ok $s->until(sub { $two->command('INFO', 'replication')
    =~ /master_link_status:up/ && $sentinel->command('INFO')
    =~ /slaves=1/ }, 20), 'a master and its replica are watched';

# the first one of the two Sentinels is not there
my $nobody = $s->port('PORT_N');
$s->client("redis+sentinel://127.0.0.1:$nobody,127.0.0.1:$watch/mymaster/1"
    . '?sentinel_password=sentinel-word');
$s->up('by a Sentinel');
is $s->run('c=SET&c=a&c=1'), 'status:OK', 'to the master';
is $s->run('c=CONFIG&c=GET&c=port'), "[string:port string:$first]",
    'this one';

$sentinel->command(SENTINEL => 'FAILOVER', 'mymaster');
$start = time;
ok $s->until(sub {
    $s->run('c=SET&c=b&c=2') eq 'status:OK' && $s->run('c=CONFIG&c=GET&c=port')
        eq "[string:port string:$second]" }, 15), 'the other one is master';
is $s->run('c=GET&c=a'), 'string:1', 'with what the first one knew';

# and when it dies without a word
ok $s->until(sub { $sentinel->command('INFO') =~ /status=ok,.*slaves=1/
    && $one->command('INFO', 'replication') =~ /master_link_status:up/ }, 20),
    'the first one is its replica';
$sentinel->command(SENTINEL => 'SET', 'mymaster', 'failover-timeout', 500);
$two->stop('KILL');
ok $s->until(sub {
    $s->run('c=SET&c=c&c=3') eq 'status:OK' && $s->run('c=CONFIG&c=GET&c=port')
        eq "[string:port string:$first]" }, 20), 'back to the first one';
is $s->quit, 0, 'ends';
unlike $s->log, qr/sentinel-word/, 'no password in the log';
cmp_ok scalar(() = $s->log =~ /redis "/g), '<=', 10, 'few lines in the log';


# Cluster: two nodes, the slot goes from one to the other

my $c = RedisClient->new;
my @nodes = map {
    my $port = $c->port("PORT_C$_");
    Test::LLM::Redis->new($c, name => "node$_", port => $port,
        'cluster-enabled' => 'yes',
        'cluster-allow-replica-migration' => 'no',
        'cluster-port' => $c->port("PORT_B$_"))
} 1, 2;
my @ports = map { $c->port("PORT_C$_") } 1, 2;
my $slot = $nodes[0]->command(CLUSTER => 'KEYSLOT', '{lim}');

$nodes[0]->command(CLUSTER => 'ADDSLOTSRANGE', 0, 16383);
$nodes[0]->command(CLUSTER => 'MEET', '127.0.0.1', $ports[1],
    $c->port('PORT_B2'));
ok $c->until(sub { 2 == grep { $_->command(CLUSTER => 'INFO')
    =~ /cluster_state:ok.*cluster_known_nodes:2/s } @nodes }, 20), 'a cluster';

# the configured node is the one that has no slot
$c->client("redis://127.0.0.1:$ports[1]", scripts =>
    ["return redis.call('INCRBY', KEYS[1], ARGV[1])"], timeout => 1000);
$c->up('to the cluster');
is $c->run('eval=0&keys=1&c={lim}n&c=1'), 'integer:1',
    'moved: the reply comes anyway';
is $c->stat('moved'), 1, 'from the other node';
is $c->run('eval=0&keys=1&c={lim}n&c=5'), 'integer:6', 'a script';
is $c->stat('moved'), 1, 'on a connection that stays';

give(0, 1);
is $c->run('eval=0&keys=1&c={lim}m&c=5'), 'integer:5', 'moved back: a script';
cmp_ok $c->stat('moved'), '>', 1, 'followed';

like $c->run('c=GET&c=far'), qr/^error:moved:/, 'another slot is told';
is $c->run('c=GET&c={lim}m'), 'string:5', 'and not followed';

give(1, 0);
is $c->run('c=INCR&c={lim}m&times=20'), 'integer:25',
    'moved: twenty at a time, in order';
is $c->stat('gone') + $c->stat('timeouts'), 0, 'none was lost';

# a slot on its way is the caller's to wait for
$nodes[1]->command(CLUSTER => 'SETSLOT', $slot, 'IMPORTING', id(0));
$nodes[0]->command(CLUSTER => 'SETSLOT', $slot, 'MIGRATING', id(1));
like $c->run('c=GET&c={lim}none'), qr/^error:cluster:ASK/, 'ASK is told';
like $c->run('c=MGET&c={lim}none&c={lim}m'), qr/^error:tryagain:/, 'TRYAGAIN';
$_->command(CLUSTER => 'SETSLOT', $slot, 'STABLE') for @nodes;
like $c->run('c=MGET&c=a&c=b'), qr/^error:cluster:CROSSSLOT/, 'CROSSSLOT';
is $c->run('c=GET&c={lim}m'), 'string:25', 'and all is well';

# the node dies: the configuration has the other one
$nodes[0]->command(CLUSTER => 'DELSLOTS', $slot);
like $c->run('c=GET&c={lim}m'), qr/^error:clusterdown:/, 'CLUSTERDOWN';
is $c->run('c=GET&c={lim}m'), 'refused', 'then none are taken';
$nodes[0]->command(CLUSTER => 'ADDSLOTS', $slot);
$c->up('when the cluster is');
is $c->run('c=GET&c={lim}m'), 'string:25', 'good again';
$nodes[0]->stop('KILL');
$c->up('to the node of the configuration');
like $c->run('c=CONFIG&c=GET&c=port'), qr/string:$ports[1]/, 'this one';

done_testing;


sub id { $nodes[$_[0]]->command(CLUSTER => 'MYID') }


# the slot goes to another node, with what is in it

sub give {
    my ($from, $to) = @_;

    $nodes[$to]->command(CLUSTER => 'SETSLOT', $slot, 'IMPORTING', id($from));
    $nodes[$from]->command(CLUSTER => 'SETSLOT', $slot, 'MIGRATING', id($to));

    my $keys = $nodes[$from]->command(CLUSTER => 'GETKEYSINSLOT', $slot, 100);
    $nodes[$from]->command(MIGRATE => '127.0.0.1', $ports[$to], '', 0, 5000,
        'KEYS', @$keys) if @$keys;

    $nodes[$_]->command(CLUSTER => 'SETSLOT', $slot, 'NODE', id($to))
        for $to, $from;
}
