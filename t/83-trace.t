#!/usr/bin/perl

# Traces: whose part a request is, what goes on to the provider, and the spans
# that a collector gets; a collector that is down, slow or has enough; without
# llm_trace nothing but what the client sent.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::UNIX;
use JSON::PP;
use List::Util qw(max);
use Socket qw(SOCK_STREAM);
use Time::HiRes qw(time);

use Test::LLM;


my $trace = '4bf92f3577b34da6a3ce929d0e0e4736';
my $parent = '00f067aa0ba902b7';

my $t = Test::LLM->new(workers => 2);
my $socket = $t->path('internal.sock');

$t->key('user', team => 'search');
$t->team('search');
$t->key('single', concurrency => 1);
$t->key('rare', requests_per_minute => 1);

my $mock = $t->mock;
my $sink = $t->mock;

$t->token(TRACE => 'llm_trace uri=/internal/otel/ interval=100ms '
    . 'service=gate;');

$t->token(INTERNAL => "llm_internal unix:$socket;");
$t->write('prices.json', { '*' => { input => 1, output => 2 } });

$t->gateway(
    http => q{ %%INTERNAL%% %%TRACE%% llm_prices %%DIR%%/prices.json;
        log_format llm escape=json '{"id":"$llm_request_id",'
            '"trace":"$llm_trace_id","span":"$llm_span_id",'
            '"endpoint":"$llm_endpoint","stream":"$llm_stream",'
            '"ttft":"$llm_ttft_ms","upstream":"$llm_upstream_ms",'
            '"cache":"$llm_cache_ms","error":"$llm_error",'
            '"reasoning":"$llm_reasoning_tokens"}';
        access_log %%DIR%%/llm.log llm;},
    server => "listen unix:$socket;" . q{
        location /internal/otel/ {
            internal;
            access_log off;
            proxy_pass http://%%MOCK2%%/;
            proxy_set_header X-Collector-Key sink-secret;
        }},
    location => 'llm_cache on ttl=1h; llm_retry tries=3 base=1ms cap=2ms;',
    routes => 'llm_route renamed mock:gpt-4o; llm_route * mock;',
);


# the spans that the collector got

sub collected {
    my @spans;

    for my $r ($sink->journal) {
        next if $r->{status} != 200;

        my $rs = decode_json($r->{body})->{resourceSpans}[0];
        push @spans, @{$rs->{scopeSpans}[0]{spans}};
    }

    for my $span (@spans) {
        $span->{attr} = { map { $_->{key} => (values %{$_->{value}})[0] }
            @{$span->{attributes}} };
    }

    return @spans;
}

sub of_trace {
    my ($id) = @_;
    return grep { $_->{traceId} eq $id } collected();
}

sub server {
    return grep { $_->{kind} == 2 } @_;
}

