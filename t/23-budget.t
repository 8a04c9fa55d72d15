#!/usr/bin/perl

# Money: what answers cost by the prices file, budgets per day and month of
# key and team, and what happens when they are spent.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use List::Util qw(sum0);
use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

$t->team('shop', budget => { usd => 0.05, period => 'day' });
$t->key("shop-$_", team => 'shop') for 1, 2;
$t->team('other', budget => { usd => 100, period => 'day' });
$t->key('other', team => 'other');
$t->key('own', team => 'other',
    budget => { usd => 0.01, period => 'month' });
$t->key('crowd', budget => { usd => 0.05, period => 'day' });
$t->key($_, budget => { usd => 100, period => 'day' })
    for qw(sum prices errors leaver cached fresh);
$t->key('free', budget => { usd => 0.000001, period => 'day' });
$t->key('user');

my %prices = (
    'gpt-4o*' => { input => 2.5, cached_input => 1.25, output => 10 },
    'gpt-4o-mini*' => { input => 0.15, cached_input => 0.075, output => 0.6 },
    'gpt-4o-mini-x' => { input => 1, output => 2 },
    'dear*' => { input => 1000, output => 5000 },
);

$t->write('prices.json', \%prices);

my $mock = $t->gateway(redis => 0, mock => ['--journal', 8192],
    http => 'llm_prices %%DIR%%/prices.json;',
    routes => 'llm_route alias mock:gpt-4o-mini;
        llm_route both mock:gpt-4o-mini mock:gpt-4o;
        llm_route * mock;',
    location => 'llm_retry tries=2 base=10ms;');

my $prompt = 'How many tokens are there in this line?!';
my ($r, @r, $error);


sub metric {
    my ($name) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;

    return $page =~ /^\Q$name\E (\d+)$/m ? $1 : -1;
}


