#!/usr/bin/perl

# Every allocation of a worker fails once, one at a time, while it serves a
# request of each kind: the client has its answer, an error of the server's or
# a closed connection, and that soon; no worker dies; slots come back; the
# next request is as good as any.  In the sanitizers' build each ngx_palloc()
# is an allocation of its own.
#
# As a rule a few allocations of each kind are drawn; TEST_LLM_LONG: all.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use List::Util qw(max min);
use Time::HiRes qw(time sleep);

use Test::LLM;


my ($COUNT, $FAILED, $SPARED) = 1 .. 3;
my $SAY = 'Hello from the mock provider, which always says the same.';

my $long = $ENV{TEST_LLM_LONG};
my $seed = $ENV{TEST_LLM_SEED} // int rand 1 << 30;
my $patience = Test::LLM->can('sanitized')->({ binary =>
    $ENV{TEST_NGINX_BINARY} // '' }) ? 20 : 8;
my $mark = 'mark112';
my $n = 0;

srand $seed;
note "TEST_LLM_SEED=$seed";

# what fails is in front of the sanitizer

{
    no warnings 'redefine';
    my $options = \&Test::LLM::sanitizer_options;

    *Test::LLM::sanitizer_options = sub {
        my %options = $options->(@_);
        $options{ASAN_OPTIONS} .= ':verify_asan_link_order=0';
        return %options;
    };
}

my $t = Test::LLM->new;
my $redis;
my $words = $t->path('tmp/alloc');
my $mock = gateway();

my @scenes = (
    ['a JSON answer', 30, \&json],
    ['a stream', 30, \&stream],
    ['a hit', 20, \&hit],
    ['a stream from the cache', 20, \&hit_stream],
    ['a retry', 20, \&retry],
    ['a shared call', 20, \&shared],
    ['a wait in line', 20, \&line],
    ['a refusal', 12, \&refused],
    ['a response', 12, \&response],
    ['an embedding', 12, \&embedding],
    ['models', 8, \&models],
    ['metrics', 8, \&metrics],
    ['the admin API', 20, \&admin],
    ['a task', 15, \&task],
    ['a batch', 10, \&batch],
);

if ($ENV{TEST_LLM_SCENE}) {
    @scenes = grep { $_->[0] =~ /$ENV{TEST_LLM_SCENE}/ } @scenes;
}

json(1);
scene(@$_) for @scenes;

$t->all_back('at the end');
done_testing;


sub gateway {
    $t->write('tmp/alloc', "\0" x 4096);
    $t->write('tmp/alloc.trace', '');
    chmod 0666, $words;

    $t->key('user', team => 'red', requests_per_minute => 1000000,
        tokens_per_minute => 1000000000, concurrency => 100,
        budget => { usd => 100000, period => 'day' });
    $t->key('single', team => 'red', concurrency => 1);
    $t->key('slow', team => 'red', requests_per_day => 1);

    # what nginx says about it, and the tasks

    $t->allow(qr/\[emerg\] .*(?:malloc|posix_memalign)\(.*failed/,
        qr/\[alert\] .*llm tasks: no memory for a task/);

    my $mock = $t->mock;
    $redis = $t->redis;

    # nginx alone is to have it

    local $ENV{LD_PRELOAD} = $ENV{TEST_BUILD} . '/alloc/fail.so';
    local $ENV{ALLOC_FAIL_FILE} = $words;

    $t->tasks_gateway('lease=1s backoff=20ms backoff_max=100ms'
        . ' deaths=100',
        location => 'llm_cache on; llm_retry tries=2 base=1ms budget=100'
            . ' floor=1000;',
        admin => $t->admin_api);

    $t->until(sub { $t->get('/v1/batches', key => 'user')->status == 200 },
        10);

    return $mock;
}


# the words that the workers share with us

sub word {
    my ($i) = @_;

    open my $in, '<', $words or die "$words: $!\n";
    sysseek $in, 8 * $i, 0;
    sysread $in, my $text, 8;

    return unpack 'Q', $text;
}


sub arm {
    my ($which) = @_;

    open my $out, '+<', $words or die "$words: $!\n";
    syswrite $out, pack 'Q*', $which, 0, 0, 0;
}


# from here on nothing fails, what was counted stays

sub disarm {
    open my $out, '+<', $words or die "$words: $!\n";
    syswrite $out, pack 'Q', 0;
}


sub scene {
    my ($name, $most, $run) = @_;

    my @wrong;
    my $start = time;

    # what failed before may have cost a connection to Redis

    my @said;
    $t->until(sub { !(@said = $run->(1)) }, 2 * $patience);
    is "@said", '', "$name: nothing fails as yet";

    # how many there are

    my $all;

    for (1 .. 3) {
        arm(0);
        $run->(1);
        $all = min($all // word($COUNT), word($COUNT));
    }

    my @which = 1 .. $all;
    @which = map { 1 + int(($_ + rand) * $all / $most) } 0 .. $most - 1
        if !$long && $all > $most;

    my $failed = 0;

    for my $which (@which) {
        arm($which);
        my @bad = $run->(0);
        $failed += word($FAILED) + word($SPARED);
        arm(0);

        push @bad, after();
        push @wrong, map { "allocation $which of $all: $_\n" } @bad;
        last if @wrong > 20;
    }

    is join('', @wrong), '', sprintf "%s: %d of %d allocations, %d failed",
        $name, scalar @which, $all, $failed;
    cmp_ok $failed, '>', 0, '... as they should';

    note sprintf '%.1f s', time - $start;
}


# what must be true behind each

sub after {
    my @bad = answered($t->chat('after ' . ++$n, timeout => $patience),
        1, sub { says($_[0]->json) });
    my ($page, %is);

    $t->until(sub {
        $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'));

        %is = map { /^(llm_slots_in_use|llm_slots_waiting
            |llm_ledger_tickets_used)\ (\d+)$/x } split /\n/, $page->body;

        return keys %is == 3 && !grep { $_ } values %is;
    }, $patience) or push @bad, 'left: '
        . join ' ', map { "$_ $is{$_}" } sort keys %is;

    return map { "then $_" } @bad;
}


# What is wrong with an answer.  "must": nothing may go wrong; "good": says
# what is wrong with one of the status that it should have.

sub answered {
    my ($r, $must, $good, $expected) = @_;

    $expected //= 200;
    $r->wait;

    my $status = $r->status // 0;
    my $error = $r->error // '';

    return "no answer within $patience s" if $error eq 'timeout';

    if (!$r->complete) {
        return $must ? "broken off: $error" : ();
    }

    if ($status == $expected) {
        my $what = eval { $good->($r) } // $@ . $r->body;
        return $what eq '' ? () : "a wrong answer: $what";
    }

    return "status $status" if $must || $status !~ /^50[02347]$/;
    return ();
}


sub says {
    my ($json) = @_;

    my $is = $json->{choices}[0]{message}{content} // '';

    return $is eq $SAY ? '' : "\"$is\"";
}


sub streamed {
    my ($r) = @_;

    my $text = '';
    my $last = $r->events->[-1]{data} // '';

    for my $e (map { $_->{data} } @{$r->events}) {
        next if $e eq '[DONE]';

        my $json = decode_json($e);

        # an error may come once the answer has begun
        return '' if $json->{error};
        $text .= $json->{choices}[0]{delta}{content} // '';
    }

    return $text eq $SAY && $last eq '[DONE]' ? '' : "\"$text\" $last";
}


sub ask {
    my ($text, %o) = @_;
    return $t->start_chat($text, timeout => $patience, %o);
}


sub json {
    my ($must) = @_;
    return answered(ask('json ' . ++$n), $must, sub { says($_[0]->json) });
}


sub stream {
    my ($must) = @_;
    return answered(ask('stream ' . ++$n, stream => 1), $must, \&streamed);
}


sub hit {
    my ($must) = @_;
    return answered(ask('hit'), $must, sub { says($_[0]->json) });
}


sub hit_stream {
    my ($must) = @_;
    return answered(ask('hit', stream => 1), $must, \&streamed);
}


sub retry {
    my ($must) = @_;

    $mock->script({ times => 1, status => 503 });

    my @bad = answered(ask('retry ' . ++$n), $must,
        sub { says($_[0]->json) });

    $mock->script;

    return @bad;
}


sub shared {
    my ($must) = @_;

    $mock->script({ delay_ms => 30 });

    my $text = 'shared ' . ++$n;
    my @r = map { ask($text, stream => $_ % 2) } 0 .. 3;
    my @bad = map { answered($r[$_], $must,
        $_ % 2 ? \&streamed : sub { says($_[0]->json) }) } 0 .. 3;

    $mock->script;

    return @bad;
}


sub line {
    my ($must) = @_;

    $mock->script({ delay_ms => 20 });

    my @r = map { ask("line $_ " . ++$n, key => 'single') } 1 .. 3;
    my @bad = map { answered($_, $must, sub { says($_[0]->json) }) } @r;

    $mock->script;

    return @bad;
}


sub refused {
    my ($must) = @_;

    return (
        answered(ask('x', key => 'slow'), 0, sub { '' }, 429),
        answered(ask('x', key => undef), $must, sub { '' }, 401),
        answered($t->start_post('/v1/chat/completions', '{"model":"a",',
            key => 'user', timeout => $patience), $must, sub {
                $_[0]->json->{error}{code} eq 'invalid_json' ? ''
                    : $_[0]->body }, 400),
    );
}


sub response {
    my ($must) = @_;

    return answered($t->start_post('/v1/responses', { model => 'gpt-4o',
        input => 'response ' . ++$n }, key => 'user', timeout => $patience),
        $must, sub { $_[0]->json->{status} eq 'completed' ? ''
            : $_[0]->body });
}


sub embedding {
    my ($must) = @_;

    return answered($t->start_post('/v1/embeddings', { model => 'm',
        input => 'embed ' . ++$n }, key => 'user', timeout => $patience),
        $must, sub { @{$_[0]->json->{data}} == 1 ? '' : $_[0]->body });
}


sub models {
    my ($must) = @_;

    return answered($t->start_get('/v1/models', key => 'user',
        timeout => $patience), $must, sub {
            $_[0]->json->{object} eq 'list' ? '' : $_[0]->body });
}


sub metrics {
    my ($must) = @_;

    return answered($t->start_get('/metrics', timeout => $patience,
        port => $t->port('PORT_ADMIN')), $must, sub {
            $_[0]->body =~ /^llm_requests_total\{.*\n\z/ms ? ''
                : 'a page without accounts' });
}


sub admin {
    my ($must) = @_;

    my $name = 'made-' . ++$n;
    my $secret = $t->read('admin.secret');
    chomp $secret;

    my $call = sub {
        my ($method, $path, $body, $status, $good) = @_;

        return answered($t->start_get("/admin/v1$path", method => $method,
            port => $t->port('PORT_ADMIN'), body => $body,
            timeout => $patience,
            headers => { Authorization => "Bearer $secret" }),
            $must, $good // sub { '' }, $status);
    };

    my @bad = $call->(POST => '/keys', { name => $name, team => 'red',
        requests_per_minute => 5, metadata => { a => 'b' } }, 201, sub {
            $_[0]->json->{name} eq $name ? '' : $_[0]->body });

    # from here on the key may not be there

    my $there = $t->admin(GET => "/keys/$name");

    if (($there->status // 0) == 200) {
        push @bad, $call->(PATCH => "/keys/$name",
            { requests_per_minute => 7 }, 200, sub {
                $_[0]->json->{requests_per_minute} == 7 ? ''
                    : $_[0]->body });
    }

    push @bad, $call->(GET => '/keys', undef, 200, sub {
        ref $_[0]->json->{data} eq 'ARRAY' ? '' : $_[0]->body });
    push @bad, $call->(GET => '/usage?group_by=key', undef, 200);

    disarm();

    # it does not stay; Redis may know more of it than the gateway does yet

    my $r = $t->admin(DELETE => "/keys/$name");
    push @bad, 'DELETE: ' . ($r->status // $r->error // '')
        if !$r->complete || $r->status !~ /^(?:20[04]|404|409|50[03])$/;

    return @bad;
}


# what was accepted comes to an end

sub task {
    my ($must) = @_;

    my $r = $t->start_post('/api/tasks', { prompts => ['task ' . ++$n],
        model => 'gpt-4o' }, key => 'user', timeout => $patience);
    my @bad = answered($r, $must, sub {
        @{$_[0]->json->{task_ids}} == 1 ? '' : $_[0]->body });

    my $id = $r->complete && $r->status == 200 ? $r->json->{task_ids}[0]
        : undef;

    return @bad if !defined $id;

    my $state = '';

    $t->until(sub {
        my $look = $t->start_get("/api/tasks/$id", key => 'user',
            timeout => $patience);

        my @wrong = answered($look, $must, sub {
            $state = $_[0]->json->{$id}{status} // $_[0]->body; '' });
        push @bad, @wrong;

        sleep 0.02;
        return @wrong || $state =~ /^(?:completed|error|not_found)$/;
    }, 2 * $patience);

    push @bad, "the task is $state" if $state ne 'completed'
        && ($must || $state ne 'error');

    return @bad;
}


sub upload {
    my ($must) = @_;

    my $line = encode_json({ custom_id => 'a', method => 'POST',
        url => '/v1/chat/completions', body => { model => 'gpt-4o',
            messages => [{ role => 'user', content => 'batch ' . ++$n }] } });

    my $r = $t->start_post('/v1/files', join('', "--$mark\r\n",
        qq{Content-Disposition: form-data; name="purpose"\r\n\r\nbatch},
        "\r\n--$mark\r\n",
        qq{Content-Disposition: form-data; name="file"; filename="a.jsonl"},
        "\r\n\r\n$line\n\r\n--$mark--\r\n"), key => 'user',
        timeout => $patience,
        headers => { 'Content-Type' => "multipart/form-data; boundary=$mark" });

    my @bad = answered($r, $must, sub {
        $_[0]->json->{purpose} eq 'batch' ? '' : $_[0]->body });

    return ($r->complete && $r->status == 200 ? $r->json->{id} : undef, @bad);
}


sub batch {
    my ($must) = @_;

    my ($file, @bad) = upload($must);
    return @bad if !defined $file;

    my $r = $t->start_post('/v1/batches', { input_file_id => $file,
        endpoint => '/v1/chat/completions', completion_window => '24h' },
        key => 'user', timeout => $patience);

    push @bad, answered($r, $must, sub {
        $_[0]->json->{object} eq 'batch' ? '' : $_[0]->body });

    my $id = $r->complete && $r->status == 200 ? $r->json->{id} : undef;
    return @bad if !defined $id;

    my $batch = {};
    my $stuck = time + $patience;

    $t->until(sub {

        # who had no memory to go on may hold it for a lease of 30 s: now
        # that is over

        if (time > $stuck) {
            $redis->command(ZADD => '{llm}:t:todo', 'XX', 0, "b:$id");
            $stuck = time + $patience;
        }

        my $look = $t->start_get("/v1/batches/$id", key => 'user',
            timeout => $patience);

        my @wrong = answered($look, $must, sub { $batch = $_[0]->json; '' });
        push @bad, @wrong;

        sleep 0.1;
        return @wrong
            || ($batch->{status} // '') =~ /^(?:completed|failed|expired)$/;
    }, 3 * $patience);

    push @bad, 'the batch is ' . ($batch->{status} // 'not there')
        if ($batch->{status} // '') ne 'completed'
        && ($must || ($batch->{status} // '') ne 'failed');

    if ($batch->{output_file_id}) {
        push @bad, answered($t->start_get("/v1/files/"
            . "$batch->{output_file_id}/content", key => 'user',
            timeout => $patience), $must, sub {
                $_[0]->body =~ /\Q$SAY\E/ ? '' : $_[0]->body });
    }

    return @bad;
}
