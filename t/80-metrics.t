#!/usr/bin/perl

# /metrics agrees with what was sent, its lines are what Prometheus reads,
# and /healthz and /readyz answer on both listeners.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);
use List::Util qw(sum0);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

$t->key('user');
$t->key('rare', requests_per_minute => 1);
$t->key('one', concurrency => 1, queue => { size => 1, timeout_ms => 300 });
$t->team('narrow', models => ['gpt-4o']);
$t->key('narrow', team => 'narrow');

$t->write('prices.json', { '*' => { input => 0, output => 0 },
    dear => { input => 1000, output => 2000 } });

$t->write('secret', 'open-sesame-please');

my $mock = $t->gateway(
    http => 'llm_prices %%DIR%%/prices.json;',
    admin => 'location /admin/v1/ { llm_admin file:%%DIR%%/secret; }',
    routes => 'llm_provider dead uri=/llm/dead/;
    llm_route nobody dead;
    llm_route both dead mock:gpt-4o;
    llm_route * mock;',
    server => 'location /llm/dead/ {
            internal;
            proxy_pass http://unix:%%DIR%%/nobody.sock:/v1/;
            proxy_buffering off;
            proxy_next_upstream off;
            proxy_ignore_client_abort on;
        }

        location = /v1/completions {
            llm_gateway;
            llm_cache on;
            llm_retry tries=2 base=5ms;
        }',
    location => 'llm_retry tries=2 base=5ms;');

$t->allow(qr/\[crit\] .*nobody\.sock failed/);

my $admin = $t->port('PORT_ADMIN');
my %chat = (model => 'gpt-4o', messages => [{ role => 'user',
    content => 'Hello' }]);
my $r;


# name{labels} => value of all samples, the labels as they stand; what is told
# of teams and models is summed up

