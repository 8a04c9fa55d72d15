#!/usr/bin/perl

# TLS: to providers with good certificates and bad ones, and HTTP/2 over TLS
# to clients.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;
use Test::LLM::Cert;


my $name = 'localhost';
my @bad = qw(other expired unknown);

my $t = Test::LLM->new(debug => 1);
my $cert = Test::LLM::Cert->new($t, $name);

$t->key('user', requests_per_minute => 1_000_000);

my %mock = map { $_ => $t->mock($cert->$_) } qw(good chained), @bad;

# "plain" is the gateway itself, which does not speak TLS on that port
my %port = (map({ $_ => $mock{$_}->port } keys %mock),
    plain => $t->port, named => $mock{good}->port, anonymous => $mock{good}->port);

my $upstreams = join '', map { "
    upstream $_ { server 127.0.0.1:$port{$_} max_fails=0; keepalive 8; }" }
    grep { $_ ne 'named' } sort keys %port;
my $providers = join "\n    ", map { "llm_provider $_ uri=/llm/$_/;" }
    sort keys %port;
my $routes = join "\n    ", map { "llm_route $_ $_; llm_route $_-2 $_ good;" }
    sort keys %port;
my $locations = join '', map { my $sni = $_ eq 'anonymous' ? 'off' : 'on'; "
        location /llm/$_/ {
            internal;
            proxy_pass https://$_/v1/;
            proxy_ssl_server_name $sni;
            proxy_ssl_name $name;
            proxy_ssl_verify on;
            proxy_ssl_verify_depth 4;
            proxy_ssl_trusted_certificate %%CA%%;
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            %%PROXY%%
        }" } sort keys %port;

$t->token(BREAKER => 'llm_breaker consecutive=0 ratio=0;');

$t->gateway(
    redis => 0,
    http => "$upstreams
    upstream named {
        llm_resolve 127.0.0.1:$port{named};
        keepalive 1;
        keepalive_requests 1;
    }",
    routes => "$providers
    $routes
    llm_route * mock;",
    server => 'listen 127.0.0.1:%%PORT_TLS%% ssl http2;
        ssl_certificate ' . $cert->file('good.pem') . ';
        ssl_certificate_key ' . $cert->file('good.key') . ";
        $locations",
    location => 'llm_retry tries=2 base=1ms cap=2ms budget=100 floor=1000;
        %%BREAKER%%',
);


# good ones

for my $which (qw(good chained)) {
    my $r = $t->chat('hello', model => $which);

    is $r->status, 200, "$which: serves";
    is + ($mock{$which}->journal)[0]{sni}, $name, "$which: SNI";
    $t->chat('again', model => $which);
    is $mock{$which}->stats->{accepted}, 1,
        "$which: the next request has the same connection";
    is $mock{$which}->stats->{tls_failed}, 0, "$which: no handshake failed";
}

$mock{good}->script;
is $t->chat('hello', model => 'anonymous')->status, 200, 'without SNI';
is + ($mock{good}->journal)[0]{sni}, undef, 'there is none';


# bad ones: no request gets there, and the next target is tried

my %why = (
    other => qr/upstream SSL certificate does not match "\Q$name\E"/,
    expired => qr/certificate verify error: \(10:certificate has expired\)/,
    unknown => qr/certificate verify error: \(18:self[- ]signed certificate\)/,
    plain => qr/SSL_do_handshake\(\) failed/,
);

for my $which (@bad, 'plain') {
    $_->script for grep { $_ } @mock{$which, 'good'};

    my $before = connects($which);
    my $r = $t->chat('hello', model => $which);

    is $r->status, 503, "$which: refused";
    is $r->json->{error}{code}, 'upstream_unavailable', "$which: with a code";
    unlike $r->body, qr/certificate|SSL/, "$which: that tells no more";
    ok $t->wait_log($why{$which}), "$which: the log has the reason";
    is $mock{$which}->stats->{requests}, 0, "$which: no request got there"
        if $mock{$which};
    cmp_ok connects($which), '>', $before,
        "$which: is an attempt that did not connect";

    $r = $t->chat('next', model => "$which-2");
    is $r->status, 200, "$which: the next target serves";
    is $r->header('x-llm-provider'), 'good', "$which: which is another";
    cmp_ok $r->header('x-llm-attempts'), '>', 1, "$which: after an attempt";

    my $stream = $t->start_chat('next', model => "$which-2", stream => 1);
    ok $stream->wait(sub { $_[0]->complete }), "$which: a stream, too";
    is $stream->events->[-1]{data}, '[DONE]', "$which: that is whole";
}


# the breaker takes them for what they are

$t->token(BREAKER => 'llm_breaker consecutive=3 eject=30s;');
$t->reload($t->{template});

for my $which (@bad) {
    $t->chat("breaker $_", model => "$which-2") for 1 .. 4;
    is $t->metric("llm_target_state{target=\"$which\"}"), 1,
        "$which: the breaker opens";
    is $t->chat('open', model => "$which-2")->header('x-llm-attempts'), 1,
        "$which: it is not tried any more";
}

$t->token(BREAKER => 'llm_breaker consecutive=0 ratio=0;');
$t->reload($t->{template});


# a session is used again, also by the addresses of llm_resolve

$mock{good}->script;
my $reused = $t->said(qr/SSL reused session/);
$t->chat('first', model => 'named');
$t->chat("more $_", model => 'named') for 1 .. 3;
is $mock{good}->stats->{accepted}, 4, 'llm_resolve, a connection each';
cmp_ok $t->said(qr/SSL reused session/) - $reused, '>=', 3,
    'that uses the TLS session again';


# HTTP/2 over TLS to the client, TLS to the provider

my $curl = qx(curl -V 2>&1) =~ /\bHTTP2\b/;

SKIP: {
    skip 'this curl has no HTTP/2', 24 if !$curl;

    $mock{good}->script({ keep => \1 });
    my ($status, $body, $exit) = curl('good', '');
    is $status, '2 200', 'HTTP/2: an answer';
    is $body, $mock{good}->sent(0), 'as the provider gave it';

    $mock{good}->script({ keep => \1, usage => 'none' });
    ($status, $body, $exit) = curl('good', ', "stream": true');
    is "$status $exit", '2 200 0', 'HTTP/2: a stream';
    is scalar(() = $body =~ /^data: /mg), 11, 'with all events';
    like $body, qr/data: \[DONE\]\n\n$/, 'and its end';

    $mock{good}->script({ status => 400, error_code => 'odd' });
    ($status, $body) = curl('good', '');
    is $status, '2 400', 'HTTP/2: an error';
    like $body, qr/"code": ?"odd"/, "which is the provider's";

    $mock{good}->script({ times => 1, status => 503 });
    ($status) = curl('good', '');
    is $status, '2 200', 'HTTP/2: a 503 is retried';

    $mock{good}->script({ times => 1, error_event => 0 });
    ($status, $body, $exit) = curl('good', ', "stream": true');
    is "$status $exit", '2 200 0', 'HTTP/2: a stream that begins with an error';
    like $body, qr/data: \[DONE\]\n\n$/, 'is retried';

    for my $cut (qw(rst close clean)) {
        $mock{good}->script({ cut => $cut, cut_events => 4 });
        ($status, $body, $exit) = curl('good', ', "stream": true');
        is $status, '2 200', "HTTP/2: a stream that breaks off ($cut)";
        isnt $exit, 0, 'ends with a reset of the stream';
        like $body, qr/"error"/, 'after an error event';
        unlike $body, qr/\[DONE\]/, 'and never whole';
    }

    ($status, $body) = curl('other', '');
    is $status, '2 503', 'HTTP/2: a bad certificate';
    ($status) = curl('other-2', '');
    is $status, '2 200', 'HTTP/2: and the next target';
}

# "make run" with a provider of one's own: whom the system trusts, or whom
# SSL_CERT_FILE names, is good

SKIP: {
    skip 'runs the module that is built for the system\'s nginx', 9
        if !$t->{module} || !-e $t->{module};

    my ($status, $said, $stop) = run('good');
    is $status, 503, 'make run: who is not trusted';
    like $t->read('run/logs/error.log'),
        qr/upstream SSL certificate verify error/,
        'is refused';
    $stop->();

    for my $which (qw(good chained other expired)) {
        ($status, $said, $stop) = run($which, SSL_CERT_FILE => $cert->ca);
        is $status, $which =~ /good|chained/ ? 200 : 503,
            "make run: SSL_CERT_FILE, $which" or diag $said->();
        $stop->();
    }

    is + ($mock{chained}->journal)[-1]{sni}, $name, 'make run: SNI';
    like $t->read('run/nginx.conf'), qr/^\s*proxy_ssl_verify on;$/m,
        'make run: what is good is looked at';

    (undef, $said) = run('good', SSL_CERT_FILE => '/no/such/file');
    like $said->(), qr{SSL_CERT_FILE "/no/such/file"}, 'a wrong name is told';
}

done_testing;


# starts util/run.sh: the status of a request, what it said, how to end it

sub run {
    my ($which, %env) = @_;

    my $out = 'run-' . ++$t->{runs};
    my @ports = map { $t->port("PORT_$_$out") } qw(RUN RUN_ADMIN);

    local %ENV = (%ENV, REDIS_URL => 'off', OPENAI_API_KEY => 'sk-provider',
        OPENAI_BASE_URL => "https://$name:$port{$which}/v1", WORKERS => 1,
        BUILD => $t->{build}, RUN_DIR => $t->path('run'), PORT => $ports[0],
        ADMIN_PORT => $ports[1], %env);
    my $pid = $t->spawn($out, "$t->{top}/util/run.sh");
    my $ended;

    $t->until(sub { $t->read("$out.out") =~ /^Ctrl-C/m
        || ($ended = defined $t->await($pid, 0.001)) }, 20);

    my $r = $ended ? undef : $t->chat("run $out", port => $ports[0],
        key => undef, headers => { Authorization =>
            'Bearer sk-llm-demo000000000000000000000000000000000000' });

    delete $t->{children}{$pid} if $ended;

    return ($r && $r->status, sub { $t->read("$out.out") },
        sub { $t->stop_child($pid, 'TERM', 10) });
}


# attempts at a provider that did not connect

sub connects {
    my ($provider) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;
    my ($n) = $page =~
        /^llm_upstream_attempts_total\{[^}]*provider="$provider",[^}]*"connect"[^}]*\} (\d+)$/m;

    return $n // 0;
}


# HTTP version and status, body, exit status

sub curl {
    my ($model, $more) = @_;

    my $port = $t->port('PORT_TLS');
    my $file = $t->path('curl.out');
    my $key = $t->secret('user');
    my $body = qq({"model": "$model"$more, "messages": [{"role": "user",)
        . qq( "content": "@{[rand]}"}]});
    my $status = qx(curl -s --http2 --max-time 20 --cacert @{[$cert->ca]} \\
        --resolve $name:$port:127.0.0.1 -o $file -w '%{http_version} %{http_code}' \\
        -H 'Authorization: Bearer $key' -H 'Content-Type: application/json' \\
        -d '$body' https://$name:$port/v1/chat/completions);

    return ($status, $t->read('curl.out'), $? >> 8);
}
