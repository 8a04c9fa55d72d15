#!/usr/bin/perl

# What keys used in a day outlives a restart without Redis: after quit, stop,
# kill -9 of everything, damage, a reload with another zone, another nginx.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Path qw(remove_tree);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);
my $conf = 'llm_state %%DIR%%/state;';

rmdir $t->path('state');

$t->key("day$_", requests_per_day => 5) for 1 .. 8;
$t->key('tokens', tokens_per_day => 1000);
$t->team('team', requests_per_day => 1000);

my $mock = $t->gateway(http => $conf, redis => 0,
    server => '%%BOTH%%');

$mock->script({ prompt_tokens => 280, completion_tokens => 20 });

my $file = $t->path('state/tallies');


# the statuses of n requests, one after the other

sub statuses {
    my ($n, $key) = @_;

    return join ' ', map { $t->chat('Hello', key => $key,
        body => { max_tokens => 150 })->status } 1 .. $n;
}


# the file: name => { day => requests, month => requests, tokens => ... }

sub tallies {
    my ($text) = @_;

    $text //= $t->read('state/tallies');
    return {} if substr($text, 0, 4) ne 'nLLS';

    my (%rows, $at);

    for ($at = 16; my $len = ord substr $text, $at, 1; ) {
        my $mask = ord substr $text, $at + 1, 1;
        my $row = $rows{substr $text, $at + 2, $len} = { day => 0,
            month => 0, tokens => 0 };

        $at += 2 + $len;

        for my $i (0 .. 3) {
            next if !($mask & 1 << $i);

            my (undef, $requests, $tokens) = unpack 'L<q<q<',
                substr $text, $at, 20;
            $row->{$i < 2 ? 'day' : 'month'} += $requests;
            $row->{tokens} += $tokens if $i < 2;
            $at += 28;
        }
    }

    return \%rows;
}


