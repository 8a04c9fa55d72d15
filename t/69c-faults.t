#!/usr/bin/perl

# Ten thousand requests through a random mix of all faults that a provider can
# have: nothing of them stays behind.  Memory is what it was after the first
# thousand, no slot is held, and no descriptor is open.
# TEST_LLM_FAULTS=100000 makes it longer.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use JSON::PP;
use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

my $all = $ENV{TEST_LLM_FAULTS} // ($t->sanitized ? 2000 : 10_000);
my $seed = $ENV{TEST_LLM_SEED} // int rand 1 << 30;
my $at_once = 28;
my $slots = 16;
my $start = time;

srand $seed;
note "TEST_LLM_SEED=$seed, $all requests";

$t->key('user', requests_per_minute => 10_000_000, concurrency => 24,
    queue => { size => 1000, timeout_ms => 10_000 });

# bound, but nobody listens
my $dead = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp');
$t->token(DEAD => '127.0.0.1:' . $dead->sockport);

my $common = 'llm_retry tries=2 base=1ms cap=2ms budget=100 floor=1000;
            llm_breaker off;';
my $timeout = 'llm_timeout total=5s first_byte=80ms between=120ms';

my $locations = '
        location /llm/dead/ {
            internal; proxy_pass http://%%DEAD%%/v1/; %%PROXY%%
        }';

sub server {
    my ($port, $more) = @_;

    return "
    server {
        listen 127.0.0.1:%%$port%%;
        location / { llm_gateway; $common $timeout$more }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
        $locations
    }";
}

my $mock = $t->gateway(
    redis => 0,
    mock => ['--journal', 0],
    location => "$common $timeout;",
    server => $locations,
    provider => "concurrency=$slots",
    http => server(PORT_HEART => '; llm_heartbeat 20ms grace=40ms;')
        . server(PORT_CACHE => '; llm_cache on;')
        . server(PORT_DRAIN => ' drain=200ms; llm_cache on;'),
    routes => 'llm_provider dead uri=/llm/dead/;
    llm_route dead dead;
    llm_route both dead mock;
    llm_route * mock;',
);

my @ports = map { $t->port($_) } qw(PORT PORT PORT_HEART PORT_CACHE
    PORT_DRAIN);

# each for JSON and for streams; every second time it acts the fault is over,
# so that some requests are good after a retry

my $plain = { 'content-type' => 'text/plain' };
my @faults = (
    {}, {}, {}, {},
    { content_bytes => 40_000 },
    { chunks => 60, chunk_bytes => 1000 },
    { chunks => 4, pace_ms => 30 },
    { delay_ms => 60 },
    { usage => 'none' }, { usage => 'every' },
    { comment => 'still here' }, { eol => 'crlf' }, { slice => 30 },
    { framing => 'close' }, { framing => 'length' }, { framing => 'chunked' },
    { keep_alive => \0 }, { early => \1 },
    { tool_name => 'look', tool_args => '{"a":1}' },
    (map { { status => $_, headers => { 'retry-after-ms' => 1 } } }
        400, 401, 404, 408, 413, 422, 429, 500, 502, 503, 504, 529, 302),
    { status => 500, body => '<html></html>', headers => $plain },
    { status => 503, body => 'x' x 100_000, headers => $plain },
    { status => 400, body => '[{"error":{"message":"m"}}]' },
    { status => 400, body => '' },
    { body => '{"error":{"message":"m","type":"t","code":null}}' },
    { body => 'so sorry' }, { body => '' }, { body => '[]' },
    { body => '{"choices":[' }, { garbage => 300 }, { truncate => 50 },
    { content_length => 5000, keep_alive => \0 }, { content_length => 50 },
    { raw => "so sorry\r\n\r\n" }, { raw => "HTTP/1.1 200 OK\r\nConte" },
    { hang => \1 },
    (map { my $cut = $_; map { { cut => $cut, cut_at => $_ } }
        'start', 'head', 40, 300, 700, 1100, 1900 } qw(rst close clean)),
    (map { { cut => $_, cut_events => 5 } } qw(rst close clean hang)),
    (map { { error_event => $_ } } 0, 1, 5),
    { error_event => 4, error_done => \1 },
    { no_done => \1 }, { no_done => \1, finish_reason => 'none' },
    { finish_reason => 'none' },
    { idle_at => 3, idle_ms => 60 }, { idle_at => 3, idle_ms => 300 },
);

