#!/usr/bin/perl

# "make run": util/run.sh, from the first line it prints to the last process
# it leaves (none).

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new;

if (!$t->{module} || !-e $t->{module}) {
    plan skip_all => 'runs the module that is built for the system\'s nginx';
}

my $script = "$t->{top}/util/run.sh";
my $run = $t->path('run');

delete @ENV{qw(OPENAI_BASE_URL OPENAI_API_KEY REDIS_URL TENANTS WORKERS
    ADMIN_PORT ADMIN_SECRET)};
$ENV{BUILD} = $t->{build};
$ENV{RUN_DIR} = $run;

my $runs = 0;


# the first time: everything by default

my ($pid, $out) = run();

ok $t->until(sub { $out->() =~ /^Ctrl-C/m }, 20), 'it starts'
    or diag $out->();

my @lines = $out->() =~ /^(curl .*)$/mg;
is @lines, 2, 'two lines to paste';
like $lines[1], qr/"stream": true/, 'the second one streams';

my $answer = qx($lines[0] -s);
my $json = eval { JSON::PP->new->utf8->decode($answer) };
like $json->{choices}[0]{message}{content}, qr/^Hello from the mock/,
    'the first line works as pasted';
like qx($lines[1] -s), qr/^data: \[DONE\]$/m, 'and the second';

my ($secret) = $out->() =~ /admin secret\s+(\S+)/;
is length $secret, 40, 'an admin secret';
is $t->get('/healthz', port => $t->port('PORT'))->status, 200, '/healthz';
is $t->get('/readyz', port => $t->port('ADMIN_PORT'))->status, 200,
    '/readyz of the admin listener';
like $t->get('/metrics', port => $t->port('ADMIN_PORT'))->body, qr/^# TYPE/m,
    '/metrics';
is $t->get('/metrics', port => $t->port('PORT'))->status, 404,
    'no metrics on the public listener';
is + (stat "$run/nginx.conf")[2] & 077, 0, 'the configuration is private';
is + (stat "$run/admin-secret")[2] & 0777, 0600, 'so is the secret';

my $purge = $t->post('/admin/v1/cache/purge', '{"team": "nobody"}',
    port => $t->port('ADMIN_PORT'),
    headers => { Authorization => "Bearer $secret" });
is $purge->status, 200, 'which opens the admin API';
ok $purge->json->{fleet}, 'and Redis takes a purge';
is $t->post('/admin/v1/cache/purge', '{"all": true}',
    port => $t->port('ADMIN_PORT'))->status, 401, 'nothing else does';
is qx(grep -rl $secret $run/logs $run/nginx.conf), '', 'no log has it';

my ($other, $said) = run();
ok ended($other), 'a second one on the same port';
like $said->(), qr/in use|already/, 'is told why not';

kill 'INT', $pid;
is ended($pid), 0, 'SIGINT ends it';
is left(), '', 'and everything that it started';


# again: Redis kept its data, the secret is the same

($pid, $out) = run();
$t->until(sub { $out->() =~ /^Ctrl-C/m }, 20);

like $out->(), qr/\Q$secret\E/, 'the admin secret is kept';
like qx($lines[0] -s -i), qr/cache-status: ngx-llm; hit/i,
    'and so is the cache';

kill 'KILL', $pid;
ended($pid);
ok $t->until(sub { left() eq '' }, 10), 'kill -9 leaves nothing either'
    or diag left();


# while starting

for my $delay (0.05, 0.15, 0.3) {
    ($pid) = run();
    Test::LLM::HTTP->idle($delay);
    kill 'TERM', $pid;
    is ended($pid), 0, "SIGTERM after $delay s";
    is left(), '', 'leaves nothing';
}


# a running request is let to its end, unless somebody insists

($pid, $out) = run();
$t->until(sub { $out->() =~ /^Ctrl-C/m }, 20);

my ($key) = $lines[0] =~ /Bearer (\S+)"/;
my $r = slow();
kill 'TERM', $pid;
is ended($pid), 0, 'SIGTERM with a request under way';
$r->wait;
is $r->status, 200, 'which is answered';

($pid, $out) = run();
$t->until(sub { $out->() =~ /^Ctrl-C/m }, 20);

$r = slow(hang => 1);
kill 'TERM', $pid;
Test::LLM::HTTP->idle(0.5);
ok kill(0, $pid), 'a request that hangs is waited for';
kill 'TERM', $pid;
isnt ended($pid), undef, 'until the second signal';
is left(), '', 'which leaves nothing';


# a provider of one's own

my $mock = $t->mock('--key', 'sk-provider-secret');

($pid, $out) = run(REDIS_URL => 'off', ADMIN_SECRET => 'sk-admin-of-my-own',
    OPENAI_API_KEY => 'sk-provider-secret',
    OPENAI_BASE_URL => 'http://localhost:' . $mock->port . '/some/path/v1/');
$t->until(sub { $out->() =~ /^Ctrl-C/m }, 20);

is slow()->wait && ($mock->journal)[0]{path}, '/some/path/v1/chat/completions',
    'the base URL with its path';
is + ($mock->journal)[0]{headers}{host}, 'localhost:' . $mock->port, 'Host';
is + ($mock->journal)[0]{status}, 200, 'and its key';
is qx(grep -rl sk-provider-secret $run), '', 'which no file has';
is $t->post('/admin/v1/cache/purge', '{"all": true}',
    port => $t->port('ADMIN_PORT'),
    headers => { Authorization => 'Bearer sk-admin-of-my-own' })->status, 200,
    "an admin secret of one's own";
kill 'TERM', $pid;
ended($pid);


# what is wrong is told

for my $case (
    [{ PORT => 'abc' }, qr/PORT "abc"/],
    [{ WORKERS => '0' }, qr/WORKERS "0"/],
    [{ TENANTS => '/no/such/file' }, qr{"/no/such/file"}],
    [{ OPENAI_BASE_URL => 'ftp://x' }, qr{expected http}],
    [{ OPENAI_BASE_URL => 'http://x; }' }, qr{expected http}],
    [{ REDIS_URL => 'memcached://x' }, qr/Redis URL/],
) {
    my ($env, $pattern) = @$case;

    ($pid, $out) = run(%$env);
    is ended($pid), 1, join ' ', 'refused:', %$env;
    like $out->(), $pattern, 'with the reason';
    is left(), '', 'leaving nothing';
}

done_testing;


# starts it; its output so far is what the function gives

sub run {
    my (%env) = @_;

    my $name = 'run' . ++$runs;

    local %ENV = (%ENV, PORT => $t->port('PORT'),
        ADMIN_PORT => $t->port('ADMIN_PORT'), %env);

    my $child = $t->spawn($name, $script);

    return ($child, sub { $t->read("$name.out") });
}


sub ended {
    my ($child) = @_;

    my $status;
    $t->until(sub { defined($status = $t->await($child, 0.001)) }, 20);
    delete $t->{children}{$child};

    return defined $status ? $status >> 8 : undef;
}


# processes that have the folder in their command line

sub left {
    my $processes = qx(ps -eo pid,args);

    return join "\n", grep { m{\Q$run/} } split /\n/, $processes;
}


sub slow {
    my (%mock) = @_;

    my @headers = $mock{hang} ? ('x-mock-hang' => 1)
        : ('x-mock-delay-ms' => 700);
    my $r = $t->start_chat('slow ' . rand, port => $t->port('PORT'),
        key => undef, timeout => 20,
        headers => [Authorization => "Bearer $key", @headers]);

    Test::LLM::HTTP->idle(0.3);

    return $r;
}
