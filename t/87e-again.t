#!/usr/bin/perl

# A key is revoked with its streams and at once in force again: what begins
# then is not ended by a worker that hears of the cut only after it.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;

use JSON::PP ();


my $t = Test::LLM->new(workers => 2);

$t->key('user');

my $mock = $t->gateway(redis => 0, http => 'llm_state %%DIR%%/state;',
    server => '%%BOTH%%',
    admin => $t->admin_api);

for my $i (1 .. 4) {
    my $key = $t->admin(POST => '/keys', { name => "again$i" })->json->{secret};
    my @streams = map { stream($_, "old $i", $key) } $t->workers;

    ok $_->wait_events(1), 'a stream begins' for @streams;

    $t->admin(PATCH => "/keys/again$i?streams=cut",
        { enabled => JSON::PP::false });
    $t->admin(PATCH => "/keys/again$i", { enabled => JSON::PP::true });

    my @new = map { stream($_, "new $i", $key) } $t->workers;

    for my $r (@streams) {
        $r->wait;
        isnt last_of($r), '[DONE]', 'an old stream is cut';
    }

    for my $r (@new) {
        $r->wait;
        is last_of($r), '[DONE]', 'a new one comes to its end';
    }
}

done_testing;


sub stream {
    my ($pid, $text, $key) = @_;

    return $t->on($pid, $text, stream => 1, key => undef, headers => {
        Authorization => "Bearer $key", 'x-mock-pace-ms' => 80 });
}


sub last_of {
    my ($r) = @_;

    return ($r->data)[-1] // '';
}