# Those that take much memory come last: what of it malloc() keeps would hide
# what is lost.

my $large = @faults;

push @faults, (
    { content_bytes => 1_200_000 }, { chunks => 4, chunk_bytes => 300_000 },
    { content_bytes => 1_500_000, cut => 'rst', cut_at => 1_200_000 },
);

my @rules;

for my $n (0 .. $#faults) {
    my %match = (match => { body => "<$n>" });

    push @rules, { %match, every => 3, delay_jitter_ms => 5 },
        { %match, %{$faults[$n]} };
}

$mock->script(@rules);


# what there was before the first of them

my @workers = $t->workers;
my %fds = map { $_ => descriptors($_) } @workers;


my (%live, %what, %bad, %seen, @memory);
my ($sent, $number) = (0, 0);

while ($sent < $all || %live) {
    start_one() while $sent < $all && keys %live < $at_once;

    Test::LLM::HTTP::pump(0.05);

    for my $id (keys %live) {
        my $one = $live{$id};

        if (defined $one->{leaves} && !defined $one->{r}->end
            && time >= $one->{leaves})
        {
            my $way = $one->{way};
            $one->{r}->$way;
            $one->{left} = 1;
        }

        next if !defined $one->{r}->end;

        ended(delete $live{$id});
    }

    push @memory, memory() if @memory < 10
        && $sent >= 0.094 * $all * (@memory + 1);
}

my $took = time - $start;

note sprintf '%.1f s; %s', $took, join ', ',
    map { "$_ $what{$_}" } sort keys %what;

is_deeply [map { "$_: $bad{$_}" } sort keys %bad], [],
    'each has one outcome that it may have';
cmp_ok $what{$_} // 0, '>', $all / 200, "many of them: $_"
    for 'whole', 'broken', 'refused', 'left';
