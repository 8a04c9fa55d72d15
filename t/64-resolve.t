#!/usr/bin/perl

# llm_resolve: names of an upstream are looked up while nginx runs.  A name
# server of the test's own says what it is told to; one provider is at
# 127.0.0.1, the other at 127.0.0.2 and ::1, all with one port.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::IP;
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::DNS;
use Test::LLM::Forward;


# at the start nginx asks the system's name servers, who do not know the name
$ENV{RES_OPTIONS} = 'timeout:1 attempts:1';

my $name = 'provider.invalid';
my $t = Test::LLM->new;
my $first = $t->mock;
my $second = $t->mock;
my $port = $first->port;

my $dns = Test::LLM::DNS->new($t);
my $both = forward('127.0.0.2', $second);
my $six = forward('::1', $second);
my $loose = 'llm_breaker consecutive=0 ratio=0;';

plan skip_all => 'no second address here' if !$both;

$t->key('user', requests_per_minute => 1_000_000);
$t->token(RESOLVE => "llm_resolve $name:$port;");

say_nothing();

my %gateway = (
    redis => 0,
    http => "resolver 127.0.0.1:@{[$dns->port]};
    resolver_timeout 1s;
    log_format addr '\$status \$upstream_addr';
    access_log %%DIR%%/addr.log addr;
    upstream named {
        %%RESOLVE%%
        keepalive 8;
        keepalive_requests 1000000;
    }",
    routes => 'llm_provider named uri=/llm/named/;
    llm_route mock mock;
    llm_route * named;',
    server => 'location /llm/named/ {
            internal; proxy_pass http://named/v1/; %%PROXY%%
        }',
    location => "llm_retry tries=1; $loose",
);

$t->gateway(%gateway);


# a start without an answer

my $r = $t->chat('nobody');
is $r->status, 503, 'a name that was never found';
is $r->json->{error}{code}, 'upstream_unavailable', 'is told so';
ok $t->wait_log(qr/"$name" of upstream "named" is not found \(.*no address/),
    'the log says it';

answers(A => ['127.0.0.1']);
ok $t->until(sub { $t->chat('yes')->status == 200 }, 15),
    'it is found later';
ok $t->said(qr/"$name" of upstream "named" is found again, addresses: 1/),
    'which the log says, too';


# it is asked for again and again; connections stay

$first->script;
my ($accepted, $asked) = ($first->stats->{accepted}, asked());

ok $t->until(sub { chat_ok(); asked() >= $asked + 3 }, 15),
    'it is looked up again while requests come';
is $first->stats->{accepted}, $accepted,
    'all of them go over the same connection';


# another address

$first->script({ match => { stream => \1 }, chunks => 100, pace_ms => 50 },
    { times => 1000 });
$second->script;
my $stream = $t->start_chat('long', stream => 1);
$stream->wait_events(3);

answers(A => ['127.0.0.2']);
my $moved = time;
ok $t->until(sub { chat_ok(); $second->stats->{requests} }, 10),
    'another address is taken';
cmp_ok time - $moved, '<=', 4, 'soon after its time';

$first->reset;
chat_ok() for 1 .. 10;
is $first->stats->{requests}, 0, 'the old one gets no new requests';
is $second->stats->{accepted}, 1, 'the new one gets one connection';
ok !$stream->complete, 'a stream of the old one';
ok $stream->wait(sub { $_[0]->complete }, 15), 'goes on to its end';
is $stream->events->[-1]{data}, '[DONE]', 'without an error';
ok $t->until(sub { $t->read('addr.log') =~ /^200 127\.0\.0\.1:$port$/m }),
    'and is logged with its address';
like $t->read('addr.log'), qr/^200 127\.0\.0\.2:$port$/m, 'as are the others';


# a name that is gone

for my $how (qw(nxdomain servfail empty silent)) {
    my $said = $t->said(qr/is not found/);

    $second->script;
    $accepted = $second->stats->{accepted};
    $asked = asked();
    answers(mode => $how);

    ok $t->until(sub { chat_ok();
        asked() >= $asked + 2 && $t->said(qr/is not found/) > $said }, 20),
        "$how: is asked for again";
    is $t->said(qr/is not found/), $said + 1, "$how: said once";
    is $second->stats->{accepted}, $accepted, "$how: the old address serves";

    my $again = $t->said(qr/is found again/);
    answers(A => ['127.0.0.2']);
    ok $t->until(sub { $t->said(qr/is found again/) > $again }, 15),
        "$how: found again";
}

like $t->log, qr/is not found \([^)]+\), its addresses stay/, 'the log says so';


# more than one

answers(A => ['127.0.0.1', '127.0.0.2'], mode => 'turn');
$_->script for $first, $second;
ok $t->until(sub { chat_ok(); $first->stats->{requests} }, 10), 'two addresses';
$_->script for $first, $second;
my @before = map { $_->stats->{accepted} } $first, $second;
$asked = asked();
$t->until(sub { chat_ok(); asked() >= $asked + 3 }, 15);
chat_ok();
my ($n, $m) = map { $_->stats->{requests} } $first, $second;
cmp_ok abs($n - $m), '<=', 1, "take turns ($n, $m)";
is_deeply [map { $_->stats->{accepted} } $first, $second], \@before,
    'on connections that stay, in whatever order they are told';


