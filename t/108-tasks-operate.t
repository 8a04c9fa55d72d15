#!/usr/bin/perl

# The queue as operators see it: the admin API over jobs that lie in Redis,
# what it does when there is no Redis or no queue, and the metrics and lines
# of the log of tasks that have run.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Time::HiRes qw(sleep);

use Test::LLM;
use Test::LLM::Proxy;
use Test::LLM::Queue;


my $P = Test::LLM::Queue->prefix;
my $HOUR = 3600000;
my $t = Test::LLM->new(workers => 2);
my $redis = $t->redis;
my $queue = Test::LLM::Queue->new($redis);
my $r;

$t->key('user', team => 'search');
gateway($t, 'llm_tasks on run=off max=50000 team_max=40000;');

nothing_yet();
empty();
totals();
dead();
cancels();
purges();
refusals();
away();
off();
begins();
runs();

done_testing;


sub gateway {
    my ($g, $tasks, %options) = @_;

    my $socket = $g->path('internal.sock');

    $g->token(REDIS => ($options{redis} // $redis)->url . ' timeout=500ms');

    return $g->gateway(
        http => "$tasks llm_internal unix:$socket;" . ($options{http} // ''),
        server => "listen unix:$socket;",
        admin => $g->admin_api);
}


sub admin {
    my ($method, $path, $body, $g) = @_;

    $r = ($g // $t)->admin($method, $path, $body);

    return $r->status;
}


sub code { $r->json->{error}{code} // '-' }


# queue.lua, as the gateway calls it

sub call {
    return $queue->call(@_);
}


sub submit {
    my ($team, $class, @ids) = @_;

    my $reply = call('submit', scalar @ids, 0, 0, 64, '', '', $HOUR, 0, $class,
        $team, 'user', '', '', '', 0, $HOUR, '',
        map { ($_, 0, "body of $_") } @ids);

    is $reply->[0], 'ok', scalar(@ids) . " tasks of $team";
}


my $claims = 0;

sub claim {
    my ($n) = @_;

    my $token = 'token' . ++$claims;
    my $reply = call('claim', 'g:1', $n, $token, 100000, $HOUR, '012', 1e6,
        64, 2, $HOUR, 'poison', 'crash', 'late', $HOUR);

    return map { [$_->[0], $token] } @{$reply->[0]};
}


sub ids { my ($name, $n) = @_; return map { "$name-$_" } 1 .. $n }


sub nothing_yet {
    is $t->metric('llm_tasks_submitted_total'), 0, '  nothing came here';
    is $t->metric('llm_tasks_running'), 0, '  nothing runs here';
    is $t->metric('llm_tasks_finished_total'), 0, '  nothing has ended';
    is $t->metric('llm_task_webhooks_total'), 0, '  nobody was called';
    is $t->metric("llm_task_${_}_duration_seconds_count"), 0, "  no times ($_)"
        for qw(wait run);
}


sub empty {
    is admin(GET => '/tasks'), 200, 'an empty queue';
    is_deeply $r->json, { object => 'tasks', map({ $_ => 0 } qw(queued
        processing delayed dead oldest_ms submitted completed error cancelled
        retries deaths running_here)), max => 50000, team_max => 40000,
        classes => [map +{ priority => $_, length => 0, taken => 0 },
            qw(high normal low)], teams => [] }, '  is one of zeros';
    is $r->header('cache-control'), 'no-store', '  not to be kept';

    is admin(GET => '/tasks/dead'), 200, 'no dead ones';
    is_deeply $r->json->{data}, [], '  none';
}


sub totals {
    submit('lab', 0, ids('high', 3));
    submit('search', 1, ids('s', 100));
    submit('~lone', 2, ids('low', 2));
    submit("a \"b\"\n", 1, 'odd');

    my @jobs = claim(6);
    is scalar @jobs, 6, 'some are claimed';
    my ($ends, $again, @run) = @jobs;

    call('end', 64, $HOUR, @$ends, 'completed', 'r', '', '', $HOUR, '');
    call('retry', 64, $HOUR, @$again, $HOUR, 1, '');
    sleep 0.05;

    is admin(GET => '/tasks'), 200, 'totals';
    my $all = $r->json;

    is_deeply { map { $_ => $all->{$_} } qw(queued processing delayed dead
        submitted completed error cancelled retries running_here) },
        { queued => 101, processing => 4, delayed => 1, dead => 0,
          submitted => 106, completed => 1, error => 0, cancelled => 0,
          retries => 1, running_here => 0 }, '  all of them';
    is_deeply $all->{teams}, [{ team => 'search', live => 100 },
        { team => 'lab', live => 2 }, { team => '~lone', live => 2 },
        { team => "a \"b\"\n", live => 1 }], '  by team, the most first';
    cmp_ok $all->{oldest_ms}, '>=', 50, '  how old the next one is';
    cmp_ok $all->{oldest_ms}, '<', 60000, '  in ms';

    my %class = map { $_->{priority} => $_ } @{$all->{classes}};
    is $class{high}{length}, 1, '  one of high priority is left';
    is $class{high}{taken} + $class{normal}{taken} + $class{low}{taken}, 4,
        '  those that run';
    is $class{low}{length}, 2, '  those of low priority';

    submit("t$_", 2, "t$_") for 1 .. 60;
    admin(GET => '/tasks');
    is scalar @{$r->json->{teams}}, 50, 'of many teams the first 50';
    is $r->json->{teams}[0]{team}, 'search', '  who has most';

    call('release', 64, $HOUR, map { @$_ } @run);
    call('purge', "t$_", 0, 10) for 1 .. 60;
}


sub dead {
    my @jobs = claim(3);

    for my $i (0 .. 2) {
        call('end', 64, $HOUR, @{$jobs[$i]}, 'error', '', '{}', '', $HOUR,
            "reason$i");
        sleep 0.005;
    }

    is admin(GET => '/tasks/dead'), 200, 'dead ones';
    my $list = $r->json;
    is_deeply [@$list{qw(object has_more next)}], ['list', JSON::PP::false,
        undef], '  a list';
    is join(' ', map { $_->{reason} } @{$list->{data}}),
        'reason2 reason1 reason0', '  the newest first';

    my $one = $list->{data}[2];
    is_deeply [@$one{qw(object id attempts deaths)}], ['task.dead',
        $jobs[0][0], 1, 0], '  what is known of one';
    ok length $one->{team}, '  whose it was';
    like $one->{time}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, '  when';

    admin(GET => '/tasks/dead?limit=2');
    is scalar @{$r->json->{data}}, 2, '  some of them';

    admin(GET => '/tasks');
    is $r->json->{dead}, 3, '  counted';
    is $r->json->{error}, 3, '  as errors';

    is admin(GET => "/tasks/dead?limit=$_"), 400, "limit=$_"
        for 0, 1001, 'x', '';
}


sub cancels {
    my ($run) = claim(1);

    is admin(DELETE => '/tasks/s-90'), 200, 'a task that waits';
    is_deeply $r->json, { object => 'task.cancelled', id => 's-90',
        status => 'cancelled' }, '  is cancelled';
    is $redis->command(HGET => "${P}job:s-90", 's'), 'cancelled', '  it is';
    is admin(DELETE => '/tasks/s-90'), 200, '  once more';
    is $r->json->{status}, 'cancelled', '  is no matter';
    like $t->log, qr/\[notice\].*llm admin: cancel task "s-90" by [\d.]+: done/,
        '  an audit line';

    is admin(DELETE => "/tasks/$run->[0]"), 200, 'one that runs';
    is $r->json->{status}, 'cancelling', '  will be';
    is $redis->command(HGET => "${P}job:$run->[0]", 'x'), 'c', '  it is told';

    call('end', 64, $HOUR, @$run, 'completed', 'r', '', '', $HOUR, '');
    is admin(DELETE => "/tasks/$run->[0]"), 409, 'one that has ended';
    is code(), 'task_ended', '  says so';
    like $r->json->{error}{message}, qr/"completed"/, '  and how';

    for my $id ('nobody', 'task-' . 'x' x 24, 'a%3Ab', 'a%2Fb', 'x' x 200,
        '%e2%82%ac', '%01')
    {
        is admin(DELETE => "/tasks/$id"), 404, 'unknown: ' . substr $id, 0, 30;
        is code(), 'task_not_found', '  says so';
    }
}


sub purges {
    # the window of their class is theirs alone
    submit('big', 0, ids('p', 200));
    submit('big', 0, ids("p$_", 200)) for 1, 2;
    my @run = grep { $_->[0] =~ /^p/ } claim(5);
    cmp_ok scalar @run, '>', 0, 'some of them run';

    is admin(POST => '/tasks/purge', '{"team": "big"}'), 200, 'purged';
    is_deeply $r->json, { object => 'tasks.purged', team => 'big',
        removed => 600 - @run, cancelling => scalar @run }, '  all of them';
    is scalar @{$redis->command(KEYS => "${P}job:p*")} - @run, 0,
        '  what is left is what runs'
        if $t->until(sub { @{$redis->command(KEYS => "${P}job:p*")} <= @run },
            5);
    is $redis->command(HGET => "${P}job:$run[0][0]", 'x'), 'c',
        '  and that is told';
    like $t->log, qr/llm admin: purge tasks "big" by [\d.]+: done/,
        '  an audit line';

    admin(GET => '/tasks');
    my ($big) = grep { $_->{team} eq 'big' } @{$r->json->{teams}};
    is $big->{live}, scalar @run, '  by the counts, too';
    cmp_ok scalar(grep { $_->{team} eq 'search' } @{$r->json->{teams}}), '==',
        1, '  others are not';

    is admin(POST => '/tasks/purge', '{"team": "nobody"}'), 200, 'nobody';
    is $r->json->{removed}, 0, '  has none';

    admin(POST => '/tasks/purge', '{"team": "a \"b\"\n"}');
    is $r->json->{removed}, 1, 'an odd name';
    like $t->log, qr/purge tasks "a "b"\?" by/, '  is one line of the log';
}


sub refusals {
    for my $case (
        ['', 'invalid_json -'],
        ['[]', 'invalid_json -'],
        ['{}', 'missing_required_parameter team'],
        ['{"team": ""}', 'invalid_value team'],
        ['{"team": 1}', 'invalid_value team'],
        ['{"team": null}', 'invalid_value team'],
        ['{"team": "' . 'x' x 257 . '"}', 'invalid_value team'],
        ['{"team": "x", "all": true}', 'unknown_parameter -'],
    ) {
        my ($body, $error) = @$case;

        is admin(POST => '/tasks/purge', $body), 400, substr $body, 0, 30;
        is code() . ' ' . ($r->json->{error}{param} // '-'), $error,
            '  says why';
    }

    # what is a path of its own is no task

    for my $case (['POST', '/tasks', 'GET, HEAD'],
        ['DELETE', '/tasks/dead', 'GET, HEAD'],
        ['DELETE', '/tasks/purge', 'POST'], ['GET', '/tasks/purge', 'POST'],
        ['GET', '/tasks/x', 'DELETE'])
    {
        my ($method, $path, $allow) = @$case;

        is admin($method => $path), 405, "$method $path";
        is $r->header('allow'), $allow, '  what it allows';
    }

    is admin(GET => '/tasks/'), 404, 'no name';
    is code(), 'unknown_url', '  no URL';
    is $t->get('/admin/v1/tasks', port => $t->port('PORT_ADMIN'))->status,
        401, 'without the secret';
}


sub away {
    my @calls = ([GET => '/tasks'], [GET => '/tasks/dead'],
        [DELETE => '/tasks/s-91'],
        [POST => '/tasks/purge', '{"team": "search"}']);

    # a Redis that says no

    for my $key ("${P}stat", "${P}dead") {
        $redis->command(RENAME => $key, "$key-kept");
        $redis->command(SET => $key, 'neither hash nor stream');
    }

    for my $call (@calls) {
        is admin(@$call), 503, "Redis says no: @$call[0, 1]";
        is code(), 'redis_unavailable', '  it says so';
    }

    $redis->command(RENAME => "$_-kept", $_) for "${P}stat", "${P}dead";
    like $t->log, qr/\[error\].*llm admin: Redis has refused a call of tasks/,
        'the log has why';

    $redis->stop('KILL');

    for my $call (@calls) {
        is admin(@$call), 503, "no Redis: @$call[0, 1]";
        is code(), 'redis_unavailable', '  it says so';
        ok $r->header('retry-after'), '  come again';
    }

    # how it stands is told by who has looked at it

    my $blind = Test::LLM->new(workers => 1);

    $blind->token(MOCK => $t->token('MOCK'));
    $blind->key('user');
    gateway($blind, 'llm_tasks on;');
    is $blind->metric('llm_tasks{state="queued"}'), -1, 'nobody could look';
    is $blind->metric('llm_tasks_oldest_age_seconds'), -1, '  no age';
    is $blind->metric('llm_tasks_submitted_total'), 0, '  the rest is there';
    $blind->quit;

    $redis->start;
    ok $t->until(sub { admin(GET => '/tasks') == 200 }, 10), 'Redis is back';
}


sub off {
    my $other = Test::LLM->new(workers => 1);

    $other->token(MOCK => $t->token('MOCK'));
    $other->key('user');
    gateway($other, 'llm_tasks off;');

    for my $call ([GET => '/tasks'], [GET => '/tasks/dead'],
        [DELETE => '/tasks/s-91'], [POST => '/tasks/purge', '{"team": "x"}'])
    {
        is admin(@$call[0, 1], $call->[2], $other), 404, "off: @$call[0, 1]";
        is code(), 'no_tasks', '  it says so';
    }

    is $other->metric('llm_tasks_submitted_total'), -1, 'no metrics of tasks';
    is $other->metric('llm_task_wait_duration_seconds_count'), -1, '  none';
}


# A worker has just begun, and its way to Redis is long: who comes first waits
# for the connection, and is not sent away.

sub begins {
    my $g = Test::LLM->new(workers => 1);
    my $proxy = Test::LLM::Proxy->new($g, $redis);

    $g->key('user', team => 'search');
    $proxy->fault('latency 60');

    gateway($g, 'llm_tasks on run=off;', redis => $proxy);

    my $file = "--b\r\nContent-Disposition: form-data; name=purpose\r\n\r\n"
        . "batch\r\n--b\r\nContent-Disposition: form-data; name=file; "
        . "filename=f\r\n\r\n{}\n\r\n--b--\r\n";

    my @first = (
        $g->start_post('/api/tasks', { model => 'good', prompts => ['one'] },
            key => 'user'),
        $g->start_post('/v1/files', undef, key => 'user',
            raw => "POST /v1/files HTTP/1.1\r\nHost: h\r\nAuthorization: "
            . 'Bearer ' . $g->secret('user') . "\r\nContent-Type: "
            . "multipart/form-data; boundary=b\r\nContent-Length: "
            . length($file) . "\r\n\r\n$file"),
        map { $g->start_get($_, key => 'user') } qw(/v1/batches /v1/files));

    $_->wait for @first;

    is join(' ', map { $_->status } @first), '200 200 200 200',
        'the first requests of a worker wait for its connection';

    # not so when the connection fails

    $redis->stop('KILL');
    my $blind = Test::LLM->new(workers => 1);
    $blind->key('user');
    gateway($blind, 'llm_tasks on;');
    is $blind->post('/api/tasks', { model => 'good', prompts => ['one'] },
        key => 'user')->status, 503, 'nor for one that cannot be made';
    $redis->start;

    $_->quit for $blind, $g;
}


# tasks that run: what is counted is what has been

sub runs {
    my $g = Test::LLM->new(workers => 2);

    $redis = $g->redis;
    $g->key('user', team => 'search');

    my $mock = gateway($g, 'llm_tasks on tries=1 backoff=1ms;',
        http => ' log_format llm escape=json \'{"id":"$llm_request_id",'
            . '"endpoint":"$llm_endpoint","key":"$llm_key"}\';'
            . ' access_log %%DIR%%/llm.log llm;');

    $mock->script({ match => { model => 'bad' }, status => 400 },
        { match => { model => 'slow' }, delay_ms => 300 });

    my %ids;

    for my $model (qw(good slow bad)) {
        my $answer = $g->post('/api/tasks', { model => $model,
            prompts => ['one', 'two'] }, key => 'user');

        cmp_ok $answer->status, '<', 300, "tasks for the model $model";
        $ids{$model} = eval { $answer->json->{task_ids} } // [];
        is scalar @{$ids{$model}}, 2, '  two';
    }

    $g->becomes('llm_tasks_finished_total{outcome="completed"}', 4,
        'completed', 20);
    $g->becomes('llm_tasks_finished_total{outcome="error"}', 2, 'errors', 20);
    is $g->metric('llm_tasks_finished_total{outcome="cancelled"}'), 0,
        'none was cancelled';
    is $g->metric('llm_tasks_submitted_total'), 6, 'submitted';
    $g->becomes('llm_tasks_running', 0, 'none runs any more');
    is $g->metric('llm_task_wait_duration_seconds_count'), 6, 'all have waited';
    is $g->metric('llm_task_run_duration_seconds_count'), 6, 'all have run';
    cmp_ok $g->metric('llm_task_run_duration_seconds_sum'), '>=', 0.6,
        'the slow ones for a while';
    is $g->metric('llm_task_run_duration_seconds_bucket{le="+Inf"}'), 6,
        'all in the last bucket';
    cmp_ok $g->metric('llm_task_run_duration_seconds_bucket{le="0.25"}'),
        '<=', 4, 'the slow ones not in the first ones';

    # seen from time to time

    $g->becomes("llm_tasks{state=\"$_\"}", 0, "none is $_", 20)
        for qw(processing queued delayed);
    is $g->metric('llm_tasks_oldest_age_seconds'), 0, '  nobody waits';

    admin(GET => '/tasks', undef, $g);
    is_deeply [@{$r->json}{qw(submitted completed error queued processing)}],
        [6, 4, 2, 0, 0], 'the admin API tells the same';

    # one that runs is stopped

    $mock->script({ hang => JSON::PP::true });
    my $id = $g->post('/api/tasks', { model => 'x', prompts => ['three'] },
        key => 'user')->json->{task_ids}[0];
    $g->becomes('llm_tasks_running', 1, 'one runs', 20);
    admin(GET => '/tasks', undef, $g);
    is $r->json->{running_here}, 1, '  here';
    is_deeply $r->json->{teams}, [{ team => 'search', live => 1 }], '  whose';
    is admin(DELETE => "/tasks/$id", undef, $g), 200, '  it is cancelled';
    is $r->json->{status}, 'cancelling', '  soon';
    $g->becomes('llm_tasks_finished_total{outcome="cancelled"}', 1,
        '  now it is', 20);
    $g->becomes('llm_tasks_running', 0, '  and none runs');

    # how the log tells a task

    my @lines = map { decode_json($_) } split /\n/, $g->read('llm.log');
    is scalar(grep { $_->{endpoint} eq 'tasks' && $_->{key} eq 'user' }
        @lines), 4, 'requests about tasks have an endpoint of their own';

    for my $id (map { @$_ } values %ids) {
        my @calls = grep { $_->{id} eq $id } @lines;
        is_deeply [map { @$_{qw(endpoint key)} } @calls],
            ['chat_completions', 'user'], 'its call has its id';
    }

    for my $path (qw(/api/tasks/x /v1/files/x /v1/batches/x)) {
        my ($name) = $path =~ /(\w+)\/x/;
        $g->get($path, key => 'user');
        ok $g->until(sub { $g->read('llm.log') =~ /"endpoint":"$name"/ }, 5),
            "endpoint $name";
    }
}
