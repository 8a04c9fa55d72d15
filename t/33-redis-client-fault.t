#!/usr/bin/perl

# The Redis client when its server is silent, lies or flaps: what a worker
# pays, how soon it is back, what the log gets.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/redis";

use Socket qw(:addrinfo inet_aton SOCK_STREAM);
use Time::HiRes qw(time);

use Test::LLM;
use RedisClient;


# A frozen server and two workers that share what they know: each pays one
# deadline at most, then nothing; within 2 s of its return both are back.

my $t = RedisClient->new(workers => 2);
my $redis = $t->redis;
my $until;
my $deadline = $t->sanitized ? 400 : 100;

$t->client($redis->url, timeout => $deadline, share => 1);
both('at first');

for my $round (1 .. 2) {
    $redis->pause;
    my $paid = freeze(4);
    is $_, 1, "frozen, round $round: a worker pays once" for values %$paid;
    cmp_ok scalar keys %$paid, '<=', 2, 'both at most';

    $redis->resume;
    my $start = time;
    both("after round $round");
    cmp_ok time - $start, '<', 2, 'within 2 s: ' . (time - $start);
    is $t->run('c=PING'), 'status:PONG', 'it answers';
}

# many at a time: five late ones are enough for both
ok $t->until(sub { $t->said(qr/is back/) == 2 }), 'the log says twice that '
    . 'it is back';
is $t->said(qr/is down/), 2, 'and that it was down';

$redis->pause;
my $start = time;
my @many = map { $t->ask('c=PING') } 1 .. 40;
my %got;
$got{$t->answer($_)}++ for @many;
$got{$_} //= 0 for qw(timeout refused gone);
is $got{timeout} + $got{refused} + $got{gone}, 40, 'forty at a time are told';
cmp_ok time - $start, '<', $deadline / 1000 + 1, 'in the time of one';
my %slow = %{freeze(1)};
is "@{[values %slow]}", '', 'then nobody pays';
$redis->resume;
both('after forty');

# what one worker has found out, the other one need not: here with a
# connection to each of them

my %to;
while (keys %to < 2) {
    my $r = $t->ask('connected=1');
    $t->answer($r);
    $to{$t->pid} = $r;
}
my ($one, $two) = sort keys %to;
$redis->pause;
is by($one), 'timeout', 'frozen again: one pays';
my $asked = 0;
$until = time + 1.5;
while (time < $until) {
    $asked++ if by($one) ne 'refused';
    Test::LLM::HTTP->idle(0.01);
}
is $asked, 0, 'and then nothing';
is by($two), 'refused', 'the other one knows';
cmp_ok $t->ms, '<', $deadline / 2, 'and pays nothing';
$redis->resume;
both('after that');

# a worker that dies while it is down for all
$redis->pause;
freeze(1.5);
$t->kill_worker;
$redis->resume;
both('with a new worker');

# what a draining worker has sent, it waits for, and no longer
$redis->pause;
my $last = $t->ask("c=PING&timeout=" . 3 * $deadline);
Test::LLM::HTTP->idle(0.05);
$t->reload;
$redis->resume;
is $t->answer($last), 'status:PONG', 'a reply for a worker that drains';
ok $t->until(sub { 2 == (my @all = $t->workers(1)) }), 'which then ends';
both('after a reload');


# Every class of error by its own rule, from a server that says what it is
# told to say.

my %mode = (
    LOADING => [ 'loading', 'is loading the dataset in memory', 0 ],
    BUSY => [ 'busy', 'is busy running a script', 0 ],
    MASTERDOWN => [ 'masterdown', 'Link with MASTER is down', 0 ],
    CLUSTERDOWN => [ 'clusterdown', 'The cluster is down', 0 ],
    OOM => [ 'oom', 'command not allowed', 1 ],
    MISCONF => [ 'misconf', 'is configured to save RDB snapshots', 1 ],
    TRYAGAIN => [ 'tryagain', 'Multiple keys request', 1 ],
    'ASK' => [ 'cluster', '1 127.0.0.1:1', 1 ],
    CROSSSLOT => [ 'cluster', 'Keys do not hash to the same slot', 1 ],
    MOVED => [ 'moved', 'nonsense', 1 ],
);

