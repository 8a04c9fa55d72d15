#!/usr/bin/perl

# Who does not use the module does not notice it: the same requests to three
# nginx, one without it, one that has loaded it, and one that has a gateway on
# another listener.  What clients get, what the origin got and the access log
# are the same to the byte, but for dates.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use IO::Socket::INET;

use Test::LLM;


my $gateway = <<'EOT';
    llm_zone llm 1m cache=1m flights=1m;
    llm_tenants %%DIR%%/tenants.json;
    llm_provider other uri=/llm/ key=file:%%DIR%%/key;
    llm_route * other;

    server {
        listen 127.0.0.1:%%PORT_LLM%%;

        location / {
            llm_gateway;
            llm_cache on;
        }

        location /llm/ {
            internal;
            proxy_pass http://127.0.0.1:%%PORT_ORIGIN%%/;
            proxy_buffering off;
            proxy_ignore_client_abort on;
            proxy_next_upstream off;
        }
    }
EOT

my $config = <<'EOT';
%%GLOBALS%%

http {
    %%GLOBALS_HTTP%%
    %%GATEWAY%%

    log_format unused '$request_method $uri $status $body_bytes_sent '
        '$bytes_sent $request_length $upstream_status '
        '$upstream_response_length $request_completion';

    types { text/plain txt; text/html html shtml; }
    proxy_cache_path %%DIR%%/kept levels=1 keys_zone=kept:1m;

    upstream origin { server 127.0.0.1:%%PORT_ORIGIN%%; keepalive 4; }

    server {
        listen 127.0.0.1:%%PORT%%;
        root %%DIR%%/files;
        access_log %%DIR%%/unused.log unused;
        port_in_redirect off;
        lingering_timeout 100ms;
        proxy_http_version 1.1;
        proxy_set_header Connection "";

        location /plain/ { }
        location /ssi/ { ssi on; }
        location /sub/ { sub_filter small BIG; sub_filter_once off;
            alias %%DIR%%/files/plain/; }
        location /added/ { add_before_body /plain/small.txt;
            add_after_body /proxy/after; addition_types *;
            alias %%DIR%%/files/plain/; }
        location /gzip/ { gzip on; gzip_types *; gzip_min_length 1;
            alias %%DIR%%/files/plain/; }
        location /empty { return 204; }
        location /said { return 200 "said\n"; }
        location /moved { return 301 /plain/small.txt; }
        location /rewritten { rewrite ^ /plain/small.txt last; }
        location /tried { try_files /nowhere /proxy/tried; }
        location /secret { internal; }
        location /limited { limit_rate 2m;
            alias %%DIR%%/files/plain/large.txt; }
        location /put/ { dav_methods PUT DELETE; create_full_put_path on;
            client_max_body_size 100k; }

        location /proxy/ { proxy_pass http://origin/; }
        location /unbuffered/ { proxy_buffering off;
            proxy_request_buffering off; proxy_pass http://origin/; }
        location /kept/ { proxy_cache kept; proxy_cache_valid any 1h;
            add_header X-Kept $upstream_cache_status;
            proxy_pass http://origin/; }
        location /sliced/ { slice 1k; proxy_set_header Range $slice_range;
            alias %%DIR%%/files/plain/; }
        location /asked/ { auth_request /proxy/200;
            alias %%DIR%%/files/plain/; }
        location /refused/ { auth_request /proxy/403; }
        location /mirrored/ { mirror /proxy/mirror;
            proxy_pass http://origin/; }
        location /refuses { proxy_pass http://127.0.0.1:%%PORT_NOBODY%%; }
        location /own/ { proxy_intercept_errors on;
            error_page 404 500 /own-page.html; error_page 403 =200 @named;
            proxy_pass http://origin/; }
        location @named { return 200 "named\n"; }
        location = /own-page.html { }
        error_page 404 /own-page.html;
        error_page 502 504 = /ssi/sorry.shtml;
    }
}
EOT

my %t;

for my $kind (qw(plain loaded used)) {
    my $t = $t{$kind} = Test::LLM->new($kind eq 'plain' ? (module => '') : ());

    files($t);
    $t->key('user');
    $t->write('key', "sk-provider\n");
    $t->token(GATEWAY => $kind eq 'used' ? $gateway : '');

    my $port = $t->port('PORT_ORIGIN');
    $t->spawn('origin', $^X, "$FindBin::Bin/unused/origin.pl", $port);
    $t->until(sub { $t->read('origin.out') =~ /listening/ })
        or BAIL_OUT('the origin does not listen');

    $t->nginx($config);
}

is $t{used}->get('/v1/models', port => $t{used}->port('PORT_LLM'))->status,
    401, 'there is a gateway on the third';


# what is asked: name => bytes, in pieces if it is a list

my $large = join '', map { "line $_ of some\n" } 1 .. 4000;
my $chunks = join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
    $large =~ /(.{1,5000})/sg;

my %asked = (
    map({ ("$_ (GET)" => request(GET => $_), "$_ (HEAD)" => request(HEAD => $_),
           "$_ (1.0)" => "GET $_ HTTP/1.0\r\n\r\n") }
        qw(/plain/small.txt /plain/large.txt /plain/empty.txt /plain/none
           /plain /plain/ /ssi/page.shtml /sub/small.txt /added/small.txt
           /gzip/large.txt /empty /said /moved /rewritten /tried /secret
           /limited /proxy/a /proxy/chunked /proxy/until-close /proxy/broken
           /proxy/nothing /proxy/404 /proxy/500 /proxy/elsewhere
           /unbuffered/chunked /unbuffered/broken /unbuffered/until-close
           /kept/a /kept/chunked /sliced/large.txt /asked/small.txt
           /refused/small.txt /mirrored/a /refuses /own/404 /own/403 /own/200
           /%2e%2e/plain/small.txt //plain//small.txt /plain/../said?a=b)),

    map({ ("range $_" => request(GET => '/plain/large.txt', "Range: $_"),
           "kept, range $_" => request(GET => '/kept/ranges', "Range: $_")) }
        'bytes=0-99', 'bytes=-10', 'bytes=100-', 'bytes=0-9,20-29',
        'bytes=999999-', 'bytes=x', 'lines=1-2'),

    'gzip' => request(GET => '/gzip/large.txt', 'Accept-Encoding: gzip'),
    'since' => request(GET => '/plain/small.txt',
        'If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT'),
    'before' => request(GET => '/plain/small.txt',
        'If-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT'),

    map({ ("$_, length" => request(POST => $_,
               'Content-Length: ' . length $large) . $large,
           "$_, chunked" => request(POST => $_,
               'Transfer-Encoding: chunked') . "${chunks}0\r\n\r\n",
           "$_, expected" => request(POST => $_, 'Expect: 100-continue',
               'Content-Length: 5') . 'hello',
           "$_, in pieces" => [request(POST => $_,
               'Transfer-Encoding: chunked'), "5\r\nhel", "lo\r\n",
               "0\r\n\r\n"],
           "$_, bad chunk" => request(POST => $_,
               'Transfer-Encoding: chunked') . "xyz\r\n") }
        qw(/proxy/body /unbuffered/body /mirrored/body /plain/small.txt
           /added/small.txt)),

    'put' => request(PUT => '/put/a/b', 'Content-Length: 5') . 'hello',
    'put, too large' => request(PUT => '/put/c', 'Content-Length: 200000'),
    'pipeline' => "GET /said HTTP/1.1\r\nHost: unused\r\n\r\n"
        . "GET /proxy/a HTTP/1.1\r\nHost: unused\r\n\r\n"
        . "HEAD /ssi/page.shtml HTTP/1.1\r\nHost: unused\r\n\r\n"
        . request(GET => '/added/small.txt'),
    'no host' => "GET / HTTP/1.1\r\n\r\n",
    'no request' => "nonsense\r\n\r\n",
    'long header' => request(GET => '/said', 'X-Long: ' . 'x' x 40000),
    'odd method' => request(ODD => '/plain/small.txt'),
);

my %answer;

for my $name (sort keys %asked) {
    my %got = map { $_ => ask($t{$_}, $asked{$name}) } keys %t;

    BAIL_OUT("$name: no answer") if !length $got{plain};

    is $got{loaded}, $got{plain}, "$name, loaded";
    is $got{used}, $got{plain}, "$name, in use elsewhere";
    $answer{$name} = $got{used};
}


# that something was compared at all

like $answer{'/ssi/page.shtml (GET)'},
    qr/200 OK.*before.*GET \/included .*small.*after/s, 'SSI, subrequests';
like $answer{'range bytes=0-9,20-29'}, qr/206 .*multipart/s,
    'ranges';
like $answer{'/proxy/body, chunked'}, qr/200 OK.*line 4000/s,
    'a chunked body';

$_->quit for values %t;

my %log = map { $_ => log_lines($t{$_}) } keys %t;
ok @{$log{plain}} > 150, 'requests in the log';
is_deeply $log{loaded}, $log{plain}, 'access log, loaded';
is_deeply $log{used}, $log{plain}, 'access log, in use elsewhere';

done_testing;


sub files {
    my ($t) = @_;

    mkdir $t->path($_) for qw(files files/plain files/ssi files/put kept);
    chmod 0777, $t->path($_) for qw(files/put kept);

    $t->write('files/plain/small.txt', "a small file\n");
    $t->write('files/plain/empty.txt', '');
    $t->write('files/plain/large.txt',
        join '', map { "line $_ of a large file\n" } 1 .. 8000);
    $t->write('files/own-page.html', "<p>nothing here</p>\n");
    $t->write('files/ssi/page.shtml', "before\n"
        . "<!--#include virtual=\"/proxy/included\" -->\n"
        . "<!--#include virtual=\"/unbuffered/chunked\" wait=\"yes\" -->\n"
        . "<!--#include virtual=\"/plain/small.txt\" -->\n"
        . "<!--#include virtual=\"/plain/none\" -->\n"
        . "<!--#include virtual=\"/gzip/small.txt\" -->\n"
        . "<!--#echo var=\"uri\" -->\nafter\n");
    $t->write('files/ssi/sorry.shtml',
        "sorry\n<!--#include virtual=\"/proxy/sorry\" -->\n");

    my $then = 1_750_000_000;
    utime $then, $then, map { $t->path("files/$_") }
        qw(plain/small.txt plain/empty.txt plain/large.txt own-page.html
           ssi/page.shtml ssi/sorry.shtml);
}


sub request {
    my ($method, $path, @headers) = @_;

    return join "\r\n", "$method $path HTTP/1.1", 'Host: unused',
        'Connection: close', @headers, '', '';
}


# the answer until the end of the connection, without what is by chance

sub ask {
    my ($t, $bytes) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $t->port) or die "connect: $!\n";
    my $select = IO::Select->new($socket);
    my $got = '';

    local $SIG{PIPE} = 'IGNORE';
    $socket->autoflush(1);

    for my $piece (ref $bytes ? @$bytes : $bytes) {
        select undef, undef, undef, 0.02 if ref $bytes;
        print $socket $piece;
    }

    while ($select->can_read(10)) {
        my $read = sysread $socket, $got, 65536, length $got;
        last if !$read;
    }

    $got =~ s/^Date: .*\r$/Date: then\r/mg;

    # multipart ranges are held together by a counter
    if (my ($boundary) = $got =~ /boundary=(\d+)/) {
        $got =~ s/$boundary/boundary/g;
    }

    return $got;
}


sub log_lines {
    my ($t) = @_;
    return [sort split /\n/, $t->read('unused.log')];
}
