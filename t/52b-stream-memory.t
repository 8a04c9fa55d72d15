#!/usr/bin/perl

# What an open stream keeps: not its prompt, and no buffer that a provider's
# header needed; and that nothing is lost when buffers come and go.
#
# Alone: memory is measured.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Compress::Zlib qw(crc32);

use Test::LLM;


my $streams = 200;

my $t = Test::LLM->new(workers => 1);

my $mock = $t->gateway(
    redis => 0,
    cache => 0,
    provider => 'include_usage=off',
    location => 'llm_retry budget=100 floor=1000 base=1ms cap=2ms;',
);


# many that are silent

$mock->script({ chunks => 2, pace_ms => 60_000 });

# what the first ones allocate for ever is not theirs
my @open = many(20);
my $before = memory();

push @open, many($streams);
Test::LLM::HTTP->idle(0.2);

my $each = int((memory() - $before) / $streams);

# the structures of nginx 1.26 are larger: with these headers of a request its
# pool takes one block more (4 KB)

my ($minor) = qx($t->{binary} -v 2>&1) =~ m{nginx/1\.(\d+)};
my $most = $minor < 25 ? 22_000 : 26_000;

SKIP: {
    skip 'sanitizers need memory of their own', 1 if $t->sanitized;
    cmp_ok $each, '<', $most, "a stream with a prompt of 20 KB: $each bytes";
}

$_->abort for @open;


# a body in pieces: with the header, behind it, behind that

for my $size (300, 1_000, 1_500, 1_600, 4_000, 20_000) {
    for my $cut ([0], [1], [200], [200, 250], [1, 2, $size - 1]) {

        my $head = sprintf '{"model":"gpt-4o","stream":true,"messages":'
            . '[{"role":"user","content":"%d ', $size;
        my $body = $head . join('', map { chr 97 + $_ % 26 }
            1 .. $size - length($head) - 4) . '"}]}';

        # the second attempt has the body, too
        $mock->script({ times => 1, status => 503 }, { keep => \1 });

        my $at = 0;
        my @parts = map { my $part = substr $body, $at, $_ - $at; $at = $_;
            $part } @$cut, $size;

        my $r = $t->start_post('/v1/chat/completions', undef, key => 'user',
            raw => "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
                . 'Authorization: Bearer ' . $t->secret('user') . "\r\n"
                . "Content-Type: application/json\r\n"
                . "Content-Length: $size\r\n\r\n" . shift @parts);

        for (@parts) {
            Test::LLM::HTTP->idle(0.01);
            $r->{out} .= $_;
        }
        $r->wait;

        my $name = "$size bytes, cut at @$cut";
        ok $r->complete, "$name: an answer";
        is_deeply [map { "$_->{body_crc32}" } $mock->journal],
            [(crc32($body)) x 2], "$name: the body";
    }
}


# events of all sizes, each of its own: what is read into grows again

for my $sizes ([20, 300], [900], [1_200], [6_000], [100_000]) {
    for my $pace (0, 3) {
        $mock->script(map { { keep => \1, chunks => 12, chunk_bytes => $_,
            pace_ms => $pace } } @$sizes);

        my $r = $t->chat('hello', stream => 1, timeout => 30);
        my $name = "events of @$sizes bytes, one in $pace ms";

        my ($record) = $mock->journal;

        ok $r->complete, $name;
        is length($r->body), $record->{sent_length}, "$name: all of them";
        is crc32($r->body), $record->{sent_crc32}, "$name: byte for byte";
    }
}


# silence after the first event, then all the rest at once

$mock->script({ keep => \1, chunks => 400, chunk_bytes => 200, idle_at => 2,
    idle_ms => 300 });
my $r = $t->chat('hello', stream => 1, timeout => 30);
ok $r->complete, 'a flood after silence';
is $r->body, $mock->sent(0), 'byte for byte';


done_testing;


# one after the other: what was given back is there for the next

sub many {
    my ($n) = @_;

    return map {
        my $r = $t->start_chat('x' x 20_000, stream => 1, timeout => 60);
        $r->wait_events(1) or die 'no event';
        $r;
    } 1 .. $n;
}


# resident bytes of the worker

sub memory {
    my ($pid) = $t->workers;

    open my $file, '<', "/proc/$pid/statm" or die "statm: $!";

    return 4096 * (split / /, <$file>)[1];
}
