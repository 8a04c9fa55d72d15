#!/usr/bin/perl

# Each provider's dialect, behind the configuration that docs/providers.md
# has for it: where a request goes and with which key, and that clients see
# the API's own shapes.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;

use Test::LLM;


my $t = Test::LLM->new;
my $docs = docs();

$t->write('llm-proxy.conf', $docs->{'llm-proxy.conf'});
$t->token(DOCS_SERVER => $docs->{server});

my $mock = $t->gateway(
    redis => 0,
    routes => $docs->{http} . "\nllm_route * mock;",
    server => '%%DOCS_SERVER%%',
    location => 'llm_retry tries=2 base=1ms cap=2ms max_wait=2s budget=100
                     floor=1000;
        llm_breaker consecutive=0 ratio=0;',
);

my $key = 'sk-provider-secret';


# where it goes

my @providers = (
    [ 'OpenAI', 'gpt-4.1-mini', 'gpt-4.1-mini', '/v1/', 'bearer' ],
    [ 'Azure OpenAI, dated paths', 'gpt-4o', undef,
        '/openai/deployments/my-gpt-4o/', 'api-key',
        '?api-version=2024-10-21' ],
    [ 'Azure OpenAI, v1', 'o4-mini', 'my-o4-mini', '/openai/v1/', 'api-key' ],
    [ 'vLLM', 'Qwen/Qwen3-8B', 'Qwen/Qwen3-8B', '/v1/', 'none' ],
    [ 'Ollama', 'llama3', 'llama3:8b', '/v1/', 'none' ],
    [ 'llama.cpp', 'local-1', 'local-1', '/v1/', 'none' ],
    [ 'Groq', 'llama-3.3-70b', 'llama-3.3-70b-versatile', '/openai/v1/',
        'bearer' ],
    [ 'Mistral', 'mistral-small-latest', 'mistral-small-latest', '/v1/',
        'bearer' ],
    [ 'Gemini', 'gemini-2.5-flash', 'gemini-2.5-flash', '/v1beta/openai/',
        'bearer' ],
    [ 'Anthropic', 'claude-sonnet-4-5', 'claude-sonnet-4-5', '/v1/',
        'bearer' ],
);

my %model = map { $_->[0] => $_->[1] } @providers;

is_deeply [ sort keys %model ], [ sort @{$docs->{names}} ],
    'all of the configurations are tested';