sub samples {
    my $body = $t->get('/metrics', port => $admin)->body;
    my %sample = $body =~ /^([a-z]\S*) (\d+(?:\.\d{6})?)$/mg;

    for my $name (keys %sample) {
        my $sum = $name;
        $sum =~ s/team="[^"]*",model="[^"]*",?// && $sum =~ s/\{\}//;
        next if $sum eq $name || $name !~ /^llm_(?:tokens|cost)/;

        $sample{$sum} = sprintf '%.10g',
            ($sample{$sum} // 0) + delete $sample{$name};
    }

    return %sample;
}


# what a request adds to the counters, and nothing else

sub adds {
    my ($what, $request, %expected) = @_;

    my %before = samples();
    $request->();

    my (%after, %added);

    my $count = sub {
        %after = samples();
        %added = ();

        # what is said to Redis about limits is said all the time
        for my $name (grep { /^llm_(?!limits)\w+_total/ } keys %after) {
            my $n = $after{$name} - ($before{$name} // 0);
            # what an estimate says is not this test's business
            next if $name =~ /^llm_tokens/
                && !grep { /^llm_tokens/ } keys %expected;

            # these are told by tests of their own
            next if $name =~ /^llm_(?:target|requests|request_duration|time)_/;

            $added{$name} = $n if $n;
        }

        return join(' ', map { "$_=$added{$_}" } sort keys %added)
            eq join(' ', map { "$_=$expected{$_}" } sort keys %expected);
    };

    $t->until($count, 3);
    is_deeply \%added, \%expected, $what;
}


sub requests {
    my ($endpoint, $status, $n) = @_;
    return (qq(llm_http_requests_total{endpoint="$endpoint",status="$status"})
        => $n // 1);
}


sub attempts {
    my ($result, $n, $provider) = @_;

    $provider //= 'mock';

    return (qq(llm_upstream_attempts_total{provider="$provider",)
        . qq(result="$result"}) => $n // 1);
}


sub tokens {
    my ($prompt, $completion) = @_;
    return (qq(llm_tokens_total{type="prompt"}) => $prompt,
        $completion ? (qq(llm_tokens_total{type="completion"})
        => $completion) : ());
}


sub cache {
    my ($result, $n) = @_;
    return (qq(llm_cache_requests_total{result="$result"}) => $n // 1);
}


sub refusal {
    my ($reason, $n) = @_;
    return (qq(llm_refusals_total{reason="$reason"}) => $n // 1);
}


# the format

$r = $t->get('/metrics', port => $admin);
is $r->status, 200, '/metrics';
is $r->header('content-type'), 'text/plain; version=0.0.4; charset=utf-8',
    'its type';
like $r->body, qr/\n\z/, 'ends with a line end';

my (%type, %help, %seen, $family);
my @bad;

for my $line (split /\n/, $r->body) {
    if ($line =~ /^# HELP ([a-z_]+) \S.*\.$/) {
        push @bad, "twice: $line" if $help{$1}++;

    } elsif ($line =~ /^# TYPE ([a-z_]+) (counter|gauge|histogram)$/) {
        push @bad, "twice: $line" if $type{$1};
        push @bad, "no help: $line" if !$help{$1};
        $type{$family = $1} = $2;

    } elsif ($line =~ /^([a-z_]+)(\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"
        (?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\})?\ \d+(?:\.\d+)?$/x)
    {
        my ($name, $labels) = ($1, $2 // '');

        push @bad, "not in its family: $line" if $name ne $family
            && ($type{$family} ne 'histogram'
                || $name !~ /^${family}_(?:bucket|sum|count)$/);
        push @bad, "a counter is a total: $line"
            if $type{$family} eq 'counter' && $name !~ /_total$/;
        push @bad, "twice: $line" if $seen{$name . $labels}++;

    } else {
        push @bad, "what is this: $line";
    }
}

is "@bad", '', 'every line is as it should be';
cmp_ok scalar(keys %type), '>=', 10, 'there are some';

is $t->get('/metrics')->status, 404, 'not for clients';
is $t->post('/metrics', '', port => $admin)->status, 405, 'GET only';


# requests by endpoint and status, attempts by result

my %paths = (completions => '/v1/completions', embeddings => '/v1/embeddings',
    responses => '/v1/responses', chat_completions => '/v1/chat/completions');
my %ok = (attempts('ok'), cache('off'));

adds('a chat completion', sub { $t->chat('Hello') },
    %ok, tokens(10, 20), requests(chat_completions => 200));
adds('three', sub { $t->chat('Hello') for 1 .. 3 }, attempts('ok', 3),
    cache('off', 3), tokens(30, 60), requests(chat_completions => 200, 3));
adds('a stream', sub { $t->chat('Hello', stream => 1) },
    %ok, tokens(10, 20), requests(chat_completions => 200));
adds('embeddings', sub { $t->post('/v1/embeddings', { model => 'a',
    input => 'x' }, key => 'user') }, %ok, tokens(10), requests(embeddings => 200));
adds('responses', sub { $t->post('/v1/responses', { model => 'a',
    input => 'x' }, key => 'user') }, %ok, tokens(10, 20),
    requests(responses => 200));
adds('an unknown URL', sub { $t->get('/v1/nothing', key => 'user') },
    requests(other => 404));
adds('a wrong method', sub { $t->get('/v1/completions', key => 'user') },
    requests(other => 405));
adds('bad JSON', sub { $t->post('/v1/embeddings', '{', key => 'user') },
    requests(embeddings => 400), cache('off'));

$mock->script({ status => 400 });
adds('an error', sub { $t->chat('Hello') }, attempts('status_4xx'),
    cache('off'), requests(chat_completions => 400));

$mock->script({ times => 1, status => 429 });
adds('a retry', sub { $t->chat('Hello') }, attempts('status_429'), %ok,
    tokens(10, 20),
    requests(chat_completions => 200));

$mock->script({ status => 503 });
adds('an error that stays', sub { $t->chat('Hello') },
    attempts('status_5xx', 2), cache('off'),
    requests(chat_completions => 503));

$mock->script({ cut_at => 20 });
adds('an answer that breaks off', sub { $t->chat('Hello') },
    attempts('broken', 2), cache('off'), requests(chat_completions => 502));

$mock->script({ hang => \1 });
adds('a timeout', sub { $t->chat('Hello', headers => {
    'x-request-timeout-ms' => 100 }) }, attempts('timeout'), cache('off'),
    requests(chat_completions => 504));
adds('a client that leaves', sub {
    my $r = $t->start_chat('Hello');
    $mock->wait(in_flight => 1);
    $r->abort;
}, attempts('cancelled'), cache('off'), requests(chat_completions => 499));

$mock->script();
adds('nobody there', sub { $t->chat('Hello', model => 'nobody') },
    attempts('connect', 2, 'dead'), cache('off'),
    requests(chat_completions => 503));
adds('another is', sub { $t->chat('Hello', model => 'both') },
    attempts('connect', 1, 'dead'), %ok, requests(chat_completions => 200));


# refusals

adds('a wrong key', sub { $t->chat('Hello', key => 'nobody') },
    refusal('key'), cache('off'), requests(chat_completions => 401));
adds('a model of others', sub { $t->chat('Hello', key => 'narrow',
    model => 'gpt-4.1') }, refusal('model'), cache('off'),
    requests(chat_completions => 404));
adds('a rate', sub { $t->chat('Hello', key => 'rare') for 1 .. 3 },
    refusal('requests', 2), attempts('ok'), cache('off', 3),
    requests(chat_completions => 200), requests(chat_completions => 429, 2));

$mock->script({ match => { body => 'held' }, hang => \1 });

my $held = $t->start_chat('held', key => 'one');
$mock->wait(in_flight => 1);

my %now = samples();
is $now{llm_slots_in_use}, 1, 'a slot in use';
is $now{llm_slots_waiting}, 0, 'none waits';

adds('a line', sub {
    my $next = $t->start_chat('next', key => 'one');
    $t->until(sub { my %now = samples(); $now{llm_slots_waiting} });
    is $t->chat('third', key => 'one')->json->{error}{code}, 'queue_full',
        'one too many';
    $next->wait;
}, refusal('queue_full'), refusal('queue_timeout'), cache('off', 2),
    requests(chat_completions => 429, 2));

adds('the end of a line', sub { $held->abort }, attempts('cancelled'),
    cache('off'), requests(chat_completions => 499));

%now = samples();
is $now{llm_slots_in_use}, 0, 'no slot in use';
is $now{llm_ledger_tickets_used}, 0, 'nor a ticket';
cmp_ok $now{llm_ledger_nodes_used}, '<=', $now{llm_ledger_nodes}, 'room';


# the cache

$mock->script();

sub start_completion {
    my (%spec) = @_;
    my $text = delete $spec{text} // 'Hello';
    return $t->start_post('/v1/completions', {
        model => delete $spec{model} // 'gpt-4o', prompt => $text }, key => 'user', %spec);
}

sub completion {
    my $r = start_completion(@_);
    $r->wait;
    return $r;
}

sub team {
    my ($result, $team) = @_;

    $team //= 'team';

    return (cache($result =~ /reload/ ? 'reload' : $result),
        'llm_cache_team_requests_total{team="' . $team . '",result="'
            . ($result =~ /reload/ ? 'miss' : $result) . '"}' => 1);
}

my %stored = (llm_cache_stored_total => 1, llm_cache_put_total => 1);
my %led = (llm_flight_led_total => 1);
my %saved = ('llm_cache_saved_tokens_total{team="team"}' => 30);
my @ok = requests(completions => 200);

adds('a miss', sub { completion() }, @ok, attempts('ok'), team('miss'),
    %stored, %led);
adds('a hit', sub { completion() }, @ok, team('hit'), %saved);
adds('a reload', sub { completion(headers => {
    'Cache-Control' => 'no-cache' }) }, @ok, attempts('ok'),
    team('reload'), %stored, %led);
adds('a bypass', sub { completion(headers => {
    'Cache-Control' => 'no-store' }) }, @ok, attempts('ok'),
    team('bypass'));
adds('another team', sub { completion(key => 'narrow') }, @ok,
    attempts('ok'), team('miss', 'narrow'), %stored, %led);

$mock->script({ delay_ms => 300 });
adds('what costs money', sub { completion(model => 'dear') }, @ok,
    attempts('ok'), team('miss'), tokens(10, 20), %stored, %led,
    llm_cost_usd_total => 0.05);
adds('and is saved', sub { completion(model => 'dear') }, @ok, team('hit'),
    %saved, 'llm_cache_saved_usd_total{team="team"}' => '0.05');

adds('a call that is joined', sub {
    my $first = start_completion(text => 'joined');
    $mock->wait(in_flight => 1);
    my %now = samples();
    is $now{'llm_flights{state="open"}'}, 1, 'a call that can be joined';
    my $second = start_completion(text => 'joined');
    ok $t->until(sub { my %now = samples(); $now{llm_flight_followers} }),
        'is followed';
    $_->wait for $first, $second;
}, requests(completions => 200, 2), attempts('ok'), team('miss'),
    team('joined'), %stored, %led, llm_flight_followed_total => 1, %saved);
$mock->script();

%now = samples();
is $now{llm_cache_entries}, 4, 'entries in shared memory';
is $now{llm_cache_bytes}, 4 * 1024, 'what they take up';
cmp_ok $now{llm_cache_size_bytes}, '>', $now{llm_cache_bytes}, 'of what';
is $now{'llm_flights{state="open"}'}, 0, 'no call under way';

# what lies in Redis and is not what was put there

my $key;

$t->until(sub { ($key) = grep { $t->{redis}->command(GET => $_) =~ /dear/ }
    grep { /[0-9a-f]{64}$/ } @{$t->{redis}->command(KEYS => '*')}; $key });

my ($digest) = $key =~ /([0-9a-f]{64})$/;

is $t->post('/admin/v1/cache/purge', { digest => $digest }, port => $admin,
    headers => { Authorization => 'Bearer open-sesame-please' })->status, 200,
    'an answer less';
$t->{redis}->command(SET => $key, 'nonsense');

adds('nonsense in Redis', sub { completion(model => 'dear') }, @ok,
    attempts('ok'), team('miss'), tokens(10, 20), %stored, %led,
    llm_cost_usd_total => 0.05,
    'llm_cache_damaged_total{reason="alien"}' => 1);


# the counters outlive a reload

%now = samples();
$t->reload;
my %then = samples();
is_deeply { map { $_ => $then{$_} } grep { /^llm_(?!limits).*_total/ } keys %then },
    { map { $_ => $now{$_} } grep { /^llm_(?!limits).*_total/ } keys %now },
    'a reload keeps the counters';


# health

sub ready {
    my ($t, $redis) = @_;

    my $body = '';

    $t->until(sub {
        $body = $t->get('/readyz')->body;
        return $body =~ /"redis":"$redis"/;
    });

    return $body;
}

for my $port ($t->port, $admin) {
    $r = $t->get('/healthz', port => $port);
    is $r->status, 200, '/healthz';
    is_deeply $r->json, { status => 'ok' }, 'its body';

    $r = $t->get('/readyz', port => $port);
    is $r->status, 200, '/readyz';
    is $r->header('content-type'), 'application/json', 'its type';
    is_deeply $r->json, { status => 'ready', policy => { keys => 4,
        teams => 2, admin_keys => 0, admin_teams => 0 }, redis => 'up' },
        'its body';

    $r = Test::LLM::HTTP->start(port => $port, path => '/healthz',
        method => 'HEAD');
    $r->wait;
    is $r->status, 200, 'HEAD';
    is $r->body, '', 'has no body';
}

is {samples()}->{llm_redis_up}, 1, 'Redis is up';

$t->{redis}->stop;
like ready($t, 'down'), qr/"ready".*"redis":"down"/, 'Redis is down';
is $t->get('/readyz')->status, 200, 'which does not decide';
ok $t->until(sub { !{samples()}->{llm_redis_up} }), 'and counted';
is $t->chat('Hello')->status, 200, 'requests are served';
is completion(text => 'down')->status, 200, 'with a cache, too';

$t->{redis}->start;
like ready($t, 'up'), qr/"redis":"up"/, 'Redis is up again';

my $t2 = Test::LLM->new;
$t2->gateway(redis => 0);
like ready($t2, 'off'), qr/"ready".*"redis":"off"/, 'Redis is off';
unlike $t2->get('/metrics', port => $t2->port('PORT_ADMIN'))->body,
    qr/llm_redis_up/, 'and not counted';


# teams are bounded: 1024 have counters of their own

my $t3 = Test::LLM->new(workers => 2);
my @teams = ('other', map { "t$_" } 1 .. 1030);

for my $name (@teams) {
    $t3->{tenants}{teams}{$name} = {};
    $t3->{tenants}{keys}{$name} = { team => $name,
        sha256 => sha256_hex($t3->secret($name)) };
}

$t3->{tenants}{keys}{lone} = { sha256 => sha256_hex($t3->secret('lone')) };
$t3->write('tenants.json', $t3->{tenants});
$t3->gateway(redis => 0, location => 'llm_cache on;');

my @names = ('lone', @teams);
while (my @some = splice @names, 0, 20) {
    $_->wait for map { $t3->start_chat('Hello', key => $_) } @some;
}

my (%misses, $twice);

$t3->until(sub {
    my $body = $t3->get('/metrics', port => $t3->port('PORT_ADMIN'))->body;

    (%misses, $twice) = ();
    while ($body =~ /^llm_cache_team_\w+\{team="([^"]*)",result="miss"\} (\d+)$/mg) {
        $twice = $1 if defined $misses{$1};
        $misses{$1} = $2;
    }

    return sum0(values %misses) == @teams + 1;
}, 10);

is $twice, undef, 'no series is there twice';
is scalar(keys %misses), 1026, '1024 teams, the others and those of none';
is $misses{other}, 1 + 6, 'others are counted together';
is $misses{''}, 1, 'a key without a team';

done_testing;
