#!/usr/bin/perl

# Letters between workers of two nginx by Redis: their order and bytes, what
# comes after lost connections, restarts and reloads, how long one takes and
# what an idle worker costs.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/redis", "$FindBin::Bin/inbox";

use Digest::MD5 qw(md5_hex);
use IO::Socket::INET;
use Time::HiRes qw(time);

use Test::LLM;
use RedisClient;
use InboxClient;


my ($x, $y) = map { InboxClient->new(workers => 2) } 1, 2;
my $redis = $x->redis;
my $url = $redis->url;

$x->inboxes($url);
$y->inboxes($url);
ok $_->ready($_->workers), 'letters are read' for $x, $y;

my ($first, $second) = $x->workers;
my ($c, $d) = $y->workers;
my @all = ([ $x, $first ], [ $x, $second ], [ $y, $c ], [ $y, $d ]);
my ($one, $two, $three, $four) = map { name($_) } @all;

my %names = map { $_ => 1 } $one, $two, $three, $four;
is scalar keys %names, 4, 'each worker has a name of its own';
like $_, qr/^[0-9a-f]{16}$/, 'its name' for keys %names;
is ups($_), 1, 'told once that letters are read' for @all;


# one sender's letters, in order, with all bytes

is $x->at($first, "do=send&to=$three&seq=0&n=500&size=200"),
    "sent=500 declined=0\n", 'five hundred are sent at a time';
is $x->at($second, "do=send&to=$three&seq=1000&n=500&size=300"),
    "sent=500 declined=0\n", 'and by another one';
my @got = $y->wait_got($c, 1000);
is scalar @got, 1000, 'all came';
in_order('of the one', [grep { number($_) < 1000 } @got], 0 .. 499);
in_order('of the other', [grep { number($_) >= 1000 } @got], 1000 .. 1499);
is wrong(@got), 0, 'every byte is as it was';
is scalar(grep { $_->{board} } @got), 0, 'they are not from the board';
is_deeply [$y->got($d)], [], 'the worker beside it got none';

@got = ();
for (0 .. 19) {
    $x->at($first, "do=send&to=$three&seq=${_}0&n=10&size=65536");
    push @got, $y->wait_got($c, 10);
}
in_order('of 64 KB', \@got, 0 .. 199);
is wrong(@got), 0, 'every byte of them';
ok $x->until(sub { $redis->command(XLEN => "{llm}:i:$three") < 1000 }),
    'large letters leave the memory when they are read';

$x->at($first, "do=send&to=$three&n=200&size=65536") =~ /sent=(\d+)/;
cmp_ok $1, '<', 40, 'no more are taken at a time than go out soon';
$y->wait_got($c, $1);
is $x->fact($first, 'timeouts'), 0, 'so that others are not late';

$x->at($first, "do=send&to=$one&seq=7&size=1048576");
@got = $x->wait_got($first, 1);
is wrong(@got), 0, 'a megabyte, to oneself';
is $x->at($first, "do=send&to=$one&size=1048577"), "sent=0 declined=1\n",
    'more is not taken';
is $x->at($first, "do=send&to=short"), "sent=0 declined=1\n",
    'nor is what is no name';
$x->at($first, "do=send&to=$two&seq=1");
@got = $x->wait_got($second, 1);
is "$got[0]{head} $got[0]{len}", 'S1 3', 'a short one';

my $ttl = $redis->command(PTTL => "{llm}:i:$two");
ok $ttl > 50000 && $ttl <= 60000, 'an inbox is forgotten after a minute';


# the board

