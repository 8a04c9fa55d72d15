#!/usr/bin/perl

# The harness itself, with plain nginx: if it lied, every other test would.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new(module => '', workers => 2);
my $mock = $t->mock;
my $redis = $t->redis;

my $config = <<'EOT';
%%GLOBALS%%

http {
    %%GLOBALS_HTTP%%

    server {
        listen 127.0.0.1:%%PORT%%;
        %%EXTRA%%

        location = /version { return 200 "1\n"; }
        location = /empty { return 204; }
        location = /pid { return 200 $pid; }

        location /v1/ {
            proxy_pass http://%%MOCK%%;
            proxy_http_version 1.1;
            proxy_buffering off;
        }
    }
}
EOT

$t->token(EXTRA => '');
$t->nginx($config);


# requests

my $r = $t->get('/version');
is $r->status, 200, 'status';
is $r->body, "1\n", 'body';
is $r->header('Content-Length'), 2, 'header';
ok $r->complete, 'complete';

$r = $r->again(path => '/empty');
$r->wait;
is $r->status, 204, 'a second request on the same connection';

$r = $t->get('/version', headers => { Connection => 'close' });
ok $r->server_closed || !$r->{socket}, 'Connection: close';

my ($ok, $said) = $t->test_config("%%GLOBALS%%\nnonsense;\n");
ok !$ok, 'a wrong configuration is refused';
like $said, qr/unknown directive "nonsense"/, 'and why';


# the mock behind it, a stream with its times

my %chat = (model => 'gpt-4o', messages => [{ role => 'user',
    content => 'Hello' }]);

$r = $t->post('/v1/chat/completions', \%chat, key => 'user');
is $r->status, 200, 'mock';
is $r->json->{usage}{total_tokens}, 30, 'JSON';

$mock->script({ chunks => 4, pace_ms => 100 });
$r = $t->start_post('/v1/chat/completions', { %chat, stream => \1 });
ok $r->wait_events(2), 'the first events';
is $r->end, undef, 'are there before the end';
$r->wait;
ok $r->complete, 'stream, chunked';
is +($r->data)[-1], '[DONE]', 'last event';
is $r->text, $t->post('/v1/chat/completions', { %chat, stream => \1 })->text,
    'text of a stream';
cmp_ok $r->events->[-1]{time} - $r->events->[0]{time}, '>', 0.35,
    'each event has its time';

my @journal = $mock->journal;
is @journal, 2, 'journal';
is $mock->stats->{done}, 2, 'stats';
ok $mock->wait(requests => 2), 'a condition that holds';
is $mock->wait(requests => 9, timeout_ms => 50), undef, 'one that does not';

$mock->script({ cut => 'rst', cut_events => 2 });
$r = $t->post('/v1/chat/completions', { %chat, stream => \1 });
ok !$r->complete, 'an answer that breaks off is not complete';
ok $r->error, 'but an error';

$mock->script({ hang => \1 });
$r = $t->start_post('/v1/chat/completions', \%chat);
ok $mock->wait(in_flight => 1), 'hanging';
$r->abort;
ok $mock->wait(client_closed => 1), 'the client leaves, and so does nginx';

$r = $t->post('/v1/chat/completions', \%chat, timeout => 0.2);
is $r->error, 'timeout', 'a request has its time limit';

$mock->script({ delay_ms => 300 });
my $start = Time::HiRes::time();
my @all = map { $t->start_post('/v1/chat/completions', \%chat) } 1 .. 5;
$_->wait for @all;
is +(grep { $_->status == 200 } @all), 5, 'five at once';
cmp_ok Time::HiRes::time() - $start, '<', 1.2, 'in the time of one';


# a provider that is ill for a while, one with a limit

$mock->script({ fail_for_ms => 400, status => 503 });
is $t->post('/v1/chat/completions', \%chat)->status, 503, 'ill';
ok $t->until(sub { $t->post('/v1/chat/completions', \%chat)->status == 200 }),
    'and well again';
cmp_ok +($mock->arrivals)[-1], '>=', 400, 'when its time is over';

$mock->script({ limit => { requests_per_minute => 60, burst => 2 } });
@all = map { $t->start_post('/v1/chat/completions', \%chat) } 1 .. 5;
$_->wait for @all;
is +(grep { $_->status == 200 } @all), 2, 'two are within the limit';
is $mock->stats->{limited}, 3, 'three are not';
my ($limited) = grep { $_->status == 429 } @all;
is $limited->header('x-ratelimit-remaining-requests'), 0, 'its headers';
like $limited->header('retry-after-ms'), qr/^\d+$/, 'a pause';


# connections: refused, dropped, never made

$mock->script({ times => 1, hang => \1 });
$r = $t->start_post('/v1/chat/completions', \%chat);
$mock->wait(requests => 1);
$mock->refuse;
$r->wait;
is $r->status, 502, 'dropped with a request under way';
is $t->post('/v1/chat/completions', \%chat)->status, 502, 'refused';
is $mock->stats->{cut}, 1, 'the mock still tells';
$mock->serve;
is $t->post('/v1/chat/completions', \%chat)->status, 200, 'back';
$mock->listen(accept => 0);
$r = $t->post('/v1/chat/completions', \%chat, timeout => 0.3);
is $r->error, 'timeout', 'never connected';
is $mock->stats->{accepted}, 2, 'indeed never';
$mock->serve;


