#!/usr/bin/perl

# The directive llm_tasks: what is wrong is refused with what was expected,
# and tells no secret; what is right works, without Redis as well; the
# endpoints of tasks, files and batches are there with it alone.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new;

$t->write('tenants.json', '{"teams":{"team":{}},"keys":{}}');
$t->write('key', "sk-provider-secret\n");
$t->write('secret', 'hush-hush' x 4 . "\n");
$t->write('hook', 'hush-hook' x 4 . "\n");
$t->write('empty', '');

my %part = (
    redis    => 'llm_redis unix:%%DIR%%/redis.sock;',
    internal => 'llm_internal unix:%%DIR%%/internal.sock;',
    resolver => 'resolver 127.0.0.1:1;',
    http     => '',
    tasks    => '',
    listen   => 'listen unix:%%DIR%%/internal.sock;',
);

sub config {
    my (%change) = @_;
    my %p = (%part, %change);

    return <<EOT;
%%GLOBALS%%
http {
    %%GLOBALS_HTTP%%
    llm_zone llm 1m;
    llm_tenants %%DIR%%/tenants.json;
    llm_provider mock uri=/llm/mock/ key=file:%%DIR%%/key;
    llm_route * mock;
    $p{redis}
    $p{internal}
    $p{resolver}
    $p{http}
    $p{tasks}
    server {
        listen 127.0.0.1:%%PORT_TEST%%;
        $p{listen}
        location / { llm_gateway; }
        location /llm/mock/ { internal; proxy_pass http://127.0.0.1:1/v1/;
            proxy_ignore_client_abort on; proxy_buffering off;
            proxy_next_upstream off; }
    }
}
EOT
}


my $hook = 'webhook_secret=file:%%DIR%%/hook';
my $entry = qr/expected NAME, \*\.NAME or either with :PORT, or http/;

# values that a parameter may not have

sub bad {
    my ($name, $expected, @values) = @_;

    return map { [ "on $name=$_", qr/"$name=\Q$_\E": expected \Q$expected\E/ ]
        } '', 'x', @values;
}

# [parameters, or the configuration, what is said]

