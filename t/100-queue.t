#!/usr/bin/perl

# The scripts of the task queue (tasks/queue.lua) in a real Redis: each
# operation and refusal, then thousands of steps drawn by lot, after each of
# which all that Redis has must be what a model in this file expects, also
# when Redis was killed in the middle of one; what a task costs.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha1_hex);
use List::Util qw(min max shuffle);
use Storable qw(dclone);
use Time::HiRes qw(time sleep);

use Test::LLM;


my $P = '{llm}:t:';
my $HOUR = 3600000;
my $script = slurp("$FindBin::Bin/../ngx_module/tasks/queue.lua");
my $sha = sha1_hex($script);
my $t = Test::LLM->new;

# one that is killed has written what it confirmed; with everysec it holds that
# back while the disk is busy
my $redis = $t->redis(appendonly => 'yes', appendfsync => 'no');
my $tokens = 0;
my $names = 0;

unlike $script, qr/[^\x00-\x7f]/, 'plain ASCII';

submits();
claims();
ends();
comes_back();
priorities();
windows();
holds();
halves();
many_held();
cancels();
crashes();
batches();
reads();
drops();
tells();
todos();
hooks();
full_redis();

model(0);
model(1);

cost();

done_testing;


# The operations with what most of these tests do not care for left out.

sub call_raw {
    my @words = (1, $P, @_);

    my $reply = eval { [$redis->command(EVALSHA => $sha, @words)] };
    return $reply->[0] if $reply;

    die $@ if $@ !~ /NOSCRIPT/;
    return $redis->command(EVAL => $script, @words);
}