for my $provider (@providers) {
    my ($name, $model, $sent, $path, $auth, $args) = @$provider;

    $path .= 'chat/completions' . ($args // '');

    $mock->script();
    my $r = $t->chat('hello', model => $model);
    my $got = ($mock->journal)[0];

    is $r->status, 200, "$name: answers";
    like $got->{head}, qr{\APOST \Q$path\E HTTP/1\.1\r\n},
        "$name: the path";
    is decode_json($got->{body})->{model}, $sent, "$name: the model"
        if defined $sent;
    is $got->{headers}{authorization},
        $auth eq 'bearer' ? "Bearer $key" : undef, "$name: Authorization";
    is $got->{headers}{'api-key'}, $auth eq 'api-key' ? $key : undef,
        "$name: api-key";
    ok !(grep { $_->{head} =~ /sk-llm/ } $mock->journal),
        "$name: not the client's key";

    $r = $t->chat('hello', model => $model, stream => 1);
    is $r->status, 200, "$name: streams";
    is +($r->data)[-1], '[DONE]', "$name: to the end";
}

like proxied(), qr/proxy_ssl_verify on;/, 'certificates are verified';
like proxied(), qr/proxy_ssl_server_name on;/, 'the name is told';
is +(() = $docs->{given} =~ m{proxy_pass https://}g),
    (() = $docs->{given} =~ m{proxy_ssl_name [\w.-]+;}g),
    'each provider over TLS has its name to verify';


# errors: name, status, body, expected status, message, type, code, calls

my $long = 'This model\'s maximum context length is 4096 tokens. However, '
    . 'you requested 5000 tokens.';

for my $error (
    [ 'OpenAI', 400, '{"error":{"message":"Bad","type":'
        . '"invalid_request_error","param":"messages","code":null}}',
        400, 'Bad', 'invalid_request_error', undef, 1 ],
    [ 'Azure OpenAI, dated paths', 400, '{"error":{"code":"OperationNot'
        . 'Supported","message":"No chat"}}',
        400, 'No chat', 'invalid_request_error', 'OperationNotSupported', 1 ],
    [ 'Azure OpenAI, dated paths', 401, '{ "statusCode": 401, "message": '
        . '"Unauthorized" }',
        401, 'Unauthorized', 'invalid_request_error', undef, 1 ],
    [ 'Azure OpenAI, v1', 400, '{"error":{"message":"Filtered","type":null,'
        . '"param":"prompt","code":"content_filter","status":400,'
        . '"innererror":{"code":"ResponsibleAIPolicyViolation"}}}',
        400, 'Filtered', undef, 'content_filter', 1 ],
    [ 'vLLM', 404, '{"error":{"message":"No model","type":"NotFoundError",'
        . '"param":null,"code":404}}',
        404, 'No model', 'NotFoundError', '404', 1 ],
    [ 'vLLM', 400, JSON::PP->new->encode({ object => 'error',
        message => $long, type => 'BadRequestError', param => undef,
        code => 400 }),
        400, $long, 'BadRequestError', 'context_length_exceeded', 1 ],
    [ 'vLLM', 422, '{"detail":[{"loc":["body","messages"],"msg":"Field '
        . 'required","type":"missing"}]}',
        422, 'Field required', 'invalid_request_error', undef, 1,
        'messages' ],
    [ 'Ollama', 404, '{"error":"model \"x\" not found"}',
        404, 'model "x" not found', 'invalid_request_error', undef, 1 ],
    [ 'llama.cpp', 400, '{"error":{"code":400,"message":"the request exceeds'
        . ' the available context size","type":"exceed_context_size_error",'
        . '"n_prompt_tokens":9,"n_ctx":8}}',
        400, 'the request exceeds the available context size',
        'exceed_context_size_error', 'context_length_exceeded', 1 ],
    [ 'llama.cpp', 503, '{"error":{"code":503,"message":"Loading model",'
        . '"type":"unavailable_error"}}',
        503, 'Loading model', 'unavailable_error', '503', 2 ],
    [ 'Groq', 413, '{"error":{"message":"Request too large","type":"tokens",'
        . '"code":"rate_limit_exceeded"}}',
        413, 'Request too large', 'tokens', 'rate_limit_exceeded', 1 ],
    [ 'Mistral', 400, '{"object":"error","message":"Bad","type":'
        . '"invalid_request_error","param":null,"code":"3051"}',
        400, 'Bad', 'invalid_request_error', '3051', 1 ],
    [ 'Gemini', 400, "[{\n  \"error\": {\n    \"code\": 400,\n    "
        . "\"message\": \"Unknown name\",\n    \"status\": "
        . "\"INVALID_ARGUMENT\"\n  }\n}\n]\n",
        400, 'Unknown name', 'invalid_request_error', '400', 1 ],
    [ 'Anthropic', 529, '{"type":"error","error":{"type":"overloaded_error",'
        . '"message":"Overloaded"},"request_id":"req_1"}',
        503, 'Overloaded', 'overloaded_error', undef, 2 ],
    [ 'Anthropic', 400, '{"error":{"type":"invalid_request_error","message":'
        . '"prompt is too long: 9 tokens > 8 maximum"}}',
        400, 'prompt is too long: 9 tokens > 8 maximum',
        'invalid_request_error', 'context_length_exceeded', 1 ],
    [ 'OpenAI', 402, '{"error":{"code":402,"message":"Insufficient '
        . 'credits"}}',
        429, 'Insufficient credits', 'insufficient_quota',
        'insufficient_quota', 1 ],
    [ 'OpenAI', 502, '<html><body><h1>502 Bad Gateway</h1></body></html>',
        502, undef, 'server_error', 'upstream_error', 2 ],
    [ 'OpenAI', 524, 'error code: 524',
        502, undef, 'server_error', 'upstream_error', 2 ],
) {
    my ($name, $status, $body, $seen, $message, $type, $code, $calls,
        $param) = @$error;

    for my $before ('', "\n\n  ", "\x{feff}") {
        $mock->script({ status => $status, body => $body,
            before => $before, headers => { 'retry-after-ms' => 1 } });
        my $r = $t->chat('hello', model => $model{$name});

        my $what = "$name, $status" . ($before eq '' ? '' : ', blanks');

        is $r->status, $seen, "$what: status";
        is $r->header('content-type'), 'application/json', "$what: type";
        shape($r->body, $what, $message, $type, $code, $param);
        is $mock->stats->{requests}, $calls, "$what: calls";
    }
}


# a right one passes as it is

$mock->script({ status => 400, keep => \1, body => "{ \"error\" : {\"message\""
    . ":\"m\", \"type\":\"t\",\"param\":null,\"code\":\"c\",\"more\":[1]}}" });
my $r = $t->chat('hello', model => $model{OpenAI});
is $r->body, $mock->sent(0), 'the API\'s own shape: byte for byte';


# waits that only the body tells: longer than we wait, so the client hears it;
# these targets are then left alone, so what follows takes others

for my $wait (
    [ 'Azure OpenAI, dated paths', '{"error":{"code":"429","message":'
        . '"Rate limit. Please retry after 45 seconds."}}', 45_000 ],
    [ 'Groq', '{"error":{"message":"Rate limit reached. Please try again in '
        . '7.66s. Visit x","type":"tokens","code":"rate_limit_exceeded"}}',
        7660 ],
    [ 'Gemini', '[{"error":{"code":429,"message":"You exceeded your current '
        . 'quota, please check your plan and billing details.","status":'
        . '"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/'
        . 'google.rpc.RetryInfo","retryDelay":"12s"}]}}]', 12_000 ],
    [ 'vLLM', '{"message":"slow down","retry_after":2.5}', 2500 ],
) {
    my ($name, $body, $ms) = @$wait;

    $mock->script({ status => 429, body => $body });
    $r = $t->chat('hello', model => $model{$name});

    is $r->status, 429, "$name: a wait in the body";
    is $mock->stats->{requests}, 1, "$name: too long for us";
    within($r->header('retry-after-ms'), $ms, "$name: retry-after-ms");
    is $r->header('retry-after'),
        int(($r->header('retry-after-ms') + 999) / 1000),
        "$name: retry-after";
    isnt $r->json->{error}{code}, 'insufficient_quota',
        "$name: a rate, no quota";
}


# a short one is waited for

$mock->script({ times => 1, status => 429, body => '{"error":{"message":'
    . '"Please try again in 120ms","type":"requests","code":null}}' });
$r = $t->chat('hello', model => $model{OpenAI});
is $r->status, 200, 'a short wait in the body';
my @journal = $mock->journal;
my $pause = $journal[1]{arrival_ms} - $journal[0]{end_ms};
ok $pause >= 118, "was kept: $pause ms";


# errors with status 200

for my $error (
    [ 'an object', '{"error":{"code":502,"message":"Provider error",'
        . '"metadata":{}}}' ],
    [ 'a bare one', '{"object":"error","message":"Provider error",'
        . '"type":"x","param":null,"code":502}' ],
) {
    my ($name, $body) = @$error;

    $mock->script({ status => 200, body => $body });
    $r = $t->chat('hello', model => $model{OpenAI});
    is $r->status, 502, "$name with 200 is an error";
    is $mock->stats->{requests}, 2, "$name with 200: retried";
    shape($r->body, "$name with 200");

    $mock->script({ body => "data: $body\n\n",
        headers => { 'content-type' => 'text/event-stream' } });
    $r = $t->chat('hello', model => $model{OpenAI}, stream => 1);
    is $r->status, 502, "$name as the first event is an error";
    is $mock->stats->{requests}, 2, "$name as the first event: retried";
    shape($r->body, "$name as the first event", 'Provider error');
}


# good answers: "error":null and what is in front

my $good = '{"id":"chatcmpl-1","object":"chat.completion","created":1,"model"'
    . ':"m","error":null,"choices":[{"index":0,"message":{"role":"assistant",'
    . '"content":"{\"error\":null}"},"finish_reason":"stop"}],"usage":'
    . '{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}';

for my $before ('', "\n\n\n", "\x{feff}", " \r\n\x{feff}") {
    $mock->script({ body => $good, before => $before });
    $r = $t->chat('hello', model => $model{Mistral});

    is $r->status, 200, 'a JSON answer';
    is $r->body, $good =~ s/"error":null,"ch/"ch/r,
        'without blanks and "error":null';
    is $r->header('content-length'), length $r->body, 'its length'
        if defined $r->header('content-length');
}

my @chunks = map { qq({"id":"c","object":"chat.completion.chunk","created":1,)
    . qq("model":"m",$_) } (
    '"choices":[{"index":0,"delta":{"role":"assistant","content":""},'
        . '"finish_reason":null}],"error":null,"usage":null}',
    '"error":null,"choices":[{"index":0,"delta":{"content":"\"error\":null"},'
        . '"finish_reason":null}],"usage":{"prompt_tokens":5,'
        . '"completion_tokens":1,"total_tokens":6}}',
    '"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":'
        . '{"prompt_tokens":5,"completion_tokens":9,"total_tokens":14},'
        . '"x_groq":{"id":"r","usage":{"prompt_tokens":5,'
        . '"completion_tokens":9,"total_tokens":14}},"error":null}',
);

my $stream = join '', ": keep-alive\n\n",
    (map { ": OPENROUTER PROCESSING\n\ndata: $_\n\n" } @chunks),
    "data: [DONE]\n\n";

for my $slice (1_000_000, 1, 7, 100) {
    $mock->script({ body => $stream, slice => $slice,
        headers => { 'content-type' => 'text/event-stream' } });
    $r = $t->chat('hello', model => $model{Mistral}, stream => 1);

    is $r->status, 200, "pieces of $slice: a stream";
    ok $r->complete, "pieces of $slice: whole";

    # blanks stand in its place, so that no byte has to move
    is $r->body =~ s/ +$//mgr, $stream =~ s/,"error":null(?=[,}])//gr
        =~ s/"error":null,"choices/"choices/gr,
        "pieces of $slice: comments pass, \"error\":null does not";
}

# of /v1/responses it is a part

my $response = '{"id":"resp_1","object":"response","status":"completed",'
    . '"error":null,"output":[],"usage":{"input_tokens":1,"output_tokens":1,'
    . '"total_tokens":2}}';
$mock->script({ body => $response });
$r = $t->post('/v1/responses', { model => $model{OpenAI}, input => 'x',
    store => \0 }, key => 'user');
is $r->body, $response, 'a response keeps its "error":null';


# what was used, as it was told

for my $used (
    [ 'x_groq alone', 'data: {"choices":[{"index":0,"delta":{"content":"x"},'
        . '"finish_reason":"stop"}],"x_groq":{"usage":{"prompt_tokens":7,'
        . '"completion_tokens":8,"total_tokens":15}}}', 8 ],
    [ 'growing in each chunk', join("\n\n", map { 'data: {"choices":[{"index"'
        . ':0,"delta":{"content":"x"},"finish_reason":'
        . ($_ == 3 ? '"stop"' : 'null') . '}],"usage":{"prompt_tokens":7,'
        . "\"completion_tokens\":$_,\"total_tokens\":" . (7 + $_) . '}}' }
        1 .. 3), 3 ],
) {
    my ($name, $events, $tokens) = @$used;

    my $before = $t->metric('llm_tokens_total{type="completion"}');
    $mock->script({ body => "$events\n\ndata: [DONE]\n\n",
        headers => { 'content-type' => 'text/event-stream' } });
    $r = $t->chat('hello', model => $model{Anthropic}, stream => 1);
    ok $r->complete, "$name: whole";
    $t->becomes('llm_tokens_total{type="completion"}', $before + $tokens,
        "$name: tokens");
}

done_testing;


# the configurations: what is indented, by its heading

sub docs {
    my %docs = (http => '', server => '', given => '', names => []);

    open my $in, '<:utf8', "$FindBin::Bin/../docs/providers.md" or die $!;
    my $text = do { local $/; <$in> };

    for my $section (split /^## /m, $text) {
        my ($name) = $section =~ /\A([^\n]+)/;
        my $code = join '', map { s/^ {4}//r }
            grep { /^(?: {4}|$)/ } split /(?<=\n)/, $section;

        if ($code =~ /\A\s*# llm-proxy\.conf/) {
            $docs{'llm-proxy.conf'} = $code;
            next;
        }

        next if $code !~ /llm_provider/;

        push @{$docs{names}}, $name;
        $docs{given} .= $code;

        # the mock is there in the place of each of them
        $code =~ s{key=env:\w+}{key=file:%%DIR%%/provider.key}g;
        $code =~ s{server [\w.-]+:\d+}{server %%MOCK%%}g;
        $code =~ s{https://}{http://}g;

        $docs{server} .= $1 while $code =~ s/^(location .*?^\}\n)//ms;
        $docs{http} .= $code;
    }

    return \%docs;
}


sub proxied { return $docs->{'llm-proxy.conf'} }


sub shape {
    my ($body, $what, $message, $type, $code, $param) = @_;

    my $json = eval { decode_json($body) };
    my $error = ref $json eq 'HASH' ? $json->{error} : undef;

    if (ref $error ne 'HASH') {
        fail "$what: the API's shape: $body";
        return;
    }

    is_deeply [ grep { !exists $error->{$_} } qw(message type param code) ],
        [], "$what: four members";
    unlike $error->{message}, qr/<|\A\z/, "$what: a message, no HTML";
    is $error->{message}, $message, "$what: message" if defined $message;
    like $body, qr/"code"\s*:\s*(?:null|")/, "$what: code: string or null";

    return if @_ < 5;

    is $error->{type}, $type, "$what: type";
    is $error->{code}, $code, "$what: code";
    is $error->{param}, $param, "$what: param" if defined $param;
}


sub within {
    my ($got, $expected, $what) = @_;
    ok defined $got && $got <= $expected && $got > $expected - 1500,
        "$what: " . ($got // 'none');
}
