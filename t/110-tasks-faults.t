#!/usr/bin/perl

# A worker dies at each labelled point of a task's way (the module is built
# for that by util/build-faults.sh): each task has one end, by an answer that
# the provider gave to it, and ran again only if it was with the worker that
# died.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Compress::Raw::Zlib qw(crc32);
use JSON::PP;
use List::Util qw(max sum0);
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Queue;


my $P = Test::LLM::Queue->prefix;
my $HOUR = 3600000;
my $LEASE = 1;
my ($t, $redis, $queue, $mock, $module);
my $prompts = 0;

for my $workers (1, 2) {
    gateway($workers);

    dies('after-claim');
    dies('after-dispatch');
    dies('after-result');
    dies('after-end');

    submits();
    batch();
    quiet();
}

done_testing;


# in the sanitizers' build the points are always there

sub faults {
    my ($t) = @_;

    return '' if $t->{module} eq '';

    my $folder = "$t->{build}/faults";

    system("$t->{top}/util/build-faults.sh", $folder) == 0
        or die "the module cannot be built\n";

    return "$folder/ngx_http_llm_module.so";
}


sub gateway {
    my ($workers) = @_;

    $t = Test::LLM->new(workers => $workers);
    $t->{module} = $module //= faults($t);

    my $file = $t->path('tmp/fault');

    $t->key('user', team => 'red', concurrency => 20);

    # a lock that died with its worker is found by the next one

    $t->allow(qr/\[alert\].*ledger, it is derived anew/);

    local $ENV{TEST_NGINX_GLOBALS} = ($ENV{TEST_NGINX_GLOBALS} // '')
        . "\nenv LLM_FAULT_FILE=$file;\n";

    $mock = $t->tasks_gateway("lease=${LEASE}s backoff=50ms"
        . ' backoff_max=200ms');
    $redis = $t->{redis};
    $queue = Test::LLM::Queue->new($redis);

    $t->until(sub { $t->get('/api/tasks/none', key => 'user')->status == 200 },
        10);
}


sub totals { @{$queue->call('sweep', $HOUR, $HOUR)} }


# the next worker that comes to the point is the one that dies

sub arm {
    my ($label) = @_;

    my @workers = $t->workers;

    $t->write('tmp/fault', $label);

    return map { $_ => 1 } @workers;
}


sub died {
    my ($label, %workers) = @_;

    ok $t->until(sub { !-e $t->path('tmp/fault') }, 20),
        "$label: a worker came there";

    my @gone;
    my $replaced = $t->until(sub {
        my %now = map { $_ => 1 } $t->workers;

        @gone = grep { !$now{$_} } keys %workers;
        return @gone && keys %now == $t->{workers};
    }, 20);

    ok $replaced, '... and died';
    is scalar(@gone), 1, '... no other';

    $t->allow(qr/\[alert\] .*process $_ exited on signal 9/,
        qr/\[alert\] .*locked by $_/) for @gone;
    $t->{expected} = [$t->workers];
}


sub submit {
    my ($n, %more) = @_;

    my @texts = map { '<f' . ++$prompts . '>' } 1 .. $n;

    return accepted([{ model => 'gpt-4o', prompts => \@texts, %more },
        key => 'user', timeout => 20,
        headers => ['Idempotency-Key' => $texts[0]]], @texts);
}


# sent again until it is accepted, since a worker may die meanwhile

sub accepted {
    my ($spec, @texts) = @_;

    my (%text, $r);

    ok $t->until(sub {
        $r = $t->post('/api/tasks', @$spec);
        return $r->complete && $r->status == 200;
    }, 10), @texts . ' submitted' or diag($r->body);

    @text{@{$r->json->{task_ids}}} = @texts;

    return %text;
}


# what the API tells: {state, finished, error code, crc of the result} by id

sub look {
    my (@ids) = @_;

    my $r = $t->get('/api/tasks?wait=20&task_ids=' . join(',', @ids),
        key => 'user', timeout => 30);
    my $body = $r->body;
    my $object = qr/(\{(?:[^{}"]++|"(?:[^"\\]++|\\.)*+"|(?-1))*+\})/s;
    my %is;

    while ($body =~ /"(task-\w+)":$object/g) {
        my ($id, $text) = ($1, $2);
        my $task = decode_json($text);
        my ($result) = $text =~ /"result":$object/;

        # the mock ends its answers with a line's end

        $is{$id} = { state => $task->{status}, finished =>
            $task->{finished_at}, error => ($task->{error} // {})->{code}
            // '', crc => $result ? crc32("$result\n") : '' };
    }

    return %is;
}


# how often it was asked, and the sums of its answers, by text

sub asked {
    my (%runs, %sums);

    for my $record ($mock->journal) {
        my ($text) = $record->{body} =~ /"content":"(<\w+>)"/ or next;

        $runs{$text}++;
        $sums{$text}{$record->{sent_crc32}} = 1
            if ($record->{ended} // '') eq 'done';
    }

    return (\%runs, \%sums);
}


sub dies {
    my ($label) = @_;

    my %before = totals();
    my $what = "$label, $t->{workers}";

    $mock->script({ keep => \1, delay_ms => 50, delay_jitter_ms => 100 });
    note $what;

    # some of them must not run again: one time these come first

    my %workers = arm($label);
    my %text = $t->{workers} == 1 ? submit(20) : ();
    my %once = submit(6, on_crash => 'fail');

    %text = (%text, %once, submit(1), $t->{workers} > 1 ? submit(20) : ());
    died($what, %workers);

    my %is = look(sort keys %text);
    my ($runs, $sums) = asked();
    my (@wrong, %d, %a);

    for my $id (sort keys %text) {
        my $is = $is{$id} // { state => 'not told' };
        my $n = $runs->{$text{$id}} // 0;

        ($a{$id}, $d{$id}) = map { $_ || 0 } @{$redis->command(
            HMGET => "${P}job:$id", 'a', 'd')};

        my $right = $is->{state} eq 'completed'
            ? $n >= 1 && $sums->{$text{$id}}{$is->{crc}}
            : $once{$id} && $is->{state} eq 'error'
            && $is->{error} eq 'crashed' && $d{$id} == 1;

        push @wrong, "$id: $is->{state} $is->{error}, $n times"
            if !$right || $n > 2 || $n > $a{$id} || $d{$id} > 1
            || ($once{$id} && $n > 1 && $d{$id});
    }

    is "@wrong", '', "$what: each has its own answer";

    my $deaths = sum0(values %d);
    my $again = grep { $_ > 1 } values %$runs;
    my $crashed = grep { $_->{state} eq 'error' } values %is;

    note "$deaths were with the dead worker, $again ran again, $crashed gave "
        . 'up';

    if ($label eq 'after-end') {
        my ($first) = sort { $is{$a}{finished} <=> $is{$b}{finished} }
            keys %is;

        is "$d{$first} $runs->{$text{$first}}", '0 1',
            '... what had ended is not touched';

    } else {
        cmp_ok $deaths, '>', 0, '... some were with the worker that died';
    }

    # of one worker it is known where its tasks were

    if ($t->{workers} == 1) {
        is $again, 0, '... none had been asked' if $label eq 'after-claim';
        cmp_ok $again, '>', 0, '... the answer was lost'
            if $label eq 'after-result';
        is join(' ', grep { ($runs->{$text{$_}} // 0) > 1 + $d{$_} }
            keys %text), '', '... none ran again but those';
    }

    cleared($what, scalar(keys %text), $crashed, %before);

    # a lease later all is as it was

    Test::LLM::HTTP->idle(1.2 * $LEASE);

    my %later = look(sort keys %text);
    my ($more) = asked();

    is_deeply \%later, \%is, "$what: nothing changes any more";
    is sum0(values %$more), sum0(values %$runs), '... and none is asked again';
}


# nothing is left, and each that came has ended once

sub cleared {
    my ($what, $n, $failed, %before) = @_;

    my %s;

    $t->until(sub {
        %s = totals();
        return $s{queued} + $s{processing} == 0;
    }, 10);

    my @left = map { "$_=$s{$_}" } grep { $s{$_} } qw(queued processing
        delayed length0 length1 length2 pending0 pending1 pending2);

    push @left, grep { /:/ } @{$redis->command(HKEYS => "${P}stat")};
    push @left, @{$redis->command(KEYS => "${P}$_")} for 'b:*', 'delayed',
        'held', 'todo', 'doing';

    is "@left", '', "$what: nothing is left";
    is join(' ', map { $s{$_} - $before{$_} } qw(submitted completed error
        cancelled)), join(' ', $n, $n - $failed, $failed, 0),
        '... and each has ended once';

    $t->all_back($what);
    $t->becomes('llm_tasks_running', 0, '... and nothing runs');
}


# the gateway dies between two calls of one request: who comes again has what
# is there, and the rest

sub submits {
    my $what = "after-submit, $t->{workers}";
    my %before = totals();
    my %workers = arm('after-submit');
    my @texts = map { '<f' . ++$prompts . '>' } 1 .. 300;
    my @send = ({ model => 'gpt-4o', prompts => \@texts },
        key => 'user', timeout => 20, headers => ['Idempotency-Key' => $what]);

    note $what;
    $mock->script({ keep => \1 });

    my $lost = $t->post('/api/tasks', @send);

    ok !$lost->complete, "$what: no answer";
    died($what, %workers);

    my %then = totals();

    note 'came before: ', $then{submitted} - $before{submitted};

    my %text = accepted(\@send, @texts);

    is scalar(keys %text), 300, '... who comes again has them all';

    my %is = look(keys %text);
    my ($runs, $sums) = asked();

    is join(' ', grep { $is{$_}{state} ne 'completed'
        || !$sums->{$text{$_}}{$is{$_}{crc}} } keys %text), '',
        '... and their answers';

    # the same worker may have run some of them meanwhile

    my %d = map { $_ => $redis->command(HGET => "${P}job:$_", 'a') // 0 }
        keys %text;

    is join(' ', grep { $runs->{$text{$_}} > $d{$_} || $d{$_} > 2 }
        keys %text), '', '... each once, or twice if its worker was that one';

    cleared($what, 300, 0, %before);
}


# the files of a batch are written, and nobody has said yet whose they are

sub batch {
    my $what = "batch-written, $t->{workers}";
    my $mark = 'mark110';
    my @lines = map { encode_json({ custom_id => "line-$_", method => 'POST',
        url => '/v1/chat/completions', body => { model => 'gpt-4o', messages =>
        [{ role => 'user', content => "<b$_>" }] } }) } 1 .. 5;

    $mock->script({});

    my $file = $t->post('/v1/files', join("\r\n", "--$mark",
        'Content-Disposition: form-data; name="purpose"', '', 'batch',
        "--$mark", 'Content-Disposition: form-data; name="file"; '
        . 'filename="a.jsonl"', '', join("\n", @lines), "--$mark--", ''),
        key => 'user', headers => { 'Content-Type' =>
            "multipart/form-data; boundary=$mark" })->json->{id};

    my %workers = arm('batch-written');
    my $id = $t->post('/v1/batches', { input_file_id => $file,
        endpoint => '/v1/chat/completions', completion_window => '24h' },
        key => 'user')->json->{id};

    died($what, %workers);

    # not after the lease of the dead, now

    $redis->command(ZADD => "${P}todo", 0, "b:$id");

    my $is;
    $t->until(sub {
        $is = eval { $t->get("/v1/batches/$id", key => 'user')->json };
        return $is && ($is->{status} // '') eq 'completed';
    }, 20);

    is $is->{status}, 'completed', '... it ends all the same';

    my $files = $t->get('/v1/files?purpose=batch_output', key => 'user');

    is join(' ', map { $_->{id} } grep { $_->{filename} =~ /^\Q$id\E/ }
        @{$files->json->{data}}), $is->{output_file_id},
        '... with one file, and none that nobody names';

    my @out = split /\n/, $t->get("/v1/files/$is->{output_file_id}/content",
        key => 'user')->body;

    is join(' ', map { decode_json($_)->{custom_id} } @out),
        join(' ', map { "line-$_" } 1 .. 5), '... and each line in it';
}


# without a file nobody dies

sub quiet {
    my @workers = $t->workers;
    my %text = submit(10);
    my %is = look(keys %text);

    is join(' ', map { $_->{state} } values %is),
        join(' ', ('completed') x 10), 'without a word nobody dies';
    is join(' ', $t->workers), "@workers", '... indeed';
    $t->quit if $t->{workers} == 1;
}
