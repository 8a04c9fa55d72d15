#!/usr/bin/perl

# Batches that are handed to the provider's own Batch API (llm_route
# batch=provider): files there and back, the model's other name, what they
# cost, lost answers, ends of all kinds, a provider that is away, and workers
# that die meanwhile.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Time::HiRes qw(time sleep);

use Test::LLM;
use Test::LLM::Proxy;


my $P = '{llm}:t:';
my $json = JSON::PP->new->canonical->utf8;

my $t = Test::LLM->new(workers => 2);

$t->team('red', budget => { usd => 100, period => 'day' });
$t->key('user', team => 'red');
$t->key('poor', budget => { usd => 0.05, period => 'day' });
$t->key('narrow', models => ['other*']);
$t->write('prices.json', {
    'gpt-4o-mini' => { input => 10, cached_input => 10, output => 20 },
    'plain' => { input => 2, output => 6, batch_input => 1,
        batch_output => 2 } });

my $redis = $t->redis(appendonly => 'yes');
my $proxy = Test::LLM::Proxy->new($t, $redis);

$t->token(REDIS => $proxy->url);

my $socket = $t->path('internal.sock');
my $mock = $t->gateway(mock => ['--journal', 4096],
    http => "llm_prices %%DIR%%/prices.json;
        llm_internal unix:$socket; llm_tasks on lease=1s poll=60ms;",
    routes => 'llm_route there mock:gpt-4o-mini batch=provider;
        llm_route plain mock batch=provider;
        llm_route * mock batch=here;',
    server => "listen unix:$socket;",
    location => 'llm_retry tries=1;',
);

$t->until(sub { $t->get('/v1/batches', key => 'user')->status == 200 }, 10);

hidden();
whole();
here();
large();
endpoints();
lost();
refused();
ends();
cancels();
too_large();
away();
slow();
spent();
dies();
config();

is left_over(), '', 'nothing is left to be done';
$t->all_back('at the end');

done_testing;


sub line {
    my ($n, $model, %more) = @_;

    return $json->encode({ custom_id => "line-$n", method => 'POST',
        url => '/v1/chat/completions', body => { model => $model,
            messages => [{ role => 'user', content => "question $n" }] },
        %more }) . "\n";
}


