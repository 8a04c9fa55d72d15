#!/usr/bin/perl

# The runner (tasks/ngx_http_llm_runner*.c): what becomes of tasks by the
# answers that they get, and that each has one end whatever happens to
# workers, gateways and Redis meanwhile.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use List::Util qw(max sum0 uniq);
use Time::HiRes qw(time sleep);

use Test::LLM;
use Test::LLM::Queue;


my $P = Test::LLM::Queue->prefix;
my $HOUR = 3600000;
my $names = 0;
my $LEASE = 2000;
my ($t, $other, $redis, $queue, $mock);

gateway();

completes();
refused();
unreadable();
limited();
tries();
large();
expires();
cancels();
archive();
idle();
fair();
two_gateways();
dies();
stopped();
reload();
quits();
terminated();
last_words();
ended_in_turn();
redis_down();

done_testing;


# two workers; what is asked of them is what tasks of "user" and "other" ask

sub configured {
    my ($g, $more) = @_;

    $g->key('user', team => 'red');
    $g->key('other', team => 'blue');
    $g->key('daily', team => 'green', requests_per_day => 1);

    return $g->tasks_gateway('lease=2s tries=3 backoff=50ms backoff_max=200ms'
        . ' result_max=64k in_flight=16' . ($more // ''),
        location => 'llm_retry tries=1; llm_breaker off;');
}


sub gateway {
    $t = Test::LLM->new(workers => 2);

    # one that is killed has written what it confirmed; with everysec it holds
    # that back while the disk is busy
    $t->{redis} = $t->redis(appendonly => 'yes', appendfsync => 'no');
    $mock = configured($t, ' archive=%%DIR%%/archive.jsonl deaths=1');
    $redis = $t->{redis};
    $queue = Test::LLM::Queue->new($redis);
}


# a parcel that is neither sealed nor compressed

sub parcel {
    my ($about, $text) = @_;

    my $head = "LP\x02\x00" . pack('V', length $text);
    my $h = 0;

    $h = sum_of($h, $_) for $head, $about, $text;

    return $head . pack('Q<', $h) . $text;
}


sub sum_of {
    my ($h, $text) = @_;

    use integer;
    no warnings 'portable';

    my $seed = 0x9e3779b97f4a7c15;
    my $len = length $text;
    my $whole = $len - $len % 8;
    my @words = unpack 'q<*', substr $text, 0, $whole;
    my $g = $seed;

    my $rest = @words % 2 ? pop @words : undef;

    $h = mix($h + $seed, $len);

    while (@words) {
        $h = mix($h, shift @words);
        $g = mix($g, shift @words);
    }

    $h = mix($h, $rest) if defined $rest;

    $g = mix($g, unpack 'q<', substr($text, $whole) . "\0" x 7)
        if $len > $whole;

    $h = mix($h, $g);

    no integer;
    return $h ^ (($h & 0xffffffffffffffff) >> 32);
}


sub mix {
    my ($h, $word) = @_;

    no warnings 'portable';

    my $product = do {
        use integer;
        ($h ^ $word) * 0xd6e8feb86659fd93;
    };

    $product = unpack 'Q', pack 'q', $product;

    return ($product << 29 | $product >> 35) & 0xffffffffffffffff;
}


sub names { map { sprintf 'task-%024d', ++$names } 1 .. $_[0] }


# submit(n, options): ids

sub submit {
    my ($n, %o) = @_;

    my @ids = names($n);

    my @jobs = map {
        my $json = $o{json} // encode_json({ model => $o{model} // 'gpt-4o',
            messages => [{ role => 'user', content => $o{text} // $_ }] });
        my $endpoint = $o{endpoint} // '/v1/chat/completions';

        ($_, 0, $o{body} // parcel("$_:b", "$endpoint\n$json"));
    } @ids;

    $queue->call(submit => $n, 0, 0, 64, '', '', $HOUR, 0, $o{class} // 1,
        $o{team} // 'red', $o{owner} // 'user', $o{flags} // '', '', '',
        $o{deadline} // 0, $HOUR, '', @jobs);

    return @ids;
}


sub job { $redis->command(HGET => "${P}job:$_[0]", $_[1]) // '' }
sub states { join ' ', map { job($_, 's') } @_ }
sub error_of { my $e = job($_[0], 'e'); $e ? decode_json($e) : {} }
sub asked { grep { $_->{path} =~ /chat/ } $mock->journal }


sub ended {
    my ($what, $state, $seconds, @ids) = @_;

    my $want = join ' ', ($state) x @ids;

    $t->until(sub { states(@ids) eq $want }, $seconds);

    return is states(@ids), $want, $what;
}


# nothing is left, and all that came has ended once

sub clean {
    my ($what, $seconds) = @_;

    my %s;

    $t->until(sub {
        %s = @{$queue->call('sweep', $HOUR, $HOUR)};
        !grep { $s{$_} } qw(queued processing delayed length0 length1 length2
            pending0 pending1 pending2);
    }, $seconds // 5);

    my @left = map { "$_=$s{$_}" } grep { $s{$_} } qw(queued processing
        delayed length0 length1 length2 pending0 pending1 pending2);

    is "@left", '', "$what: nothing is left";
    is $s{completed} + $s{error} + $s{cancelled}, $s{submitted},
        "$what: each has one end";
}


# a result that is not compressed

sub result {
    my ($id) = @_;

    my $r = job($id, 'r');

    return $r =~ /^LP\x02\x00.{12}(\d+) (\S+)\n(.*)/s ? ($1, $2, $3) : ();
}


sub completes {
    $mock->script({ keep => JSON::PP::true });

    my $since = time;
    my @ids = submit(3);

    ended('three tasks complete', 'completed', 5, @ids);
    cmp_ok time - $since, '<', 3, 'soon, without any word';

    my ($status, $request, $body) = result($ids[0]);
    is $status, 200, 'the status of the answer';
    is $request, $ids[0], 'its request id is that of the task';
    is decode_json($body)->{usage}{total_tokens}, 30, 'and its body';
    is_deeply decode_json(job($ids[0], 'u')), { prompt_tokens => 10,
        completion_tokens => 20, cached_tokens => 0 }, 'its usage';
    is job($ids[0], 'b'), '', 'the request is not kept';

    my @asked = asked();
    is scalar(@asked), 3, 'each was asked once';
    is join(' ', sort map { decode_json($_->{body})->{messages}[0]{content} }
        @asked), "@ids", 'what it is about';
    is scalar(grep { /x-llm-/ } map { keys %{$_->{headers}} } @asked), 0,
        'the provider hears nothing of the inside';

    $t->becomes('llm_tasks_finished_total{outcome="completed"}', 3,
        'three are counted');
    $t->becomes('llm_task_run_duration_seconds_count', 3, 'with their times');
    $t->becomes('llm_tasks_running', 0, 'nothing runs');

    my ($embedding) = submit(1, endpoint => '/v1/embeddings',
        json => '{"model":"text-embedding-3-small","input":"x"}');
    ended('an embedding', 'completed', 5, $embedding);

    clean('completed');
}


sub refused {
    $mock->script({ status => 400, error_message => 'No such parameter.',
        error_code => 'bad' });

    my ($id) = submit(1);
    ended('a 400 is an error at once', 'error', 5, $id);
    is error_of($id)->{message}, 'No such parameter.', 'as the provider said';
    is +(result($id))[0], 400, 'with the answer';
    is job($id, 'a'), 1, 'it was tried once';

    $mock->script({});
    my ($gone) = submit(1, owner => 'nobody');
    ended('an owner that is gone', 'error', 5, $gone);
    is +(result($gone))[0], 401, 'is not let in';
    is scalar(asked()), 0, 'and asks nobody';

    my ($stream) = submit(1, json => '{"model":"gpt-4o","messages":[],'
        . '"stream":true}');
    ended('what streams', 'error', 5, $stream);
    is error_of($stream)->{code}, 'unsupported_parameter', 'says so';

    clean('refused');
}


sub unreadable {
    $mock->script({});

    my ($damaged) = submit(1, body => parcel('another:b', "/v1/x\n{}"));
    my ($endpoint) = submit(1, endpoint => '/v1/models');
    my ($owner) = submit(1, owner => "a\r\nX-Llm-Key: b");

    ended('what cannot be read', 'error', 5, $damaged, $endpoint, $owner);
    is join(' ', map { error_of($_)->{code} } $damaged, $endpoint, $owner),
        'unreadable unreadable unreadable', 'says so';
    like $t->log, qr/\[notice\].*"$damaged" of "red" cannot be read/,
        'so does the log';
    is scalar(asked()), 0, 'nobody was asked';

    clean('unreadable');
}


sub limited {
    $mock->script({ times => 1, status => 429,
        headers => { 'retry-after-ms' => '300' } });

    my $held = $t->metric('llm_tasks_held_total');
    my ($id) = submit(1);

    ended('a 429 is waited for', 'completed', 10, $id);
    my @at = $mock->arrivals;
    is scalar(@at), 2, 'asked twice';
    cmp_ok $at[1] - $at[0], '>=', 290, 'not before it was told to';
    is job($id, 'a'), 1, 'that is no try';
    $t->becomes('llm_tasks_held_total', $held + 1, 'it was held');

    $mock->script({ status => 429, error_code => 'insufficient_quota',
        error_type => 'insufficient_quota' });
    my ($quota) = submit(1);
    ended('a quota that is spent', 'error', 5, $quota);
    is error_of($quota)->{code}, 'insufficient_quota', 'is an error';

    $mock->script({});
    my @daily = submit(2, owner => 'daily');
    ok $t->until(sub { states(@daily) =~ /^(?:error completed|completed error)$/ }, 5),
        'so is one that is spent until tomorrow';
    is join(' ', sort map { job($_, 's') } @daily), 'completed error',
        'and the one before was not';

    clean('limited');
}


sub tries {
    my $retried = $t->metric('llm_tasks_retried_total');

    $mock->script({ times => 2, status => 503 });
    my ($id) = submit(1);
    ended('a 503 is tried again', 'completed', 10, $id);
    is job($id, 'a'), 3, 'at the third time it was right';
    is +(result($id))[1], "$id-3", 'the try has a number';

    $mock->script({ status => 503 });
    my ($never) = submit(1);
    ended('until the tries are over', 'error', 10, $never);
    is job($never, 'a'), 3, 'three of them';
    is +(result($never))[0], 503, 'the last answer is there';
    is scalar(asked()), 3, 'no more were asked';
    $t->becomes('llm_tasks_retried_total', $retried + 4, 'counted');

    $mock->script({ times => 1, cut => 'rst', cut_at => 100 }, {});
    my ($cut) = submit(1);
    ended('an answer that breaks off', 'completed', 10, $cut);

    my $dead = $redis->command(XREVRANGE => "${P}dead", '+', '-', COUNT => 1);
    is "@{$dead->[0][1]}[1, 5]", "$never tries", 'it is among the dead';

    clean('tries');
}


sub large {
    $mock->script({ content_bytes => 100000 });

    my ($id) = submit(1);
    ended('an answer that is too large', 'error', 5, $id);
    is error_of($id)->{code}, 'result_too_large', 'says so';
    clean('large');
}


sub expires {
    $mock->script({ delay_ms => 5000 });

    my $now = int(time * 1000);
    my ($id) = submit(1, deadline => $now + 1000);
    my ($late) = submit(1, deadline => $now - 1000);

    ended('a deadline that is over', 'error', 10, $late, $id);
    is join(' ', map { error_of($_)->{code} } $late, $id),
        'task_expired task_expired', 'says so';
    clean('expires');
}


sub cancels {
    $mock->script({ hang => JSON::PP::true });

    my ($id) = submit(1);
    $mock->wait(requests => 1);
    is $queue->call(cancel => 'red', $HOUR, $id)->[0], 'flagged', 'it runs';
    ended('it is cancelled', 'cancelled', 5, $id);
    ok $mock->wait(client_closed => 1), 'and so is the call to the provider';
    $t->becomes('llm_tasks_finished_total{outcome="cancelled"}', 1,
        'counted');
    $t->all_back('cancelled');
    clean('cancelled');
}


sub archive {
    my @lines = map { decode_json($_) } split /\n/, $t->read('archive.jsonl');
    my %s = @{$queue->call('sweep', $HOUR, $HOUR)};

    is scalar(@lines), $s{submitted}, 'the archive has a line for each task';
    is scalar(uniq(map { $_->{id} } @lines)), scalar(@lines), 'once';
    is scalar(grep { $_->{state} eq 'completed' } @lines), $s{completed},
        'with its state';

    my ($line) = grep { $_->{state} eq 'completed' } @lines;
    is $line->{result}{usage}{total_tokens}, 30, 'its result';
    is "$line->{team} $line->{owner} $line->{status}", 'red user 200',
        'whose it was';
    cmp_ok abs($line->{finished} - $line->{created}), '<', 60, 'and when';

    ($line) = grep { ($_->{status} // 0) == 400 } @lines;
    is $line->{error}{message}, 'No such parameter.', 'of others the error';
}


# what a gateway without work asks of Redis

sub idle {
    my $calls = sub {
        my $info = $redis->command(INFO => 'commandstats');
        return sum0($info =~ /cmdstat_evalsha:calls=(\d+)/);
    };

    my $before = $calls->();
    sleep 3;
    my $n = ($calls->() - $before) / 3;

    cmp_ok $n, '<', 7, "two idle workers: $n commands per second";
    cmp_ok $n, '>', 2, 'but they look';
}


# one who comes with a single task does not wait behind hundreds

sub fair {
    $mock->script({ delay_ms => 20 });

    my @many = submit(200);
    push @many, submit(200);
    my ($one) = submit(1, team => 'blue', owner => 'other');

    ended('the other team\'s task', 'completed', 20, $one);
    my $left = grep { job($_, 's') eq 'queued' } @many;
    cmp_ok $left, '>', 200, "while $left of the others wait";

    ended('and then all the others', 'completed', 60, @many);
    is scalar(asked()), 401, 'each once';
    cmp_ok $mock->stats->{max_in_flight}, '<=', 16, 'no more at a time than '
        . 'may be: ' . $mock->stats->{max_in_flight};
    cmp_ok $mock->stats->{max_in_flight}, '>', 8, 'and more than at first';
    clean('fair');
}


sub two_gateways {
    $other = Test::LLM->new(workers => 2);
    $other->token(MOCK => '127.0.0.1:' . $mock->port);
    $other->token(REDIS => $redis->url);
    configured($other);

    $mock->script({ delay_ms => 200 });
    my @ids = submit(200);

    ended('two gateways', 'completed', 60, @ids);
    is scalar(asked()), 200, 'each task is asked once';
    $t->until(sub { ($other->metric(
        'llm_tasks_finished_total{outcome="completed"}') || 0) > 20 }, 2);
    cmp_ok $other->metric('llm_tasks_finished_total{outcome="completed"}'),
        '>', 20, 'the second one did its part';
    clean('two gateways');

    $other->quit;
}


sub kill_workers {
    my @workers = $t->workers;

    # together: else the second one would only miss its answers

    kill 'STOP', @workers;
    kill 'KILL', @workers;
    $t->kill_worker('KILL', $_) for @workers;
}


# workers die in the middle of calls: they come again when the lease is over

sub dies {
    $mock->script({ times => 2, hang => JSON::PP::true }, {});

    my @ids = submit(2);
    $mock->wait(requests => 2);
    my $since = time;
    kill_workers();

    ended('killed: they run again', 'completed', 15, @ids);
    cmp_ok time - $since, '>', 1.5, 'not while they may be running';
    is join(' ', map { job($_, 'a') . job($_, 'd') } @ids), '21 21',
        'each has died once';
    is scalar(asked()), 4, 'each ran once more';
    $t->becomes('llm_tasks_running', 0, 'nothing runs');

    # by deaths=1 the second time is one too many

    $mock->script({ times => 2, hang => JSON::PP::true }, {});
    my ($poison) = submit(1);

    for my $n (1, 2) {
        $mock->wait(requests => $n, timeout_ms => 15000);
        kill_workers();
    }

    ended('one that died twice is poison', 'error', 15, $poison);
    is error_of($poison)->{code}, 'poison', 'it says so';
    ok $t->wait_log(qr/\[notice\].*"$poison" of "red" is given up: poison/, 5),
        'and the log';
    $t->all_back('killed');
    clean('killed');
}


# stopped for longer than a lease, then it goes on

sub stopped {
    my @workers = $t->workers;

    $mock->script({ times => 1, delay_ms => 1500, content => 'stale' },
        { content => 'fresh' });

    my $lost = sub { $t->metric('llm_tasks_lost_total') };
    my $before = $lost->();
    my ($id) = submit(1);

    $mock->wait(requests => 1);
    kill 'STOP', @workers;

    # meanwhile another gateway takes it

    $other = Test::LLM->new(workers => 1);
    $other->token(MOCK => '127.0.0.1:' . $mock->port);
    $other->token(REDIS => $redis->url);
    configured($other);

    my $done = ended('another one ran it', 'completed', 15, $id);
    kill 'CONT', @workers;

    like +(result($id))[2], qr/fresh/, 'its result';
    ok $t->until(sub { $lost->() > $before }, 5), 'the first one is told';
    like +(result($id))[2], qr/fresh/, 'that it cannot change it';
    like $t->log, qr/\[notice\].*"$id" of "red".* not ours any more/,
        'the log says so';
    is job($id, 'a'), 2, 'the second attempt';
    clean('stopped');

    $other->quit;
}


# calls under way go on, and nothing is begun by a worker that leaves

sub reload {
    $mock->script({ delay_ms => 1000 });

    my @ids = submit(8);
    $mock->wait(requests => 1);
    $t->reload;

    ended('reloaded: all complete', 'completed', 15, @ids);
    is scalar(asked()), 8, 'each was asked once';
    is join(' ', uniq(map { job($_, 'd') || 0 } @ids)), '0', 'none has died';
    $t->becomes('llm_tasks_running', 0, 'nothing runs');
    clean('reloaded');
}


sub quits {
    $mock->script({ delay_ms => 700 });

    my @ids = submit(4);
    $mock->wait(requests => 4);
    $t->quit;

    is states(@ids), 'completed completed completed completed',
        'a gateway that quits ends its calls before';
    is scalar(asked()), 4, 'each was asked once';

    $t->start;
    clean('quit');
}


sub terminated {
    $mock->script({ times => 4, hang => JSON::PP::true }, {});

    my @ids = submit(4);
    $mock->wait(requests => 4);

    # both hear of it before one of them is gone, whose tasks the other would
    # run else

    my @workers = $t->workers;

    kill 'STOP', @workers;
    kill 'TERM', $t->{master};
    ok $t->wait_log(qr/signal 15 \(SIGTERM\) received.*exiting/, 5),
        'the master is to end';
    Test::LLM::HTTP->idle(0.02);
    kill 'CONT', @workers;
    $t->stop;

    is states(@ids), 'queued queued queued queued', 'ended at once: what ran '
        . 'is given back';
    is join(' ', uniq(map { job($_, 'a') . (job($_, 'd') || 0) } @ids)), '00',
        'as if it had not been tried';

    $t->start;
    ended('the next one runs it', 'completed', 10, @ids);
    clean('terminated');
}


# Redis has read a command, and is busy before it answers: what the gateway says
# after it and before it ends is read all the same.  (A Redis whose answer finds
# the connection closed reads nothing more from it.)

sub last_words {
    my $one = Test::LLM->new(workers => 1);

    $t->quit;
    $one->token(REDIS => $redis->url);
    my $provider = configured($one);
    $provider->script({ times => 4, hang => JSON::PP::true }, {});

    my $busy = $redis->another;
    $busy->command('PING');

    my @ids = submit(4);
    $provider->wait(requests => 4);

    # a command is on its way, and one behind it that takes a while

    $redis->pause;
    my $late = $one->start_post('/api/tasks',
        { model => 'gpt-4o', prompts => ['late'] }, key => 'user');
    is $one->get('/v1/models', key => 'user')->status, 200, 'it is asked';

    # (time stands still for scripts)
    $busy->ask('EVAL', <<'EOF', 0);
        redis.log(redis.LOG_WARNING, 'is busy')
        for n = 1, 3e7 do end
EOF

    $redis->resume;
    ok $t->until(sub { $t->read('redis.out') =~ /is busy/ }, 5),
        'and busy before it answers';
    $one->stop;

    is states(@ids), 'queued queued queued queued', 'what is said last is heard';

    $late->close;
    $t->start;
    ended('and the tasks run', 'completed', 10, @ids);
    clean('last words');
}


# One worker is ended a moment before the other, which so sees its calls through
# it cut: they were no try.  On a busy machine the second may come too late.

sub ended_in_turn {
    my @ids;

    for my $try (1 .. 5) {
        $mock->script({ hang => JSON::PP::true });
        @ids = submit(12);
        $mock->wait(requests => 12);

        my ($first, $second) = $t->workers;
        my $master = $t->{master};

        kill 'STOP', $master;
        my $since = time;
        kill 'TERM', $first;
        $t->until(sub { Test::LLM::command_of($first) eq '' }, 5);
        Test::LLM::HTTP->idle(0.05);
        kill 'TERM', $second;

        my $took = time - $since;

        kill 'TERM', $master;
        $t->stop;

        last if $took < 0.2 || $try == 5;

        $t->start;
        $mock->script({});
        ended("too late, $took s: they run", 'completed', 15, @ids);
    }

    is states(@ids), join(' ', ('queued') x 12), 'ended in turn: given back';
    is join(' ', uniq(map { job($_, 'a') . (job($_, 'd') || 0) } @ids)), '00',
        'none was tried';

    $mock->script({});
    $t->start;
    ended('and run later', 'completed', 15, @ids);
    clean('in turn');
}


sub redis_down {
    $mock->script({ delay_ms => 600 });

    my @ids = submit(4);
    my @later = submit(4);
    $mock->wait(requests => 4);
    $redis->stop('KILL');
    sleep 1;
    $redis->start;
    $t->until(sub { eval { $redis->command('DBSIZE') } }, 5);

    ended('Redis was away: all complete', 'completed', 20, @ids, @later);
    cmp_ok scalar(asked()), '<=', 16, 'asked ' . asked() . ' times';
    $t->becomes('llm_tasks_running', 0, 'nothing runs');
    clean('Redis');
}
