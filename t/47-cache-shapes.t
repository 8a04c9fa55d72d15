#!/usr/bin/perl

# One stored answer, both shapes; who has it, and for how long; that only
# whole answers are stored; what is given when the provider has none.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use Time::HiRes qw(time);

use Test::LLM;


my $json = JSON::PP->new->utf8->canonical;
my $true = JSON::PP::true;
my $false = JSON::PP::false;

my $hit    = '200 ngx-llm; hit; ttl=N, calls: 0';
my $miss   = '200 ngx-llm; fwd=uri-miss, calls: 1';
my $bypass = '200 ngx-llm; fwd=bypass, calls: 1';
my $reload = '200 ngx-llm; fwd=request, calls: 1';
my $none   = '200 no Cache-Status, calls: 1';

my $t = Test::LLM->new;
my $seen = 0;

$t->key('user');
$t->key('colleague');
$t->key('stranger', team => 'other');
$t->key('alone', cache => { scope => 'key' });
$t->key('world', cache => { scope => 'global' });
$t->key('moon', team => 'other', cache => { scope => 'global' });
$t->key('without', cache => { use => $false });
$t->key('stubborn', cache => { skip => $false });
$t->key('patient', cache => { ttl_s => 10000 });
$t->team('slow', cache => { ttl_s => 20000 });
$t->key('member', team => 'slow');
$t->key('clamped', team => 'clamped', tokens_per_minute => 1000,
    clamp_max_tokens => $true);

my @bypasses = qw(store background previous hosted_tools url n tools
    temperature);
my $http = server(NONE => 'llm_cache on; llm_cache_bypass none;')
    . server(TTL => 'llm_cache on ttl=100s;')
    . server(SMALL => 'llm_cache on max_size=3k; llm_join off;')
    . server(LOG => 'llm_cache on; llm_join on log=64k;')
    . server(A => 'llm_cache on namespace=a;')
    . server(B => 'llm_cache on namespace=b;')
    . server(ERROR => 'llm_cache on ttl=1s stale_if_error=1h;')
    . server(RENEW => 'llm_cache on ttl=1s stale_while_revalidate=1h;')
    . server(WIDE => 'llm_cache on memory=1m ttl=1s'
        . ' stale_while_revalidate=1h;')
    . join '', map { server("\U$_", "llm_cache on; llm_cache_bypass $_;") }
        @bypasses;

my $mock = $t->gateway(redis => 0, http => $http,
    routes => 'llm_route long* mock ttl=1000s; llm_route not* mock ttl=0;'
        . ' llm_route * mock;',
    location => 'llm_cache on; llm_retry tries=1;');


# one entry, both shapes

