#!/usr/bin/perl

# /v1/batches: what is wrong with a request and with an input file, line by
# line; batches to their end, with lines that fail; cancelled and expired
# ones; two gateways; and workers that die in each phase, after which no line
# stands twice in the output and none is missing.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use List::Util qw(shuffle);
use Time::HiRes qw(time sleep);

use Test::LLM;


my $P = '{llm}:t:';
my $json = JSON::PP->new->canonical->utf8;

my ($x, $y, $redis, $mock) = fleet();
my @times = qw(created_at in_progress_at expires_at finalizing_at completed_at
    failed_at expired_at cancelling_at cancelled_at);

wrong();
checks();
whole();
empty_side();
lists();
cancels();
early();
expires();
endpoints();
gone_input();
two_gateways();
queue_full();
dies_early();
dies();
foreign();

is left_over(), '', 'Redis keeps no job of a batch that has ended';
$x->all_back('at the end');

done_testing;


# Two gateways with two workers each, one Redis, one mock.

sub fleet {
    my @both = map { Test::LLM->new(workers => 2) } 1, 2;
    my $x = $both[0];

    $x->key('user', team => 'red');
    $x->key('mate', team => 'red');
    $x->key('other', team => 'blue');

    my $redis = $x->redis(appendonly => 'yes');
    my $mock = $x->mock('--journal', 20000);

    for my $t (@both) {
        my $socket = $t->path('internal.sock');

        $t->{tenants} = $x->{tenants};
        $t->write('tenants.json', $x->{tenants});
        $t->token(REDIS => $redis->url);
        $t->token(MOCK => $x->token('MOCK'));
        $t->gateway(
            http => "llm_internal unix:$socket; llm_tasks on lease=1s
                     backoff=20ms backoff_max=100ms deaths=100 max=20000
                     in_flight=64 window=64;",
            server => "listen unix:$socket;",
            location => 'llm_retry tries=1;',
        );
    }

    # the client of tasks connects in the background
    for my $t (@both) {
        $t->until(sub {
            $t->get('/v1/batches', key => 'user')->status == 200 }, 10);
    }

    return (@both, $redis, $mock);
}


# input lines

