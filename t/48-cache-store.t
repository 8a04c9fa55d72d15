#!/usr/bin/perl

# What lies in the cache's own Redis: encrypted, compressed, for its time, and
# nothing of it believed; and what is felt of that Redis when it is ill.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Proxy;


my $hit  = '200 ngx-llm; hit; ttl=N, calls: 0';
my $miss = '200 ngx-llm; fwd=uri-miss, calls: 1';

my $timeout = 0.2;
my $seen = 0;

my ($t, $u, $v, $w) = map { Test::LLM->new } 1 .. 4;
my $limits = $t->redis(name => 'limits');
my $cache = $t->redis(name => 'cache');
my $proxy = Test::LLM::Proxy->new($t, $cache);
my $mock = $t->mock;

# $t asks through the proxy; $u has another secret, $v another of the same
# name, $w has none

my %secret = (t => 'a' x 64, u => 'b' x 64, v => 'c' x 64);

gateway($t, $proxy->url, "$secret{t} id=first");
gateway($u, $cache->url, "$secret{u} id=second");
gateway($v, $cache->url, "$secret{v} id=first");
gateway($w, $cache->url);

up($_) for $t, $u, $v, $w;


# who has which keys

is $t->chat('limited')->header('x-ratelimit-limit-requests'), 1_000_000,
    'limits are kept';
my @limits = @{$limits->command(KEYS => '*')};
cmp_ok scalar @limits, '>', 0, 'in their own Redis';
is scalar(grep { /^\{llm\}:[cl]\d/ } @limits), 0, 'where no answers are';
is scalar(grep { !/^\{llm\}:[cl]\d+:[0-9a-f]{64}$/ } entries()), 0,
    'answers are in the other one, under digests';
cmp_ok scalar entries(), '>=', 5, 'all of them';


# nothing to be read, and what is read without a secret

my $word = qr/zanzibar|quagmire|gpt-4o|mock|chatcmpl|choices|assistant
    |application|finish_reason|sk-llm|sk-provider/xi;

script({ content => 'quagmire ' x 5 });
for my $stream (0, 1) {
    my $from = entries_of(sub { $t->chat("zanzibar $stream",
        stream => $stream) });
    is scalar(@$from), 1, 'an entry';
    unlike $from->[0] . $cache->command(GET => $from->[0])
        . $cache->command(DUMP => $from->[0]), $word,
        'encrypted: nothing can be read';

    $from = entries_of(sub { $w->chat("zanzibar $stream",
        stream => $stream) });
    like $cache->command(GET => $from->[0]), qr/quagmire/,
        'without a secret it can';
    unlike $cache->command(GET => $from->[0]), qr/zanzibar/,
        'but not the prompt';
}

