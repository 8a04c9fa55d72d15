#!/usr/bin/perl

# Canaries: prompts, answers and secrets of all kinds, in words that stand
# nowhere else, go every way that there is.  None of them may be in a log, on
# a page for operators or in Redis, whatever the log's level is.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use JSON::PP;

use Test::LLM;


# prompts and answers; what a client or a provider says may hold them, too

my $prompt = 'canaryprompt';
my $answer = 'canaryanswer';
my $wrong = 'sk-llm-' . 'canarywrong' . '0' x 29;
my $admin = 'canaryadmin-open-sesame';
my $fleet = 'canaryfleet-' . 'f' x 40;
my $provider = 'sk-provider-secret';

my $hub = Test::LLM->new;
my @gate = map { Test::LLM->new(workers => 2, debug => 1) } 1, 2;

my $mock = $hub->mock('--key', $provider);
my $sink = $hub->mock;
my $redis = $hub->redis;

$hub->key('user', team => 'search');
$hub->key('rare', requests_per_minute => 1);
$hub->key('off', enabled => JSON::PP::false);
$hub->key('few', tokens_per_minute => 60);
$hub->key('single', concurrency => 1, queue => { size => 1,
    timeout_ms => 100 });

$hub->key("bad$_") for 0 .. 99;

my @secrets = map { $hub->secret($_) } qw(user rare off few single bad0);

for my $t (@gate) {
    my $socket = $t->path('internal.sock');

    $t->{tenants} = $hub->{tenants};
    $t->{secrets} = $hub->{secrets} if $hub->{secrets};
    $t->write('tenants.json', $hub->{tenants});
    $t->write('prices.json', { '*' => { input => 1, output => 2 } });
    $t->write('admin', $admin);
    $t->write('fleet', $fleet);
    $t->token(MOCK => $hub->token('MOCK'));
    $t->token(SINK => '127.0.0.1:' . $sink->port);
    $t->token(REDIS => $hub->token('REDIS') . ' gateways=2');

    $t->gateway(
        http => "llm_internal unix:$socket;" . q{
            llm_secret file:%%DIR%%/fleet;
            llm_prices %%DIR%%/prices.json;
            llm_state %%DIR%%/kept;
            llm_trace uri=/internal/otel/ interval=100ms;
            log_format all escape=json '$llm_request_id $llm_key $llm_team '
                '$llm_model $llm_provider $llm_attempts $llm_cache '
                '$llm_queue_ms $llm_error $llm_prompt_tokens '
                '$llm_cached_tokens $llm_completion_tokens '
                '$llm_reasoning_tokens $llm_cost_usd $llm_saved_tokens '
                '$llm_saved_usd $llm_authorization $llm_provider_key '
                '$llm_endpoint $llm_stream $llm_ttft_ms $llm_upstream_ms '
                '$llm_cache_ms $llm_trace_id $llm_span_id $request $status '
                '$http_user_agent $upstream_addr $upstream_status';
            access_log %%DIR%%/all.log all;},
        server => "listen unix:$socket; listen 127.0.0.1:%%PORT_H2%% http2;"
            . q{
            location /internal/otel/ {
                internal;
                proxy_pass http://%%SINK%%/;
            }},
        location => 'llm_cache on ttl=1h encrypt=on stale_if_error=1h;
            llm_join on resume=1m;
            llm_heartbeat 100ms;
            llm_retry tries=2 base=1ms cap=2ms budget=100 floor=1000;
            llm_breaker off;
            llm_timeout total=3s first_byte=700ms;',
        admin => 'location /admin/v1/ { llm_admin file:%%DIR%%/admin; }',
    );
}

my ($t, $other) = @gate;
my $n = 0;

# a prompt that none had before

sub words { return "$prompt number " . ++$n }

sub ask {
    my (%options) = @_;

    my $on = delete $options{on} // $t;
    my $text = delete $options{text} // words();

    return $on->chat($text, key => 'user', %options);
}

sub rules {
    $mock->script(@_, { content => "$answer is the answer" });
}


# what is well

rules();
is ask(text => "$prompt json")->status, 200, 'JSON';
is ask(text => "$prompt json")->header('age') // 'none', '0', 'a hit';
is ask(text => "$prompt json", on => $other)->status, 200,
    'a hit elsewhere';
is ask(text => "$prompt json", stream => 1)->status, 200,
    'a hit as a stream';
is ask(stream => 1)->status, 200, 'a stream';
is ask(body => { user => $prompt, metadata => { a => $prompt } })->status,
    200, 'other members';
is $t->post('/v1/completions', { model => 'x', prompt => words() },
    key => 'user')->status, 200, 'a completion';
is $t->post('/v1/embeddings', { model => 'x', input => words() },
    key => 'user')->status, 200, 'an embedding';
is $t->post('/v1/responses', { model => 'x', input => words() },
    key => 'user')->status, 200, 'a response';
is $t->post('/v1/responses', { model => 'x', input => words(),
    stream => JSON::PP::true }, key => 'user')->status, 200,
    'a response as a stream';
