#!/usr/bin/perl

# Who means harm: clients (smuggling, paths, hosts, methods, HTTP/2, slow
# ones, URLs in the body), providers (headers, framing, redirects, texts) and
# the rights of the gateway's own user in Redis.  What is bad JSON, a bad key
# or a bad size is t/70's, the internal listener t/55's, secrets in logs are
# t/82's, URLs of webhooks t/107's.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use Time::HiRes qw(time);

use Test::LLM;


my $chat = '/v1/chat/completions';
my $admin = 'open-sesame-' . 'a' x 20;
my $text = '{"model":"gpt-4o","messages":[{"role":"user","content":"x"}]}';

# a location that forgets all that can be forgotten
my $careless = q{proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization $llm_authorization;
            proxy_buffering off;
            proxy_next_upstream off;
            proxy_intercept_errors off;
            proxy_ignore_client_abort on;};

my $t = Test::LLM->new;

$t->key('user');
$t->write('admin', $admin);

my $attacker = Test::LLM->new;
my $trap = $attacker->mock;

my $mock = $t->gateway(
    redis => 0,
    routes => q{llm_provider cloud 'uri=/llm/cloud/deployments/{model}/'
            key=file:%%DIR%%/provider.key;
        llm_route cloud* cloud; llm_route ..* cloud; llm_route * mock;},
    location => 'llm_retry tries=1; llm_breaker off;',
    proxy => $careless,
    http => q{server {
            listen 127.0.0.1:%%PORT_SLOW%%;
            client_header_timeout 1s;
            client_body_timeout 1s;
            location / { llm_gateway; llm_timeout total=2s; }
            location /llm/mock/ {
                internal; proxy_pass http://mock/v1/; %%PROXY%% }
            location /llm/cloud/ {
                internal; proxy_pass http://mock/; %%PROXY%% }
        }},
    server => q{listen 127.0.0.1:%%PORT_H2%% http2;
        location /llm/cloud/ {
            internal; proxy_pass http://mock/; %%PROXY%% }
        location /inside/ { internal; return 200 '{"inside":1}'; }},
    admin => 'location /admin/v1/ { llm_admin file:%%DIR%%/admin; }',
);

my $bearer = 'Authorization: Bearer ' . $t->secret('user');
my ($worker) = $t->workers;

smuggling();
credentials();
paths();
hosts();
methods();
models();
urls();
large();
slow();
http2();
admin();
headers_of_providers();
framing_of_providers();
texts_of_providers();
steering();
redis_user();

is_deeply [$t->workers], [$worker], 'the worker has borne all of it';
is $t->chat('at last')->status, 200, 'and serves';
$t->all_back('at the end');

done_testing;


# bytes for a port; all that comes until the other side closes

sub talk {
    my ($bytes, $port) = @_;

    local $SIG{PIPE} = 'IGNORE';

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $port // $t->port) or die "connect: $!\n";
    my ($in, $until) = ('', time + 10);

    syswrite $socket, $bytes;

    while (time < $until) {
        IO::Select->new($socket)->can_read($until - time) or last;
        sysread $socket, $in, 65536, length $in or last;
    }

    return $in;
}


sub statuses { return [$_[0] =~ m{^HTTP/1\.[01] (\d{3})}mg] }


sub asked { return $mock->stats->{requests} }


# A request that two servers may read differently is refused by the first,
# and what was hidden behind it is not looked at.

sub smuggling {
    my $behind = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    my $chunks = sprintf("%x\r\n", length $text) . "$text\r\n0\r\n\r\n";
    my $cl = 'Content-Length: ' . length $text;
    my $te = 'Transfer-Encoding: chunked';

    for my $bad (
        [ 'CL and TE', [$cl, $te], "0\r\n\r\n" ],
        [ 'TE and CL', [$te, $cl], $chunks ],
        [ 'CL 0 and TE', [$te, 'Content-Length: 0'], $chunks ],
        [ 'two lengths', [$cl, 'Content-Length: 0'], $text ],
        [ 'a length twice', [$cl, $cl], $text ],
        [ 'a list of lengths', ["$cl, " . length $text], $text ],
        (map { [ "length $_", ["Content-Length: $_"], $text ] }
            '-1', '+5', '0x10', '5x', '5 5', '1e2', '9' x 30),
        (map { [ "TE $_", ["Transfer-Encoding: $_"], $chunks ] }
            'xchunked', 'chunked, identity', 'identity, chunked', 'gzip',
            "\x0bchunked", "chunked\x0b", "\"chunked\""),
        [ 'TE twice', [$te, $te], $chunks ],
        [ 'TE twice, another', [$te, 'Transfer-Encoding: x'], $chunks ],
        [ 'a blank before the colon', ['Transfer-Encoding : chunked'],
            $chunks ],
        [ 'a folded line', ["Transfer-Encoding:\r\n chunked"], $chunks ],
        [ 'a folded value', ["X-A: b\r\n $te"], $chunks ],
        [ 'CR alone', ["X-A: b\r$te", $cl], $text ],
        [ 'NUL', ["X-A: b\0", $cl], $text ],
        [ 'NUL in a name', ["X\0A: b", $cl], $text ],
        [ 'no name', [': b', $cl], $text ],
        [ 'no length', [], $text ],
        [ 'a size of letters', [$te], "zz\r\n$text\r\n0\r\n\r\n" ],
        [ 'a size below 0', [$te], "-1\r\n$text\r\n0\r\n\r\n" ],
        [ 'a size of 2^68', [$te], 'f' x 17 . "\r\n$text\r\n0\r\n\r\n" ],
        [ 'a chunk that is longer', [$te], "1\r\n$text\r\n0\r\n\r\n" ],
        [ 'TE in HTTP/1.0', [$te], $chunks, '1.0' ],
        [ 'HTTP/2.0', [$cl], $text, '2.0' ],
    ) {
        my ($name, $headers, $body, $version) = @$bad;
        my $before = asked();

        my $in = talk(join "\r\n", "POST $chat HTTP/" . ($version // '1.1'),
            'Host: x', $bearer, @$headers, '', $body . $behind);
        my $status = statuses($in);

        is scalar @$status, 1, "$name: one answer" or diag $in;
        like $status->[0] // '', qr/^(?:400|50[15])$/, "$name: refused"
            or diag $in;
        is asked(), $before, "$name: nothing for the provider";
    }

    # what is read by all in one way is framed anew

    for my $fine (
        [ 'lines that end with LF', join("\n", "POST $chat HTTP/1.1",
            'Host: x', $bearer, $cl, 'Connection: close', '', $text) ],
        [ 'empty lines in front', "\r\n\r\n" . join("\r\n",
            "POST $chat HTTP/1.1", 'Host: x', $bearer, $cl,
            'Connection: close', '', $text) ],
        [ 'extensions and trailers', join("\r\n", "POST $chat HTTP/1.1",
            'Host: x', $bearer, $te, 'Connection: close', '',
            sprintf('%x', length $text) . ';a=b', $text, '0;c',
            'Content-Length: 9', 'X-Late: 1', '', '') ],
    ) {
        my ($name, $bytes) = @$fine;

        $mock->reset;
        is_deeply statuses(talk($bytes)), [200], "$name: served";

        my @sent = $mock->journal;
        is scalar @sent, 1, "$name: once";
        is $sent[0]{body}, $text, "$name: the body";
        is $sent[0]{headers}{'content-length'}, length $text,
            "$name: its length";
        is_deeply [grep { defined $sent[0]{headers}{$_} }
            qw(transfer-encoding x-late trailer)], [], "$name: no more";
    }
}


# What a client says of itself is not what a provider hears.

sub credentials {
    my @hidden = ('api-key', 'X-Api-Key', 'X-Goog-Api-Key', 'Cookie',
        'Proxy-Authorization', 'OpenAI-Organization', 'OpenAI-Project',
        'X-LLM-Internal', 'X-LLM-Key', 'X-LLM-Anything', 'TE', 'Upgrade',
        'Keep-Alive');

    $mock->reset;
    my $r = $t->chat('x', headers => [
        Connection => 'close', map { ($_ => 'evil') } @hidden, 'api_key',
        'author_ization']);

    is $r->status, 200, 'headers of all kinds';
    my $sent = ($mock->journal)[0]{headers};
    is $sent->{authorization}, 'Bearer sk-provider-secret', 'its key is ours';
    is_deeply [grep { ($sent->{$_} // '') =~ /evil/ } sort keys %$sent], [],
        'none of them comes to the provider';

    for my $two (['wrong', $t->secret('user')], [$t->secret('user'), 'wrong'])
    {
        $mock->reset;
        $r = $t->post($chat, $text,
            headers => [map { (Authorization => "Bearer $_") } @$two]);
        is $r->status, 400, 'two keys are none';
        is asked(), 0, '  nothing for the provider';
    }

    # a client is not the gateway itself

    $r = $t->post($chat, $text, headers => ['X-LLM-Internal' => 'x',
        'X-LLM-Key' => 'user']);
    is $r->status, 401, 'the headers of the internal listener mean nothing';
}


# No way of writing a path leads to what is not for clients.

sub paths {
    my @inside = ('/llm/mock/models', '/inside/x', '/metrics',
        '/admin/v1/keys', '/admin/v1/status');
    my $before = asked();

    for my $path (@inside,
        '/v1/../llm/mock/models', '/v1/models/../../inside/x',
        '/v1/%2e%2e/llm/mock/models', '/%2e/inside/x', '//inside//x',
        '/v1/..%2finside/x', '/v1/..%5cinside/x', '/v1/..\\inside/x',
        '/%69nside/x', '/inside%2fx', '/inside/x%00', '/inside/x%0d%0aA:b',
        '/inside/x;a=b', '/./llm/./mock/./models', '/llm/mock/%6dodels',
        '/LLM/MOCK/models', '/INSIDE/x', '/inside/x?a=/v1/models',
        '/v1/../admin/v1/keys', '/v1/chat/completions/../../../metrics',
        '/%2561dmin/v1/keys', '/v1/models/%2e%2e%2f%2e%2e%2fadmin%2fv1%2fkeys',
        "http://127.0.0.1:" . $t->port('PORT_ADMIN') . '/metrics',
        'http://localhost/inside/x', '/..', '/../../../../etc/passwd',
        '/v1/responses/..', '/v1/responses/%2e%2e%2f%2e%2e%2finside/x',
        '/v1/responses/x%2f..%2f..%2fx', '/v1/files/..%2f..%2fetc%2fpasswd',
        '/api/tasks/..%2f..%2fx', '/v1/batches/%2e%2e%2f%2e%2e%2fx')
    {
        for my $key ($bearer, "Authorization: Bearer $admin") {
            my $in = talk("GET $path HTTP/1.1\r\nHost: x\r\n$key\r\n"
                . "Connection: close\r\n\r\n");

            like $in, qr{^HTTP/1\.1 4\d\d }, "$path: 4xx" or diag $in;
            unlike $in, qr/inside":1|llm_requests_total|root:|"data":/,
                "$path: nothing shown";
        }
    }

    is asked(), $before, 'nothing for the provider';

    is $t->post('/v1//chat/./completions', $text, key => 'user')->status, 200,
        'the same path in other words is the same';
}


# Who is asked is not the client's to say.

sub hosts {
    my $head = "$bearer\r\nContent-Length: " . length($text)
        . "\r\nConnection: close\r\n";

    for my $bad ([ 'no host', '' ], [ 'two hosts', "Host: a\r\nHost: b\r\n" ],
        [ 'a path', "Host: a/b\r\n" ], [ 'a NUL', "Host: a\0b\r\n" ],
        [ 'a blank', "Host: a b\r\n" ], [ 'two dots', "Host: a..b\r\n" ])
    {
        my $before = asked();
        is_deeply statuses(talk("POST $chat HTTP/1.1\r\n$bad->[1]$head\r\n"
            . $text)), [400], "$bad->[0]: refused";
        is asked(), $before, "$bad->[0]: nothing for the provider";
    }

    my $away = '127.0.0.1:' . $trap->port;

    for my $case (
        [ 'another host', $chat, "Host: $away\r\n" ],
        [ 'an absolute URL', "http://$away$chat", "Host: x\r\n" ],
        [ 'X-Forwarded-Host', $chat, "Host: x\r\nX-Forwarded-Host: $away\r\n"
            . "X-Forwarded-Server: $away\r\nForwarded: host=$away\r\n" ],
        [ 'X-Original-URL', $chat, "Host: x\r\nX-Original-URL: /inside/x\r\n"
            . "X-Rewrite-URL: /admin/v1/keys\r\nX-Accel-Redirect: /inside/x"
            . "\r\nX-HTTP-Method-Override: DELETE\r\n" ],
    ) {
        my ($name, $path, $host) = @$case;

        $mock->reset;
        my $in = talk("POST $path HTTP/1.1\r\n$host$head\r\n$text");
        is_deeply statuses($in), [200], "$name: served";
        unlike $in, qr/inside/, "$name: as it was asked";

        my ($sent) = $mock->journal;
        is $sent->{headers}{host}, 'mock', "$name: the provider's own host";
        is "$sent->{method} $sent->{path}", "POST $chat", "$name: its path";
    }

    is $trap->stats->{accepted}, 0, 'nobody else is called';
}


sub methods {
    my $before = asked();

    for my $method (qw(TRACE CONNECT OPTIONS PROPFIND MKCOL COPY LOCK DEBUG
        PURGE POSTS GETPOST), 'X' x 100)
    {
        my $in = talk("$method $chat HTTP/1.1\r\nHost: x\r\n$bearer\r\n"
            . "Origin: https://evil.example\r\n"
            . "Access-Control-Request-Method: POST\r\nX-Echo: canary-m7\r\n"
            . "Connection: close\r\n\r\n");

        like $in, qr{^HTTP/1\.1 (?:400|405|501) }, "$method: refused"
            or diag $in;
        unlike $in, qr/canary-m7|access-control/i, "$method: no echo, no CORS";
    }

    for my $line ("post $chat HTTP/1.1", "POST $chat", "POST  HTTP/1.1",
        "POST $chat HTTP/1.1 x", "POST\t$chat\tHTTP/1.1", "\x16\x03\x01\x02")
    {
        my $in = talk("$line\r\nHost: x\r\n$bearer\r\nContent-Length: "
            . length($text) . "\r\nConnection: close\r\n\r\n$text");
        unlike $in, qr{ 200 |"choices"}, 'no request line: ' . substr $line,
            0, 20;
    }

    is asked(), $before, 'nothing for the provider';

    # of a URL with several rows; the text lives as long as the answer
    my $r = $t->start_post('/v1/responses/x', undef, method => 'PUT',
        key => 'user');
    $r->wait;
    is $r->header('allow'), 'GET, DELETE', 'Allow';
}


# A model's name goes into a path only if it cannot leave its segment.

sub models {
    for my $bad ('cloud/../../v1/models', 'cloud/x', '..', '../x', '...',
        'cloud?a=b', 'cloud#x', 'cloud%2f..', 'cloud\\x', 'cloud x',
        'cloud;x', "cloud\x{e9}", 'cloud&a=b', 'cloud"x')
    {
        my $before = asked();
        my $r = $t->chat('x', model => $bad);
        is $r->status, 404, "model $bad: not found";
        is asked(), $before, '  nothing for the provider';
    }

    $mock->reset;
    is $t->chat('x', model => 'cloud-1.5:a@b')->status, 200, 'a sane one';
    is +($mock->journal)[0]{path},
        '/deployments/cloud-1.5:a@b/chat/completions', '  is in the path';

    # a query stays one, and behind the path
    $mock->reset;
    is $t->post("$chat?a=/../../x%0d%0aX-Evil:1", $text, key => 'user')
        ->status, 200, 'a query';
    my ($sent) = $mock->journal;
    is $sent->{headers}{'x-evil'}, undef, '  is no header';
    like $sent->{head}, qr{^POST $chat\?a=/\.\./\.\./x%0d%0aX-Evil:1 HTTP},
        '  as it came';
}


# Where a call goes is configured; what bodies and headers name is not called.

sub urls {
    my $url = 'http://127.0.0.1:' . $trap->port . '/v1';
    my @names = qw(base_url api_base api_url endpoint url host proxy
        target_url custom_host api_key organization webhook callback_url);

    for my $path ($chat, '/v1/completions', '/v1/embeddings', '/v1/responses')
    {
        my %input = $path eq $chat
            ? (messages => [{ role => 'user', content => [{ type =>
                'image_url', image_url => { url => "$url/a.png" } }] }])
            : ($path =~ /comp/ ? 'prompt' : 'input', 'x');

        $mock->reset;
        my $r = $t->post("$path?base_url=$url&api_base=$url", {
            model => 'gpt-4o', %input, (map { ($_ => $url) } @names),
            extra_body => { base_url => $url },
            litellm_params => { api_base => $url } },
            key => 'user', headers => { map { ($_ => $url) }
            'X-Base-Url', 'X-Portkey-Custom-Host', 'Helicone-Target-Url',
            'Cf-Aig-Custom-Host', 'X-Api-Base', 'X-Forwarded-Host',
            'Destination', 'Referer' });

        is $r->status, 200, "$path: served";

        my @sent = $mock->journal;
        is scalar @sent, 1, '  by the provider that is configured';
        is $sent[0]{path} =~ s/\?.*//r, $path, '  at its path';
        is $sent[0]{headers}{authorization}, 'Bearer sk-provider-secret',
            '  with its key';
    }

    is $trap->stats->{accepted}, 0, 'no URL of a client is called';
}


sub large {
    my $before = asked();

    for my $case (
        [ 'a header of 64 KB', 'X-A: ' . 'x' x 65_536 . "\r\n" ],
        [ '20 000 headers', join '', map { "X-$_: y\r\n" } 1 .. 20_000 ],
        [ 'a name of 64 KB', 'X' x 65_536 . ": y\r\n" ],
        [ 'a cookie of 64 KB', 'Cookie: ' . 'c=d; ' x 13_000 . "\r\n" ],
        [ 'a header without end', 'X-A: ' . 'x' x 1_000_000 ],
    ) {
        my $in = talk("POST $chat HTTP/1.1\r\nHost: x\r\n$bearer\r\n"
            . "$case->[1]\r\n");
        like $in, qr{^HTTP/1\.1 (?:400|414|431|494) |^$},
            "$case->[0]: refused" or diag substr $in, 0, 200;
    }

    like talk('GET /v1/models/' . 'x' x 100_000 . " HTTP/1.1\r\nHost: x\r\n"
        . "$bearer\r\n\r\n"), qr{^HTTP/1\.1 (?:400|414) },
        'a path of 100 KB: refused';
    is asked(), $before, 'nothing for the provider';

    # what fits goes no further than the provider's buffers
    my $r = $t->chat('x', headers => { map { ("X-$_" => 'y' x 100) }
        1 .. 60 });
    is $r->status, 200, '60 headers are fine';
}


# A slow client holds a connection as long as it is told it may, and nothing
# else: no slot, no call.

sub slow {
    my $port = $t->port('PORT_SLOW');
    my %rest = (port => $port, timeout => 15);
    my $head = "POST $chat HTTP/1.1\r\nHost: x\r\n$bearer\r\n"
        . 'Content-Length: ' . length($text) . "\r\n";
    my $before = asked();

    my @waiting = (
        [ 'nothing', $t->start_post($chat, undef, %rest, raw => ' ') ],
        [ 'half a head', $t->start_post($chat, undef, %rest,
            raw => substr $head, 0, 40) ],
        [ 'half a body', $t->start_post($chat, undef, %rest,
            raw => "$head\r\n" . substr $text, 0, 20) ],
        [ 'half a chunk', $t->start_post($chat, undef, %rest,
            raw => "POST $chat HTTP/1.1\r\nHost: x\r\n$bearer\r\n"
            . "Transfer-Encoding: chunked\r\n\r\nff\r\n{") ],
    );

    # one byte at a time, quicker than client_body_timeout: it is waited for,
    # but not beyond the request's time

    for my $case ([ '', 2 ], [ "x-request-timeout-ms: 1000\r\n", 1 ]) {
        my ($header, $total) = @$case;
        my $drip = $t->start_post($chat, undef, %rest,
            raw => "$head$header\r\n");

        for my $n (0 .. 11) {
            last if $drip->end;
            $drip->{out} .= substr $text, $n, 1;
            Test::LLM::HTTP->idle(0.25);
            next if $n != 1;

            is $drip->end, undef, 'a body in drips is waited for';
            is $t->metric('llm_slots_in_use'), 0, '  without a slot';
            is $t->metric('llm_ledger_tickets_used'), 0, '  or a ticket';
        }

        is $drip->status, 408, "  for ${total} s";
        is $drip->json->{error}{code}, 'request_timeout', '  and told so';
        cmp_ok abs($drip->headed - $total), '<', 0.6, '  in time';
    }

    for my $case (@waiting) {
        my ($name, $r) = @$case;
        $r->wait;
        isnt $r->error // '', 'timeout', "$name: the connection is closed";
        cmp_ok $r->end, '<', 8, '  in time';
    }

    is asked(), $before, 'nothing for the provider';
    $t->all_back('slow clients');
}


# HTTP/2 has no framing to be confused about, unless somebody says otherwise.

sub http2 {
    my @good = (':method' => 'POST', ':scheme' => 'http', ':path' => $chat,
        ':authority' => 'x', authorization => 'Bearer '
        . $t->secret('user'), 'content-type' => 'application/json');
    my %good = @good;

    $mock->reset;
    is h2(\@good, $text), 200, 'HTTP/2: a request';
    is h2([@good, 'content-length' => length $text], $text), 200,
        '  with its length';
    is +($mock->journal)[1]{body}, $text, '  the body';

    # younger versions of nginx refuse it, older ones pay no heed
    $mock->reset;
    my $te = h2([@good, 'transfer-encoding' => 'chunked'], $text);
    my @sent = $mock->journal;
    ok $te == 400 || $te == 200, "HTTP/2: Transfer-Encoding: $te";
    is scalar(grep { $_->{body} ne $text || $_->{headers}{'content-length'}
        != length $text || $_->{headers}{'transfer-encoding'} } @sent), 0,
        '  is not what the provider sees';

    for my $bad (
        [ 'a length that is less', [@good, 'content-length' => 5] ],
        [ 'a length that is more', [@good, 'content-length' => 500] ],
        [ 'two lengths', [@good, 'content-length' => length $text,
            'content-length' => 1] ],
        [ 'CR LF in a value', [@good, 'x-a' => "b\r\nx-evil: 1"] ],
        [ 'LF in a value', [@good, 'x-a' => "b\nx-evil: 1"] ],
        [ 'NUL in a value', [@good, 'x-a' => "b\0"] ],
        [ 'CR LF in a name', [@good, "x-a\r\nx-evil" => 1] ],
        [ 'a blank in a name', [@good, 'x a' => 1] ],
        [ 'capitals', [@good, 'X-A' => 1] ],
        [ 'CR LF in the path', [@good[0 .. 3], ':path' =>
            "$chat HTTP/1.1\r\nx-evil: 1", @good[6 .. 11]] ],
        [ 'CR LF in the method', [':method' => "POST / HTTP/1.1\r\nx: ",
            @good[2 .. 11]] ],
        [ 'a method with a blank', [':method' => 'POST /x', @good[2 .. 11]] ],
        [ 'two paths', [@good, ':path' => '/v1/models'] ],
        [ 'no path', [@good[0 .. 3], @good[6 .. 11]] ],
        [ 'a path without a slash', [@good[0 .. 3], ':path' => 'v1/models',
            @good[6 .. 11]] ],
        [ 'an unknown one of its own', [@good, ':evil' => 1] ],
        [ '5000 headers', [@good, map { ("x-$_" => 'y' x 20) } 1 .. 500] ],
    ) {
        my ($name, $headers) = @$bad;

        $mock->reset;
        my $status = h2($headers, $text);
        isnt $status, 200, "HTTP/2: $name: refused: $status";
        is asked(), 0, '  nothing for the provider' or diag explain
            [$mock->journal];
    }

    # a large table, and one entry of it again and again
    my $big = 'z' x 3000;
    my $status = h2(\@good, $text, "\x40" . chr(3) . 'x-b' . "\x7f\xb9\x16"
        . $big . "\xbe" x 5000);
    isnt $status, 200, "HTTP/2: a bomb of headers: refused: $status";

    ok h2(undef) ne '200', 'HTTP/2: frames of nothing are no request';
}


sub frame {
    my ($type, $flags, $stream, $payload) = @_;

    return pack('NCN', length($payload) << 8 | $type, $flags, $stream)
        . $payload;
}


# the status of one request; "reset", "closed"

sub h2 {
    my ($headers, $body, $more) = @_;

    local $SIG{PIPE} = 'IGNORE';

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $t->port('PORT_H2')) or die "connect: $!\n";
    my @list = @{$headers // []};
    my $block = $more // '';

    while (my ($name, $value) = splice @list, 0, 2) {
        die if length $name > 126;
        $block = ($more ? '' : $block) . pack('C C/a', 0, $name)
            . (length $value < 127 ? pack 'C/a', $value
            : "\x7f" . chr(length($value) - 127 & 127 | 128)
            . chr(length($value) - 127 >> 7) . $value) . ($more ? $block : '');
    }

    my $out = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0, '');

    if ($headers) {
        my $type = 1;

        while (length $block > 16_000) {
            $out .= frame($type, 0, 1, substr $block, 0, 16_000, '');
            $type = 9;
        }

        $out .= frame($type, 4, 1, $block) . frame(0, 1, 1, $body);

    } else {
        $out .= frame(9, 0, 1, 'x') . frame(0, 0, 1, '') x 100;
    }

    syswrite $socket, $out;

    my ($in, $until) = ('', time + 10);

    while (time < $until) {
        IO::Select->new($socket)->can_read($until - time) or return 'late';
        sysread $socket, $in, 65536, length $in or return 'closed';

        my $rest = $in;

        while (length $rest >= 9) {
            my ($high, $low, $type, $flags, $id) = unpack 'nCCCN', $rest;
            my $length = $high << 8 | $low;

            last if length $rest < 9 + $length;

            my $payload = substr $rest, 9, $length;
            substr($rest, 0, 9 + $length) = '';

            return 'reset' if $type == 3;
            return 'goaway' if $type == 7;
            next if $type != 1;

            return $payload =~ /^\x88/ ? 200 : $payload =~ /^\x8c/ ? 400
                : $payload =~ /^\x8d/ ? 404 : $payload =~ /^\x8e/ ? 500
                : $payload =~ /^\x08\x03(\d{3})/ ? $1 : 'unknown';
        }
    }

    return 'late';
}


# The admin API: one secret, in one place, and no page of others may use it.

sub admin {
    my %port = (port => $t->port('PORT_ADMIN'));
    my $path = '/admin/v1/keys';

    for my $bad (
        [ 'none' ], [ 'empty', Authorization => 'Bearer ' ],
        [ 'a part', Authorization => 'Bearer ' . substr $admin, 0, -1 ],
        [ 'more', Authorization => "Bearer ${admin}a" ],
        [ 'in capitals', Authorization => 'Bearer ' . uc $admin ],
        [ 'with NUL', Authorization => "Bearer $admin%00" ],
        [ 'Basic', Authorization => "Basic $admin" ],
        [ 'no scheme', Authorization => $admin ],
        [ 'api-key', 'api-key' => $admin ],
        [ 'a cookie', Cookie => "secret=$admin; Authorization=$admin" ],
        [ 'a key of a client', Authorization => 'Bearer '
            . $t->secret('user') ],
        [ 'of the provider', Authorization => 'Bearer sk-provider-secret' ],
    ) {
        my ($name, @headers) = @$bad;

        for my $way ([GET => $path], [POST => $path], [DELETE => "$path/x"],
            [GET => '/admin/v1/nothing'], [OPTIONS => $path])
        {
            my $r = $t->start_post($way->[1], $way->[0] eq 'POST' ? '{}'
                : undef, method => $way->[0], headers => \@headers, %port);
            $r->wait;
            is $r->status, 401, "admin: secret: $name: $way->[0]";
        }
    }

    for my $uri ("$path?secret=$admin", "$path?authorization=Bearer+$admin",
        '/admin/v1//keys', '/admin/v1/./keys', '/admin/v1/keys%2f',
        '/x/../admin/v1/keys', '/%61dmin/v1/keys')
    {
        is $t->get($uri, %port)->status, 401, "admin: $uri: 401";
    }

    # browsers: no page of another origin hears or does anything

    my @origin = (Origin => 'https://evil.example');

    for my $r ($t->get($path, headers => [@origin], %port),
        $t->get($path, headers => [@origin, Authorization =>
        "Bearer $admin"], %port), $t->chat('x', headers => [@origin]))
    {
        unlike $r->head, qr/^access-control/mi, 'no CORS: ' . $r->status;
    }

    is $t->post($chat, $text, headers => [Authorization => "Bearer $admin"])
        ->status, 401, 'the admin secret is no key';

    # how it is compared can be seen in the code alone

    my $code = source('operate/ngx_http_llm_admin.c');
    my ($allowed) = $code =~ /^(ngx_http_llm_admin_allowed.*?^\})/ms;

    like $allowed, qr/SHA256\(value\.data.*return CRYPTO_memcmp\(/s,
        'admin: digests are compared, in constant time';
    unlike $code, qr/(?:ngx_memcmp|ngx_strcmp|ngx_strncmp)\([^;]*llcf->admin/s,
        'admin: and in no other way';
}


sub source {
    my ($path) = @_;

    open my $file, '<', "$FindBin::Bin/../ngx_module/$path" or die "$path: $!";
    local $/;

    return scalar <$file>;
}


# No header of a provider acts on clients or on what stands between.

sub headers_of_providers {
    my %evil = map { ($_ => 'evil-h3') } 'set-cookie', 'x-accel-redirect',
        'x-accel-buffering', 'x-accel-limit-rate', 'x-accel-charset',
        'x-accel-expires', 'access-control-allow-origin',
        'access-control-allow-credentials', 'access-control-expose-headers',
        'clear-site-data', 'refresh', 'strict-transport-security', 'alt-svc',
        'via', 'server', 'nel', 'report-to', 'www-authenticate',
        'proxy-authenticate', 'cache-status', 'age', 'server-timing',
        'x-request-id', 'x-llm-provider', 'x-llm-cost-usd', 'x-llm-anything',
        'x-ratelimit-limit-requests', 'x-ratelimit-remaining-tokens',
        'x-should-retry', 'openai-organization', 'cf-ray', 'connection',
        'keep-alive', 'upgrade', 'trailer';

    for my $case ([ 'JSON', {} ], [ 'a stream', {}, stream => 1 ],
        [ 'an error', { status => 400 } ], [ 'a 500', { status => 500 } ],
        [ 'a redirect', { status => 302, headers => { %evil,
            location => 'https://evil-h3.example/' } } ],
        [ 'a redirect here', { status => 307, headers => { %evil,
            location => '/evil-h3' } } ])
    {
        my ($name, $rule, @spec) = @$case;

        $mock->script({ headers => \%evil, %$rule });
        my $r = $t->chat('x', @spec);
        my $status = $rule->{status} // 200;

        is $r->status, $status =~ /^3/ ? 502 : $status, "$name: status";
        ok $r->complete, "$name: whole";
        unlike $r->head, qr/evil-h3/, "$name: none of its headers"
            or diag $r->head;
    }

    $mock->script();
}


# Answers that are broken, or more than one: an error of ours, and the next
# client gets its own.

sub framing_of_providers {
    my $json = '{"object":"chat.completion","model":"m","choices":[]}';
    my $length = 'Content-Length: ' . length $json;
    my $ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    my $evil = "${ok}Content-Length: 12\r\n\r\n{\"evil\":\"e5\"}";

    for my $bad (
        [ 'NUL in a header', "${ok}X-A: b\0c\r\n$length\r\n\r\n$json" ],
        [ 'CR in a header', "${ok}X-A: b\rSet-Cookie: evil=e5\r\n$length\r\n"
            . "\r\n$json" ],
        [ 'a folded line', "${ok}X-A: b\r\n Set-Cookie: evil=e5\r\n$length"
            . "\r\n\r\n$json" ],
        [ 'no name', "${ok}: evil=e5\r\n$length\r\n\r\n$json" ],
        [ 'a length that is more', "${ok}${length}0\r\n\r\n$json" ],
        [ 'a length that is less', "${ok}Content-Length: 9\r\n\r\n$json" ],
        [ 'chunks of nothing', "${ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n"
            . $json ],
        [ 'a huge chunk', "${ok}Transfer-Encoding: chunked\r\n\r\n"
            . 'f' x 17 . "\r\n$json" ],
        [ 'a head of 64 KB', "${ok}X-A: " . 'x' x 65_536 . "\r\n$length"
            . "\r\n\r\n$json" ],
        [ '5000 headers', $ok . join('', map { "X-$_: y\r\n" } 1 .. 5000)
            . "$length\r\n\r\n$json" ],
        [ 'a head without end', $ok . 'X-A: ' . 'x' x 10_000 ],
        [ 'no HTTP', "\x16\x03\x03\0\x7a" . 'x' x 100 ],
        [ 'HTTP/2', "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" ],
        [ '101', "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n"
            . "Connection: upgrade\r\n\r\nevil-e5", 'Upgrade: websocket',
            'Connection: upgrade' ],
        [ '101 unasked', "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nevil" ],
        [ '100 for ever', "HTTP/1.1 100 Continue\r\n\r\n" x 1000 ],
        [ '204', "HTTP/1.1 204 No Content\r\nX-A: evil-e5\r\n\r\n" ],
        [ '206', "HTTP/1.1 206 Part\r\nContent-Range: bytes 0-1/9\r\n$length"
            . "\r\n\r\n$json" ],
        [ '304', "HTTP/1.1 304 Not Modified\r\n\r\n" ],
        [ '999', "HTTP/1.1 999 evil-e5\r\n$length\r\n\r\n$json" ],
        [ '000', "HTTP/1.1 000 evil-e5\r\n$length\r\n\r\n$json" ],
        [ 'gzip', "${ok}Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n"
            . "\x1f\x8b\x08\0" . "\0" x 16 ],
        [ 'HTML', "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
            . "Content-Length: 25\r\n\r\n<script>evil-e5()</script" ],
    ) {
        my ($name, $raw, @headers) = @$bad;

        $mock->script({ raw => $raw });
        my $r = talk_to_answer(@headers);

        is $r->status, 502, "$name: 502" or diag $r->head // '', $r->{in};
        is eval { $r->json->{error}{type} }, 'server_error',
            "$name: an error of ours";
        unlike(($r->head // '') . $r->body, qr/evil/, "$name: nothing of it");
        ok $r->complete, "$name: whole";
    }

    # what is JSON is called that, so that no browser takes it for a page

    for my $type ('text/html', 'text/html; charset=utf-7', 'image/svg+xml',
        'application/json; charset=utf-8', 'x', '')
    {
        my $page = $json =~ s/"m"/"<script>"/r;
        $mock->script({ raw => "HTTP/1.1 200 OK\r\n"
            . ($type && "Content-Type: $type\r\n") . 'Content-Length: '
            . length($page) . "\r\n\r\n$page" });
        my $r = $t->chat('x');
        is $r->body, $page, "JSON as $type";
        is $r->header('content-type'), 'application/json', '  is JSON';
    }

    # a length that is none, or one and chunks: whatever nginx makes of it
    # comes in a framing of ours, and is a whole JSON object or none

    for my $case (map({ [ "length $_", "Content-Length: $_\r\n\r\n$json" ] }
            '5x', '-5', '9' x 30),
        [ 'two lengths', "$length\r\nContent-Length: 9\r\n\r\n$json" ],
        [ 'CL and TE', "${length}0\r\nTransfer-Encoding: chunked\r\n\r\n"
            . sprintf("%x\r\n", length $json) . "$json\r\n0\r\n\r\n" ])
    {
        $mock->script({ raw => "$ok$case->[1]" });
        my $r = talk_to_answer();
        ok $r->status == 502 || ($r->status == 200 && $r->body eq $json),
            "$case->[0]: " . $r->status;
        ok $r->complete, '  whole';
    }

    # chunks that break in the middle of a stream

    my $events = join '', map { "data: {\"choices\":[{\"index\":0,\"delta\":"
        . "{\"content\":\"$_\"}}]}\n\n" } 1 .. 3;

    for my $chunk ("zz\r\n", 'f' x 17 . "\r\n", "-1\r\n") {
        $mock->script({ slice => 150, slice_ms => 20, raw =>
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            . "Transfer-Encoding: chunked\r\n\r\n"
            . sprintf("%x\r\n", length $events) . "$events\r\n$chunk"
            . "data: evil-e5\n\n" });
        my $r = $t->chat('x', stream => 1);
        is $r->status, 200, 'a stream whose chunks break';
        like $r->body, qr/"content":"1".*"error"/s, '  ends with an error';
        unlike $r->body, qr/evil|\[DONE\]/, '  and nothing else';
        ok !$r->complete, '  and not cleanly';
    }

    # an answer too many is nobody's

    for my $n (1 .. 3) {
        $mock->script({ times => 1, content_length => length $json,
            body => "$json$evil" });
        my @r = map { $t->chat("question $_") } 1 .. 3;
        is_deeply [map { $_->status } @r], [200, 200, 200],
            "behind an answer $n: three are served";
        is scalar(grep { $_->body =~ /evil/ } @r), 0, '  by their own';
    }

    # a stream: what is no event of ours does not become one

    $mock->script({ raw => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream"
        . "\r\n\r\ndata: {\"choices\":[],\"x\":\"\0\"}\r\n\r\n"
        . "HTTP/1.1 200 OK\r\nSet-Cookie: evil=1\r\n\r\ndata: [DONE]\n\n" });
    my $r = $t->chat('x', stream => 1);
    is $r->status, 200, 'a strange stream';
    unlike $r->head, qr/evil/, '  has no head but ours';

    $mock->script();
}


# a chat with more headers

sub talk_to_answer {
    my (@headers) = @_;

    my $r = $t->start_post($chat, undef, timeout => 8, raw => join "\r\n",
        "POST $chat HTTP/1.1", 'Host: x', $bearer, 'Content-Length: '
        . length $text, @headers, '', $text);
    $r->wait;

    return $r;
}


# Texts of a provider stand in bodies as JSON, in the log as nothing.

sub texts_of_providers {
    my $evil = "e7\r\nSet-Cookie: evil=1\r\n\r\n<script>\0\e[31m";

    for my $status (400, 429, 500) {
        $mock->script({ status => $status, error_message => $evil,
            error_type => "$evil", error_code => $evil,
            headers => { 'retry-after-ms' => '1' } });
        my $r = $t->chat('x');
        is $r->status, $status, "a hostile text: $status";
        unlike $r->head, qr/evil/, '  not in a header';
        ok ref $r->json, '  JSON';
        unlike $r->body, qr/[\0-\x1f]/, '  without bare controls'
            if $r->body !~ /\n\z/;
    }

    $mock->script({ model => $evil });
    my $r = $t->chat('x');
    is $r->status, 200, 'a hostile name of a model';
    unlike $r->head, qr/evil/, '  not in a header';

    $mock->script({ status => 400, error_message => 'm' x 1_000_000 });
    $r = $t->chat('x');
    ok $r->status >= 400, 'a text of 1 MB: ' . $r->status;
    cmp_ok length $r->body, '<', 100_000, '  is not passed on';

    unlike $t->log . $t->access_log, qr/Set-Cookie: evil|<script>|\e\[31m/,
        'nothing of it in the logs';
    $mock->script();
}


# A provider cannot send the gateway elsewhere, though its location forgets
# to say so.

sub steering {
    unlike $t->read('nginx.conf'), qr/proxy_ignore_headers/,
        'proxy_ignore_headers is forgotten';

    for my $where ('/inside/x', '/llm/cloud/x', '/metrics', '@x') {
        for my $stream (0, 1) {
            $mock->script({ headers => { 'x-accel-redirect' => $where,
                'x-accel-limit-rate' => 1, 'x-accel-buffering' => 'yes',
                'x-accel-charset' => 'x' } });
            my $r = $t->chat('x', stream => $stream);
            is $r->status, 200, "X-Accel-Redirect: $where";
            unlike $r->body, qr/inside":1/, '  leads nowhere';
            is asked(), 1, '  one call';
        }
    }

    $mock->script();
}


# The user of docs/redis.md may do what the gateway does, and no more: all
# commands in the code are named there, and none is that the code has not.

sub redis_user {
    open my $file, '<', "$FindBin::Bin/../docs/redis.md" or die "redis.md: $!";
    my $docs = do { local $/; <$file> };
    my ($acl) = $docs =~ /\n    (ACL SETUSER llm .*?)\n\n/s;

    my @words = split ' ', $acl;
    my %may = map { (split /\|/, substr $_, 1)[0] => 1 } grep { /^\+/ } @words;
    my %does = (evalsha => 1, ping => 1);

    for my $path (glob "$FindBin::Bin/../ngx_module/*/*.{c,lua}") {
        my $code = source($path =~ s{.*/ngx_module/}{}r);

        $does{lc $1} = 1 while $code =~ /\bp?call\(\s*'([A-Z]+)'/g;
        $does{lc $1} = 1 while $code =~ /grouped\(\w+,\s*'([A-Z]+)'/g;
        $does{lc $1} = 1 while $code =~ /(?:argv|head)\[0\], "([A-Z]+)"/g;
    }

    delete @does{qw(auth sentinel)};          # anybody's, and a Sentinel's

    is_deeply [sort grep { !$may{$_} } keys %does], [],
        'Redis: all commands of the code are allowed';
    is_deeply [sort grep { !$does{$_} } keys %may], [],
        'Redis: and no others';

    my $hub = Test::LLM->new;
    my $redis = $hub->redis;
    my $mock = $hub->mock;

    s/^>password$/>word/ for @words;
    $redis->command(@words);

    my @g = map { Test::LLM->new(workers => 2) } 1, 2;

    for my $g (@g) {
        my $socket = $g->path('internal.sock');

        $g->key('user', requests_per_minute => 1000, tokens_per_day => 1e6,
            concurrency => 20);
        $g->{secrets} = $g[0]{secrets} if $g->{secrets};
        $g->write('tenants.json', $g[0]{tenants});
        $g->write('admin', $admin);
        $g->write('fleet', join '', map { chr 33 + $_ * 7 % 90 } 1 .. 40);
        $g->token(MOCK => $hub->token('MOCK'));
        $g->token(REDIS => 'unix://llm:word@' . $redis->path . ' gateways=2');
        $g->gateway(
            http => "llm_internal unix:$socket; llm_secret file:%%DIR%%/fleet;
                llm_tasks on tries=2 backoff=1ms lease=1s;",
            server => "listen unix:$socket;",
            location => 'llm_cache on ttl=1h; llm_join on resume=1m;',
            admin => 'location /admin/v1/ { llm_admin file:%%DIR%%/admin; }',
        );
    }

    my ($g, $other) = @g;

    for (@g) {
        my $one = $_;
        ok $one->until(sub { $one->get('/v1/batches', key => 'user')->status
            == 200 }, 10), 'Redis: a gateway is there';
    }

    work($g, $other, $mock);

    # refused commands; "reason" is a command, a key or a channel

    my @denied = map { my %e = @$_; "$e{reason} $e{object}" }
        grep { my %e = @$_; $e{username} eq 'llm' }
        @{$redis->command(ACL => 'LOG')};

    is_deeply \@denied, [], 'Redis: nothing was refused';
    is $_->said(qr/NOPERM/), 0, 'Redis: nor did the log say so' for @g;

    my %stats = map { /^cmdstat_([^:|]+)/ ? ($1 => 1) : () }
        split /\r?\n/, $redis->command(INFO => 'commandstats');
    note 'used: ', join ' ', sort grep { $may{$_} } keys %stats;
    note 'not met: ', join ' ', sort grep { !$stats{$_} } keys %may;

    # what it may not

    my $as = $redis->another;
    $as->command(AUTH => 'llm', 'word');

    for my $no ([ 'KEYS', '*' ], [ 'FLUSHALL' ], [ 'CONFIG', 'GET', '*' ],
        [ 'ACL', 'LIST' ], [ 'GET', 'other' ], [ 'SET', 'llm:x', 1 ],
        [ 'SHUTDOWN' ], [ 'SCRIPT', 'FLUSH' ], [ 'SUBSCRIBE', 'x' ],
        [ 'EVAL', "return redis.call('GET', 'other')", 0 ])
    {
        ok !eval { $as->command(@$no); 1 }, "Redis: not @$no[0 .. 0]";
        like $@, qr/NOPERM|can't access|permission/i, '  said so';
    }

    $_->quit for @g;
}


# something of all that there is

sub work {
    my ($g, $other, $mock) = @_;

    my %admin = (port => $g->port('PORT_ADMIN'), headers =>
        ['Authorization' => "Bearer $admin"]);
    my @key = (key => 'user');
    my $json = JSON::PP->new->utf8;

    is $_->chat('the same')->status, 200, 'a chat' for $g, $other;
    $mock->script({ match => { body => 'shared' }, chunks => 20,
        pace_ms => 20 });
    my @r = map { $_->start_chat('shared', stream => 1, @key) } $g, $other, $g;
    $_->wait for @r;
    is_deeply [map { $_->status } @r], [200, 200, 200], 'shared calls';

    my $r = $g->post('/v1/responses', { model => 'gpt-4o', input => 'x' },
        @key);
    my $id = $r->json->{id};
    is $other->get("/v1/responses/$id", @key)->status, 200,
        'a response, elsewhere';
    $r = $other->start_post("/v1/responses/$id", undef, method => 'DELETE',
        @key);
    $r->wait;
    is $r->status, 200, 'deleted';

    for my $case ([POST => '/keys', { name => 'made' }],
        [PATCH => '/keys/made', { enabled => JSON::PP::false }],
        [POST => '/keys/made/rotate', undef],
        [PUT => '/teams/crew', { weight => 2 }],
        [GET => '/keys', undef], [GET => '/usage?period=day', undef],
        [GET => '/slots', undef], [GET => '/tasks', undef],
        [DELETE => '/keys/made?streams=cut', undef],
        [DELETE => '/teams/crew', undef],
        [POST => '/cache/purge', { key => 'user' }],
        [POST => '/cache/purge', { all => JSON::PP::true }],
        [GET => '/tasks/dead', undef],
        [POST => '/tasks/purge', { team => 'nobody' }])
    {
        my ($method, $path, $body) = @$case;
        $r = $g->start_post("/admin/v1$path", $body, method => $method,
            %admin);
        $r->wait;
        note "$method $path: " . $r->status . ' ' . $r->body
            if $r->status >= 300;
        ok $r->status != 401 && $r->status < 500, "admin: $method $path";
    }

    # tasks: to the end, looked at, followed, cancelled, given up

    $mock->script({ match => { model => 'bad' }, status => 500 },
        { match => { model => 'slow' }, delay_ms => 3000 });

    my %ids;

    for my $model (qw(good bad slow)) {
        $r = $g->post('/api/tasks', { model => $model, prompts =>
            ["$model one", "$model two"] }, @key);
        $ids{$model} = eval { $r->json->{task_ids} } // [];
        is scalar @{$ids{$model}}, 2, "tasks: $model";
    }

    $r = $g->start_post("/api/tasks/$ids{slow}[0]", undef, method => 'DELETE',
        @key);
    $r->wait;
    cmp_ok $r->status, '<', 300, 'a task is cancelled';
    is $g->get("/api/tasks/$ids{good}[0]/events", @key, timeout => 20)
        ->status, 200, 'a task is followed';
    ok $g->until(sub { my $r = $other->get('/api/tasks?task_ids='
        . join(',', @{$ids{good}}, @{$ids{bad}}), @key);
        $r->body !~ /"(?:queued|running|processing)"/ }, 20),
        'tasks have ended';

    # files and batches

    my $mark = 'm4rk';
    my $lines = join '', map { $json->encode({ custom_id => "l$_",
        method => 'POST', url => $chat, body => { model => 'gpt-4o',
        messages => [{ role => 'user', content => "line $_" }] } }) . "\n" }
        1 .. 5;

    $r = $g->post('/v1/files', join('', "--$mark\r\n",
        "Content-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n",
        "--$mark\r\nContent-Disposition: form-data; name=\"file\"; ",
        "filename=\"a.jsonl\"\r\n\r\n$lines\r\n--$mark--\r\n"), @key,
        headers => ['Content-Type' => "multipart/form-data; boundary=$mark"]);
    my $in = eval { $r->json->{id} };
    ok $in, 'a file' or diag $r->body;

    my @batch = map { eval { $g->post('/v1/batches', { input_file_id => $in,
        endpoint => $chat, completion_window => '24h' }, @key)->json->{id} } }
        1, 2;
    is scalar(grep { $_ } @batch), 2, 'two batches';
    $g->post("/v1/batches/$batch[1]/cancel", '', @key);

    my $batch;
    ok $g->until(sub { $batch = $g->get("/v1/batches/$batch[0]", @key)->json;
        ($batch->{status} // '') =~ /completed|failed/ }, 30), 'one ends'
        or diag explain $batch;
    is $batch->{status}, 'completed', '  well';
    like $other->get("/v1/files/$batch->{output_file_id}/content", @key)
        ->body, qr/"l5"/, '  its output';
    ok $g->until(sub { $g->get("/v1/batches/$batch[1]", @key)->body
        =~ /"(?:cancelled|completed)"/ }, 30), 'the other one, too';

    for my $list ('/v1/files', '/v1/files?limit=1&order=asc', '/v1/batches',
        "/v1/files/$in", "/v1/batches?limit=1&after=$batch[1]")
    {
        is $g->get($list, @key)->status, 200, $list =~ s/$in|$batch[1]/ID/r;
    }

    $r = $g->start_post("/v1/files/$in", undef, method => 'DELETE', @key);
    $r->wait;
    is $r->status, 200, 'a file is deleted';

    # what is done now and then
    $g->kill_worker('KILL', ($g->workers)[0]);
    is $g->chat('after a death')->status, 200, 'after a death';
    Test::LLM::HTTP->idle(3);
}
