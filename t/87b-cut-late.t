#!/usr/bin/perl

# A key is revoked with its streams while an answer of it is whole and only its
# client has yet to read: that answer is the client's, and nothing is sent twice.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new(workers => 1);

$t->key('user');

# the system takes little of an answer before its client reads

my $mock = $t->gateway(redis => 0, http => 'llm_state %%DIR%%/state;',
    server => 'listen 127.0.0.1:%%PORT_SMALL%% sndbuf=8k;',
    admin => $t->admin_api);

$mock->script({ content_bytes => 900_000, keep => 1 });

for my $i (1 .. 5) {
    my $key = $t->admin(POST => '/keys', { name => "late$i" })->json->{secret};

    my $r = $t->start_post('/v1/chat/completions', { model => 'gpt-4o',
        messages => [{ role => 'user', content => "late $i" }] },
        headers => { Authorization => "Bearer $key" }, rcvbuf => 4096,
        port => $t->port('PORT_SMALL'), paused => 1, timeout => 30);

    # its attempt is over, and its slot is back: the rest is to be sent
    ok $t->until(sub { Test::LLM::HTTP->idle(0.01);
        $mock->stats->{requests} == $i && $t->metric('llm_slots_in_use') == 0
    }, 10), "the answer of $i is there";

    my $gone = $t->admin(DELETE => "/keys/late$i?streams=cut");
    is $gone->status, 200, 'its key is revoked';

    # by now every worker has looked
    Test::LLM::HTTP->idle(0.4);

    $r->resume;
    $r->wait;

    is $r->status, 200, 'the client gets it';
    is length $r->json->{choices}[0]{message}{content}, 900_000, 'whole';
}

is $t->chat('and on', key => 'user')->status, 200, 'the worker serves';

done_testing;
