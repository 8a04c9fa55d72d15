#!/usr/bin/perl

# Webhooks of tasks: who may be called and who not, what is sent and how it
# is signed, and what follows when it does not arrive.  Names have to lead to
# public addresses, so the test runs, where it can, in a network of its own,
# where the loopback device has such an address (and private ones, so that a
# connection to them would be seen).

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

my $alone = own_network();

use Digest::SHA qw(hmac_sha256_base64);
use IO::Select;
use IO::Socket::INET;
use IO::Socket::IP;
use JSON::PP;
use MIME::Base64;
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Cert;
use Test::LLM::DNS;
use Test::LLM::Forward;


my $P = '{llm}:t:';
my $public = '11.22.33.44';
my $name = 'hooks.test';
my $secret = 'a secret of more than 16 bytes';

$ENV{HOOK_SECRET} = $secret;

my $t = Test::LLM->new(workers => 1);
my $cert = Test::LLM::Cert->new($t, $name);
$ENV{SSL_CERT_FILE} = $cert->ca;

# certificates of an address
$cert->make('byip', "$name,IP:127.0.0.1", 'leaf', 'ca');
$cert->make('byold', "$name,IP:127.0.0.1", 'leaf', 'ca', -3 * 86400, -86400);
$cert->make('byself', "$name,IP:127.0.0.1", 'leaf');
$cert->make('wild', '*.wild.test', 'leaf', 'ca');

my $redis = $t->redis;
my $hook = $t->mock;
my %tls = map { $_ => $t->mock($cert->mock($_)) } qw(byip good byold byself);
my $unasked = $t->mock;
my $dns = Test::LLM::DNS->new($t);
my $seen = $alone ? listener() : 0;
my %forward;
my $ids = 0;
my @thanks = (status => 200, body => 'thanks');

my $listed = join ' ', map { "webhook=$_" } 'http://127.0.0.1:' . $hook->port,
    map({ 'https://127.0.0.1:' . $_->port } $t, values %tls),
    $name, '*.wild.test';

$t->token(TASKS => "$listed webhook_secret=env:HOOK_SECRET");
$t->token(RESOLVER => 'resolver 127.0.0.1:' . $dns->port . ';');
$t->gateway(
    mock => [],
    http => '%%RESOLVER%%
    llm_internal unix:%%DIR%%/internal.sock;
    llm_tasks on %%TASKS%%;',
    server => 'listen unix:%%DIR%%/internal.sock;',
);

ok $redis->command('PING'), 'redis';


delivered();
of_all_states();
again_and_over();
answers_of_any_kind();
not_on_the_list();
by_address();
by_tls_address();
names() if $alone;
silent();
worker_dies();
other_secret();
at_submission();
configuration();

unlike $t->log, qr/hush/, 'no query of a URL in the log';
unlike $t->log, qr/\Q$secret\E/, 'nor the secret';

done_testing;


sub delivered {
    $hook->script({ match => { path => '/hook' }, @thanks });

    my $id = ended(url($hook, '/hook?k=hush'), metadata =>
        '{"n":12345678901234567890,"t":"\u00e9\""}', finished => now() - 2000);
    over($id, 'a webhook is delivered');

    my ($r, @more) = $hook->journal;
    is @more, 0, 'once';
    is "$r->{method} $r->{path}", 'POST /hook?k=hush', 'to its path and query';

    my $h = $r->{headers};
    is $h->{host}, '127.0.0.1:' . $hook->port, 'Host';
    is $h->{'content-type'}, 'application/json', 'Content-Type';
    like $h->{'user-agent'}, qr/^ngx-llm/, 'User-Agent';
    is $h->{'webhook-id'}, $id, 'webhook-id';
    cmp_ok abs($h->{'webhook-timestamp'} - time), '<=', 5, 'webhook-timestamp';
    is $h->{authorization}, undef, 'nothing else that is secret';
    signed($r, $secret, 'the signature is right');

    like $r->{body}, qr/"n":12345678901234567890,/, 'numbers keep their digits';

    my $body = decode_json($r->{body});
    is $body->{type}, 'task.completed', 'type';
    cmp_ok abs($body->{created_at} - time), '<=', 5, 'created_at';
    is $body->{data}{id}, $id, 'the id';
    is $body->{data}{status}, 'completed', 'the state';
    is $body->{data}{team}, 'red', 'the team';
    is $body->{data}{metadata}{t}, "\x{e9}\"", 'the metadata';
    is $body->{data}{error}, undef, 'no error';
    unlike $r->{body}, qr/the result/, 'no result';
    counted('delivered', 1);

    # without a path

    $hook->script({ raw => "HTTP/1.1 204 No\r\n\r\n" });
    $id = ended(url($hook, ''));
    over($id, 'a URL without a path');
    is first($hook)->{path}, '/', 'is that of the root';
}