$x->at($second, 'do=post&seq=20&n=50&size=100');
for (@all) {
    @got = came($_, 50);
    in_order('of the board', \@got, 20 .. 69);
    is wrong(@got), 0, 'every byte';
    is scalar(grep { !$_->{board} } @got), 0, 'they are from the board';

    my @ids = map { $_->{id} } @got;
    is scalar(grep { $ids[$_] <= $ids[$_ - 1] } 1 .. $#ids), 0, 'ids grow';
    cmp_ok abs(($ids[0] >> 20) / 1000 - time), '<', 60, 'and tell the time';
}
ok $redis->command(PTTL => '{llm}:board') > 3600000, 'it lives for hours';

# who is new begins at its end
$y->kill_worker('KILL', $d);
($d) = grep { $_ != $c } $y->workers;
$all[3] = [ $y, $d ];
ok $y->ready($d), 'a new worker reads';
isnt name($all[3]), $four, 'under a new name';
$four = name($all[3]);
$x->at($first, 'do=post&seq=70');
in_order('for the new one: what came since', [came($all[3], 1)], 70);
in_order('for others too', [came($_, 1)], 70) for @all[0 .. 2];


# lost connections: what came meanwhile is read, nothing twice

my @ups = map { ups($_) } @all;
for my $round (1 .. 5) {
    $redis->command(CLIENT => 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    $redis->command(XADD => "{llm}:i:$three", '*', 'l',
        InboxClient::letter($round, 50));
    $redis->command(XADD => '{llm}:board', '*', 'l',
        InboxClient::letter(100 + $round, 50));
    ok all_ready(), "killed, $round: read again";
    in_order("killed, $round", [sort { number($a) <=> number($b) }
        came($all[2], 2)], $round, 100 + $round);
    in_order('the board', [came($_, 1)], 100 + $round) for @all[0, 1, 3];
}
is scalar(grep { ups($all[$_]) < $ups[$_] + 5 } 0 .. 3), 0,
    'each time it was told';
is_deeply [map { $_->[0]->got($_->[1]) } @all], [], 'nothing came twice';


# Redis dies, and comes back empty

$redis->stop('KILL');
ok until_none(), 'dead: nothing is read';
is $x->at($first, "do=send&to=$three"), "sent=0 declined=1\n",
    'letters are declined';
$redis->start;
my $start = time;
ok all_ready(), 'back: letters are read';
cmp_ok time - $start, '<', 4, 'soon: ' . (time - $start);
speak('after that');

# another time, by a clock that was put back
$redis->command('FLUSHALL');
$redis->command(XADD => '{llm}:board', '5000-1', 'l', 'S1:');
$redis->command(CLIENT => 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
ok all_ready(), 'read again';
$redis->command(XADD => '{llm}:board', '5000-7', 'l', 'S2:');
in_order('of a younger board', [came($_, 1)], 2) for @all;
is +(5000 << 20) + 7, $got[0]{id}, 'with its id';
$redis->command('FLUSHALL');
speak('after that');


# frozen: the deadline of the other connection says so, and nothing is lost

$redis->pause;
$x->at($first, "do=send&to=$three&seq=900") for 1 .. 3;
ok $x->until(sub { $x->fact($first, 'timeouts') > 0 || !$x->fact($first, 'ready') }),
    'frozen';
$redis->resume;
ok all_ready(), 'read again';
came($all[2], 1, 1);
speak('after that');


# full

$redis->command(CONFIG => 'SET', 'maxmemory', 1);
$x->at($first, "do=send&to=$three&seq=$_") for 1 .. 20;
Test::LLM::HTTP->idle(0.3);
is_deeply [$y->got($c)], [], 'full: nothing comes';
is $y->fact($c, 'ready'), 1, 'but it would be heard';
$redis->command(CONFIG => 'SET', 'maxmemory', 0);
speak('after that');
is said($x, qr/answered with an error: OOM/), 1, 'the log says it once';


# a reload with a letter under way: the old worker reads what it is sent

my @before = $x->workers;
$x->reload;
($first, $second) = $x->workers;
@all[0, 1] = ([ $x, $first ], [ $x, $second ]);
is scalar(grep { my $p = $_; grep { $_ == $p } @before } $first, $second), 0,
    'a reload: new workers';
ok all_ready(), 'they read';
ok $x->until(sub { 2 == (my @w = $x->workers(1)) }, 5),
    'the old ones did not wait for Redis';
cmp_ok scalar(grep { ($redis->command(PTTL => "{llm}:i:$_") // 0) > 1 }
    $one, $two), '==', 0, 'and their inboxes are gone';
($one, $two) = map { name($_) } @all[0, 1];
speak('after that');

# few lines for all of this
cmp_ok said($_, qr/redis "/), '<=', 12, 'few lines in the log' for $x, $y;
is said($_, qr/commands that wait/), 0, 'none twice' for $x, $y;


# the way of a letter

for (1 .. 400) {
    $x->at($first, "do=time&to=$three");
    Test::LLM::HTTP->idle(0.002);
}
ok $y->until(sub { $y->fact($c, 'times') == 400 }), 'all came';
my ($median, $late) = map { $y->fact($c, $_) } qw(median late);
diag "a letter to another nginx: median $median us, 99 of 100 $late us";
cmp_ok $median, '<', $x->sanitized ? 5000 : 1000, 'well under a millisecond';


# idle: one command in 5 s and worker

Test::LLM::HTTP->idle(0.5);
$redis->command(CONFIG => 'RESETSTAT');
$start = time;
Test::LLM::HTTP->idle(10.5);
my $info = $redis->command(INFO => 'commandstats');
my $calls = 0;
$info =~ s/cmdstat_(\S+?):calls=(\d+)//
    and $1 !~ /^(?:info|config)/ && ($calls += $2) while $info =~ /cmdstat/;
cmp_ok $calls, '<=', 4 * 3, "idle: $calls commands in ten seconds of four";
cmp_ok $calls, '>=', 4, 'but they do read';
speak('after that');


# by a proxy: resets, and a line that falls silent

my $p = InboxClient->new;
my ($proxied, $control) = proxy($p);
$p->inboxes($proxied);
my ($w) = $p->workers;
my $name = name([ $p, $w ]);
ok $p->ready($w), 'read by a proxy';

for my $round (1 .. 5) {
    $p->at($w, "do=send&to=$name&seq=$round&n=20&size=20000");
    fault($control, $_) for 'drop';
    ok $p->ready($w), "reset, $round: read again";
}
@got = $p->got($w);
is wrong(@got), 0, 'what came was whole';
my @numbers = map { number($_) } @got;
$p->at($w, "do=send&to=$name&seq=500");
ok $p->until(sub { grep { number($_) == 500 } $p->got($w) }), 'and goes on';

# the connection is there and says nothing: found without any traffic
$start = time;
fault($control, 'down stall-after 0');
ok $p->until(sub { !$p->fact($w, 'ready') }, 12), 'silent: found';
cmp_ok time - $start, '<', 9, 'in seconds: ' . (time - $start);
fault($control, 'pass');
ok $p->ready($w), 'read again';
$p->at($w, "do=send&to=$name&seq=600");
ok $p->until(sub { grep { number($_) == 600 } $p->got($w) }), 'and goes on';
cmp_ok said($p, qr/redis "/), '<=', 10, 'few lines in the log';
is $p->quit, 0, 'ends';


# what is forbidden: said once, the other connection is none the worse

$redis->command(ACL => 'SETUSER', 'poor', 'on', '>word', '~*', '+ping',
    '+pexpire', '+get');
my $q = InboxClient->new(workers => 2);
$q->inboxes('unix://poor:word@' . $redis->path);
my ($v) = $q->workers;
ok $q->wait_log(qr/does not serve commands that wait: NOPERM/), 'no right';
$q->at($v, "do=send&to=$name") for 1 .. 5;
Test::LLM::HTTP->idle(1.5);
is $q->at($v, "do=send&to=$name"), "sent=1 declined=0\n",
    'its other connection is up';
is $q->fact($v, 'reconnects'), 0, 'and always was';
is said($q, qr/does not serve/), 1, 'said once by two workers';
cmp_ok said($q, qr/redis "/), '<=', 3, 'few lines in the log';
$redis->command(ACL => 'SETUSER', 'poor', '+xadd', '+xread', '+xrevrange',
    '+xdel');
ok $q->until(sub { $q->fact($v, 'ready') }, 8), 'with the right: read';
$name = name([ $q, $v ]);
$q->at($v, "do=send&to=$name&seq=3");
ok $q->until(sub { grep { number($_) == 3 } $q->got($v) }), 'and sent';
is $q->quit, 0, 'ends';

my $r = InboxClient->new;
$r->write('renamed.conf', qq{rename-command XREAD ""\n});
my $renamed = $r->redis(include => $r->path('renamed.conf'));
$r->inboxes($renamed->url);
ok $r->wait_log(qr/does not serve commands that wait: ERR unknown/),
    'a command with another name';
Test::LLM::HTTP->idle(6);
is said($r, qr/redis "/), 1, 'said once';
is $r->quit, 0, 'ends';


# two servers, an inbox by each

my $z = InboxClient->new;
my $other = Test::LLM::Redis->new($z, name => 'other');
$z->inboxes($url, $other->url);
($w) = $z->workers;
ok $z->ready($w), 'the one is read';
ok $z->until(sub { $z->fact($w, 'ready', '&other=1') }), 'and the other';
my @two = map { $z->name($w, $_) } '', '&other=1';
isnt $two[0], $two[1], 'two names';
$z->at($w, "do=send&to=$two[0]&seq=1&n=100");
$z->at($w, "do=send&to=$two[1]&seq=200&n=100&other=1");
in_order('by the one', [$z->wait_got($w, 100)], 1 .. 100);
in_order('by the other', [$z->wait_got($w, 100, 10, '&other=1')], 200 .. 299);
$other->stop('KILL');
ok $z->until(sub { !$z->fact($w, 'ready', '&other=1') }), 'one of them dies';
is $z->fact($w, 'ready'), 1, 'the other does not';
$z->at($w, "do=send&to=$two[0]&seq=5");
in_order('and serves', [$z->wait_got($w, 1)], 5);
is $z->fact($w, 'ups'), 1, 'without a break';
is $z->quit, 0, 'ends';


# a cluster: both connections go where the slot goes

my $m = InboxClient->new;
my @nodes = map {
    Test::LLM::Redis->new($m, name => "node$_", port => $m->port("C$_"),
        'cluster-enabled' => 'yes', 'cluster-port' => $m->port("B$_"))
} 1, 2;

$nodes[0]->command(CLUSTER => 'ADDSLOTSRANGE', 0, 16383);
$nodes[0]->command(CLUSTER => 'MEET', '127.0.0.1', $m->port('C2'),
    $m->port('B2'));
ok $m->until(sub { 2 == grep { $_->command(CLUSTER => 'INFO')
    =~ /cluster_state:ok.*cluster_known_nodes:2/s } @nodes }, 20), 'a cluster';

$m->inboxes('redis://127.0.0.1:' . $m->port('C2'));
($w) = $m->workers;
$name = name([ $m, $w ]);
ok $m->ready($w), 'read by the node that has no slot';
$m->at($w, "do=send&to=$name&seq=1");
in_order('from the other node', [$m->wait_got($w, 1)], 1);

my ($from, $to) = map { $_->command(CLUSTER => 'MYID') } @nodes;
my $slot = $nodes[0]->command(CLUSTER => 'KEYSLOT', '{llm}:');
$nodes[0]->command(DEL => "{llm}:i:$name");
$nodes[$_]->command(CLUSTER => 'SETSLOT', $slot, 'NODE', $to) for 1, 0;
my @after;
ok $m->until(sub {
    $m->at($w, "do=send&to=$name&seq=2");
    Test::LLM::HTTP->idle(0.1);
    return @after = $m->got($w);
}), 'moved: letters go on';
is $m->quit, 0, 'ends';


# Sentinel: a new master

my $s = InboxClient->new;
my ($old, $new, $watch) = map { $s->port($_) } qw(OLD NEW WATCH);
my $master = Test::LLM::Redis->new($s, name => 'master', port => $old);
my $replica = Test::LLM::Redis->new($s, name => 'replica', port => $new,
    replicaof => "127.0.0.1 $old");
my $sentinel = Test::LLM::Redis->sentinel($s, 'sentinel', $watch,
    "127.0.0.1 $old");
ok $s->until(sub { $replica->command('INFO', 'replication')
    =~ /master_link_status:up/ && $sentinel->command('INFO')
    =~ /slaves=1/ }, 20), 'a master and its replica are watched';

$s->inboxes("redis+sentinel://127.0.0.1:$watch/mymaster");
($w) = $s->workers;
$name = name([ $s, $w ]);
ok $s->ready($w), 'read by a Sentinel';
$s->at($w, "do=send&to=$name&seq=1");
in_order('from the master', [$s->wait_got($w, 1)], 1);
$sentinel->command(SENTINEL => 'FAILOVER', 'mymaster');
ok $s->until(sub {
    $s->at($w, "do=send&to=$name&seq=2");
    Test::LLM::HTTP->idle(0.1);
    return $replica->command('ROLE')->[0] eq 'master' && $s->got($w);
}, 20), 'the other one is master: letters go on';
is $s->quit, 0, 'ends';
cmp_ok said($s, qr/redis "/), '<=', 10, 'few lines in the log';

done_testing;


sub name     { $_[0][0]->name($_[0][1]) }
sub ups      { $_[0][0]->fact($_[0][1], 'ups') }
sub number   { $_[0]{head} =~ /^S(\d+)$/ ? $1 : -1 }
sub said     { $_[0]->said($_[1]) }


# came([nginx, pid], how many): no more, no less, unless "more"

sub came {
    my ($who, $n, $more) = @_;

    my @letters = $who->[0]->wait_got($who->[1], $n);
    @got = @letters;
    cmp_ok scalar @letters, $more ? '>=' : '==', $n, "$n letters";

    return @letters;
}


sub in_order {
    my ($what, $letters, @numbers) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is join(' ', map { number($_) } @$letters), "@numbers", "in order: $what";
}


my %sums;

sub wrong {
    return scalar grep {
        my $key = number($_) . " $_->{len}";
        $sums{$key} //= md5_hex(InboxClient::letter(split ' ', $key));
        $_->{sum} ne $sums{$key};
    } @_;
}


sub all_ready {
    return $x->until(sub {
        !grep { !$_->[0]->fact($_->[1], 'ready') } @all;
    }, 10);
}


sub until_none {
    return $x->until(sub {
        !grep { $_->[0]->fact($_->[1], 'ready') } @all;
    }, 10);
}


# a letter from each to each, and to all

sub speak {
    my ($when) = @_;

    my @names = map { name($_) } @all;

    for my $from (@all) {
        $from->[0]->at($from->[1], "do=send&to=$_&seq=1") for @names;
        $from->[0]->at($from->[1], 'do=post&seq=2');
    }

    is scalar(grep {
        my @l = sort map { number($_) } $_->[0]->wait_got($_->[1], 8);
        "@l" ne '1 1 1 1 2 2 2 2';
    } @all), 0, "each to each and all $when";
}


sub proxy {
    my ($t) = @_;

    my $path = $t->path('proxy.sock');

    $t->spawn('proxy', "$t->{build}/faultproxy", '--listen', "unix:$path",
        '--to', 'unix:' . $redis->path);
    $t->until(sub { $t->read('proxy.out') =~ /control \S+:(\d+)/ })
        or die $t->read('proxy.out');
    my ($port) = $t->read('proxy.out') =~ /control \S+:(\d+)/;
    chmod 0777, $path;

    return ("unix:$path", IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port")
        // die "control: $!");
}


sub fault {
    my ($control, $command) = @_;

    print $control "$command\n";
    $control->flush;
    my $answer = <$control>;
    die "$command: $answer" if $answer !~ /^ok/;
}
