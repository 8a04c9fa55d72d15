#!/usr/bin/perl

# All or nothing: whichever limit of key or team is spent, what it refuses is
# counted nowhere else.  Limits that change at run time, limits that wait
# instead of refusing, and values that are no limits.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

# far away, so that every request counts in all of them and none refuses; the
# buckets hardly leak, so that numbers can be compared; a team has more

my %far = (
    requests_per_minute => 1, burst_requests => 500,
    tokens_per_minute => 1, burst_tokens => 100_000,
    requests_per_day => 500, tokens_per_day => 100_000,
    budget => { usd => 100, period => 'day' },
    concurrency => 50,
);

my %farther = (%far, burst_requests => 1000, burst_tokens => 200_000);

# three requests of 10 + 20 tokens fit, and no fourth; an answer costs 0.03

my @limits = (
    ['rpm', { burst_requests => 3 }, 'rate_limit_exceeded', 'requests'],
    ['tpm', { burst_tokens => 110 }, 'rate_limit_exceeded', 'tokens'],
    ['rpd', { requests_per_day => 3 }, 'rate_limit_exceeded', 'requests'],
    ['tpd', { tokens_per_day => 110 }, 'rate_limit_exceeded', 'tokens'],
    ['budget', { budget => { usd => 0.11, period => 'day' } },
        'insufficient_quota', 'insufficient_quota'],
    ['queue', { concurrency => 3 }, 'queue_full', 'requests'],
);

my (%key, %team, @r, $r);

for my $holder ('key', 'team') {
    for my $case (@limits) {
        my ($limit, $near) = @$case;
        my $name = "$limit-$holder";
        my $none = $limit eq 'queue' ? { queue => { size => 0 } } : {};

        $team{$name} = { %farther, $holder eq 'team' ? %$near : () };
        $key{$name} = { %far, %$none, $holder eq 'key' ? %$near : () };
        $key{"$name-sibling"} = { %$none };
    }
}

my $sentinel = 0;


# the file; or one in which all keys or all teams have these limits alone

sub tenants {
    my ($holder, $limits) = @_;

    $t->{tenants} = { teams => {}, keys => {} };

    for my $name (keys %team) {
        $t->{tenants}{teams}{$name} = !$holder ? $team{$name}
            : $holder eq 'team' ? $limits : {};
    }

    for my $name (keys %key) {
        my $team = $name =~ s/-sibling$//r;
        my $own = !$holder ? $key{$name} : $holder eq 'key' ? $limits : {};

        $t->{tenants}{keys}{$name} = { team => $team, sha256 => sha($name),
            %$own };
    }

    tenants_again();
}


# written last, so that who sees it sees all

sub tenants_again {
    $t->key('sentinel', tokens_per_minute => ++$sentinel);
}


sub sha {
    my ($name) = @_;

    require Digest::SHA;
    return Digest::SHA::sha256_hex($t->secret($name));
}


$t->write('prices.json', { '*' => { input => 1000, output => 1000 } });

tenants();

my $mock = $t->gateway(redis => 0,
    http => 'llm_prices %%DIR%%/prices.json;',
    server => '%%BOTH%%');

my @workers = $t->workers;
my $prompt = 'How many tokens are there in this line?!';


sub metric {
    my ($name) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;

    return $page =~ /^\Q$name\E (\d+)$/m ? $1 : -1;
}


# a chat request on worker 0 or 1

sub on {
    my ($worker, $key, %spec) = @_;

    my $max = delete $spec{max} // 20;

    return $t->on($workers[$worker], delete $spec{text} // $prompt,
        key => $key, timeout => 30, body => { max_tokens => $max }, %spec);
}