my $f = RedisClient->new;
my $fake = Test::LLM::Redis->fake($f, \&says);
$f->client('redis://user:hush-hush@127.0.0.1:' . $fake->port . '/2');
$f->up('to the fake');
my ($auth, $select) = $fake->journal;
is "$auth, $select", '1: AUTH user hush-hush, 1: SELECT 2', 'its greeting';

for my $class (sort keys %mode) {
    my ($name, $text, $stays) = @{$mode{$class}};

    $fake->mode("$class $text");
    like $f->run('c=GET&c=a'), qr/^error:$name:$class/, "$class is told";

    if ($stays) {
        like $f->run('c=GET&c=a'), qr/^error/, "$class: commands are taken";

    } else {
        is $f->run('c=GET&c=a'), 'refused', "$class: then none are taken";
        Test::LLM::HTTP->idle(0.4);
        is $f->run('c=GET&c=a'), 'refused', "$class: not before it is over";
    }

    my $before = pings($fake);
    Test::LLM::HTTP->idle(0.3);
    cmp_ok pings($fake) - $before, '<=', 4, "$class: no storm of probes";

    $fake->mode('');
    $start = time;
    $f->up("after $class");
    cmp_ok time - $start, '<', 2, "$class: within 2 s";
    is $f->run('c=GET&c=a'), 'nil', "$class: good again";
}

is $f->stat('reconnects') - grep({ !$_->[2] } values %mode), 0,
    'each on the one connection';
is connections($fake), 1, 'that was made at first';

# a script that is never known is sent as a text once, not for ever
$fake->mode('NOSCRIPT No matching script');
like $f->run('c=GET&c=a'), qr/^error:noscript/, 'NOSCRIPT is told in the end';
$fake->mode('');

