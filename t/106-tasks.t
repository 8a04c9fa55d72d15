#!/usr/bin/perl

# /api/tasks: what is sent, asked for, waited for, followed and cancelled; all
# that can be wrong with it; and, with a runner, what comes of it.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use List::Util qw(max);
use POSIX ();
use Time::HiRes qw(time sleep);

use Test::LLM;
use Test::LLM::Proxy;


my $P = '{llm}:t:';
my $t = gateway('run=off team_max=30000 window=10000');
my $redis = $t->{redis};

submits();
wrong();
asks();
waits();
cancels();
follows();
idempotent();
large();
full();
leaves();
lost();
dies();
redis_off();

runs();

done_testing;


# Nobody runs anything in the first one: the test is the runner, and writes
# into Redis what becomes of tasks.

sub gateway {
    my ($options, %more) = @_;

    my $t = Test::LLM->new(workers => 2);
    my $shim = ($ENV{TEST_BUILD} // '') . '/scale/turn.so';

    $t->key('user', team => 'red');
    $t->key('other', team => 'blue');
    $t->key('single');
    $t->key('disabled', enabled => JSON::PP::false);

    delete $t->{tenants}{keys}{single}{team};
    $t->write('tenants.json', $t->{tenants});

    $t->{provider} = $t->mock;
    $t->{redis} = $t->redis;
    $t->{proxy} = Test::LLM::Proxy->new($t, $t->{redis});
    $t->token(REDIS => $t->{proxy}->url);

    local $ENV{LD_PRELOAD} = $shim if -e $shim && !$t->sanitized;
    local $ENV{TURN_DIR} = $t->path('tmp');

    $t->tasks_gateway($options, %more);

    $t->until(sub { task($t, 'nobody')->status == 200 }, 10);

    return $t;
}


sub turns {
    my ($t) = @_;

    my $longest = 0;

    for my $file (glob $t->path('tmp/turn.*')) {
        open my $in, '<', $file or next;
        sysread $in, my $words, 40;
        $longest = max($longest, (unpack 'Q5', $words)[1] / 1e6);
    }

    return $longest;
}


sub turns_clear {
    my ($t) = @_;

    for my $file (glob $t->path('tmp/turn.*')) {
        open my $out, '+<', $file or next;
        syswrite $out, "\0" x 64;
    }
}


sub submit {
    my ($t, $body, %spec) = @_;
    return $t->post('/api/tasks', $body, key => 'user', timeout => 30,
        %spec);
}


sub prompts {
    my ($n, $text, %more) = @_;

    return { model => 'gpt-4o', prompts => [map { "$text $_" } 1 .. $n],
        %more };
}


sub ids {
    my ($r) = @_;
    return $r->status == 200 ? @{$r->json->{task_ids}} : ();
}


sub task {
    my ($t, $id, %spec) = @_;
    my $args = delete $spec{args} // '';
    return $t->get("/api/tasks/$id$args", key => 'user', %spec);
}


sub tasks {
    my ($t, $ids, %spec) = @_;
    my $args = delete $spec{args} // '';
    return $t->get('/api/tasks?task_ids=' . join(',', @$ids) . $args,
        key => 'user', timeout => 30, %spec);
}


sub states {
    my ($r) = @_;

    my %n;
    $n{$_->{status}}++ for values %{$r->json};

    return join ' ', map { "$_:$n{$_}" } sort keys %n;
}


sub code {
    my ($r) = @_;
    my $e = eval { $r->json->{error} } // {};
    return join ' ', $r->status, $e->{code} // 'null', $e->{param} // '-';
}


sub field { $redis->command(HGET => "${P}job:$_[0]", $_[1]) }
sub stat_of { $redis->command(HGET => "${P}stat", $_[0]) // 0 }


sub becomes {
    my ($id, @fields) = @_;
    $redis->command(HSET => "${P}job:$id", @fields);
}


# what stays of tasks that no test wants any more

sub clean {
    $redis->command('FLUSHALL');
}


sub submits {
    my $r = submit($t, prompts(3, 'one', temperature => 0.5,
        priority => 'high', on_crash => 'fail',
        metadata => { run => 7, 'näme' => "a\nb" }));

    is $r->status, 200, 'tasks are taken';
    is $r->json->{status}, 'queued', '... and queued';

    my @ids = ids($r);

    is @ids, 3, '... each with an id';
    like $_, qr/^task-[0-9A-Za-z]{24}$/, 'an id' for @ids;
    is_deeply [map { field($_, 's') } @ids], [('queued') x 3], 'in Redis';
    is field($ids[2], 'i'), 2, 'its place in the list';
    is field($ids[0], 'p'), 0, 'high';
    is field($ids[0], 'x'), 'f', 'on_crash';
    is field($ids[0], 't'), 'red', 'its team';
    is field($ids[0], 'o'), 'user', 'its owner';
    like field($ids[0], 'b'), qr{/v1/chat/completions\n\{.*one 1}s,
        'what is to be asked';

    my $life = field($ids[0], 'l') - field($ids[0], 'c');
    ok $life > 86390000 && $life < 86410000, "a deadline: $life ms";

    my $all = tasks($t, \@ids);

    is states($all), 'queued:3', 'asked for';
    is_deeply [sort keys %{$all->json}], [sort @ids], '... all of them';

    my $one = $all->json->{$ids[0]};

    is_deeply $one->{metadata}, { run => 7, 'näme' => "a\nb" }, 'metadata';
    is $one->{progress}, 0, 'progress';
    is $one->{attempts}, 0, 'attempts';
    ok abs($one->{created_at} - time) < 5, 'created';
    is $one->{$_}, undef, $_ for qw(started_at finished_at result error);

    $r = submit($t, { requests => [{ model => 'a', messages => [] },
        { messages => [], max_tokens => 3 }], model => 'b', max_tokens => 9,
        priority => 'low' });
    my ($first, $second) = ids($r);

    is field($first, 'p'), 2, 'low';
    like field($first, 'b'), qr/"max_tokens":9/, 'a parameter for all';
    like field($second, 'b'), qr/"model":"b"/, 'a model for all';
    like field($second, 'b'), qr/"max_tokens":3/, 'its own';

    is field((ids(submit($t, prompts(1, 'x', priority => undef))))[0], 'p'),
        1, 'normal';

}


sub wrong {
    my @cases = (
        ['400 invalid_json -', '{"prompts": ["a",', 'a body that ends early'],
        ['400 invalid_json -', '', 'no body'],
        ['400 invalid_json -', '[1]', 'a list'],
        ['400 missing_required_parameter prompts', {}, 'nothing'],
        ['400 invalid_value prompts', { model => 'a', prompts => [] },
            'no prompts'],
        ['400 invalid_value requests', { model => 'a', requests => [] },
            'no requests'],
        ['400 invalid_value prompts', { model => 'a', prompts => 'x' },
            'a string'],
        ['400 invalid_value prompts[1]', { model => 'a',
            prompts => ['x', 1] }, 'a number'],
        ['400 invalid_value requests[0]', { model => 'a',
            requests => ['x'] }, 'a string among requests'],
        ['400 missing_required_parameter model', { prompts => ['a'] },
            'no model'],
        ['400 missing_required_parameter requests[1].model',
            { requests => [{ model => 'a' }, {}] }, 'no model in one'],
        ['400 unsupported_parameter stream', prompts(1, 'a',
            stream => JSON::PP::true), 'a stream'],
        ['400 invalid_value priority', prompts(1, 'a', priority => 'x'),
            'priority'],
        ['400 invalid_value on_crash', prompts(1, 'a', on_crash => 1),
            'on_crash'],
        ['400 invalid_value metadata', prompts(1, 'a', metadata => 1),
            'metadata'],
        ['400 invalid_value metadata', prompts(1, 'a',
            metadata => { a => 'x' x 17000 }), 'large metadata'],
        ['400 invalid_value metadata', prompts(2000, 'a',
            metadata => { a => 'x' x 16000 }), 'metadata of many tasks'],
        ['400 invalid_value webhook', prompts(1, 'a', webhook => 'ftp://x'),
            'no URL'],
        ['400 invalid_value webhook', prompts(1, 'a',
            webhook => 'https://example.com/'), 'no webhooks'],
        ['400 too_many_tasks prompts[10000]', prompts(10001, 'a'),
            '10,001 prompts'],
        ['413 request_too_large prompts[1]', { model => 'a',
            prompts => ['a', 'x' x 1048600] }, 'a prompt above 1 MB'],
        ['413 request_too_large requests[0]', { model => 'a',
            requests => [{ messages => ['x' x 1048600] }] },
            'a request above 1 MB'],
        ['413 request_too_large -', { model => 'a',
            prompts => ['x' x 17e6] }, 'a body above 16 MB'],
    );

    my $before = stat_of('submitted');

    for my $case (@cases) {
        my ($code, $body, $what) = @$case;
        my $r = submit($t, $body);
        is code($r), $code, $what;
        ok $r->complete, '... told whole' if !$r->complete;
    }

    is code(submit($t, prompts(1, 'a'), key => 'nobody')),
        '401 invalid_api_key -', 'no key';
    is code(submit($t, prompts(1, 'a'), key => 'disabled')),
        '403 key_disabled -', 'a disabled one';
    is code(submit($t, prompts(1, 'a'),
        headers => ['Idempotency-Key' => 'x' x 256])),
        '400 invalid_value -', 'a long Idempotency-Key';

    like submit($t, '{"prompts": ["a",')->json->{error}{message},
        qr/byte 17/, 'where it is wrong';
    is stat_of('submitted'), $before, 'nothing of that came in';
}


sub asks {
    my ($id) = ids(submit($t, prompts(1, 'mine')));
    my $theirs = (ids(submit($t, prompts(1, 'theirs'), key => 'other')))[0];

    is_deeply task($t, 'task-' . 'x' x 24)->json,
        { 'task-' . 'x' x 24 => { status => 'not_found' } }, 'unknown';
    is_deeply task($t, $theirs)->json,
        { $theirs => { status => 'not_found' } }, "another team's";
    is task($t, $theirs, key => 'other')->json->{$theirs}{status}, 'queued',
        '... which sees it';

    my $r = tasks($t, [$id, $theirs, 'a"b%00%ff', $id, '', 'x' x 200, 'a:b']);

    is $r->status, 200, 'a list of all kinds';
    is states($r), 'not_found:4 queued:1', '... each once';
    ok exists $r->json->{'x' x 200}, '... as it was asked for';

    is code($t->get('/api/tasks', key => 'user')),
        '400 missing_required_parameter task_ids', 'no ids';
    is code($t->get('/api/tasks?task_ids=', key => 'user')),
        '400 missing_required_parameter task_ids', 'none in the list';
    is code(tasks($t, [map { "x$_" } 1 .. 1001])),
        '400 too_many_tasks task_ids', '1001 ids';
    is states(tasks($t, [map { "x$_" } 1 .. 1000])), 'not_found:1000',
        '1000 ids';
    is code($t->get("/api/tasks/$id/what", key => 'user')),
        '404 unknown_url -', 'another path';

    becomes($id, s => 'processing', a => 2, g => 40, st => 1700000000123,
        e => '{"message":"m","type":"t","param":null,"code":"c"}');

    my $task = task($t, $id)->json->{$id};

    is $task->{status}, 'processing', 'processing';
    is $task->{progress}, 40, '... progress';
    is $task->{attempts}, 2, '... attempts';
    is $task->{started_at}, '1700000000.123', '... started';
    is $task->{error}{code}, 'c', '... what the last try met with';

    becomes($id, s => 'completed', f => 1700000001000, r => 'garbage',
        u => '{"cost_usd":0.5}');
    $task = task($t, $id)->json->{$id};

    is $task->{status}, 'completed', 'a result that cannot be read';
    is $task->{result}, undef, '... is none';
    is $task->{error}{code}, 'result_unreadable', '... and says so';
    is $task->{usage}{cost_usd}, 0.5, '... usage';
    is $task->{progress}, 100, '... progress';

    $task = task($t, $id, args => '?result=0')->json->{$id};
    is $task->{error}, undef, 'without results';
    ok $t->said(qr/the result of task "$id" cannot be read/), 'logged';
}


sub waits {
    my @ids = ids(submit($t, prompts(250, 'wait')));

    for my $bad (qw(-1 301 x 1.5), '') {
        is code(task($t, $ids[0], args => "?wait=$bad")),
            '400 invalid_value wait', "wait=$bad";
    }

    my $from = time;
    my $r = tasks($t, \@ids, args => '&wait=1');
    my $took = time - $from;

    is states($r), 'queued:250', 'a wait in vain';
    ok $took > 0.95 && $took < 3, "... takes its time: $took";

    $from = time;
    $r = tasks($t, \@ids, args => '&wait=20',
        headers => ['X-Request-Timeout-Ms' => 500]);
    $took = time - $from;

    is $r->status, 200, 'a client in a hurry gets its answer';
    ok $took > 0.3 && $took < 0.6 + 2 * $t->sanitized, "... in time: $took";

    my $wait = $t->start_get('/api/tasks?task_ids=' . join(',', @ids)
        . '&wait=30', key => 'user', timeout => 30);

    Test::LLM::HTTP->idle(0.3);
    becomes($_, s => 'error', e => '{"code":"x"}') for @ids[1 .. 249];
    Test::LLM::HTTP->idle(1.2);
    is $wait->status, undef, 'not before all are over';

    $from = time;
    becomes($ids[0], s => 'cancelled');
    $wait->wait;
    $took = time - $from;

    is states($wait), 'cancelled:1 error:249', 'all are over';
    ok $took < 1.5, "... soon told: $took";

    $from = time;
    is states(tasks($t, \@ids, args => '&wait=30')),
        'cancelled:1 error:249', 'nothing to wait for';
    ok time - $from < 1, '... at once';
    is states(task($t, 'nobody', args => '?wait=30')), 'not_found:1',
        'nor for one that is not there';

    my ($id) = ids(submit($t, prompts(1, 'left')));
    $wait = $t->start_get("/api/tasks/$id?wait=60", key => 'user');

    Test::LLM::HTTP->idle(0.2);
    $wait->close;
    ok $t->wait_log(qr/client closed connection in stage "tasks"/),
        'a client that leaves';
}


sub cancels {
    my @ids = ids(submit($t, prompts(4, 'cancel')));
    my $delete = sub {
        my $r = Test::LLM::HTTP->start(%{$t->spec(DELETE =>
            "/api/tasks/$_[0]", key => $_[1] // 'user')});
        $r->wait;
        return $r;
    };

    is_deeply $delete->($ids[0])->json,
        { $ids[0] => { status => 'cancelled' } }, 'cancelled';
    is field($ids[0], 's'), 'cancelled', '... in Redis';
    is_deeply $delete->($ids[0])->json,
        { $ids[0] => { status => 'cancelled' } }, '... and still is';

    becomes($ids[1], s => 'processing');
    is_deeply $delete->($ids[1])->json, { $ids[1] =>
        { status => 'processing', cancelling => JSON::PP::true } },
        'one that runs';
    like field($ids[1], 'x'), qr/c/, '... is to be cancelled';

    becomes($ids[2], s => 'completed');
    is_deeply $delete->($ids[2])->json,
        { $ids[2] => { status => 'completed' } }, 'one that has ended';

    for my $case ([$ids[3], 'other'], ['task-unknown'], ['a"%22b']) {
        my $r = $delete->(@$case);
        is $r->status, 404, "unknown: @$case";
        is states($r), 'not_found:1', '... says so';
    }

    is field($ids[3], 's'), 'queued', "another team's lives on";
}


sub events_of {
    my ($id, %spec) = @_;
    return $t->start_get("/api/tasks/$id/events", key => 'user',
        timeout => 30, %spec);
}


sub follows {
    my ($id, $next) = ids(submit($t, prompts(2, 'follow')));
    my $r = events_of($id);

    ok $r->wait_events(1), 'the present state comes at once';
    is $r->status, 200, '... 200';
    like $r->header('content-type'), qr{^text/event-stream}, '... a stream';
    is $r->events->[0]{event}, 'status', '... an event';
    is decode_json($r->events->[0]{data})->{status}, 'queued', '... queued';

    becomes($id, s => 'processing', a => 1, g => 0);
    ok $r->wait_events(2), 'it runs';
    becomes($id, g => 50);
    ok $r->wait_events(3), 'it goes on';
    is decode_json($r->events->[2]{data})->{progress}, 50, '... half way';
    becomes($id, s => 'queued', a => 0, g => '');
    ok $r->wait_events(4), 'it is given back';
    becomes($id, s => 'processing', a => 1);
    ok $r->wait_events(5), '... and runs again';
    becomes($id, s => 'error', e => '{"code":"boom"}', f => 1);
    ok $r->wait, 'it has ended';
    ok $r->complete, '... the stream, too';

    my @ids = $r->body =~ /^id: (\d+)$/mg;

    is @ids, 6, 'six events';
    is join(' ', sort { $a <=> $b } @ids), "@ids", 'ids that grow';
    is decode_json($r->events->[5]{data})->{error}{code}, 'boom',
        'what came of it';

    $r = events_of($id, headers => ['Last-Event-ID' => $ids[1]]);
    $r->wait;
    is @{$r->events}, 1, 'who comes again hears the end';
    is decode_json($r->events->[0]{data})->{status}, 'error', '... once';

    $r = events_of($id, headers => ['Last-Event-ID' => $ids[5]]);
    $r->wait;
    is $r->status, 204, 'who has seen it all need not come again';

    $r = events_of($id, headers => ['Last-Event-ID' => 'x']);
    $r->wait;
    is @{$r->events}, 1, 'no number: nothing was seen';

    $r = events_of($next, headers => ['Last-Event-ID' => 500]);
    ok $r->wait_head, 'nothing new: the stream begins';
    Test::LLM::HTTP->idle(0.5);
    is @{$r->events}, 0, '... and is silent';
    becomes($next, s => 'cancelled');
    ok $r->wait, '... until it ends';
    is decode_json($r->events->[0]{data})->{status}, 'cancelled', 'the end';

    for my $case (['task-unknown'], ["$next", key => 'other'], ['%22']) {
        $r = events_of(@$case);
        $r->wait;
        is code($r), '404 task_not_found -', "no events of @$case";
    }

    my ($lost) = ids(submit($t, prompts(1, 'lost')));

    $r = events_of($lost, headers => ['X-Request-Timeout-Ms' => 700]);
    ok $r->wait, 'the time is up';
    ok $r->complete, '... a clean end';
    is @{$r->events}, 1, '... with what there was';

    $r = events_of($lost);
    $r->wait_events(1);
    $redis->command(DEL => "${P}job:$lost");
    ok $r->wait, 'a task that is purged';
    is decode_json($r->events->[1]{data})->{status}, 'not_found', '... is gone';
}


sub idempotent {
    clean();

    my @key = (headers => ['Idempotency-Key' => 'one']);
    my @ids = ids(submit($t, prompts(450, 'idem'), @key));

    is @ids, 450, 'with an Idempotency-Key';
    is_deeply [ids(submit($t, prompts(450, 'idem'), @key))], \@ids,
        'again: the same ids';
    is stat_of('submitted'), 450, '... and no more tasks';
    is code(submit($t, prompts(450, 'other'), @key)),
        '422 idempotency_key_reused -', 'another body';
    isnt((ids(submit($t, prompts(450, 'idem'), @key, key => 'other')))[0],
        $ids[0], "another team's key");
    is stat_of('submitted'), 900, '... is another one';

    my @many = map { $t->start_post('/api/tasks', prompts(1000, 'twice'),
        key => 'user', timeout => 30,
        headers => ['Idempotency-Key' => 'two']) } 1 .. 4;

    $_->wait for @many;

    is join(' ', map { $_->status } @many), '200 200 200 200',
        'four at a time';
    is_deeply [ids($many[$_])], [ids($many[0])], '... the same ids'
        for 1 .. 3;
    is stat_of('submitted'), 1900, '... and no more tasks';
    is $redis->command(XLEN => "${P}q:1"), 1900, '... each entered once';
    my %all = map { $_ => 1 } ids($many[0]);
    is keys %all, 1000, '... 1000 of them';
}


# 10,000 at once: none of the worker's turns is long

sub large {
    clean();

    my @slow = map { $t->start_chat("beside $_") } 1 .. 2;
    $_->wait for @slow;
    turns_clear($t);

    my $body = JSON::PP->new->encode(prompts(10000, 'x' x 100,
        max_tokens => 5));
    my $from = time;
    my $r = submit($t, $body);
    my $took = time - $from;

    my @ids = ids($r);
    my %all = map { $_ => 1 } @ids;

    is keys %all, 10000, '10,000 tasks';
    is stat_of('queued'), 10000, '... in Redis';
    note sprintf '10,000 tasks, %.1f MB: %.0f ms, longest turn %.1f ms',
        length($body) / 1e6, $took * 1000, turns($t);

    turns_clear($t);
    is states(tasks($t, [@ids[9000 .. 9999]])), 'queued:1000',
        '... and 1000 asked for';
    note sprintf '1000 asked for: longest turn %.1f ms', turns($t);

    clean();
    turns_clear($t);
    $body = JSON::PP->new->encode({ model => 'm', max_tokens => 5,
        requests => [map { { messages => [{ role => 'user',
        content => join ' ', map { int rand 1e6 } 1 .. 4000 }] } }
        1 .. 500] });
    $from = time;
    is ids(submit($t, $body)), 500, '500 long ones';
    note sprintf '500 tasks, %.1f MB: %.0f ms, longest turn %.1f ms',
        length($body) / 1e6, (time - $from) * 1000, turns($t);

    if (-e (glob $t->path('tmp/turn.*'))[0] // '') {

    # measured where tests/scale/turn.c has been built

    cmp_ok turns($t), '<', 25, 'no turn is long'
        if glob $t->path('tmp/turn.*');
    }
}


sub full {
    clean();

    is ids(submit($t, prompts(10000, 'full'))), 10000, 'full' for 1 .. 2;
    is ids(submit($t, prompts(9999, 'full'))), 9999, '... nearly';

    my $r = submit($t, prompts(2, 'full'));

    is code($r), '429 queue_full -', 'two more are too many';
    is $r->json->{error}{type}, 'requests', '... the type';
    like $r->json->{error}{message}, qr/29999 of 30000/, '... the numbers';
    is $r->header('retry-after'), 10, '... when to come again';
    is stat_of('queued'), 29999, '... all or nothing';
    is ids(submit($t, prompts(1, 'full'))), 1, 'one is not';
    is ids(submit($t, prompts(2, 'full'), key => 'other')), 2,
        "another team's part is its own";

    clean();
}


# a client that leaves in the middle: nobody will ask for these

sub leaves {
    $t->{proxy}->fault('down latency 10');

    my $body = JSON::PP->new->encode(prompts(10000, 'leave' x 100));
    my $r = $t->start_post('/api/tasks', $body, key => 'user',
        timeout => 30);

    begun(200);
    $r->close;

    ok $t->until(sub { stat_of('submitted') > 0 && stat_of('queued') == 0 },
        20), 'a client that leaves: its tasks are cancelled';
    is stat_of('cancelled'), stat_of('submitted'), '... all of them';

    clean();

    my @key = (headers => ['Idempotency-Key' => 'leave']);
    $r = $t->start_post('/api/tasks', $body, key => 'user',
        timeout => 30, @key);
    begun(200);
    $r->close;

    my $then = stat_of('submitted');
    my @ids = ids(submit($t, $body, @key));

    is @ids, 10000, 'with a key it comes again for them';
    is stat_of('cancelled'), 0, '... none is cancelled';
    is stat_of('submitted'), 10000, "... nor there twice (then: $then)";
    is states(tasks($t, [@ids[0 .. 499]])), 'queued:500', 'the first ones';

    $t->{proxy}->fault('pass');
    clean();
}


# a reply that is lost: the call is sent again, and enters none twice

sub lost {
    $t->{proxy}->fault('down latency 10');

    my $r = $t->start_post('/api/tasks', prompts(5000, 'lost'),
        key => 'user', timeout => 30);

    begun(400);
    $t->{proxy}->fault('drop');
    $r->wait;
    $t->{proxy}->fault('pass');

    is ids($r), 5000, 'all are taken over a connection that breaks';
    is stat_of('submitted'), 5000, '... each once';
    is $redis->command(XLEN => "${P}q:1"), 5000, '... and entered once';
    ready();

    clean();
}


sub ready {
    for my $n (1 .. 8) {
        $t->until(sub { task($t, 'nobody')->status == 200 }, 10);
    }
}


# until more than so many are there

sub begun {
    my ($n) = @_;

    my $until = time + 20;

    Test::LLM::HTTP->idle(0.01)
        until stat_of('submitted') > $n || time > $until;

    ok stat_of('submitted') > $n, 'some tasks are there';
}


# a gateway that dies between two calls

sub dies {
    my $body = JSON::PP->new->encode(prompts(10000, 'die' x 100));
    my @key = (headers => ['Idempotency-Key' => 'die']);
    my $then = 0;

    for my $try (1 .. 5) {
        clean();

        $t->{proxy}->fault('down latency 10');

        my $r = $t->start_post('/api/tasks', $body, key => 'user',
            timeout => 30, @key);

        begun(0);
        my @pids = $t->workers;
        kill 'KILL', @pids;
        $t->kill_worker(KILL => $_) for @pids;

        $t->{proxy}->fault('pass');
        $then = stat_of('submitted');
        ready();
        last if $then > 0 && $then < 10000;
    }

    cmp_ok $then, '<', 10000, "a gateway dies: $then are there";

    my @ids = ids(submit($t, $body, @key));

    is @ids, 10000, 'who comes again completes it';
    is stat_of('submitted'), 10000, '... and no more than that';
    is $redis->command(XLEN => "${P}q:1"), 10000, '... each entered once';
    is_deeply [ids(submit($t, $body, @key))], \@ids, '... once and for all';

    clean();
}


sub redis_off {
    my ($id) = ids(submit($t, prompts(1, 'off')));
    my $stream = events_of($id);

    $stream->wait_events(1);
    $redis->command('SAVE');

    my $wait = $t->start_get("/api/tasks/$id?wait=20", key => 'user');

    Test::LLM::HTTP->idle(0.2);
    $redis->stop('KILL');
    $t->until(sub { task($t, $id)->status == 503 }, 10);

    is code(task($t, $id)), '503 tasks_unavailable -', 'Redis is off: GET';
    is code(submit($t, prompts(1, 'off'))), '503 tasks_unavailable -', 'POST';
    $wait->wait;
    is code($wait), '503 tasks_unavailable -', '... and who waits';

    my $events = events_of($id);
    $events->wait;
    is code($events), '503 tasks_unavailable -', '... events';
    is $t->chat('goes on')->status, 200, 'calls go on';

    $redis->start;
    ok $t->until(sub { task($t, $id)->status == 200 }, 15), 'Redis is back';
    ok $t->until(sub { ids(submit($t, prompts(1, 'off'))) }, 10),
        '... and takes tasks';

    becomes($id, s => 'cancelled');
    ok $stream->wait, 'a stream has gone on meanwhile';
    is decode_json($stream->events->[-1]{data})->{status},
        $stream->events->[-1]{data} =~ /not_found/ ? 'not_found'
        : 'cancelled', '... to its end';
}


# with a runner

sub runs {
    $t = gateway('', location => 'llm_cache on ttl=1h;');
    $redis = $t->{redis};

    my $mock = $t->{provider};

    my ($first) = ids(submit($t, prompts(1, 'run')));

    my $task;

    return fail('nothing runs') if !$t->until(sub {
        my $r = task($t, $first);

        $task = $r->status == 200 ? $r->json->{$first} : undef;
        return $task && $task->{status} !~ /queued|processing/;
    }, 10);

    is $task->{status}, 'completed', 'a task runs';
    is $task->{result}{object}, 'chat.completion', '... its result';
    is $task->{result}{usage}{total_tokens}, 30, '... the whole answer';
    is $task->{error}, undef, '... no error';
    ok $task->{finished_at} >= $task->{started_at}
        && $task->{started_at} >= $task->{created_at}, '... times';
    is task($t, $first, args => '?result=0')->json->{$first}{result}, undef,
        '... without results';

    # equal ones

    $mock->script({ delay_ms => 100 });

    my @ids = ids(submit($t, { model => 'gpt-4o', temperature => 0,
        prompts => [('equal') x 10] }));
    my $r = tasks($t, \@ids, args => '&wait=20');

    is states($r), 'completed:10', 'ten equal tasks';
    is $mock->stats->{requests}, 1, '... cost one call';

    is $t->chat('known', body => { temperature => 0 })->status, 200,
        'a prompt that is asked';
    @ids = ids(submit($t, { model => 'gpt-4o', temperature => 0,
        prompts => ['known', 'known'] }));
    is states(tasks($t, \@ids, args => '&wait=20')), 'completed:2',
        '... and then sent as tasks';
    is $mock->stats->{requests}, 2, '... costs nothing';

    # one that fails harms no other

    $mock->script({ match => { body => 'bad' }, status => 400,
        error_message => 'No.', error_code => 'nope' },
        { match => { body => 'big' }, content_bytes => 300000 });

    @ids = ids(submit($t, { model => 'gpt-4o', prompts =>
        [map { $_ % 10 == 0 ? "bad $_" : "fine $_" } 1 .. 100] }));
    $r = tasks($t, \@ids, args => '&wait=20');
    is states($r), 'completed:90 error:10', 'ten of a hundred fail';
    is $r->json->{$ids[9]}{error}{code}, 'nope', '... with their error';
    is $r->json->{$ids[9]}{result}, undef, '... and no result';

    # long results

    @ids = ids(submit($t, { model => 'gpt-4o',
        prompts => [map { "big $_" } 1 .. 40] }));
    is states(tasks($t, \@ids, args => '&wait=20&result=0')),
        'completed:40', 'forty long answers';

    turns_clear($t);
    $r = tasks($t, \@ids);
    ok length $r->body > 12e6, '... told at once';
    is scalar(grep { length $_->{result}{choices}[0]{message}{content}
        == 300000 } values %{$r->json}), 40, '... whole';
    note sprintf '%.1f MB of results: longest turn %.1f ms',
        length($r->body) / 1e6, turns($t);

    # events of a task that runs

    $mock->script({ delay_ms => 500, content_bytes => 3000000 });
    my ($id) = ids(submit($t, prompts(1, 'events')));
    my $s = $t->start_get("/api/tasks/$id/events", key => 'user',
        timeout => 20, rcvbuf => 4096, paused => 1);

    $t->until(sub { states(task($t, $id, args => '?result=0'))
        =~ /completed/ }, 10);
    sleep 0.3;
    $s->resume;
    ok $s->wait, 'events for a client that reads slowly';
    ok $s->complete, '... to the end';

    my $last = decode_json($s->events->[-1]{data});

    is $last->{status}, 'completed', '... it has ended';
    is length $last->{result}{choices}[0]{message}{content}, 3000000,
        '... with its result';

    # a key without a team owns its own

    my ($own) = ids(submit($t, prompts(1, 'own'), key => 'single'));
    is states(task($t, $own, key => 'single', args => '?wait=10')),
        'completed:1', 'a key without a team';
    is states(task($t, $own)), 'not_found:1', '... alone';
}