sub saved { (tallies()->{"k:$_[0]"} // {})->{day} // 0 }


sub wait_saved {
    my ($key, $n, $what) = @_;

    ok $t->until(sub { saved($key) == $n }, 10), $what
        or diag "saved: " . saved($key);
}


# the log since the last call

my $read = 0;

sub news {
    my $log = $t->log;
    my $new = substr $log, $read;

    $read = length $log;

    return $new;
}


sub restart { news(); $t->start; news() }


# made by the master, for the workers

ok -d $t->path('state'), 'the directory is made';
is +(stat $t->path('state'))[2] & 0777, 0700, 'for nobody else';
is +(stat $t->path('state'))[4], $t->{user} ? getpwnam $t->{user} : $>,
    'it is the workers\'';
is +(stat $file)[2] & 0777, 0600, 'the file is there from the start';
is_deeply tallies(), {}, 'and has nothing yet';


# a graceful end and a quick one

is statuses(3, 'day1'), '200 200 200', 'three of five a day';
is statuses(2, 'tokens'), '200 200', '600 of 1000 tokens';
is $t->quit, 0, 'quit';
is saved('day1'), 3, 'the last worker saves';
is tallies()->{'k:day1'}{month}, 3, 'days and months';
is tallies()->{'k:tokens'}{tokens}, 600, 'tokens';
is tallies()->{'t:team'}{day}, 5, 'teams';
ok !-e "$file.tmp", 'nothing else is left';

like restart(), qr/tallies of "[^"]+" put back/, 'started again';
is statuses(1, 'day1'), '200', 'the fourth';
is $t->stop, 0, 'stop';
is saved('day1'), 4, 'the fourth is saved';

restart();
is statuses(2, 'day1'), '200 429', 'the fifth, and no more';
is statuses(2, 'tokens'), '200 429', 'tokens are remembered';


# both workers at a time are one saver at a time

my @workers = $t->workers;
my @r = map { $t->on($workers[$_ % 2], 'Hello', key => 'day2') } 0 .. 7;
$_->wait for @r;
is +(grep { $_->status == 200 } @r), 5, 'five of eight';
wait_saved('day2', 5, 'saved while it runs');


# once nothing happens the file is the same one

$t->reload;

my ($inode, $time) = (stat $file)[1, 9];

ok $t->until(sub { (stat $file)[9] > $time }, 10), 'looked at again';
is +(stat $file)[1], $inode, 'but not written: nothing happened';
is statuses(1, 'day2'), '429', 'a reload forgets nothing';
is statuses(1, 'day3'), '200', 'another key';
wait_saved('day3', 1, 'saved by the new workers');


# everything dies: what was saved is there, leftovers do no harm

is statuses(2, 'day4'), '200 200', 'two of five';
wait_saved('day4', 2, 'saved within seconds');
is statuses(1, 'day4'), '200', 'one more that may be lost';

$t->kill_all;
$t->write('state/tallies.tmp', 'half a fi');
restart();

my $left = 5 - saved('day4');
cmp_ok $left, '<=', 3, 'kill -9: at most the last seconds are lost';
cmp_ok $left, '>=', 2, 'and nothing comes from nowhere';
is statuses(4, 'day4'), join(' ', (200) x $left, (429) x (4 - $left)),
    'the rest can be used';
wait_saved('day4', 5, 'and is saved');
ok $t->until(sub { !-e "$file.tmp" }), 'the leftover is gone';


# while it cannot be written

chmod 0500, $t->path('state');
is statuses(1, 'day5'), '200', 'served while nothing can be saved';
ok $t->wait_log(qr/the tallies cannot be saved: open\(\) a new file failed/,
    10), 'the log tells';
chmod 0700, $t->path('state');
wait_saved('day5', 1, 'saved again');
ok $t->wait_log(qr/saved again/), 'the log tells that too';


# another zone: a reload with a larger one begins with what was saved

$t->reload(do {
    my $template = $t->{template};
    $template =~ s/llm_zone llm 16m/llm_zone llm 18m/ or die;
    $template;
});
is statuses(5, 'day5'), '200 200 200 200 429', 'a larger zone knows it';
wait_saved('day5', 5, 'and saves');


# a second nginx takes the directory over, as a binary upgrade does

{
    my $t2 = Test::LLM->new(workers => 1);
    $t2->{tenants} = $t->{tenants};
    $t2->write('tenants.json', $t->{tenants});
    my $mock2 = $t2->gateway(http => "llm_state @{[$t->path('state')]};",
        redis => 0);

    my $first = news();
    is $t2->chat('Hello', key => 'day5')->status, 429,
        'another nginx knows the tallies';
    is statuses(1, 'day6'), '200', 'the first one goes on';
    ok $t->wait_log(qr/those of this one are not saved any more/, 10),
        'but has no say any more';
    is $t2->chat('Hello', key => 'day7')->status, 200, 'the second one';
    is $t->quit, 0, 'the first one ends';
    is $t2->quit, 0, 'the second one too';
    is saved('day6'), 0, 'what the first one counted is not there';
    is saved('day7'), 1, 'what the second one counted is';
    is saved('day5'), 5, 'and what both knew';
}


# damage: nginx starts, says so and keeps the file

my $whole = $t->read('state/tallies');

for my $case (
    ['a bit', sub { substr($_[0], 40, 1) ^= "\x10" }, qr/at byte \d+/],
    ['cut', sub { $_[0] = substr $_[0], 0, -1 }, qr/it is not complete/],
    ['empty', sub { $_[0] = '' }, qr/it is not complete/],
    ['longer', sub { $_[0] .= 'x' }, qr/there is more behind its end/],
    ['other', sub { $_[0] = '{"tallies": []}' . ' ' x 100 },
        qr/it is no file of tallies/])
{
    my ($what, $break, $said) = @$case;
    my $text = $whole;

    $break->($text);
    $t->write('state/tallies', $text);
    my $log = restart();

    like $log, qr/\[error\] .*tallies" cannot be used: .*$said/, "$what: said";
    is $t->read('state/tallies.bad'), $text, "$what: kept aside";
    is statuses(1, 'day5'), '200', "$what: the tallies begin anew";
    is $t->quit, 0, "$what: the end";
    is_deeply [sort keys %{tallies()}], ['k:day5', 't:team'],
        "$what: a good file follows";
}

unlike $t->log, qr/put back.*\n.*cannot be used/, 'never half of it';


# a name that is not a file

unlink $file;
symlink $t->path('tenants.json'), $file;
like restart(), qr/tallies" cannot be used/, 'a link is not followed';
is $t->quit, 0, 'quit';
ok -f $file && !-l $file, 'and is replaced';
unlink $t->path('state/tallies.bad');


# what nginx -t says

my $template = $t->{template};

sub refused {
    my ($dir, $said, $what) = @_;

    (my $text = $template) =~ s/%%HTTP%%/llm_state $dir;/;
    my ($ok, $out) = $t->test_config($text);

    ok !$ok, "$what: refused";
    like $out, $said, "$what: clear";
}

my $before = (stat $file)[1];
my ($ok, $out) = $t->test_config($template);
ok $ok, 'nginx -t' or diag $out;
is +(stat $file)[1], $before, 'writes nothing';

(my $relative = $template) =~ s/%%HTTP%%/llm_state there\/;/;
($ok, $out) = $t->test_config($relative);
ok $ok && -d $t->path('there'), 'a relative path' or diag $out;

refused('%%DIR%%/tenants.json', qr/tenants\.json": expected a directory in /,
    'a file');
refused('%%DIR%%/no/state', qr/no\/state" failed \(2: No such file/,
    'no parent');
refused('%%DIR%%/tenants.json/state', qr/tenants.json\/state" cannot be/,
    'below a file');
refused('/proc/llm', qr/mkdir\(\) "\/proc\/llm" failed/, 'nowhere');
refused('%%DIR%%/tmp', qr/that is empty or its own, found "\w+" in it/,
    'somebody else\'s');
refused('a; llm_state b', qr/"llm_state" directive is duplicate/, 'twice');

if ($>) {
    mkdir $t->path('closed'), 0500;
    refused('%%DIR%%/closed', qr/expected a directory that can be written/,
        'a directory that is closed');
}

done_testing;
