#!/usr/bin/perl

# A provider is asked for the usage of every stream; the client sees the
# chunk that tells it only if it asked, too.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new;

$t->key('client');

my $mock = $t->gateway(
    redis => 0,
    routes => 'llm_provider plain uri=/llm/mock/ include_usage=off
                   key=file:%%DIR%%/provider.key;
               llm_route nick mock:another-name; llm_route plain-* plain;
               llm_route * mock;',
    location => 'llm_retry base=1ms cap=2ms;',
);

my $chat = '/v1/chat/completions';
my $asked = '"stream_options":{"include_usage":true}';


# how a body is changed: only where it must be

for my $body (
    [ 'absent', '{"model":"gpt-4o","stream":true}',
        qq({$asked,"model":"gpt-4o","stream":true}) ],
    [ 'absent, with white space', qq(\n { "model":"gpt-4o","stream":true}),
        qq(\n {$asked, "model":"gpt-4o","stream":true}) ],
    [ 'null', '{"stream_options" : null,"model":"gpt-4o","stream":true}',
        '{"stream_options" : {"include_usage":true},"model":"gpt-4o",'
        . '"stream":true}' ],
    [ 'empty', '{"stream":true,"stream_options":{ },"model":"gpt-4o"}',
        '{"stream":true,"stream_options":{"include_usage":true },'
        . '"model":"gpt-4o"}' ],
    [ 'another option',
        '{"stream":true,"stream_options":{ "x":{}},"model":"gpt-4o"}',
        '{"stream":true,"stream_options":{"include_usage":true, "x":{}},'
        . '"model":"gpt-4o"}' ],
    [ 'false', '{"stream":true,"stream_options":{"x":1,"include_usage": '
        . 'false },"model":"gpt-4o"}',
        '{"stream":true,"stream_options":{"x":1,"include_usage": true },'
        . '"model":"gpt-4o"}' ],
    [ 'another model', '{"stream":true,"stream_options":null,"seed":1,'
        . '"model" : "nick","stop":"nick"}' ,
        '{"stream":true,"stream_options":{"include_usage":true},"seed":1,'
        . '"model" : "another-name","stop":"nick"}' ],
    [ 'a name with an escape', '{"model":"n\u0069ck","stream":true}',
        qq({$asked,"model":"another-name","stream":true}) ],
    [ 'true', qq({"model":"gpt-4o",$asked,"stream":true}) ],
    [ 'no stream', '{"model":"gpt-4o","stream":false}' ],
    [ 'no stream, nothing said', '{"model":"gpt-4o"}' ],
    [ 'a provider that knows it not', '{"model":"plain-1","stream":true}' ],
) {
    my ($name, $sent, $got) = @$body;

    $got //= $sent;
    s/\}\z/,"messages":[]}/ for $sent, $got;

    $mock->script();
    my $r = $t->post($chat, $sent, key => 'client');
    is $r->status, 200, $name;
    is +($mock->journal)[0]{body}, $got, "$name: the body";
}

for my $path (qw(responses embeddings)) {
    my $body = '{"model":"gpt-4o","stream":true,"input":"x"}';
    $mock->script();
    $t->post("/v1/$path", $body, key => 'client');
    is +($mock->journal)[0]{body}, $body, "$path: the client's own body";
}

$mock->script({ times => 2, status => 503 });
my $r = $t->post($chat, '{"model":"nick","stream":true,"messages":[]}', key => 'client');
is $r->status, 200, 'retries';
is_deeply [map { $_->{body} } $mock->journal],
    [(qq({$asked,"model":"another-name","stream":true,"messages":[]})) x 3],
    'each asks for it';


# what the client sees of it: the provider's bytes without the chunk