# TLS: certificates good and bad

my $cert = Test::LLM::Cert->new($t, 'provider.test');
my %tls = map { $_ => $t->mock($cert->$_) }
    qw(good chained other expired unknown);
my $locations = join '', map {
    "location /$_/ {
        proxy_pass https://127.0.0.1:" . $tls{$_}->port . "/;
        proxy_ssl_verify on;
        proxy_ssl_verify_depth 2;
        proxy_ssl_trusted_certificate %%CA%%;
        proxy_ssl_server_name on;
        proxy_ssl_name provider.test;
    }\n" } keys %tls;

$t->token(EXTRA => $locations);
$t->reload($config);

for my $which (qw(good chained)) {
    $r = $t->post("/$which/v1/chat/completions", { %chat, stream => \1 });
    is +($r->data)[-1], '[DONE]', "TLS, $which";
    is +($tls{$which}->journal)[0]{sni}, 'provider.test', "$which: SNI";
}

for my $which (qw(other expired unknown)) {
    $r = $t->post("/$which/v1/chat/completions", \%chat);
    is $r->status, 502, "TLS, $which is refused";
    is $tls{$which}->stats->{requests}, 0, "$which: nothing was asked";
}

like $t->log, qr/upstream SSL certificate does not match/, 'other: why';
like $t->log, qr/verify error: \(10:certificate has expired/, 'expired: why';
like $t->log, qr/verify error: \(18:self.signed certificate/, 'unknown: why';


# Redis

is $redis->command(SET => 'a', "1\r\n2"), 'OK', 'Redis';
is $redis->command(GET => 'a'), "1\r\n2", 'any bytes';
is_deeply $redis->command(MGET => 'a', 'b'), ["1\r\n2", undef], 'an array';
ok !eval { $redis->command('NONSENSE') }, 'an error reply dies';
$redis->stop('KILL');
ok !eval { $redis->command('PING') }, 'Redis is gone';
$redis->start;
is $redis->command(GET => 'a'), undef, 'and back, without its data';


# workers

my @workers = $t->workers;
is @workers, 2, 'two workers';

$t->reload($config =~ s/"1\\n"/"2\\n"/r);
is $t->get('/version')->body, "2\n", 'reload';
is +(grep { my $old = $_; grep { $old == $_ } @workers } $t->workers), 0,
    'with new workers';

my $killed = $t->kill_worker;
isnt +($t->workers)[0], $killed, 'a killed worker is replaced';
is $t->get('/version')->body, "2\n", 'and serves';


# What must fail does.  Each is a test of its own that has to end badly.

my %bad = (
    'an alert in the log' => [q{
        open my $log, '>>', $t->path('error.log');
        print $log "2026/01/01 00:00:00 [alert] 1#1: open socket #3 left\n";
        close $log;
    }, qr/not ok \d+ - no alerts/],

    'a worker that died' => [q{
        my ($pid) = $t->workers;
        kill 'KILL', $pid;
        $t->until(sub { my ($new) = $t->workers; $new && $new != $pid });
        $t->allow(qr/exited on signal/);
    }, qr/not ok \d+ - the workers are those of the start/],

    'a report of a sanitizer' => [q{
        open my $log, '>>', $t->path('error.log');
        print $log "==1==ERROR: AddressSanitizer: heap-use-after-free\n";
        close $log;
    }, qr/not ok \d+ - no sanitizer reports/],

    'a finding of the undefined behaviour sanitizer' => [q{
        open my $log, '>>', $t->path('sanitizer/report.1');
        print $log "/x/ngx_module/core/llm_a.c:1:2: runtime error: shift\n";
        close $log;
    }, qr/not ok \d+ - no sanitizer reports/],

    'an nginx that does not end' => [q{
        $t->stop_child($t->{master}, 'KILL');
    }, qr/not ok \d+ - nginx ends when told so/],

    'a test that dies' => [q{ die "halfway\n"; }, qr/halfway/],
);

for my $name (sort keys %bad) {
    my ($code, $pattern) = @{$bad{$name}};

    my $file = $t->write('bad.t', <<EOT);
use Test::LLM;
my \$t = Test::LLM->new(module => '');
\$t->nginx("%%GLOBALS%%\\nhttp { %%GLOBALS_HTTP%%
    server { listen 127.0.0.1:%%PORT%%; } }\\n");
print "folder ", \$t->dir, "\\nmaster ", \$t->master, "\\n";
ok 1;
$code
done_testing;
EOT

    my $out = qx($^X -I$FindBin::Bin/lib $file 2>&1);
    isnt $?, 0, "$name fails the test";
    like $out, $pattern, "$name is told";

    my ($master) = $out =~ /^master (\d+)/m;
    my ($folder) = $out =~ /^folder (\S+)/m;
    ok $master && !kill(0, $master), "$name leaves no process";
    ok $folder && !-e $folder, "$name leaves no folder";
}

done_testing;