for my $shape (shapes()) {
    my ($name, $path, $body, $answer, $events) = @$shape;

    my $ask = sub {
        my ($text, %more) = @_;
        return $t->post("/v1/$path", question($path, $text,
            { %$body, %more }), key => 'user');
    };
    my @stream = (stream => $true);
    my @usage = (@stream, stream_options => { include_usage => $true });

    script({ match => { stream => $false }, %$answer },
        { match => { stream => $true }, %{$events // $answer} });

    my $first = $ask->("$name, JSON first");
    is outcome($first), $miss, "$name: JSON";
    my $whole = told($first->json);
    my $usage = $first->json->{usage};

    my $r = $ask->("$name, JSON first");
    is outcome($r), $hit, "$name: JSON again";
    is $r->body, $first->body, "$name: the same bytes";

    $r = $ask->("$name, JSON first", @stream);
    is outcome($r), $hit, "$name: as a stream";
    like $r->header('Content-Type'), qr{^text/event-stream}, "$name: is one";
    is_deeply assembled($r), $whole, "$name: and says the same";
    is usage_of($r), '', "$name: no usage"
        if $path ne 'responses';

    $r = $ask->("$name, JSON first", @usage);
    is outcome($r), $hit, "$name: a stream with usage";
    is_deeply assembled($r), $whole, "$name: says the same";
    is usage_of($r), $json->encode($usage), "$name: with the usage"
        if $path ne 'responses';

    $first = $ask->("$name, stream first", @stream);
    is outcome($first), $miss, "$name: a stream";
    $whole = assembled($first);

    $r = $ask->("$name, stream first");
    is outcome($r), $hit, "$name: as JSON";
    like $r->header('Content-Type'), qr{^application/json}, "$name: is it";
    is_deeply told($r->json), $whole, "$name: and says the same";
    is_deeply $r->json->{usage}, $usage, "$name: with the usage";

    $r = $ask->("$name, stream first", @usage);
    is outcome($r), $hit, "$name: as a stream once more";
    is_deeply assembled($r), $whole, "$name: says the same";
}

script();

my %form = map { $_ => $t->post('/v1/embeddings', { input => 'x',
    model => 'text-embedding-3-small', encoding_format => $_ },
    key => 'user') } qw(float base64);
forget();
for my $form (qw(float base64)) {
    my $r = $t->post('/v1/embeddings', { input => 'x',
        model => 'text-embedding-3-small', encoding_format => $form },
        key => 'user');
    is outcome($r), $hit, "embeddings: $form";
    is $r->body, $form{$form}->body, "embeddings: $form as it was";
    is ref $r->json->{data}[0]{embedding}, $form eq 'float' ? 'ARRAY' : '',
        "embeddings: is $form";
}
isnt $form{float}->body, $form{base64}->body, 'embeddings: two entries';


# what a hit says

my $r = $t->chat('n = 3, JSON first', body => { n => 3 }, stream => 1);
like $r->header('Cache-Status'), qr/^ngx-llm; hit; ttl=3[2-6]\d\d$/,
    'Cache-Status';
like $r->header('Age'), qr/^\d+$/, 'Age';
is $r->header('x-llm-provider'), 'mock', 'x-llm-provider';
is $r->header('x-llm-model'), 'gpt-4o', 'x-llm-model';
is $r->header('x-llm-attempts'), 0, 'x-llm-attempts';
ok $r->complete, 'complete';


# only whole answers are stored

my $error = '{"error":{"message":"no","type":"x","param":null,"code":null}}';
my $choice = '{"index":%d,"message":{"role":"assistant","content":"x"},'
    . '"finish_reason":%s}';
my $half = sprintf "{\"id\":\"x\",\"choices\":[$choice,$choice]}", 0,
    '"stop"', 1, 'null';
my $large = { content_bytes => 100_000, chunk_bytes => 1000 };
my @small = (port => $t->port('PORT_SMALL'));
my @log = (port => $t->port('PORT_LOG'));
my @late = (timeout => 0.4);

for my $bad (
    [ 'a reset', 1, { cut => 'rst', cut_events => 5 } ],
    [ 'a FIN', 1, { cut => 'close', cut_events => 5 } ],
    [ 'a FIN in the middle of an event', 1, { cut => 'close',
        cut_at => 1000 } ],
    [ 'a clean end without an end', 1, { cut => 'clean', cut_events => 5 } ],
    [ 'no events at all', 1, { cut => 'clean', cut_at => 'head' } ],
    [ 'no finish_reason', 1, { finish_reason => 'none' } ],
    [ 'no finish_reason, no [DONE]', 1, { finish_reason => 'none',
        no_done => $true } ],
    [ 'an error event', 1, { error_event => 5 } ],
    [ 'an error event and [DONE]', 1, { error_event => 5,
        error_done => $true } ],
    [ 'an error event at first', 1, { error_event => 0 } ],
    [ 'an error with status 200', 1, { body => $error } ],
    [ 'half a choice', 1, { body => "data: {\"id\":\"x\",\"choices\":["
        . '{"index":0,"delta":{"content":"x"},"finish_reason":"stop"},'
        . '{"index":1,"delta":{"content":"x"},"finish_reason":null}]}'
        . "\n\ndata: [DONE]\n\n" } ],
    [ 'a stream that is too long', 1, $large, @log ],
    [ 'a stream larger than max_size', 1, { content_bytes => 4000 },
        @small ],
    [ 'a client that leaves', 1, { pace_ms => 50 }, @late ],
    [ 'a silent provider', 1, { cut => 'hang', cut_events => 5 }, @late ],

    [ 'no finish_reason', 0, { finish_reason => 'none' } ],
    [ 'half a choice', 0, { body => $half } ],
    [ 'an error with status 200', 0, { body => $error } ],
    [ 'status 201', 0, { status => 201 } ],
    [ 'status 206', 0, { status => 206 } ],
    [ 'status 400', 0, { status => 400 } ],
    [ 'status 429', 0, { status => 429 } ],
    [ 'status 500', 0, { status => 500 } ],
    [ 'half of it', 0, { truncate => 200 } ],
    [ 'half of it and FIN', 0, { cut => 'close', cut_at => 200 } ],
    [ 'half of it and a reset', 0, { cut => 'rst', cut_at => 200 } ],
    [ 'half of it, chunked', 0, { framing => 'chunked', cut => 'close',
        cut_at => 200 } ],
    [ 'all of it without an end', 0, { framing => 'chunked',
        cut => 'close', cut_at => 600 } ],
    [ 'something behind it', 0, { body => "$half," } ],
    [ 'no choices', 0, { body => '{"id":"x","choices":[]}' } ],
    [ 'an answer larger than max_size', 0, { content_bytes => 4000 },
        @small ],
    [ 'an answer above a megabyte', 0, { content_bytes => 1_200_000 } ],
    [ 'a client that leaves', 0, { body_delay_ms => 1000 }, @late ],
) {
    my ($name, $stream, $rule, @to) = @$bad;

    $name = ($stream ? 'stream: ' : 'JSON: ') . $name;
    my @port = @to && $to[0] eq 'port' ? @to : ();

    script({ times => 1, %$rule });
    my $r = $t->chat($name, stream => $stream, @to);
    ok $t->until(sub { $mock->stats->{in_flight} == 0 }), "$name: is over";
    is $mock->stats->{requests}, 1, "$name: one call";
    is scalar(grep { $_ eq 'timeout' } $r->error // ''),
        @to && $to[0] eq 'timeout' ? 1 : 0, "$name: ended as it should";
    forget();
    is outcome($t->chat($name, stream => $stream, @port)), $miss,
        "$name: is not stored";
    is outcome($t->chat($name, stream => !$stream, @port)), $hit,
        "$name: the good one is";
}

script();

script($large);
my $long = $t->chat('long stream', stream => 1, @log);
is length $long->text, 100_000, 'one that is too long to be stored is whole';
is +($long->data)[-1], '[DONE]', 'with its end';
script();

my @cut = (key => 'clamped', body => { max_tokens => 5000 });
is outcome($t->chat('clamp', @cut)), $miss, 'a request that was cut down';
my ($asked) = map { $_->{body} =~ /"max_tokens":(\d+)/ } $mock->journal;
cmp_ok $asked, '<', 1000, "to $asked";
is outcome($t->chat('clamp', @cut)), $miss, 'is not stored';
$cut[3] = { max_tokens => 50 };
is outcome($t->chat('clamp', @cut)), $miss, 'one that fits';
is outcome($t->chat('clamp', @cut)), $hit, 'is';


# whose answers

for my $stream (0, 1) {
    my $text = "scope $stream";
    my $kind = $stream ? 'stream' : 'JSON';
    my $who = sub { outcome($t->chat($text, key => $_[0],
        stream => $_[1] // $stream)) };

    is $who->('user'), $miss, "$kind: a team's first";
    is $who->('colleague', !$stream), $hit, "$kind: its second";
    is $who->('stranger'), $miss, "$kind: another team";
    is $who->('alone'), $miss, "$kind: scope key";
    is $who->('alone', !$stream), $hit, "$kind: scope key, its own";
    is $who->('world'), $miss, "$kind: scope global";
    is $who->('moon', !$stream), $hit, "$kind: scope global, all teams";
    is $who->('without', $_), $none, "$kind: use: false, stream $_"
        for 0, 1;
}

is outcome($t->chat('use', key => 'without')), $none, 'use: false';
is outcome($t->chat('use')), $miss, 'stores nothing';
is outcome($t->chat('scope 0', key => 'without', headers =>
    { 'Cache-Control' => 'max-age=3600' })), $none, 'whatever it says';

for my $wish (qw(no-cache no-store max-age=0), 'no-cache, no-store') {
    my %ask = (headers => { 'Cache-Control' => $wish });

    is outcome($t->chat("wish $wish", key => 'stubborn', %ask)), $miss,
        "skip: false, $wish";
    is outcome($t->chat("wish $wish", key => 'stubborn', %ask)), $hit,
        'is not heard';
    is outcome($t->chat("wish $wish", %ask)),
        $wish =~ /no-store/ ? $bypass : $reload, 'but of others';
}

is outcome($t->chat('in a', port => $t->port('PORT_A'))), $miss,
    'namespace=a';
is outcome($t->chat('in a', port => $t->port('PORT_B'))), $miss,
    'is not b';
is outcome($t->chat('in a')), $miss, 'nor none';
is outcome($t->chat('in a', port => $t->port($_))), $hit, "$_: hit"
    for qw(PORT_A PORT_B PORT);

my %beta = (headers => { 'OpenAI-Beta' => 'assistants=v2' });
is outcome($t->chat('in a', %beta)), $miss, 'OpenAI-Beta is another entry';
is outcome($t->chat('in a', %beta)), $hit, 'of its own';
is outcome($t->chat('in a', headers => { 'OpenAI-Beta' => 'x=y' })), $miss,
    'another value another';

# a field in several lines is one field
my @twice = map { ['OpenAI-Beta', 'one', 'openai-beta', $_] } qw(two three);
is outcome($t->chat('in a', headers => $twice[0])), $miss, 'in two lines';
is outcome($t->chat('in a', headers => $twice[1])), $miss,
    'the second line counts';
is outcome($t->chat('in a', headers => $_)), $hit, 'hit' for @twice;
is outcome($t->chat('in a', headers => ['Cache-Control', 'max-age=3600',
    'Cache-Control', 'no-store'])), $bypass, 'so it is with Cache-Control';


# what stands behind the URL goes to the provider, too
my @version = map { { path => "/v1/chat/completions?api-version=$_" } } 1, 2;
is outcome($t->chat('in a', %$_)), $miss, "$_->{path}: miss" for @version;
is outcome($t->chat('in a', %$_)), $hit, "$_->{path}: hit" for @version;


# how long

for my $case (
    [ 'location', 100, key => 'user', port => $t->port('PORT_TTL') ],
    [ 'route', 1000, key => 'user', port => $t->port('PORT_TTL'),
        model => 'long-1' ],
    [ 'key', 10000, key => 'patient', port => $t->port('PORT_TTL'),
        model => 'long-1' ],
    [ 'team', 20000, key => 'member', port => $t->port('PORT_TTL'),
        model => 'long-1' ],
    [ 'key before ttl=0 of the route', 10000, key => 'patient',
        model => 'not-1' ],
) {
    my ($name, $ttl, @ask) = @$case;

    is outcome($t->chat("ttl $name", @ask)), $miss, "ttl: $name";
    my $r = $t->chat("ttl $name", @ask);
    is outcome($r), $hit, "ttl: $name: hit";
    my ($left) = $r->header('Cache-Status') =~ /ttl=(\d+)/;
    cmp_ok $left, '<=', $ttl, "ttl: $name: $left of $ttl";
    cmp_ok $left, '>=', $ttl * 0.9 - 3, "ttl: $name: a tenth less at most";
}

is outcome($t->chat('ttl', model => 'not-1')), $bypass, 'ttl=0 of a route'
    for 1, 2;


# what passes by

my @tools = ({ type => 'function', function => { name => 'f' } });
my $image = sub { (messages => [{ role => 'user', content => [
    { type => 'image_url', image_url => { url => $_[0] } } ] }]) };

for my $case (
    [ 'store', {}, store => $true ],
    [ 'background', {}, background => $true ],
    [ 'previous', {}, previous_response_id => 'resp_1' ],
    [ 'hosted_tools', {}, tools => [{ type => 'web_search' }] ],
    [ 'hosted_tools', { tools => \@tools },
        web_search_options => {} ],
    [ 'url', { $image->('data:image/png;base64,AAAA') },
        $image->('https://example.com/a.png') ],
    [ 'n', { n => 1 }, n => 2 ],
    [ 'n', { n => 2, seed => 1 }, n => 3 ],
    [ 'tools', { tools => [] }, tools => \@tools ],
    [ 'temperature', { temperature => 0 }, temperature => 0.7 ],
    [ 'temperature', { temperature => 1, seed => 4 } ],
) {
    my ($name, $fine, %bad) = @$case;

    my $port = $t->port("PORT_\U$name");
    my $what = join ' ', sort keys %bad;
    my $rest = $t->port('PORT_NONE');
    my $default = $name =~ /^(?:n|tools|temperature)$/ ? $hit : $bypass;

    is outcome($t->chat("$name, fine $what", body => $fine,
        port => $port)), $miss, "bypass $name: what does not";
    is outcome($t->chat("$name, fine $what", body => $fine,
        port => $port)), $hit, "bypass $name: is stored";

    is outcome($t->chat("$name, $what", body => \%bad, port => $port)),
        $bypass, "bypass $name: what does, $_" for 1, 2;
    is outcome($t->chat("$name, $what", body => \%bad, port => $rest)),
        $miss, "bypass none: $name";
    is outcome($t->chat("$name, $what", body => \%bad, port => $rest)),
        $hit, "bypass none: $name: is stored";
    # what is there is there for all servers that do not pass it by
    is outcome($t->chat("$name, $what", body => \%bad)), $default,
        "the default: $name";
}


# answers that will do when the provider has none

my @error = (port => $t->port('PORT_ERROR'));
$r = $t->chat('in need', @error);
forget();
my $old = $r->body;
is outcome($t->chat('in need', @error)), $hit, 'stale_if_error: fresh';
script({ status => 503 });
ok $t->until(sub { ($r = $t->chat('in need', @error))
    ->header('Cache-Status') =~ /ttl=-/ }, 10), 'after its time';
is $r->status, 200, 'the old one is better than a 503';
is $r->body, $old, 'as it was';
cmp_ok $r->header('Age'), '>', 0, 'and its age';
is $r->header('x-llm-provider'), 'mock', 'and provider';
cmp_ok $mock->stats->{requests}, '>', 0, 'the provider was asked';
is $r->header('retry-after'), undef, 'no word of trying again';

$r = $t->chat('in need', @error, stream => 1);
like outcome($r), qr/^200 ngx-llm; hit; ttl=N/, 'as a stream, too';
is $r->text, $json->decode($old)->{choices}[0]{message}{content},
    'with its text';
is +($r->data)[-1], '[DONE]', 'and end';

for my $case (
    [ 'a reset', 200, { cut => 'rst' } ],
    [ 'half an answer', 200, { cut_at => 100 } ],
    [ 'an error with status 200', 200, { body => $error } ],
    [ 'status 400', 400, { status => 400 } ],
    [ 'status 429', 429, { status => 429 } ],
) {
    my ($name, $status, $rule) = @$case;

    script($rule);
    is $t->chat('in need', @error)->status, $status, "stale_if_error: $name";
}

script({ status => 503 });
is $t->chat('never asked', @error)->status, 503, 'without an old one: 503';
is $t->chat('in need', @error, headers => { 'Cache-Control' => 'max-age=0' })
    ->status, 503, 'who wants no old one: 503';
script();
is outcome($t->chat('in need', @error)), $miss, 'when it is well: asked';
script({ status => 503 });
is outcome($t->chat('in need', @error)), $hit, 'and stored';
script();


# answers that will do while a new one is asked for

my @renew = (port => $t->port('PORT_RENEW'));
my $delay = 3000;

for my $stream (0, 1) {
    my $kind = $stream ? 'stream' : 'JSON';
    my @ask = (@renew, stream => $stream);
    my $text = "renewed $kind";

    my ($last, $id);

    script();
    $id = id($t->chat($text, @ask));
    script({ delay_ms => $delay });

    # the first one that is stale makes the call
    ok $t->until(sub { $last = $t->chat($text, @ask);
        $mock->stats->{requests} }, 10), "$kind: after its time";
    is id($last), $id, "$kind: the old one";

    my @many = map { $t->start_chat($text, @ask) } 1 .. 100;
    $_->wait for @many;
    is scalar(grep { $_->complete && $_->status == 200 && id($_) eq $id }
        @many), 100, "$kind: a hundred have it, too";

    my ($slow) = sort { $b <=> $a } map { $_->end } @many, $last;
    cmp_ok $slow, '<', $delay / 1000 * 0.7, "$kind: at once: $slow s";
    is $mock->stats->{requests}, 1, "$kind: one call for all";
    ok $mock->wait(done => 1), "$kind: that comes to its end";
    ok $t->until(sub { id($t->chat($text, @ask)) ne $id }),
        "$kind: then there is a new one";
    is $mock->stats->{requests}, 1, "$kind: still one call";
}

# a large one, for a client that reads slowly: it has all of it before the new
# one comes, and so has the next one

my @wide = (port => $t->port('PORT_WIDE'));

for my $stream (0, 1) {
    my $kind = $stream ? 'stream' : 'JSON';
    my $content = { content_bytes => 900_000 };
    my @ask = (@wide, stream => $stream);

    script($content);
    my $first = $t->chat("wide $kind", @ask);
    my $id = id($first);
    script({ %$content, delay_ms => $delay });

    my $r;
    ok $t->until(sub { $r = $t->start_chat("wide $kind", @ask, rcvbuf => 4096,
        paused => 1); Test::LLM::HTTP->idle(0.1); $r->resume; $r->wait;
        $mock->stats->{requests} }, 10), "wide: $kind: after its time";
    is id($r), $id, "wide: $kind: the old one";
    ok $r->complete, "wide: $kind: complete";
    cmp_ok $r->end, '<', $delay / 1000 * 0.7, "wide: $kind: at once: "
        . $r->end;
    is length($stream ? $r->text : $r->json->{choices}[0]{message}{content}),
        900_000, "wide: $kind: all of it";
    ok $mock->wait(done => 1), "wide: $kind: the call comes to its end";
    ok $t->until(sub { id($t->chat("wide $kind", @ask)) ne $id }),
        "wide: $kind: then there is a new one";
}

# who leaves with the stale one, and who gets nothing new

for my $case (
    [ 'the client leaves', {}, 1 ],
    [ 'a 503', { status => 503 } ],
    [ 'a 400', { status => 400 } ],
    [ 'a reset', { cut => 'rst' } ],
    [ 'a stream that breaks', { cut => 'rst', cut_events => 3 } ],
    [ 'half an answer', { cut_at => 100 } ],
) {
    my ($name, $rule, $renewed) = @$case;

    for my $stream (0, 1) {
        my $kind = $stream ? 'stream' : 'JSON';
        my @ask = (@renew, stream => $stream);

        script();
        my $id = id($t->chat("$name $kind", @ask));
        script({ delay_ms => 300, %$rule });
        my $bytes;
        ok $t->until(sub { $bytes = raw($t->chat_spec("$name $kind", @ask));
            $mock->stats->{requests} }, 10), "$name: $kind: stale";
        is scalar(() = $bytes =~ m{^HTTP/1}mg), 1,
            "$name: $kind: one answer";
        like $bytes, qr/\Q$id\E/, "$name: $kind: the old one";
        unlike $bytes, qr/"error"/, "$name: $kind: without an error";
        ok $mock->wait(in_flight => 0), "$name: $kind: the call has ended";
        ok !$renewed || $t->until(sub { id($t->chat("$name $kind", @ask))
            ne $id }), "$name: $kind: renewed";
        script();
        ok $t->until(sub { id($t->chat("$name $kind", @ask)) ne $id }),
            "$name: $kind: and then, a new one";
        script();
    }
}


# another gateway has it from Redis, in either shape

my ($x, $y) = map { Test::LLM->new } 1, 2;
my $redis = $x->redis;

$mock = $x->gateway(location => 'llm_cache on; llm_retry tries=1;');
$y->token(REDIS => $redis->url);
$y->token(MOCK => $x->token('MOCK'));
$y->gateway(location => 'llm_cache on; llm_retry tries=1;');
$y->reload($y->{template} =~ s/16m %%ZONE%%;/16m cache=0;/r);

for my $g ($x, $y) {
    my $n = 0;

    # what was stored by the one is there for the other, once both know Redis
    ok $g->until(sub { $n++; ($g == $x ? $y : $x)->chat("up $n", body =>
        { temperature => $g == $x ? 0 : 1 });
        $g->chat("up $n", body => { temperature => $g == $x ? 0 : 1 })
            ->header('Cache-Status') =~ /hit/ }, 10), 'Redis is asked';
}

script();

for my $stream (0, 1) {
    my $kind = $stream ? 'stream' : 'JSON';

    for my $case ([ $x, $y ], [ $y, $x ]) {
        my ($from, $to) = @$case;
        my $text = "shared $kind " . ($from == $x ? 1 : 2);

        my $first = $from->chat($text, stream => $stream);
        is outcome($first), $miss, "Redis: $kind, stored";

        for my $other ($stream, !$stream) {
            # it is on its way to Redis when the client has its answer
            my $r;
            ok $to->until(sub { $redis->command('PING');
                ($r = $to->chat($text, stream => $other))
                    ->header('Cache-Status') =~ /hit/ }),
                "Redis: $kind, a hit of the other gateway";
            is outcome($r), $hit, "Redis: $kind, at once";
            is id($r), id($first), "Redis: $kind, the same";
            is $other ? $r->text : $r->json->{choices}[0]{message}{content},
                'Hello from the mock provider, which always says the same.',
                "Redis: $kind, and whole";
            is $r->header('x-llm-provider'), 'mock', "Redis: $kind: provider";
            is $r->header('x-llm-model'), 'gpt-4o', "Redis: $kind: model";
            like $r->header('Age'), qr/^\d+$/, "Redis: $kind: Age";
        }
    }
}

like metrics($x), qr/^llm_cache_entries [1-9]/m, 'in memory, too';
unlike metrics($y), qr/^llm_cache_entries [1-9]/m, 'cache=0: not in memory';


# memory that is full: the oldest ones go

my $z = Test::LLM->new;
$mock = $z->gateway(redis => 0, location => 'llm_cache on;');
$z->reload($z->{template} =~ s/16m %%ZONE%%;/16m cache=1m;/r);

script({ content_bytes => 3000 });
my %ids = map { $_ => id($z->chat($_)) } qw(once used);
for my $n (1 .. 400) {
    $z->chat("fill $n");
    $z->chat('used') if $n % 20 == 0;
}
forget();

is outcome($z->chat('used')), $hit, 'full: what is used is there';
is id($z->chat('used')), $ids{used}, 'full: since the beginning';
is outcome($z->chat('fill 400')), $hit, 'full: what came last, too';
is outcome($z->chat('once')), $miss, 'full: what was not used is gone';
is outcome($z->chat('once')), $hit, 'full: and has its place again';

my %metric = metrics($z) =~ /^(llm_cache_\w+) (\d+)$/mg;
cmp_ok $metric{llm_cache_evictions_total}, '>', 100, 'full: evictions';
cmp_ok $metric{llm_cache_entries}, '>', 50, 'full: entries';
is $metric{llm_cache_entries} + $metric{llm_cache_evictions_total}, 403,
    'full: each is there or gone';
cmp_ok $metric{llm_cache_bytes}, '<=', $metric{llm_cache_size_bytes},
    'full: within its size';
cmp_ok $metric{llm_cache_size_bytes}, '<=', 1024 * 1024, 'full: a megabyte';
is $metric{llm_cache_too_large_total}, 0, 'full: none too large';
is scalar(grep { !/\[(?:info|notice)\]/ } split /^/, $z->log), 0,
    'full: no word in the log';

done_testing;


# a server with other settings, by the name of its port

sub server {
    my ($port, $cache) = @_;

    return <<EOT;
    server {
        listen 127.0.0.1:%%PORT_$port%%;
        client_max_body_size 16m;
        client_body_buffer_size 1m;
        location / { llm_gateway; llm_retry tries=1; $cache }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
}


# status, Cache-Status and how many calls the mock saw since the last look

sub outcome {
    my ($r) = @_;

    my $now = $mock->stats->{requests};
    my $calls = $now - $seen;
    $seen = $now;

    my $said = $r->header('Cache-Status') // 'no Cache-Status';
    $said =~ s/ttl=-?\d+$/ttl=N/;

    return ($r->status // $r->error) . " $said, calls: $calls";
}


sub forget { outcome($t->get('/healthz')) }


sub metrics {
    my ($g) = @_;
    return $g->get('/metrics', port => $g->port('PORT_ADMIN'))->body;
}


sub script {
    $mock->script(@_);
    $seen = 0;
}


# the answer's id, in either shape

sub id {
    my ($r) = @_;
    return $r->body =~ /"id":"(chatcmpl-\w+)"/ ? $1 : 'none';
}


# all bytes until the server closes

sub raw {
    my ($spec) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $spec->{port}) or die "connect: $!\n";
    print $socket Test::LLM::HTTP::request_bytes(%$spec,
        headers => [@{$spec->{headers}}, Connection => 'close']);
    $socket->flush;
    local $/;

    return <$socket> // '';
}


sub question {
    my ($path, $text, $more) = @_;

    return { model => 'gpt-4o', %$more, $path eq 'responses'
        ? (input => $text, store => $false) : $path eq 'completions'
        ? (prompt => $text)
        : (messages => [{ role => 'user', content => $text }]) };
}


# name, endpoint, request, mock's rule for JSON, and for a stream if another

sub shapes {
    my @args = (tool_name => 'look', tool_args => '{"a": "b\u00e9\"c"}');
    my %usage = (prompt_tokens => 7, completion_tokens => 9,
        total_tokens => 16);
    my @top = (id => 'chatcmpl-1', created => 1, model => 'gpt-4o');
    my @probs = map { { token => $_, logprob => -0.25, bytes => [ord],
        top_logprobs => [] } } qw(a b c);
    my @calls = map { { id => "call_$_", type => 'function', function => {
        name => "f$_", arguments => "{\"x\":$_}" } } } 0, 1;

    my $both = sub {
        my ($whole, @deltas) = @_;

        my $answer = { @top, object => 'chat.completion', usage => \%usage,
            choices => [{ index => 0, %$whole }] };
        my @chunks = map { my $last = $_ == $#deltas;
            +{ @top, object => 'chat.completion.chunk', usage => undef,
                choices => [{ index => 0, finish_reason => $last
                    ? $whole->{finish_reason} : undef, %{$deltas[$_]} }] }
        } 0 .. $#deltas;
        push @chunks, { @top, object => 'chat.completion.chunk',
            usage => \%usage, choices => [] };

        return ({ body => $json->encode($answer) }, { body => join '',
            map { "data: $_\n\n" } map({ $json->encode($_) } @chunks),
                '[DONE]' });
    };

    return (
        [ 'chat', 'chat/completions', {}, {} ],
        [ 'n = 3', 'chat/completions', { n => 3 }, {} ],
        [ 'length', 'chat/completions', {}, { finish_reason => 'length' } ],
        [ 'long', 'chat/completions', {}, { content_bytes => 20_000 } ],
        [ 'signs', 'chat/completions', {},
            { content => "\x{e9}\"\\\n\t\x{1F600}\x{2028} </script>" x 50 } ],
        [ 'empty', 'chat/completions', {}, { content => '' } ],
        [ 'tool call', 'chat/completions', { tools => [{ type => 'function',
            function => { name => 'look' } }] }, { @args } ],
        [ 'completions', 'completions', {}, {} ],
        [ 'completions, n = 2', 'completions', { n => 2 }, {} ],
        [ 'responses', 'responses', {}, {} ],
        [ 'responses, tool call', 'responses', {}, { @args } ],
        [ 'two tool calls', 'chat/completions', {}, $both->(
            { message => { role => 'assistant', content => undef,
                tool_calls => \@calls }, finish_reason => 'tool_calls' },
            { delta => { role => 'assistant', content => undef,
                tool_calls => [{ index => 0, %{$calls[0]}, function => {
                    name => 'f0', arguments => '' } }] } },
            { delta => { tool_calls => [{ index => 0, function => {
                arguments => '{"x"' } }] } },
            { delta => { tool_calls => [{ index => 0, function => {
                arguments => ':0}' } }] } },
            { delta => { tool_calls => [{ index => 1, %{$calls[1]} }] } },
            { delta => {} }) ],
        [ 'refusal', 'chat/completions', {}, $both->(
            { message => { role => 'assistant', content => undef,
                refusal => 'I will not.' }, finish_reason => 'stop' },
            { delta => { role => 'assistant', refusal => 'I wi' } },
            { delta => { refusal => 'll not.' } }, { delta => {} }) ],
        [ 'logprobs', 'chat/completions', { logprobs => $true }, $both->(
            { message => { role => 'assistant', content => 'abc' },
                logprobs => { content => \@probs, refusal => undef },
                finish_reason => 'stop' },
            { delta => { role => 'assistant', content => '' },
                logprobs => undef },
            (map { { delta => { content => $_->{token} },
                logprobs => { content => [$_], refusal => undef } } }
                @probs),
            { delta => {}, logprobs => undef }) ],
    );
}


# what a client makes of JSON, and of a stream, in the same form

sub told {
    my ($answer) = @_;

    return { output => $answer->{output}, id => $answer->{id},
        status => $answer->{status} } if $answer->{output};

    return { (map { $_ => $answer->{$_} } qw(id created model)),
        choices => [map { choice($_) } @{$answer->{choices}}] };
}


sub choice {
    my ($choice) = @_;

    my $m = $choice->{message} // {};
    my %said = (text => $choice->{text}, index => $choice->{index},
        finish => $choice->{finish_reason}, role => $m->{role},
        content => $m->{content}, refusal => $m->{refusal},
        logprobs => ($choice->{logprobs} // {})->{content},
        calls => !$m->{tool_calls} ? undef : [map {
            join '|', $_->{id}, $_->{type}, $_->{function}{name},
                $_->{function}{arguments} } @{$m->{tool_calls}}]);

    return { map { $_ => $said{$_} } grep { defined $said{$_} } keys %said };
}


sub assembled {
    my ($r) = @_;

    my @events = grep { $_ ne '[DONE]' } $r->data;
    my @chunks = map { $json->decode($_) } @events;

    if (($chunks[0]{type} // '') =~ /^response\./) {
        is join(' ', map { $_->{sequence_number} } @chunks),
            join(' ', 0 .. $#chunks), 'events are numbered';
        is join(' ', map { $_->{event} } @{$r->events}),
            join(' ', map { $_->{type} } @chunks), 'and named';
        is join('', map { $_->{type} =~ /\.delta$/ ? $_->{delta} : () }
            @chunks), join('', map { $_->{arguments} // map { $_->{text} }
            @{$_->{content}} } @{$chunks[-1]{response}{output}}),
            'deltas are the text';

        return told($chunks[-1]{response});
    }

    is +($r->data)[-1], '[DONE]', 'the end';

    my %whole = map { my $name = $_; $name => (map { $_->{$name} }
        @chunks)[0] } qw(id created model);
    my @choices;

    for my $chunk (@chunks) {
        is $chunk->{id}, $whole{id}, 'one id' if $chunk->{id} ne $whole{id};

        for my $part (@{$chunk->{choices}}) {
            my $c = $choices[$part->{index}] //= { index => $part->{index} };
            my $m = $c->{message} //= {};
            my $d = $part->{delta} // {};

            $c->{finish_reason} //= $part->{finish_reason};
            $c->{text} .= $part->{text} if defined $part->{text};
            $m->{role} //= $d->{role};
            defined $d->{$_} and $m->{$_} .= $d->{$_} for qw(content refusal);
            push @{$c->{logprobs}{content}}, @{$part->{logprobs}{content}}
                if ref $part->{logprobs} eq 'HASH';

            for my $call (@{$d->{tool_calls} // []}) {
                my $k = $m->{tool_calls}[$call->{index}] //= {};
                $k->{$_} //= $call->{$_} for qw(id type);
                $k->{function}{name} //= $call->{function}{name};
                $k->{function}{arguments} .= $call->{function}{arguments}
                    // '';
            }
        }
    }

    return told({ %whole, choices => \@choices });
}


# the usage of a chat stream, as JSON; with it the other chunks say null

sub usage_of {
    my ($r) = @_;

    my @chunks = map { $json->decode($_) } grep { $_ ne '[DONE]' } $r->data;
    my @with = grep { $_->{usage} } @chunks;

    is scalar(@{$with[0]{choices}}), 0, 'the usage is alone' if @with;
    is scalar(grep { exists $_->{usage} } @chunks), scalar @chunks,
        'the others say null' if @with;

    return @with == 1 ? $json->encode($with[0]{usage}) : @with ? 'many' : '';
}
