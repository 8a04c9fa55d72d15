#!/usr/bin/perl

# /v1/files: forms as clients send them and as they should not, what becomes
# of a file in Redis, pages, quotas, and that neither a fast client nor a slow
# one makes a worker grow.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use Time::HiRes qw(sleep);

use Test::LLM;
use Test::LLM::Proxy;


use constant { MB => 1 << 20, CHUNK => 524288 };

my $prefix = '{llm}:t:';
my $boundary = 'a1-boundary';

my $t = Test::LLM->new(workers => 1);
my $redis = $t->redis;
my $proxy = Test::LLM::Proxy->new($t, $redis);

$t->key('user', team => 'team');
$t->key('colleague', team => 'team');
$t->key('stranger', team => 'others');
$t->key('small', team => 'small');
$t->key('flood', team => 'flood');
$t->key('pages', team => 'pages');
$t->write('secret', 'c4' x 32);
$t->token(REDIS => $proxy->url);

my $socket = $t->path('internal.sock');
my %gateway = (
    http => "llm_secret file:%%DIR%%/secret id=k1;
        llm_internal unix:$socket;
        llm_tasks on encrypt=on file_max=110m file_quota=220m run=off;",
    server => "listen unix:$socket; listen 127.0.0.1:%%PORT_H2%% http2;",
    location => 'client_max_body_size 300m; client_body_buffer_size 128k;',
);

$t->gateway(%gateway);
$t->until(sub { $t->get('/v1/files', key => 'user')->status == 200 }, 10);


# forms by hand

sub part {
    my ($name, $data, %more) = @_;
    my $filename = defined $more{filename}
        ? qq{; filename="$more{filename}"} : '';
    my $type = $more{type} ? "Content-Type: $more{type}\r\n" : '';

    return "--$boundary\r\nContent-Disposition: form-data; "
        . qq{name="$name"$filename\r\n$type\r\n$data\r\n};
}

sub form { return join('', @_) . "--$boundary--\r\n" }

sub purpose { return part('purpose', 'batch') }

sub file {
    my ($data, $name) = @_;
    return part('file', $data, filename => $name // 'in.jsonl',
        type => 'application/octet-stream');
}

sub type { return 'Content-Type', "multipart/form-data; boundary=$boundary" }

sub upload {
    my ($body, %more) = @_;
    my $headers = delete $more{headers} // [];

    return $t->post('/v1/files', $body, key => 'user', timeout => 60, %more,
        headers => [type(), @$headers]);
}

# the head of an upload, for a body that comes in pieces

sub head {
    my ($key, @lines) = @_;

    return join "\r\n", 'POST /v1/files HTTP/1.1', 'Host: localhost',
        'Authorization: Bearer ' . $t->secret($key), sprintf('%s: %s', type()),
        @lines, '', '';
}

sub id {
    my ($body, %more) = @_;
    my $r = upload(form(file($body), purpose()), %more);
    return $r->status == 200 ? $r->json->{id} : 'none: ' . $r->body;
}

sub content {
    my ($id, %more) = @_;
    return $t->get("/v1/files/$id/content", key => 'user', timeout => 60,
        %more);
}

