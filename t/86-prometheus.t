#!/usr/bin/perl

# What Prometheus and Grafana make of /metrics: promtool has no complaint, the
# rules fire when they should, rules, dashboard and documents name metrics that
# exist; accounts are told by team and model, whatever these are called; and a
# page of megabytes holds up nobody.

use warnings;
use strict;
use utf8;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);
use Encode qw(encode_utf8);
use IO::Socket::INET;
use JSON::PP;
use List::Util qw(sum0);

use Test::LLM;


my $top = "$FindBin::Bin/..";

system("$top/util/need.sh", 'promtool') == 0 or die "promtool is missing\n";

my $t = Test::LLM->new(workers => 2);

my $odd = "a \"b\"\\c – é😀";

$t->team('search', budget => { usd => 1, period => 'month' });
$t->team('day', budget => { usd => 0.5, period => 'day' });
$t->team('rich');
$t->key('user', team => 'search');
$t->key('day', team => 'day');
$t->key('lone', team => 'rich');
delete $t->{tenants}{keys}{lone}{team};
$t->key('narrow', team => 'rich', models => ['gpt-4.1']);

$t->write('prices.json', { '*' => { input => 0, output => 0 },
    dear => { input => 10_000, output => 10_000 } });

my $socket = 'unix:' . $t->path('internal.sock');
my $mock = $t->gateway(
    http => "llm_prices %%DIR%%/prices.json; llm_tasks on; llm_internal $socket;",
    provider => 'concurrency=50',
    server => "listen $socket;
        location = /v1/completions { llm_gateway; llm_cache on; }",
    routes => 'llm_provider dead uri=/llm/mock/ key=file:%%DIR%%/provider.key;
    llm_route both mock:gpt-4o dead;
    llm_route "two\nlines" mock;
    llm_route * mock;');

$mock->script(
    { match => { stream => \1 }, pace_ms => 3 },
    { match => { model => 'thinks' }, cached_tokens => 4,
      reasoning_tokens => 5 },
    { match => { model => 'fails' }, status => 400 });


# how the queue stands is told by who has looked at it

ok $t->until(sub { $t->metric('llm_tasks{state="queued"}') == 0 }, 10),
    'a queue';


# label values, and sums by them

$t->chat('Hello', model => $odd);
$t->chat('Hello', model => $odd, stream => 1) for 1 .. 2;
$t->chat('Hello', model => 'thinks', key => 'lone');
$t->chat('Hello', model => 'both', key => 'lone');
$t->chat('Hello', model => 'fails');
my %dear = (model => 'dear', body => { max_tokens => 20 });
$t->chat('Hello', %dear) for 1 .. 2;
$t->chat('Hello', %dear, key => 'day');
is $t->chat('Hello', %dear, key => 'day')->status, 429,
    'a budget is used up';
is $t->chat('Hello', key => 'narrow')->status, 404, 'a model of others';
$t->post('/v1/completions', { model => 'gpt-4o', prompt => 'x' },
    key => 'user') for 1 .. 2;

my ($body, %series);

sub look {
    my ($t, $timeout) = @_;

    $body = $t->get('/metrics', port => $t->port('PORT_ADMIN'),
        timeout => $timeout // 20)->body;
    %series = $body =~ /^([a-z]\S*(?:\{.*\})?) (-?[\d.]+)$/mg;

    return \%series;
}

sub escaped { encode_utf8($_[0]) =~ s/([\\"])/\\$1/gr =~ s/\n/\\n/gr }

my $name = escaped($odd);

$t->until(sub { (look($t)->{'llm_requests_total{team="search",model="' . $name
    . '",provider="mock",status="200"}'} // 0) == 3 }, 5);

my %expected = (
    requests => {
        qq(team="search",model="$name",provider="mock",status="200") => 3,
        'team="",model="thinks",provider="mock",status="200"' => 1,
        'team="",model="gpt-4o",provider="mock",status="200"' => 1,
        # a name that nobody but a client has told
        'team="search",model="other",provider="mock",status="400"' => 1,
        'team="search",model="dear",provider="mock",status="200"' => 2,
        'team="day",model="dear",provider="mock",status="200"' => 1,
        'team="day",model="dear",provider="",status="429"' => 1,
        'team="rich",model="",provider="",status="404"' => 1,
        'team="search",model="gpt-4o",provider="mock",status="200"' => 1,
        'team="search",model="gpt-4o",provider="",status="200"' => 1,
    },
    tokens => {
        qq(team="search",model="$name",type="prompt") => 30,
        qq(team="search",model="$name",type="completion") => 60,
        'team="",model="thinks",type="prompt"' => 10,
        'team="",model="thinks",type="cached"' => 4,
        'team="",model="thinks",type="completion"' => 20,
        'team="",model="thinks",type="reasoning"' => 5,
        'team="",model="gpt-4o",type="prompt"' => 10,
        'team="",model="gpt-4o",type="completion"' => 20,
        'team="search",model="other",type="prompt"' => 0,
        'team="search",model="other",type="completion"' => 0,
        'team="search",model="dear",type="prompt"' => 20,
        'team="search",model="dear",type="completion"' => 40,
        'team="day",model="dear",type="prompt"' => 10,
        'team="day",model="dear",type="completion"' => 20,
        'team="rich",model="",type="prompt"' => 0,
        'team="rich",model="",type="completion"' => 0,
        'team="search",model="gpt-4o",type="prompt"' => 10,
        'team="search",model="gpt-4o",type="completion"' => 20,
    },
    cost_usd => {
        qq(team="search",model="$name") => '0.000000',
        'team="",model="thinks"' => '0.000000',
        'team="",model="gpt-4o"' => '0.000000',
        'team="search",model="other"' => '0.000000',
        'team="search",model="dear"' => '0.600000',
        'team="day",model="dear"' => '0.300000',
        'team="rich",model=""' => '0.000000',
        'team="search",model="gpt-4o"' => '0.000000',
    });

for my $family (sort keys %expected) {
    my %is = map { /^llm_${family}_total\{(.*)\}$/ ? ($1 => $series{$_}) : () }
        keys %series;
    is_deeply \%is, $expected{$family}, "$family by labels";
}


# times

for my $family (qw(request_duration time_to_first_token queue_duration)) {
    my $labels = qq(provider="mock",model="$name");
    my $base = "llm_${family}_seconds";

    # one of the three was no stream
    my $n = $family eq 'time_to_first_token' ? 2 : 3;

    is $series{"${base}_count{$labels}"}, $n, "$family: all of them";
    is $series{qq(${base}_bucket{$labels,le="+Inf"})}, $n, "$family: +Inf";
    is $series{qq(${base}_bucket{$labels,le="600"})}, $n, "$family: 600 s";
    like $series{"${base}_sum{$labels}"}, qr/^\d\.\d{6}$/, "$family: sum";
}

cmp_ok $series{qq(llm_time_between_events_seconds_count{provider="mock",)
    . qq(model="$name"})}, '>', 10, 'pauses of streams';

my @buckets = $body =~ /^llm_request_duration_seconds_bucket\{provider="mock",
    model="dear",le="[^"]*"\}\ (\d+)$/mgx;
is_deeply \@buckets, [sort { $a <=> $b } @buckets], 'buckets ascend';
is $buckets[-1], 3, 'to all';


# budgets

is $series{'llm_budget_usd{team="search"}'}, '1.000000', 'a budget';
is $series{'llm_budget_used_usd{team="search"}'}, '0.600000', 'used';
is $series{'llm_budget_used_ratio{team="search"}'}, '0.600000', 'of it';
is $series{'llm_budget_used_ratio{team="day"}'}, '0.600000', 'of a day';
is $series{'llm_budget_usd{team="rich"}'}, undef, 'one without';

my @now = gmtime;
my ($day, $month) = map { $series{"llm_budget_resets_timestamp_seconds{team="
    . "\"$_\"}"} // 0 } qw(day search);
is $day % 86400, 0, 'a day ends at midnight';
cmp_ok abs($day - time - 43200), '<=', 43201, 'today';
is join(' ', (gmtime $month)[0 .. 3]), '0 0 0 1', 'a month on the first';
cmp_ok $month, '>=', $day, 'later';


# the rest

is $series{llm_usage_folded_total}, 0, 'none is folded';
is $series{'llm_policy_keys{source="file"}'}, 4, 'keys of the file';
is $series{'llm_policy_keys{source="admin"}'}, 0, 'none of the admin API';
is $series{'llm_policy_teams{source="file"}'}, 3, 'teams';
cmp_ok abs($series{llm_start_timestamp_seconds} - time), '<', 60, 'its start';
is $series{'llm_provider_slots_in_use{provider="mock"}'}, 0, 'slots';
is $series{'llm_route_targets{route="both",state="closed"}'}, 2,
    'targets of a route';
is $series{'llm_route_targets{route="two\nlines",state="closed"}'}, 1,
    'a line break in a name';
is $series{'llm_route_targets{route="*",state="open"}'}, 0, 'none is ill';

cmp_ok abs($series{llm_policy_loaded_timestamp_seconds} - time), '<', 60,
    'the file was read';
$t->write('tenants.json', '{"keys":');
$t->becomes('llm_policy_reload_failures_total', 1, 'a broken one is counted');
$t->write('tenants.json', $t->{tenants});

my $head = Test::LLM::HTTP->start(port => $t->port('PORT_ADMIN'),
    path => '/metrics', method => 'HEAD');
$head->wait;
is $head->status, 200, 'HEAD';
is $head->body, '', 'no body';


# promtool

look($t);
$t->write('page', $body);

sub promtool {
    my ($what, @arguments) = @_;

    my $out = qx(cd \Q$top\E/config/prometheus && promtool @arguments 2>&1);
    is $? >> 8, 0, $what or diag $out;

    return $out;
}

my %stands;
is join(' ', grep { $stands{$_}++ } $body =~ /^(\w+(?:\{.*\})?) /mg), '',
    'no series stands twice, be a target met by two routes';
is promtool('check metrics', 'check metrics <' . $t->path('page')), '',
    'no complaint';
promtool('check rules', 'check rules rules.yml');
promtool('check config', 'check config prometheus.yml');
promtool('test rules', 'test rules rules.test.yml');


# names: page, document, rules, dashboard

sub slurp {
    open my $in, '<', "$top/$_[0]" or die "$_[0]: $!\n";
    local $/;
    return <$in>;
}

sub names { my %n = map { $_ => 1 } @_; return join "\n", sort keys %n }

my $rules = slurp('config/prometheus/rules.yml');
my %type = $body =~ /^# TYPE (\w+) (\w+)$/mg;
my %doc = slurp('docs/metrics.md') =~ /^\| `(llm_\w+)` \| (\w+) \|/mg;

is names(grep { !$doc{$_} } keys %type), '', 'the document tells of all';
is names(grep { !$type{$_} } keys %doc), '', 'it tells of no others';
is_deeply { map { $_ => $doc{$_} } grep { $type{$_} } keys %doc },
    { map { $_ => $type{$_} } grep { $doc{$_} } keys %type }, 'by their types';

my %known = (%type, map({ $_ => 1 } $rules =~ /^ +- record: (\S+)$/mg),
    map { +"${_}_bucket" => 1, "${_}_sum" => 1, "${_}_count" => 1 }
        grep { $type{$_} eq 'histogram' } keys %type);

sub unknown {
    my %used = map { $_ => 1 } map { /\b((?:\w+:)?llm_\w+(?::\w+)?)\b/g } @_;
    cmp_ok scalar(keys %used), '>', 10, 'uses some';
    return names(grep { !$known{$_} } keys %used);
}

my @expressions = $rules =~ /^ +expr:(?: \|\n)?(.*(?:\n {10}.*)*)/mg;
is unknown(@expressions), '', 'rules use what there is';

my @alerts = $rules =~ /alert: (\w+)/g;
my $tests = slurp('config/prometheus/rules.test.yml');
is names(grep { $tests !~ /alertname: $_\n +exp_alerts/
    || $tests !~ /alertname: $_\n(?! +exp_alerts)/ } @alerts), '',
    'each alert is tested, firing and not';

my $operate = slurp('docs/operate.md');
is names(grep { $operate !~ /^### \Q$_\E$/m } $rules =~ /operate\.md#(\S+)/g),
    '', 'each alert has its chapter';
is names(grep { $operate !~ /^\*$_:/m } @alerts), '', 'that begins with it';


# the dashboard

my $dashboard = decode_json(slurp('config/grafana/ngx-llm.json'));
my @panels = grep { $_->{type} ne 'row' } @{$dashboard->{panels}};
my @exprs = map { map { $_->{expr} } @{$_->{targets}} } @panels;
my %id;

cmp_ok scalar(@panels), '>', 20, 'a dashboard';
is names(grep { $id{$_->{id}}++ } @{$dashboard->{panels}}), '',
    'panels have ids of their own';
is unknown(@exprs), '', 'it uses what there is';

my %variable = map { $_->{name} => $_ } @{$dashboard->{templating}{list}};
is names(keys %variable), names(qw(datasource instance team model provider)),
    'its variables';
is names(grep { !$variable{$_} && !/^__/ } map { /\$\{?(\w+)/g } @exprs), '',
    'it uses no others';
is names(map { $_->{title} } grep {
    ($_->{datasource}{uid} // '') ne '${datasource}' } @panels), '',
    'each panel asks the data source that was chosen';

# as rules: whoever takes them can read them

my %value = (__rate_interval => '5m', __range => '6h',
    map { $_ => '.*' } keys %variable);
my $n = 0;
$t->write('panels.yml', { groups => [{ name => 'panels', rules => [map {
    my $expr = $_;
    $expr =~ s/\$\{?(\w+)\}?/$value{$1}/g;
    { record => 'panel:' . $n++, expr => $expr } } @exprs] }] });
like promtool('its expressions', 'check rules ' . $t->path('panels.yml')),
    qr/SUCCESS: \d+ rules/, 'can be read';


# many names: a page of megabytes

my $t2 = Test::LLM->new(workers => 1);
my ($teams, $models) = $t2->sanitized ? (100, 10) : (1000, 20);

for my $i (1 .. $teams) {
    $t2->{tenants}{teams}{"team-$i"} = { budget => { usd => 100,
        period => 'day' } };
    $t2->{tenants}{keys}{"key-$i"} = { team => "team-$i",
        sha256 => sha256_hex($t2->secret("key-$i")) };
}

$t2->key('user');
$t2->gateway(redis => 0, zone => 'usage=64m',
    http => 'keepalive_requests 100000;');

my $resident = resident();
fill();

$t2->until(sub { look($t2); sum0(map { $series{$_} }
    grep { /^llm_requests_total/ } keys %series) >= $teams * $models }, 10);

is scalar(grep { /^llm_requests_total\{/ } keys %series), $teams * $models,
    'a series for each team and model';
is scalar(grep { /^llm_tokens_total\{/ } keys %series), 2 * $teams * $models,
    'two of tokens';
is scalar(grep { /^llm_cost_usd_total\{/ } keys %series), $teams * $models,
    'one of money';
is scalar(grep { /^llm_budget_used_ratio\{/ } keys %series), $teams,
    'all budgets';
is scalar(grep { /^llm_(?:requests|tokens)_total/ && $series{$_}
    != (/prompt/ ? 10 : /completion/ ? 20 : 1) } keys %series), 0,
    'each is right';
is $series{llm_usage_folded_total}, 0, 'there is room for all';
like $body, qr/\n\z/, 'the page is whole';

my $size = length $body;
my $lines = $body =~ tr/\n//;
diag sprintf '%d teams, %d models: %d lines, %d bytes, %.1f ms, %d KB more',
    $teams, $models, $lines, $size,
    1000 * look($t2)->{llm_scrape_duration_seconds}, resident() - $resident;

cmp_ok resident() - $resident, '<', 48 * 1024, 'memory is bounded'
    if !$t2->sanitized;

# promtool compares each series with all of its name since 2.5x: not all then
my %taken;
$t2->write('page', join '', grep { !/^(\w+)\{/ || $taken{$1}++ < 500 }
    split /^/, $body);
is scalar(keys %series), scalar(grep { !/^#/ } split /^/, $body),
    'no series stands twice';
is promtool('check metrics', 'check metrics <' . $t2->path('page')), '',
    'no complaint about that one';


# somebody who does not read: the page waits, nobody else does

my @slow = map { $t2->start_get('/metrics', port => $t2->port('PORT_ADMIN'),
    paused => 1, rcvbuf => 4096, timeout => 60) } 1 .. 8;
Test::LLM::HTTP->idle(0.5);

my ($worker) = $t2->workers;
my $busy = cpu($worker);
is $t2->chat("Hello $_")->status, 200, 'others are served' for 1 .. 3;
Test::LLM::HTTP->idle(1);
cmp_ok cpu($worker) - $busy, '<', 50, 'nothing spins';

$slow[$_]->abort for 1 .. 3;
$_->resume for @slow;
$_->wait for @slow[0, 4 .. 7];
is scalar(grep { $_->complete && $_->body =~ /\n\z/
    && length $_->body >= $size - 100 } @slow[0, 4 .. 7]), 5,
    'and all get their page in the end';

# who leaves in the middle of it

$t2->start_get('/metrics', port => $t2->port('PORT_ADMIN'))->wait_head;
my $leaves = $t2->start_get('/metrics', port => $t2->port('PORT_ADMIN'));
$leaves->wait_head;
$leaves->abort;
is $t2->chat('Hello')->status, 200, 'one who leaves does no harm';

done_testing;


sub resident {
    my ($kb) = `cat /proc/@{[$t2->workers]}/status` =~ /VmHWM:\s+(\d+)/;
    return $kb;
}


# of a process, in ticks

sub cpu {
    my ($pid) = @_;

    open my $in, '<', "/proc/$pid/stat" or return 0;
    my @field = split ' ', <$in> =~ s/^.*\) //sr;

    return $field[11] + $field[12];
}


# one request for each team and model, many on one connection

sub fill {
    my $good = 0;

    for my $i (1 .. $teams) {
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $t2->port) or die "connect: $!\n";
        my $secret = $t2->secret("key-$i");
        my $text = '';

        for my $k (1 .. $models) {
            my $json = qq({"model":"model-$k","messages":[{"role":"user",)
                . '"content":"x"}]}';
            $text .= "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
                . "Authorization: Bearer $secret\r\n"
                . ($k == $models ? "Connection: close\r\n" : '')
                . 'Content-Length: ' . length($json) . "\r\n\r\n$json";
        }

        syswrite $socket, $text;
        my $answers = '';
        1 while sysread $socket, $answers, 65536, length $answers;
        $good += () = $answers =~ m{^HTTP/1\.1 200 }mg;
    }

    is $good, $teams * $models, 'all requests are answered';
}
