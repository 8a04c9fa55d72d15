#!/usr/bin/perl

# Streams under pressure: slow clients, many at a time, HTTP/2, gzip.
#
# Alone: a slow client is measured.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Compress::Raw::Zlib qw(crc32 WANT_GZIP Z_OK Z_STREAM_END);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

sub server {
    my ($listen, $location) = @_;

    return <<EOT;
    server {
        listen 127.0.0.1:$listen;
        location / { llm_gateway; $location }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
}

my $mock = $t->gateway(provider => 'include_usage=off',
    redis => 0,
    http => server('%%PORT_SLOW%% sndbuf=64k', '')
        . server('%%PORT_H2%% http2', '')
        . server('%%PORT_GZIP%%', 'gzip on; gzip_min_length 0;
            gzip_types text/event-stream;'),
);


# a client that does not read stalls the provider; it gets all in the end

my $memory = memory();

$mock->script({ chunks => 5000, chunk_bytes => 10_000, keep => \1 });

my $r = $t->start_chat('hello', stream => 1, port => $t->port('PORT_SLOW'),
    rcvbuf => 8192, timeout => 60,
    on_event => sub { $_[0]->pause if @{$_[0]->events} == 2 });

ok $r->wait_events(2), 'the client has two events';
my $stalled = queued();
ok $t->until(sub {
    my $before = $stalled;
    Test::LLM::HTTP->idle(0.3);
    return ($stalled = queued()) == $before;
}, 20), 'and all comes to a stop';
is $mock->stats->{in_flight}, 1, 'the provider has not sent all';
ok !$mock->wait(done => 1, timeout_ms => 300), 'and does not go on';

my $grown = memory() - $memory;
cmp_ok $grown, '<', 12_000_000, "the workers have not grown: $grown";

is $t->chat('another')->status, 200, 'others are served';

$r->resume;
$r->wait;
my ($record) = $mock->journal;
ok $r->complete, 'the client reads on';
cmp_ok $record->{sent_length}, '>', 50_000_000, 'fifty megabytes';
is length($r->body), $record->{sent_length}, 'all of them';
is crc32($r->body), $record->{sent_crc32}, 'byte for byte';
$grown = memory() - $memory;
cmp_ok $grown, '<', 12_000_000, "and the workers have not grown: $grown";

# a client that does not read and then leaves

$mock->script({ chunks => 5000, chunk_bytes => 10_000 });
$r = $t->start_chat('hello', stream => 1, port => $t->port('PORT_SLOW'),
    rcvbuf => 8192,
    on_event => sub { $_[0]->pause if @{$_[0]->events} == 2 });
ok $r->wait_events(2), 'a client that stops reading';
Test::LLM::HTTP->idle(0.5);
$r->abort;
ok $mock->wait(client_closed => 1, timeout_ms => 3000),
    'and leaves takes the provider\'s stream with it';


# fifty at a time

$mock->script({ keep => \1, chunks => 20, pace_ms => 20 });
my @all = map { $t->start_chat("stream $_", stream => 1, timeout => 30,
    headers => { 'x-request-id' => "stream-$_" }) } 1 .. 50;
$_->wait for @all;

is +(grep { $_->complete } @all), 50, 'fifty streams end well';
cmp_ok $mock->stats->{max_in_flight}, '>=', 25, 'at the same time';

my %index = map { $_->{headers}{'x-request-id'} => $_->{index} }
    $mock->journal;
is +(grep { $all[$_]->body ne $mock->sent($index{'stream-' . ($_ + 1)}) }
    0 .. $#all), 0, 'each with its own bytes';


# HTTP/2

SKIP: {
    skip 'no curl with HTTP/2', 5
        if (qx(curl --version 2>/dev/null) // '') !~ /HTTP2/;

    $mock->script({ keep => \1, chunks => 10, pace_ms => 30 });
    my $body = JSON::PP->new->encode({ model => 'gpt-4o', stream => \1,
        messages => [{ role => 'user', content => 'hello' }] });
    my @curl = ('curl', '-sSN', '--http2-prior-knowledge', '-m', '20',
        '-H', 'Authorization: Bearer ' . $t->secret('user'), '-d', $body,
        'http://127.0.0.1:' . $t->port('PORT_H2') . '/v1/chat/completions');

    open my $out, '-|', @curl or die "curl: $!";
    my $first = sysread $out, my $got, 65536;
    ok $first && $got !~ /DONE/, 'HTTP/2: the first event comes alone';
    while (sysread $out, $got, 65536, length $got) { }
    ok close $out, 'HTTP/2: a good end';
    is $got, $mock->sent(0), 'HTTP/2: byte for byte';

    $mock->script({ keep => \1, cut => 'close', cut_events => 5 });
    open $out, '-|', @curl, '--stderr', $t->path('curl.err')
        or die "curl: $!";
    $got = do { local $/; <$out> } // '';
    ok !close $out, 'HTTP/2: a broken stream is an error for curl';

    # which throws away what came together with the reset
    $got =~ s/data: \{"error":.*\}\n\n\z//;
    is substr($mock->sent(0), 0, length $got), $got,
        'HTTP/2: nothing but the provider\'s bytes and an error event';
}


# gzip between: still event by event

$mock->script({ keep => \1, chunks => 10, pace_ms => 50 });
$r = $t->chat('hello', stream => 1, port => $t->port('PORT_GZIP'),
    headers => { 'Accept-Encoding' => 'gzip' });
is $r->header('Content-Encoding'), 'gzip', 'gzip';
ok $r->complete, 'complete';

my ($inflate) = Compress::Raw::Zlib::Inflate->new(-WindowBits => WANT_GZIP);
my ($plain, $middle) = ('', 0);
for my $chunk (@{$r->chunks}) {
    my ($bytes, $piece) = ($chunk->[1], '');
    $inflate->inflate($bytes, $piece);
    $plain .= $piece;
    $middle++ if $piece =~ /\n\n\z/ && $piece !~ /DONE/;
}
is $plain, $mock->sent(0), 'the provider\'s bytes';
cmp_ok $middle, '>=', 8, 'one by one';

done_testing;


# resident bytes of the workers

sub memory {
    my $sum = 0;

    for my $pid ($t->workers) {
        open my $file, '<', "/proc/$pid/statm" or next;
        $sum += 4096 * (split / /, <$file>)[1];
    }

    return $sum;
}


# bytes that wait in sockets between provider and client

sub queued {
    my $sum = 0;

    open my $file, '<', '/proc/net/tcp' or return 0;
    my %mine = map { sprintf('%04X', $_) => 1 }
        $mock->port, $t->port('PORT_SLOW');

    while (<$file>) {
        my (undef, $local, $remote, undef, $queues) = split;
        next if !grep { /:(\w+)$/ && $mine{$1} } $local, $remote;
        $sum += hex for split /:/, $queues;
    }

    return $sum;
}