sub line {
    my ($n, %more) = @_;

    my %body = (model => 'gpt-4o',
        messages => [{ role => 'user', content => "question $n" }]);
    my $body = { %body, %{delete $more{body} // {}} };

    return $json->encode({ custom_id => "line-$n", method => 'POST',
        url => '/v1/chat/completions', body => $body, %more }) . "\n";
}


sub lines { join '', map { line($_) } 1 .. $_[0] }


sub upload {
    my ($text, %o) = @_;

    my $t = delete $o{on} // $x;
    my $purpose = delete $o{purpose} // 'batch';
    my $mark = 'mark7e1';
    my $r = $t->post('/v1/files', join('', "--$mark\r\n",
        qq{Content-Disposition: form-data; name="purpose"\r\n\r\n$purpose},
        "\r\n--$mark\r\n",
        qq{Content-Disposition: form-data; name="file"; filename="a.jsonl"},
        "\r\nContent-Type: application/octet-stream\r\n\r\n", $text,
        "\r\n--$mark--\r\n"), key => 'user', timeout => 60,
        headers => { 'Content-Type' => "multipart/form-data; boundary=$mark" },
        %o);

    my $file = eval { $r->json->{id} };
    BAIL_OUT('no upload: ' . $r->status . ' ' . $r->body) if !$file;

    return $file;
}


sub create {
    my ($file, %o) = @_;

    my $t = delete $o{on} // $x;
    my $key = delete $o{key} // 'user';

    return $t->post('/v1/batches', { input_file_id => $file,
        endpoint => '/v1/chat/completions', completion_window => '24h', %o },
        key => $key);
}


sub look {
    my ($id, %o) = @_;
    return ($o{on} // $x)->get("/v1/batches/$id", key => $o{key} // 'user');
}


sub await_status {
    my ($id, $status, $s) = @_;

    my $batch;

    $x->until(sub {
        my $r = look($id);
        return 0 if $r->status != 200;
        $batch = $r->json;
        return $batch->{status} =~ /^(?:$status)$/;
    }, $s // 40);

    return $batch;
}


sub ended { await_status($_[0], 'completed|failed|expired|cancelled', $_[1]) }


# a file's lines, by custom_id; those that stand twice are lists

sub content {
    my ($file, $t) = @_;

    return {} if !defined $file;

    my $r = ($t // $x)->get("/v1/files/$file/content", key => 'user',
        timeout => 60);
    my %found;

    for my $line (split /\n/, $r->body) {
        my $row = $json->decode($line);
        push @{$found{$row->{custom_id}}}, $row;
    }

    return \%found;
}


# each of n lines once, in one of the two files

sub each_once {
    my ($batch, $n, $what) = @_;

    my ($out, $err) = map { content($batch->{$_}) }
        qw(output_file_id error_file_id);
    my (@missing, @twice);

    for my $id (map { "line-$_" } 1 .. $n) {
        my $times = @{$out->{$id} // []} + @{$err->{$id} // []};
        push @missing, $id if !$times;
        push @twice, $id if $times > 1;
    }

    is "@missing", '', "$what: no line is missing";
    is "@twice", '', "$what: none stands twice";
    is keys(%$out) + keys(%$err), $n, "$what: nor any other";

    my $counts = $batch->{request_counts};

    is $counts->{total}, $n, "$what: total";
    is $counts->{completed}, keys %$out, "$what: completed";
    is $counts->{failed}, keys %$err, "$what: failed";

    return ($out, $err);
}


sub error_is {
    my ($r, $status, $param, $message, $what) = @_;

    my $e = eval { $r->json->{error} } // {};

    is $r->status, $status, "$what: status";
    is $e->{type}, 'invalid_request_error', "$what: type";
    is $e->{param}, $param, "$what: param";
    like $e->{message}, $message, "$what: message";
}


sub field {
    my ($id, $name) = @_;
    return $redis->command(HGET => "${P}batch:$id", $name);
}


sub set {
    my ($id, %fields) = @_;
    $redis->command(HSET => "${P}batch:$id", %fields);
}


# whoever drove it is dead: not after the lease, now

sub now_due {
    my ($id) = @_;
    $redis->command(ZADD => "${P}todo", 0, "b:$id");
}


sub left_over {
    my ($found, $cursor) = ('', 0);

    # what a driver does behind the end that clients see
    $x->until(sub {
        $found = join ' ', @{$redis->command(KEYS => "${P}job:*")},
            grep { /^b:/ } @{$redis->command(ZRANGE => "${P}todo", 0, -1)};
        return $found eq '';
    }, 20);

    return $found;
}


sub wrong {
    my $file = upload(lines(1));
    my $other = upload(lines(1), purpose => 'batch', key => 'other');

    for my $case (
        [ '{', undef, qr/JSON object/, 'broken JSON' ],
        [ '[]', undef, qr/JSON object/, 'a list' ],
        [ '', undef, qr/JSON object/, 'nothing' ],
    ) {
        my ($body, $param, $message, $what) = @$case;

        error_is($x->post('/v1/batches', $body, key => 'user',
            headers => { 'Content-Type' => 'application/json' }), 400,
            $param, $message, $what);
    }

    for my $case (
        [ { input_file_id => undef }, 'input_file_id', qr/Missing/ ],
        [ { input_file_id => 7 }, 'input_file_id', qr/string/ ],
        [ { input_file_id => 'file-x' }, 'input_file_id', qr/'file-x'/ ],
        [ { input_file_id => 'file-' . 'x' x 24 }, 'input_file_id',
            qr/no file/ ],
        [ { input_file_id => $other }, 'input_file_id', qr/no file/ ],
        [ { input_file_id => 'x' x 2000 }, 'input_file_id', qr/no file/ ],
        [ { endpoint => undef }, 'endpoint', qr/Missing/ ],
        [ { endpoint => '/v1/images' }, 'endpoint', qr/one of/ ],
        [ { completion_window => undef }, 'completion_window', qr/Missing/ ],
        [ { completion_window => '1h' }, 'completion_window', qr/24h/ ],
        [ { metadata => [] }, 'metadata', qr/object/ ],
        [ { metadata => { a => 1 } }, 'metadata', qr/strings/ ],
        [ { metadata => { map { $_ => 'x' } 1 .. 17 } }, 'metadata', qr/16/ ],
        [ { metadata => { a => 'x' x 513 } }, 'metadata', qr/512/ ],
        [ { metadata => { 'x' x 65 => 'x' } }, 'metadata', qr/64/ ],
        [ { output_expires_after => 5 }, 'output_expires_after', qr/3600/ ],
        [ { output_expires_after => { anchor => 'created_at',
            seconds => 60 } }, 'output_expires_after', qr/3600/ ],
        [ { output_expires_after => { anchor => 'now', seconds => 3600 } },
            'output_expires_after', qr/created_at/ ],
    ) {
        my ($more, $param, $message) = @$case;

        error_is(create($file, %$more), 400, $param, $message,
            substr $json->encode($more), 0, 60);
    }

    is create($file, key => 'nobody')->status, 401, 'an unknown key';
    is $x->post('/v1/batches', 'x' x 70000, key => 'user')->status, 413,
        'a body beyond 64 KB';

    for my $id ('batch_x', 'batch_' . 'x' x 24, 'x' x 300, '..', '%00') {
        error_is(look($id), 404, undef, qr/No batch found/,
            'an unknown id ' . substr $id, 0, 20) if $id !~ /[.%]/;
        error_is($x->post("/v1/batches/$id/cancel", '', key => 'user'), 404,
            undef, qr/No batch found/, '… cancelled') if $id !~ /[.%]/;
    }

    for my $query ('limit=0', 'limit=101', 'limit=x', 'limit=-1') {
        error_is($x->get("/v1/batches?$query", key => 'user'), 400, 'limit',
            qr/1 to 100/, $query);
    }

    error_is($x->get('/v1/batches?after=batch_x', key => 'user'), 404, undef,
        qr/'batch_x'/, 'after nothing');
    is $x->get('/v1/batches', key => 'user')->body,
        '{"object":"list","data":[],"first_id":null,"last_id":null,'
        . '"has_more":false}', 'an empty list';
}


# files that are not right; each error with its line

sub checks {
    my $long = line('long', body => { user => 'x' x (4 << 20) });

    for my $case (
        [ 'broken JSON', line(1) . line(2) . "{\"custom_id\": \n" . line(4),
            [ 'invalid_json_line', 3, undef ] ],
        [ 'not JSON at all', "\xff\xfe\n",
            [ 'invalid_json_line', 1, undef ] ],
        [ 'blank lines count', "\n \t\n" . line(1) . "x\r\n",
            [ 'invalid_json_line', 4, undef ] ],
        [ 'duplicate custom_id', line(1) . line(2) . line(1),
            [ 'duplicate_custom_id', 3, 'custom_id' ] ],
        [ 'mixed models', line(1) . line(2, body => { model => 'other' }),
            [ 'mismatched_model', 2, 'body.model' ] ],
        [ 'no model', line(1) . line(2, body => { model => undef }),
            [ 'missing_required_parameter', 2, 'body.model' ] ],
        [ 'a wrong url', line(1, url => '/v1/embeddings'),
            [ 'invalid_url', 1, 'url' ] ],
        [ 'a wrong method', line(1, method => 'GET'),
            [ 'invalid_method', 1, 'method' ] ],
        [ 'streams', line(1) . line(2, body => { stream => JSON::PP::true }),
            [ 'unsupported_parameter', 2, 'body.stream' ] ],
        [ 'two of them', "{}\n" . line(2) . "[]\n",
            [ 'missing_required_parameter', 1, 'custom_id' ],
            [ 'invalid_json_line', 3, undef ] ],
        [ 'an empty file', "\n\n", [ 'empty_file', undef, undef ] ],
        [ 'a line of 4 MB', line(1) . $long . line(3),
            [ 'line_too_long', 2, undef ] ],
        [ '50,001 lines', join('', map { qq({"custom_id":"$_","method":"POST",)
            . qq("url":"/v1/chat/completions","body":{"model":"m"}}\n) }
            1 .. 50001), [ 'too_many_tasks', 50001, undef ] ],
    ) {
        my ($what, $text, @errors) = @$case;

        my $r = create(upload($text));
        my $id = eval { $r->json->{id} };

        is $r->status, 200, "$what: it is accepted";

        my $batch = ended($id);

        is $batch->{status}, 'failed', "$what: failed";
        ok $batch->{failed_at}, "$what: when";
        is $json->encode([map { [@{$_}{qw(code line param)}] }
            @{$batch->{errors}{data} // []}]), $json->encode(\@errors),
            "$what: its errors";
        is $batch->{errors}{object}, 'list', "$what: a list";
        ok !(grep { !length $_->{message} } @{$batch->{errors}{data}}),
            "$what: with messages";
        is $batch->{output_file_id}, undef, "$what: no output";
        is $batch->{request_counts}{completed}, 0, "$what: nothing was run";
    }

    my $batch = ended(create(upload("x\n" x 500))->json->{id});

    is @{$batch->{errors}{data}}, 100, 'no more than a hundred errors';
    is $mock->stats->{requests}, 0, 'nothing was asked';
    is left_over(), '', 'and nothing is left to do';
}


# 300 lines, some of which fail, each in its way

sub whole {
    $mock->script(
        { match => { body => 'no-good' }, status => 400,
          error_code => 'context_length_exceeded' },
        { match => { body => 'broken' }, times => 1, status => 500 },
    );

    my $text = join '', map { line($_, $_ % 30 == 7 ? (body => {
        messages => [{ role => 'user', content => "no-good $_" }] }) : (),
        $_ == 100 ? (body => { messages => [{ role => 'user',
            content => 'broken' }] }) : ()) } 1 .. 300;
    my $file = upload($text);
    my $r = create($file, metadata => { job => "N\x{e9} 1", empty => '' },
        output_expires_after => { anchor => 'created_at', seconds => 7200 });

    is $r->status, 200, 'created';

    my $batch = $r->json;

    like $batch->{id}, qr/^batch_[0-9A-Za-z]{24}$/, 'an id';
    is $batch->{object}, 'batch', 'an object';
    is $batch->{status}, 'validating', 'to be validated';
    is $batch->{endpoint}, '/v1/chat/completions', 'its endpoint';
    is $batch->{input_file_id}, $file, 'its input';
    is $batch->{completion_window}, '24h', 'its window';
    is $json->encode($batch->{metadata}),
        $json->encode({ job => "N\x{e9} 1", empty => '' }), 'its metadata';
    is $batch->{expires_at} - $batch->{created_at}, 86400, 'a day';
    is $json->encode($batch->{request_counts}),
        '{"completed":0,"failed":0,"total":0}', 'nothing yet';
    ok exists $batch->{$_}, "$_ is there" for @times, qw(errors
        output_file_id error_file_id);

    my $start = time;

    $batch = ended($batch->{id});
    diag sprintf '300 lines in %.1f s', time - $start;

    is $batch->{status}, 'completed', 'completed';
    is $batch->{model}, 'gpt-4o', 'its model';
    is $batch->{errors}, undef, 'no errors';
    is join(' ', grep { $batch->{$_} } @times), 'created_at in_progress_at '
        . 'expires_at finalizing_at completed_at', 'when what was';

    my ($out, $err) = each_once($batch, 300, 'whole');

    is keys %$err, 10, 'ten failed';

    my $good = $out->{'line-1'}[0];

    like $good->{id}, qr/^batch_req_\w+-1$/, 'an id';
    is $good->{response}{status_code}, 200, 'status';
    ok length $good->{response}{request_id}, 'a request id';
    is $good->{response}{body}{choices}[0]{message}{content},
        'Hello from the mock provider, which always says the same.', 'body';
    is $good->{error}, undef, 'no error';

    my $bad = $err->{'line-37'}[0];

    is $bad->{response}{status_code}, 400, 'one that failed: status';
    is $bad->{response}{body}{error}{code}, 'context_length_exceeded', 'body';
    is $bad->{error}, undef, 'no error beside it';
    is $out->{'line-100'}[0]{response}{status_code}, 200, 'one was retried';

    is $json->encode($batch->{usage}), $json->encode({ input_tokens => 2900,
        input_tokens_details => { cached_tokens => 0 },
        output_tokens => 5800,
        output_tokens_details => { reasoning_tokens => 0 },
        total_tokens => 8700 }), 'usage';

    my $info = $x->get("/v1/files/$batch->{output_file_id}", key => 'user')
        ->json;

    is $info->{purpose}, 'batch_output', 'the file is output';
    is $info->{filename}, "$batch->{id}_output.jsonl", 'its name';
    cmp_ok abs($info->{expires_at} - $info->{created_at} - 7200), '<', 3,
        'it lives as long as was asked for';
    is $x->get("/v1/files/$batch->{error_file_id}", key => 'user')
        ->json->{filename}, "$batch->{id}_error.jsonl", 'the errors\' name';

    my @asked = grep { ($_->{headers}{'x-llm-background'} // 0) }
        $mock->journal;
    is @asked, 0, 'the provider is not told of the background';

    error_is($x->post("/v1/batches/$batch->{id}/cancel", '', key => 'user'),
        400, undef, qr/Cannot cancel a batch with status 'completed'/,
        'cancelled too late');
    is look($batch->{id}, on => $y)->body, look($batch->{id})->body,
        'both gateways tell the same';
    is look($batch->{id}, key => 'mate')->status, 200,
        'the team shares batches';

    my $ttl = $redis->command(PTTL => "${P}batch:$batch->{id}");
    cmp_ok abs($ttl / 86400000 - 30), '<', 0.1, 'it is known for 30 days';
    is $redis->command(ZCARD => "${P}batching:red"), 0, 'none is open';
    is left_over(), '', 'its jobs are gone';
}


# a file that has no lines is none

sub empty_side {
    $mock->script({ match => { body => 'no-good' }, status => 400 });

    my $batch = ended(create(upload(lines(3)))->json->{id});

    is $batch->{error_file_id}, undef, 'no failures: no error file';
    ok $batch->{output_file_id}, 'but output';

    $batch = ended(create(upload(line(1, body => { user => 'no-good' })))
        ->json->{id});

    is $batch->{status}, 'completed', 'nothing but failures: completed';
    is $batch->{output_file_id}, undef, 'no output file';
    ok $batch->{error_file_id}, 'but errors';
    ok !exists $batch->{usage}, 'no usage';
}


sub lists {
    my $file = upload("\n");
    my @ids = map { create($file, key => 'other')->status } 1;

    is $ids[0], 400, 'the file is another team\'s';

    $file = upload("\n", key => 'other');
    @ids = reverse map { create($file, key => 'other')->json->{id} } 1 .. 7;

    my $page = sub {
        $x->get("/v1/batches?$_[0]", key => 'other')->json };
    my $list = $page->('');

    is join(' ', map { $_->{id} } @{$list->{data}}), "@ids", 'newest first';
    is $list->{first_id}, $ids[0], 'first';
    is $list->{last_id}, $ids[-1], 'last';
    ok !$list->{has_more}, 'no more';

    $list = $page->('limit=3');
    is join(' ', map { $_->{id} } @{$list->{data}}), "@ids[0 .. 2]",
        'three of them';
    ok $list->{has_more}, 'and more';

    $list = $page->("limit=4&after=$ids[2]");
    is join(' ', map { $_->{id} } @{$list->{data}}), "@ids[3 .. 6]",
        'the rest';
    ok !$list->{has_more}, 'that was all';

    ended($ids[0]);
    $x->until(sub { $page->('')->{data}[-1]{status} eq 'failed' }, 20);

    # what has lapsed is not told, and leaves the list
    $redis->command(DEL => "${P}batch:$_") for @ids[0, 1, 3];
    $list = $page->('limit=2');
    is join(' ', map { $_->{id} } @{$list->{data}}), "@ids[2, 4]",
        'those that are gone are passed over';
    is $redis->command(ZCARD => "${P}batches:blue"), 4, 'and forgotten';

    my $r = $x->get("/v1/batches?after=$ids[0]", key => 'other');
    is $r->status, 404, 'after one that is gone';
}


# in the middle: what was done is kept

sub cancels {
    $mock->script({ match => { body => 'slow' }, delay_ms => 150 });

    my $text = join '', map { line($_, $_ > 40 ? (body => { user => 'slow' })
        : ()) } 1 .. 400;
    my $id = create(upload($text))->json->{id};

    $x->until(sub { look($id)->json->{request_counts}{completed} >= 50 }, 30);

    my $r = $y->post("/v1/batches/$id/cancel", '', key => 'user');

    is $r->status, 200, 'cancelled at the other gateway';
    is $r->json->{status}, 'cancelling', 'cancelling';
    ok $r->json->{cancelling_at}, 'since when';
    is $x->post("/v1/batches/$id/cancel", '', key => 'user')->status, 200,
        'once more: no difference';

    my $batch = ended($id);

    is $batch->{status}, 'cancelled', 'cancelled';
    ok $batch->{cancelled_at}, 'when';

    my ($out, $err) = each_once($batch, 400, 'cancelled');

    cmp_ok keys %$out, '>=', 50, 'what was done is kept';
    cmp_ok keys %$err, '>=', 20, 'some were not run';
    is $err->{'line-400'}[0]{error}{code}, 'batch_cancelled', 'their code';
    is $err->{'line-400'}[0]{response}, undef, 'no response';
    ok length $err->{'line-400'}[0]{error}{message}, 'a message';
    cmp_ok $mock->stats->{requests}, '<=', 400, 'none was run twice';
    is left_over(), '', 'its jobs are gone';
}


# before it was looked at

sub early {
    my $id = create(upload(lines(3)))->json->{id};

    $redis->command(HSET => "${P}batch:$id", status => 'cancelling');

    my $batch = ended($id);

    is $batch->{status}, 'cancelled', 'one that was just made';
    ok !grep({ $_ } @{$batch}{qw(output_file_id error_file_id)})
        || $batch->{request_counts}{total} == 3, 'without files';
}


sub expires {
    $mock->script({ match => { body => 'slow' }, delay_ms => 1500 });

    my $text = join '', map { line($_, $_ > 20 ? (body => { user => 'slow' })
        : ()) } 1 .. 500;
    my $id = create(upload($text))->json->{id};

    $x->until(sub { look($id)->json->{request_counts}{completed} >= 30 }, 30);
    set($id, expires_at => int(time * 1000) - 1000);

    my $batch = ended($id);

    is $batch->{status}, 'expired', 'expired';
    ok $batch->{expired_at}, 'when';

    my ($out, $err) = each_once($batch, 500, 'expired');

    cmp_ok keys %$out, '>=', 30, 'what was done is kept';
    is $err->{'line-500'}[0]{error}{code}, 'batch_expired', 'the others\' code';
    is $err->{'line-500'}[0]{error}{message}, 'This request could not be '
        . 'executed before the completion window expired.', 'and message';

    # by the jobs' own deadline
    $mock->script({ delay_ms => 50 });
    $id = create(upload(lines(100)))->json->{id};
    $x->until(sub { (field($id, 'fed') // 0) == 100 }, 30);
    $redis->command(HSET => $_, l => 1)
        for @{$redis->command(KEYS => "${P}job:*-9?")};

    $batch = ended($id);

    is $batch->{status}, 'completed', 'completed, but not in time';
    ($out, $err) = each_once($batch, 100, 'late');
    cmp_ok scalar(grep { $_->[0]{error}
        && $_->[0]{error}{code} eq 'batch_expired' } values %$err), '>=', 5,
        'some lines were late';
}


sub endpoints {
    $mock->script();

    my %input = ('/v1/completions' => { prompt => 'say' },
        '/v1/embeddings' => { input => 'say' },
        '/v1/responses' => { input => 'say', store => JSON::PP::false });

    for my $url (sort keys %input) {
        my $text = join '', map { $json->encode({ custom_id => "line-$_",
            method => 'POST', url => $url, body => { model => 'gpt-4o',
                %{$input{$url}}, user => "$_" } }) . "\n" } 1 .. 5;
        my $batch = ended(create(upload($text), endpoint => $url)
            ->json->{id});

        is $batch->{status}, 'completed', "$url: completed";
        each_once($batch, 5, $url);
        cmp_ok $batch->{usage}{input_tokens}, '>', 0, "$url: usage";
    }

    # a last line without an end, CR LF, ids and models spelled with escapes
    my $text = join "\r\n", '{"custom_id":"line-\u0031","method":"POST",'
        . '"url":"/v1/chat/completions","body":{"model":"gpt\u002d4o",'
        . '"messages":[{"role":"user","content":"1"}]}}', line(2);
    chop $text;
    chop $text if $text =~ /\n\z/;

    my $batch = ended(create(upload($text))->json->{id});
    each_once($batch, 2, 'spelled otherwise');
}


# the input is deleted while it runs

sub gone_input {
    $mock->script({ delay_ms => 100 });

    my $file = upload(lines(100));
    my $id = create($file)->json->{id};

    await_status($id, 'in_progress');
    is $x->start_get('/x') && Test::LLM::HTTP->start(%{$x->spec(
        DELETE => "/v1/files/$file", key => 'user')})->wait, 1, 'deleted';

    my $batch = ended($id);

    is $batch->{status}, 'failed', 'without its input it fails';
    is $batch->{errors}{data}[0]{code}, 'invalid_input_file', 'and says so';
    is left_over(), '', 'its jobs are gone';
}


sub two_gateways {
    $mock->script({ delay_ms => 20 });

    my @ids = map { create(upload(lines(200), on => $_), on => $_)
        ->json->{id} } $x, $y, $x, $y;

    each_once(ended($_), 200, 'one of four batches') for @ids;
    is $mock->stats->{requests}, 800, 'each line was asked once';
}


# no room in the queue: it waits for some

sub queue_full {
    $mock->script();
    $redis->command(HINCRBY => "${P}stat", 'n:red', 60000);

    my $id = create(upload(lines(20)))->json->{id};

    await_status($id, 'in_progress');
    sleep 1;
    is look($id)->json->{request_counts}{completed}, 0, 'no room';
    $redis->command(HINCRBY => "${P}stat", 'n:red', -60000);
    each_once(ended($id), 20, 'then there was some');
}


# in the middle of a check; its outcome does not depend on it

sub dies_early {
    my $id = create(upload(lines(49999) . "{\n"))->json->{id};

    sleep 0.01;
    my $is = field($id, 'status');
    kill_both();
    now_due($id);

    my $batch = ended($id, 60);

    is $batch->{status}, 'failed', "killed when $is: failed";
    is_deeply [map { $_->{line} } @{$batch->{errors}{data}}], [50000],
        'the last line is the wrong one';
    is $is, 'validating', 'it died in the middle of the check';
}


# Workers of both gateways die at a status, or some time later.

sub dies {
    $mock->script({ delay_ms => 5 });

    my $n = 1500;
    my $text = lines($n);
    my $killed = 0;

    for my $case (
        [ 'in_progress', 0 ], [ 'in_progress', 0.05 ],
        [ 'in_progress', 0.5 ], [ 'finalizing', 0 ], [ 'finalizing', 0.01 ],
        [ 'finalizing', 0.03 ], [ 'cancelling', 0 ], [ 'cancelling', 0.02 ],
    ) {
        my ($status, $delay) = @$case;
        my $what = "killed when $status + $delay s";

        $mock->reset;

        my $id = create(upload($text))->json->{id};

        if ($status eq 'cancelling') {
            $x->until(sub { (field($id, 'completed') // 0) >= 100 }, 60);
            is $y->post("/v1/batches/$id/cancel", '', key => 'user')->status,
                200, "$what: cancelled";
        }

        my $until = time + 60;
        until (field($id, 'status') eq $status || time > $until) { }
        sleep $delay if $delay;

        my $is = field($id, 'status');

        kill_both();
        now_due($id);

        my $batch = ended($id, 90);

        is $batch->{status}, $status eq 'cancelling' ? 'cancelled'
            : 'completed', "$what (was $is): ended";
        each_once($batch, $n, $what);
        $killed++ if $is eq $status;
    }

    cmp_ok $killed, '>=', 5, 'most died in the phase they were to die in';
    is left_over(), '', 'and nothing is left';

    my @files = @{$x->get('/v1/files?purpose=batch_output', key => 'user')
        ->json->{data}};
    my %of;
    $of{$_->{filename}}++ for @files;
    is join(' ', grep { $of{$_} > 1 } sort keys %of), '',
        'no batch has left two files';
}


sub kill_both {
    my @pids = map { $_->workers } $x, $y;

    for my $t ($x, $y) {
        $t->allow(qr/\[alert\] .*process \d+ exited on signal/);
        $t->allow(qr/\[alert\] .*locked by \d+/);
    }

    kill 'KILL', @pids;

    for my $t ($x, $y) {
        $t->until(sub {
            my @now = $t->workers;
            my %old = map { $_ => 1 } @pids;
            return @now >= 2 && !grep { $old{$_} } @now;
        }, 30) or BAIL_OUT('the workers are not replaced');
        $t->{expected} = [$t->workers];
        $t->until(sub { eval {
            $t->get('/v1/batches', key => 'user')->status == 200 } }, 20);
    }
}


sub foreign {
    $mock->script();

    my $id = create(upload(lines(1)))->json->{id};

    error_is(look($id, key => 'other'), 404, undef, qr/No batch found/,
        'another team\'s');
    error_is($x->post("/v1/batches/$id/cancel", '', key => 'other'), 404,
        undef, qr/No batch found/, 'another team\'s, cancelled');
    is ended($id)->{status}, 'completed', 'nobody else cancels it';

    $redis->stop('KILL');
    my $r = look($id);
    is $r->status, 503, 'without Redis';
    is $r->json->{error}{code}, 'tasks_unavailable', 'and why';
    is create('file-' . 'x' x 24)->status, 503, 'nothing is accepted';
    $redis->start;

    # each worker finds out for itself, so the next answer may be a 503 again
    $x->until(sub { ($r = look($id))->status == 200 }, 30);
    is $r->json->{status}, 'completed', 'it is known when Redis is back';
}