sub answer {
    my ($key, %spec) = @_;

    my $r = on(delete $spec{worker} // 0, $key, %spec);
    $r->wait;

    return $r;
}


# waits until both workers have the tenants file that was written last

sub in_force {
    my $name = shift // 'the file';

    ok $t->until(sub {
        2 == grep { (answer('sentinel', worker => $_, max => 2_000_000_000)
            ->header('x-ratelimit-limit-tokens') // 0) == $sentinel } 0, 1;
    }), "$name is in force";
}


# what remains in the buckets, told to a request that fits in none

sub remaining {
    my ($key) = @_;

    my $r = answer($key, max => 2_000_000_000);

    return [map { $r->header("x-ratelimit-remaining-$_") // 'none' }
        qw(requests tokens)];
}


sub code { ($_[0]->json // {})->{error}{code} // $_[0]->status }
sub type { ($_[0]->json // {})->{error}{type} // $_[0]->status }


# the day must not end between two looks at it

my $left = 86_400 - time % 86_400;
Test::LLM::HTTP->idle($left + 1) if $left < 90;


# each limit in turn: three pass, ten are refused on both workers

my %admitted;

for my $holder ('key', 'team') {
    for my $case (@limits) {
        my ($limit, $near, $code, $type) = @$case;
        my $name = "$limit-$holder";

        $mock->script({ delay_ms => $limit eq 'queue' ? 1000 : 0 });

        my @three = map { on($_ % 2, $name) } 1 .. 3;

        if ($limit eq 'queue') {
            $mock->wait(in_flight => 3);

        } else {
            $_->wait for @three;
        }

        my @keys = ($name, $holder eq 'team' ? "$name-sibling" : $name);
        my @refused = map { answer($keys[$_ / 2 % 2], worker => $_ % 2) }
            1 .. 10;

        $_->wait for @three;

        is +(grep { $_->status == 200 } @three), 3, "$name: three pass";
        is +(grep { code($_) eq $code && type($_) eq $type } @refused), 10,
            "$name: the others are refused by it"
            or diag($refused[0]->status, $refused[0]->body);
        is $mock->stats->{requests}, 3, "$name: and reach nobody";

        # the key's own numbers are the smaller ones of its answers, the
        # sibling's are the team's

        $admitted{$name} = $admitted{"t-$name"} = 3;

        my %burst = (key => $far{burst_requests},
            team => $farther{burst_requests});
        my %tokens = (key => $far{burst_tokens},
            team => $farther{burst_tokens});

        if ($holder eq 'key') {
            is answer("$name-sibling")->status, 200,
                "$name: another key of the team is served";
            $admitted{"t-$name"}++;
        }

        ($burst{$holder}, $tokens{$holder}) = ($near->{burst_requests}
            // $burst{$holder}, $near->{burst_tokens} // $tokens{$holder});

        my %want = map {
            my $n = $admitted{$_ eq 'key' ? $name : "t-$name"};
            $_ => [$burst{$_} - $n, $tokens{$_} - 30 * $n]
        } qw(key team);

        $want{key} = [map { $want{key}[$_] < $want{team}[$_] ? $want{key}[$_]
            : $want{team}[$_] } 0, 1];

        is_deeply remaining($name), $want{key},
            "$name: the key's buckets gave to those three alone";
        is_deeply remaining("$name-sibling"), $want{team},
            "$name: the team's to those who passed";
    }
}


# the days' tallies are told when a day's limit is one

my @tallies = (
    ['requests_per_day', { requests_per_day => 1 }, 1],
    ['tokens_per_day', { tokens_per_day => 29 }, 30],
    ['budget', { budget => { usd => 0.02, period => 'day' } }, 0.03],
);

$mock->script();

for my $case (@tallies) {
    my ($what, $limit, $each) = @$case;

    for my $holder ('key', 'team') {
        tenants($holder, $limit);
        in_force("$what of each $holder");

        for my $name (sort grep { !/sibling/ } keys %key) {
            my $message = answer($name, max => 1)->body;
            my ($used) = $message =~ ($what eq 'budget'
                ? qr/\$([\d.]+) of/ : qr/Used (\d+)/);
            my $n = $admitted{$holder eq 'key' ? $name : "t-$name"};

            like $message, qr/\b$holder $name\b/,
                "$holder $name: refused by its $what";
            ok defined $used && abs($used - $each * $n) < 1e-7,
                "$holder $name: " . ($used // 'unknown')
                . " is what $n requests have used" or diag($message);
        }
    }
}

is $mock->stats->{requests}, 0, 'nobody was served meanwhile';


# limits that change: more, less, none

tenants();
$t->key('change', requests_per_minute => 1, burst_requests => 2);
tenants_again();
in_force();

is join(' ', map { answer('change', worker => $_ % 2)->status } 1 .. 3),
    '200 200 429', 'two';

my @changes = (
    ['more', { requests_per_minute => 1, burst_requests => 10 }, 200, 10],
    ['fewer', { requests_per_minute => 1, burst_requests => 1 }, 429, 1],
    ['none', {}, 200, undef],
    ['requests of a day', { requests_per_day => 2 }, 429, undef],
    ['more of them', { requests_per_day => 100 }, 200, undef],
    ['few tokens of a day', { tokens_per_day => 60 }, 429, undef],
    ['many tokens of a day', { tokens_per_day => 6000 }, 200, undef],
    ['little money', { budget => { usd => 0.05, period => 'day' } }, 429,
        undef],
    ['little money in a month', { budget => { usd => 0.05,
        period => 'month' } }, 429, undef],
    ['much', { budget => { usd => 50, period => 'month' } }, 200, undef],
);

for my $case (@changes) {
    my ($what, $limits, $status, $limit) = @$case;

    $t->key('change', %$limits);
    tenants_again();
    in_force($what);

    for my $worker (0, 1) {
        $r = answer('change', worker => $worker);
        is $r->status, $status, "$what, worker $worker: $status";
        is $r->header('x-ratelimit-limit-requests'), $limit, 'limit';
    }
}


# rates that wait: first come, first served, and not for ever

$t->key('patient', requests_per_minute => 600, burst_requests => 1,
    queue => { rates => \1, size => 20, timeout_ms => 20_000 });
$t->key('tokens', tokens_per_minute => 18_000, burst_tokens => 40,
    queue => { rates => \1, size => 20, timeout_ms => 20_000 });
$t->key('short', requests_per_minute => 10, burst_requests => 1,
    queue => { rates => \1, size => 2, timeout_ms => 500 });
$t->key('slot', requests_per_minute => 600, burst_requests => 1,
    concurrency => 1, queue => { rates => \1, timeout_ms => 20_000 });
tenants_again();
in_force();


sub texts {
    return join ' ', map { $_->{body} =~ /"content":"(.*?)"/ }
        sort { $a->{arrival_ms} <=> $b->{arrival_ms} } $mock->journal;
}


# n requests, each in line before the next one comes

sub line_up {
    my ($n, $key, %spec) = @_;

    my @line;

    for my $i (1 .. $n) {
        push @line, on($i % 2, $key, text => "$prompt $i", %spec);
        $t->until(sub {
            my $in = metric('llm_slots_waiting') + metric('llm_slots_in_use');
            return $in + (grep { defined $_->end } @line) >= $i;
        });
    }

    return @line;
}


for my $case (['patient', 100], ['tokens', 100], ['slot', 100]) {
    my ($key, $each) = @$case;

    $mock->script();
    @r = line_up(12, $key);
    $_->wait for @r;

    is +(grep { $_->status == 200 } @r), 12, "$key: all are served";
    is texts(), join(' ', map { "$prompt $_" } 1 .. 12),
        "$key: in the order in which they came";

    my @arrival = map { $_->{arrival_ms} } sort { $a->{arrival_ms}
        <=> $b->{arrival_ms} } $mock->journal;
    my $took = $arrival[-1] - $arrival[0];

    # the last needs what eleven times have brought, ours was full before
    cmp_ok $took, '>', ($each - 1) * 10, "$key: not faster than the rate";
    cmp_ok $took, '<', $each * 11 + ($t->sanitized ? 5000 : 1000),
        "$key: and not slower: $took ms";

    my @queued = map { $_->header('x-llm-queue-ms') } @r;
    cmp_ok $queued[0], '<', 5, "$key: the first need not wait";
    cmp_ok $queued[-1], '>', 100, "$key: the last tells that it has waited";
}

$mock->script();
is answer('short')->status, 200, 'the bucket is empty';
@r = (on(0, 'short'), on(1, 'short'));
ok $t->until(sub { metric('llm_slots_waiting') == 2 }), 'two wait for it';
$r = answer('short');
is code($r), 'queue_full', 'there is no place for a third';
cmp_ok $r->end, '<', 0.4, 'which is told at once';
$_->wait for @r;

for my $r (@r) {
    is $r->status, 429, 'who waits in vain is refused';
    like code($r), qr/^(?:queue_timeout|rate_limit_exceeded)$/, 'code';
    cmp_ok $r->end, '>', 0.49, 'after the time of the line';
    cmp_ok $r->end, '<', $t->sanitized ? 4 : 2, 'and no later';
}

$r = on(0, 'short');
$t->until(sub { metric('llm_slots_waiting') == 1 });
$r->abort;
ok $t->until(sub { metric('llm_slots_waiting') == 0 }), 'who leaves is gone';
is $mock->stats->{requests}, 1, 'none of them reached the provider';

$r = answer('tokens', max => 100);
is $r->status, 413, 'what never fits does not wait';
ok $t->until(sub { metric('llm_ledger_tickets_used') == 0 }),
    'no ticket is left';


# values that are no limits: at the start, and at run time

sub config_with {
    my ($where, $limits) = @_;

    my $team = $where eq 'teams' ? $limits : {};
    my $key = $where eq 'keys' ? $limits : {};

    $t->write('bad.json', { teams => { one => $team }, keys => { two => {
        team => 'one', sha256 => '0' x 64, %$key } },
        $where eq 'defaults' ? (defaults => $limits) : () });

    my $template = $t->{template} =~ s/tenants\.json/bad.json/r;

    return $t->test_config($template);
}


my @values = (-1, 0, 1.5, '"4"', '10000000000000000000000000', '1e400',
    'true', 'null', '[]', '{}', '-0', '""');
my @members = qw(requests_per_minute burst_requests tokens_per_minute
    burst_tokens requests_per_day tokens_per_day concurrency);


# as text, for JSON::PP would make other numbers of them

sub refused {
    my ($where, $member, $value) = @_;

    my ($rest, $name) = $where eq 'teams'
        ? ('"keys": {}', 'teams.one') : $where eq 'keys'
        ? ('"teams": {"one": {}}', 'keys.two') : ('"teams": {}', 'defaults');
    my $more = $member =~ /^burst_requests/ ? '"requests_per_minute": 1,'
        : $member =~ /^burst_tokens/ ? '"tokens_per_minute": 1,' : '';
    my $inner = "$more \"$member\": $value";

    $inner = '"sha256": "' . '0' x 64 . "\", \"team\": \"one\", $inner"
        if $where eq 'keys';
    $inner = "\"$1\": {$inner}" if $name =~ /\.(.*)/;

    $t->write('bad.json', "{$rest, \"$where\": {$inner}}");

    my ($ok, $said) = $t->test_config($t->{template}
        =~ s/tenants\.json/bad.json/r);

    ok !$ok, "$where: $member $value is refused";
    like $said, qr/bad\.json.*(?:\Q$name.$member\E|line 1, column \d)/s,
        'by its path, or its place';
}


my $n = 0;

# every member, every value, every place; not each with each

for my $member (@members) {
    for my $value (@values[map { ($n + 3 * $_) % @values } 0 .. 3]) {
        refused((qw(keys teams defaults))[$n++ % 3], $member, $value);
    }
}

refused('keys', 'requests_per_minute', $_) for @values;

for my $value ('5', '{"usd": 0, "period": "day"}',
    '{"usd": -1, "period": "day"}', '{"usd": "5", "period": "day"}',
    '{"usd": 1e300, "period": "day"}', '{"usd": 5, "period": "week"}',
    '{"usd": 0.0000001, "period": "day"}', '{"usd": 5, "days": 3}',
    '{"period": "day"}')
{
    refused('teams', 'budget', $value);
}

refused('teams', 'weight', $_) for '0', '-1', '1.5', '"2"', '1000000';

my ($ok, $said) = config_with(keys => { requests_per_minute => 1_000_000,
    tokens_per_minute => 1_000_000_000, tokens_per_day => 1_000_000_000_000,
    budget => { usd => 1_000_000, period => 'month' }, concurrency => 1000 });
ok $ok, 'large values are fine' or diag($said);

($ok, $said) = config_with(teams => { weight => 3,
    budget => { usd => 0.000001, period => 'day' } });
ok $ok, 'and small ones' or diag($said);


# at run time the old file stays in force

for my $value ('0', '-5', '1.5', '"7"', '1e30') {
    my $text = $t->read('tenants.json');
    my $lines = () = $t->log =~ /keys\.change\.requests_per_day/g;

    $t->write('tenants.json', $text
        =~ s/"change" : \{/"change" : { "requests_per_day": $value,/r);
    ok $t->until(sub { $lines < (() = $t->log
        =~ /keys\.change\.requests_per_day/g) }), "the log tells of $value";
    is answer('change')->status, 200, 'the old limits hold';
    $t->write('tenants.json', $text);
}

done_testing;