# a connection that comes and goes: ten lines in a minute
cmp_ok scalar(() = $f->log =~ /redis "/g), '<=', 10, 'errors: few lines';
my $quiet = RedisClient->new;
my $flap = Test::LLM::Redis->fake($quiet, sub {
    my ($it, $n, @words) = @_;
    return $words[0] eq 'GET' ? 'CLOSE' : "+PONG\r\n";
});
$quiet->client('redis://127.0.0.1:' . $flap->port);
$until = time + 15;
while (time < $until) {
    Test::LLM::HTTP->idle(1.05);
    $quiet->run('c=GET&c=a');
}
cmp_ok connections($flap), '>', 6, 'many connections';
cmp_ok scalar(() = $quiet->log =~ /redis "/g), '<=', 10, 'ten lines at most';
is $quiet->quit, 0, 'ends';


# MOVED to and fro: keys that have not one hash tag are no storm

my $ring = RedisClient->new;
my ($left, $right);
my $port = $ring->port('PORT_LEFT');
$right = Test::LLM::Redis->fake($ring, sub { moved($port, @_) });
my $other = $right->port;
$left = Test::LLM::Redis->fake($ring, sub { moved($other, @_) },
    port => $port);
$ring->client("redis://127.0.0.1:$port", timeout => 1000);
$ring->up('to the ring');
like $ring->run('c=GET&c=a'), qr/^error:moved:/, 'round and round: told';
$ring->until(sub { $ring->connected });
like $ring->run('c=GET&c=a'), qr/^error:moved:/, 'again' for 1 .. 20;
cmp_ok connections($left) + connections($right), '<=', 8,
    'few connections for that';
is $ring->quit, 0, 'ends';

# to a node that is not there: the command is over in its time
my $lost = RedisClient->new;
my $nowhere = Test::LLM::Redis->fake($lost, sub { moved(1, @_) });
$lost->client('redis://127.0.0.1:' . $nowhere->port);
$lost->up('to one that names a node which is not');
like $lost->run('c=GET&c=a'), qr/^gone|^timeout/, 'moved to nowhere';
$lost->up('to where it was');


# Sentinels that lie, know nothing, or are silent

my $s = RedisClient->new;
my $replica = Test::LLM::Redis->fake($s, sub { role('slave', @_) });
my $master = Test::LLM::Redis->fake($s, sub { role('master', @_) });
my @sentinels = map { Test::LLM::Redis->fake($s, \&sentinel) } 1 .. 3;
$sentinels[0]->mode($replica->port);
$sentinels[1]->mode('none');
$sentinels[2]->mode($master->port);
my $url = 'redis+sentinel://:hush-hush@'
    . join(',', map { '127.0.0.1:' . $_->port } @sentinels)
    . '/mymaster?sentinel_user=watch&sentinel_password=s%40crt';
$s->client($url);
$s->up('by the third Sentinel');
is $s->run('c=GET&c=a'), 'nil', 'to the master';
ok +(grep { /ROLE/ } $replica->journal), 'the first named another one';
is +(grep { /GET/ } $replica->journal), 0, 'that got no command';
like +($sentinels[0]->journal)[0], qr/1: AUTH watch s\@crt$/, 'its password';
is +(grep { /hush/ } map { $_->journal } @sentinels), 0,
    'Sentinels do not get the password of the server';

$_->mode($master->port) for @sentinels;
$sentinels[$_]->pause for 0, 1;
$master->stop;
ok $s->until(sub { !$s->connected }), 'the master is gone';
my $heir = Test::LLM::Redis->fake($s, sub { role('master', @_) });
$sentinels[2]->mode($heir->port);
$s->up('to the new one', 10);
$sentinels[$_]->resume for 0, 1;
is $s->run('c=GET&c=a'), 'nil', 'commands go there';
ok +(grep { /GET/ } $heir->journal), 'and arrive';

# a name without a resolver is said
$sentinels[$_]->mode("somewhere.invalid ") for 0 .. 2;
$heir->stop;
ok $s->wait_log(qr/"somewhere.invalid".*needs a "resolver"/),
    'a name without a resolver';
is $s->quit, 0, 'ends';
unlike $s->log, qr/hush-hush|s\@crt|s%40crt/, 'no password in the log';


# Names: looked up again by nginx's resolver

my $n = RedisClient->new;
my $dns = dns($n, '127.0.0.2');
my $old = Test::LLM::Redis->fake($n, sub { role('master', @_) },
    bind => first_address('localhost'));
$n->client('redis://localhost:' . $old->port,
    http => "resolver 127.0.0.1:$dns valid=1s ipv6=off;");
$n->up('by the address of the configuration');
$old->stop;
my $new = Test::LLM::Redis->new($n, port => $old->port, bind => '127.0.0.2');
$n->up('by the address of the resolver', 10);
is $n->run('c=SET&c=a&c=1'), 'status:OK', 'commands go there';
is $n->quit, 0, 'ends';


my $m = RedisClient->new;
my $named = Test::LLM::Redis->fake($m, sub { role('master', @_) });
my $namer = Test::LLM::Redis->fake($m, \&sentinel);
my $dns2 = dns($m, '127.0.0.1');
$namer->mode('master.test ' . $named->port);
$m->client('redis+sentinel://127.0.0.1:' . $namer->port . '/mymaster',
    http => "resolver 127.0.0.1:$dns2 ipv6=off;");
$m->up('to a master with a name', 10);
is $m->run('c=GET&c=a'), 'nil', 'commands go there';
is $m->quit, 0, 'ends';


# URLs that are refused, never with a password

my $x = RedisClient->new;
for my $case (
    [ 'rediss://:hush-hush@localhost', qr/hiredis 0.14 has no TLS.*redis.md/ ],
    [ 'redis+sentinel://:hush-hush@localhost', qr/no name of a master/ ],
    [ 'redis+sentinel://:hush-hush@localhost/', qr/no name of a master/ ],
    [ 'redis+sentinel://:hush-hush@localhost/m/x', qr/not a number/ ],
    [ 'redis+sentinel://:hush-hush@127.0.0.1:0/m', qr/invalid port/ ],
    [ 'redis+sentinel://127.0.0.1,,/m', qr/invalid Redis URL: no host/ ],
    [ 'redis+sentinel://127.0.0.1/m?sentinel_password=hush%-hush', qr/broken/ ],
    [ 'redis+sentinel://127.0.0.1/m?sentinel_x=hush-hush', qr/unknown arg/ ],
    [ 'redis+sentinel://no.such.host.invalid/m', qr/no Sentinel has an addr/ ])
{
    my ($what, $pattern) = @$case;
    my ($good, $said) = $x->test_client($what);

    ok !$good, "$what is refused";
    like $said, $pattern, "$what: why";
    unlike $said, qr/hush/, 'without a password';
}

done_testing;


# Commands for a while, by whom answered: how many times each worker's caller
# had to wait.

sub freeze {
    my ($seconds) = @_;

    my (%paid, $wrong);
    my $until = time + $seconds;

    while (time < $until) {
        my $answer = $t->run('c=PING');

        $wrong = $answer if $answer !~ /^(?:refused|timeout)$/;
        $paid{$t->pid}++ if $answer eq 'timeout' || $t->ms > $deadline / 2;
        Test::LLM::HTTP->idle(0.002);
    }

    is $wrong, undef, 'nothing but refused and late ones';

    return \%paid;
}


sub by {
    my ($pid) = @_;

    $to{$pid} = $to{$pid}->again(path => '/?c=PING');
    my $answer = $t->answer($to{$pid});

    return $t->pid == $pid ? $answer : "worker $pid has gone";
}


sub both {
    my ($when) = @_;

    my %up;
    ok $t->until(sub {
        $up{$t->pid} = 1 if $t->connected;
        return 2 == grep { $up{$_} } $t->workers;
    }, 5), "both workers are connected $when";
}


sub says {
    my ($it, $n, @words) = @_;

    return "+OK\r\n" if $words[0] =~ /AUTH|SELECT|CLIENT|SCRIPT/;

    my $pausing = $it->{mode} =~ /^(?:LOADING|BUSY|MASTERDOWN|CLUSTERDOWN)/;

    return "-$it->{mode}\r\n" if $it->{mode} && ($words[0] ne 'PING'
        || $pausing);
    return $words[0] eq 'PING' ? "+PONG\r\n" : "\$-1\r\n";
}


sub moved {
    my ($to, $it, $n, @words) = @_;
    return $words[0] eq 'GET' ? "-MOVED 1 127.0.0.1:$to\r\n" : "+PONG\r\n";
}


sub role {
    my ($role, $it, $n, @words) = @_;

    return "*3\r\n\$@{[length $role]}\r\n$role\r\n:0\r\n*0\r\n"
        if $words[0] eq 'ROLE';
    return $words[0] eq 'GET' ? "\$-1\r\n" : "+PONG\r\n";
}


sub sentinel {
    my ($it, $n, @words) = @_;

    return "+OK\r\n" if $words[0] eq 'AUTH';
    return "*-1\r\n" if $it->{mode} eq 'none';

    my ($host, $port) = $it->{mode} =~ /^(\S+) (\d*)/ ? ($1, $2 || 6379)
        : ('127.0.0.1', $it->{mode});

    return "*2\r\n\$@{[length $host]}\r\n$host\r\n"
        . "\$@{[length $port]}\r\n$port\r\n";
}


sub connections {
    my %seen = map { /^(\d+):/ ? ($1, 1) : () } $_[0]->journal;
    return scalar keys %seen;
}


sub pings { scalar grep { /PING/ } $_[0]->journal }


# the one that is tried first: ::1 on some machines

sub first_address {
    my ($name) = @_;

    my ($error, @found) = getaddrinfo($name, '',
        { flags => AI_ADDRCONFIG, socktype => SOCK_STREAM });
    die "$name: $error" if $error;

    return (getnameinfo($found[0]{addr}, NI_NUMERICHOST))[1];
}


# a name server that has one address for all names

sub dns {
    my ($t, $address) = @_;

    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        Proto => 'udp') or die "dns: $!";
    my $pid = fork() // die "fork: $!";

    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);

        while (my $from = $socket->recv(my $question, 512)) {
            my ($name) = substr($question, 12) =~ /^(.*?\0)/s;
            my $type = unpack 'n', substr $question, 12 + length $name, 2;
            my $answer = $type == 1
                ? pack('n n n N n', 0xc00c, 1, 1, 1, 4) . inet_aton($address)
                : '';

            $socket->send(pack('a2 n5', $question, 0x8180, 1,
                $answer ? 1 : 0, 0, 0) . $name . pack('n n', $type, 1)
                . $answer, 0, $from);
        }

        POSIX::_exit(0);
    }

    $t->{children}{$pid} = 'dns';

    return $socket->sockport;
}
