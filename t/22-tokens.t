#!/usr/bin/perl

# Tokens per minute and per day: reserved before, settled after, never more
# than there are and never refused while there are enough.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use POSIX qw(ceil);
use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

# a bucket that is large and hardly leaks, so that numbers can be compared

my @large = (requests_per_minute => 1, burst_requests => 1000,
    tokens_per_minute => 1, burst_tokens => 100_000);

$t->key('teacher');
$t->key('crowd', tokens_per_minute => 1000);
$t->key('mixed', tokens_per_minute => 1000);
$t->key($_, @large) for qw(settle caps three guess errors leaver early pays
    bare usage retry bad vector reply drain absurd
    huge-1 huge-2);
$t->key('quarter', @large, burst_tokens => 400);
$t->key('narrow', @large, burst_tokens => 100_000, tokens_per_day => 200);
$t->key('debt', tokens_per_minute => 6000, burst_tokens => 100);
$t->key('small', @large, burst_tokens => 100);
$t->key('told', tokens_per_minute => 600, burst_tokens => 100);
$t->key('day', tokens_per_day => 100);

$t->team('pool', tokens_per_minute => 1, burst_tokens => 200);
$t->key("pool-$_", team => 'pool') for 1, 2;

my $mock = $t->gateway(redis => 0, mock => ['--journal', 16384],
    location => 'llm_retry tries=2 base=10ms;
        }
        location = /v1/completions {
            llm_gateway;
            llm_timeout drain=10s;');

# forty bytes: at four bytes per token the ten tokens that the mock says

my $prompt = 'How many tokens are there in this line?!';
my ($r, @r, $free);


sub metric {
    my ($name) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;

    return $page =~ /^\Q$name\E (\d+)$/m ? $1 : -1;
}


# milliseconds of "6m0s", "12s", "174ms"

sub duration {
    my ($text) = @_;

    return undef if !defined $text
        || $text !~ /^(?=\d)(?:(\d+)h)?(?:(\d+)m(?!s))?
            (?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?$/x;

    return ((($1 // 0) * 60 + ($2 // 0)) * 60 + ($3 // 0)) * 1000
        + ($4 // 0);
}


sub ask {
    my ($key, %spec) = @_;

    my %body = %{delete $spec{body} // {}};
    $body{max_tokens} = delete $spec{max} if $spec{max};

    return $t->start_chat(delete $spec{text} // $prompt, key => $key,
        timeout => 30, body => \%body, %spec);
}


sub answer {
    my $r = ask(@_);
    $r->wait;
    return $r;
}


# what is left in the buckets, told to a request that is too large for any

sub left {
    my ($key) = @_;

    my $r = answer($key, max => 2_000_000_000, model => 'too-large');

    return ($r->header('x-ratelimit-remaining-tokens') // -1,
        $r->header('x-ratelimit-remaining-requests') // -1);
}


sub used { 100_000 - (left($_[0]))[0] }


# the request is over, also for the gateway

sub over {
    my ($what) = @_;
    ok $t->until(sub { metric('llm_ledger_tickets_used') == 0 }), "$what ends";
}


sub between {
    my ($got, $least, $most, $what) = @_;
    ok $got >= $least && $got <= $most, "$what: $got of $least to $most";
}


# the last answers of a model are what the next are expected to be

sub teach {
    my ($model, $n, %spec) = @_;

    my @r = map { ask('teacher', model => $model, %spec) } 1 .. $n;
    $_->wait for @r;
    is +(grep { ($_->status // 0) == 200 && $_->complete } @r), $n,
        "$n answers of $model";
}


# headers

$mock->script();

$r = answer('reply', max => 500);
is $r->status, 200, 'an answer';
is $r->header('x-ratelimit-limit-tokens'), 100_000, 'limit';
between($r->header('x-ratelimit-remaining-tokens'), 100_000 - 530,
    100_000 - 30, 'remaining');
between(duration($r->header('x-ratelimit-reset-tokens')), 29 * 60_000,
    530 * 60_000, 'reset: until all is back');
is answer('teacher')->header('x-ratelimit-limit-tokens'), undef,
    'no limit, no headers';


# reserved, then settled

sub reserved {
    my ($key, $least, $most, $what, %spec) = @_;

    my $path = delete $spec{path};

    $mock->script({ hang => \1 });

    my $r = $path ? $t->start_post($path, $spec{body}, key => $key)
        : ask($key, %spec);
    ok $mock->wait(in_flight => 1), "$what: asks the provider";
    between(used($key), $least, $most, "$what: reserved");
    $r->abort;
    over($what);
    $mock->script();
}


reserved('settle', 5001, 5040, 'a cap', model => 'cap', max => 5000);
$free = (left('settle'))[0];
between(100_000 - $free, 1, 40, 'who leaves before the answer pays for the '
    . 'prompt');

$r = answer('settle', model => 'cap', max => 50_000);
is $r->status, 200, 'a huge cap';
between($free - (left('settle'))[0], 29, 30, 'is settled to what was used');

answer('settle', model => 'cap', max => 5) for 1 .. 4;
between($free - (left('settle'))[0], 149, 150,
    'and a cap that is too small as well');

reserved('caps', 60_001, 60_040, 'the larger of two caps',
    model => 'larger', body => { max_tokens => 1,
    max_completion_tokens => 60_000 });
reserved('three', 3001, 3040, 'a cap for each of three', model => 'n',
    body => { n => 3, max_tokens => 1000 });

# the first one has left, and paid for its prompt

my $before = used('caps');
reserved('caps', $before + 7001, $before + 7040, 'the cap of a response',
    path => '/v1/responses', body => { model => 'larger', input => $prompt,
    max_output_tokens => 7000 });

$before = used('caps');
reserved('caps', $before + 1, $before + 20, 'an embedding has no answer',
    path => '/v1/embeddings', body => { model => 'vector',
    input => $prompt });

reserved('guess', 100, 1100, 'no cap: a guess', model => 'unknown');

$mock->script({ hang => \1 });
$r = ask('quarter', model => 'unknown');
$mock->wait(in_flight => 1);
between(400 - (left('quarter'))[0], 20, 115,
    'which is at most a quarter of the limit');
$r->abort;
over('a guess');

$mock->script({ hang => \1 });
$r = ask('narrow', model => 'unknown');
$mock->wait(in_flight => 1);
between(used('narrow'), 10, 65, 'of the day\'s, too');
$r->abort;
over('a guess');

$mock->script();
teach('known', 30);
$before = used('guess');
reserved('guess', $before + 25, $before + 40,
    'what a model usually writes is known in time', model => 'known');

$mock->script({ prompt_tokens => 12 });
$r = $t->post('/v1/embeddings', { model => 'vector', input => $prompt },
    key => 'vector');
is $r->status, 200, 'an embedding';
between(used('vector'), 11, 12, 'takes its prompt');


# a team's bucket

$mock->script();
my $served = 0;

for (1 .. 12) {
    my $key = 'pool-' . ($_ % 2 + 1);
    $served++ if answer($key, model => 'pool', max => 20)->status == 200;
}

is($served, 6, 'two keys share their team\'s tokens');
is $mock->stats->{requests}, $served, 'who was refused was not served';
is +(left('pool-1'))[0], (left('pool-2'))[0], 'and see the same rest';


# debt

$mock->script({ times => 1, prompt_tokens => 10, completion_tokens => 160 });
is answer('debt', model => 'debt', max => 20)->status, 200,
    'an answer that is larger than all there is';
$r = answer('debt', model => 'debt', max => 20);
is $r->status, 429, 'is to be paid back';
is $r->header('x-ratelimit-remaining-tokens'), 0, 'nothing remains';

my ($limit, $level, $need) = ($r->json->{error}{message}
    =~ /Limit (\d+), Used (\d+), Requested (\d+)/);
my $wait = $r->header('retry-after-ms') // 0;

is $limit, 100, 'the message tells the limit';
cmp_ok $level, '>', 100, 'and more than that as used';
between($wait, ($level + $need - 101) * 10, ($level + $need - 99) * 10 + 1,
    'retry-after-ms is what the debt needs');

Test::LLM::HTTP->idle($wait * 0.0005);
is answer('debt', model => 'debt', max => 20)->status, 429, 'too early';
Test::LLM::HTTP->idle($wait * 0.0005);
is answer('debt', model => 'debt', max => 20)->status, 200,
    'who waits as he was told is served';


# what a provider refuses costs no tokens, but the request

my $count = 0;

sub refunded {
    my ($status, $what, $rule, %spec) = @_;

    $mock->script($rule);
    is answer('errors', max => 5000, %spec)->status, $status, $what;
    over($what);

    my ($tokens, $requests) = left('errors');
    is $tokens, 100_000, "$what: no tokens";
    is $requests, 1000 - ++$count, "$what: but the request";
}

refunded(400, 'a bad request', { status => 400 });
refunded(500, 'an error and a retry', { status => 500 });
refunded(429, 'the provider\'s own limit', { status => 429 });
refunded(502, 'a reset', { cut => 'rst' });
refunded(502, 'an answer that is cut', { cut => 'close', cut_at => 100 });
refunded(504, 'no answer', { hang => \1 },
    headers => { 'x-request-timeout-ms' => 300 });

$mock->script({ times => 1, status => 500 });
is answer('retry', max => 5000)->header('x-llm-attempts'), 2, 'a retry';
between(used('retry'), 29, 30, 'is charged once');


# what never gets to a provider takes nothing

for my $case (['max_tokens' => -1], ['max_tokens' => 0],
    ['max_tokens' => 1.5], ['max_tokens' => '5'], ['max_tokens' => 1e15],
    ['max_completion_tokens' => -1], ['max_completion_tokens' => []],
    ['n' => 1000], ['n' => 0], ['n' => -1], ['n' => 1.5], ['n' => '2'])
{
    my ($name, $value) = @$case;

    $r = answer('bad', body => { $name => $value });
    is $r->status, 400, "$name " . (ref $value ? 'array' : $value);
    is $r->json->{error}{param}, $name, 'names it';
}

is_deeply [left('bad')], [100_000, 1000], 'and takes nothing';


# who leaves in mid-stream pays for what has been streamed; forty bytes of
# text are ten tokens

my %stream = (stream => 1, model => 'stream');

$mock->script({ chunks => 10, chunk_bytes => 40, prompt_tokens => 10,
    completion_tokens => 100 });
teach('stream', 30, %stream);

$mock->script({ chunks => 200, chunk_bytes => 40, pace_ms => 10,
    prompt_tokens => 10, completion_tokens => 2000 });

for my $case (['RST', 60], ['FIN', 30]) {
    my ($how, $events) = @$case;

    $before = used('leaver');
    $r = ask('leaver', %stream);
    ok $r->wait_events($events), "a stream, left by $how";
    $how eq 'RST' ? $r->abort : $r->close;
    ok $mock->wait(in_flight => 0), 'is left at once';
    over('it');

    # one of the events is the role; some more were on their way

    my $tokens = 10 + 10 * ($events - 1);
    my ($sent) = reverse $mock->journal;
    my $most = 10 + 10 * ($sent->{sent_length} / 200);
    $most = $tokens + 100 if $most > $tokens + 100;
    between(used('leaver') - $before, int($tokens * 0.9), ceil($most * 1.1),
        'and charged what was streamed');
}

$r = ask('early', stream => 1, model => 'fresh');
ok $r->wait_events(20), 'a stream of a model that nobody knows';
$r->abort;
over('it');
between(used('early'), 50, 1000, 'is not for nothing');

$mock->script({ body_delay_ms => 20_000 });
$r = ask('pays', model => 'fresh');
$mock->wait(in_flight => 1);
Test::LLM::HTTP->idle(0.1);
$r->close;
over('an answer that nobody waited for');
between(used('pays'), 1, 60, 'is not for nothing, either');


# what whole answers teach is right for streams, too: 57 bytes, 20 tokens

$mock->script();
teach('taught', 40);
$mock->script({ chunks => 200, chunk_bytes => 40, pace_ms => 10 });
$before = used('early');
$r = ask('early', stream => 1, model => 'taught');
ok $r->wait_events(41), 'a stream after many whole answers';
$r->abort;
over('it');
between(used('early') - $before, 360, 750, 'is charged by its text');


# who leaves a call that goes on pays what it says in the end

$mock->script({ body_delay_ms => 500, prompt_tokens => 12,
    completion_tokens => 40 });
$r = $t->start_post('/v1/completions', { model => 'drain',
    prompt => $prompt, max_tokens => 5000 }, key => 'drain');
ok $mock->wait(in_flight => 1), 'a call that outlives its client';
$r->close;
between(used('drain'), 5001, 5040, 'keeps its reservation');
ok $mock->wait(done => 1), 'goes on';
over('it');
between(used('drain'), 51, 52, 'and is charged what it used');


# without usage

$mock->script({ chunks => 40, chunk_bytes => 40, usage => 'none' });
$r = answer('bare', %stream);
ok $r->complete, 'a stream without usage';
between(used('bare'), 410 * 0.9, 410 * 1.1, 'is charged by its text');

$before = used('bare');
$mock->script({ content_bytes => 400, usage => 'none' });
is answer('bare', model => 'stream')->status, 200, 'an answer without usage';
between(used('bare') - $before, 99, 330, 'as well');

$before = used('bare');
$mock->script({ content_bytes => 400, usage => 'none' });
$r = answer('bare', model => 'never-seen', max => 5000);
between(used('bare') - $before, 60, 1000, 'of a model that nobody knows');


# usage that nobody can believe: nothing is given, nothing breaks

sub claims {
    my ($key, $usage) = @_;

    $usage =~ s/\s+/ /g;
    $mock->script({ body => '{"id": "x", "object": "chat.completion",
        "created": 1, "model": "m", "choices": [{"index": 0, "message":
        {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": ' . $usage . '}' });

    my $before = used($key);
    is answer($key, model => "absurd", max => 100)->status, 200,
        "usage: $usage";
    over('it');

    return used($key) - $before;
}

for my $usage ('{"prompt_tokens": -50, "completion_tokens": -50,
        "total_tokens": -100}', '{"prompt_tokens": -9223372036854775808,
        "completion_tokens": 1}', '{"prompt_tokens": "7"}', 'null', '[]',
    '"x"', '{}', '{"prompt_tokens": 1.5, "completion_tokens": 1e1}',
    '{"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details":
        {"cached_tokens": 1000}}', '{"prompt_tokens_details": null}')
{
    between(claims('absurd', $usage), 1, 400, 'is charged something');
}

my %huge = ('huge-1' => '{"prompt_tokens": 9223372036854775807,
        "completion_tokens": 9223372036854775807}',
    'huge-2' => '{"prompt_tokens": 5000000000, "completion_tokens": 0}');

for my $key (sort keys %huge) {
    claims($key, $huge{$key});
    is((left($key))[0], 0, 'is believed as far as it goes');

    $r = answer($key, max => 10);
    is $r->status, 429, 'the next is refused';
    cmp_ok $r->header('retry-after-ms') // 0, '>', 86_400_000,
        'for a long time';
    is $r->header('x-should-retry'), 'false', 'not worth waiting for';
}


# usage that the client did not ask for

$mock->script({ prompt_tokens => 50, completion_tokens => 70 });
$r = answer('usage', stream => 1);
ok $r->complete, 'a stream';
like(($mock->journal)[0]->{body}, qr/"include_usage":\s*true/,
    'the provider is asked for its usage');
between(used('usage'), 119, 120, 'which is charged');
unlike $r->body, qr/"total_tokens"/, 'the client does not see it';
is +(grep { $_ eq '[DONE]' } $r->data), 1, 'nor that anything is missing';

$before = used('usage');
$r = answer('usage', stream => 1, body => { stream_options => {
    include_usage => \1 } });
like $r->body, qr/"total_tokens":\s*120/, 'who asks for it sees it';
between(used('usage') - $before, 119, 120, 'and pays the same');


# 429: in the words that clients know

$mock->script();
is answer('told', max => 60)->status, 200, 'a bucket is nearly spent';
$r = answer('told', max => 70);

is $r->status, 429, 'no room for more';

my $error = ($r->json // {})->{error} // {};
is_deeply [sort keys %$error], [qw(code message param type)], 'shape';
is $error->{code}, 'rate_limit_exceeded', 'code';
is $error->{type}, 'tokens', 'type';
is $error->{param}, undef, 'param';

like $error->{message}, qr/^Rate limit reached for gpt-4o in key told on /,
    'the message names whose limit';
like $error->{message}, qr/ on tokens per min \(TPM\): Limit 100, Used \d+, /,
    'which limit';
like $error->{message}, qr/ Requested \d+\. Please try again in [\d.]+m?s\.$/,
    'and what to do';

($limit, $level, $need) = ($error->{message}
    =~ /Limit (\d+), Used (\d+), Requested (\d+)/);
cmp_ok $level + $need, '>', $limit, 'it would not have fit';
between($level, 20, 30, 'used');
between($need, 71, 100, 'requested');

$wait = $r->header('retry-after-ms');
between($wait, 1, 5000, 'retry-after-ms');
is $r->header('retry-after'), ceil($wait / 1000), 'retry-after';
is $r->header('x-should-retry'), undef, 'waiting helps';
between($r->header('x-ratelimit-remaining-tokens'), 100 - $level,
    101 - $level, 'remaining');

my ($again) = $error->{message} =~ /try again in ([\d.hms]+?)\.$/;
between(duration($again), $wait, $wait + 100, 'the message says when');
is $mock->stats->{requests}, 1, 'the provider has not seen it';


# 413: it would never fit

for my $case (['a prompt', text => 'x' x 8000],
    ['a cap', max => 200], ['n caps', body => { n => 4, max_tokens => 40 }])
{
    my ($what, @spec) = @$case;

    $r = answer('small', @spec);
    is $r->status, 413, "$what larger than the bucket";

    $error = ($r->json // {})->{error} // {};
    is_deeply [sort keys %$error], [qw(code message param type)], 'shape';
    is $error->{code}, 'request_too_large', 'code';
    like $error->{message}, qr/\b100\b/, 'the message tells the limit';
    is $r->header('retry-after'), undef, 'no time to come again';
    is $r->header('retry-after-ms'), undef, 'in no unit';
    is $r->header('x-should-retry'), 'false', 'it will not help';
}

is_deeply [left('small')], [100, 1000], 'nothing was taken';
is $mock->stats->{requests}, 1, 'nothing was asked';


# per day

SKIP: {
    my $left = 86_400 - time % 86_400;
    skip 'the day ends', 8 if $left < 60;

    $mock->script();
    is join(' ', map { answer('day', max => 20)->status } 1 .. 5),
        '200 200 200 429 429', 'tokens of a day';
    is $mock->stats->{requests}, 3, 'three were asked';

    $r = answer('day', max => 20);
    $error = $r->json->{error};
    is $error->{type}, 'tokens', 'type';
    is $error->{code}, 'rate_limit_exceeded', 'code';
    like $error->{message}, qr/Limit 100, Used 90, Requested \d+\./,
        'message';
    between($r->header('retry-after-ms') / 1000, $left - 60, $left + 1,
        'until the day is over');
    is $r->header('x-should-retry'), 'false', 'not worth waiting';

    $r = answer('day', max => 101);
    is $r->status, 413, 'more than a day\'s';
}


# A crowd: 64 clients on one key, as fast as they get answers.  All that is
# used is within the bucket and its rate, and who is refused while there is a
# tenth of it left does not exist.

sub crowd {
    my ($key, $model, $seconds, $sizes, $error) = @_;

    my (@live, @used, @refused);
    my $start = time;
    my $next = 0;

    $t->until(sub {
        for my $slot (@live) {
            my $r = $slot->{r} // next;
            next if !defined $r->end;

            delete $slot->{r};
            push @refused, $r if $r->status == 429;
            push @used, $r if $r->status == 200;
            $slot->{from} = time + ($r->status == 200 ? 0 : 0.1);
        }

        return 1 if time - $start > $seconds;

        push @live, {} while @live < 64;

        for my $slot (@live) {
            next if $slot->{r} || ($slot->{from} // 0) > time;
            $slot->{r} = ask($key, model => $model,
                text => "$prompt " . $sizes->[$next++ % @$sizes]);
        }

        return 0;
    }, $seconds + 30);

    $_->wait for grep { defined } map { $_->{r} } @live;

    for my $r (grep { defined } map { $_->{r} } @live) {
        push @refused, $r if $r->status == 429;
        push @used, $r if $r->status == 200;
    }

    my $elapsed = time - $start;
    my ($in, $out) = $mock->billed;
    my $tokens = $in + $out;

    my $most = 1000 + 1000 / 60 * $elapsed;

    note sprintf '%d served, %d refused, %d tokens of %.0f in %.1f s',
        scalar @used, scalar @refused, $tokens, $most, $elapsed;

    is $mock->stats->{requests}, scalar @used, "$key: the served ones alone "
        . 'were asked';
    cmp_ok $tokens, '<=', $most + $error,
        "$key: not more than burst and rate";
    cmp_ok $tokens, '>=', $most - 100 - $error,
        "$key: and hardly less";
    cmp_ok scalar(@refused), '>', 64, "$key: many were refused";

    my @wrong = grep {
        my ($limit, $used, $need) = $_->json->{error}{message}
            =~ /Limit (\d+), Used (\d+), Requested (\d+)/;
        !defined $need || $limit != 1000 || $used + $need <= $limit;
    } @refused;
    is @wrong, 0, "$key: nobody whose request would have fit"
        or diag($wrong[0]->body);

    my @early = grep { $_->header('x-ratelimit-remaining-tokens') >= 100 }
        @refused;
    is @early, 0, "$key: nobody while a tenth of it was free"
        or diag($early[0]->body);

    return @refused;
}


# the prompt has six bytes more, the text 57

$mock->script({ delay_ms => 5 });
teach('crowd', 60, text => "$prompt usual");
$mock->script({ delay_ms => 5 });
crowd('crowd', 'crowd', 6, ['usual'], 20);

my @sizes = (
    { match => { body => 'little' }, delay_ms => 5, prompt_tokens => 10,
      completion_tokens => 5 },
    { match => { body => 'usual' }, delay_ms => 20, prompt_tokens => 10,
      completion_tokens => 40 },
    { match => { body => 'much' }, delay_ms => 50, prompt_tokens => 10,
      completion_tokens => 60 },
);

$mock->script(@sizes);
teach('mixed', 20, text => "$prompt $_") for qw(little usual much);
$mock->script(@sizes);
crowd('mixed', 'mixed', 5, [qw(little usual much)], 80);


# what the cache knows costs no tokens

my $t2 = Test::LLM->new(workers => 2);

$t2->key('cached', requests_per_minute => 1, burst_requests => 10,
    tokens_per_minute => 1, burst_tokens => 100);

my $mock2 = $t2->gateway(location => 'llm_cache on;');

sub cached {
    my ($text) = @_;
    return $t2->chat("$prompt $text", key => 'cached',
        body => { max_tokens => 20 });
}

is cached('one')->status, 200, 'an answer for the cache';
ok $t2->until(sub { $t2->{redis}->command('DBSIZE') > 0 }), 'is stored';

$r = cached('one');
like $r->header('Cache-Status'), qr/hit/, 'a hit';
between($r->header('x-ratelimit-remaining-tokens'), 70, 71,
    'takes no tokens');
is $r->header('x-ratelimit-remaining-requests'), 8, 'but a request';

$mock2->script({ completion_tokens => 170 });
is cached('two')->status, 200, 'an answer that takes the rest and more';
$r = cached('three');
is $r->status, 429, 'no tokens are left';
is $r->json->{error}{type}, 'tokens', 'it is the tokens';
is $t2->chat('four', key => 'cached', body => { max_tokens => 101 })->status,
    413, 'a request that never fits, right after, is told so';

for my $requests (6, 5) {
    $r = cached('one');
    is $r->status, 200, 'what the cache knows is served';
    like $r->header('Cache-Status'), qr/hit/, 'from there';
    is $r->header('x-ratelimit-remaining-tokens'), 0, 'without tokens';
    is $r->header('x-ratelimit-remaining-requests'), $requests,
        'for a request; who was refused has taken none';
}

is $mock2->stats->{requests}, 1, 'the provider was asked once more';

done_testing;
