#!/usr/bin/perl

# Every attempt gets the whole body, byte for byte, however the client sent
# it; a connection to the provider is used again after an error.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Compress::Zlib qw(crc32);

use Test::LLM;


my $t = Test::LLM->new;

my $mock = $t->gateway(
    redis => 0,
    location => 'llm_retry budget=100 floor=1000 base=1ms cap=2ms;',
    http => <<'EOT',
    server {
        listen 127.0.0.1:%%PORT_FILE%%;
        client_body_buffer_size 4k;
        client_max_body_size 16m;
        location / { llm_gateway; llm_retry budget=100 floor=1000 base=1ms cap=2ms; }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
    routes => 'llm_route nick mock:another-name; llm_route * mock;',
);

my @overload = ({ times => 1, status => 503 },
    { times => 1, cut => 'rst', cut_at => 'head' });


for my $size (1_000, 70_000, 900_000, 3_000_000) {
    for my $way (qw(length chunked)) {
        for my $port (qw(PORT PORT_FILE)) {
            for my $model (qw(gpt-4o nick)) {
                attempts($size, $way, $port, $model);
            }
        }
    }
}


# the client waits for leave

$mock->script(@overload);
my $body = body(2000, 'gpt-4o');
my $r = $t->start_post('/v1/chat/completions', undef, key => 'user',
    raw => request($body, "Content-Length: 2000\r\nExpect: 100-continue", ''));
ok $r->wait(sub { $_[0]{in} =~ m{^HTTP/1.1 100} || $_[0]{head} }, 5),
    '100 Continue';
$r->{out} .= $body;
$r->wait;
is $r->status, 200, 'then the body';
is_deeply [map { "$_->{body_crc32}" } $mock->journal],
    [(crc32($body)) x 3], 'in each attempt';


# a connection outlives an error with a body, even a large one

for my $error (
    [ 'a small error', { status => 503 } ],
    [ 'a large error', { status => 503, body => 'x' x 300_000 } ],
    [ 'a chunked error', { status => 503, framing => 'chunked' } ],
    [ 'an error without a body', { status => 503, body => '' } ],
) {
    my ($name, $rule) = @$error;

    # the first request makes the connection
    $mock->script({ %$rule, times => 2, skip => 1 });
    is $t->chat('hello')->status, 200, 'connected';
    is $t->chat('hello')->status, 200, $name;
    my @journal = $mock->journal;
    is @journal, 4, "$name: four calls";
    is +(grep { $_->{connection} == $journal[0]{connection} } @journal), 4,
        "$name: one connection";
}

done_testing;


sub body {
    my ($size, $model) = @_;

    my $head = qq({"model":"$model","messages":[{"role":"user","content":");
    my $tail = q("}],"seed":1});
    my $text = '';

    # not all the same, so that an exchanged piece shows
    for (my $n = 0; length $text < $size; $n++) {
        $text .= "line $n of the prompt; ";
    }

    return $head . substr($text, 0, $size - length("$head$tail")) . $tail;
}


sub request {
    my ($body, $headers, $sent) = @_;

    return join "\r\n", 'POST /v1/chat/completions HTTP/1.1',
        'Host: localhost', 'Authorization: Bearer ' . $t->secret('user'),
        'Content-Type: application/json', $headers, '', $sent // $body;
}


sub attempts {
    my ($size, $way, $port, $model) = @_;

    my $name = "$size bytes, $way, $port, $model";
    my $body = body($size, $model);
    my $raw;

    $mock->script(@overload);

    if ($way eq 'chunked') {
        my ($rest, $sent) = ($body, '');

        while (length(my $piece = substr $rest, 0, 7777, '')) {
            $sent .= sprintf("%x\r\n", length $piece) . "$piece\r\n";
        }

        $raw = request($body, 'Transfer-Encoding: chunked',
            "${sent}0\r\n\r\n");
    }

    my $r = $t->post('/v1/chat/completions', $body, key => 'user',
        port => $t->port($port), $raw ? (raw => $raw) : ());

    is $r->status, 200, $name;

    my $expected = $model eq 'nick'
        ? $body =~ s/"nick"/"another-name"/r : $body;
    my @journal = $mock->journal;

    is_deeply [map { "$_->{body_length} $_->{body_crc32}" } @journal],
        [(length($expected) . ' ' . crc32($expected)) x 3],
        "$name: three times the same bytes";
    is +(grep { ($_->{headers}{'content-length'} // '')
        ne length $expected } @journal), 0, "$name: with their length";
}