sub client {
    return sort { $a->{startTimeUnixNano} <=> $b->{startTimeUnixNano}
            || ($a->{attr}{'http.request.resend_count'} // 0)
            <=> ($b->{attr}{'http.request.resend_count'} // 0) }
        grep { $_->{kind} == 3 } @_;
}

# all spans of the trace, once there are so many; its requests are over then

sub wait_spans {
    my ($id, $n) = @_;

    $t->until(sub { of_trace($id) >= $n }, 10);
    return of_trace($id);
}

sub log_of {
    my ($id) = @_;

    my ($line, $found) = ('');

    $t->until(sub {
        ($found) = grep { $_->{id} eq $id } map { decode_json($_) }
            split /\n/, $t->read('llm.log');
        return $found;
    });

    return $found // {};
}

my $n = 0;

sub fresh { return sprintf 'a%031x', ++$n }

sub traced {
    my ($text, %options) = @_;

    my $id = delete $options{id} // fresh();
    my $flags = delete $options{flags} // '01';

    my $r = $t->chat($text, key => 'user', %options,
        headers => { traceparent => "00-$id-$parent-$flags",
            %{$options{headers} // {}} });

    return ($r, $id);
}

sub sent_on {
    return map { $_->{headers}{traceparent} } $mock->journal;
}

sub reset_all {
    $mock->script(@_);
    $sink->script({ body => '{}' });
}


# one call

reset_all();

my $r = $t->chat('one', key => 'user', model => 'renamed', headers => {
    traceparent => "00-$trace-$parent-01",
    tracestate => 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE' });
is $r->status, 200, 'a traced request';

my @spans = wait_spans($trace, 3);
is scalar @spans, 3, 'spans: the request, the cache, the attempt';

my ($server) = server(@spans);
my ($client) = client(@spans);
my ($cache) = grep { $_->{name} eq 'cache' } @spans;

is $server->{name}, 'chat renamed', 'the request';
is $server->{parentSpanId}, $parent, 'is a child of the caller\'s span';
is $client->{name}, 'chat gpt-4o', 'the attempt';
is $client->{parentSpanId}, $server->{spanId}, 'is a child of the request';
is $cache->{parentSpanId}, $server->{spanId}, 'the cache, too';
is $cache->{kind}, 1, '… which is internal';
is_deeply [sent_on()], ["00-$trace-$client->{spanId}-01"],
    'the provider is told of the attempt';
is +($mock->journal)[0]{headers}{tracestate},
    'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE', 'and of the state';

my %attr = %{$server->{attr}};
is $attr{'gen_ai.operation.name'}, 'chat', 'operation';
is $attr{'gen_ai.request.model'}, 'renamed', 'model asked for';
is $attr{'gen_ai.response.model'}, 'gpt-4o', 'model that answered';
is $attr{'gen_ai.provider.name'}, 'mock', 'provider';
is $attr{'gen_ai.usage.input_tokens'}, '10', 'tokens in';
is $attr{'gen_ai.usage.output_tokens'}, '20', 'tokens out';
is $attr{'http.response.status_code'}, '200', 'status';
is $attr{'llm.key'}, 'user', 'key by name';
is $attr{'llm.team'}, 'search', 'team';
is $attr{'llm.cost_usd'}, 0.00005, 'cost';
ok !$attr{'gen_ai.request.stream'}, 'no stream';
is $attr{'error.type'}, undef, 'no error';
is $client->{attr}{'server.address'}, '127.0.0.1', 'address';
is $client->{attr}{'server.port'}, $mock->port, 'port';
is $client->{attr}{'gen_ai.request.model'}, 'gpt-4o', 'its model';
is $client->{attr}{'gen_ai.usage.output_tokens'}, '20', 'its usage';

my $now = time;
cmp_ok abs($server->{startTimeUnixNano} / 1e9 - $now), '<', 30, 'starts now';
cmp_ok $server->{endTimeUnixNano}, '>=', $client->{endTimeUnixNano},
    'ends after the attempt';
cmp_ok $client->{startTimeUnixNano}, '>=', $server->{startTimeUnixNano},
    'begins before it';

my $line = log_of($r->header('x-request-id'));
is $line->{trace}, $trace, '$llm_trace_id';
is $line->{span}, $server->{spanId}, '$llm_span_id';
is $line->{endpoint}, 'chat_completions', '$llm_endpoint';
is $line->{stream}, '0', '$llm_stream';
like $line->{ttft}, qr/^\d+$/, '$llm_ttft_ms';
like $line->{upstream}, qr/^\d+$/, '$llm_upstream_ms';
like $line->{cache}, qr/^\d+$/, '$llm_cache_ms';
is $line->{reasoning}, '0', '$llm_reasoning_tokens';

like $r->header('server-timing'),
    qr/^queue;dur=0, cache;dur=\d+, upstream;dur=\d+, total;dur=\d+$/,
    'Server-Timing';
is $r->header('x-llm-cost-usd'), '0.000050', 'x-llm-cost-usd';

my ($batch) = $sink->journal;
is $batch->{path}, '/v1/traces', 'path of a batch';
is $batch->{method}, 'POST', 'method';
is $batch->{headers}{'content-type'}, 'application/json', 'type';
is $batch->{headers}{'x-collector-key'}, 'sink-secret', 'header of nginx';
is_deeply [grep { /^x-llm|authorization|cookie/ } keys %{$batch->{headers}}],
    [], 'none of ours';
my $resource = decode_json($batch->{body})->{resourceSpans}[0]{resource};
is_deeply { map { $_->{key} => 1 } @{$resource->{attributes}} },
    { 'service.name' => 1, 'service.version' => 1,
        'service.instance.id' => 1 }, 'resource';
is $resource->{attributes}[0]{value}{stringValue}, 'gate', 'service=';
unlike join('', map { $_->{body} } $sink->journal),
    qr/Hello from the mock|provider-secret|sk-llm-|"one"/,
    'neither prompts nor answers nor keys';


# a hit, a stream, a refusal

reset_all();
my $id;
($r, $id) = traced('one', model => 'renamed');
like $r->header('cache-status'), qr/hit/, 'a hit';
@spans = wait_spans($id, 2);
is_deeply [sort map { $_->{name} } @spans], ['cache', 'chat renamed'],
    'has no attempt';
is +(server(@spans))[0]{attr}{'llm.cache'}, 'hit', 'and says so';
is +(server(@spans))[0]{attr}{'gen_ai.provider.name'}, 'mock', 'provider';
like $r->header('server-timing'), qr/^queue;dur=0, cache;dur=\d+, total/,
    'Server-Timing of a hit';

($r, $id) = traced('stream', stream => 1);
is $r->header('x-llm-cost-usd'), undef, 'no cost in a stream\'s header';
like $r->header('server-timing'), qr/upstream;dur=\d+/, 'but the timing';
@spans = wait_spans($id, 3);
ok +(server(@spans))[0]{attr}{'gen_ai.request.stream'}, 'a stream';
like +(server(@spans))[0]{attr}{'gen_ai.response.time_to_first_chunk'},
    qr/^[\d.e-]+$/, 'time to the first event';
is +(client(@spans))[0]{attr}{'gen_ai.usage.output_tokens'}, '20',
    'usage of a stream';
$line = log_of($r->header('x-request-id'));
is $line->{stream}, '1', '$llm_stream of a stream';
like $line->{ttft}, qr/^\d+$/, '$llm_ttft_ms of a stream';

$t->chat('first', key => 'rare', model => 'x');
($r, $id) = traced('second', key => 'rare', model => 'x');
is $r->status, 429, 'a refusal';
@spans = wait_spans($id, 1);
($server) = server(@spans);
is $server->{attr}{'error.type'}, 'rate_limit_exceeded', 'its error';
is $server->{attr}{'http.response.status_code'}, '429', 'its status';
is $server->{status}, undef, 'is no failure of ours';
is scalar(() = client(@spans)), 0, 'nobody was asked';

$r = $t->post('/v1/chat/completions', '{', key => 'user', headers => {
    traceparent => "00-" . ($id = fresh()) . "-$parent-01" });
is $r->status, 400, 'bad JSON';
@spans = wait_spans($id, 1);
is $spans[0]{name}, 'chat', 'a name without a model';


# attempts

reset_all({ times => 2, status => 503 });
($r, $id) = traced('again');
is $r->status, 200, 'the third attempt';
@spans = wait_spans($id, 5);
my @clients = client(@spans);
is_deeply [map { $_->{attr}{'http.response.status_code'} } @clients],
    [503, 503, 200], 'a span for each';
is_deeply [map { $_->{attr}{'error.type'} } @clients], ['503', '503', undef],
    'their errors';
is_deeply [map { $_->{status}{code} } @clients], [2, 2, undef], 'failed';
is_deeply [map { $_->{attr}{'http.request.resend_count'} } @clients],
    [undef, 1, 2], 'which one';
is_deeply [sent_on()], [map { "00-$id-$_->{spanId}-01" } @clients],
    'each told its own parent';

reset_all({ cut => 'clean', cut_events => 4 });
($r, $id) = traced('broken', stream => 1);
@spans = wait_spans($id, 3);
($server) = server(@spans);
is $server->{attr}{'error.type'}, 'upstream_error', 'a broken stream';
is $server->{status}{code}, 2, 'has failed';
is +(client(@spans))[0]{attr}{'error.type'}, 'broken', 'and its attempt';
is log_of($r->header('x-request-id'))->{error}, 'upstream_error', '$llm_error';

reset_all({ error_event => 3 });
($r, $id) = traced('told', stream => 1);
@spans = wait_spans($id, 3);
is +(server(@spans))[0]{attr}{'error.type'}, 'upstream_error',
    'a stream that the provider ended with an error';
is log_of($r->header('x-request-id'))->{error}, 'upstream_error', '$llm_error';

reset_all({ match => { stream => JSON::PP::true }, pace_ms => 50 });
$id = fresh();
$r = $t->start_chat('leaves', key => 'user', stream => 1, headers => {
    traceparent => "00-$id-$parent-01", 'x-request-id' => 'leaves' });
$r->wait_events(2);
$r->abort;
@spans = wait_spans($id, 3);
is +(server(@spans))[0]{attr}{'error.type'}, 'client_closed', 'who leaves';
is log_of('leaves')->{error}, 'client_closed', '$llm_error';


# the line, and a comparison

reset_all({ delay_ms => 150 });
my @r = map { $t->start_chat("line $_", key => 'single', headers => {
    traceparent => "00-" . ($id = fresh()) . "-$parent-01" }) } 1, 2;
$_->wait for @r;
my ($queue) = sort { $b->{endTimeUnixNano} - $b->{startTimeUnixNano}
        <=> $a->{endTimeUnixNano} - $a->{startTimeUnixNano} }
    map { grep { $_->{name} eq 'queue' } wait_spans($_, 3) }
    sprintf('a%031x', $n - 1), $id;
ok $queue, 'the one that waited has a span of it';
my $waited = ($queue->{endTimeUnixNano} - $queue->{startTimeUnixNano}) / 1e6;
cmp_ok $waited, '>=', 100, 'as long as it was';
cmp_ok $waited, '<=', 1000 * max(map { $_->end } @r), 'and no longer';
is max(map { $_->header('server-timing') =~ /^queue;dur=(\d+)/ } @r), $waited,
    'Server-Timing says so';

reset_all();
$id = fresh();
$r = $t->post('/v1/compare', { models => ['a', 'b'],
    messages => [{ role => 'user', content => 'compare' }] }, key => 'user',
    headers => { traceparent => "00-$id-$parent-01" });
is $r->status, 200, 'a comparison';
@spans = wait_spans($id, 7);
my ($compare) = grep { $_->{name} eq 'compare' } @spans;
is $compare->{parentSpanId}, $parent, 'its span';
is_deeply [map { $_->{parentSpanId} } grep { $_->{name} =~ /^chat/ }
    server(@spans)], [($compare->{spanId}) x 2], 'the legs are its children';
my %legs = map { $_->{spanId} => 1 } server(@spans);
is scalar(grep { $legs{$_->{parentSpanId}} } client(@spans)), 2,
    'and the attempts theirs';


# who is no parent, and who is not sampled

for my $bad ("00-$trace-$parent-0", "00-$trace-$parent-01-x",
    "ff-$trace-$parent-01", '00-' . '0' x 32 . "-$parent-01",
    "00-$trace-" . '0' x 16 . '-01', '00-' . uc($trace) . "-$parent-01",
    'nonsense')
{
    reset_all();
    $r = $t->chat("bad $bad", key => 'user', headers => {
        traceparent => $bad, tracestate => 'a=1' });
    my ($on) = sent_on();
    my ($made) = $on =~ /^00-([0-9a-f]{32})-[0-9a-f]{16}-01$/;
    isnt $made, undef, "\"$bad\": a new trace";
    isnt lc $made, lc $trace, 'of its own';
    is +($mock->journal)[0]{headers}{tracestate}, undef, 'without the state';
    @spans = wait_spans($made, 3);
    is +(server(@spans))[0]{parentSpanId}, undef, 'has no parent';
}

reset_all();
$t->chat('two parents', key => 'user', headers => {
    traceparent => "00-$trace-$parent-01",
    Traceparent => "00-$trace-$parent-01" });
unlike +(sent_on())[0], qr/$trace/, 'two parents are none';

reset_all();
$t->chat('later version', key => 'user', headers => {
    traceparent => "cc-" . ($id = fresh()) . "-$parent-03-more" });
like +(sent_on())[0], qr/^00-$id-[0-9a-f]{16}-03$/, 'a later version';

reset_all();
($r, $id) = traced('unsampled', flags => '00');
my $later = (traced('sampled'))[1];
like +(sent_on())[0], qr/^00-$id-[0-9a-f]{16}-00$/,
    'who is not sampled is told so';
wait_spans($later, 3);
is scalar(of_trace($id)), 0, 'and has no spans';
is log_of($r->header('x-request-id'))->{trace}, $id, 'but an id in the log';


# nobody else gets to the collector

reset_all();
is $t->post('/v1/traces', '{}')->status, 404, 'not from outside';
is $t->post('/v1/traces', '{}')->json->{error}{code}, 'unknown_url', 'code';
is $t->get('/v1/traces')->status, 404, 'nor is it there at all';
is $t->post('/internal/otel/v1/traces', '{}')->status, 404,
    'nor the location';

sub inside {
    my ($head) = @_;

    my $s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $socket)
        or die "$socket: $!";

    print $s "POST /v1/traces HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . "Content-Length: 2\r\n$head\r\n{}";

    local $/;
    return <$s>;
}

like inside(''), qr/^HTTP\/1.1 404/, 'nor without the secret';
like inside("X-LLM-Internal: " . '0' x 64 . "\r\nX-LLM-Key: \r\n"),
    qr/^HTTP\/1.1 404/, 'nor with a wrong one';
is scalar($sink->journal), 0, 'and it heard of nobody';


# a collector that refuses, is not there, hangs

sub lost {
    return $t->said(qr/llm trace: the collector .* takes no spans/);
}

SKIP: {
    my $spans = $t->metric('llm_trace_spans_total{result="sent"}');
    skip 'no metric', 1 if $spans == -1;
    cmp_ok $spans, '>', 40, 'what was sent is counted';
}

is lost(), 0, 'so far all is well';

$sink->script({ status => 503 });
$mock->script;
is +(traced("down $_"))[0]->status, 200, 'a request is served' for 1 .. 3;
ok $t->wait_log(qr/takes no spans.*status 503/), 'the log says why';
$t->chat("more $_", key => 'user') for 1 .. 5;
$sink->wait(requests => 3);
cmp_ok lost(), '<=', 2, 'once for each worker';

$sink->refuse;
is +(traced('refused'))[0]->status, 200, 'nobody there: a request is served';
$sink->serve;

reset_all();
($r, $id) = traced('well again');
is scalar(wait_spans($id, 3)), 3, 'and it goes on';

$sink->script({ hang => JSON::PP::true });
traced('hangs');
$sink->wait(requests => 1);
my $begin = time;
is +(traced("slow $_"))[0]->status, 200, 'slow: a request is served'
    for 1 .. 20;
SKIP: {
    skip 'time is no measure', 1 if $t->sanitized;
    cmp_ok time - $begin, '<', 3, 'at once';
}


# sample=0: only who is sampled elsewhere; a small queue

$sink->reset;
reset_all();
$t->token(TRACE => 'llm_trace uri=/internal/otel/ interval=100ms sample=0 '
    . 'queue=8 batch=4;');
$t->reload($t->{template});

$r = $t->chat('unsampled here', key => 'user');
like +(sent_on())[0], qr/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/,
    'a new trace is not sampled';
($r, $id) = traced('sampled elsewhere');
is scalar(wait_spans($id, 3)), 3, 'a caller\'s is';

$sink->script({ hang => JSON::PP::true });
traced('takes the way');
$sink->wait(requests => 1);
traced("many $_") for 1 .. 20;
SKIP: {
    my $dropped = $t->metric('llm_trace_spans_total{result="dropped"}');
    skip 'no metric', 1 if $dropped == -1;
    cmp_ok $dropped, '>', 10, 'what finds no room is counted';
}


# what is there when workers end goes out

sub last_words {
    my ($what, $end) = @_;

    reset_all();
    $t->token(TRACE => 'llm_trace uri=/internal/otel/ interval=60s;');
    $t->reload($t->{template});
    reset_all();

    my @ids = map { (traced("$what $_"))[1] } 1 .. 4;
    is scalar($sink->journal), 0, "$what: nothing is sent before its time";

    $begin = time;
    $end->();
    is scalar(grep { wait_spans($_, 3) == 3 } @ids), 4, 'all come at the end';
    cmp_ok time - $begin, '<', 8, 'which is soon';
}

last_words('a reload', sub { $t->reload($t->{template}) });

# off: what came passes on as it is

$t->token(TRACE => '');
$t->reload($t->{template});
reset_all();

$r = $t->chat('off', key => 'user', headers => {
    traceparent => "00-$trace-$parent-01", tracestate => 'a=1' });
is_deeply [sent_on()], ["00-$trace-$parent-01"], 'off: passed on';
is +($mock->journal)[0]{headers}{tracestate}, 'a=1', 'with the state';
$line = log_of($r->header('x-request-id'));
is $line->{trace}, $trace, 'in the log';
is $line->{span}, '', 'without a span';

reset_all();
$r = $t->chat('off and none', key => 'user');
is_deeply [sent_on()], [undef], 'nothing is made';
is log_of($r->header('x-request-id'))->{trace}, '', 'nor in the log';
is $t->post('/v1/traces', '{}')->status, 404, 'no such URL';
is scalar($sink->journal), 0, 'nothing was sent';


# the directive

sub config {
    my ($directive, $pattern, $what) = @_;

    $t->token(TRACE => $directive);

    my ($ok, $said) = $t->test_config($t->{template});

    if (!defined $pattern) {
        ok $ok, $what or diag($said);
        return;
    }

    ok !$ok, "$what: refused";
    like $said, $pattern, 'and why';
}

my $uri = 'uri=/internal/otel/';

config("llm_trace $uri sample=0.01 batch=1 interval=1s queue=1 service=x;",
    undef, 'all parameters');
config("llm_trace $uri sample=1.1;", qr/sample=.*expected/, 'more than all');
config("llm_trace $uri sample=-1;", qr/sample=.*expected/, 'less than none');
config("llm_trace $uri sample=x;", qr/sample=.*expected/, 'no number');
config("llm_trace $uri batch=0;", qr/batch=.*expected/, 'no batch');
config("llm_trace $uri what=1;", qr/what=1.*expected/, 'unknown');
config('llm_trace uri=internal;', qr/llm_trace needs uri=/, 'no prefix');
config('llm_trace sample=1;', qr/llm_trace needs uri=/, 'no uri');
config('llm_trace uri=/elsewhere/;', qr/needs an internal location/,
    'no location');
config("llm_trace $uri; llm_trace $uri;", qr/is duplicate/, 'twice');

$t->token(INTERNAL => '');
config("llm_trace $uri;", qr/needs "llm_internal"/, 'no internal listener');
$t->token(INTERNAL => "llm_internal unix:$socket;");


# all of nginx ends

last_words('the end', sub { $t->quit });

done_testing;