sub of_all_states {
    for my $case (['error', '{"message":"no \"x\"","code":null}'],
        ['cancelled', ''])
    {
        my ($state, $error) = @$case;

        $hook->script({ @thanks, status => 202 });
        my $id = ended(url($hook, '/s'), state => $state, error => $error,
            team => '~key', batch => 'batch_7');
        over($id, "$state is told");

        my $r = first($hook);
        my $body = decode_json($r->{body});
        is $body->{type}, "task.$state", 'with its type';
        is $body->{data}{status}, $state, 'and state';
        ok !exists $body->{data}{team}, 'a key without a team has none';
        is $body->{data}{batch_id}, 'batch_7', 'the batch';
        is_deeply $body->{data}{error},
            $error ? { message => 'no "x"', code => undef } : undef, 'error';
        signed($r, $secret, 'signed');
    }

    # an old error is not told of what succeeded; what is gone is no concern

    $hook->script({ @thanks });
    my $id = ended(url($hook, '/s'), error => '{"message":"before"}');
    over($id, 'a task that succeeded later');
    is decode_json(first($hook)->{body})->{data}{error}, undef,
        'has no error';

    $hook->script;
    due('task-none');
    over('task-none', 'a task that is gone');
    over(ended(''), 'a task without a webhook');
    is $hook->stats->{requests}, 0, 'nobody is called';
}


sub again_and_over {
    $hook->script({ match => { path => '/flaky' }, times => 1, status => 500 },
        { @thanks });
    my $id = ended(url($hook, '/flaky'));
    later($id, 'after a 500', 4, 7);
    ok $t->until(sub { !scored($id) }, 15), 'it is tried again';
    is $hook->stats->{requests}, 2, 'once';
    my @at = $hook->arrivals;
    cmp_ok $at[1] - $at[0], '>=', 4900, 'five seconds later';

    my ($first, $second) = $hook->journal;
    is $second->{headers}{'webhook-id'}, $first->{headers}{'webhook-id'},
        'with the same id';
    signed($second, $secret, 'and a signature of its own');

    # the pause grows with the time that has gone by, up to an hour

    $hook->script({ status => 503 });
    later(ended(url($hook, '/f'), finished => now() - 100_000), 'after 100 s',
        99, 127);
    later(ended(url($hook, '/f'), finished => now() - 3600_000 * 5),
        'after 5 h', 3590, 4510);

    # until a day has gone by

    my $before = gave_up();
    over(ended(url($hook, '/f?k=hush'), finished => now() - 3600_000 * 23.9),
        'after a day');
    is gave_up(), $before + 1, 'it is given up';
    ok $t->wait_log(qr/webhook of "task-\w+" at "127\.0\.0\.1:\d+" is given up: status 503/),
        'and the log says why';

    $hook->script({ status => 410 });
    over(ended(url($hook, '/f')), 'a 410');
    is gave_up(), $before + 2, 'is the end at once';

    # nobody there

    $hook->refuse;
    later(ended(url($hook, '/f')), 'nobody listens', 4, 7);
    $hook->serve;
}


