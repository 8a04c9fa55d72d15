#!/usr/bin/perl

# Each worker remembers the keys it met: whatever is changed counts for the
# next request of every worker that knows the key already, and a request that
# is under way keeps what it came with.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);
use POSIX qw(strftime);
use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

$t->{tenants}{defaults} = { requests_per_minute => 90000, concurrency => 600 };
$t->key('user');

$t->gateway(redis => 0, http => 'llm_state %%DIR%%/state;',
    server => '%%BOTH%%',
    admin => $t->admin_api);

my $limit = 'x-ratelimit-limit-requests';

api(PUT => '/teams/group', {});
my $secret = api(POST => '/keys', { name => 'key' })->json->{secret};

# one change after the other, seen by both

is seen($limit), '90000 90000', 'both know the key';

api(PATCH => '/keys/key', { requests_per_minute => 7000 });
is seen($limit), '7000 7000', 'a limit';

api(POST => '/keys/key/raise', { requests_per_minute => 8000,
    until => iso(time + 2) });
is seen($limit), '8000 8000', 'a raise';
ok $t->until(sub { seen($limit) eq '7000 7000' }, 5), 'its end, by itself';

api(PATCH => '/keys/key', { team => 'group', requests_per_minute => undef });
api(PUT => '/teams/group', { requests_per_minute => 6000 });
is seen($limit), '6000 6000', 'the limit of its team';

api(PATCH => '/keys/key', { team => undef });

$t->{tenants}{defaults}{requests_per_minute} = 80000;
$t->key('user');
ok $t->until(sub { seen($limit) eq '80000 80000' }, 5), 'defaults of the file';

api(PATCH => '/keys/key', { enabled => JSON::PP::false });
is seen(), '403 403', 'disabled';
api(PATCH => '/keys/key', { enabled => JSON::PP::true });
is seen(), '200 200', 'enabled';

my $old = $secret;
$secret = api(POST => '/keys/key/rotate', { grace_s => 2 })->json->{secret};
is seen(), '200 200', 'a new secret';
is seen(undef, $old), '200 200', 'and the old one';
ok $t->until(sub { seen(undef, $old) eq '401 401' }, 5),
    'which ends by itself';

$old = $secret;
$secret = api(POST => '/keys/key/rotate')->json->{secret};
is seen(undef, $old), '401 401', 'or at once';
is seen(), '200 200', 'the new one stays';

# a stream holds what it came with

my @streams = map { my $r = with($_, $secret, stream => 1,
    headers => { 'x-mock-chunks' => 40, 'x-mock-pace-ms' => 50 });
    $r->wait_events(1); $r } $t->workers;

for my $i (1 .. 5) {
    api(PATCH => '/keys/key', { requests_per_minute => 2000 + $i,
        metadata => { i => 'x' x 300 . $i } });
    my $now = 2000 + $i;
    is seen($limit), "$now $now", 'a change while it is held';
}

api(DELETE => '/keys/key');
is seen(), '401 401', 'deleted';

$_->wait for @streams;
like $_->body, qr/\[DONE\]/, 'the stream goes on' for @streams;

# more than are remembered, long ones among them; no secret drives one out

my @many = map {
    my $own = 'sk-many-' . sha256_hex("many $_");
    api(POST => '/keys', { name => "many$_", sha256 => sha256_hex($own),
        requests_per_minute => 1000 + $_, $_ % 50 ? ()
            : (models => ['gpt-4o', map { "m$_" } 1 .. 2 * $_]) });
    $own
} 1 .. 300;

my $wrong = 0;

for my $round (1 .. 2) {
    for my $i (1 .. 300) {
        my $seen = seen($limit, $many[$i - 1]);
        $wrong++ if $seen ne join ' ', (1000 + $i) x 2;
        seen(undef, "sk-nobody-$i") eq '401 401' or $wrong++ if $i % 10 == 0;
    }
}

is $wrong, 0, 'each of many keys has its own limit';

# one that is too long to be remembered

$t->key('long', requests_per_minute => 3000,
    models => ['gpt-4o', map { "model-$_" } 1 .. 6000]);
$secret = $t->secret('long');
ok $t->until(sub { seen($limit) eq '3000 3000' }, 10), 'a long key';
is seen($limit), '3000 3000', 'again';

done_testing;


# what both workers say to this secret: a header, or the status

sub seen {
    my ($header, $as) = @_;

    my @r = map { with($_, $as // $secret) } $t->workers;
    $_->wait for @r;

    return join ' ', map { $header ? $_->header($header) // 'none'
        : $_->status } @r;
}


sub with {
    my ($pid, $as, %spec) = @_;

    my $headers = delete $spec{headers} // {};

    return $t->on($pid, 'hello', key => undef, %spec,
        headers => { Authorization => "Bearer $as", %$headers });
}


sub api {
    my ($method, $path, $body) = @_;

    my $r = $t->admin($method, $path, $body);

    $r->status < 300 or die "$method $path: ", $r->status, ' ', $r->body;

    return $r;
}


sub iso { return strftime '%Y-%m-%dT%H:%M:%SZ', gmtime $_[0] }