sub ask {
    my ($key, %spec) = @_;

    return $t->start_chat($prompt, key => $key, timeout => 30,
        body => { max_tokens => delete $spec{max} // 500 }, %spec);
}


sub answer {
    my $r = ask(@_);
    $r->wait;
    return $r;
}


sub cost { $_[0]->header('x-llm-cost-usd') // 'none' }


sub near {
    my ($got, $want, $what) = @_;
    ok abs($got - $want) < 0.0000005, "$what: $got, expected $want";
}


# what is spent, told to a request that is too dear for any budget

sub spent {
    my ($key, $model) = @_;

    my $r = answer($key, max => 2_000_000_000, model => $model // 'dear');
    my ($spent) = ($r->json // {})->{error}{message}
        =~ /\$([\d.]+) of \$[\d.]+ /;

    return $spent // "unknown: " . $r->body;
}


sub over {
    my ($what) = @_;
    ok $t->until(sub { metric('llm_ledger_tickets_used') == 0 }), "$what ends";
}


# the day must not end between two looks at it

my $left = 86_400 - time % 86_400;
Test::LLM::HTTP->idle($left + 1) if $left < 60;


# one answer costs 1000 * 2.5 + 500 * 10 millionths: six are 0.045

$mock->script({ prompt_tokens => 1000, completion_tokens => 500 });

my $sum = 0;

for my $i (1 .. 6) {
    $r = answer('shop-' . ($i % 2 + 1));
    is $r->status, 200, "answer $i";
    near(cost($r), 0.0075, 'its cost');
    $sum += cost($r);
}

for my $key ('shop-1', 'shop-2') {
    $r = answer($key);
    is $r->status, 429, "$key: the budget is spent";

    $error = ($r->json // {})->{error} // {};
    is_deeply [sort keys %$error], [qw(code message param type)], 'shape';
    is $error->{code}, 'insufficient_quota', 'code';
    is $error->{type}, 'insufficient_quota', 'type';
    is $error->{param}, undef, 'param';
    like $error->{message}, qr/team shop/, 'the message names whose';
    like $error->{message}, qr/\$0\.0450* of \$0\.050* /, 'and how much';
    like $error->{message}, qr/\bday\b/, 'in which time';
    is $r->header('x-should-retry'), 'false', 'there is no use in retrying';
    is cost($r), 'none', 'a refusal costs nothing';

    my $wait = $r->header('retry-after') // -1;
    ok $wait >= 1 && $wait <= 86_401, "until the day is over: $wait";
}

is $mock->stats->{requests}, 6, 'the provider was asked six times';
near($sum, 0.045, 'the costs add up to what is told as spent');

$r = answer('shop-1', max => 1, model => 'gpt-4o-mini');
is $r->status, 200, 'a cheap model still fits';
near(cost($r), 0.00045, 'its cost');
is answer('other')->status, 200, 'another team is served';


# a key's own, for a month; its team counts as well

near(spent('other'), 0.0075, 'spent by the team');
is answer('own')->status, 200, 'a budget of a key';
$r = answer('own');
is $r->status, 429, 'that is spent';
like $r->json->{error}{message}, qr/key own.*\bmonth\b/, 'for the month';
is $r->header('x-should-retry'), 'false', 'no use in retrying';
near(spent('other'), 0.015, 'the team has paid what was served, no more');


# prices: the name, else the longest pattern; cached tokens have their own

sub costs {
    my ($model, $usage, $want, $what) = @_;

    $mock->script({ prompt_tokens => 1000, completion_tokens => 500,
        %$usage });
    my $r = answer('prices', model => $model);
    is $r->status, 200, $what;
    near(cost($r), $want, $what);
}

my $before = spent('prices');

costs('gpt-4o', {}, 0.0075, 'a pattern');
costs('gpt-4o-2024-11-20', {}, 0.0075, 'a longer name');
costs('gpt-4o-mini-2', {}, 0.00045, 'a longer pattern');
costs('gpt-4o-mini-x', {}, 0.002, 'the name itself');
costs('gpt-4o', { cached_tokens => 800 }, 0.0065, 'cached tokens');
costs('gpt-4o', { cached_tokens => 1000 }, 0.00625, 'all of them');
costs('gpt-4o-mini-x', { cached_tokens => 1000 }, 0.002,
    'cached tokens without a price of their own');
costs('gpt-4o-mini', { prompt_tokens => 1, completion_tokens => 1 }, 0.000001,
    'small change, rounded');

# what counts is the name that the provider knows, of the one that answered

costs('alias', {}, 0.00045, 'another name');
costs('both', {}, 0.00045, 'the first target');
$mock->script({ match => { model => 'gpt-4o-mini' }, status => 503 },
    { prompt_tokens => 1000, completion_tokens => 500 });
$r = answer('prices', model => 'both');
is $r->header('x-llm-model'), 'gpt-4o', 'the next target';
near(cost($r), 0.0075, 'at its own price');

near(spent('prices') - $before, 0.0075 * 3 + 0.00045 * 3 + 0.002 + 0.0065
    + 0.00625 + 0.002 + 0.000001, 'all of it is counted');


# a model without a price is free, and counted

my $unpriced = metric('llm_unpriced_requests_total');

$mock->script({ prompt_tokens => 100_000, completion_tokens => 100_000 });

for (1 .. 3) {
    $r = answer('free', model => 'unheard-of');
    is $r->status, 200, 'a model without a price';
    is cost($r) eq 'none' ? 0 : cost($r) + 0, 0, 'is free';
}

is metric('llm_unpriced_requests_total') - $unpriced, 3, 'and counted';
is answer('free')->status, 429, 'unlike others';


# errors cost nothing, a retry once

$before = spent('errors');
$mock->script({ times => 1, status => 400 }, { times => 2, status => 500 },
    { times => 1, cut => 'rst' }, { prompt_tokens => 1000,
    completion_tokens => 500 });
is answer('errors')->status, 400, 'a bad request';
is answer('errors')->status, 500, 'an error twice';
over('an error');
near(spent('errors'), $before, 'cost nothing');
is answer('errors')->header('x-llm-attempts'), 2, 'a retry';
near(spent('errors') - $before, 0.0075, 'is paid once');


# who leaves pays for what was streamed: ten tokens are forty bytes

my %stream = (stream => 1, model => 'gpt-4o-stream');

$mock->script({ chunks => 10, chunk_bytes => 40, prompt_tokens => 10,
    completion_tokens => 100 });
@r = map { ask('user', %stream) } 1 .. 30;
$_->wait for @r;

$mock->script({ chunks => 500, chunk_bytes => 40, pace_ms => 10 });
$before = spent('leaver');
$r = ask('leaver', %stream, max => 10_000);
ok $r->wait_events(51), 'a stream';
my $held = spent('leaver') - $before;
ok $held > 0.1 && $held < 0.1005, "has its price reserved: $held";
$r->abort;
over('a stream that is left');

my $paid = spent('leaver') - $before;
my $sent = 0.000025 + 50 * 0.0001;
ok $paid > $sent * 0.9 && $paid < $sent * 1.1 + 0.001,
    "and then paid as far as it came: $paid of $sent";


# the mock's bill and ours: many at a time, with and without streams

my @bill = (
    { every => 7, status => 500 },
    { every => 5, prompt_tokens => 4000, cached_tokens => 2000,
      completion_tokens => 12 },
    { every => 3, prompt_tokens => 24, completion_tokens => 800 },
    { prompt_tokens => 120, completion_tokens => 48, cached_tokens => 64 },
);

$before = spent('sum');
$mock->script(map { { %$_, delay_ms => 5 } } @bill);

@r = map { ask('sum', stream => $_ % 2, max => 1000) } 1 .. 200;
$_->wait for @r;

my $billed = sum0(map {
    my ($in, $cached, $out) = map { $_ // 0 } @{$bill[$_->{rule}]}
        {qw(prompt_tokens cached_tokens completion_tokens)};
    $_->{status} == 200
        ? (($in - $cached) * 2.5 + $cached * 1.25 + $out * 10) / 1e6 : 0;
} $mock->journal);

cmp_ok scalar($mock->journal), '>', 200, 'some were asked twice';
over('all of it');
near(spent('sum') - $before, $billed, 'what was billed is what is counted');

my $headers = sum0(map { cost($_) } grep { $_->status == 200
    && cost($_) ne 'none' } @r);
cmp_ok $headers, '>', 0.1, 'answers tell their cost';
cmp_ok $headers, '<', $billed, 'streams do not';


# nobody gets past a budget by being many: nine of 0.005025 fit

$mock->script({ prompt_tokens => 10, completion_tokens => 500,
    delay_ms => 50 });

@r = map { ask('crowd') } 1 .. 40;
$_->wait for @r;
is +(grep { $_->status == 200 } @r), 9, 'nine of forty';
is +(grep { $_->status == 429
    && $_->json->{error}{code} eq 'insufficient_quota' } @r), 31,
    'the others are refused';
is $mock->stats->{requests}, 9, 'before they cost anything';
near(spent('crowd'), 9 * 0.005025, 'spent');


# other prices at run time

$mock->script({ prompt_tokens => 1000, completion_tokens => 500 });

sub becomes {
    my ($want, $what) = @_;

    my $last;

    # both workers
    ok $t->until(sub {
        for (1 .. 8) {
            $last = cost(answer('user'));
            return 0 if $last eq 'none' || abs($last - $want) > 1e-7;
        }
        return 1;
    }, 5), $what or diag("cost: $last");
}

becomes(0.0075, 'the old price');
$prices{'gpt-4o*'}{output} = 20;
$t->write('prices.json', \%prices);
becomes(0.0125, 'a new price');

for my $broken ('{"gpt-4o*": {"input": 1,', '{"gpt-4o*": {"input": -1}}',
    '{"gpt-4o*": {"inputs": 1, "output": 1}}', '[]', '')
{
    my $lines = () = $t->log =~ /prices\.json/g;

    $t->write('prices.json', $broken);
    ok $t->until(sub { $lines < (() = $t->log =~ /prices\.json/g) }),
        "the log tells of $broken";
}

Test::LLM::HTTP->idle(0.6);
becomes(0.0125, 'a broken file changes nothing');

$t->write('prices.json', { '*' => { input => 1, output => 1 } });
becomes(0.0015, 'the next good one does');
near(cost(answer('user', model => 'unheard-of')), 0.0015,
    '"*" is for everybody');

$t->token(HTTP => 'llm_prices %%DIR%%/bad.json;');

for my $case (['not JSON', '{'], ['-1', '{"a": {"input": -1, "output": 1}}'],
    ['"1"', '{"a": {"input": "1", "output": 1}}'],
    ['1e9', '{"a": {"input": 1e9, "output": 1}}'],
    ['a typing error', '{"a": {"input": 1, "outputs": 1}}'],
    ['an array', '[1]'])
{
    my ($what, $text) = @$case;

    $t->write('bad.json', $text);
    my ($ok, $said) = $t->test_config($t->{template});
    ok !$ok, "nginx -t refuses $what";
    like $said, qr/bad\.json/, 'names the file';
}

unlink $t->path('bad.json');
ok !($t->test_config($t->{template}))[0], 'and a file that is not there';


# a reload keeps what was spent

near(spent('shop-1'), 0.04545, 'before a reload');
$t->token(HTTP => 'llm_prices %%DIR%%/prices.json;');
$t->reload;
near(spent('shop-1'), 0.04545, 'and after it');


# another budget at run time

$t->team('shop', budget => { usd => 0.1, period => 'day' });
ok $t->until(sub { answer('shop-1', max => 1)->status == 200 }),
    'a larger budget';
ok $t->until(sub {
    answer('shop-2', max => 2_000_000_000)->body =~ /of \$0\.10* / }),
    'for all';
cmp_ok spent('shop-2'), '>', 0.045, 'of which some is spent';
$t->team('shop');
ok $t->until(sub { answer('shop-1')->status == 200 }), 'none';


# what the cache knows is free, and is served when all is spent

my $t2 = Test::LLM->new(workers => 2);

$t2->key('cached', budget => { usd => 0.021, period => 'day' });
$t2->write('prices.json', { '*' => { input => 2.5, output => 10 } });

my $mock2 = $t2->gateway(http => 'llm_prices %%DIR%%/prices.json;',
    location => 'llm_cache on;');

sub cached {
    my ($text) = @_;
    return $t2->chat("$prompt $text", key => 'cached',
        body => { max_tokens => 500 });
}

$mock2->script({ prompt_tokens => 1000, completion_tokens => 500 });
is cached('one')->status, 200, 'an answer for the cache';
ok $t2->until(sub { $t2->{redis}->command('DBSIZE') > 0 }), 'is stored';

$r = cached('one');
like $r->header('Cache-Status'), qr/hit/, 'a hit';
is cost($r) eq 'none' ? 0 : cost($r) + 0, 0, 'is free';

is cached('two')->status, 200, 'another answer';
is cached('three')->status, 200, 'and one that takes more than there is';
is cached('four')->status, 429, 'all is spent';
$r = cached('one');
is $r->status, 200, 'what the cache knows is served';
like $r->header('Cache-Status'), qr/hit/, 'from there';

done_testing;