sub answers_of_any_kind {
    my $to = 'http://127.0.0.1:' . $unasked->port . '/stolen';
    my @moved = (301, 302, 303, 307, 308);

    my @later = (
        ['no head', { cut => 'close', body => 'x' }],
        ['half a head', { raw => "HTTP/1.1 200 OK\r\nContent-" }],
        ['no HTTP', { raw => "SSH-2.0-x\r\n\r\n" }],
        ['a head of 20 KB', { raw => "HTTP/1.1 200 OK\r\nX: " . 'y' x 20000
            . "\r\n\r\n" }],
        ['two framings', { raw => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
            . "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" }],
        ['a reset', { cut => 'rst', body => 'x' }],
        ['a 404', { status => 404 }],
        map { ["a $_", { status => $_, headers => { location => $to } }] }
            @moved,
    );

    my @over = (
        ['a body of 1 MB', { garbage => 1_000_000, status => 200 }],
        ['a body that is cut', { @thanks, cut => 'close', cut_at => 3 }],
        ['chunks', { @thanks, framing => 'chunked' }],
        ['an early answer', { early => \1, @thanks }],
        ['a 103 before it', { raw => "HTTP/1.1 103 Early Hints\r\n\r\n"
            . "HTTP/1.1 204 No Content\r\n\r\n" }],
    );

    my @cases = (@later, @over);

    $hook->script(map { { match => { path => "/a$_" }, %{$cases[$_][1]} } }
        0 .. $#cases);

    my @id = map { ended(url($hook, "/a$_")) } 0 .. $#cases;

    for my $i (0 .. $#cases) {
        later($id[$i], $cases[$i][0], 4, 7) if $i < @later;
        over($id[$i], $cases[$i][0]) if $i >= @later;
    }

    is $hook->stats->{requests}, @cases, 'each was called once';
    is $unasked->stats->{accepted}, 0, 'no redirect is followed';
}


# tasks that were taken when the list was another

sub not_on_the_list {
    my $port = $unasked->port;
    my $listed = $hook->port;
    my $before = gave_up();

    my @url = ("http://127.0.0.1:$port/x", "http://127.0.0.2:$listed",
        "https://127.0.0.1:$listed", "http://$name/", "https://$name:8443/",
        'https://wild.test/', "https://x.$name/",
        "http://127.0.0.1:$port\@127.0.0.1:$listed/",
        "http://0x7f.1:$listed", "http://[::ffff:127.0.0.1]:$listed",
        'https://example.com/', 'nonsense', "https://$name/#x");

    $hook->script;

    my @id = map { ended($_) } @url;

    over($id[$_], $url[$_]) for 0 .. $#url;

    is gave_up(), $before + @url, 'all are given up';
    is $hook->stats->{requests} + $unasked->stats->{accepted}, 0,
        'nobody is called';
}


sub by_address {
    my $n = $dns->asked;

    $hook->script({ @thanks });
    over(ended(url($hook, '/literal')), 'a listed address');
    is $dns->asked, $n, 'needs no name server';
}


sub by_tls_address {
    for my $which (qw(byip good byold byself)) {
        my $mock = $tls{$which};

        $mock->script({ @thanks });
        my $id = ended('https://127.0.0.1:' . $mock->port . '/tls');

        if ($which eq 'byip') {
            over($id, 'a good certificate');
            signed(first($mock), $secret, 'all is sent');
            next;
        }

        later($id, "a bad certificate ($which)", 4, 7);
        is $mock->stats->{requests}, 0, 'nothing is sent';
    }

    # no TLS there: the gateway itself

    later(ended('https://127.0.0.1:' . $t->port . '/'), 'no TLS', 4, 7);
    ok !$t->said(qr/SSL_|peer closed/), 'what a receiver does fills no log';
}


sub names {
    my %mock = map { $_ => $t->mock($cert->mock($_)) }
        qw(good chained other expired unknown wild);

    for my $which (qw(good chained other expired unknown)) {
        my $mock = $mock{$which};
        forward($mock->port);

        $mock->script({ @thanks });
        answers($name => { A => [$public] });
        my $id = ended("https://Hooks.test/$which");

        if ($which =~ /good|chained/) {
            over($id, "TLS by name: $which");
            my $r = first($mock);
            is $r->{sni}, $name, 'the server is told the name';
            is $r->{headers}{host}, 'Hooks.test', 'Host';
            next;
        }

        later($id, "TLS by name: $which", 4, 7);
        is $mock->stats->{requests}, 0, 'nothing is sent';
        ok $t->until(sub { $mock->stats->{tls_failed}
            || $mock->stats->{connections} == 0 }, 5), 'the connection ends';
    }

    # addresses that a name must not have

    forward($mock{good}->port);
    $mock{good}->script({ @thanks });
    my $before = seen();

    my @cases = (
        (map { { A => [$_] } } qw(127.0.0.1 10.0.0.1 169.254.169.254
            0.0.0.0)),
        (map { { AAAA => [$_] } } qw(::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1
            64:ff9b::7f00:1 :: fe80::1)),
        { A => [$public, '127.0.0.1'] }, { A => ['10.0.0.1', $public] },
        { A => [$public], AAAA => ['::1'] },
        map { { A => [$public], mode => $_ } } qw(nxdomain servfail empty),
    );

    answers(map { ("n$_.wild.test" => $cases[$_]) } 0 .. $#cases);

    my @id = map { ended("https://n$_.wild.test/private") } 0 .. $#cases;

    later($id[$_], JSON::PP->new->canonical->encode($cases[$_]), 4, 7, 12)
        for 0 .. $#cases;

    is seen(), $before, 'none of them was connected to';
    is $mock{good}->stats->{requests}, 0, 'nor the good one beside them';
    is $t->said(qr/\(its address is not public\)/), 13, 'which is why';

    # one of several addresses is dead

    answers('two.wild.test' => { A => ['203.0.114.1', $public] });
    forward($mock{wild}->port);
    $mock{wild}->script({ @thanks });
    over(ended('https://two.wild.test/'), 'the next address is tried', 15);
}


sub silent {
    $hook->script({ match => { path => '/hang' }, hang => \1, body => 'x' },
        { match => { path => '/slow' }, status => 200, body => 'x' x 4000,
            slice => 500, slice_ms => 4000 });

    my $began = time;
    my $hangs = ended(url($hook, '/hang'));
    my $slow = ended(url($hook, '/slow'));

    ok $t->until(sub { $hook->stats->{client_closed} >= 1 }, 20),
        'a receiver that hangs is left';
    cmp_ok time - $began, '<', 14, 'after ten seconds';
    cmp_ok time - $began, '>', 8, 'or so';
    later($hangs, 'and called again', 8, 15);
    over($slow, 'one that answers and dawdles has answered', 15);
}


sub worker_dies {
    $hook->script({ times => 1, @thanks, delay_ms => 8000 },
        { @thanks });

    my $id = ended(url($hook, '/dies'));
    $hook->wait(requests => 1, timeout_ms => 5000);
    $t->kill_worker;
    cmp_ok scored($id) // 0, '>', now() + 10_000, 'it is leased';
    due($id);
    ok $t->until(sub { !scored($id) }, 10), 'another worker delivers it';
    is $hook->stats->{requests}, 2, 'once more';
}


sub other_secret {
    my $bytes = pack 'C*', map { $_ * 7 % 256 } 1 .. 32;

    $t->write('hook.secret', 'whsec_' . encode_base64($bytes, '') . "\n");
    $t->token(TASKS => "$listed webhook_secret=file:%%DIR%%/hook.secret");
    $t->reload($t->{template});

    $hook->script({ @thanks });
    over(ended(url($hook, '/whsec')), 'another secret');
    signed(first($hook), $bytes, 'is decoded');
}


sub at_submission {
    my %task = (prompts => ['a'], model => 'gpt-4o');
    my $r = $t->post('/api/tasks', { %task,
        webhook => 'https://elsewhere.test/' }, key => 'user');

    SKIP: {
        skip 'no /api/tasks', 3 if $r->status == 503 || $r->status == 404;

        is $r->status, 400, 'a host that is not listed is refused';
        is $r->json->{error}{param}, 'webhook', 'with the reason';

        $hook->script({ @thanks });
        $r = $t->post('/api/tasks', { %task, webhook => url($hook, '/api') },
            key => 'user');
        ok $t->until(sub { $hook->stats->{requests} }, 15),
            'a task is told of when it has ended' or diag $r->body;
    }
}


sub configuration {
    $t->token(RESOLVER => '');
    my ($good, $said) = $t->test_config($t->{template});
    ok !$good, 'without a resolver';
    like $said, qr/webhook= needs a "resolver" in the http block/,
        'the configuration is wrong';
}


# a task that has ended, and whose webhook is due

sub ended {
    my ($url, %o) = @_;

    my $id = sprintf 'task-%024d', ++$ids;
    my @more = map { $o{$_->[0]} ? ($_->[1], $o{$_->[0]}) : () }
        ['metadata', 'm'], ['error', 'e'], ['batch', 'n'];

    $redis->command(HSET => "${P}job:$id", s => $o{state} // 'completed',
        w => $url, t => $o{team} // 'red', o => 'user', r => 'the result',
        c => now() - 5000, f => int($o{finished} // now()), @more);
    due($id);

    return $id;
}


sub due {
    my ($id) = @_;
    $redis->command(ZADD => "${P}todo", now(), "w:$id");
}


sub scored {
    my ($id) = @_;
    return $redis->command(ZSCORE => "${P}todo", "w:$id");
}


sub over {
    my ($id, $what, $seconds) = @_;

    ok $t->until(sub { !defined scored($id) }, $seconds // 10), "$what: over"
        or diag 'due in ' . (scored($id) - now());
}


# it is to come again, in so many seconds; the test does not wait for it

sub later {
    my ($id, $what, $least, $most, $seconds) = @_;

    ok $t->until(sub {
        (scored($id) // 0) > now() + 1000
            && !$redis->command(HEXISTS => "${P}doing", "w:$id")
    }, $seconds // 10), "$what: later";

    my $pause = ((scored($id) // 0) - now()) / 1000;

    ok $pause > $least - 2 && $pause < $most, 'when that is right'
        or diag "in $pause s";

    $redis->command(ZREM => "${P}todo", "w:$id")
        if $what ne 'after a 500';
}


sub signed {
    my ($r, $key, $what) = @_;

    my $h = $r->{headers};
    my $mac = hmac_sha256_base64("$h->{'webhook-id'}."
        . "$h->{'webhook-timestamp'}.$r->{body}", $key);

    is $h->{'webhook-signature'}, "v1,$mac=", $what;
}


sub first { ($_[0]->journal)[0] }


sub counted {
    my ($result, $n) = @_;
    is $t->metric("llm_task_webhooks_total{result=\"$result\"}"), $n,
        "counted as $result";
}


sub gave_up { $t->metric('llm_task_webhooks_total{result="given_up"}') }
sub url { 'http://127.0.0.1:' . $_[0]->port . $_[1] }
sub now { int(time * 1000) }


sub answers { $dns->say(@_) }


# port 443 of all addresses but the public one: counts who comes

sub listener {
    my @listen = map { IO::Socket::IP->new(LocalAddr => $_, LocalPort => 443,
        Listen => 16, ReuseAddr => 1, $_ eq '::1' ? (V6Only => 1) : ()) }
        '127.0.0.1', '10.0.0.1', '169.254.169.254', '::1';

    die "listen: $!" if grep { !$_ } @listen[0 .. 2];

    return $t->child('listener', sub {
        my $select = IO::Select->new(grep { $_ } @listen);
        open my $seen, '>>', $t->path('listener.seen') or die $!;
        $seen->autoflush(1);

        while (my @ready = $select->can_read) {
            for my $socket (@ready) {
                my $client = $socket->accept or next;
                print $seen $client->sockhost, "\n";
            }
        }
    });
}


sub seen {
    return 0 if !-e $t->path('listener.seen');
    my @lines = $t->read('listener.seen') =~ /\n/g;
    return scalar @lines;
}


# port 443 of the public address leads to this one

sub forward {
    my ($port) = @_;

    $t->write('forward.port', $port);

    return if $forward{on}++;

    my $listen = IO::Socket::INET->new(LocalAddr => $public,
        LocalPort => 443, Listen => 16, ReuseAddr => 1) or die "forward: $!";

    Test::LLM::Forward->new($t, $listen, sub { $t->read('forward.port') });
}


# begins this test anew in a network of its own; 1: it is in one

sub own_network {
    my $with = $ENV{TEST_LLM_OWN_NETWORK} // '';

    if ($with eq '') {
        return 0 if $> != 0 || $^O ne 'linux'
            || system('unshare -n true 2>/dev/null') != 0;

        $ENV{TEST_LLM_OWN_NETWORK} = 1;
        exec 'unshare', '-n', $^X, "-I$FindBin::Bin/lib", $0;
    }

    # SIOCSIFADDR, SIOCSIFFLAGS

    require Socket;
    socket my $s, Socket::AF_INET(), Socket::SOCK_DGRAM(), 0 or return 0;

    my $up = pack 'a16 s x22', 'lo', 0x49;
    ioctl $s, 0x8914, $up or return 0;

    for my $add (['lo:1', '11.22.33.44'], ['lo:2', '10.0.0.1'],
        ['lo:3', '169.254.169.254'])
    {
        my $set = pack 'a16 S S a4 x16', $add->[0], Socket::AF_INET(), 0,
            Socket::inet_aton($add->[1]);
        ioctl $s, 0x8916, $set or return 0;
    }

    return 1;
}