sub submit_words {
    my ($ids, %o) = @_;

    return (submit => $o{need} // scalar @$ids, $o{max} // 0,
        $o{team_max} // 0, $o{window} // 64, $o{idem} // '',
        $o{value} // '', $HOUR, $o{check} // 0, $o{class} // 1,
        $o{team} // 'red', $o{owner} // 'key', $o{flags} // '',
        $o{webhook} // '', $o{batch} // '', $o{deadline} // 0,
        $o{keep} // $HOUR, $o{metadata} // '', map { ($_, $o{line} // 7,
        $o{body} // "body $_") } @$ids);
}


sub claim_words {
    my ($n, %o) = @_;

    return (claim => $o{consumer} // 'g:1', $n, $o{token} // token(),
        $o{lease} // 100000, $o{every} // 0, $o{order} // '012',
        $o{bytes} // 1e6, $o{window} // 64, $o{deaths} // 2, $HOUR,
        'is poison', 'has crashed', 'is late', $HOUR);
}


sub submit { call_raw(submit_words(@_)) }
sub claim  { call_raw(claim_words(@_)) }


# ([id, token], ...) of jobs that were claimed

sub got {
    my ($n, %o) = @_;

    my $token = $o{token} // token();
    my $reply = claim($n, %o, token => $token);

    return map { [$_->[0], $token] } @{$reply->[0]};
}


sub ids_of { join ' ', map { $_->[0] } @_ }


sub end_words {
    my ($jobs, %o) = @_;

    return (end => $o{window} // 64, $HOUR, map { (@$_,
        $o{state} // 'completed', $o{result} // 'the result', $o{error} // '',
        $o{usage} // '', $o{ttl} // $HOUR, $o{reason} // '') } @$jobs);
}


sub finish { join ' ', @{call_raw(end_words(@_))} }


sub retry {
    my ($jobs, %o) = @_;
    return join ' ', @{call_raw('retry', $o{window} // 64, $HOUR, map { (@$_,
        $o{delay} // 0, $o{counts} // 1, $o{error} // '') } @$jobs)};
}


sub hold {
    my ($jobs, %o) = @_;
    return join ' ', @{call_raw('hold', $o{window} // 64, $HOUR,
        map { (@$_, $o{delay} // 60000) } @$jobs)};
}


# the time of a held team is over

sub go {
    my ($ct) = @_;
    $redis->command(ZADD => "${P}held", 'XX', 1, $ct);
    $redis->command(HSET => "${P}stat", "h:$ct", 1);
}


sub release { join ' ', @{call_raw('release', 64, $HOUR, map { @$_ } @_)} }
sub beat { join ' ', @{call_raw('beat', 'g:1', map { (@$_, '') } @_)} }
sub cancel { join ' ', @{call_raw('cancel', 'red', $HOUR, @_)} }
sub token { 'token' . ++$tokens }
sub names { map { 'task-' . ++$names } 1 .. $_[0] }


sub job { $redis->command(HGET => "${P}job:$_[0]", $_[1]) }
sub stat_of { $redis->command(HGET => "${P}stat", $_[0]) // 0 }
sub swept { my %s = @{call_raw('sweep', $HOUR, $HOUR)}; $s{$_[0]} }
sub left { max(0, $redis->command(PTTL => "${P}job:$_[0]")) }


# nothing may be left behind

sub clean {
    my ($what) = @_;

    my %s = @{call_raw('sweep', $HOUR, $HOUR)};
    my @left = map { "$_=$s{$_}" } grep { $s{$_} } qw(queued processing
        delayed length0 length1 length2 pending0 pending1 pending2 oldest);
    my @teams = grep { /:/ } @{$redis->command(HKEYS => "${P}stat")};
    my @backlogs = @{$redis->command(KEYS => "${P}b:*")};

    is "@left @teams @backlogs", '  ', "$what: nothing is left";
    $redis->command('FLUSHALL');
}


sub slurp {
    open my $in, '<', $_[0] or die "$_[0]: $!\n";
    local $/;
    return <$in>;
}


sub submits {
    my @id = names(3);

    is_deeply submit(\@id), ['ok', 3, 3], 'three submitted';
    is job($id[0], 's'), 'queued', 'one is queued';
    is job($id[0], 'b'), "body $id[0]", 'its body';
    is left($id[0]), 0, 'a queued one never expires';
    is stat_of('n:red'), 3, 'its team has three';
    is swept('oldest') < 5000, 1, 'the age of the oldest';

    is_deeply submit([names(2)], max => 4), ['full', 'queue', 4, 3],
        'one too many for the queue';
    is_deeply submit([names(2)], team_max => 4), ['full', 'team', 4, 3],
        'or for the team';
    is swept('length1'), 3, 'nothing of a refused call stays';
    is_deeply submit([names(1)], max => 4, need => 0), ['ok', 1, 4],
        'no look for room when none is asked for';
    is_deeply submit([names(1)], team => 'blue', team_max => 1),
        ['ok', 1, 5], 'another team has its own room';

    my @more = (@id, names(1));
    is_deeply submit(\@more, check => 1), ['ok', 1, 6],
        'one of four is new, the others are passed over';

    my @named = names(1);
    is_deeply submit(\@named, idem => 'key:1', value => "print @named"),
        ['ok', 1, 7], 'with an idempotency name';
    is_deeply submit([names(1)], idem => 'key:1', value => 'other', max => 1),
        ['again', "print @named"], 'the same name again gives what was left';
    is stat_of('queued'), 7, 'and submits nothing';
    cmp_ok $redis->command(PTTL => "${P}idem:key:1"), '>', $HOUR - 60000,
        'it is forgotten in time';
    is_deeply submit([names(1)], idem => 'key:2', max => 7),
        ['full', 'queue', 7, 7], 'a refused one';
    is $redis->command(EXISTS => "${P}idem:key:2"), 0, 'leaves no name';

    like error(sub { submit([names(1)], class => 3) }), qr/wrong arguments/,
        'a class that there is not';
    like error(sub { submit([map { "x$_" } 1 .. 201]) }), qr/wrong arguments/,
        'more than a call may have';
    like error(sub { call_raw('nonsense') }), qr/no such operation/,
        'an operation that there is not';

    is $redis->command(ZCARD => "${P}team:red"), 6, 'the index of the team';
    cmp_ok $redis->command(PTTL => "${P}team:red"), '>', $HOUR - 60000,
        'is not kept for ever';
    sleep 0.25;
    submit([names(1)], keep => 200);
    is $redis->command(ZCARD => "${P}team:red"), 1, 'and trimmed by age';

    finish([got(20)]);
    clean('submit');
}


sub error { eval { $_[0]->() }; $@ }


sub claims {
    my @id = names(13);

    is_deeply claim(5), [[], []], 'a claim before there is a stream';

    submit([$id[0]], class => 0, batch => 'batch_1', line => 3,
        webhook => 'https://hook', owner => 'me',
        deadline => '9000000000000000');
    my $reply = claim(5, token => 'T');
    my ($job) = @{$reply->[0]};
    cmp_ok abs(time - $job->[6] / 1000), '<', 60, 'when it was created';
    splice @$job, 6, 1;
    is_deeply $job, [$id[0], 0, 'red', 'me', 1, 0, 'batch_1', 3, '',
        'https://hook', '9000000000000000', "body $id[0]"], 'all of a job';
    is job($id[0], 's'), 'processing', 'it is running';
    is beat([$id[0], 'T']), '1', 'a sign of life';
    is beat([$id[0], 'U'], [$id[1], 'T']), '0 0', 'of others, none';
    is join(' ', @{call_raw('beat', 'g:1', $id[0], 'T', '50')}), '1',
        'with progress';
    is job($id[0], 'g'), 50, 'which is written down';
    finish([[$id[0], 'T']]);

    # bodies

    submit([@id[1 .. 12]], body => 'x' x 1000);
    is scalar(got(8, bytes => 5500)), 6, 'no more than fit, but for the last';
    is scalar(got(8, bytes => 1)), 4, 'at least the first few';
    is scalar(got(8, bytes => 1)), 2, 'and all';
    like error(sub { claim(1, token => '') }), qr/wrong arguments/,
        'a token is needed';
    call_raw('purge', 'red', 0, 100);
    is stat_of('processing'), 12, 'what runs is not purged';
    $redis->command('FLUSHALL');

    is_deeply claim(5), [[], []], 'a claim after all was lost';
    $redis->command('FLUSHALL');

    # a job that is lost

    submit([names(3)], window => 1);
    my $lost = $names - 2;
    $redis->command(DEL => "${P}job:task-$lost");
    my @got = got(3, window => 1);
    is ids_of(@got), 'task-' . ($lost + 1), 'a lost job is dropped, the next '
        . 'one comes in';
    finish([@got], window => 1);
    finish([got(1, window => 1)], window => 1);
    clean('claim');
}


sub ends {
    my @id = names(4);

    submit(\@id, deadline => 0);
    my @got = got(4);
    is ids_of(@got), "@id", 'in their order';

    is finish([$got[0]], usage => '{"cost":1}'), '1', 'one completes';
    is job($id[0], 's') . job($id[0], 'r') . job($id[0], 'u') . job($id[0],
        'b'), 'completedthe result{"cost":1}', 'result, usage, no body';
    cmp_ok left($id[0]), '>', $HOUR - 60000, 'it is not kept for ever';
    is finish([$got[0]], result => 'other'), '2', 'the same once more';
    is finish([[$id[0], 'stale']]), '0', 'by a token that is not its own';
    is job($id[0], 'r'), 'the result', 'changes nothing';
    is finish([['task-x', 'T']]), '-1', 'an unknown one';

    is finish([$got[1]], state => 'error', result => '', error => 'why',
        reason => 'attempts', ttl => 50), '1', 'one fails';
    my $dead = $redis->command(XRANGE => "${P}dead", '-', '+');
    is "@{$dead->[0][1]}", "id $id[1] team red reason attempts attempts 1 "
        . 'deaths 0', 'and is among the dead';
    ok $t->until(sub { !defined job($id[1], 's') }), 'it expires';

    is finish([$got[2], [$id[0], 'X'], $got[3]], state => 'cancelled'),
        '1 0 1', 'several at once';
    like error(sub { finish([$got[3]], state => 'queued') }),
        qr/wrong arguments/, 'a state that is no end';
    is stat_of('completed') . stat_of('error') . stat_of('cancelled'), '112',
        'the counters';

    sleep 0.005;
    call_raw('sweep', 1, $HOUR);
    is $redis->command(XLEN => "${P}dead"), 0, 'the dead are forgotten';
    clean('end');
}


sub comes_back {
    my @id = names(3);

    # retries

    submit(\@id);
    my @got = got(3);
    is retry([@got[0, 1]], delay => 40, error => 'later'), '1 1', 'two again';
    is retry([$got[0]]), '0', 'but once';
    is beat($got[0]), '0', 'it is not theirs any more';
    is job($id[0], 's') . job($id[0], 'a') . job($id[0], 'e'), 'queued1later',
        'it waits';
    is swept('delayed'), 2, 'with another one';
    is ids_of(got(3)), '', 'it is not due';
    sleep 0.05;
    my @again = got(3);
    is ids_of(@again), "@id[0, 1]", 'now it is';
    is job($id[0], 'a'), 2, 'a second attempt';
    is retry([$again[0]], counts => 0), '1', 'again, without counting';
    @again = ($again[1], got(1));
    is job($id[0], 'a'), 2, 'still the second';
    is retry([['task-x', 'T'], [$id[0], 'T']]), '-1 0', 'unknown, stale';

    # what is released comes first and costs nothing

    my @new = names(2);
    submit(\@new);
    is release($got[2], ['task-x', 'T']), '1 -1', 'one is handed back';
    is release($got[2]), '0', 'but once';
    is job($id[2], 's') . job($id[2], 'a'), 'queued0', 'as if not tried';
    my @first = got(1, every => $HOUR);
    is ids_of(@first), $id[2], 'it is the first again';
    is job($id[2], 'd') . job($id[2], 'a'), '01', 'and nothing died';
    finish([@again, @first, got(2)]);
    clean('retry and release');
}


sub priorities {
    my @low = names(2);
    my @normal = names(2);
    my @high = names(2);

    submit(\@low, class => 2);
    submit(\@normal);
    submit(\@high, class => 0);

    my @got = (got(3), got(1, order => '210'));
    is ids_of(@got), "@high $normal[0] $low[0]", 'by priority, as one wishes';
    push @got, got(9, order => '1');
    is ids_of(@got[4 .. $#got]), $normal[1], 'of one class';
    finish([@got, got(9)]);
    clean('priorities');
}


sub windows {
    my @many = names(150);
    my @few = names(1);

    submit([@many[0 .. 99]], team => 'many', window => 4);
    submit([@many[100 .. 149]], team => 'many', window => 4);
    submit(\@few, team => 'few', window => 4);
    is stat_of('b:1:many'), 146, 'most wait in the backlog';
    is swept('length1'), 5, 'few are in the stream';

    my @got = got(50, window => 4);
    is ids_of(@got), "@many[0 .. 3] @few", 'one of another team is not '
        . 'behind all of them';
    is ids_of(got(5, window => 4)), '', 'no more at a time';
    finish([@got], window => 4);
    @got = got(50, window => 4);
    is ids_of(@got), "@many[4 .. 7]", 'then the next four';
    retry([$got[0]], window => 4, delay => 0);
    finish([@got[1 .. 3]], window => 4);

    # a retry that finds the window full is the first of the backlog

    @got = got(50, window => 4);
    is ids_of(@got), "@many[8 .. 11]", 'who waited before comes in';
    finish([@got], window => 4);
    @got = got(50, window => 4);
    is ids_of(@got), "@many[4, 12 .. 14]", 'but a retry before the others';

    my $done = 16;
    finish([@got], window => 60);
    is swept('length1'), 60, 'a larger window';

    while (@got = got(50, window => 60)) {
        $done += @got;
        finish([@got], window => 60);
    }

    is $done, 151, 'all came';
    clean('windows');
}


sub holds {
    my @id = names(8);

    submit(\@id, window => 4);
    submit([names(1)], team => 'blue', window => 4);
    my @got = got(2, window => 4);
    is hold([@got, ['task-x', 'T']], window => 4), '1 1 -1', 'two are held';
    is hold([$got[0]], window => 4), '0', 'but once';
    is finish([$got[1]], window => 4), '0', 'they are not theirs any more';
    is job($id[0], 's') . job($id[0], 'a') . stat_of('retries'), 'queued00',
        'as if not tried';
    is "@{$redis->command(ZRANGE => ${P} . 'b:1:red', 0, -1)}",
        "@id[0, 1, 4 .. 7]", 'they are the first of the backlog';
    cmp_ok abs($redis->command(ZSCORE => "${P}held", '1:red') - time * 1000
        - 60000), '<', 30000, 'for a minute at most';

    my @blue = got(9, window => 4);
    is ids_of(@blue), "task-$names", 'what others have runs';
    is "@{$redis->command(ZRANGE => ${P} . 'b:1:red', 0, -1)}", "@id",
        'what of it was in the stream has gone back, too';
    is stat_of('w:1:red') . stat_of('b:1:red') . stat_of('queued'), '088',
        'counters';
    my @late = names(1);
    submit(\@late, window => 4);
    finish(\@blue, window => 4);
    is ids_of(got(9, window => 4)), '', 'nobody is let in';
    submit([names(1)], class => 0, window => 4);
    finish([my @high = got(9, window => 4)], window => 4);
    is scalar(@high), 1, 'but in another class';

    # what comes back from elsewhere meanwhile waits as well

    is cancel($id[7]), 'cancelled', 'one of a backlog that is held';
    go('1:red');
    @got = got(9, window => 4);
    is ids_of(@got), "@id[0, 1]", 'then half of the window is let in, though '
        . 'nothing of it ran';
    is $redis->command(EXISTS => "${P}held") . stat_of('h:1:red'), '00',
        'nobody is held any more';
    cancel($id[1]);
    is hold([@got], window => 4, delay => 60), '1 3', 'one that is to be '
        . 'cancelled is, instead';
    is job($id[1], 's'), 'cancelled', 'it is';
    sleep 0.08;
    @got = got(9, window => 4);
    is ids_of(@got), $id[0], 'half of a half';
    is retry([@got], window => 4, delay => 0), '1', 'a retry';
    @got = got(1, window => 4);
    release(@got);
    submit([my $other = (names(1))[0]], window => 4, team => 'blue');
    @blue = got(1, window => 4, order => '1', every => $HOUR);
    is ids_of(@blue), ids_of(@got), 'one that was handed back';
    hold([@blue], window => 4);
    is ids_of(@blue = got(9, window => 4)), $other, 'is held as well';
    finish(\@blue, window => 4);

    go('1:red');
    my $n = 0;

    while (@got = got(9, window => 4)) {
        $n += @got;
        finish([@got], window => 4);
    }

    is $n, 7, 'all come to an end';
    clean('hold');

    # one that was handed back while its team is held is not run either

    submit([@id = names(3)], window => 4);
    @got = got(3, window => 4);
    release($got[0]);
    hold([$got[1]], window => 4);
    is ids_of(got(3, window => 4)), '', 'not what is handed back';
    is stat_of('b:1:red'), 2, 'but into the backlog';
    is finish([$got[2]], window => 4), '1', 'what runs ends';
    is ids_of(got(3, window => 4)), '', 'and lets nobody in';
    go('1:red');
    finish([got(3, window => 4)], window => 4);
    finish([got(3, window => 4)], window => 4);
    clean('held and handed back');
}


# windows of their own

sub halves {
    my @id = names(60);
    my $v = sub { stat_of('v:1:red') };

    submit([@id], window => 16);
    my @got = got(16, window => 16);
    hold([@got[0 .. 3]], window => 16);
    is $v->(), 8, 'the window is half of it';
    hold([$got[4]], window => 16);
    is $v->(), 8, 'and no less by those that ran beside them';
    finish([@got[5 .. 11]], window => 16);
    is $v->(), 8, 'seven more completed';
    finish([$got[12]], window => 16, state => 'error');
    is $v->(), 8, 'what fails does not count';
    finish([$got[13]], window => 16);
    is $v->(), 9, 'eight: it grows by one';
    finish([@got[14, 15]], window => 16);
    go('1:red');
    @got = got(50, window => 16);
    is scalar(@got), 9, 'so many come in';
    is swept('length1'), 9, 'and no more are in the stream';

    submit([my @new = names(2)], window => 16);
    is ids_of(got(9, window => 16)), '', 'whoever comes new waits behind';

    my $ended = 0;

    while (@got) {
        finish([@got], window => 10);
        last if !$v->();
        $ended += @got;
        @got = got(50, window => 10);
    }

    is $v->() . stat_of('g:1:red'), '00', 'the full window is forgotten';
    is swept('length1'), 10, 'and is in use';

    hold([got(1, window => 10)], window => 10, delay => 51);
    is $v->(), 5, 'half of it again';
    sleep 0.07;
    finish([@got], window => 10) while @got = got(50, window => 10);
    is $v->(), 0, 'forgotten when nobody is left';
    clean('windows of their own');

    submit([$id[0]], window => 1);
    hold([got(1, window => 1)], window => 1, delay => 1);
    is $v->(), 0, 'a window of one stays one';
    sleep 0.01;
    finish([got(1, window => 1)], window => 1);
    clean('a window of one');

    submit([my @few = names(17)], window => 16);
    @got = got(17, window => 16);
    hold([$got[0]], window => 16, delay => 50);
    is $v->(), 14, 'one too many takes an eighth';
    sleep 0.07;
    finish([@got[1 .. 15]], window => 16);
    finish([@got], window => 16) while @got = got(50, window => 16);
    clean('an eighth');
}


# more teams than one call lets in, and none of them has anything that runs

sub many_held {
    my @teams = map { "team$_" } 1 .. 12;
    my (@got, $n);

    submit([names(60)], team => $_, window => 60) for @teams;

    while (my @more = got(200, window => 60, order => '1')) {
        push @got, @more;
    }

    is scalar(@got), 720, 'all of many teams run';
    hold([splice @got, 0, 60], window => 60) while @got;
    is $redis->command(ZCARD => "${P}held"), 12, 'all teams are held';
    go("1:$_") for @teams;

    for (1 .. 100) {
        my @more = got(20, window => 60) or last;
        $n += @more;
        finish([@more], window => 60);
    }

    is $n, 720, 'all teams came in again';
    clean('many teams held');

    # windows that were small and are large now

    submit([names(100)], team => $_, window => 1) for @teams;
    @got = got(12, window => 1);
    is scalar(@got), 12, 'one of each';
    finish([@got], window => 64);
    my %in = map { $_ => stat_of("w:1:$_") } @teams;
    is scalar(grep { $in{$_} } @teams), 12, 'each has let in another';

    while (my @more = got(200, window => 64)) {
        finish([@more], window => 64);
    }

    clean('windows that grew');
}


sub cancels {
    my @id = names(8);

    submit([@id[0 .. 5]], window => 4);
    my @got = got(2, window => 4);
    retry([$got[0]], window => 4, delay => $HOUR);

    # 0 delayed, 1 runs, 2 3 and 4 in the stream, 5 in the backlog

    is call_raw('cancel', 'blue', $HOUR, $id[0])->[0], 'unknown',
        "another team's";
    is cancel('task-x', @id[0, 1, 2, 5]), 'unknown cancelled flagged '
        . 'cancelled cancelled', 'in each state';
    is cancel(@id[0, 1, 2, 5]), 'was cancelled flagged was cancelled was '
        . 'cancelled', 'once more';
    cmp_ok left($id[0]), '>', 0, 'it is not kept for ever';
    is left($id[2]), 0, 'one in the stream is, until its entry is dropped';
    is stat_of('queued') . stat_of('processing'), '21', 'counters';
    is beat($got[1]), '2', 'who runs it hears of it';
    is finish([$got[1]], state => 'cancelled'), '1', 'and ends it';
    is ids_of(my @rest = got(9, window => 4)), "@id[3, 4]",
        'the cancelled never run';
    cmp_ok left($id[2]), '>', 0, 'and are forgotten in time';

    cancel(@id[3, 4]);
    is retry([$rest[0]]), '3', 'no retry of one that is to be cancelled';
    is release($rest[1]), '3', 'nor is it handed back';
    is job($id[3], 's') . job($id[4], 's'), 'cancelled' x 2, 'it is cancelled';

    submit([@id[6, 7]]);
    @got = got(2);
    release($got[0]);
    is cancel(@id[6, 7]), 'cancelled flagged', 'one that was handed back';
    is finish([$got[1]]), '1', 'a result that is there is taken';
    is job($id[7], 's'), 'completed', 'it was paid for';
    is ids_of(got(2)), '', 'no one is left';
    clean('cancel');

    # a purge

    submit([@id[0 .. 5]], window => 3);
    @got = got(3, window => 3);
    finish([$got[0]], window => 3);
    is_deeply call_raw('purge', 'red', 0, 4), [2, 2, 4], 'four of a purge';
    is_deeply call_raw('purge', 'red', 2, 4), [2, 0, 2], 'and the others';
    is $redis->command(EXISTS => "${P}job:$id[0]"), 0, 'what ended is gone';
    is finish([@got[1, 2]], state => 'cancelled'), '1 1', 'what ran ends';
    got(9);
    sleep 0.01;
    is scalar(@{$redis->command(KEYS => "${P}job:*")}), 2, 'the rest is gone';
    clean('purge');
}


sub crashes {
    my @id = names(5);

    submit([$id[0]]);
    my ($stale) = got(1);
    sleep 0.005;
    is ids_of(got(1, lease => 100000)), '', 'its lease is not over';
    is ids_of(got(1, lease => 1, every => $HOUR)), '', 'nobody looked for it';
    my ($second) = got(1, lease => 1);
    is $second->[0], $id[0], 'now it runs elsewhere';
    is job($id[0], 'd') . job($id[0], 'a'), '12', 'one death, two attempts';
    is finish([$stale], result => 'old'), '0', 'who held it before may not '
        . 'end it';
    is retry([$stale]) . release($stale) . beat($stale), '000', 'nor anything';

    sleep 1.1;
    beat($second);
    is ids_of(got(1, lease => 1000)), '', 'a sign of life keeps it';

    sleep 0.005;
    got(1, lease => 1);
    sleep 0.005;
    my $reply = claim(1, lease => 1);
    is_deeply $reply, [[], [[$id[0], 'error', 'poison', 'red', '', '']]],
        'one death too many';
    is job($id[0], 's') . job($id[0], 'e'), 'erroris poison', 'is its end';
    is $redis->command(XRANGE => "${P}dead", '-', '+')->[0][1][5], 'poison',
        'and it is among the dead';

    # who wants no second run, is to be cancelled, or is late

    submit([$id[1]], flags => 'f');
    submit([$id[2]]);
    my @got = got(2);
    cancel($id[2]);
    submit([$id[3]], deadline => 5, batch => 'b9', webhook => 'w');
    sleep 0.005;
    $reply = claim(3, lease => 1);
    is_deeply $reply, [[], [[$id[1], 'error', 'crash', 'red', '', ''],
        [$id[2], 'cancelled', 'cancelled', 'red', '', ''],
        [$id[3], 'error', 'deadline', 'red', 'w', 'b9']]], 'ends of others';
    is finish([@got]), '0 0', 'those who ran them come too late';
    is stat_of('deaths'), 5, 'deaths';


    # who is known to be gone, and a claim whose reply was lost

    my @more = names(3);
    submit([@more[0, 1]]);
    submit([$more[2]], flags => 'f');
    claim(2, token => 'lost');
    is call_raw('recall', 64, $HOUR, 'g:1', 'other'), 0, 'not its claim';
    is call_raw('recall', 64, $HOUR, 'g:2', 'lost'), 0, 'not its consumer';
    is call_raw('recall', 64, $HOUR, 'g:1', 'lost'), 2, 'a lost reply';
    @got = got(3);
    is ids_of(@got), "@more", 'what was in it is claimed at once';
    is job($more[0], 'd') . job($more[0], 'a'), '01', 'and has not died';
    is call_raw('recall', 64, $HOUR, 'g:1', ''), 3, 'a process is gone';
    $reply = claim(3);
    is "@{[map { $_->[0] } @{$reply->[0]}]}", "@more[0, 1]",
        'others have its jobs';
    is $reply->[1][0][2], 'crash', 'but the one that may not run twice';
    is job($more[0], 'd'), 1, 'they have died once';
    is finish([@got]), '0 0 0', 'it was not gone, but is too late';
    call_raw('recall', 64, $HOUR, 'g:1', '');
    finish([got(2)]);

    # consumers

    is scalar(@{$redis->command(XINFO => 'CONSUMERS', "${P}q:1", 'run')}), 2,
        'a consumer, and the one of what was given up';
    sleep 0.005;
    call_raw('sweep', $HOUR, 1);
    is scalar(@{$redis->command(XINFO => 'CONSUMERS', "${P}q:1", 'run')}), 0,
        'are forgotten when they have nothing';
    clean('crashes');
}


sub batches {
    my @id = names(4);
    my $key = "${P}batch:batch_1";

    $redis->command(HSET => $key, lines => 4);
    submit(\@id, batch => 'batch_1');
    my @got = got(2);
    finish([$got[0]]);
    finish([$got[1]], state => 'error');
    is $redis->command(ZCARD => "${P}ended"), 0, 'it goes on';
    cancel($id[2]);
    finish([got(2)]);
    is "@{$redis->command(HMGET => $key, qw(completed error cancelled))}",
        '2 1 1', 'the counts of a batch';
    is "@{$redis->command(ZRANGE => ${P} . 'ended', 0, -1)}", 'batch_1',
        'it has ended';
    is_deeply [map { $_->[0] } @{call_raw('todo', 9, $HOUR)}], ['b:batch_1'],
        'which is dealt with at once';

    submit([names(1)], batch => 'batch_2');
    finish([got(1)]);
    is $redis->command(EXISTS => "${P}batch:batch_2"), 0,
        'a batch that is gone is not begun again';
    clean('batches');
}


sub reads {
    my @id = names(2);

    submit([$id[0]]);
    submit([$id[1]], team => 'blue');
    is_deeply call_raw('get', 'red', 2, 's', 'r', @id, 'task-x'),
        [['queued', undef], undef, undef], "a team's own";
    is_deeply call_raw('get', '*', 1, 't', @id), [['red'], ['blue']], 'all';
    finish([got(2)]);
    clean('get');
}


# metadata, and what is removed for good

sub drops {
    my @id = names(5);

    submit([@id[0 .. 3]], metadata => '{"a":"b"}');
    submit([$id[4]]);
    is_deeply call_raw('get', 'red', 2, 'm', 's', @id[0, 4]),
        [['{"a":"b"}', 'queued'], [undef, 'queued']], 'metadata';
    my @got = got(2);
    finish([$got[0]]);
    cancel($id[2]);
    is call_raw('drop', @id[0 .. 3], 'task-x'), 2, 'two have ended';
    is $redis->command(EXISTS => "${P}job:$id[0]"), 0, 'one is gone';
    is "@{[sort @{$redis->command(ZRANGE => ${P} . 'team:red', 0, -1)}]}",
        join(' ', sort @id[1, 3, 4]), 'both from the index, too';
    is job($id[2], 'z'), 1, 'the other one when its entry is';
    is call_raw('drop', $id[0]), 0, 'once more';
    finish([$got[1], got(9)]);
    ok $t->until(sub { !defined job($id[2], 's') }), 'then it is gone';
    is call_raw('drop', @id), 3, 'the rest';
    is "@{$redis->command(KEYS => ${P} . 'job:*')}"
        . $redis->command(EXISTS => "${P}team:red"), 0, 'of all nothing';
    clean('drop');
}


sub tells {
    my @id = names(6);

    is_deeply call_raw('dead', 5), [], 'nobody is dead';
    is_deeply call_raw('teams', 5), [], 'and nobody lives';

    submit([@id[0 .. 2]]);
    my @got = got(2);
    finish([$_], state => 'error', reason => 'why') for @got;
    my @dead = @{call_raw('dead', 5)};
    cmp_ok abs(time - $dead[0][5] / 1000), '<', 60, 'when it died';
    is_deeply [map { [@$_[0 .. 4]] } @dead], [map { [$_, 'red', 'why', 1, 0] }
        @id[1, 0]], 'the dead, the newest first';
    is scalar(@{call_raw('dead', 1)}), 1, 'as many as one likes';

    submit([$id[3]], team => 'a:b', class => 0);
    submit([@id[4, 5]], team => 'a:b');
    is_deeply call_raw('teams', 5), [['a:b', 3], ['red', 1]], 'teams';
    is_deeply call_raw('teams', 1), [['a:b', 3]], 'the one with most';
    finish([got(9)]);
    clean('dead and teams');
}


# things to do

sub todos {
    my $todo = sub { @{call_raw('todo', @_)} };
    my $done = sub { join ' ', @{call_raw('todo-done', @_)} };
    my $keep = sub { join ' ', @{call_raw('todo-keep', @_)} };

    is_deeply [$todo->(9, 1000)], [], 'nothing to do';
    is call_raw('todo-add', 'b:1', 0), 1, 'one thing';
    call_raw('todo-add', 'b:2', 0);
    call_raw('todo-add', 'b:3', $HOUR);
    my @got = $todo->(1, $HOUR);
    is $got[0][0], 'b:1', 'the first';
    is $redis->command(HGET => "${P}doing", 'b:1'), $got[0][1],
        'everybody can see who does it';
    push @got, $todo->(9, 20);
    is "@{[map { $_->[0] } @got]}", 'b:1 b:2', 'two are due';
    cmp_ok $got[0][1], '<', $got[1][1], 'tokens grow';
    is scalar($todo->(9, 20)), 0, 'they are being done';
    is $keep->($HOUR, @{$got[0]}, 'b:2', 'other', 'b:9', ''), '1 0 0',
        'signs of life';

    sleep 0.03;
    my @again = $todo->(9, $HOUR);
    is $again[0][0], 'b:2', 'who did it has been silent for too long';
    is $keep->($HOUR, @{$got[1]}) . $done->(@{$got[1]}, -1), '00',
        'it is not theirs any more';
    is $done->(@{$again[0]}, 0, 'b:9', 'T', 0), '1 0', 'it comes again';
    is $keep->($HOUR, @{$again[0]}), '0', 'and is nobody\'s';
    @again = $todo->(9, $HOUR);
    is $again[0][0], 'b:2', 'at once';
    is $done->(@{$again[0]}, -1), '1', 'and is over';
    is $redis->command(HGET => "${P}doing", 'b:2'), undef, 'nobody does it';

    # one more wish while it is being done

    call_raw('todo-add', 'b:1', 0);
    is scalar($todo->(9, $HOUR)), 0, 'nobody else begins with it';
    is $done->(@{$got[0]}, $HOUR), '1', 'who does it would come in an hour';
    @got = $todo->(9, $HOUR);
    is $got[0][0], 'b:1', 'but it comes at once';
    call_raw('todo-add', 'b:1', 60);
    call_raw('todo-add', 'b:1', 40);
    call_raw('todo-add', 'b:1', $HOUR);
    is $done->(@{$got[0]}, -1), '1', 'who thinks that it is over';
    is scalar($todo->(9, $HOUR)), 0, 'not yet';
    sleep 0.05;
    @got = $todo->(9, 1);
    is $got[0][0], 'b:1', 'does it once more';
    call_raw('todo-add', 'b:1', $HOUR);
    sleep 0.005;
    @got = $todo->(9, $HOUR);
    is $done->(@{$got[0]}, -1), '1', 'a wish that another one has fulfilled';
    is $redis->command(ZSCORE => "${P}todo", 'b:1'), undef, 'is none';

    call_raw('todo-add', 'b:3', 2 * $HOUR);
    is scalar($todo->(9, $HOUR)), 0, 'no thing is put off';
    call_raw('todo-add', 'b:3', 0);
    my @last = $todo->(9, $HOUR);
    is $last[0][0], 'b:3', 'but had earlier';

    # all is lost: a token that was given is not given again

    $redis->command('FLUSHALL');
    call_raw('todo-add', 'b:3', 0);
    my @new = $todo->(9, $HOUR);
    cmp_ok $new[0][1], '>', $last[0][1], 'a new token';
    is $done->(@{$last[0]}, -1) . $done->(@{$new[0]}, -1), '01', 'is the one';
    is $redis->command(EXISTS => "${P}todo", "${P}doing"), 0, 'all is done';

    call_raw('todo-add', "b:$_", 0) for 1 .. 250;
    is scalar($todo->(1000, $HOUR)), 200, 'no more than one can take';
    clean('things to do');
}


# jobs that end have their webhook called

sub hooks {
    my @id = names(7);
    my $list = sub { "@{[sort @{$redis->command(ZRANGE => ${P} . 'todo', 0,
        -1)}]}" };

    submit([@id[0 .. 3]], webhook => 'https://a', window => 3);
    submit([$id[4]]);
    my @got = got(3, window => 3, order => '1');
    is $list->(), '', 'nothing has ended';
    finish([@got[0, 1]], window => 3);
    cancel($id[3], $got[2][0]);
    is retry([$got[2]]), '3', 'a retry that ends';
    is $list->(), join(' ', sort map { "w:$_" } @id[0 .. 3]),
        'all that have ended, but not who wants none';
    is scalar(@{call_raw('todo', 9, $HOUR)}), 4, 'they are due at once';
    submit([$id[5]], webhook => 'https://a', deadline => 1);
    finish([got(9)]);
    is scalar(grep { /$id[5]/ } split ' ', $list->()), 1, 'one that a claim '
        . 'has ended';
    submit([$id[6]], webhook => 'https://a');
    call_raw('purge', 'red', 0, 100);
    is scalar(grep { /$id[6]/ } split ' ', $list->()), 0, 'a purge tells '
        . 'nobody';
    got(9);
    clean('webhooks');
}


# a full Redis refuses what is new; what is there can end

sub full_redis {
    my @id = names(9);

    submit([$id[8]], team => 'blue', class => 0, webhook => 'https://a');
    call_raw('todo-add', 'b:1', 0);
    my ($blue) = got(1);
    submit([@id[0 .. 7]], window => 5);
    my @got = got(3, window => 5);
    retry([shift @got], delay => 0, window => 5);
    $redis->command(CONFIG => 'SET', 'maxmemory', 1);

    like error(sub { submit([names(1)], idem => 'full') }), qr/OOM/,
        'a full Redis takes no task';
    is $redis->command(EXISTS => "${P}idem:full"), 0, 'nor its name';
    is finish([shift @got], window => 5), '1', 'but an end';
    is beat(@got), '1', 'a sign of life';
    is join(' ', @{call_raw('beat', 'g:1', @{$got[0]}, 'some')}), '1',
        'progress';
    is hold([$blue], delay => 20), '1', 'one that is held';
    sleep 0.03;
    ($blue) = got(1, order => '0', every => $HOUR);
    is $blue->[0], $id[8], 'and comes again';
    is finish([$blue]), '1', 'and has a webhook';
    my @todo = @{call_raw('todo', 9, $HOUR)};
    is "@{[map { $_->[0] } @todo]}", "b:1 w:$id[8]", 'which is called';
    is "@{call_raw('todo-keep', $HOUR, @{$todo[0]})}"
        . "@{call_raw('todo-done', @{$todo[0]}, 0)}"
        . "@{call_raw('todo-done', @{$todo[1]}, -1)}"
        . call_raw('todo-add', 'b:2', 0), '1111', 'what is to be done';
    is cancel($got[0][0]), 'flagged', 'a wish to cancel';
    is release(@got), '3', 'what is handed back';
    my @more = got(9, window => 5);
    is scalar(@more), 6, 'a claim';
    is retry([$more[0]]), '1', 'a retry';
    is cancel($more[0][0]), 'cancelled', 'it is cancelled';
    shift @more;
    finish([@more]);
    finish([got(9)]);
    is stat_of('completed') + stat_of('cancelled'), 9, 'all end';
    is call_raw('drop', @id), 9, 'and are dropped';

    $redis->command(CONFIG => 'SET', 'maxmemory', 0);
    clean('a full Redis');
}


# What is in Redis, and what the model says is there, in the same lines.

sub dump_script {
    return <<'END';
local P, out = KEYS[1], {}
local keys = redis.call('KEYS', P .. '*')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for i = 1, #keys do
    local key, name = keys[i], string.sub(keys[i], #P + 1)
    local job = string.match(name, '^job:(.*)')
    local class = string.match(name, '^q:(.*)')

    if job then
        local v = redis.call('HMGET', key, 's', 'a', 'd', 'k', 'x', 't', 'p',
                             'y', 'n', 'g')
        for n = 1, 10 do
            v[n] = v[n] or (n == 2 or n == 3) and '0' or ''
        end
        local ttl = redis.call('PTTL', key) > 0 and 1 or 0
        local z = redis.call('HEXISTS', key, 'z')
        local body = #(redis.call('HGET', key, 'b') or '') > 0 and 1 or 0
        out[#out + 1] = 'job ' .. job .. ' ' .. table.concat(v, ',') .. ' '
                        .. ttl .. z .. body
    elseif class then
        local all = redis.call('XRANGE', key, '-', '+')
        local held, run, wait = {}, {}, {}
        local p = redis.pcall('XPENDING', key, 'run', '-', '+', 100000)
        if not p.err then
            for n = 1, #p do
                held[p[n][1]] = '/' .. p[n][2] .. '/'
                                .. (p[n][3] > 400000 and 1 or 0)
            end
        end
        for n = 1, #all do
            local l = held[all[n][1]] and run or wait
            l[#l + 1] = all[n][2][2] .. '/' .. all[n][2][4]
                        .. (held[all[n][1]] or '')
            held[all[n][1]] = nil
        end
        if #run > 0 then
            out[#out + 1] = 'run ' .. class .. ' ' .. table.concat(run, ' ')
        end
        if #wait > 0 then
            out[#out + 1] = 'wait ' .. class .. ' ' .. table.concat(wait, ' ')
        end
        for id in pairs(held) do
            out[#out + 1] = 'pending without an entry ' .. id
        end
    elseif string.sub(name, 1, 2) == 'b:' then
        out[#out + 1] = name .. ' '
                        .. table.concat(redis.call('ZRANGE', key, 0, -1), ' ')
    elseif name == 'delayed' then
        local l = redis.call('ZRANGE', key, 0, -1)
        table.sort(l)
        out[#out + 1] = 'delayed ' .. table.concat(l, ' ')
    elseif name == 'dead' then
        out[#out + 1] = 'dead ' .. redis.call('XLEN', key)
    elseif name == 'stat' or string.sub(name, 1, 6) == 'batch:' then
        local all = redis.call('HGETALL', key)
        for n = 1, #all, 2 do
            if string.match(all[n], '^h:') then
                all[n + 1] = tonumber(all[n + 1]) > now and 1 or 2
            end
            if not string.match(all[n], '^c%d$') and all[n] ~= 'swept'
               and all[n] ~= 'todo' and all[n + 1] ~= '0'
            then
                out[#out + 1] = name .. ' ' .. all[n] .. ' ' .. all[n + 1]
            end
        end
    elseif name == 'todo' then
        local l = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
        for n = 1, #l, 2 do
            out[#out + 1] = 'todo ' .. l[n] .. ' '
                            .. (tonumber(l[n + 1]) > now and 1 or 0)
        end
    elseif name == 'doing' then
        local l = redis.call('HKEYS', key)
        table.sort(l)
        out[#out + 1] = 'doing ' .. table.concat(l, ' ')
    elseif name == 'ended' or name == 'held' then
        local l = redis.call('ZRANGE', key, 0, -1)
        table.sort(l)
        out[#out + 1] = name .. ' ' .. table.concat(l, ' ')
    elseif string.sub(name, 1, 5) == 'team:' then
        local l = redis.call('ZRANGE', key, 0, -1)
        table.sort(l)
        out[#out + 1] = name .. ' ' .. table.concat(l, ' ')
    else
        out[#out + 1] = 'what is ' .. name
    end
end

table.sort(out)

return table.concat(out, '\n') .. '\n'
END
}


sub in_redis { $redis->command(EVAL => dump_script(), 1, $P) }


sub in_model {
    my ($m) = @_;
    my @out;

    # what nobody is in and waits for is forgotten

    for (grep { !inside($m, $_) && !@{$m->{b}{$_} // []} } keys %{$m->{v}}) {
        delete $m->{v}{$_};
        delete $m->{g}{$_};
    }

    for my $id (keys %{$m->{job}}) {
        my $j = $m->{job}{$id};
        my $end = $j->{s} !~ /^(?:queued|processing)$/;

        push @out, "job $id " . join(',', map { $j->{$_} } qw(s a d k x t p y
            n g)) . ' ' . ($end && !$j->{z} ? 1 : 0) . ($j->{z} ? 1 : 0)
            . ($end ? 0 : 1);
    }

    for my $class (0 .. 2) {
        for my $list (qw(run wait)) {
            my @l = map { "$_->{id}/$_->{t}" . ($list eq 'run'
                ? "/$_->{consumer}/" . ($_->{lapsed} // 0) : '') }
                @{$m->{$list}[$class]};
            push @out, "$list $class @l" if @l;
        }
    }

    for my $list (qw(b team)) {
        for (keys %{$m->{$list}}) {
            my @l = @{$m->{$list}{$_}};
            @l = sort @l if $list eq 'team';
            push @out, "$list:$_ @l" if @l;
        }
    }

    my @l = sort map { $_->[1] } @{$m->{delayed}};
    push @out, "delayed @l" if @l;
    push @out, "dead $m->{dead}" if $m->{dead};
    push @out, "ended @{[sort keys %{$m->{ended}}]}" if %{$m->{ended}};

    my %stat = (%{$m->{stat}}, seq => $m->{seq});

    for my $j (values %{$m->{job}}) {
        next if $j->{s} !~ /^(?:queued|processing)$/;
        $stat{$j->{s}}++;
        $stat{"n:$j->{t}"}++;
    }

    push @out, "held @{[sort keys %{$m->{h}}]}" if %{$m->{h}};
    push @out, map { "todo $_ " . ($m->{todo}{$_} eq 'due' ? 0 : 1) }
        keys %{$m->{todo}};
    @l = sort map { $m->{todo}{$_} eq 'once' ? ($_, "+$_")
        : $m->{todo}{$_} eq 'done' ? $_ : () } keys %{$m->{todo}};
    push @out, "doing @l" if @l;

    for my $name (qw(h v g)) {
        $stat{"$name:$_"} = $m->{$name}{$_} for keys %{$m->{$name}};
    }

    $stat{"b:$_"} = @{$m->{b}{$_}} for keys %{$m->{b}};
    $stat{"w:$_"} = inside($m, $_) for map { my $c = $_; map { "$c:$_" }
        qw(red blue a:b) } 0 .. 2;
    push @out, map { "stat $_ $stat{$_}" } grep { $stat{$_} } keys %stat;

    for my $id (keys %{$m->{batch}}) {
        push @out, map { "batch:$id $_ $m->{batch}{$id}{$_}" }
            grep { $m->{batch}{$id}{$_} } keys %{$m->{batch}{$id}};
    }

    return join '', map { "$_\n" } sort @out;
}


# how many of a team are in a class's stream or running

sub inside {
    my ($m, $ct) = @_;
    my ($class, $team) = split /:/, $ct, 2;

    return scalar grep { $_->{t} eq $team } @{$m->{run}[$class]},
        @{$m->{wait}[$class]};
}


# how many may be

sub room_for {
    my ($m, $ct, $window) = @_;

    return 0 if ($m->{h}{$ct} // 0) == 1;
    return min($m->{v}{$ct} || $window, $window);
}


sub m_enter {
    my ($m, $class, $team, $id) = @_;

    push @{$m->{wait}[$class]}, { id => $id, t => $team, e => ++$m->{entry} };
}


sub m_admit {
    my ($m, $class, $team, $id, $window) = @_;

    if (inside($m, "$class:$team") < room_for($m, "$class:$team", $window)) {
        m_enter($m, $class, $team, $id);
        return;
    }

    m_put_back($m, $m->{job}{$id});
}


sub m_put_back {
    my ($m, $j) = @_;
    my $list = $m->{b}{"$j->{p}:$j->{t}"} //= [];

    @$list = sort { $m->{job}{$a}{y} <=> $m->{job}{$b}{y} } @$list, $j->{id};
}


sub m_let_in {
    my ($m, $window, $ct) = @_;
    my ($class, $team) = split /:/, $ct, 2;
    my $list = $m->{b}{$ct} // [];

    m_enter($m, $class, $team, shift @$list)
        while @$list && inside($m, $ct) < room_for($m, $ct, $window);
}


# entries that go, and who comes in for them

sub m_leave {
    my ($m, $window, @jobs) = @_;
    my @freed;

    for my $j (@jobs) {
        my ($class, $id) = @$j{qw(p id)};
        @{$m->{run}[$class]} = grep { $_->{id} ne $id } @{$m->{run}[$class]};
        my $ct = "$class:$j->{t}";
        push @freed, $ct if !grep { $_ eq $ct } @freed;
    }

    m_let_in($m, $window, $_) for @freed;
}


sub m_end {
    my ($m, $j, $state) = @_;

    die "a second end of $j->{id}\n" if $j->{ends}++;
    $j->{s} = $state;
    $m->{stat}{$state}++;
    $m->{todo}{"w:$j->{id}"} = 'due' if $j->{w};

    my $batch = $m->{batch}{$j->{n}} or return;

    $batch->{$state}++;

    if ($batch->{lines} == ($batch->{completed} // 0)
        + ($batch->{error} // 0) + ($batch->{cancelled} // 0))
    {
        $m->{ended}{$j->{n}} = 1;
        m_todo_add($m, { thing => "b:$j->{n}" });
    }
}


# The operations: each changes the model and gives the reply that it expects,
# as a string.

sub m_submit {
    my ($m, $o, @ids) = @_;

    my $live = grep { $_->{s} =~ /^(?:queued|processing)$/ }
        values %{$m->{job}};
    my $of = grep { $_->{s} =~ /^(?:queued|processing)$/
        && $_->{t} eq $o->{team} } values %{$m->{job}};

    return "full queue $o->{max} $live" if $live + @ids > $o->{max};
    return "full team $o->{team_max} $of" if $of + @ids > $o->{team_max};

    my $new = 0;

    for my $id (@ids) {
        next if $o->{check} && $m->{job}{$id};
        $new++;
        $m->{stat}{submitted}++;
        $m->{job}{$id} = { id => $id, s => 'queued', a => 0, d => 0, k => '',
            x => $o->{flags}, t => $o->{team}, p => $o->{class},
            y => ++$m->{seq}, n => $o->{batch}, g => '', runs => 0,
            again => 0, crashes => 0, ends => 0, w => $o->{webhook} };
        push @{$m->{team}{$o->{team}}}, $id;
        push @{$m->{b}{"$o->{class}:$o->{team}"}}, $id;
    }

    m_let_in($m, $o->{window}, "$o->{class}:$o->{team}") if $new;

    return 'ok ' . $new . ' ' . ($live + $new);
}


sub m_take {
    my ($m, $c, $entry) = @_;
    my $j = $m->{job}{$entry->{id}};

    if ($j->{s} !~ /^(?:queued|processing)$/) {
        delete $j->{z};
        return $j;
    }

    if ($j->{s} eq 'processing') {
        $j->{d}++;
        $j->{crashes}++;
        $m->{stat}{deaths}++;

        my @end = $j->{x} =~ /c/ ? ('cancelled', 'cancelled')
            : $j->{x} =~ /f/ ? ('error', 'crash')
            : $j->{d} > 2 ? ('error', 'poison') : ();

        if (@end) {
            $j->{k} = '';
            $m->{dead}++ if $end[0] eq 'error';
            m_end($m, $j, $end[0]);
            push @{$c->{ended}}, "$j->{id} @end";
            return $j;
        }
    }

    if ($j->{s} eq 'queued' && ($m->{h}{"$j->{p}:$j->{t}"} // 0) == 1) {
        m_put_back($m, $j);
        return $j;
    }

    $j->{a}++;
    $j->{runs}++;
    $j->{s} = 'processing';
    $j->{k} = $c->{token};
    $entry->{lapsed} = 0;
    $entry->{consumer} = $c->{consumer};
    push @{$c->{jobs}}, "$j->{id} $j->{a} $j->{d}";

    return;
}


sub m_room {
    my ($c) = @_;
    return min($c->{n} - @{$c->{jobs}}, @{$c->{jobs}} ? 200 : 4);
}


sub m_claim {
    my ($m, $o, $n) = @_;

    my $c = { %$o, n => $n, jobs => [], ended => [] };

    for (sort grep { $m->{h}{$_} == 2 } keys %{$m->{h}}) {
        delete $m->{h}{$_};
        m_let_in($m, $o->{window}, $_);
    }

    my @due = grep { $_->[0] == 0 } @{$m->{delayed}};
    @{$m->{delayed}} = grep { $_->[0] } @{$m->{delayed}};

    for (sort map { $_->[1] } @due) {
        my ($class, $y, $id, $team) = split /:/, $_, 4;
        m_admit($m, $class, $team, $id, $o->{window});
    }

    for my $class (split //, $o->{order}) {
        my $list = $m->{run}[$class];

        while (my $room = m_room($c)) {
            my (@took, $next);
            my $looked = 0;

            for my $entry (@$list) {
                next if $entry->{e} < $m->{cursor}[$class];

                if (@took == $room || $looked == 10 * $room) {
                    $next = $entry->{e};
                    last;
                }

                $looked++;
                push @took, $entry if $entry->{lapsed};
            }

            my @gone = map { m_take($m, $c, $_) } @took;
            m_leave($m, $o->{window}, @gone);
            $m->{cursor}[$class] = $next // 0;
            last if !$next;
        }
    }

    for my $class (split //, $o->{order}) {
        for (1 .. 8) {
            my $room = m_room($c) or last;
            my @took = splice @{$m->{wait}[$class]}, 0,
                min($room, scalar @{$m->{wait}[$class]}) or last;

            push @{$m->{run}[$class]}, @took;
            m_leave($m, $o->{window}, map { m_take($m, $c, $_) } @took);
        }
    }

    return join(' ', @{$c->{jobs}}) . ' | ' . join(' ', @{$c->{ended}});
}


sub m_code {
    my ($m, $id, $token) = @_;
    my $j = $m->{job}{$id} or return -1;

    return 0 if $j->{k} ne $token;
    return $j->{s} eq 'processing' ? 1 : $j->{s} eq 'queued' ? 0 : 2;
}


sub m_finish {
    my ($m, $o, @held) = @_;
    my (@codes, @mine);

    for (@held) {
        push @codes, m_code($m, @$_);
        push @mine, $m->{job}{$_->[0]} if $codes[-1] == 1;
    }

    for my $j (@mine) {
        m_end($m, $j, $o->{state});
        $m->{dead}++ if $o->{reason};

        my $ct = "$j->{p}:$j->{t}";

        if ($o->{state} eq 'completed' && $m->{v}{$ct}) {

            if (++$m->{g}{$ct} >= $m->{v}{$ct}) {
                $m->{g}{$ct} = 0;
                $m->{v}{$ct}++;
            }

            delete $m->{v}{$ct}, delete $m->{g}{$ct}
                if $m->{v}{$ct} >= $o->{window};
        }
    }

    m_leave($m, $o->{window}, @mine);

    return "@codes";
}


sub m_back {
    my ($m, $o, $how, @held) = @_;
    my (@codes, @leave);

    for (@held) {
        my $code = m_code($m, @$_);
        my $j = $m->{job}{$_->[0]};

        if ($code == 1 && $j->{x} =~ /c/) {
            $code = 3;
            m_end($m, $j, 'cancelled');
            push @leave, $j;

        } elsif ($code == 1) {
            $j->{s} = 'queued';
            $j->{k} = '';
            $j->{again}++;
            $j->{a}-- if $how ne 'retry' || !$o->{counts};

            if ($how eq 'hold') {
                my $ct = "$j->{p}:$j->{t}";

                if (($m->{h}{$ct} // 0) != 1) {
                    my $less = max(1, int(room_for($m, $ct, $o->{window})
                        * ($o->{delay} <= 50 ? 7 / 8 : 1 / 2)));
                    delete $m->{v}{$ct};
                    delete $m->{g}{$ct};
                    $m->{v}{$ct} = $less if $less < $o->{window};
                }

                $m->{h}{$ct} = 1;
                push @leave, $j;
                m_put_back($m, $j);

            } elsif ($how eq 'retry') {
                $m->{stat}{retries}++;
                push @leave, $j;
                push @{$m->{delayed}}, [$o->{delay} ? 1 : 0,
                    "$j->{p}:$j->{y}:$j->{id}:$j->{t}"];

            } else {
                $m->{cursor}[$j->{p}] = 0;
                give_up($m, $j);
            }
        }

        push @codes, $code;
    }

    m_leave($m, $o->{window}, @leave);

    return "@codes";
}


sub m_retry   { my ($m, $o, @h) = @_; m_back($m, $o, 'retry', @h) }
sub m_hold    { my ($m, $o, @h) = @_; m_back($m, $o, 'hold', @h) }
sub m_release { my ($m, $o, @h) = @_; m_back($m, $o, 'release', @h) }


sub m_beat {
    my ($m, $o, @held) = @_;
    my @codes;

    for (@held) {
        my $j = $m->{job}{$_->[0]};
        my $code = m_code($m, @$_) == 1 ? $j->{x} =~ /c/ ? 2 : 1 : 0;

        if ($code) {
            $j->{g} = $o->{progress} if $o->{progress} ne '';

            for (grep { $_->{id} eq $j->{id} } @{$m->{run}[$j->{p}]}) {
                $_->{lapsed} = 0;
                $_->{consumer} = $o->{consumer};
            }
        }

        push @codes, $code;
    }

    return "@codes";
}


sub m_recall {
    my ($m, $o) = @_;

    my @entries = grep { $_->{consumer} eq $o->{consumer} } map { @$_ }
        @{$m->{run}};
    my @jobs = grep { $_->{s} eq 'processing' && ($o->{token} eq ''
        || $_->{k} eq $o->{token}) } map { $m->{job}{$_->{id}} } @entries;

    if ($o->{token} ne '') {
        m_release($m, $o, map { [$_->{id}, $_->{k}] } @jobs);
        return scalar @jobs;
    }

    for my $j (@jobs) {
        $m->{cursor}[$j->{p}] = 0;
        give_up($m, $j);
    }

    return scalar @jobs;
}


sub give_up {
    my ($m, $j) = @_;

    for (grep { $_->{id} eq $j->{id} } @{$m->{run}[$j->{p}]}) {
        $_->{lapsed} = 1;
        $_->{consumer} = 'free';
    }
}


sub m_cancel_queued {
    my ($m, $j) = @_;

    my $before = @{$m->{delayed}} + map { @$_ } values %{$m->{b}};
    @$_ = grep { $_ ne $j->{id} } @$_ for values %{$m->{b}};
    @{$m->{delayed}} = grep { $_->[1] !~ /:\Q$j->{id}\E:/ } @{$m->{delayed}};

    $j->{k} = '';
    $j->{z} = 1 if $before == @{$m->{delayed}} + map { @$_ }
        values %{$m->{b}};
    m_end($m, $j, 'cancelled');
}


sub m_cancel {
    my ($m, $o, @ids) = @_;
    my @out;

    for my $id (@ids) {
        my $j = $m->{job}{$id};

        if (!$j || $j->{t} ne $o->{team}) {
            push @out, 'unknown';

        } elsif ($j->{s} eq 'queued') {
            m_cancel_queued($m, $j);
            push @out, 'cancelled';

        } elsif ($j->{s} eq 'processing') {
            $j->{x} .= 'c' if $j->{x} !~ /c/;
            push @out, 'flagged';

        } else {
            push @out, "was $j->{s}";
        }
    }

    return "@out";
}


sub m_drop {
    my ($m, $o, @ids) = @_;
    my @gone = grep { $m->{job}{$_} && $m->{job}{$_}{s} !~
        /^(?:queued|processing)$/ } @ids;

    m_forget($m, $m->{job}{$_}) for @gone;
    return scalar @gone;
}


# a job that is no more

sub m_forget {
    my ($m, $j) = @_;

    $m->{count}++;
    $m->{runs} += $j->{runs};
    $m->{crashes} += $j->{crashes};
    push @{$m->{wrong}}, $j->{id} if $j->{ends} != 1
        || $j->{runs} > 1 + $j->{crashes} + $j->{again};
    delete $m->{job}{$j->{id}};
    @$_ = grep { $_ ne $j->{id} } @$_ for values %{$m->{team}};
}


# due, done (somebody does it), once (… and once more), later

sub m_todo {
    my ($m) = @_;
    my @due = sort grep { $m->{todo}{$_} eq 'due' } keys %{$m->{todo}};

    $m->{todo}{$_} = 'done' for @due;
    return "@due";
}


sub m_todo_add {
    my ($m, $o) = @_;
    my $is = $m->{todo}{$o->{thing}} // '';

    $m->{todo}{$o->{thing}} = $is =~ /^(?:done|once)$/ ? 'once' : 'due';
    return 1;
}


sub m_todo_done {
    my ($m, $o) = @_;
    my $is = $m->{todo}{$o->{thing}} // '';

    return 0 if !$o->{token} || $is !~ /^(?:done|once)$/;

    if ($is eq 'once' || $o->{again} == 0) {
        $m->{todo}{$o->{thing}} = 'due';

    } elsif ($o->{again} > 0) {
        $m->{todo}{$o->{thing}} = 'later';

    } else {
        delete $m->{todo}{$o->{thing}};
    }

    return 1;
}


# steps that are no operations: a runner that is gone for its lease, a delay
# that is over, a job that expires

sub lapse {
    my ($m, $id) = @_;
    my $j = $m->{job}{$id};

    give_up($m, $j);
    $redis->command(XCLAIM => "${P}q:$j->{p}", 'run', 'free', 0,
        job($id, 'q'), IDLE => 1e6, 'JUSTID');
}


sub wake {
    my ($m) = @_;

    $_->[0] = 0 for @{$m->{delayed}};
    all_due($m);

    for (keys %{$m->{h}}) {
        go($_);
        $m->{h}{$_} = 2;
    }
}


# at one and the same time, so that their order is known

sub all_due {
    my ($m) = @_;

    my @due = map { (0, $_->[1]) } grep { !$_->[0] } @{$m->{delayed}};
    $redis->command(ZADD => "${P}delayed", 'XX', @due) if @due;
}


sub expire {
    my ($m) = @_;

    my @old = grep { $_->{s} !~ /^(?:queued|processing)$/ && !$_->{z} }
        values %{$m->{job}};

    return if @old < 30;

    m_forget($m, $_) for @old;

    $redis->command(UNLINK => map { "${P}job:$_->{id}" } @old);
    $redis->command(ZREM => "${P}team:$_", map { $_->{id} } @old)
        for qw(red blue a:b);
}


# [what the model does, words for Redis, how its reply becomes a string]

sub draw {
    my ($m, $held, $only) = @_;

    my $window = $m->{window};
    my @pairs = map { $held->[rand @$held] // () } 1 .. 1 + rand 4;
    my %seen;
    @pairs = grep { !$seen{$_->[0]}++ } @pairs;

    my $op = $only // (('submit') x 5, ('claim') x 6, ('end') x 6,
        ('retry') x 2, 'release', ('beat') x 2, ('cancel') x 2, 'recall',
        ('hold') x 2, 'drop', ('todo') x 2)[rand 30];

    if ($op eq 'submit') {
        my %o = (window => $window, max => 60, team_max => 40,
            class => int rand 3, team => (qw(red blue a:b))[rand 3],
            flags => ('', '', '', 'f')[rand 4], check => rand() < 0.2 ? 1 : 0,
            batch => ('', '', 'one', 'two')[rand 4],
            webhook => ('', '', '', 'https://a')[rand 4]);
        my @ids = names(1 + rand 8);

        push @ids, (sort keys %{$m->{job}})[0] // () if $o{check};

        return [\&m_submit, \%o, @ids], [submit_words(\@ids, %o)],
            sub { "@{$_[0]}" };
    }

    if ($op eq 'claim') {
        my %o = (window => $window, token => token(),
            order => (qw(012 012 210 1 02))[rand 5],
            consumer => 'g:' . int rand 4, lease => 500000, deaths => 2);
        my $n = 1 + int rand 7;

        return [\&m_claim, \%o, $n], [claim_words($n, %o)], sub {
            join(' ', map { "@$_[0, 4, 5]" } @{$_[0][0]}) . ' | '
                . join ' ', map { "@$_[0 .. 2]" } @{$_[0][1]};
        };
    }

    my $list = sub { "@{$_[0]}" };

    if ($op eq 'end') {
        my %o = (window => $window, state => (qw(completed completed error
            cancelled))[rand 4], reason => ('', '', 'why')[rand 3]);

        return [\&m_finish, \%o, @pairs], [end_words(\@pairs, %o)], $list;
    }

    if ($op eq 'retry') {
        my %o = (window => $window, delay => rand() < 0.5 ? 0 : $HOUR,
            counts => int rand 2);

        return [\&m_retry, \%o, @pairs], ['retry', $window, $HOUR,
            map { (@$_, $o{delay}, $o{counts}, '') } @pairs], $list;
    }

    if ($op eq 'hold') {
        my %o = (window => $window, delay => 60000);

        return [\&m_hold, \%o, @pairs], ['hold', $window, $HOUR,
            map { (@$_, 60000) } @pairs], $list;
    }

    if ($op eq 'drop') {
        my @ids = grep { !$m->{job}{$_}{z} } shuffle(sort keys %{$m->{job}});
        @ids = (@ids[0 .. min($#ids, int rand 4)], 'task-unknown');

        return [\&m_drop, {}, @ids], ['drop', @ids], sub { $_[0] };
    }

    return draw_todo($m) if $op eq 'todo';

    if ($op eq 'release') {
        my %o = (window => $window);

        return [\&m_release, \%o, @pairs], ['release', $window, $HOUR,
            map { @$_ } @pairs], $list;
    }

    if ($op eq 'beat') {
        my %o = (progress => ('', int rand 100)[rand 2]);

        $o{consumer} = 'g:' . int rand 4;

        return [\&m_beat, \%o, @pairs], ['beat', $o{consumer},
            map { (@$_, $o{progress}) } @pairs], $list;
    }

    if ($op eq 'recall') {
        my %o = (window => $window, consumer => 'g:' . int rand 4,
            token => @pairs && rand() < 0.7 ? $pairs[0][1] : '');

        return [\&m_recall, \%o], ['recall', $window, $HOUR,
            @o{qw(consumer token)}], sub { $_[0] };
    }

    my @ids = shuffle(sort keys %{$m->{job}});
    @ids = (@ids[0 .. min($#ids, int rand 4)], 'task-unknown');
    my %o = (team => (qw(red blue a:b))[rand 3]);

    return [\&m_cancel, \%o, @ids], ['cancel', $o{team}, $HOUR, @ids], $list;
}


sub draw_todo {
    my ($m) = @_;

    my @things = sort(keys %{$m->{todo}}, 'b:1', 'b:2');
    my %o = (thing => $things[rand @things], again => (-1, -1, 0, $HOUR)
        [rand 4]);
    my $lot = rand;

    return [\&m_todo], ['todo', 200, $HOUR], sub {
        join ' ', sort map { $_->[0] } @{$_[0]}; } if $lot < 0.4;

    return [\&m_todo_add, \%o], ['todo-add', $o{thing}, 0], sub { $_[0] }
        if $lot < 0.6;

    $o{token} = rand() < 0.8
        ? $redis->command(HGET => "${P}doing", $o{thing}) // '' : '';

    return [\&m_todo_done, \%o], ['todo-done', @o{qw(thing token again)}],
        sub { "@{$_[0]}" };
}


sub differ {
    my ($what, $x, $y) = @_;
    my %x = map { $_ => 1 } split /\n/, $x;
    my %y = map { $_ => 1 } split /\n/, $y;

    return if $x eq $y;
    die join "\n", $what, (map { "- $_" } grep { !$y{$_} } sort keys %x),
        (map { "+ $_" } grep { !$x{$_} } sort keys %y), '';
}


# who holds what, by what Redis says: also whose reply was lost

sub holders {
    my ($m, $held) = @_;

    push @$held, map { [$_->{id}, $_->{k}] } grep { $_->{s} eq 'processing' }
        values %{$m->{job}};
    splice @$held, 0, @$held - 60 if @$held > 60;
}


# one step; with "kill" Redis dies before its reply is read, and the command
# has either been done as a whole or not at all

sub step {
    my ($m, $held, $kill, $only) = @_;
    my ($does, $words, $string) = draw($m, $held, $only);
    my ($do, @arguments) = @$does;

    if ($kill) {
        my $before = in_model($m);
        my $after = dclone($m);
        $do->($after, @arguments);

        # With "everysec" what was answered is not yet written while the disk
        # is slow to sync, and would be lost; here nothing but this command.

        $t->until(sub { info('aof_buffer_length') eq '0'
            && info('aof_pending_bio_fsync') eq '0' }, 20);

        $redis->ask(EVAL => $script, 1, $P, @$words);
        sleep rand 0.001;
        $redis->stop('KILL');
        $redis->start;
        $t->until(sub { eval { $redis->command('PING') } }, 20);

        my $is = in_redis();

        if ($is eq $before) {
            $m->{undone}++;

        } else {
            differ("killed in @$words", in_model($after), $is);
            %$m = %$after;
            $m->{done}++;
        }

        # then it is sent again: nothing happens twice

        if ($words->[0] eq 'submit') {
            $words->[8] = $arguments[0]{check} = 1;

        } elsif ($words->[0] eq 'claim') {
            my %o = (%{$arguments[0]});

            ($do, @arguments) = (\&m_recall, \%o);
            $words = ['recall', $o{window}, $HOUR, @o{qw(consumer token)}];
            $string = sub { $_[0] };
        }
    }

    my $reply = $do->($m, @arguments);

    differ("reply to @$words", $reply, $string->(call_raw(@$words)));
    differ("after @$words", in_model($m), in_redis());

    all_due($m);
    holders($m, $held);
}


# Thousands of steps; "kills" has Redis die now and then.

sub model {
    my ($kills) = @_;

    my $seed = $ENV{TEST_LLM_SEED} // 1 + int rand 1e6;
    my $steps = $kills ? 400 : $ENV{TEST_LLM_LONG}
        ? 100 * $ENV{TEST_LLM_LONG} : 2500;
    my $m = { job => {}, wait => [[], [], []], run => [[], [], []], b => {},
        delayed => [], team => {}, stat => {}, dead => 0, seq => 0, entry => 0,
        cursor => [0, 0, 0], ended => {}, window => 4, wrong => [],
        h => {}, v => {}, g => {}, todo => {},
        batch => { one => { lines => 50 }, two => { lines => 1000000 } } };
    my @held;
    my $step = 0;

    srand $seed;
    diag "seed $seed";
    $redis->command('FLUSHALL');
    $redis->command(HSET => "${P}batch:$_", lines => $m->{batch}{$_}{lines})
        for keys %{$m->{batch}};

    my $fine = eval {
        for (1 .. $steps) {
            $step = $_;
            step($m, \@held, $kills && rand() < 0.025);

            my @run = map { @$_ } @{$m->{run}};
            my @now = grep { $m->{job}{$_->{id}}{s} eq 'processing' } @run;

            lapse($m, $now[rand @now]{id}) if @now && rand() < 0.15;
            wake($m) if rand() < 0.05;
            $m->{window} = 1 + int rand 6 if rand() < 0.02;
            expire($m) if rand() < 0.1;
        }

        # all that is there comes to an end

        for (1 .. 400) {
            last if !grep { $_->{z} || $_->{s} =~ /^(?:queued|processing)$/ }
                values %{$m->{job}};

            $step++;
            wake($m);
            my $token = token();
            my $o = { window => 9, order => '012', token => $token,
                consumer => 'g:1' };
            differ('claim', m_claim($m, $o, 7), join(' | ', map { join ' ', @$_
                } map { [map { @$_ == 13 ? "@$_[0, 4, 5]" : "@$_[0 .. 2]" }
                @$_] } @{claim(7, %$o, lease => 500000)}));
            my @mine = map { [$_->{id}, $_->{k}] } grep { $_->{s} eq
                'processing' } values %{$m->{job}};
            differ('end', m_finish($m, { window => 9, state => 'completed' },
                @mine), finish(\@mine, window => 9)) if @mine;
            differ('the end', in_model($m), in_redis());
        }

        1;
    };

    my $what = $kills ? 'with kills' : 'by lot';

    is $fine ? '' : "step $step: $@", '', "$what: Redis has what the model "
        . "has after each of $step steps (seed $seed)";
    return if !$fine;

    # the last ones

    my $before = $m->{count} // 0;
    expire($m) if values %{$m->{job}} >= 30;

    for my $j (values %{$m->{job}}) {
        push @{$m->{wrong}}, $j->{id} if $j->{ends} != 1
            || $j->{runs} > 1 + $j->{crashes} + $j->{again};
        $m->{runs} += $j->{runs};
        $m->{crashes} += $j->{crashes};
        $m->{count}++;
    }

    is "@{$m->{wrong}}", '', "$what: one end for each of $m->{count} jobs, "
        . "$m->{runs} runs, no more than 1 + $m->{crashes} crashes + retries";
    is $m->{count}, $m->{stat}{submitted}, "$what: all that were submitted";
    diag 'killed in a command: ' . ($m->{done} // 0) . ' done, '
        . ($m->{undone} // 0) . ' not' if $kills;

    my @keys = grep { !/job:|team:|batch:|:todo$|:doing$/ }
        @{$redis->command(KEYS => '*')};
    is "@{[sort @keys]}", join(' ', sort map { "$P$_" } qw(dead q:0 q:1 q:2
        stat), %{$m->{ended}} ? 'ended' : ()), "$what: no key is left over";
    clean($what);
}


# what a task costs: commands, also those in scripts, and the server's time

sub cost {
    my %o = (body => '{"model":"m","messages":[{"role":"user","content":"'
        . 'x' x 400 . '"}]}', window => 64);
    my @rows;

    for my $case ([1000, 1, 64], [10000, 50, 64], [10000, 50, 20000],
        [10000, 10, 64])
    {
        my ($tasks, $group, $window) = @$case;
        my @id = names($tasks);
        my $ended = 0;
        my %cost;

        $redis->command('FLUSHALL');
        claim(1);

        my $cpu = cpu();
        my $memory = info('used_memory');

        measured(\%cost, submit => sub {
            submit([splice @id, 0, 100], %o, window => $window) while @id;
        });

        $memory = info('used_memory') - $memory;

        while (1) {
            my @got;

            measured(\%cost, claim => sub {
                @got = got(50, window => $window, every => 5000);
            });

            last if !@got;
            $ended += @got;

            measured(\%cost, end => sub {
                finish([splice @got, 0, $group], window => $window,
                    result => 'y' x 400) while @got;
            });
        }

        $cpu = cpu() - $cpu;

        is $ended, $tasks, "$tasks tasks, $group ends per call, window $window";

        my ($commands, $run) = (0, 0);

        for my $op (qw(submit claim end)) {
            my ($n, $us) = map { $_ / $tasks } @{$cost{$op}};
            $commands += $n;
            $run += $us if $op ne 'submit';
            diag sprintf '%-6s %6.2f commands %6.1f us of the server per task',
                $op, $n, $us;
        }

        diag sprintf '%d ends per call, window %d: %.2f commands per task, '
            . '%.0f submitted and %.0f run per second of the server',
            $group, $window, $commands, 1e6 * $tasks / $cost{submit}[1],
            1e6 / $run;
        diag sprintf 'with all else that the server does: %.0f us per task; '
            . '%.0f bytes while it waits, %d of them its body',
            1e6 * $cpu / $tasks, $memory / $tasks, length $o{body};

        next if $group == 1;
        cmp_ok $commands, '<=', $group == 50 ? 8 : 9, 'commands per task';
        cmp_ok 1e6 * $tasks / $cost{submit}[1], '>', 5000, 'submitted per s';
        cmp_ok 1e6 / $run, '>', 2000, 'run per s';
    }

    clean('cost');
}


sub info {
    my ($name) = @_;
    return $redis->command('INFO', 'everything') =~ /^$name:([\d.]+)/m
        ? $1 : '';
}


sub cpu { info('used_cpu_user') + info('used_cpu_sys') }


sub measured {
    my ($cost, $op, $do) = @_;

    $redis->command(CONFIG => 'RESETSTAT');
    $do->();

    for (split /\r\n/, $redis->command(INFO => 'commandstats')) {
        my ($name, $calls, $us) = /^cmdstat_([^:]+):calls=(\d+),usec=(\d+),/
            or next;

        next if $name =~ /^(?:config|info|script)/;
        $cost->{$op}[0] += $calls;
        $cost->{$op}[1] += $us if $name =~ /^eval/;
    }
}