is $t->post('/v1/compare', { models => ['a', 'b'],
    messages => [{ role => 'user', content => words() }] },
    key => 'user')->status, 200, 'a comparison';

rules({ tool_name => 'tool', tool_args => "{\"a\":\"$answer\"}" });
is ask(body => { tools => [{ type => 'function', function => {
    name => 'tool', description => $prompt, parameters => {} } }] })->status,
    200, 'tools';
is ask(stream => 1, body => { tools => [{ type => 'function', function => {
    name => 'tool', description => $prompt, parameters => {} } }] })->status,
    200, 'tools in a stream';

rules({ content => "$answer " x 200, chunks => 40, pace_ms => 5,
    delay_ms => 100 });
my $text = words();
my @r = map { $_->start_chat($text, key => 'user', stream => 1) }
    $t, $other, $t, $other;
$_->wait for @r;
is_deeply [map { $_->status } @r], [(200) x 4], 'shared by two gateways';


# what is not

for my $status (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529) {
    rules({ status => $status, headers => { 'retry-after-ms' => '1' },
        limit_headers => 'none', error_message =>
        "You said $prompt with $provider, and I would say $answer" });
    is ask()->status, $status == 529 ? 503 : $status, "an error $status";
}

rules({ status => 500, body => "<html>$answer</html>" });
is ask()->status, 500, 'no JSON';
rules({ body => "{\"$answer\":" });
is ask()->status, 502, 'torn JSON';
rules({ raw => "$answer is no HTTP" });
is ask()->status, 502, 'no HTTP';
rules({ cut => 'rst', cut_at => 'head' });
is ask()->status, 502, 'a reset';
rules({ hang => JSON::PP::true });
is ask()->status, 504, 'silence';
rules({ times => 1, status => 503, error_message => $answer });
is ask()->status, 200, 'one after a retry';

for my $rule ({ cut => 'clean', cut_events => 4 },
    { cut => 'rst', cut_events => 4 },
    { error_event => 3, error_message => "$answer, $prompt" },
    { error_event => 0, error_message => "$answer, $prompt" },
    { framing => 'close', cut_at => 400 })
{
    rules({ content => $answer x 4, %$rule });
    is ask(stream => 1)->status, $rule->{error_event} // 1 ? 200 : 502,
        'a stream that breaks: ' . join ' ', map { "$_ $rule->{$_}" } sort keys %$rule;
}

rules({ match => { stream => JSON::PP::true }, pace_ms => 50 });
my $r = $t->start_chat(words(), key => 'user', stream => 1);
$r->wait_events(2);
$r->abort;
ok $t->until(sub { $mock->stats->{in_flight} == 0 }), 'a client leaves';

rules({ delay_ms => 300 });
$r = $t->start_chat(words(), key => 'user', stream => 1);
$mock->wait(requests => 1);
$r->abort;


# bad requests; each by another key, as lines about one are told once in a while

my @bad = (
    '{', "{\"$prompt\":", "$prompt", "\"$prompt\"", "[\"$prompt\"]",
    "{\"model\":\"x\",\"$prompt\":1,\"$prompt\":2,\"messages\":[]}",
    "{\"model\":\"x\",\"messages\":\"$prompt\"}",
    "{\"model\":\"x\",\"messages\":[\"$prompt\"]}",
    "{\"model\":{\"$prompt\":1},\"messages\":[]}",
    "{\"model\":\"x\",\"stream\":\"$prompt\",\"messages\":[]}",
    "{\"model\":\"x\",\"max_tokens\":\"$prompt\",\"messages\":[]}",
    "{\"model\":\"x\",\"n\":\"$prompt\",\"messages\":[]}",
    "{\"model\":\"x\",\"stream_options\":\"$prompt\",\"messages\":[]}",
    "{\"model\":\"x\",\"messages\":[{\"content\":\"$prompt \\ud800\"}]}",
    "{\"model\":\"x\",\"messages\":[{\"content\":\"$prompt\xff\"}]}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"$prompt\"}]}",
    '[' x 200 . "\"$prompt\"",
);

my @paths = map { "/v1/$_" } qw(chat/completions responses embeddings
    compare);

my $keys = 0;

for my $path (@paths) {
    for my $body (@bad) {
        my $r = $t->post($path, $body, key => 'bad' . $keys++);
        ok $r->status, "$path: " . substr $body, 0, 40;
    }
}

cmp_ok $t->said(qr/llm: bad request of key "bad\d+":/), '>', 20,
    'the log tells of them';

ok $t->post('/v1/responses', { model => 'x', input => 'x',
    previous_response_id => $prompt }, key => 'user')->status,
    'an unknown response';


# who may not

my $body = { model => 'x', messages => [{ role => 'user',
    content => $prompt }] };

sub keyed {
    my (@headers) = @_;
    return $t->post('/v1/chat/completions', $body, headers => \@headers);
}