sub lines {
    my ($n, $model) = @_;
    return join '', map { line($_, $model // 'there') } 1 .. $n;
}


sub upload {
    my ($text, $key) = @_;

    my $mark = 'mark7e1';
    my $r = $t->post('/v1/files', join('', "--$mark\r\n",
        qq{Content-Disposition: form-data; name="purpose"\r\n\r\nbatch},
        "\r\n--$mark\r\n",
        qq{Content-Disposition: form-data; name="file"; filename="a.jsonl"},
        "\r\nContent-Type: application/octet-stream\r\n\r\n", $text,
        "\r\n--$mark--\r\n"), key => $key // 'user', timeout => 60,
        headers => {
            'Content-Type' => "multipart/form-data; boundary=$mark" });

    return $r->json->{id};
}


sub create {
    my ($text, %o) = @_;

    my $key = delete $o{key} // 'user';
    my $r = $t->post('/v1/batches', { input_file_id => upload($text, $key),
        endpoint => '/v1/chat/completions', completion_window => '24h', %o },
        key => $key);

    return $r->json->{id} // BAIL_OUT('no batch: ' . $r->body);
}


sub look {
    my ($id, $key) = @_;
    return $t->get("/v1/batches/$id", key => $key // 'user')->json;
}


sub await_status {
    my ($id, $status, $key) = @_;

    my $batch;

    $t->until(sub {
        $batch = look($id, $key);
        return $batch->{status} =~ /^(?:$status)$/;
    }, 20);

    return $batch;
}


sub ended { await_status($_[0], 'completed|failed|expired|cancelled', $_[1]) }


sub content {
    my ($file) = @_;

    return '' if !defined $file;
    return $t->get("/v1/files/$file/content", key => 'user',
        timeout => 60)->body;
}


sub rows {
    return map { my $row = $json->decode($_); $row->{custom_id} => $row }
        split /\n/, content($_[0]);
}


sub field { $redis->command(HGET => "${P}batch:$_[0]", $_[1]) }


# what the provider was asked, as "METHOD path"

sub asked {
    my ($what) = @_;
    return grep { "$_->{method} $_->{path}" =~ $what } $mock->journal;
}


sub left_over {
    my $found = '';

    $t->until(sub {
        $found = join ' ',
            grep { /^b:/ } @{$redis->command(ZRANGE => "${P}todo", 0, -1)};
        return $found eq '';
    }, 20);

    return $found;
}


sub spend {
    my ($key) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;
    my $sum = 0;

    $sum += $1 while $page =~ /^llm_cost_usd_total\{[^}]*\} (\S+)$/mg;

    return sprintf '%.6f', $sum;
}


# the paths of the internal listener are not there for others

sub hidden {
    for my $path (qw(files batches usage batches/x/cancel)) {
        is $t->post("/v1/native/mock/$path", {}, key => 'user')->status, 404,
            "POST $path from outside";
    }

    is $t->get('/v1/native/mock/batches', key => 'user')->status, 404,
        'and GET';
    is $mock->stats->{requests}, 0, 'nobody was asked';
}


sub whole {
    $mock->script(
        { match => { path => '/chat/completions', body => 'question 7"' },
          status => 400,
          error_code => 'context_length_exceeded' },
        { match => { path => '/batches', method => 'POST' },
          batch_ms => 300 });

    my $before = spend();
    my $id = create(lines(40), metadata => { mine => 'yes' });
    my $batch = ended($id);

    is $batch->{status}, 'completed', 'a batch of 40 lines';
    is_deeply $batch->{request_counts}, { total => 40, completed => 39,
        failed => 1 }, 'its counts';
    is $batch->{model}, 'there', 'the model as it was asked for';
    is_deeply $batch->{metadata}, { mine => 'yes' }, 'its own metadata';
    is $batch->{usage}{input_tokens}, 390, 'input tokens';
    is $batch->{usage}{output_tokens}, 780, 'output tokens';

    my %out = rows($batch->{output_file_id});
    my %err = rows($batch->{error_file_id});

    is keys(%out), 39, 'lines of the output';
    is join(' ', keys %err), 'line-7', 'and of the errors';
    is $out{'line-3'}{response}{body}{model}, 'gpt-4o-mini',
        'the provider was asked for its own model';
    is $err{'line-7'}{response}{status_code}, 400, 'the status of an error';

    my ($up) = asked(qr/^POST .*\/files$/);
    my ($made) = asked(qr/^POST .*\/batches$/);

    is $up->{path}, '/v1/files', 'the file went below the prefix';
    is $up->{headers}{authorization}, 'Bearer sk-provider-secret',
        'with the key of the provider';
    unlike $up->{head}, qr/x-llm/i, 'without what is ours';
    is scalar(() = $up->{body} =~ /"model":"gpt-4o-mini"/g), 40,
        'all lines have the other model';
    is $made->{headers}{'idempotency-key'}, $id, 'the idempotency key';
    is $json->decode($made->{body})->{metadata}{ngx_llm_batch}, $id,
        'and the metadata there';
    is scalar(asked(qr/\/chat\/completions/)), 0, 'no line was asked for';
    is $mock->stats->{batch_lines}, 40, 'the provider ran them';

    # half of 10 and 20 dollars for a million

    is sprintf('%.6f', spend() - $before), '0.009750',
        'charged at the prices of batches';
    is field($id, 'native_paid'), 1, 'once';
    is scalar(grep { /native\/mock\/usage HTTP\/1.1" 200/ } split /\n/,
        $t->access_log), 1, 'as one line of the log';
}


sub here {
    $mock->script();

    my $batch = ended(create(lines(5, 'gpt-4o')));

    is $batch->{request_counts}{completed}, 5, 'batch=here: completed';
    is scalar(asked(qr/files|batches/)), 0, 'the provider has no batch of it';
    is scalar(asked(qr/chat/)), 5, 'but five requests';
}


# answers of more than a MB go through as they come

sub large {
    $mock->script({ match => { path => '/chat/completions' },
        content_bytes => 200000 });

    my $batch = ended(create(lines(40, 'plain')));

    is $batch->{request_counts}{completed}, 40, 'a large output: completed';

    my $text = content($batch->{output_file_id});

    ok length $text > 8_000_000, 'all of it came: ' . length $text;

    my %out = map { my $row = $json->decode($_); $row->{custom_id} => $row }
        split /\n/, $text;

    is keys(%out), 40, 'in whole lines';
    is scalar(grep { length $_->{response}{body}{choices}[0]{message}{content}
        == 200000 } values %out), 40, 'with whole answers';
    is $batch->{usage}{output_tokens}, 800, 'and all was counted';
}


sub endpoints {
    $mock->script();

    my $text = join '', map { line($_, 'plain', url => '/v1/responses') }
        1 .. 3;
    my $before = spend();
    my $batch = ended(create($text, endpoint => '/v1/responses'));

    is $batch->{status}, 'completed', 'another endpoint';
    is $batch->{usage}{output_tokens}, 60, 'its usage';
    is sprintf('%.6f', spend() - $before), '0.000150',
        'prices of batches that are given';
}


# the answer to a creation is lost: it is looked for, not created twice

sub lost {
    my $n = $mock->stats->{batches};

    $mock->script({ match => { path => '/batches', method => 'POST' },
        times => 1, cut => 'close' });

    my $id = create(lines(4));
    my $batch = ended($id);

    is $batch->{status}, 'completed', 'a lost answer: completed';
    is scalar(asked(qr/^POST .*\/batches$/)), 1, 'created once';
    ok scalar(asked(qr/^GET .*\/batches\b.*$/)) >= 2, 'and looked for';
    is $mock->stats->{batches}, 1, 'there is one';

    # one that never came there is created again

    $mock->script({ match => { path => '/batches', method => 'POST' },
        times => 1, status => 500 });

    is ended(create(lines(4)))->{status}, 'completed', 'a 500: completed';
    is scalar(asked(qr/^POST .*\/batches$/)), 2, 'created again';
    is scalar(asked(qr/^POST .*\/files$/)), 1, 'of the same file';

    $mock->script({ match => { path => '/files', method => 'POST' },
        times => 2, status => 503 });

    is ended(create(lines(4)))->{status}, 'completed',
        'a 503 at the upload: completed';
}


sub refused {
    for my $path ('/files', '/batches') {
        $mock->script({ match => { path => $path, method => 'POST' },
            status => 403, error_code => 'not_for_you',
            error_message => 'You may not have batches.' });

        my $batch = ended(create(lines(3)));

        is $batch->{status}, 'failed', "$path, 403: failed";
        is $batch->{errors}{data}[0]{code}, 'not_for_you', 'its code';
        is $batch->{errors}{data}[0]{message}, 'You may not have batches.',
            'its words';
    }

    # words that are too long are cut, between two characters

    $mock->script({ match => { path => '/files', method => 'POST' },
        status => 403, error_code => 'not_for_you',
        error_message => 'x' . "\x{4e0d}" x 100 });

    is ended(create(lines(3)))->{errors}{data}[0]{message},
        'x' . "\x{4e0d}" x 63, 'long words: cut';
}


sub ends {
    $mock->script({ match => { path => '/batches' },
        batch_status => 'failed' });

    my $batch = ended(create(lines(3)));

    is $batch->{status}, 'failed', 'failed there';
    is_deeply $batch->{errors}{data}, [{ code => 'token_limit_exceeded',
        line => 2, param => undef,
        message => 'Enqueued token limit reached.' }], 'with its errors';

    $mock->script({ match => { path => '/batches' },
        batch_status => 'expired' });

    my $before = spend();

    $batch = ended(create(lines(10, 'plain')));

    is $batch->{status}, 'expired', 'expired there';
    is $batch->{request_counts}{completed}, 5, 'what it did is kept';
    is scalar(rows($batch->{output_file_id})), 10, 'in the output';
    is sprintf('%.6f', spend() - $before), '0.000250', 'and charged';
}


sub cancels {
    $mock->script({ match => { path => '/batches' }, batch_ms => 60000 });

    my $id = create(lines(20));

    $t->until(sub { field($id, 'native_batch') }, 10);
    is $t->post("/v1/batches/$id/cancel", '', key => 'user')->json->{status},
        'cancelling', 'cancelling';

    my $batch = ended($id);

    is $batch->{status}, 'cancelled', 'cancelled';
    is scalar(asked(qr/^POST .*\/cancel$/)), 1, 'there, too';

    # while its file is on its way

    $mock->script({ match => { path => '/files' }, delay_ms => 300 });

    $id = create(lines(2));

    $t->until(sub { asked(qr/^POST .*\/files$/) }, 10);
    $t->post("/v1/batches/$id/cancel", '', key => 'user');

    is ended($id)->{status}, 'cancelled', 'before it was created';
    is scalar(asked(qr/^POST .*\/batches$/)), 0, 'and it never was';
}


sub too_large {
    $mock->script({ match => { path => '/files' }, status => 413 });

    my $batch = ended(create(lines(5)));

    is $batch->{request_counts}{completed}, 5,
        'too large for the provider: run here';
    is scalar(asked(qr/chat/)), 5, 'line by line';
    ok $t->wait_log(qr/is run here: \d+ bytes are more than/), 'and told';
}


sub away {
    $mock->script({ match => { path => '/batches' }, batch_ms => 500 });

    my $id = create(lines(5));

    $t->until(sub { field($id, 'native_batch') }, 10);
    $mock->refuse;

    my $n = $t->said(qr/waits for provider "mock"/);

    $t->until(sub { $t->said(qr/waits for provider "mock"/) > $n + 1 }, 20);
    is look($id)->{status}, 'in_progress', 'the provider is away';

    $mock->serve;

    is ended($id)->{status}, 'completed', 'it is back';
    is scalar(rows(look($id)->{output_file_id})), 10, 'with all lines';

    # … until its time is over

    $mock->script({ match => { path => '/batches' }, batch_ms => 60000 });

    $id = create(lines(5));

    $t->until(sub { field($id, 'native_batch') }, 10);
    $mock->refuse;
    $redis->command(HSET => "${P}batch:$id", expires_at =>
        int((time - 601) * 1000));

    my $batch = ended($id);

    is $batch->{status}, 'expired', 'away until its time was over';
    is $batch->{output_file_id}, undef, 'without an output';

    $mock->serve;
}


# what comes faster than Redis takes it is held back

sub slow {
    $mock->script({ match => { path => '/chat/completions' },
        content_bytes => 40000 });
    $proxy->fault('latency 30');

    my $batch = ended(create(lines(100)));

    $proxy->fault('pass');

    is $batch->{status}, 'completed', 'a slow Redis: completed';

    my %row = rows($batch->{output_file_id});

    is join(' ', map { length $_->{response}{body}{choices}[0]{message}
        {content} } values %row), join(' ', (40000) x 100), 'all of it';
}


sub spent {
    $mock->script();

    is $t->chat('hello', key => 'poor', model => 'plain')->status, 200,
        'a small budget';
    is ended(create(lines(1200, 'plain'), key => 'poor'), 'poor')->{status},
        'completed', 'a batch that is more than that';
    is $t->chat('hello', key => 'poor', model => 'plain')->status, 429,
        'the budget is spent by it';

    my $batch = ended(create(lines(3, 'plain'), key => 'poor'), 'poor');

    is $batch->{status}, 'failed', 'another batch';
    is $batch->{errors}{data}[0]{code}, 'insufficient_quota', 'why';

    $batch = ended(create(lines(3), key => 'narrow'), 'narrow');

    is $batch->{status}, 'failed', 'a model that is not for the key';
    is $batch->{errors}{data}[0]{code}, 'model_not_found', 'why';
}


sub dies {
    $mock->script({ match => { path => '/batches' }, batch_ms => 1500 },
        { match => { path => '/content' }, delay_ms => 300 });

    my $before = spend();
    my $id = create(lines(30, 'plain'));
    my $end = time + 4;
    my $killed = 0;

    $t->allow(qr/exited on signal 9/);

    while (time < $end) {
        sleep 0.7;
        $t->kill_worker('KILL', ($t->workers)[$killed++ % 2]);
    }

    my $batch = ended($id);

    is $batch->{status}, 'completed', "completed in spite of $killed deaths";
    is scalar(rows($batch->{output_file_id})), 60, 'each line once';
    is $mock->stats->{batches}, 1, 'one batch there';
    ok spend() - $before < 0.001501, 'not charged twice';
}


sub config {
    my ($ok, $text) = $t->test_config(<<'EOT');
%%GLOBALS%%
http {
    llm_zone llm 16m;
    llm_redis off;
    llm_provider az "uri=/llm/az/{model}/";
    llm_route x az batch=provider;
}
EOT

    ok !$ok, 'a provider with the model in its paths has no batches';
    like $text, qr/"batch=provider" for "x"/, 'and it is told';
}