my $open = join '', map { $cache->command(DUMP => $_) // '' }
    entries_of(sub { $t->chat("long zanzibar") })->[0];
unlike $open . join('', @limits, map { $limits->command(DUMP => $_) // '' }
    @limits), qr/zanzibar|quagmire|sk-/, 'nor with the limits';
script();


# who can read it

$t->chat('ours');
forget();
is outcome($t->chat('ours')), $hit, 'with the secret';
is outcome($u->chat('ours')), $miss, 'with another';
is outcome($v->chat('ours')), $miss, 'with another of the same name';
is outcome($w->chat('ours')), $miss, 'without one';
is outcome($_->chat('ours')), $hit, 'each has its own' for $t, $u, $v, $w;


# what was moved: under another name, or to somebody with another secret

my ($mine) = @{entries_of(sub { $t->chat('moved, mine') })};
my ($second) = @{entries_of(sub { $t->chat('moved, second') })};

for my $case (
    [ $t, 'another name', 'damaged' ],
    [ $u, 'another secret', 'sealed' ],
    [ $v, 'another secret of the same name', 'damaged' ],
    [ $w, 'no secret', 'sealed' ],
) {
    my ($g, $name, $reason) = @$case;
    my ($key) = $g == $t ? $second
        : @{entries_of(sub { $g->chat('moved, second') })};
    forget();

    my %before = damaged($g);
    $cache->command(SET => $key, $cache->command(GET => $mine));
    is outcome($g->chat('moved, second')), $miss, "moved: $name: a miss";
    my %after = damaged($g);
    is $after{$reason}, $before{$reason} + 1, "moved: $name: counted";
    is outcome($g->chat('moved, second')), $hit, "moved: $name: repaired";
}

my ($plain) = @{entries_of(sub { $w->chat('an open one') })};
my ($key) = @{entries_of(sub { $t->chat('an open one') })};
my %before = damaged($t);
forget();
$cache->command(SET => $key, $cache->command(GET => $plain));
is outcome($t->chat('an open one')), $miss, 'an open one: a miss';
my %after = damaged($t);
is $after{open}, $before{open} + 1, 'an open one: counted';


# every bit of it counts

for my $case ([ $t, 'sealed', 'bits' ], [ $w, 'open', 'bits' ],
    [ $t, 'sealed, compressed', 'bits, long' ],
    [ $w, 'open, compressed', 'bits, long' ])
{
    my ($g, $name, $text) = @$case;

    script({ match => { body => 'long' }, content_bytes => 5000 });
    ($key) = @{entries_of(sub { $g->chat($text) })};

    my $good = $cache->command(GET => $key);
    my $size = length $good;
    my @places = sort { $a <=> $b } 0 .. 47, map({ $size - $_ } 1 .. 34),
        map { int($_ * $size / 20) } 3 .. 18;
    my %before = damaged($g);
    my ($tried, @taken) = (0);

    for my $at (@places) {
        my $bad = $good;
        substr($bad, $at, 1) ^= chr(1 << $at % 8);
        $cache->command(SET => $key, $bad);
        $tried++;
        push @taken, $at
            if $g->chat($text)->header('Cache-Status') =~ /hit/;
        repaired($key, $bad) or push @taken, "not repaired $at";
    }

    my %after = damaged($g);
    is "@taken", '', "$name: none of $tried changed bits gave an answer";
    is $after{all} - $before{all}, $tried, "$name: all were counted";

    %before = %after;
    for my $length (0, 1, 7, 8, 20, 40, int $size / 2, $size - 1) {
        $cache->command(SET => $key, substr $good, 0, $length);
        forget();
        is outcome($g->chat($text)), $miss, "$name: $length bytes of it";
        ok repaired($key, substr $good, 0, $length), "$name: repaired";
    }
    $cache->command(SET => $key, $good . 'x');
    forget();
    is outcome($g->chat($text)), $miss, "$name: a byte more";
    ok repaired($key, $good . 'x'), "$name: repaired";
    %after = damaged($g);
    is $after{all} - $before{all}, 9, "$name: counted, too";

    $cache->command(SET => $key, $good);
    forget();
    is outcome($g->chat($text)), $hit, "$name: as it was: a hit";
    script();
}


# its time

my @times = map { $cache->command(PTTL => $_) / 1000 }
    @{entries_of(sub { $t->chat("time $_") for 1 .. 50 })};
is scalar(@times), 50, 'fifty answers';
is scalar(grep { $_ <= 3600 * 0.9 - 20 || $_ > 3600 } @times), 0,
    'live 90 to 100 % of an hour';
my %times = map { int($_) => 1 } @times;
cmp_ok scalar(keys %times), '>', 30, 'each its own';

my ($stale) = @{entries_of(sub { $t->chat('stale',
    port => $t->port('PORT_STALE')) })};
cmp_ok $cache->command(TTL => $stale), '>', 3600 + 3240 - 20,
    'longer, if it will do when it is old';


# its size

script({ content_bytes => 50_000 });
for my $g ($t, $w) {
    my $first;
    ($key) = @{entries_of(sub { $first = $g->chat('fifty') })};
    cmp_ok length $first->body, '>', 50_000, 'an answer of 50 KB';
    cmp_ok $cache->command(STRLEN => $key), '<', 10_000, 'less than 10 in Redis';
    forget();
    my $r = $g->chat('fifty');
    is outcome($r), $hit, 'and back';
    is $r->body, $first->body, 'as it was';
}

srand 1;
my $noise = join '', map { ('A' .. 'Z', 'a' .. 'z', 0 .. 9, '+', '/')
    [rand 64] } 1 .. 900_000;
script({ content => $noise });
my $first = $t->chat('noise');
forget();
my $r = $t->chat('noise');
is outcome($r), $hit, 'what cannot be compressed';
is $r->body, $first->body, 'as it was';
script();


# what is old and lies in Redis alone: given at once while one asks for a new
# one, and when the provider has none

my $delay = 2000;

for my $stream (0, 1) {
    my $kind = $stream ? 'stream' : 'JSON';
    my @ask = (stream => $stream, port => $t->port('PORT_RENEW'));
    my ($id, $last) = id($t->chat("old $kind", @ask));

    script({ delay_ms => $delay });
    ok $t->until(sub { $last = $t->chat("old $kind", @ask);
        $mock->stats->{requests} }, 10), "old: $kind: after its time";
    is id($last), $id, "old: $kind: the old one";

    my @many = map { $t->start_chat("old $kind", @ask) } 1 .. 30;
    $_->wait for @many;
    is scalar(grep { ($_->status // 0) == 200 && id($_) eq $id } @many), 30,
        "old: $kind: thirty have it, too";
    my ($slow) = sort { $b <=> $a } map { $_->end } @many, $last;
    cmp_ok $slow, '<', $delay / 1000 * 0.7, "old: $kind: at once: $slow s";
    is $mock->stats->{requests}, 1, "old: $kind: one call";
    ok $mock->wait(done => 1), "old: $kind: that comes to its end";
    ok $t->until(sub { id($t->chat("old $kind", @ask)) ne $id }),
        "old: $kind: then there is a new one";

    @ask = (stream => $stream, port => $t->port('PORT_ERROR'));
    script();
    $id = id($t->chat("need $kind", @ask));
    script({ status => 503 });
    ok $t->until(sub { $last = $t->chat("need $kind", @ask);
        $mock->stats->{requests} }, 10), "need: $kind: after its time";
    is $last->status, 200, "need: $kind: no 503";
    is id($last), $id, "need: $kind: the old one";
    script();
}


# ill: nothing but misses, no wait beyond the deadline, few words

my @memory = (port => $t->port('PORT_MEMORY'));
$t->chat('in memory', @memory);
$t->chat('in Redis');
forget();
is outcome($t->chat('in Redis')), $hit, 'well';

for my $ill (
    [ 'dead', sub { $cache->stop('KILL') }, sub { $cache->start } ],
    [ 'stopped', sub { $cache->pause }, sub { $cache->resume } ],
    [ 'slow', sub { $proxy->fault('latency 500') },
        sub { $proxy->fault('pass') } ],
    [ 'hangs', sub { $proxy->fault('stall-after 0');
        $proxy->fault('hang') }, sub { $proxy->fault('pass') } ],
    [ 'refuses', sub { $proxy->fault('refuse'); $proxy->fault('drop') },
        sub { $proxy->fault('pass'); chmod 0777, $t->path('proxy.sock') } ],
    [ 'cuts', sub { $proxy->fault('down rst-after 10') },
        sub { $proxy->fault('pass') } ],
    [ 'full', sub { $cache->command(qw(CONFIG SET maxmemory 1)) },
        sub { $cache->command(qw(CONFIG SET maxmemory 0)) } ],
    [ 'read only', sub { $cache->command(qw(REPLICAOF 127.0.0.1 1)) },
        sub { $cache->command(qw(REPLICAOF NO ONE)) } ],
    [ 'loses everything', sub { $cache->command('FLUSHALL') }, sub { } ],
    [ 'started anew', sub { $cache->stop; $cache->start }, sub { } ],
) {
    my ($name, $ill, $well) = @$ill;
    my $lines = loud();

    $ill->();

    my (@took, %status);
    my ($hits, $limited) = (0, 0);

    # new ones, each of them twice: who stored nothing must not be in the way
    for my $n (1 .. 15) {
        for (1, 2) {
            my $start = time;
            my $r = $t->chat("$name $n");
            push @took, time - $start;
            $status{$r->status // $r->error}++;
            $hits++ if $r->header('Cache-Status') =~ /hit/;
            $limited++ if $r->header('x-ratelimit-remaining-requests');
        }
        Test::LLM::HTTP->idle(0.02);
    }

    is join(' ', %status), '200 30', "$name: all are served";
    is $limited, 30, "$name: and have their limits";

    my ($most) = sort { $b <=> $a } @took;
    my $late = grep { $_ > $timeout * 0.8 } @took;
    cmp_ok $most, '<', $timeout + 0.3, "$name: the longest took $most s";
    cmp_ok $late, '<=', 4, "$name: $late waited";
    is $hits, $name =~ /loses/ ? 15 : 0, "$name: $hits hits"
        if $name !~ /anew/;

    my $start = time;
    $r = $t->chat('in memory', @memory);
    like $r->header('Cache-Status'), qr/hit/, "$name: memory has its hits";
    cmp_ok time - $start, '<', $timeout * 0.8, "$name: at once";

    $start = time;
    my @many = map { $t->start_chat("$name, many $_") } 1 .. 50;
    $_->wait for @many;
    is scalar(grep { ($_->status // 0) == 200 } @many), 50,
        "$name: fifty at a time";
    cmp_ok time - $start, '<', 2 * $timeout + 1.5, "$name: together";

    cmp_ok loud() - $lines, '<=', 4, "$name: few lines in the log"
        or diag join '', grep { !/\[(?:info|notice)\]/ } split /^/, $t->log;

    $well->();
    ok $t->until(sub { $t->chat("$name, then")->header('Cache-Status')
        =~ /hit/ }, 15), "$name: then hits again";
    cmp_ok loud() - $lines, '<=', 5, "$name: and a line for that";
}


# anew while calls are under way

script({ delay_ms => 400 });
my @open = map { $t->start_chat("under way $_", stream => $_ % 2) } 1 .. 20;
ok $mock->wait(in_flight => 20), 'twenty calls';
$cache->stop('KILL');
$cache->start;
$_->wait for @open;
is scalar(grep { $_->status == 200 && $_->complete } @open), 20,
    'Redis anew: all have their answers';
is $mock->stats->{requests}, 20, 'Redis anew: one call each';
script();
ok $t->until(sub { $t->chat('anew')->header('Cache-Status') =~ /hit/ }, 15),
    'Redis anew: hits';

is $limits->command('PING'), 'PONG', 'the Redis of the limits was well';

done_testing;


# shares Redis, mock and keys with $t

sub gateway {
    my ($g, $url, $secret) = @_;

    $g->key('user', requests_per_minute => 1_000_000);
    $g->token(REDIS => $limits->url . ' timeout=2s');
    $g->token(CACHE => $url);
    $g->token(MOCK => $t->token('MOCK'));

    my $id = '';
    if ($secret) {
        ($secret, $id) = split ' ', $secret;
        $g->write('fleet.secret', "$secret\n");
        $id = "llm_secret file:%%DIR%%/fleet.secret $id;";
    }

    $g->gateway(location => 'llm_cache on memory=0; llm_retry tries=1;',
        http => "llm_redis_cache %%CACHE%% timeout=${\ int 1000 * $timeout}ms;"
            . "\n$id\n"
            . server(MEMORY => 'llm_cache on;')
            . server(RENEW => 'llm_cache on memory=0 ttl=1s'
                . ' stale_while_revalidate=1h;')
            . server(ERROR => 'llm_cache on memory=0 ttl=1s'
                . ' stale_if_error=1h;')
            . server(STALE => 'llm_cache on memory=0 stale_if_error=1h;'));
}


sub server {
    my ($port, $cache) = @_;

    return <<EOT;
    server {
        listen 127.0.0.1:%%PORT_$port%%;
        location / { llm_gateway; llm_retry tries=1; $cache }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
}


# workers connect after their start, and ask when they know what was purged

sub up {
    my ($g) = @_;
    ok $g->until(sub { $g->chat('up')->header('Cache-Status') =~ /hit/ }, 10),
        'the Redis of the cache is asked';
    forget();
}


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


# the answer's id, in either shape

sub id {
    my ($r) = @_;
    return $r->body =~ /"id":"(chatcmpl-\w+)"/ ? $1 : 'none';
}


sub script {
    $mock->script(@_);
    $seen = 0;
}


sub entries { @{$cache->command(KEYS => '{llm}:c*')} }


# the entries that this makes; they are on their way when the client has its
# answer

sub entries_of {
    my ($do) = @_;

    my %before = map { $_ => 1 } entries();
    my ($calls, @new) = $mock->stats->{requests};

    $do->();
    $calls = $mock->stats->{requests} - $calls;
    $t->until(sub { @new = grep { !$before{$_} } entries();
        @new >= $calls });

    return \@new;
}


# whether something else lies there now: it is on its way when the client has
# its answer, and must not come behind what is put there next

sub repaired {
    my ($key, $bad) = @_;
    return $t->until(sub { $cache->command(GET => $key) ne $bad }, 2);
}


# what was not taken, by reason

sub damaged {
    my ($g) = @_;

    my $text = $g->get('/metrics', port => $g->port('PORT_ADMIN'))->body;
    my %count = $text =~ /^llm_cache_damaged_total\{reason="(\w+)"\} (\d+)$/mg;
    my $all = 0;
    $all += $_ for values %count;

    return (%count, all => $all);
}


# lines of the log that somebody is to read

sub loud {
    return scalar grep { !/\[(?:info|notice|debug)\]/ } split /^/, $t->log;
}