is keyed()->status, 401, 'no key';
is keyed(Authorization => "Bearer $wrong")->status, 401, 'a wrong key';
is keyed('api-key' => $wrong)->status, 401, 'a wrong api-key';
is keyed(Authorization => "Basic $wrong")->status, 401, 'no bearer';
is ask(key => 'off')->status, 403, 'a disabled key';
ask(key => 'rare');
is ask(key => 'rare')->status, 429, 'a rate';
ask(key => 'rare') for 1 .. 30;
my $said = $t->said(qr/llm refused: key "rare" by requests per min/);
ok $said >= 1 && $said <= 4, "of which the log tells once in a while: $said";
ok $t->said(qr/key "rare" by requests per min \(RPM\) of key rare, limit:1 /),
    'who, by what, and how much';
is ask(key => 'few', body => { max_tokens => 1000 })->status, 413,
    'too many tokens';

rules({ delay_ms => 400 });
@r = map { $t->start_chat(words(), key => 'single') } 1 .. 4;
$_->wait for @r;
is_deeply [sort map { $_->status } @r], [200, 429, 429, 429], 'a full line';
rules();

my %admin = (port => $t->port('PORT_ADMIN'));

is $t->post('/admin/v1/cache/purge', {}, %admin)->status, 401,
    'admin without a secret';
is $t->post('/admin/v1/cache/purge', { all => JSON::PP::true }, %admin,
    headers => { Authorization => "Bearer canaryadmin-wrong" })->status, 401,
    'with a wrong one';
ok $t->post('/admin/v1/cache/purge', { what => $prompt }, %admin,
    headers => { Authorization => "Bearer $admin" })->status, 'bad input';
is $t->get("/$_", key => 'user')->status, 404, "/$_" for qw(no v1/no);

# a request that is torn, and one that nginx itself refuses

my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
    PeerPort => $t->port);
print $s "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    . "Authorization: Bearer $secrets[0]\r\nContent-Length: 500\r\n\r\n"
    . "{\"$prompt";
close $s;

is $t->post('/v1/chat/completions', $body, key => 'user', headers =>
    { 'Content-Encoding' => 'gzip' })->status, 415, 'compressed';


# where they are looked for

my @canaries = ($prompt, $answer, 'canarywrong', 'canaryadmin', 'canaryfleet',
    $provider, @secrets);

# that they would be seen

ok index(join('', map { $_->{body} } $mock->journal) . ask()->body, $answer)
    >= 0, 'the canaries sing';
$t->until(sub { scalar $sink->journal });

sub silent {
    my ($what, $text, @which) = @_;

    my @heard = grep { index($text, $_) >= 0 } @which;

    ok !@heard, "$what: nothing is said"
        or diag(map { my $c = $_; my ($l) = grep { index($_, $c) >= 0 }
            split /\n/, $text; substr($l, 0, 300) . "\n" } @heard);
}

# of the debug log only our own lines are ours: nginx writes down all headers,
# also in lines without a date

sub ours {
    my ($log) = @_;

    my $is = 1;

    return join "\n", grep {
        $is = $2 ne 'debug' || $3 =~ /^llm/
            if m{^(\d+/\S+ \S+) \[(\w+)\] \S+: (?:\*\d+ )?(.*)};
        $is;
    } split /\n/, $log;
}

for my $g (@gate) {
    my $log = $g->log;
    my $name = $g == $t ? 'here' : 'there';

    like $log, qr/\[debug\] \S+: (?:\*\d+ )?llm/, "$name: a debug log"
        if $log =~ /\[debug\]/;
    cmp_ok length ours($log), '>', 10_000, 'with lines of ours';

    silent("$name: error log", ours($log), @canaries);
    silent("$name: access logs", $g->read('access.log') . $g->read('all.log'),
        @canaries);

    for my $page ('metrics', 'healthz', 'readyz') {
        silent("$name: /$page", $g->get("/$page",
            port => $g->port('PORT_ADMIN'))->body, @canaries);
    }

    my $kept = '';
    for my $file (glob $g->path('kept') . '/*') {
        open my $in, '<:raw', $file or next;
        local $/;
        $kept .= <$in> // '';
    }
    silent("$name: llm_state", $kept, @canaries);
}

silent('spans', join("\n", map { $_->{head} . $_->{body} } $sink->journal),
    @canaries);

my $stored = '';
my %types;

for my $key (@{$redis->command('KEYS', '*')}) {
    my $type = $redis->command('TYPE', $key);

    $types{$type}++;
    $stored .= "$key\n" . flat(
        $type eq 'string' ? $redis->command('GET', $key)
        : $type eq 'hash' ? $redis->command('HGETALL', $key)
        : $type eq 'list' ? $redis->command('LRANGE', $key, 0, -1)
        : $type eq 'set' ? $redis->command('SMEMBERS', $key)
        : $type eq 'zset' ? $redis->command('ZRANGE', $key, 0, -1)
        : $type eq 'stream' ? $redis->command('XRANGE', $key, '-', '+') : '');
}

sub flat {
    my ($value) = @_;
    return ref $value ? join '', map { flat($_) } @$value
        : ($value // '') . "\n";
}

ok $types{string}, 'Redis has answers';
note "in Redis: @{[%types]}, " . length($stored) . ' bytes';
silent('Redis', $stored, @canaries);

done_testing;
