#!/usr/bin/perl

# The cache in memory and in Redis: what is a hit and what a miss, what is
# stored and what is not, what a client may wish, and what a hit costs.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new;
my $seen = 0;

$t->key('user');
$t->key('colleague');
$t->key('stranger', team => 'other');
$t->key('alone', cache => { scope => 'key' });
$t->key('neighbour', cache => { scope => 'key' });
$t->key('world', cache => { scope => 'global' });
$t->key('moon', team => 'other', cache => { scope => 'global' });
$t->key('brief', cache => { ttl_s => 1 });
$t->key('busy', team => 'busy', concurrency => 1,
    queue => { size => 1, timeout_ms => 1 });
$t->key('counted', team => 'counted', requests_per_minute => 3);

# servers with other settings, by the name of their port

sub server {
    my ($port, $cache) = @_;

    return <<EOT;
    server {
        listen 127.0.0.1:%%$port%%;
        location / { llm_gateway; llm_retry tries=1; $cache }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
}

my $mock = $t->gateway(
    routes => 'llm_route nick mock:gpt-4o; llm_route * mock;',
    location => 'llm_cache on; llm_retry tries=1;',
    http => server(PORT_TTL => 'llm_cache on ttl=1s;')
        . server(PORT_REDIS => 'llm_cache on memory=0;')
        . server(PORT_SMALL => 'llm_cache on max_size=2k;')
        . server(PORT_ZERO => 'llm_cache on temperature=zero;')
        . server(PORT_OFF => ''),
);

my $hit    = '200 ngx-llm; hit; ttl=N, calls: 0';
my $miss   = '200 ngx-llm; fwd=uri-miss, calls: 1';
my $bypass = '200 ngx-llm; fwd=bypass, calls: 1';
my $reload = '200 ngx-llm; fwd=request, calls: 1';

redis_up();


# the same request twice, also after a restart of nginx

my $first = $t->chat('twice');
is outcome($first), $miss, 'the first request is a miss';
is $first->header('Age'), undef, 'without Age';

my $r = $t->chat('twice');
is outcome($r), $hit, 'the second is a hit';
my ($ttl) = $r->header('Cache-Status') =~ /ttl=(\d+)$/;
ok $ttl <= 3600 && $ttl > 3200, "ttl is the hour, or a tenth less: $ttl";
like $r->header('Age'), qr/^\d$/, 'Age';
is $r->body, $first->body, 'the same bytes';
is $r->header('Content-Type'), $first->header('Content-Type'),
    'the same type';
isnt $r->header('x-request-id'), $first->header('x-request-id'),
    'but an id of its own';
is $r->header('x-llm-attempts'), 0, 'no attempts';
is $r->header('x-llm-provider'), 'mock', 'provider of the stored answer';
is $r->header('x-llm-model'), 'gpt-4o', 'and model';

is $t->quit, 0, 'nginx stops';
$t->start;
redis_up();
$r = $t->chat('twice');
is outcome($r), $hit, 'still a hit after nginx was stopped and started';
is $r->body, $first->body, 'the same bytes';


# what makes it another request, and what does not

is outcome($t->chat('twice', body => { temperature => 0.5 })), $miss,
    'another temperature is a miss';
is outcome($t->chat('twice', body => { temperature => 0.5 })), $hit,
    'and then a hit';
is outcome($t->chat('Twice')), $miss, 'another prompt is a miss';
is outcome($t->chat('twice', model => 'gpt-4o-mini')), $miss,
    'another model is a miss';
is outcome($t->chat('twice', body => { seed => 1 })), $miss,
    'an unknown parameter is a miss';
is outcome($t->chat('twice', model => 'nick')), $hit,
    'a name that is resolved to the same model is a hit';

my $plain = '{"model":"gpt-4o","messages":[{"role":"user",'
    . '"content":"twice"}]}';

for my $other (
    [ 'other order of members', '{"messages":[{"content":"twice",'
        . '"role":"user"}],"model":"gpt-4o"}' ],
    [ 'white space', "\r\n { \"model\" : \"gpt-4o\",\t\"messages\" :\n"
        . "[ { \"role\":\"user\" , \"content\":\"twice\" } ] } \n" ],
    [ 'other escapes', '{"mod\u0065l":"gpt-\u0034o","messages":[{"role":'
        . '"user","content":"\u0074wice"}]}' ],
) {
    is outcome($t->post('/v1/chat/completions', $other->[1],
        key => 'user')), $hit, "$other->[0] is a hit";
}

is outcome(raw($plain =~ s/"twice"/"tw ice"/r)), $miss,
    'white space inside a string is a miss';

for my $same (qw(user safety_identifier prompt_cache_key)) {
    is outcome($t->chat('twice', body => { $same => 'u1' })), $hit,
        "another $same is a hit";
}

is outcome($t->chat('twice', body => { metadata => { a => 'b' } })), $hit,
    'other metadata are a hit';
is outcome($t->chat('twice', body => {
    stream_options => { include_usage => JSON::PP::true } })), $hit,
    'other stream_options are a hit';


# scopes

is outcome($t->chat('twice', key => 'colleague')), $hit,
    'another key of the team is a hit';
is outcome($t->chat('twice', key => 'stranger')), $miss,
    'another team is a miss';
is outcome($t->chat('twice', key => 'alone')), $miss,
    'scope "key" does not see the team\'s';
is outcome($t->chat('twice', key => 'alone')), $hit, 'but its own';
is outcome($t->chat('twice', key => 'neighbour')), $miss,
    'nor another key\'s of that scope';
is outcome($t->chat('twice', key => 'world')), $miss,
    'scope "global" does not see the team\'s';
is outcome($t->chat('twice', key => 'moon')), $hit,
    'but those of all teams';


# what the client wishes

my $old = $t->chat('wish')->body;
forget();

$r = $t->chat('wish', headers => { 'Cache-Control' => 'no-cache' });
is outcome($r), $reload, 'no-cache asks the provider';
isnt $r->body, $old, 'a fresh answer';
my $new = $r->body;
$r = $t->chat('wish');
is outcome($r), $hit, 'which is stored';
is $r->body, $new, 'in place of the old one';

is outcome($t->chat('wish', headers => { 'Cache-Control' => 'no-store' })),
    $bypass, 'no-store passes by';
is $t->chat('wish')->body, $new, 'and leaves what was stored';
is outcome($t->chat('unwanted',
    headers => { 'Cache-Control' => 'private, No-Store' })), $bypass,
    'no-store among others, in any case';
is outcome($t->chat('unwanted')), $miss, 'was not stored';

is outcome($t->chat('wish', headers => { 'Cache-Control' => 'max-age=0' })),
    $reload, 'max-age=0';
is outcome($t->chat('wish',
    headers => { 'Cache-Control' => 'max-age=3600' })), $hit,
    'max-age=3600 takes what is younger';
ok $t->until(sub { $t->chat('wish')->header('Age') >= 2 }, 10),
    'two seconds old';
forget();
like outcome($t->chat('wish', headers => { 'Cache-Control' => 'max-age=1' })),
    qr/^200 .*fwd=\S+, calls: 1$/, 'max-age=1 does not take it';


# what is not stored

for my $bad (
    [ 'an error 400', 400, { status => 400 } ],
    [ 'an error 500', 500, { status => 500 } ],
    [ 'an error with status 200', 502,
        { body => '{"error":{"message":"no","type":"x","param":null,'
            . '"code":null}}' } ],
    [ 'a truncated answer', 502, { truncate => 60 } ],
    [ 'an answer that was cut', 502, { cut_at => 60 } ],
    [ 'garbage', 502, { body => 'so sorry' } ],
    [ 'an answer without finish_reason', 200, { finish_reason => 'none' } ],
    [ 'an answer without choices', 200, { body => '{"choices":[]}' } ],
) {
    my ($name, $status, $rule) = @$bad;

    script({ times => 1, %$rule });
    is $t->chat("bad: $name")->status, $status, $name;
    forget();
    is outcome($t->chat("bad: $name")), $miss, "$name is not stored";
    is outcome($t->chat("bad: $name")), $hit, 'the good one is';
}

script({ times => 1, finish_reason => 'length' });
is outcome($t->chat('short')), $miss, 'finish_reason length';
is outcome($t->chat('short')), $hit, 'is a whole answer';

script({ tool_name => 'look', tool_args => '{"a": 1}' });
my $calls = $t->chat('tool')->body;
forget();
$r = $t->chat('tool');
is outcome($r), $hit, 'a tool call is a hit';
is $r->body, $calls, 'as it was';
script();

is outcome($t->chat('twins', body => { n => 2 })), $miss, 'two choices';
$r = $t->chat('twins', body => { n => 2 });
is outcome($r), $hit, 'are a hit';
is scalar @{$r->json->{choices}}, 2, 'both';


# endpoints

for my $endpoint (
    [ embeddings => { model => 'text-embedding-3-small',
        input => 'twice' } ],
    [ completions => { model => 'gpt-4o', prompt => 'twice' } ],
    [ responses => { model => 'gpt-4o', input => 'twice',
        store => JSON::PP::false } ],
) {
    my ($name, $body) = @$endpoint;

    $r = $t->post("/v1/$name", $body, key => 'user');
    is outcome($r), $miss, "$name: miss";
    my $answer = $r->body;
    $r = $t->post("/v1/$name", $body, key => 'user');
    is outcome($r), $hit, "$name: hit";
    is $r->body, $answer, "$name: the same bytes";
}

my %say = (model => 'gpt-4o', input => 'once');

for my $state (
    [ 'responses without store', 'responses', {} ],
    [ 'responses with store', 'responses', { store => JSON::PP::true } ],
    [ 'a conversation', 'responses',
        { store => JSON::PP::false, conversation => 'conv_1' } ],
    [ 'background', 'responses',
        { store => JSON::PP::false, background => JSON::PP::true } ],
    [ 'chat with store', 'chat/completions',
        { store => JSON::PP::true, messages => [{ role => 'user',
            content => 'once' }] } ],
) {
    my ($name, $path, $more) = @$state;

    for (1, 2) {
        my %body = $path eq 'responses' ? (%say, %$more)
            : (model => 'gpt-4o', %$more);
        is outcome($t->post("/v1/$path", \%body, key => 'user')), $bypass,
            "$name passes by ($_)";
    }
}


# one stored answer, in the shape that is asked for

outcome($t->chat('both'));
$r = $t->chat('both', stream => 1);
is outcome($r), $hit, 'a stream of what is stored as JSON';
like $r->header('Content-Type'), qr{^text/event-stream}, 'is a stream';
is +($r->data)[-1], '[DONE]', 'and whole';
is outcome($t->chat('both, stream first', stream => 1)), $miss, 'a stream';
$r = $t->chat('both, stream first');
is outcome($r), $hit, 'JSON of what was a stream';
is ref $r->json->{choices}, 'ARRAY', 'is JSON';


# settings of the location and of the key

is outcome($t->chat('t', port => $t->port('PORT_TTL'))), $miss, 'ttl=1s';
is outcome($t->chat('t', port => $t->port('PORT_TTL'))), $hit,
    'is a hit at first';
ok $t->until(sub { $t->chat('t', port => $t->port('PORT_TTL'))
    ->header('Cache-Status') !~ /hit/ }, 5), 'and ends';

forget();
is outcome($t->chat('ttl', key => 'brief')), $miss, 'ttl_s of the key';
ok $t->until(sub { $t->chat('ttl', key => 'brief')
    ->header('Cache-Status') !~ /hit/ }, 5), 'goes before the location\'s';
forget();

script({ match => { body => 'large' }, content_bytes => 3000 });
is outcome($t->chat('large', port => $t->port('PORT_SMALL'))), $miss,
    'an answer larger than max_size' for 1, 2;
is outcome($t->chat('small', port => $t->port('PORT_SMALL'))), $miss,
    'a smaller one';
is outcome($t->chat('small', port => $t->port('PORT_SMALL'))), $hit,
    'is stored';
script();

is outcome($t->chat('z', port => $t->port('PORT_ZERO'))), $bypass,
    'temperature=zero passes by what says no temperature';
is outcome($t->chat('z', port => $t->port('PORT_ZERO'),
    body => { temperature => 1 })), $bypass, 'or another';
is outcome($t->chat('z', port => $t->port('PORT_ZERO'),
    body => { temperature => 0 })), $miss, 'and stores 0';
is outcome($t->chat('z', port => $t->port('PORT_ZERO'),
    body => { temperature => 0 })), $hit, 'for a hit';

is outcome($t->chat('twice', port => $t->port('PORT_OFF'))),
    '200 no Cache-Status, calls: 1', 'without llm_cache there is none';


# what a hit costs: no slot, but a request of the bucket

$t->chat('quick', key => 'busy');
script({ match => { body => 'slow' }, hang => JSON::PP::true });
my $slow = $t->start_chat('slow', key => 'busy');
ok $mock->wait(in_flight => 1), 'the only slot is taken';
forget();
is $t->chat('refused', key => 'busy')->status, 429, 'so a miss is refused';
is outcome($t->chat('quick', key => 'busy')), $hit, 'but a hit is served';
$slow->abort;
ok $mock->wait(in_flight => 0), 'free again';
script();

$r = $t->chat('counted', key => 'counted');
is $r->header('x-ratelimit-remaining-requests'), 2, 'a miss takes a request';
forget();
$r = $t->chat('counted', key => 'counted');
is outcome($r), $hit, 'a hit';
is $r->header('x-ratelimit-remaining-requests'), 1, 'takes one, too';
is $t->chat('counted', key => 'counted')->status, 200, 'until';
is $t->chat('counted', key => 'counted')->status, 429, 'there are no more';


# what Redis gets to know, and what of it is believed

my $canary = 'zanzibar prompt';
my @redis = (port => $t->port('PORT_REDIS'));

# the second one shows that Redis has the first one's answer
$t->chat($canary, @redis);
like $t->chat($canary, @redis)->header('Cache-Status'), qr/hit/, 'stored';
my @keys = grep { /:c\d+:/ } @{$t->{redis}->command(KEYS => '*')};
cmp_ok scalar @keys, '>', 20, 'there are keys';
is +(grep { !/^\{llm\}:c\d+:[0-9a-f]{64}$/ } @keys), 0, 'keys are digests';
is +(grep { $t->{redis}->command(TTL => $_) <= 0 } @keys), 0,
    'all of them end';
my $all = join '', map { $t->{redis}->command(DUMP => $_) // '' }
    @{$t->{redis}->command(KEYS => '*')};
unlike $all, qr/zanzibar|sk-llm-|sk-provider/, 'no prompt, no keys';

my %before = map { $_ => 1 } @keys;
$t->chat('damage', @redis);
like $t->chat('damage', @redis)->header('Cache-Status'), qr/hit/, 'stored';
forget();
my ($key) = grep { !$before{$_} }
    @{$t->{redis}->command(KEYS => '{llm}:c*')};
ok $key, 'an entry of its own';

my $entry = $t->{redis}->command(GET => $key);
my $at = index $entry, '"choices"';
cmp_ok $at, '>', 0, 'a small one as it is';

for my $damage (
    [ 'garbage', 'garbage' ],
    [ 'nothing', '' ],
    [ 'JSON', '{"choices":[]}' ],
    [ 'a cut entry', substr $entry, 0, -10 ],
    [ 'a cut head', substr $entry, 0, 12 ],
    [ 'a longer entry', $entry . 'x' ],
    [ 'another version', substr($entry, 0, 2) . "\xff\xff"
        . substr $entry, 4 ],
    [ 'a changed byte', substr($entry, 0, $at + 3)
        . chr(ord(substr $entry, $at + 3, 1) ^ 1) . substr $entry, $at + 4 ],
) {
    my ($name, $bytes) = @$damage;

    $t->{redis}->command(SET => $key, $bytes);
    is outcome($t->chat('damage', @redis)), $miss, "$name in Redis is a miss";
    is outcome($t->chat('damage', @redis)), $hit, 'and repaired';
}

$t->{redis}->command(DEL => $key);
$t->{redis}->command(RPUSH => $key, 'a list');
is outcome($t->chat('damage', @redis)), $miss,
    'another type in Redis is a miss';

done_testing;


# status, Cache-Status and how many calls the mock saw since the last look

sub outcome {
    my ($r) = @_;

    my $now = $mock->stats->{requests};
    my $calls = $now - $seen;
    $seen = $now;

    my $said = $r->header('Cache-Status') // 'no Cache-Status';
    $said =~ s/ttl=\d+$/ttl=N/;

    return ($r->status // $r->error) . " $said, calls: $calls";
}


sub forget { outcome($t->get('/healthz')) }


sub script {
    $mock->script(@_);
    $seen = 0;
}


sub raw {
    my ($body) = @_;
    return $t->post('/v1/chat/completions', $body, key => 'user');
}


# Workers connect to Redis after their start, and ask it only when they know
# what was purged.  Who keeps nothing in memory and has a hit has it from
# there.

sub redis_up {
    ok $t->until(sub { $t->chat('up', port => $t->port('PORT_REDIS'))
        ->header('Cache-Status') =~ /hit/ }, 10), 'Redis is asked';
    forget();
}