is scalar(grep { !$seen{$_} } 0 .. $#faults), 0, 'every fault was had'
    if $all >= 5000;


# nothing is left

$t->all_back('at the end');
ok $mock->wait(in_flight => 0), 'the provider has nothing to do';

delete $t->{page};

is_deeply [$t->workers], \@workers, 'the workers are those of the start';

# idle connections to the provider end with it
$mock->listen(drop => 1);

for my $pid (@workers) {
    my $now;

    $t->until(sub { ($now = descriptors($pid)) eq $fds{$pid} }, 5);
    is $now, $fds{$pid}, "worker $pid: no descriptor is left";
}

# malloc() keeps up to 16 MB

my $end = memory();

for my $pid (@workers) {
    my @kb = map { $_->{$pid} } @memory;

    note "worker $pid, KB: @kb, at the end $end->{$pid}";
    cmp_ok $kb[-1] - $kb[0], '<', 500, "worker $pid: memory is flat"
        if !$t->sanitized;
    cmp_ok $end->{$pid} - $kb[-1], '<', 40_000,
        "worker $pid: large answers are given back" if !$t->sanitized;
}

my ($errors, $kinds) = strange();
is $kinds, '', "of $errors errors in the log each is of a kind that is "
    . 'expected';

is $t->chat('good')->status, 200, 'and on it goes';

done_testing;


sub start_one {
    my $n = $sent < 0.95 * $all ? int rand $large
        : $large + int rand @faults - $large;
    my $model = rand() < 0.02 ? 'dead' : rand() < 0.02 ? 'both' : 'gpt-4o';
    my $port = $ports[rand @ports];
    my %headers;

    # some are equal, so that calls are shared and answers come from the cache
    my $text = "<$n> " . (rand() < 0.3 ? int rand 3 : 'no ' . $sent);

    $headers{'x-request-timeout-ms'} = 20 + int rand 300 if rand() < 0.05;
    $headers{'x-stainless-retry-count'} = int rand 2 if rand() < 0.1;

    my $stream = rand() < 0.6;
    my $one = { n => $n, stream => $stream,
        r => $t->start_chat($text, model => $model, port => $port,
            headers => \%headers, $stream ? (stream => 1) : (),
            timeout => 60) };

    if (rand() < 0.1) {
        $one->{leaves} = time + rand 0.1;
        $one->{way} = rand() < 0.5 ? 'close' : 'abort';
    }

    $seen{$n}++;
    $sent++;
    $live{$number++} = $one;
}


sub ended {
    my ($one) = @_;

    my $is = outcome($one);

    $what{$is}++;
    $bad{"$is of " . JSON::PP->new->canonical->encode($faults[$one->{n}])
        . ($one->{stream} ? ', stream' : '')}++
        if $is !~ /^(?:whole|broken|refused|left)$/;
}


# left, refused (an error), whole, broken; anything else is wrong

sub outcome {
    my ($one) = @_;

    my $r = $one->{r};

    return 'left' if $one->{left};
    return 'no answer: ' . ($r->error // '') if !$r->status;

    if ($r->status != 200) {
        my $json = $r->json;
        return $r->complete && ref $json eq 'HASH'
            && ref $json->{error} eq 'HASH' ? 'refused'
            : 'bad error ' . $r->status;
    }

    if (($r->header('content-type') // '') !~ /event-stream/) {
        return $r->complete
            ? (ref $r->json eq 'HASH' ? 'whole' : 'no JSON')
            : length $r->body >= 900_000 ? 'broken' : 'broken JSON';
    }

    my @data = $r->data;
    my $said = grep { /^\{"error"/ } @data;

    return $said ? 'whole, with an error'
        : $r->body =~ /\[DONE\]|"finish_reason":"/ ? 'whole'
        : 'whole, without an end'
        if $r->complete && !theirs($one);
    return 'whole' if $r->complete;
    return 'broken without an error: ' . ($r->error // '') if !$said;

    return scalar(grep { $_ eq '[DONE]' } @data) ? 'broken, [DONE]' : 'broken';
}


# a provider's own error event passes, and may end well

sub theirs {
    my ($one) = @_;
    return $faults[$one->{n}]{error_event};
}


# KB of a worker that are its own: what all share is as large as configured

sub memory {
    my %memory;

    for my $pid (@workers) {
        open my $in, '<', "/proc/$pid/status" or next;
        ($memory{$pid}) = map { /^RssAnon:\s+(\d+) kB/ ? $1 : () } <$in>;
    }

    return \%memory;
}


# what is open, but for the numbers of sockets and the like

sub descriptors {
    my ($pid) = @_;

    my %open;

    for my $fd (glob "/proc/$pid/fd/*") {
        my $to = readlink $fd // next;
        $open{$to =~ s/:\[\d+\]//r}++;
    }

    return join "\n", map { "$_ $open{$_}" } sort keys %open;
}


# lines of the error log that no fault explains

sub strange {
    my @lines = grep { /\[(?:warn|error|crit|alert|emerg)\]/ }
        split /^/, $t->log;

    my @known = (qr/llm: provider "\w+" (?:failed|broke off|sent)/,
        qr/llm: a call that others follow broke off/,
        qr/upstream (?:prematurely closed|sent)/, qr/recv\(\) failed \(104/,
        qr/connect\(\) failed \(111/, qr/readv\(\) failed \(104/,
        qr/writev\(\) failed|send\(\) failed|sendfile\(\) failed/);
    my @other = grep { my $line = $_; !grep { $line =~ $_ } @known } @lines;

    return (scalar @lines, join '', @other > 5 ? @other[0 .. 4] : @other);
}
