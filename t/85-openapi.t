#!/usr/bin/perl

# The admin API is what docs/openapi.json says: every operation's example,
# and what the description forbids, sent to a gateway.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $here = "$FindBin::Bin/../tests/admin";
my $t = Test::LLM->new(workers => 2);
my $home = "$t->{build}/admin";

system("$here/setup.sh", $home) == 0
    or BAIL_OUT('the validators are not there');

$ENV{PYTHONDONTWRITEBYTECODE} = 1;

$ENV{ADMIN_SECRET} = 'sk-admin-0123456789abcdef0123';
$ENV{FILE_KEY} = 'user';
$ENV{FILE_TEAM} = 'team';

$t->key('user');
$t->write('admin-secret', "$ENV{ADMIN_SECRET}\n");
$t->gateway(redis => 1, location => 'llm_cache on;', admin => '
        location /admin/v1/ { llm_admin file:%%DIR%%/admin-secret; }');
$ENV{API_URL} = 'http://127.0.0.1:' . $t->port('PORT_ADMIN') . '/admin/v1';

is $t->chat('hello', key => 'user')->status, 200, 'something was used';

my ($planned, $ran) = (0, 0);

open my $out, '-|', "$home/python/bin/python", "$here/drive.py"
    or die "drive.py: $!\n";

while (<$out>) {
    if (/^1\.\.(\d+)/) {
        $planned = $1;

    } elsif (/^(not )?ok \d+ - (.*)/) {
        ok !$1, $2;
        $ran++;
    }
}

close $out;

ok $planned && $ran == $planned, 'drive.py ran all its tests';

my $log = $t->read('error.log');

unlike $log, qr/\Q$ENV{ADMIN_SECRET}\E/, 'the log has no admin secret';
unlike $log, qr/sk-llm-[0-9A-Za-z]{40}/, 'nor that of a key';

for my $change (['POST', 'createKey', 'notebooks'],
    ['PATCH', 'changeKey', 'notebooks'], ['DELETE', 'deleteKey', 'notebooks'],
    ['PUT', 'putTeam', 'search'])
{
    my ($method, $what, $name) = @$change;
    like $log, qr/\[notice\].*\b$name\b.*client: /i, "$what: an audit line";
}

done_testing;
