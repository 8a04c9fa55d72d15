#!/usr/bin/perl

# The straight way: each endpoint of the API once, JSON and streams, what the
# provider sees of the client and the client of the provider, and who is let
# in at all.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use IO::Socket::INET;
use JSON::PP;

use Test::LLM;


my $t = Test::LLM->new;

$t->team('team', metadata => { owner => 'somebody' });
$t->team('narrow', models => ['gpt-4o*', 'fast']);
$t->key('user', requests_per_minute => 6000);
$t->key('free');
$t->key('narrow', team => 'narrow');
$t->key('narrower', team => 'narrow', models => ['fast', 'gpt-4.1']);
$t->key('off', enabled => JSON::PP::false);
$t->key('late', expires => '2020-01-01T00:00:00Z');
$t->key('early', expires => '2199-01-01T00:00:00Z');

my $mock = $t->gateway(
    mock => ['--key', 'sk-provider-secret'],
    routes => 'llm_route fast mock:gpt-4o-mini;
    llm_route * mock;',
    http => q{log_format llm '$llm_request_id $llm_key $llm_team $llm_model '
        '$llm_provider $llm_attempts $llm_cache $llm_queue_ms $llm_error '
        '[$llm_authorization] $status';},
    server => 'listen 127.0.0.1:%%PORT_H2%% http2;
        access_log %%DIR%%/llm.log llm;');

my (@journal, $r);


# the journal is cleared by a script: what it held is judged at the end

sub script {
    push @journal, $mock->journal;
    $mock->script(@_);
}


# a stream without the usage chunk that the gateway alone asked for

sub unasked {
    my ($bytes) = @_;

    return $bytes
        =~ s/data: [^\n]*"choices":\[\],[^\n]*"usage":\{[^\n]*\n\n//r;
}


sub last_request {
    return ($mock->journal)[-1];
}


sub refused {
    my ($name, $r, $status, $code) = @_;

    is $r->status, $status, "$name: status";

    my $error = ($r->json // {})->{error};

    is_deeply [sort keys %{$error // {}}], [qw(code message param type)],
        "$name: shape";
    is $error->{code}, $code, "$name: code";
    like $r->header('x-request-id'), qr/^\S+$/, "$name: x-request-id";
}


# what is sent at once, the answers until the server closes

sub raw {
    my ($bytes) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $t->port) or die "connect: $!\n";

    syswrite $socket, $bytes;

    return read_until($socket, qr/(?!)/);
}


sub read_until {
    my ($socket, $pattern) = @_;

    my ($in, $select) = ('', IO::Select->new($socket));

    until ($in =~ $pattern) {
        $select->can_read(10) && sysread $socket, $in, 65536, length $in
            or last;
    }

    return $in;
}


sub post_bytes {
    my ($body, $version, @headers) = @_;

    return join "\r\n", "POST /v1/chat/completions HTTP/$version",
        'Host: localhost', 'Content-Type: application/json',
        'Content-Length: ' . length($body),
        'Authorization: Bearer ' . $t->secret('user'), @headers, '', $body;
}


# a chat completion

script({ keep => \1, headers => { 'set-cookie' => 'a=b',
    'x-ratelimit-limit-requests' => '9999',
    'x-ratelimit-remaining-tokens' => '77', 'openai-organization' => 'org',
    'x-llm-provider' => 'lie', 'openai-version' => '2020-10-01' } });

$r = $t->chat('Hello');
is $r->status, 200, 'chat completion';
is $r->body, $mock->sent(0), 'the body is the provider\'s';
is $r->header('content-type'), 'application/json', 'its type';
like $r->header('x-request-id'), qr/^req_[0-9a-f]{32}$/, 'x-request-id';
is $r->header('x-llm-provider'), 'mock', 'x-llm-provider';
is $r->header('x-llm-model'), 'gpt-4o', 'x-llm-model';
is $r->header('x-llm-attempts'), 1, 'x-llm-attempts';
is $r->header('x-llm-queue-ms'), 0, 'x-llm-queue-ms';
is $r->header('x-ratelimit-limit-requests'), 6000, 'the limit is ours';
is $r->header('x-ratelimit-remaining-requests'), 5999, 'what remains';
is $r->header('x-ratelimit-reset-requests'), '10ms', 'when it is full again';
is $r->header('x-ratelimit-remaining-tokens'), undef,
    'the provider\'s own limits are hidden';
is $r->header('set-cookie'), undef, 'its cookies too';
is $r->header('openai-organization'), undef, 'and its organization';
is $r->header('openai-version'), '2020-10-01', 'other headers pass';

$r = $t->chat('Hello', key => 'free');
is $r->status, 200, 'a key without a limit';
is $r->header('x-ratelimit-limit-requests'), undef,
    'has no x-ratelimit-limit-requests';

my $first = $t->chat('Hello')->header('x-request-id');
isnt $first, $t->chat('Hello')->header('x-request-id'), 'each id is another';


# x-request-id

script();

$r = $t->chat('Hello', headers => { 'x-request-id' => 'My-id_0.1' });
is $r->header('x-request-id'), 'My-id_0.1', 'a sane id is kept';
is last_request->{headers}{'x-request-id'}, 'My-id_0.1',
    'and the provider sees it';

for my $id ('a b', 'a"b', 'x' x 1000, '') {
    $r = $t->chat('Hello', headers => { 'x-request-id' => $id });
    like $r->header('x-request-id'), qr/^req_[0-9a-f]{32}$/,
        'another is replaced';
    is last_request->{headers}{'x-request-id'}, $r->header('x-request-id'),
        'for the provider, too';
}


# a stream

script({ keep => \1 });

$r = $t->chat('Hello', stream => 1);
is $r->status, 200, 'stream';
like $r->header('content-type'), qr{^text/event-stream}, 'its type';
is $r->header('x-llm-attempts'), 1, 'its headers';
ok $r->complete, 'ends properly';
is $r->body, unasked($mock->sent(0)), 'its bytes are the provider\'s';
is +($r->data)[-1], '[DONE]', 'to the last';


# the other endpoints

my %body = (
    '/v1/completions' => { model => 'gpt-4o', prompt => 'Hello' },
    '/v1/embeddings' => { model => 'text-embedding-3-small',
        input => ['a', 'b'] },
    '/v1/responses' => { model => 'gpt-4o', input => 'Hello' },
);

for my $path (sort keys %body) {
    script({ keep => \1 });

    $r = $t->post($path, $body{$path}, key => 'user');
    is $r->status, 200, $path;
    is $r->body, $mock->sent(0), "$path: the body is the provider's";
    is last_request->{path}, $path, "$path: the provider's path";

    next if $path eq '/v1/embeddings';

    script({ keep => \1 });

    $r = $t->post($path, { %{$body{$path}}, stream => \1 }, key => 'user');
    ok $r->complete, "$path: stream";
    is $r->body, unasked($mock->sent(0)),
        "$path: its bytes are the provider's";
    cmp_ok scalar(@{$r->events}), '>', 8, "$path: events";
}


# only the model's name is another for the provider

script();

my $odd = qq( { "max_tokens" :5,\n\t"model"\t: "fa\\u0073t", "temperature":)
    . qq(1.10,\r\n"messages":[{"content":"\\u00e9 model fast",)
    . qq("role":"user"}],"metadata":{"model":"fast"} }\n);

$r = $t->post('/v1/chat/completions', $odd, key => 'user');
is $r->status, 200, 'a route with a model of its own';
is $r->header('x-llm-model'), 'gpt-4o-mini', 'the answer tells which';
is last_request->{body}, $odd =~ s/fa\\u0073t/gpt-4o-mini/r,
    'the provider sees it, and every other byte as it was';

$r = $t->post('/v1/chat/completions', $odd =~ s/fa\\u0073t/other/r,
    key => 'user');
is last_request->{body}, $odd =~ s/fa\\u0073t/other/r,
    'without a new name nothing is touched';


# models

sub ids {
    my ($key) = @_;
    my $json = $t->get('/v1/models', key => $key)->json;
    return join ' ', sort map { $_->{id} } @{$json->{data}};
}

script();

$r = $t->get('/v1/models', key => 'user');
is $r->status, 200, 'models';
is $r->json->{object}, 'list', 'a list';
is ids('user'), 'fast gpt-4.1 gpt-4o gpt-4o-mini text-embedding-3-small',
    'all of them';
is ids('narrow'), 'fast gpt-4o gpt-4o-mini', 'those of the team';
is ids('narrower'), 'fast', 'those of the key that are the team\'s';

$r = $t->get('/v1/models/gpt-4o', key => 'narrow');
is $r->status, 200, 'one model';
is $r->json->{id}, 'gpt-4o', 'its name';
is $r->json->{object}, 'model', 'its kind';
refused('a model of others', $t->get('/v1/models/gpt-4.1', key => 'narrow'),
    404, 'model_not_found');
refused('a model of nobody', $t->get('/v1/models/x', key => 'user'), 404,
    'model_not_found');
refused('models without a key', $t->get('/v1/models'), 401,
    'invalid_api_key');


# who is let in

my %chat = (model => 'gpt-4o', messages => [{ role => 'user',
    content => 'Hello' }]);
my $url = '/v1/chat/completions';

script();

$r = $t->post($url, \%chat, headers => { 'api-key' => $t->secret('user') });
is $r->status, 200, 'api-key instead of Authorization';
$r = $t->post($url, \%chat,
    headers => { Authorization => 'bearer ' . $t->secret('user') });
is $r->status, 200, 'the scheme is of any case';
$r = $t->chat('Hello', key => 'early');
is $r->status, 200, 'a key that will expire';

is $mock->stats->{requests}, 3, 'these reach the provider';

refused('no key', $t->post($url, \%chat), 401, 'invalid_api_key');
refused('a wrong key', $t->chat('Hello', key => 'unknown'), 401,
    'invalid_api_key');

for my $value ('Bearer', 'Bearer ', 'Basic dXNlcjpwYXNz', 'x' x 4000,
    $t->secret('user'), 'Bearer ' . $t->secret('user') . 'x',
    'Bearer ' . substr($t->secret('user'), 0, -1))
{
    refused('malformed: ' . substr($value, 0, 12), $t->post($url, \%chat,
        headers => { Authorization => $value }), 401, 'invalid_api_key');
}

refused('a wrong Authorization beside a right api-key', $t->post($url, \%chat,
    headers => { Authorization => 'Bearer sk-llm-x',
    'api-key' => $t->secret('user') }), 401, 'invalid_api_key');
refused('a disabled key', $t->chat('Hello', key => 'off'), 403,
    'key_disabled');
refused('an expired key', $t->chat('Hello', key => 'late'), 403,
    'key_expired');
refused('a model of others', $t->chat('Hello', key => 'narrow',
    model => 'gpt-4.1'), 404, 'model_not_found');
refused('a model that the team may not use', $t->chat('Hello',
    key => 'narrower', model => 'gpt-4.1'), 404, 'model_not_found');
is $t->chat('Hello', key => 'narrow', model => 'fast')->status, 200,
    'the allowed name is the one that is asked for';

is $mock->stats->{requests}, 4, 'none of these reach it';


# what the provider sees of the client

script();

$t->chat('Hello', headers => { 'api-key' => $t->secret('user'),
    Cookie => 'session=cookie-secret', 'X-Own' => 'kept',
    'Proxy-Authorization' => 'Basic proxy-secret' });

my $head = last_request->{headers};
is $head->{authorization}, 'Bearer sk-provider-secret', 'its own key';
is $head->{'api-key'}, undef, 'not the client\'s api-key';
is $head->{cookie}, undef, 'not its cookies';
is $head->{'x-own'}, 'kept', 'but its other headers';


# the connection

script();

$r = $t->chat('1');

for my $i (2 .. 5) {
    my $stream = $i % 2 ? \1 : \0;

    $r = $r->again(path => $url, method => 'POST',
        body => { %chat, stream => $stream });
    $r->wait;
    ok $r->complete, "request $i of a connection";
}

$r = $r->again(path => '/v1/nothing', method => 'POST', body => '{}');
$r->wait;
is $r->status, 404, 'a wrong one';
$r = $r->again(path => $url, method => 'POST', body => \%chat);
$r->wait;
is $r->status, 200, 'and a right one after it';

my $json = encode_json(\%chat);
my $in = raw(post_bytes($json, '1.1') . post_bytes($json, '1.1')
    . post_bytes($json, '1.1', 'Connection: close'));
is scalar(() = $in =~ m{^HTTP/1\.1 200 }mg), 3, 'pipelined requests';
is scalar(() = $in =~ /always says the same/g), 3, 'with their answers';

script({ delay_ms => 100 });
$in = raw(post_bytes(encode_json({ %chat, stream => \1 }), '1.1')
    . post_bytes($json, '1.1', 'Connection: close'));
is scalar(() = $in =~ m{^HTTP/1\.1 200 }mg), 2,
    'a request that came behind a stream';
like $in, qr/\[DONE\].*HTTP.*always says the same/s, 'waits for its end';

script();

my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
    PeerPort => $t->port);
syswrite $socket, post_bytes('', '1.1', 'Expect: 100-continue',
    'Connection: close') =~ s/Content-Length: 0/'Content-Length: '
    . length $json/er;
like read_until($socket, qr/\r\n\r\n/), qr{^HTTP/1\.1 100 Continue\r\n\r\n$},
    '100 Continue';
is $mock->stats->{requests}, 0, 'before anything reaches the provider';
syswrite $socket, $json;
like read_until($socket, qr/(?!)/), qr{^HTTP/1\.1 200 .*always says}s,
    'then the answer';
is last_request->{headers}{expect}, undef, 'the provider is not asked so';

$in = raw(post_bytes($json, '1.0'));
like $in, qr{^HTTP/1\.1 200 .*\r\nContent-Length: \d+\r\n.*always says}s,
    'HTTP/1.0';
$in = raw(post_bytes(encode_json({ %chat, stream => \1 }), '1.0'));
like $in, qr{^HTTP/1\.1 200 .*data: \[DONE\]\n\n$}s, 'HTTP/1.0, stream';
unlike $in, qr/Transfer-Encoding/, 'which does not know chunks';

my $chunked = join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
    $json =~ /(.{1,9})/gs;
$in = raw(post_bytes('', '1.1', 'Connection: close')
    =~ s/Content-Length: 0/Transfer-Encoding: chunked/r
    . "${chunked}0\r\n\r\n");
like $in, qr{^HTTP/1\.1 200 .*always says}s, 'a chunked request';
is last_request->{body}, $json, 'arrives whole';


# HTTP/2

SKIP: {
    skip 'no curl with HTTP/2', 5 if qx(curl --version 2>&1) !~ /HTTP2/;

    $t->write('body.json', $json);
    $t->write('stream.json', encode_json({ %chat, stream => \1 }));
    my $curl = "curl -sS -m 20 -i --http2-prior-knowledge";
    my $target = 'http://127.0.0.1:' . $t->port('PORT_H2') . $url;
    my $models = $target =~ s/chat.*/models/r;
    my $key = '-H "Authorization: Bearer ' . $t->secret('user') . '"';
    my $dir = $t->dir;

    $in = qx($curl $target $key -d \@$dir/body.json 2>&1);
    like $in, qr{^HTTP/2 200 .*always says the same}s, 'HTTP/2';
    like $in, qr/^x-request-id: req_/m, 'its headers';

    $in = qx($curl $target $key -d \@$dir/stream.json 2>&1);
    like $in, qr{^HTTP/2 200 .*data: \[DONE\]\n\n$}s, 'HTTP/2, stream';

    script({ status => 400, error_message => 'no such thing' });
    $in = qx($curl $target $key -d \@$dir/body.json 2>&1);
    like $in, qr{^HTTP/2 400 .*"no such thing"}s, 'HTTP/2, an error';

    $in = qx($curl $models -H "api-key: x" 2>&1);
    like $in, qr{^HTTP/2 401 .*invalid_api_key}s, 'HTTP/2, a wrong key';
}


# many at once, each with its own answer

script(map { { match => { body => "number $_;" }, content => "answer $_",
    delay_ms => 50 + 10 * ($_ % 3) } } 1 .. 12);

my @all = map { $t->start_chat("number $_;",
    key => (qw(user free narrow early))[$_ % 4],
    stream => $_ % 2, headers => { 'x-request-id' => "id-$_" }) } 1 .. 12;
$_->wait for @all;

for my $i (1 .. 12) {
    my $r = $all[$i - 1];

    is $i % 2 ? $r->text : $r->json->{choices}[0]{message}{content},
        "answer $i", "answer $i of several at once";
    is $r->header('x-request-id'), "id-$i", "id $i";
}


# the access log

sub logged {
    my ($id) = @_;

    $t->until(sub { $t->read('llm.log') =~ /^\Q$id\E /m });

    return $t->read('llm.log') =~ /^\Q$id\E (.*)$/m ? $1 : undef;
}

$t->chat('Hello', headers => { 'x-request-id' => 'log-1' });
is logged('log-1'), 'user team gpt-4o mock 1 off 0 - [] 200', 'access log';

$t->chat('Hello', key => 'narrow', model => 'gpt-4.1',
    headers => { 'x-request-id' => 'log-2' });
is logged('log-2'), 'narrow narrow gpt-4.1 - 0 off 0 model_not_found [] 404',
    'of a refused request';

$t->chat('Hello', key => 'nobody', headers => { 'x-request-id' => 'log-3' });
is logged('log-3'), '- - - - 0 off 0 invalid_api_key [] 401',
    'of an unknown key';


# no secret is anywhere that it should not be

script();

cmp_ok scalar(@journal), '>', 40, 'the journal';

my @secrets = map { $t->secret($_) }
    qw(user free narrow narrower off late early);
my $found = '';

for my $secret (@secrets, 'cookie-secret', 'proxy-secret') {
    $found .= "$_->{head}\n"
        for grep { index($_->{head} . $_->{body}, $secret) >= 0 } @journal;
}

is $found, '', 'no secret of a client reaches the provider';
is +(grep { ($_->{headers}{authorization} // '')
    ne 'Bearer sk-provider-secret' } @journal), 0,
    'which sees its own each time';

my $logs = $t->log . $t->access_log . $t->read('llm.log');
is +(grep { index($logs, $_) >= 0 } @secrets, 'sk-provider-secret'), 0,
    'no log holds any';

done_testing;
