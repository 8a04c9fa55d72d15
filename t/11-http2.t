#!/usr/bin/perl

# HTTP/2: several requests on one connection, and requests that are taken
# back while the connection lives on.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use IO::Socket::INET;
use JSON::PP;

use Test::LLM;


my $t = Test::LLM->new;

$t->key('user');
$t->key('one', concurrency => 1);
$t->key('two', concurrency => 2);

my $mock = $t->gateway(provider => 'include_usage=off',
    server => 'listen 127.0.0.1:%%PORT_H2%% http2;',
    location => 'llm_retry tries=2 base=10ms;');


# as much of a client as is needed: header names and values as they stand

sub connection {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $t->port('PORT_H2')) or die "connect: $!\n";

    my $h2 = { socket => $socket, next => 1, in => '', streams => {} };

    syswrite $socket, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        . frame(4, 0, 0, pack 'nN', 4, 1 << 30)
        . frame(8, 0, 0, pack 'N', 1 << 30);

    return $h2;
}


sub frame {
    my ($type, $flags, $stream, $payload) = @_;

    return pack('NCN', length($payload) << 8 | $type, $flags, $stream)
        . $payload;
}


sub literal {
    my ($name, $value) = @_;
    return pack 'C C/a C/a', 0, $name, $value;
}


sub send_chat {
    my ($h2, $key, $text, %spec) = @_;

    my $id = $h2->{next};
    $h2->{next} += 2;
    $h2->{streams}{$id} = { status => 0, body => '', ended => 0 };

    my $body = encode_json({ model => 'gpt-4o', %spec, messages => [
        { role => 'user', content => "$text" }] });

    syswrite $h2->{socket}, frame(1, 4, $id,
        literal(':method', 'POST') . literal(':scheme', 'http')
        . literal(':path', '/v1/chat/completions')
        . literal(':authority', 'localhost')
        . literal('authorization', 'Bearer ' . $t->secret($key))
        . literal('content-type', 'application/json')) . frame(0, 1, $id,
        $body);

    return $id;
}


sub take_back {
    my ($h2, $id) = @_;
    syswrite $h2->{socket}, frame(3, 0, $id, pack 'N', 8);
}


sub receive {
    my ($h2) = @_;

    while (IO::Select->new($h2->{socket})->can_read(0)) {
        sysread $h2->{socket}, $h2->{in}, 65536, length $h2->{in} or last;
    }

    while (length $h2->{in} >= 9) {
        my ($high, $low, $type, $flags, $id) = unpack 'nCCCN', $h2->{in};
        my $length = $high << 8 | $low;

        last if length $h2->{in} < 9 + $length;

        my $payload = substr $h2->{in}, 9, $length;
        my $stream = $h2->{streams}{$id} // {};
        substr($h2->{in}, 0, 9 + $length) = '';

        if ($type == 0) {
            $stream->{body} .= $payload;

        } elsif ($type == 1) {
            $stream->{status} = $payload =~ /^\x88/ ? 200
                : $payload =~ /^\x08\x03(\d{3})/ ? $1 : 'unknown';

        } elsif ($type == 3) {
            $stream->{reset} = unpack 'N', $payload;

        } elsif ($type == 4 && !$flags) {
            syswrite $h2->{socket}, frame(4, 1, 0, '');

        } elsif ($type == 7) {
            $h2->{goaway} = unpack 'x4N', $payload;
        }

        $stream->{ended} = 1 if $type < 2 && $flags & 1;
    }

    return $h2->{streams};
}


sub wait_for {
    my ($h2, @ids) = @_;
    return $t->until(sub { my $s = receive($h2);
        return !grep { !$s->{$_}{ended} && !defined $s->{$_}{reset} } @ids },
        15);
}


sub metric {
    my ($name) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;

    return $page =~ /^\Q$name\E (\d+)$/m ? $1 : -1;
}


sub becomes {
    my ($name, $value, $what) = @_;
    ok $t->until(sub { metric($name) == $value }), $what
        or diag("$name: " . metric($name));
}