# IPv6: an address without a way to it (here: of which link?) is none

answers(A => ['127.0.0.1'], AAAA => ['fe80::1']);
wait_asked();
$_->script for $first, $second;
is scalar(grep { $t->chat("six $_")->status == 200 } 1 .. 6), 6,
    'an IPv6 address that cannot be reached is left out';
is $first->stats->{requests}, 6, 'the other one serves';

SKIP: {
    skip 'no IPv6 here', 2 if !$six;

    answers(AAAA => ['::1']);
    wait_asked();
    $_->script for $first, $second;
    is $t->chat('six')->status, 200, 'an IPv6 address that can be reached';
    is $second->stats->{requests}, 1, 'serves';
}


# a worker that is new has its own look

answers(A => ['127.0.0.1']);
wait_asked();
$t->kill_worker;
ok $t->until(sub { $t->chat('new')->status == 200 }, 10),
    'a new worker looks the name up itself';


# other configurations: an address that nobody asks for, two names, no IPv6

$t->token(RESOLVE => "llm_resolve 127.0.0.1:$port;
    llm_resolve $name:$port valid=1s ipv6=off max=1;");

# the old worker ends while it asks

say_nothing();
$asked = asked();
$t->until(sub { asked() > $asked }, 15);
$t->reload($t->{template});

answers(A => ['127.0.0.2', '127.0.0.3'], AAAA => ['::1']);
$second->script;
ok $t->until(sub { chat_ok(); $second->stats->{requests} }, 10),
    'an address and a name';
$_->script for $first, $second;
is scalar(grep { $t->chat("two $_")->status == 200 } 1 .. 8), 8,
    'max=1 and ipv6=off leave one address of the name';
is $first->stats->{requests}, 4, 'by turns';

$t->token(RESOLVE => "llm_resolve 127.0.0.1:$port; llm_resolve 127.0.0.3:$port;");
$t->token(LOCATION => "llm_retry tries=3 base=1ms; $loose");
$t->reload($t->{template});
is scalar(grep { $t->chat("dead $_")->status == 200 } 1 .. 8), 8,
    'when one of two addresses is dead, the next try goes to the other';


# what is wrong is told

my $block = '%%GLOBALS%%
http { %%GLOBALS_HTTP%% %%HTTP_TEST%%
    upstream u { %%TEST%% }
    server { listen 127.0.0.1:%%PORT_T%%; location / { proxy_pass http://u; } }
}';

for my $case (
    ['llm_resolve provider.invalid;', qr/needs a "resolver"/],
    ['llm_resolve 127.0.0.1:80;', undef],
    ['llm_resolve [::1]:80 ipv6=on; keepalive 4;', undef],
    ['llm_resolve 127.0.0.1:80; server 127.0.0.1:81;',
        qr/"server" cannot stand beside/],
    ['zone z 64k; llm_resolve 127.0.0.1:80;', qr/"zone" cannot stand beside/],
    ['least_conn; llm_resolve 127.0.0.1:80;', qr/beside no other balancer/],
    ['llm_resolve unix:/tmp/x;', qr/expected HOST\[:PORT\]/],
    ['llm_resolve host/path;', qr/expected HOST\[:PORT\]/],
    ['llm_resolve host:0;', qr/invalid port/],
    ['llm_resolve 127.0.0.1 valid=0;', qr/valid=TIME, from 1s to 1d/],
    ['llm_resolve 127.0.0.1 ipv6=yes;', qr/ipv6=on\|off/],
    ['llm_resolve 127.0.0.1 max=0;', qr/max=N, from 1 to 256/],
    ['llm_resolve 127.0.0.1 weight=2;', qr/weight=2/],
) {
    my ($text, $pattern) = @$case;

    $t->token(TEST => $text);
    $t->token(HTTP_TEST => '');

    my ($good, $said) = $t->test_config($block);
    ok $good == !$pattern, ($pattern ? 'refused: ' : 'taken: ') . $text
        or diag $said;
    like $said, $pattern, 'with the reason' if $pattern;
}

$t->token(HTTP_TEST => "resolver 127.0.0.1:@{[$dns->port]};");
$t->token(TEST => "llm_resolve $name;");
my ($good, $said) = $t->test_config($block);
ok $good, 'a name that is not found is no error';
like $said, qr/\[warn\].*host not found: "\Q$name\E" has no address until/,
    'but told';

done_testing;


sub chat_ok {
    my $r = $t->chat('again ' . rand);
    fail('a request fails: ' . $r->status . ' ' . ($r->body // ''))
        if $r->status != 200;
    Test::LLM::HTTP->idle(0.01);
}


# what the name server says of the name from now on

sub answers { $dns->say($name => { @_ }) }
sub say_nothing { answers(mode => 'silent') }
sub asked { $dns->asked }


# what was told last has been heard

sub wait_asked {
    my $before = asked();
    $t->until(sub { asked() >= $before + 2 }, 15) or die 'nobody asks';
}


# the first provider's port at another address, for the second one

sub forward {
    my ($address, $mock) = @_;

    my $listen = IO::Socket::IP->new(LocalAddr => $address,
        LocalPort => $port, Listen => 16, ReuseAddr => 1) or return;

    return Test::LLM::Forward->new($t, $listen, sub { $mock->port });
}