sub refused {
    my ($r, $status, $code, $param, $what) = @_;
    my $error = ($r->body // '') =~ /^\{/ ? $r->json->{error} : {};

    is join(' ', $r->status // 'none', map { $_ // 'null' } $error->{code},
        $error->{param}), "$status $code $param", $what;
}

sub left {
    my ($id) = @_;
    return scalar @{$redis->command(KEYS => "${prefix}f:$id*")};
}

sub all_files { return scalar @{$redis->command(KEYS => "${prefix}f:*")} }

# bytes in use as the total says, and as the files do

sub in_use {
    my ($team) = @_;
    my %quota = @{$redis->command(HGETALL => "${prefix}quota:$team")};
    my $sum = 0;

    $sum += (split / /, $quota{$_})[0] for grep { /^file-/ } keys %quota;
    return ($quota{total} // 0) . " $sum";
}


# there and back

my $line = '{"custom_id":"%06d","method":"POST","url":"/v1/chat/completions",'
    . qq("body":{"model":"gpt-4o","messages":[{"role":"user","content":"Topsecret %s"}]}}\n);
my $small = join '', map { sprintf $line, $_, 'x' x ($_ % 50) } 1 .. 20;

my $r = upload(form(file($small, "caf\xc3\xa9.jsonl"), purpose()));
is $r->status, 200, 'a file in front of its purpose' or diag $r->body;
my $object = $r->json;
like $object->{id}, qr/^file-\w{24}$/, 'its id';
is_deeply [@$object{qw(object bytes filename purpose status)}],
    ['file', length $small, "caf\x{e9}.jsonl", 'batch', 'processed'],
    'the object';
ok abs($object->{created_at} - time) < 5, 'created now';
is $object->{expires_at} - $object->{created_at}, 30 * 86400,
    'for thirty days';

my $id = $object->{id};
is_deeply $t->get("/v1/files/$id", key => 'user')->json, $object,
    'the same when it is asked for';
$r = content($id);
is_deeply [$r->status, $r->header('content-type'),
    $r->header('content-length'), $r->body],
    [200, 'application/octet-stream', length $small, $small],
    'the content';
is content($id, key => 'colleague')->body, $small, 'for all of the team';

my $raw = $redis->command(GET => "${prefix}f:$id:0");
ok length $raw > 100 && $raw !~ /Topsecret|custom_id/, 'sealed in Redis';
unlike join('', map { $redis->command(DUMP => $_) }
    @{$redis->command(KEYS => '*')}), qr/Topsecret/, 'nowhere plain';

refused $t->get("/v1/files/$id", key => 'stranger'), 404, 'null', 'id',
    "another team's";
is $t->get("/v1/files/$id", key => 'stranger')->json->{error}{message},
    "No such File object: $id", 'its message';
refused content($id, key => 'stranger'), 404, 'null', 'id',
    'nor its content';
refused $t->post("/v1/files/$id", undef, key => 'stranger',
    method => 'DELETE'), 404, 'null', 'id', 'nor can it be deleted';
refused $t->get('/v1/files/file-none', key => 'user'), 404, 'null', 'id',
    'what is no id';
refused $t->get('/v1/files/file-' . 'x' x 24 . '/content', key => 'user'),
    404, 'null', 'id', 'what never was';

for my $case (
    [ 'bytes=0-9', 206, substr($small, 0, 10) ],
    [ 'bytes=100-', 206, substr($small, 100) ],
    [ 'bytes=-7', 206, substr($small, -7) ],
    [ 'bytes=0-1,5-6', 200, $small ],
) {
    my ($range, $status, $body) = @$case;
    $r = content($id, headers => [Range => $range]);
    ok $r->status == $status && $r->body eq $body, $range;
}
$r = content($id, headers => [Range => 'bytes=100000-']);
refused $r, 416, 'invalid_range', 'null', 'a range behind the end';
is $r->header('content-range'), 'bytes */' . length $small,
    'and how long it is';

$r = $t->post("/v1/files/$id", undef, key => 'user', method => 'DELETE');
is_deeply $r->json, { id => $id, object => 'file',
    deleted => JSON::PP::true }, 'deleted';
refused content($id), 404, 'null', 'id', 'gone';
refused $t->post("/v1/files/$id", undef, key => 'user', method => 'DELETE'),
    404, 'null', 'id', 'once';
is left($id), 0, 'nothing is left of it';
is in_use('team'), '0 0', 'nothing in use';


# shapes of a form

$r = upload(form(purpose(), part('other', 'ignored' x 1000), file($small),
    part('what.jsonl', 'x', filename => 'x')));
is $r->status, 200, 'the purpose first, unknown parts, one of them a file';
is content($r->json->{id})->body, $small, 'its content';

$r = upload("preamble\r\n" . form(file($small), purpose()) . 'epilogue');
is $r->status, 200, 'with preamble and epilogue';

my $expiring = upload(form(purpose(), file($small),
    part('expires_after[anchor]', 'created_at'),
    part('expires_after[seconds]', '3600')))->json;
is $expiring->{expires_at} - $expiring->{created_at}, 3600, 'for an hour';
my $ttl = $redis->command(TTL => "${prefix}f:$expiring->{id}");
ok $ttl > 3500 && $ttl <= 3600, 'so Redis knows';

for my $case (
    [ 'no file', form(purpose()), 'missing_required_parameter', 'file' ],
    [ 'no purpose', form(file($small)), 'missing_required_parameter',
        'purpose' ],
    [ 'another purpose', form(part('purpose', 'fine-tune'), file($small)),
        'invalid_value', 'purpose' ],
    [ 'another purpose behind the file', form(file($small),
        part('purpose', 'vision')), 'invalid_value', 'purpose' ],
    [ 'a purpose without end', form(part('purpose', 'x' x 100)),
        'invalid_value', 'purpose' ],
    [ 'two purposes', form(purpose(), purpose(), file($small)),
        'invalid_value', 'purpose' ],
    [ 'two files', form(file($small), file($small), purpose()),
        'invalid_value', 'file' ],
    [ 'an empty file', form(file(''), purpose()), 'empty_file', 'file' ],
    [ 'an anchor alone', form(file($small), purpose(),
        part('expires_after[anchor]', 'created_at')),
        'missing_required_parameter', 'expires_after[seconds]' ],
    [ 'seconds alone', form(file($small), purpose(),
        part('expires_after[seconds]', 3600)),
        'missing_required_parameter', 'expires_after[anchor]' ],
    [ 'another anchor', form(file($small), purpose(),
        part('expires_after[anchor]', 'now'),
        part('expires_after[seconds]', 3600)),
        'invalid_value', 'expires_after[anchor]' ],
    (map { [ "$_ seconds", form(file($small), purpose(),
        part('expires_after[anchor]', 'created_at'),
        part('expires_after[seconds]', $_)),
        'invalid_value', 'expires_after[seconds]' ] }
        3599, 2592001, '1e4', '-1', ''),
    [ 'cut off', substr(form(file($small), purpose()), 0, -8),
        'invalid_form', 'null' ],
    [ 'no form', 'x' x 100, 'invalid_form', 'null' ],
    [ 'a part without name', "--$boundary\r\nContent-Disposition: form-data"
        . "\r\n\r\nx\r\n--$boundary--\r\n", 'invalid_form', 'null' ],
) {
    my ($what, $body, $code, $param) = @$case;
    refused upload($body), 400, $code, $param, $what;
}

refused $t->post('/v1/files', '{}', key => 'user'), 400, 'invalid_form',
    'null', 'JSON';
refused $t->post('/v1/files', 'x', key => 'user',
    headers => ['Content-Type', 'multipart/form-data']), 400,
    'invalid_form', 'null', 'without boundary';
refused upload(form(file($small), purpose()),
    headers => ['Content-Encoding', 'gzip']), 415, 'null', 'null',
    'compressed';
$r = $t->post('/v1/files', undef, key => 'user', headers => [type()]);
refused $r, 400, 'missing_required_parameter', 'file', 'no body';
is $t->post('/v1/files', undef, method => 'PUT', key => 'user')->status, 405,
    'another method';
is $t->post('/v1/files', form(file($small), purpose()),
    headers => [type()])->status, 401, 'without a key';

# what was refused leaves nothing, also when its file was complete

$t->until(sub { all_files() == 6 }) ;
is all_files(), 6, 'three files of one chunk each, nothing else';


# however it is cut

my $body = form(file($small), purpose());
my $length = 'Content-Length: ' . length $body;

for my $cut (1, 7, 64) {
    my @pieces = $cut == 1
        ? (split(//, substr $body, 0, 300), substr $body, 300)
        : unpack "(a$cut)*", $body;

    my $r = Test::LLM::HTTP->start(port => $t->port,
        raw => head('user', $length), timeout => 30);

    for my $piece (@pieces) {
        $r->{out} .= $piece;
        $r->wait(sub { $r->{out} eq '' }, 5);
    }

    $r->wait;
    is $r->status, 200, "in pieces of $cut";
    is content($r->json->{id})->body, $small, 'the same content'
        if $r->status == 200;
}

my $chunked = join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
    unpack '(a97)*', $body;
$r = Test::LLM::HTTP->start(port => $t->port,
    raw => head('user', 'Transfer-Encoding: chunked') . "${chunked}0\r\n\r\n");
$r->wait;
is $r->status, 200, 'chunked';
is content($r->json->{id})->body, $small, 'the same content';

$r = Test::LLM::HTTP->start(port => $t->port,
    raw => head('user', 'Transfer-Encoding: chunked') . "zz\r\n");
$r->wait;
is $r->status, 400, 'a chunk without size';
is $r->header('connection'), 'close', 'ends the connection';

$r = Test::LLM::HTTP->start(port => $t->port,
    raw => head('user', $length, 'Expect: 100-continue'));
$r->wait(sub { $r->{in} . $r->{head} =~ /100 Continue/ }, 5);
$r->{out} .= $body;
$r->wait;
is $r->status, 200, 'after 100 Continue';

$r = $t->post('/v1/files', $body, key => 'user', headers => [type()]);
my $again = $r->again(path => '/v1/files?limit=1', method => 'GET',
    headers => ['Authorization', 'Bearer ' . $t->secret('user')]);
$again->wait;
is $again->status, 200, 'the connection lives on';

$r = Test::LLM::HTTP->start(port => $t->port,
    raw => head('user', $length) . $body . "GET /v1/files HTTP/1.1\r\n"
    . "Host: x\r\nAuthorization: Bearer " . $t->secret('user') . "\r\n\r\n");
$r->wait;
is $r->status, 200, 'with a request behind it';


# HTTP/2

sub frame {
    my ($type, $flags, $stream, $payload) = @_;

    return pack('NCN', length($payload) << 8 | $type, $flags, $stream)
        . $payload;
}

sub h2 {
    my ($body) = @_;

    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $t->port('PORT_H2')) or die "connect: $!\n";
    my $in = '';
    my $window = 65535;

    # what may be read now; data gives room for more

    my $read = sub {
        my ($wait) = @_;

        my $bits = '';
        vec($bits, fileno $s, 1) = 1;
        return if !select($bits, undef, undef, $wait);
        die "closed\n" if !sysread $s, $in, 65536, length $in;
    };

    my %got = (data => '');

    my $frames = sub {
        while (length $in >= 9) {
            my ($head, $flags, $stream) = unpack 'NCN', $in;
            my $length = $head >> 8;
            last if length $in < 9 + $length;

            my $payload = substr $in, 9, $length;
            substr($in, 0, 9 + $length) = '';
            $stream &= 0x7fffffff;

            if (($head & 0xff) == 8) {
                $got{$stream ? 'stream' : 'all'} += unpack 'N', $payload;

            } elsif (($head & 0xff) == 0) {
                $got{data} .= $payload;

            } elsif (($head & 0xff) == 3) {
                $got{reset} = 1;

            } elsif (($head & 0xff) == 4 && !($flags & 1)) {
                my %set = unpack '(nN)*', $payload;
                $got{stream} += $set{4} - 65535 if $set{4};
                syswrite $s, frame(4, 1, 0, '');
            }

            $got{end} = 1 if ($head & 0xff) < 2 && $flags & 1;
        }
    };

    syswrite $s, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        . frame(4, 0, 0, pack 'nN', 4, 1 << 30)
        . frame(1, 4, 1, join '', map { pack 'C C/a C/a', 0, @$_ }
            [':method', 'POST'], [':path', '/v1/files'], [':scheme', 'http'],
            [':authority', 'localhost'],
            ['content-type', (type())[1]],
            ['authorization', 'Bearer ' . $t->secret('user')]);

    @got{qw(stream all)} = (65535, 65535);
    my $at = 0;
    my $until = time + 60;

    while ($at < length $body && time < $until && !$got{end}) {
        my $n = 16384;

        for ($got{stream}, $got{all}, length($body) - $at) {
            $n = $_ if $_ < $n;
        }

        if ($n > 0) {
            syswrite $s, frame(0, $at + $n == length $body ? 1 : 0, 1,
                substr $body, $at, $n);
            $at += $n;
            $got{$_} -= $n for qw(stream all);
            $read->(0);

        } else {
            $read->(5);
        }

        $frames->();
    }

    while (!$got{end} && !$got{reset} && time < $until) {
        $read->(5);
        $frames->();
    }

    return \%got;
}

my $two = join '', map { sprintf $line, $_, 'y' x ($_ % 900) } 1 .. 3500;
my $got = h2(form(purpose(), file($two)));
$object = eval { JSON::PP->new->decode($got->{data}) } // {};
is $object->{bytes}, length $two, 'HTTP/2' or diag explain $got;
ok content($object->{id})->body eq $two, 'the same content';


# large ones

my $large = '';
srand 104;
$large .= sprintf $line, $_, join ' ', map { int rand 1e9 } 1 .. 30
    for 1 .. 50_000;
$large = substr $large x (1 + 20 * MB / length $large), 0, 20 * MB + 123;

$r = upload(form(file($large), purpose()));
is $r->status, 200, '20 MB';
$id = $r->json->{id};
is $r->json->{bytes}, length $large, 'its size';
is left($id), 1 + 41, 'in 41 chunks';
ok content($id)->body eq $large, 'the same content';
$r = content($id, headers => [Range => 'bytes=1000000-1500000']);
ok $r->status == 206 && $r->body eq substr($large, 1_000_000, 500_001),
    'a range over two chunks';

my ($before) = map { $redis->command(PTTL => $_) } "${prefix}f:$id";
ok((grep { $redis->command(PTTL => "${prefix}f:$id:$_") > $before } 0 .. 40)
    == 41, 'no chunk lapses before the file');


# too large: by its length, or when it has come to that

my $over = 110 * MB + 1;
$r = Test::LLM::HTTP->start(port => $t->port, timeout => 30,
    raw => head('user', 'Content-Length: ' . ($over + 2 * MB),
    'Expect: 100-continue'));
$r->wait;
refused $r, 413, 'request_too_large', 'file', 'too large by its length';
unlike $r->head, qr/100 Continue/, 'nobody has to send it';

{
    my $files = all_files();
    my $r = Test::LLM::HTTP->start(port => $t->port, timeout => 90,
        raw => head('user', 'Transfer-Encoding: chunked'));
    my $sent = 0;

    $r->{out} .= sprintf "%x\r\n%s\r\n", length, $_
        for substr form(file('')), 0, -2 - length "\r\n--$boundary--";

    while (!defined $r->status && $sent < 150) {
        $r->{out} .= sprintf "%x\r\n%s\r\n", MB, 'z' x MB;
        $r->wait(sub { $r->{out} eq '' || defined $r->status }, 30);
        $sent++;
    }

    $r->wait;
    refused $r, 413, 'request_too_large', 'file', 'too large as it comes';
    ok $sent >= 110 && $sent < 140, 'when it has come to that';
    $t->until(sub { all_files() == $files });
    is all_files(), $files, 'nothing is left of it';
}


# quota

sub put {
    my ($key, $bytes) = @_;
    return upload(form(file('q' x $bytes), purpose()), key => $key);
}

my @fill = map { put('flood', 73 * MB)->json->{id} } 1 .. 3;
is in_use('flood'), join(' ', (219 * MB) x 2), 'three files';
$r = put('flood', 2 * MB);
refused $r, 429, 'file_quota_exceeded', 'null', 'no room for a fourth';
is $r->header('x-should-retry'), 'false', 'which will not be better soon';
$t->until(sub { in_use('flood') eq join ' ', (219 * MB) x 2 });
is in_use('flood'), join(' ', (219 * MB) x 2),
    'what was refused counts no more';
is put('flood', 1 * MB)->status, 200, 'to the last byte';
is put('flood', 1)->status, 429, 'and none more';
$t->post("/v1/files/$fill[0]", undef, key => 'flood', method => 'DELETE');
is in_use('flood'), join(' ', (147 * MB) x 2), 'one is deleted';
$t->until(sub { left($fill[0]) == 0 });
is left($fill[0]), 0, 'with all its chunks';
is $redis->command(EXISTS => "${prefix}gone"), 0, 'and nobody is left to go';

# one lapses: as Redis does it, and what it was is told by its time

$redis->command(DEL => "${prefix}f:$fill[1]",
    map { "${prefix}f:$fill[1]:$_" } 0 .. 145);
$redis->command(ZADD => "${prefix}exp:flood", 1, $fill[1]);
my $last = put('flood', 100)->json->{id};
is in_use('flood'), join(' ', (74 * MB + 100) x 2),
    'one that lapsed counts no more';
my %exp = @{$redis->command(ZRANGE => "${prefix}exp:flood", 0, -1,
    'WITHSCORES')};
is_deeply [sort keys %exp], [sort grep { $_ ne $fill[1] }
    @{$redis->command(ZRANGE => "${prefix}files:flood", 0, -1)}],
    'the rest is known by both';

# an upload that nobody ended, and whose chunks were to be kept

{
    my $r = Test::LLM::HTTP->start(port => $t->port, timeout => 30,
        raw => head('flood', 'Content-Length: 9000000')
        . substr form(file('w' x (2 * MB))), 0, 2 * MB);
    $t->until(sub { in_use('flood') ne join ' ', (74 * MB + 100) x 2 });
    my ($open) = grep { !$exp{$_} } @{$redis->command(
        ZRANGE => "${prefix}exp:flood", 0, -1)};
    $t->until(sub { left($open) == 1 + 3 });
    is in_use('flood'), join(' ', (74 * MB + 100 + 3 * CHUNK) x 2),
        'what comes in counts';
    my $ttl = $redis->command(TTL => "${prefix}f:$open:0");
    ok $ttl > 3500 && $ttl <= 3600, 'for an hour';
    refused $t->get("/v1/files/$open", key => 'flood'), 404, 'null', 'id',
        'nobody sees it';

    $redis->command(DEL => "${prefix}f:$open");
    $redis->command(ZADD => "${prefix}exp:flood", 1, $open);
    put('flood', 100);
    is in_use('flood'), join(' ', (74 * MB + 200) x 2), 'until it lapses';
    is $redis->command(ZSCORE => "${prefix}gone", $open), 3,
        'its chunks are to be removed';
    $r->abort;
    $t->post("/v1/files/$last", undef, key => 'flood', method => 'DELETE');
    $t->until(sub { left($open) == 0 });
    is left($open), 0, 'and are, with others';
}


# pages

my @ids = map { upload(form(file("$_\n"), purpose()), key => 'pages')
    ->json->{id} } 1 .. 7;

# some of another purpose, and one that is known no more

$redis->command(HSET => "${prefix}f:$ids[$_]", 'purpose', 'batch_output')
    for 1, 3;
$redis->command(DEL => "${prefix}f:$ids[4]");
my @there = @ids[6, 5, 3, 2, 1, 0];

sub page {
    my ($args, $key) = @_;
    my $r = $t->get("/v1/files$args", key => $key // 'pages');
    my $page = $r->json;

    is $page->{object}, 'list', "a list for '$args'";
    is_deeply [@$page{qw(first_id last_id)}],
        [map { @{$page->{data}} ? $page->{data}[$_]{id} : undef } 0, -1],
        'its first and its last';
    return ([map { $_->{id} } @{$page->{data}}],
        $page->{has_more} ? 1 : 0);
}

for my $case (
    [ '', \@there, 0 ],
    [ '?limit=2', [@there[0, 1]], 1 ],
    [ "?limit=2&after=$there[1]", [@there[2, 3]], 1 ],
    [ "?limit=2&after=$there[3]", [@there[4, 5]], 0 ],
    [ "?limit=6", \@there, 0 ],
    [ "?after=$there[5]", [], 0 ],
    [ '?order=asc', [reverse @there], 0 ],
    [ "?order=asc&limit=3&after=$there[5]", [@there[4, 3, 2]], 1 ],
    [ '?purpose=batch_output', [@ids[3, 1]], 0 ],
    [ '?purpose=batch_output&limit=1', [$ids[3]], 1 ],
    [ '?purpose=batch&limit=4', [@ids[6, 5, 2, 0]], 0 ],
    [ '?purpose=vision', [], 0 ],
    [ "?after=$ids[4]&limit=1", [$ids[3]], 1 ],
) {
    my ($args, $want, $more) = @$case;
    is_deeply [page($args)], [$want, $more], "the page '$args'";
}

is_deeply [page('', 'stranger')], [[], 0], 'of a team without files';
refused $t->get("/v1/files?after=$ids[0]", key => 'stranger'), 404, 'null',
    'after', "after another team's";
refused $t->get('/v1/files?after=x', key => 'pages'), 404, 'null', 'after',
    'after no id';
refused $t->get("/v1/files?$_", key => 'pages'), 400, 'invalid_value',
    (split /=/)[0], $_
    for 'limit=0', 'limit=10001', 'limit=x', 'order=up', 'order=';

# more than one call gives

{
    my @bare = map { sprintf 'file-%024d', $_ } 1 .. 450;
    for my $i (0 .. $#bare) {
        $redis->command(HSET => "${prefix}f:$bare[$i]", team => 'small',
            state => 'done', name => "n$i", purpose => 'batch', bytes => $i,
            chunks => 1, created => 1000 + $i, expires => 9000);
        $redis->command(ZADD => "${prefix}files:small", $i + 1, $bare[$i]);
    }

    is_deeply [page('', 'small')], [[reverse @bare], 0], '450 files';
    is_deeply [page('?limit=449', 'small')],
        [[reverse @bare[1 .. 449]], 1], '449 of them';
    $redis->command(DEL => "${prefix}files:small",
        map { "${prefix}f:$_" } @bare);
}


# who leaves

{
    my $files = all_files();
    my $r = Test::LLM::HTTP->start(port => $t->port, timeout => 30,
        raw => head('user', 'Content-Length: 90000000')
        . substr form(file('w' x (3 * MB))), 0, 3 * MB);
    $t->until(sub { all_files() == $files + 1 + 5 });
    is all_files(), $files + 1 + 5, 'chunks of an upload';
    $r->close;
    $t->until(sub { all_files() == $files });
    is all_files(), $files, 'are removed when its client leaves';
}

# a file that is deleted while it is read

{
    my $id = id('d' x (30 * MB));
    my $r = $t->start_get("/v1/files/$id/content", key => 'user',
        timeout => 30, rcvbuf => 65536);
    $r->wait(sub { length $r->body > 100_000 }, 10);
    $r->pause;
    $t->post("/v1/files/$id", undef, key => 'user', method => 'DELETE');
    $r->resume;
    $r->wait;
    ok !$r->complete && length $r->body < 30 * MB,
        'an answer that breaks off is not whole';
    like $t->log, qr/chunk \d+ of the file "$id" is not there/,
        'and the log says so';
}


# memory: a client that sends as fast as it can, and one that reads slowly

sub memory {
    my ($worker) = $t->workers;
    open my $file, '<', "/proc/$worker/status" or return 0;
    my ($kb) = join('', <$file>) =~ /VmRSS:\s+(\d+)/;
    return $kb / 1024;
}

{
    my $base = memory();
    my $most = $base;
    my $files = all_files();
    my $r = Test::LLM::HTTP->start(port => $t->port, timeout => 120,
        raw => head('user', 'Transfer-Encoding: chunked'));
    my $begin = substr form(file('')), 0, -2 - length "\r\n--$boundary--";

    # a Redis that takes its time

    $proxy->fault('latency 5');
    $r->{out} .= sprintf "%x\r\n%s\r\n", length $begin, $begin;

    for my $n (1 .. 100) {
        $r->{out} .= sprintf "%x\r\n%s\r\n", MB,
            substr $large, ($n % 19) * MB, MB;
        $r->wait(sub { length $r->{out} < MB / 2 || defined $r->status }, 30);
        my $now = memory();
        $most = $now if $now > $most;
    }

    my $end = "\r\n" . form(purpose());
    $r->{out} .= sprintf "%x\r\n%s\r\n0\r\n\r\n", length $end, $end;
    $r->wait;
    $proxy->fault('pass');
    is $r->status, 200, '100 MB against a slow Redis' or diag $r->body;
    my $id = $r->json->{id};
    is $r->json->{bytes}, 100 * MB, 'all of it';

    SKIP: {
        skip 'memory under a sanitizer', 1 if $t->sanitized;
        cmp_ok $most - $base, '<', 8, 'the worker stays as it was';
    }

    $base = $most = memory();
    my ($seen, $same) = (0, 1);
    $r = $t->start_get("/v1/files/$id/content", key => 'user',
        timeout => 120, rcvbuf => 65536);

    # slow: it looks at what came only now and then

    while (!$r->{end} && !$r->error) {
        $r->wait(sub { length $r->body >= 2 * MB }, 1);
        my $piece = $r->{body};
        $r->{body} = '';
        my $at = $seen;

        while (length $piece) {
            my $in = $at % MB;
            my $n = length $piece < MB - $in ? length $piece : MB - $in;
            my $from = (int($at / MB) + 1) % 19 * MB + $in;
            $same = 0 if substr($piece, 0, $n) ne substr $large, $from, $n;
            substr($piece, 0, $n) = '';
            $at += $n;
        }

        $seen = $at;
        my $now = memory();
        $most = $now if $now > $most;
    }

    ok $r->complete && $seen == 100 * MB && $same,
        'read slowly, the same content';

    SKIP: {
        skip 'memory under a sanitizer', 1 if $t->sanitized;
        cmp_ok $most - $base, '<', 8, 'the worker stays as it was';
    }

    $t->post("/v1/files/$id", undef, key => 'user', method => 'DELETE');
    $t->until(sub { all_files() == $files });
}


# another gateway of the same Redis, with and without the secret

{
    my $other = Test::LLM->new(workers => 1);
    $other->key('user', team => 'team');
    $other->write('secret', 'c4' x 32);
    $other->token(REDIS => $redis->url);
    my $socket = $other->path('internal.sock');
    $other->gateway(%gateway, http => $gateway{http} =~ s/unix:\S+?;/unix:$socket;/r,
        server => "listen unix:$socket;");
    my $id = id($small);
    is $other->get("/v1/files/$id/content", key => 'user')->body, $small,
        'another gateway has it, too';
    my $r = $other->post('/v1/files', form(purpose(), file($large)),
        key => 'user', headers => [type()], timeout => 60);
    ok content($r->json->{id})->body eq $large, 'and the other way round';
    $other->post('/v1/files/' . $r->json->{id}, undef, key => 'user',
        method => 'DELETE');

    # moved: sealed for another place

    my $second = id($small);
    $redis->command(COPY => "${prefix}f:$id:0", "${prefix}f:$second:0",
        'REPLACE');
    is content($second)->status, 500, 'a chunk of another file is not taken';
}


# Redis fails

{
    my $r = Test::LLM::HTTP->start(port => $t->port, timeout => 30,
        raw => head('user', 'Content-Length: 9000000')
        . substr form(file('w' x (2 * MB))), 0, 2 * MB);
    $t->until(sub { in_use('team') =~ /^(\d+)/; all_files() > 3 });
    $redis->stop('KILL');
    $r->{out} .= 'w' x (4 * MB);
    $r->wait;
    refused $r, 503, 'tasks_unavailable', 'null', 'Redis is gone meanwhile';
    refused upload(form(file($small), purpose())), 503, 'tasks_unavailable',
        'null', 'and still is';
    refused content('file-' . 'x' x 24), 503, 'tasks_unavailable', 'null',
        'for readers, too';
    $redis->start;
    $t->until(sub { upload(form(file($small), purpose()))->status == 200 },
        20);
    is upload(form(file($small), purpose()))->status, 200, 'it is back';
}

done_testing;
