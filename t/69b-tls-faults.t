#!/usr/bin/perl

# The same faults over three ways: plain text to both sides, TLS to the
# provider, TLS to the provider and HTTP/2 over TLS to the client.  What the
# client gets of each, and what the provider sees, is the same.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::MD5 qw(md5_hex);
use POSIX ();

use Test::LLM;
use Test::LLM::Cert;


plan(skip_all => 'this curl has no HTTP/2') if qx(curl -V 2>&1) !~ /\bHTTP2\b/;

my $name = 'localhost';
my $t = Test::LLM->new;
my $cert = Test::LLM::Cert->new($t, $name);

$t->key('user', requests_per_minute => 1_000_000, concurrency => 100);

my %mock = (plain => $t->mock, tls => $t->mock($cert->good));

my $retry = 'llm_retry tries=2 base=1ms cap=2ms budget=100 floor=1000;
            llm_breaker off;';
my $tls = '
        ssl_certificate ' . $cert->file('good.pem') . ';
        ssl_certificate_key ' . $cert->file('good.key') . ';';

$t->token(LOCATIONS => join '', map { "
        location /llm/$_/ {
            internal;
            proxy_pass http" . ($_ eq 'tls' ? 's' : '') . "://$_/v1/;
            proxy_ssl_server_name on;
            proxy_ssl_name $name;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate %%CA%%;
            %%PROXY%%
        }" } sort keys %mock);

sub server {
    my ($port, $more) = @_;

    return "
    server {
        listen 127.0.0.1:%%$port%%;
        listen 127.0.0.1:%%${port}_TLS%% ssl http2;
        $tls
        location / { llm_gateway; $retry $more }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
        %%LOCATIONS%%
    }";
}

$t->gateway(
    redis => 0,
    http => join('', map { "
    upstream $_ {
        server 127.0.0.1:" . $mock{$_}->port . ' max_fails=0;
        keepalive 8;
    }' } sort keys %mock)
        . server('PORT_HEART', 'llm_heartbeat 100ms grace=250ms;')
        . server('PORT_FIRST', 'llm_timeout first_byte=300ms;')
        . server('PORT_BETWEEN', 'llm_timeout between=300ms;'),
    routes => join("\n    ", map { "llm_provider $_ uri=/llm/$_/;
    llm_route $_ $_:gpt-4o;" } sort keys %mock) . "\n    llm_route * mock;",
    server => "listen 127.0.0.1:%%PORT_TLS%% ssl http2; $tls %%LOCATIONS%%",
    location => $retry,
);

my @ways = ([ 'plain, HTTP/1.1', 'plain', \&over_h1 ],
    [ 'TLS to the provider', 'tls', \&over_h1 ],
    [ 'TLS to the provider, HTTP/2 over TLS', 'tls', \&over_h2 ]);

my $error = '{"error":{"message":"m","type":"t","param":null,"code":"c"}}';
my $quick = { 'retry-after-ms' => '1' };
my @ill = (status => 503, headers => $quick);


# answers in one piece: name, what comes of it, rules

for my $fault (
    [ 'good', '200 whole 1', {} ],
    [ 'large', '200 whole 1', { content_bytes => 1_500_000 } ],
    [ '503, then good', '200 whole 2', { times => 1, @ill }, {} ],
    [ '503', '503 whole 2', { @ill } ],
    [ '400', '400 whole 1', { status => 400 } ],
    [ '529', '503 whole 2', { status => 529, headers => $quick } ],
    [ '429, then good', '200 whole 2',
        { times => 1, status => 429, headers => $quick }, {} ],
    [ 'insufficient_quota', '429 whole 1', { status => 429,
        error_type => 'insufficient_quota',
        error_code => 'insufficient_quota' } ],
    [ 'HTML', '500 whole 2', { status => 500, body => '<html></html>',
        headers => { %$quick, 'content-type' => 'text/html' } } ],
    [ 'a bare error', '400 whole 1', { status => 400,
        body => '{"message":"m"}' } ],
    [ 'an error with 200', '502 whole 2', { body => $error } ],
    [ 'bad JSON', '502 whole 2', { body => '{"choices":[' } ],
    [ 'bad JSON, then good', '200 whole 2',
        { times => 1, body => '{"choices":[' }, {} ],
    [ 'garbage', '502 whole 2', { garbage => 300 } ],
    [ 'nothing', '502 whole 2', { body => '' } ],
    [ 'no HTTP', '502 whole 2', { raw => "so sorry\r\n\r\n" } ],
    [ 'half a head', '502 whole 2', { raw => "HTTP/1.1 200 OK\r\nConte" } ],
    [ 'an early answer', '200 whole 1', { early => \1 } ],
    [ 'Content-Length too large', '502 whole 2',
        { content_length => 5000, keep_alive => \0 } ],
    [ 'by the connection\'s end', '200 whole 1', { framing => 'close' } ],
    [ 'chunked, in small pieces', '200 whole 1',
        { framing => 'chunked', slice => 7 } ],
    (map { my $cut = $_; map { my $at = $_;
        [ "$cut at $at, then good", '200 whole 2',
            { times => 1, cut => $cut, cut_at => $at }, {} ],
        [ "$cut at $at", '502 whole 2', { cut => $cut, cut_at => $at } ],
    } 'start', 'head', 40 } qw(rst close)),
    [ 'a large one is cut', '200 broken 1',
        { content_bytes => 3_000_000, cut => 'close', cut_at => 2_000_000 } ],
    [ 'first byte', '504 whole 2', { hang => \1 }, 'PORT_FIRST' ],
    [ 'first byte, then good', '200 whole 2', { times => 1, hang => \1 }, {},
        'PORT_FIRST' ],
    [ 'the deadline', '504 whole 1', { hang => \1 }, '400' ],
    [ 'the deadline in the body', '504 whole 1',
        { cut => 'hang', cut_at => 40 }, '400' ],
) {
    same(@$fault);
}


# streams

my %text = (content => 'one two three four', chunks => 6);

for my $fault (
    [ 'good', '200 whole 1', {} ],
    [ 'many events', '200 whole 1', { chunks => 2000 } ],
    [ 'large events', '200 whole 1', { chunks => 3, chunk_bytes => 300_000 } ],
    [ 'CRLF', '200 whole 1', { eol => 'crlf' } ],
    [ 'comments', '200 whole 1', { comment => 'still here' } ],
    [ 'byte by byte', '200 whole 1', { slice => 1 } ],
    [ 'slow', '200 whole 1', { pace_ms => 20 } ],
    [ 'no [DONE]', '200 whole 1', { no_done => \1 } ],
    [ 'not the end', '200 broken 1',
        { no_done => \1, finish_reason => 'none' } ],
    [ '503, then good', '200 whole 2', { times => 1, @ill }, {} ],
    [ '503', '503 whole 2', { @ill } ],
    [ 'no stream', '200 whole 1', { body => '{"choices":[{"finish_reason":'
        . '"stop"}]}', headers => { 'content-type' => 'application/json' } } ],
    [ 'an error event first, then good', '200 whole 2',
        { times => 1, error_event => 0 }, {} ],
    [ 'an error event first', '502 whole 2', { error_event => 0 } ],
    [ 'an error event', '200 * 1', { error_event => 4 } ],
    [ 'an error event and [DONE]', '200 whole 1',
        { error_event => 4, error_done => \1 } ],
    (map { my $cut = $_;
        (map { [ "$cut at $_, then good", '200 whole 2',
            { times => 1, cut => $cut, cut_at => $_ }, {} ] }
            'start', 'head', 40),
        (map { [ "$cut at $_", '200 broken 1',
            { %text, cut => $cut, cut_at => $_, pace_ms => 2 } ] }
            400, 555, 700, 901, 1100),
        [ "$cut after six events", '200 broken 1',
            { cut => $cut, cut_events => 6, pace_ms => 2 } ],
    } qw(rst close clean)),
    [ 'a torn last event', '200 broken 1',
        { body => qq(data: {"choices":[{"index":0,"delta":{"content":"x"},)
            . qq("finish_reason":"stop"}]}\n\ndata: {"usage":{"pro),
          headers => { 'content-type' => 'text/event-stream' } } ],
    [ 'the deadline', '200 broken 1', { cut => 'hang', cut_events => 5 },
        '400' ],
    [ 'the deadline before an event', '504 whole 1',
        { cut => 'hang', cut_at => 'head' }, '400' ],
    [ 'silence', '200 broken 1', { cut => 'hang', cut_events => 5 },
        'PORT_BETWEEN' ],
    [ 'first byte, then good', '200 whole 2', { times => 1, hang => \1 }, {},
        'PORT_FIRST' ],
    [ 'heartbeats', '200 whole 1', { delay_ms => 600 }, 'PORT_HEART' ],
    [ 'heartbeats between events', '200 whole 1',
        { idle_at => 4, idle_ms => 400 }, 'PORT_HEART' ],
    [ 'heartbeats, 503, then good', '200 whole 1',
        { times => 1, delay_ms => 400, @ill }, {}, 'PORT_HEART' ],
    [ 'heartbeats, 503', '200 broken 1', { delay_ms => 300, @ill },
        'PORT_HEART' ],
    [ 'heartbeats, reset', '200 broken 1',
        { delay_ms => 300, cut => 'rst', cut_at => 'head' }, 'PORT_HEART' ],
) {
    my ($what, $comes, @rules) = @$fault;
    same("stream, $what", $comes, @rules, 'stream');
}

for my $fault (
    [ 'good', '200 whole 1', {} ],
    [ '503, then good', '200 whole 2', { times => 1, @ill }, {} ],
    map { [ "$_ after six events", '200 broken 1',
        { cut => $_, cut_events => 6, pace_ms => 2 } ] } qw(rst close clean),
) {
    my ($what, $comes, @rules) = @$fault;
    same("responses, $what", $comes, @rules, 'responses');
    same("completions, $what", $comes, @rules, 'completions');
}


# a client of HTTP/2 over TLS leaves in mid-stream

$mock{tls}->script({ chunks => 1000, pace_ms => 20 });
my $pid = $t->spawn('leaver', curl('tls', 'PORT_TLS', '/v1/chat/completions',
    '{"model":"tls","stream":true,"messages":[]}'));
ok $mock{tls}->wait(min_in_flight => 1), 'a stream over HTTP/2 and TLS';
ok $t->until(sub { $t->read('body') =~ /data.*data/s }), 'runs';
$t->stop_child($pid, 'KILL');
ok $mock{tls}->wait(client_closed => 1, timeout_ms => 1500),
    'its client leaves: the provider\'s connection is closed at once';

is $mock{tls}->stats->{tls_failed}, 0, 'no handshake failed';
$t->all_back('at the end');

done_testing;


# A fault over each way.  Behind the rules: the time in ms or the name of the
# port, and the kind of request.

sub same {
    my ($what, $comes, @rules) = @_;

    my $kind = ref $rules[-1] || $rules[-1] =~ /^PORT|^\d/ ? 'json'
        : pop @rules;
    my $where = ref $rules[-1] ? '' : pop @rules;
    my %how = (port => $where =~ /^PORT/ ? $where : 'PORT',
        deadline => $where =~ /^\d/ ? $where : undef);

    my $path = { responses => '/v1/responses',
        completions => '/v1/completions' }->{$kind} // '/v1/chat/completions';
    my $body = '"messages":[{"role":"user","content":"hello"}],'
        . '"input":"hello","prompt":"hello"'
        . ($kind eq 'json' ? '' : ',"stream":true');
    my $first;

    for my $way (@ways) {
        my ($over, $provider, $ask) = @$way;

        $mock{$provider}->script(@rules);
        my $got = $ask->($provider, $path, qq({"model":"$provider",$body}),
            %how);
        my $seen = seen($mock{$provider});

        if (!defined $first) {
            my $found = "$got->{status} " . ($got->{whole} ? 'whole'
                : 'broken') . ' ' . ($got->{attempts} // '-');
            my $pattern = quotemeta($comes) =~ s/\\\*/\\w+/r;

            like $found, qr/^$pattern$/, "$what: $comes";
            $first = told($got) . $seen;
            next;
        }

        is told($got) . $seen, $first, "$what: the same over $over";
    }
}


# what the provider saw

sub seen {
    my ($mock) = @_;

    $mock->wait(in_flight => 0);
    my $calls = $mock->stats->{requests};

    return "\n$calls calls: " . join ' ', map { $_->{ended} // 'not ended' }
        $mock->journal;
}


# what a client was told, but for names and times that differ each time, the
# number of heartbeats, and how much of a large answer came before its end

sub told {
    my ($got) = @_;

    my $body = $got->{body};

    $body =~ s/-mock[0-9a-f]{16}/-mock/g;
    $body =~ s/"((?:\w+_)?id)":"(\w+_)mock\w+"/"$1":"$2"/g;
    $body =~ s/"created(_at)?":\d+/"created":0/g;
    $body =~ s/(?:: keepalive\n)+/: keepalive\n/g;
    $body = md5_hex($body) if length $body > 20_000;
    $body = '' if !$got->{whole} && $got->{type} !~ /event-stream/;

    return join ' ', $got->{status}, $got->{whole} ? 'whole' : 'broken',
        $got->{type}, $got->{attempts} // '-', $got->{should} // '-',
        $got->{wait} // '-', "\n$body";
}


sub over_h1 {
    my ($provider, $path, $body, %how) = @_;

    my $r = $t->post($path, $body, key => 'user', port => $t->port($how{port}),
        timeout => 20, headers => {
            'x-request-timeout-ms' => $how{deadline} });

    return { status => $r->status // 0, whole => $r->complete,
        body => $r->body, type => $r->header('content-type') // '',
        attempts => $r->header('x-llm-attempts'),
        should => $r->header('x-should-retry'),
        wait => $r->header('retry-after-ms') };
}


sub over_h2 {
    my ($provider, $path, $body, %how) = @_;

    unlink map { $t->path($_) } qw(head body);

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        open STDOUT, '>', $t->path('curl.out');
        my @command = curl($provider, "$how{port}_TLS", $path, $body,
            $how{deadline});
        { exec { $command[0] } @command };
        POSIX::_exit(127);
    }

    waitpid $pid, 0;

    my $whole = $? == 0;
    my $head = $t->read('head');
    my %header = map { /^([\w-]+): (.*?)\r?$/ ? (lc $1, $2) : () }
        split /\n/, $head;
    my ($status) = $head =~ m{^HTTP/2 (\d+)};

    return { status => $status // 0, whole => $whole,
        body => $t->read('body'), type => $header{'content-type'} // '',
        attempts => $header{'x-llm-attempts'},
        should => $header{'x-should-retry'},
        wait => $header{'retry-after-ms'} };
}


sub curl {
    my ($provider, $port, $path, $body, $deadline) = @_;

    my $number = $t->port($port);

    return ('curl', '-s', '-N', '--http2', '--max-time', 20,
        '--cacert', $cert->ca, '--resolve', "$name:$number:127.0.0.1",
        '-D', $t->path('head'), '-o', $t->path('body'),
        '-H', 'Authorization: Bearer ' . $t->secret('user'),
        '-H', 'Content-Type: application/json', '-H', 'Expect:',
        defined $deadline ? ('-H', "x-request-timeout-ms: $deadline") : (),
        '-d', $body, "https://$name:$number$path");
}