for my $shape (
    [ 'usual', {} ],
    [ 'CRLF', { eol => 'crlf' } ],
    [ 'CR', { eol => 'cr' } ],
    [ 'comments', { comment => 'still here' } ],
    [ 'comments and CRLF', { comment => 'still here', eol => 'crlf' } ],
    [ 'event by event', { pace_ms => 5 } ],
    [ 'event by event, CRLF', { pace_ms => 5, eol => 'crlf' } ],
    [ 'by the connection\'s end', { framing => 'close' } ],
    [ 'no [DONE]', { no_done => \1 } ],
    [ 'usage unasked', { usage => 'always' } ],
    (map {
        my $eol = $_;
        map { [ "$_ bytes, $eol", { slice => $_, eol => $eol } ] }
            1, 2, 3, 5, 17, 100, 401;
    } qw(lf crlf cr)),
    [ 'pieces of 11 bytes and comments', { slice => 11, comment => 'x' } ],
) {
    my ($name, $rule) = @$shape;

    for my $path ($chat, '/v1/completions') {
        $mock->script({ keep => \1, %$rule });
        my $r = $t->post($path, { model => 'gpt-4o', stream => \1,
            messages => [], prompt => '' }, key => 'client');

        my $sent = $mock->sent(0);

        like $sent, qr/"choices":\[\],"usage":\{/, "$name: $path: sent";
        ok $r->complete, "$name: complete";
        is visible($r->body), visible(without($sent)), "$name: taken out";
    }
}

$mock->script({ keep => \1 });
$r = $t->chat('hello', stream => 1, key => 'client');
is +(grep { /"usage":null/ } $r->data), 10,
    '"usage":null of other chunks stays';

for my $usage (qw(last every)) {
    $mock->script({ keep => \1, usage => $usage });
    $r = $t->chat('hello', stream => 1, key => 'client');
    like $r->body, qr/"total_tokens":/, "usage $usage: seen";
    is $r->body, $mock->sent(0), "usage $usage: with choices it stays";
}

$mock->script({ keep => \1, before => "data: {\"choices\":[],"
    . "\"prompt_filter_results\":[]}\n\n" });
$r = $t->chat('hello', stream => 1, key => 'client');
is $r->body, without($mock->sent(0)), 'a chunk with neither stays';


# a chunk like it in the middle, time and again

my $event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},"
    . "\"finish_reason\":null}]}\n\n";
my $extra = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,"
    . "\"completion_tokens\":2,\"total_tokens\":3}}\n\n";
my $many = join '', map { ($event =~ s/"a"/"piece $_"/r, $extra) x ($_ % 3) }
    1 .. 300;

for my $slice (0, 7, 100, 1000) {
    $mock->script({ keep => \1, slice => $slice || 1_000_000,
        body => ": hi\n\n$extra$many${extra}data: [DONE]\n\n",
        headers => { 'content-type' => 'text/event-stream' } });
    $r = $t->chat('hello', stream => 1, key => 'client');
    is $r->body, without($mock->sent(0)), "often, in pieces of $slice";
}


# every byte comes alone, so also what is between CR and LF

for my $eol ("\r\n", "\r", "\n") {
    $mock->script({ keep => \1, slice => 1, slice_ms => 1,
        body => join($eol x 2, map { s/\n//gr } $event,
            $extra, 'data: [DONE]', ''),
        headers => { 'content-type' => 'text/event-stream' } });
    $r = $t->chat('hello', stream => 1, key => 'client');
    is visible($r->body), visible(without($mock->sent(0))), 'byte by byte';
}


# the client that asked

for my $shape ({}, { slice => 13 }, { eol => 'crlf' }) {
    for my $path ($chat, '/v1/completions') {
        $mock->script({ keep => \1, %$shape });
        $r = $t->post($path, { model => 'gpt-4o', stream => \1,
            messages => [], prompt => '',
            stream_options => { include_usage => \1 } }, key => 'client');
        like $r->body, qr/"choices":\[\],"usage":\{/, 'who asked sees it';
        is $r->body, $mock->sent(0), 'byte for byte';
    }
}

done_testing;


sub without {
    my ($sent) = @_;

    return $sent =~ s/data:[ ]\{[^\r\n]*"choices":\[\],"usage":\{[^\r\n]*\}
        (?:\r\n\r\n|\n\n|\r\r)//grx;
}


# line ends as letters, so that a difference shows

sub visible {
    my ($text) = @_;
    return $text =~ s/\r/<CR>/gr =~ s/\n/<LF>/gr;
}