for (
    [ 'maybe', qr/"maybe": expected on or off/ ],
    [ 'off max=1', qr/takes no parameter behind "off"/ ],
    [ 'on patience=1',
        qr/"patience=1": expected max=, team_max=, .*, archive= or run=/ ],
    [ 'on max', qr/"max": expected max=/ ],
    (map { bad($_, 'a number from 1 to 10m', qw(0 -1 1g 10000001 11m)) }
        qw(max team_max)),
    (map { bad($_, 'a number from 1 to 10000', qw(0 -1 10001 1k)) }
        qw(window in_flight)),
    bad('lease', 'a time from 200ms to 10m', qw(0 199ms 11m)),
    bad('deaths', 'a number from 0 to 100', qw(-1 101)),
    bad('tries', 'a number from 1 to 100', qw(0 -1 101)),
    (map { bad($_, 'a time from 1ms to 1h', qw(0 61m)) }
        qw(backoff backoff_max)),
    [ 'on backoff=2m', qr/expects a backoff= of at most backoff_max=/ ],
    [ 'on backoff_max=100ms backoff=101ms', qr/expects a backoff= of at/ ],
    bad('timeout', 'a time from 100ms to 1d', qw(0 99ms 25h)),
    (map { bad($_, 'a time from 1s to 365d', qw(0 -1s 366d 100ms)) }
        qw(deadline keep results file_ttl)),
    bad('result_max', 'a size from 1k to 15m', qw(0 1023 16m)),
    [ 'on model=', qr/"model=": expected a model of 1 to 256 bytes/ ],
    [ 'on model=' . 'x' x 257, qr/expected a model of 1 to 256 bytes/ ],
    (map { [ "on '$_'", qr/expected printable ASCII without spaces, quotes/ ]
        } 'model=a b', 'model=a"b', 'model=a\\\\b', "model=a\x{c3}\x{a9}"),
    bad('file_max', 'a size from 1k to 1g', qw(0 1023 1025m)),
    bad('file_quota', 'a size from 1k to 1024g', qw(0 1023 1025g)),
    bad('encrypt', 'on or off', qw(yes 1)),
    bad('run', 'on or off', qw(yes 1)),
    [ 'on archive=', qr/"archive=": expected a path/ ],

    # webhooks
    [ 'on webhook=', qr/"webhook=": expected a host/ ],
    (map { [ "on $hook webhook=$_", $entry ] } qw(* *. a..b .a a/b a:b
        a:0 http:// http://127.0.0.1 http://10.0.0.1:0 127.0.0.1 ftp://a
        http://a/b u@a 10.0.0.256 [::1])),
    [ 'on webhook=a.example', qr/expects a webhook_secret= with webhook=/ ],
    [ 'on webhook_secret=', qr/"webhook_secret=": expected env:VARIABLE or/ ],
    [ 'on webhook_secret=hush-hush',
        qr/webhook_secret of "llm_tasks": expected env:VARIABLE or file:/ ],
    [ 'on webhook_secret=env:NO_SUCH_1',
        qr/webhook_secret of .* no environment variable "NO_SUCH_1"/ ],
    [ 'on webhook_secret=file:/no/file', qr{"/no/file" failed} ],
    [ 'on webhook_secret=file:%%DIR%%/empty',
        qr/expects a webhook_secret that is not empty/ ],
    [ { tasks => "llm_tasks on $hook webhook=a.example;", resolver => '' },
        qr/webhook= needs a "resolver" in the http block/ ],

    # what else it needs
    [ { tasks => "\nllm_tasks on;", internal => '', listen => '' },
        qr/"llm_tasks" in \S+:\d+ needs "llm_internal" in the http block/ ],
    [ 'on encrypt=on',
        qr/"llm_tasks encrypt=on" in \S+:\d+ needs "llm_secret" in the http/ ],
    [ { tasks => 'llm_tasks on; llm_tasks off;' }, qr/is duplicate/ ],
    [ { tasks => 'llm_tasks off; llm_tasks on;' }, qr/is duplicate/ ],
    [ { tasks => 'llm_tasks;' }, qr/invalid number of arguments/ ],
    [ { tasks => 'server { llm_tasks on; }' }, qr/"llm_tasks" .*not allowed/ ],
) {
    my ($change, $expected) = @$_;
    $change = { tasks => "llm_tasks $change;" } if !ref $change;
    my ($ok, $said) = $t->test_config(config(%$change));

    ok !$ok && $said =~ $expected && $said !~ /hush-ho?[uo]/, 'refused: '
        . join ' ', values %$change or diag $said;
    like $said, qr/\.conf:\d+/, '… with its place'
        if $said !~ /needs a "resolver"/;
}


for (
    { tasks => '' },
    { tasks => 'llm_tasks off;', internal => '', listen => '' },
    { tasks => 'llm_tasks on;' },
    { tasks => 'llm_tasks on;', resolver => '' },
    { tasks => 'llm_tasks on;', redis => '' },
    { tasks => 'llm_tasks on;', redis => 'llm_redis off;' },
    { tasks => 'llm_tasks on encrypt=off;' },
    # in any order
    { tasks => 'llm_tasks on encrypt=on; llm_secret file:%%DIR%%/secret;' },
    { tasks => 'llm_tasks on; llm_secret file:%%DIR%%/secret;' },
    { tasks => 'llm_tasks on;', internal => '',
        http => 'llm_internal unix:%%DIR%%/internal.sock;' },
    { tasks => 'llm_tasks on max=1 team_max=1 window=1 in_flight=1 '
        . 'lease=200ms deaths=0 tries=1 backoff=1ms backoff_max=1ms '
        . 'timeout=100ms deadline=1s keep=1s results=1s result_max=1k '
        . 'model=a file_max=1k file_quota=1k file_ttl=1s run=off;' },
    { tasks => 'llm_tasks on max=10m team_max=10000k window=10000 '
        . 'in_flight=10000 lease=10m deaths=100 tries=100 backoff=1h '
        . 'backoff_max=1h timeout=1d deadline=365d keep=365d results=365d '
        . 'result_max=15m model=org/model:7b@x file_max=1g file_quota=1024g '
        . 'file_ttl=365d run=on archive=%%DIR%%/tasks.jsonl;' },
    { tasks => "llm_tasks on $hook;", resolver => '' },
    { tasks => "llm_tasks on webhook=a.example webhook=*.b.example:8443 $hook "
        . 'webhook=http://127.0.0.1:8080 webhook=https://[::1]:8443 '
        . 'webhook=http://c.example;' },
) {
    my ($ok, $said) = $t->test_config(config(%$_));
    ok $ok, 'accepted: ' . join ' ', %$_ or diag $said;
}

{
    my ($ok, $said) = $t->test_config(config(
        tasks => 'llm_tasks on webhook_secret=file:%%DIR%%/key;'));
    ok $ok && $said =~ /webhook_secret is short: fewer than 24 bytes/
        && $said !~ /sk-/, 'a warning' or diag $said;
}


# the endpoints

my @all = (['GET', '/api/tasks?task_ids=a'], ['GET', '/api/tasks/a'],
    ['GET', '/v1/files'], ['GET', '/v1/files/a'], ['GET', '/v1/batches'],
    ['GET', '/v1/batches/a'], ['POST', '/api/tasks'],
    ['POST', '/v1/batches']);


sub answers {
    my ($g, $status, $code, $what, $wait) = @_;

    for (@all) {
        my ($method, $path) = @$_;
        my $r = $method eq 'GET' ? $g->get($path, key => 'user')
            : $g->post($path, { prompts => ['a'] }, key => 'user');

        is $r->status . ' ' . ($r->json->{error}{code} // ''),
            "$status $code", "$what: $method $path";
        is $r->header('retry-after'), $wait, 'and when to come again'
            if $wait;
    }
}


sub gateway {
    my ($tasks, %o) = @_;
    my $g = Test::LLM->new(workers => 2);
    my $socket = $g->path('internal.sock');

    $g->key('user');
    $g->gateway(http => "llm_internal unix:$socket; $tasks",
        server => "listen unix:$socket;", %o);

    return $g;
}


my $without = gateway('');
answers($without, 404, 'unknown_url', 'without llm_tasks');
is $without->get('/api/tasks')->status, 401, 'but a key comes first';

my $off = gateway('llm_tasks off;');
answers($off, 404, 'unknown_url', 'llm_tasks off');

my $none = gateway('llm_tasks on;', redis => 0);
answers($none, 503, 'tasks_unavailable', 'without Redis', 5);


# Redis goes and comes; the archive is there and opened anew

my $g = gateway('llm_tasks on archive=%%DIR%%/tasks.jsonl team_max=2;');
my $redis = $g->{redis};
my $works = sub { $g->get('/v1/batches', key => 'user')->status == 200 };

ok $g->until($works, 10), 'with Redis';

# each worker: that of the limits, that of the tasks, and one that waits

my $clients = sub {
    my $n = () = $redis->command(CLIENT => 'LIST') =~ /^id=/mg;
    return $n == 1 + 2 * 3;
};

ok $g->until($clients, 10), 'a connection more for each worker';

my $many = $g->post('/api/tasks', { prompts => [('a') x 3], model => 'm' },
    key => 'user');
is $many->status . ' ' . ($many->json->{error}{code} // ''),
    '429 queue_full', 'team_max=2';

$redis->stop('KILL');
answers($g, 503, 'tasks_unavailable', 'Redis is gone', 5)
    if $g->until(sub { !$works->() }, 10);
$redis->start;
ok $g->until($works, 20), 'it is back';

ok -f $g->path('tasks.jsonl'), 'the archive is there';
rename $g->path('tasks.jsonl'), $g->path('tasks.1');
kill 'USR1', $g->master;
ok $g->until(sub { -f $g->path('tasks.jsonl') }, 10), 'and opened anew';

$g->reload;
ok $g->until($works, 10), 'after a reload';
ok $g->until($clients, 10), 'no more connections than before';

done_testing;
