#!/usr/bin/perl

# A tenant whose streams are cut gets no more than it has tokens for: the
# stream then ends as one that reached max_tokens does, and the provider is
# left at once.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new;

my %limit = (tokens_per_minute => 400, burst_tokens => 400);
my $keys = 0;

$t->key("cut$_", %limit, on_exceed => 'cut') for 1 .. 40;
$t->key('finish', %limit);

my $mock = $t->gateway(
    redis => 0,
    http => <<'EOT',
    server {
        listen 127.0.0.1:%%PORT_SLOW%% sndbuf=16k;
        location / { llm_gateway; }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
);

# some 2500 tokens; then nothing comes, so that leaving is seen

my %pieces = (chunks => 400, keep => \1);
my %hang = (cut => 'hang', cut_events => 380);
my %long = (%pieces, %hang, chunk_bytes => 25);
my $json = JSON::PP->new->utf8;


for my $shape (
    [ 'at once', {} ],
    [ 'at a slow pace', { pace_ms => 2 } ],
    [ 'CRLF', { eol => 'crlf', pace_ms => 1 } ],
    [ 'CRLF at once', { eol => 'crlf' } ],
    [ 'CRLF, pieces of 1 byte', { eol => 'crlf', slice => 1 } ],
    [ 'pieces of 77 bytes', { slice => 77 } ],
    [ 'comments', { comment => 'x' } ],
) {
    my ($name, $rule) = @$shape;

    $mock->script({ %long, %$rule });
    my $r = chat();
    my @last = cut($r, $name);

    is $last[0]{object}, 'chat.completion.chunk', "$name: object";
    is_deeply $last[0]{choices}[0]{delta}, {}, "$name: nothing more to say";
}

$mock->script({ %long, eol => 'cr' });
my $r = chat();
like $r->body, qr/\r\r\ndata:[ ][^\r\n]*"length"[^\r\n]*\n\n
    data:[ ]\[DONE\]\n\n\z/x, 'CR: the last events';

$mock->script({ %long });
$r = chat(stream_options => { include_usage => \1 });
my @last = cut($r, 'usage asked for', 1);
is_deeply $last[1]{choices}, [], 'a chunk of usage';
cmp_ok $last[1]{usage}{$_}, '>', 0, "with $_"
    for qw(prompt_tokens completion_tokens);
is $last[1]{usage}{total_tokens}, $last[1]{usage}{prompt_tokens}
    + $last[1]{usage}{completion_tokens}, 'and their sum';
ok exists $last[0]{usage} && !defined $last[0]{usage}, 'null before it';

$mock->script({ %long, usage => 'every', prompt_tokens => 77 });
$r = chat(stream_options => { include_usage => \1 });
@last = cut($r, 'usage told all along', 1);
is $last[1]{usage}{prompt_tokens}, 77, 'is what counts';

$mock->script({ %pieces, %hang, tool_name => 'look',
    tool_args => '{"text":"' . 'y' x 10_000 . '"}' });
$r = chat();
cut($r, 'a tool call');

$mock->script({ %long });
$r = chat(n => 2);
@last = cut($r, 'two choices', 0, 2);

$mock->script({ keep => \1, body => two(), cut => 'hang',
    cut_at => length two(),
    headers => { 'content-type' => 'text/event-stream' } });
$r = chat(n => 3);
cut($r, 'one has finished, one has not begun', 0, 1);
is_deeply [map { $_->{index} } @{json(($r->data)[-2])->{choices}}], [ 1 ],
    'the other one';

$mock->script({ %long });
$r = $t->post('/v1/completions', { model => 'gpt-4o', prompt => 'hello',
    stream => \1, max_tokens => 20 }, key => key());
@last = cut($r, 'completions');
is $last[0]{object}, 'text_completion', 'completions: object';
is $last[0]{choices}[0]{text}, '', 'completions: no text';


# responses

$mock->script({ %long });
$r = $t->post('/v1/responses', { model => 'gpt-4o', input => 'hello',
    stream => \1, max_output_tokens => 20 }, key => key());

my @events = @{$r->events};
my $first = json($events[0]{data});
my $before = json($events[-2]{data});
my $last = json($events[-1]{data});

ok $r->complete, 'responses: a clean end';
like $r->body, qr/\nevent: response.incomplete\ndata: .*\n\n\z/,
    'responses: response.incomplete is the last';
ok prefix($r, 1), 'responses: before it the provider\'s bytes';
is $last->{type}, 'response.incomplete', 'responses: type';
is $last->{sequence_number}, $before->{sequence_number} + 1, 'in sequence';
is $last->{response}{$_}, $first->{response}{$_}, "responses: $_"
    for qw(id object created_at model);
is $last->{response}{status}, 'incomplete', 'responses: status';
is $last->{response}{incomplete_details}{reason}, 'max_output_tokens',
    'responses: why';
cmp_ok $last->{response}{usage}{output_tokens}, '>', 0, 'responses: usage';
left('responses');


# a client that does not read

$mock->script({ %long, chunk_bytes => 2500 });
$r = $t->start_chat('hello', stream => 1, key => key(), rcvbuf => 4096,
    port => $t->port('PORT_SLOW'), body => { max_tokens => 20 });
ok $r->wait_events(1), 'a client stops reading';
$r->pause;
left('a slow client');
$r->resume;
$r->wait;
cut($r, 'a slow client', 0, 1, 1);


# streams that are not cut

$mock->script({ keep => \1, usage => 'none' });
$r = chat();
is $r->body, $mock->sent(0), 'a stream for which there are tokens';
is +($mock->journal)[0]{ended}, 'done', 'is read to its end';

$mock->script({ %pieces, chunk_bytes => 25, usage => 'none' });
$r = $t->chat('hello', stream => 1, key => 'finish',
    body => { max_tokens => 20 });
is $r->body, $mock->sent(0), 'a tenant whose streams are not cut';

unlike $t->log, qr/broke off a stream/, 'no stream was broken';

done_testing;


sub key {
    return 'cut' . ++$keys;
}


sub chat {
    my (%body) = @_;

    return $t->post('/v1/chat/completions', { model => 'gpt-4o',
        messages => [{ role => 'user', content => 'hello' }], stream => \1,
        max_tokens => 20, %body }, key => key());
}


sub json {
    my ($text) = @_;
    return eval { $json->decode($text) } // {};
}


# the last events and what was in front of them; gives those chunks

sub cut {
    my ($r, $name, $usage, $choices, $again) = @_;

    my @data = $r->data;
    my @last = map { json($_) } @data[-2 - ($usage // 0) .. -2];

    is $r->status, 200, "$name: status";
    ok $r->complete, "$name: a clean end";
    is $data[-1], '[DONE]', "$name: [DONE]";
    cmp_ok scalar(@data), '<', 400 * ($choices // 1), "$name: cut";
    is +(grep { $_ ne '[DONE]' && !json($_)->{choices} } @data), 0,
        "$name: every event is whole";

    my $first = json($data[0]);

    for my $chunk (@last) {
        is_deeply [@$chunk{qw(id object created model system_fingerprint)}],
            [@$first{qw(id object created model system_fingerprint)}],
            "$name: of the same answer";
    }

    is join(' ', map { "$_->{index} $_->{finish_reason}" }
        @{$last[0]{choices}}), ($choices // 1) == 2 ? '0 length 1 length'
        : "$last[0]{choices}[0]{index} length", "$name: finish_reason";

    ok prefix($r, 2 + ($usage // 0)), "$name: the provider's bytes before";

    left($name) if !$again;

    return @last;
}


# the provider was left, and the client can go on

sub left {
    my ($name) = @_;

    ok $mock->wait(client_closed => 1, timeout_ms => 2000),
        "$name: the provider is left";
}


# without the last events: the beginning of what was sent

sub prefix {
    my ($r, $events) = @_;

    my $ours = qr/(?:event: [^\n]*\n)?data: [^\n]*\n\n/;
    my $body = $r->body =~ s/\n?(?:$ours){$events}\z//r;

    # the end of a CRLF is ours where the provider's was not there yet
    my $sent = $mock->sent(0);

    return length $body > 0 && substr($sent, 0, length $body) eq $body;
}


# three choices were asked for: 0 ends, 1 goes on, 2 never begins

sub two {
    my $chunk = sub {
        my ($index, $delta, $finish) = @_;
        return 'data: {"id":"x","object":"chat.completion.chunk","created":1,'
            . '"model":"gpt-4o","system_fingerprint":"f","choices":[{"index":'
            . qq($index,"delta":$delta,"finish_reason":$finish}]}\n\n);
    };

    return $chunk->(0, '{"content":"a"}', 'null')
        . $chunk->(0, '{}', '"stop"')
        . $chunk->(1, '{"content":"' . 'z' x 50 . '"}', 'null') x 300;
}