sub all_back {
    my ($what) = @_;

    becomes('llm_slots_in_use', 0, "$what: the slots are back");
    is metric('llm_ledger_tickets_used'), 0, "$what: no ticket is left";
}


# several at a time

$mock->script({ match => { stream => \1 }, pace_ms => 10, keep => \1 },
    { delay_ms => 50, keep => \1 });

my $h2 = connection();
my @ids = map { send_chat($h2, 'user', $_, $_ % 2 ? (stream => \1) : ()) }
    0 .. 7;
ok wait_for($h2, @ids), 'eight requests of one connection';

my @streams = @{$h2->{streams}}{@ids};
is_deeply [map { $_->{status} } @streams], [(200) x 8], 'are answered';
is +(grep { $_->{ended} && !defined $_->{reset} } @streams), 8, 'as a whole';
is_deeply [sort map { $_->{body} } @streams],
    [sort map { $mock->sent($_) } 0 .. 7], 'with what the provider said';
cmp_ok $mock->stats->{max_in_flight}, '>', 4, 'side by side';

$mock->script({ delay_ms => 100 });
@ids = map { send_chat($h2, 'two', $_) } 1 .. 6;
wait_for($h2, @ids);
is +(grep { $h2->{streams}{$_}{status} == 200 } @ids), 6,
    'slots for two of six';
is $mock->stats->{max_in_flight}, 2, 'never more than two at once';
all_back('six requests');


# some are taken back

$mock->script({ match => { body => 'held' }, hang => \1 },
    { pace_ms => 10, chunks => 20 });

my $held = send_chat($h2, 'one', 'held');
$mock->wait(in_flight => 1);
my $gone = send_chat($h2, 'one', 'gone', stream => \1);
my $next = send_chat($h2, 'one', 'next', stream => \1);
becomes('llm_slots_waiting', 2, 'two in line');

take_back($h2, $gone);
becomes('llm_slots_waiting', 1, 'one that is taken back leaves the line');
take_back($h2, $held);
ok wait_for($h2, $next), 'its slot goes to the next';
ok $mock->wait(client_closed => 1), 'the provider is called no more';
is $h2->{streams}{$next}{status}, 200, 'of the same connection';
like $h2->{streams}{$next}{body}, qr/\[DONE\]\n\n$/, 'as a whole';
is $mock->stats->{requests}, 2, 'who left the line never reached it';
all_back('taken back');

$mock->script({ match => { body => 'gone' }, pace_ms => 100, chunks => 100 },
    { pace_ms => 10 });
$gone = send_chat($h2, 'user', 'gone', stream => \1);
ok $t->until(sub { receive($h2)->{$gone}{body} =~ /data.*data/s }),
    'a stream begins';
take_back($h2, $gone);
ok $mock->wait(client_closed => 1), 'and is taken back';
$next = send_chat($h2, 'user', 'next', stream => \1);
ok wait_for($h2, $next) && $h2->{streams}{$next}{body} =~ /\[DONE\]\n\n$/,
    'the connection lives on';
all_back('a stream');


# what the provider breaks is no clean end

$mock->script({ cut => 'rst', cut_events => 3 });
my $cut = send_chat($h2, 'user', 'cut', stream => \1);
wait_for($h2, $cut);
ok !$h2->{streams}{$cut}{ended}, 'a broken stream does not end cleanly';
ok $h2->{streams}{$cut}{reset}, 'but is reset';
like $h2->{streams}{$cut}{body}, qr/"error"/, 'after an error event';

$mock->script();
$next = send_chat($h2, 'user', 'next');
ok wait_for($h2, $next), 'the connection';
is $h2->{streams}{$next}{status}, 200, 'lives on';
is $h2->{goaway}, undef, 'all the time';


# all at once

$mock->script({ hang => \1 });
send_chat($h2, 'two', $_, stream => $_ % 2 ? \1 : \0) for 1 .. 6;
$mock->wait(in_flight => 2);
becomes('llm_slots_waiting', 4, 'four in line');
close $h2->{socket};
ok $mock->wait(client_closed => 2), 'a connection is closed';
all_back('a closed connection');
is $mock->stats->{requests}, 2, 'nobody in line reached the provider';

done_testing;
