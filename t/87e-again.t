#!/usr/bin/perl

# A key is revoked with its streams and at once in force again: what begins
# then is not ended by a worker that hears of the cut only after it.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;

use JSON::PP ();


my $secret = 'a-secret-for-admins';
my $t = Test::LLM->new(workers => 2);

$t->key('user');
$t->write('admin', $secret);

my $mock = $t->gateway(redis => 0, http => 'llm_state %%DIR%%/state;',
    server => '%%BOTH%%',
    admin => 'location /admin/v1/ { llm_admin file:%%DIR%%/admin; }');

for my $i (1 .. 4) {
    my $key = admin(POST => '/keys', { name => "again$i" })->json->{secret};
    my @streams = map { stream($_, "old $i", $key) } $t->workers;

    ok $_->wait_events(1), 'a stream begins' for @streams;

    admin(PATCH => "/keys/again$i?streams=cut",
        { enabled => JSON::PP::false });
    admin(PATCH => "/keys/again$i", { enabled => JSON::PP::true });

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


sub admin {
    my ($method, $path, $body) = @_;

    my $r = $t->start_get("/admin/v1$path", method => $method,
        port => $t->port('PORT_ADMIN'), key => undef,
        headers => { Authorization => "Bearer $secret" },
        $body ? (body => $body) : ());
    $r->wait;

    return $r;
}
