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
my $socket = 'unix:' . $t->path('internal.sock');
$t->gateway(redis => 1, location => 'llm_cache on;',
    http => "llm_tasks on run=off; llm_internal $socket;",
    server => "listen $socket;", admin => '
        location /admin/v1/ { llm_admin file:%%DIR%%/admin-secret; }');
$ENV{API_URL} = 'http://127.0.0.1:' . $t->port('PORT_ADMIN') . '/admin/v1';

is $t->chat('hello', key => 'user')->status, 200, 'something was used';
task('task-Kx9fPq2mVb7TzR4nLw8sHd3J', 'lab');
task('task-000000000000000000000000', 'search');

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

like $log, qr/\[notice\].*cancel task "task-Kx9f\w+" by /,
    'cancelTask: an audit line';

done_testing;


# a task that waits, with the id of the example

sub task {
    my ($id, $team) = @_;

    open my $in, '<', "$FindBin::Bin/../ngx_module/tasks/queue.lua" or die;
    my $script = do { local $/; <$in> };

    my $reply = $t->{redis}->command(EVAL => $script, 1, '{llm}:t:', 'submit',
        1, 0, 0, 64, '', '', 3600000, 0, 1, $team, 'user', '', '', '', 0,
        3600000, '', $id, 0, 'body');
    is $reply->[0], 'ok', "a task of $team";
}
