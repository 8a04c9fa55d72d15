#!/usr/bin/perl

# The tenants file: followed while nginx runs, without a reload; a broken one
# changes nothing and is told once; a broken one at the start refuses it.  The
# prices file is read and followed by the same rules.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

$t->key('user');
$t->key('limited', requests_per_minute => 3);
$t->write('prices.json', { '*' => { input => 1, output => 2 } });
my $mock = $t->gateway(redis => 0,
    http => 'llm_prices %%DIR%%/prices.json;');
my @pids = $t->workers;

is $t->chat('x', key => 'late')->status, 401, 'a key that is not there';


# a change: within a second, without a reload

is change(sub { $t->key('late') }, sub { both(late => 200) }), 1,
    'a new key works within a second';

my $r = $t->chat('x', key => 'limited');
is $r->header('x-ratelimit-limit-requests'), 3, 'a limit of 3';
is change(sub { $t->key('limited', requests_per_minute => 50) }, sub {
    $t->chat('x', key => 'limited')
        ->header('x-ratelimit-limit-requests') == 50 }), 1,
    'another limit is in force within a second';

delete $t->{tenants}{keys}{late};
is change(sub { save() }, sub { both(late => 401) }), 1,
    'a removed key is refused within a second';
is $t->chat('x')->status, 200, 'the others are not';

is change(sub { $t->key('user', enabled => \0) },
    sub { both(user => 403) }), 1, 'a key is disabled';
is change(sub { $t->key('user', models => ['gpt-4.1']) },
    sub { both(user => 404) }), 1, 'a key loses a model';
is change(sub { $t->key('user') }, sub { both(user => 200) }), 1,
    'and gets it back';


# edited in place instead of exchanged

is change(sub {
    $t->{tenants}{keys}{second} = { team => 'team',
        sha256 => Digest::SHA::sha256_hex($t->secret('second')) };
    in_place(JSON::PP->new->encode($t->{tenants}));
}, sub { both(second => 200) }), 1, 'a file that is edited in place';


# broken: nothing changes, the log says why, once, whoever follows the file

my $seen = length $t->log;

for my $broken (
    [ 'no JSON', '{"keys": }', qr/tenants\.json": .*\S/ ],
    [ 'half a file', substr($t->read('tenants.json'), 0, 100),
        qr/tenants\.json": .*\S/ ],
    [ 'nothing', '', qr/tenants\.json": .*\S/ ],
    [ 'a wrong type', '{"teams":{"team":{}},"keys":{"user":{"team":"team",'
        . '"sha256":"' . 'a' x 64 . '","concurrency":"4"}}}',
        qr/keys\.user\.concurrency: expected a positive integer, got "4"/ ],
    [ 'an unknown member', '{"teams":{"team":{"speed":1}},"keys":{}}',
        qr/teams\.team\.speed: / ],
    [ 'an unknown team', '{"teams":{},"keys":{"user":{"team":"none",'
        . '"sha256":"' . 'a' x 64 . '"}}}', qr/keys\.user\.team: / ],
    [ 'another end of streams', '{"teams":{"team":{"on_exceed":"stop"}}}',
        qr/teams\.team\.on_exceed: expected "finish" or "cut", got "stop"/ ],
    [ 'a limit of nothing', '{"defaults":{"tokens_per_minute":0}}',
        qr/defaults\.tokens_per_minute: expected a positive integer, got 0/ ],
    [ 'a weight inside of a team', '{"teams":{"team":{}},"keys":{"user":{'
        . '"team":"team","sha256":"' . 'a' x 64 . '","weight":2}}}',
        qr/keys\.user\.weight: slots are shared by teams/ ],
    [ 'a cache that is used a little',
        '{"teams":{"team":{"cache":{"use":"some"}}}}',
        qr/teams\.team\.cache\.use: expected true or false, got "some"/ ],
    [ 'a bad hash', '{"teams":{"team":{}},"keys":{"user":{"team":"team",'
        . '"sha256":"abc"}}}', qr/keys\.user\.sha256: / ],
) {
    my ($name, $text, $why) = @$broken;

    $t->write('tenants.json', $text);
    ok $t->until(sub {
        1 == (() = substr($t->log, $seen) =~ /\[error\].*llm_tenants/g)
    }, 3), "$name: it is told";
    my @lines = grep { /llm_tenants/ } split /^/, substr $t->log, $seen;
    is +(grep { $_ =~ $why && /the old ones stay in force/ } @lines), 1,
        "$name: why" or diag @lines;
    ok both(user => 200), "$name: the old ones are in force";
    $seen = length $t->log;
}

# three looks at the file later
Test::LLM::HTTP->idle(0.9);
is substr($t->log, $seen) =~ /llm_tenants/, '', 'it is told only once';

unlink $t->path('tenants.json');
ok $t->until(sub {
    1 == (() = substr($t->log, $seen) =~ /\[error\].*llm_tenants/g) }, 3),
    'a file that is gone is told';
ok both(user => 200), 'and changes nothing';

is change(sub { save() }, sub { both(second => 200) }), 1,
    'a good file is taken again';
is change(sub { $t->key('third') }, sub { both(third => 200) }), 1,
    'and followed';
is "@{[$t->workers]}", "@pids", 'all this by the same workers';


# the prices file: by both workers, once, and the old ones stay

sub told {
    my ($what, $name) = @_;

    ok $t->until(sub { 2 == (() = substr($t->log, $seen) =~ /$what/g) }, 3),
        $name or diag(substr $t->log, $seen);
    Test::LLM::HTTP->idle(0.6);
    is +(() = substr($t->log, $seen) =~ /llm_prices/g), 2, "$name: once";
    $seen = length $t->log;
}

$seen = length $t->log;

$t->write('prices.json', { map { $_ => { input => 1, output => 2 } }
    qw(* gpt-4o* gpt-4o) });
told(qr/\[notice\].*llm_prices ".*prices\.json": 3 models and patterns/,
    'new prices');
$t->write('prices.json', '{"gpt-4o*": {"input": "1", "output": 2}}');
told(qr/\[error\].*llm_prices ".*": gpt-4o\*\.input: expected a number .*the old/,
    'broken prices');
unlink $t->path('prices.json');
told(qr/\[error\].*llm_prices: open\(\) ".*" failed/, 'no prices');
$t->write('prices.json', '{}');
told(qr/\[notice\].*llm_prices ".*": 0 models and patterns/, 'none at all');


# a worker that came back does not start with the old file

$t->key('fourth');
ok $t->until(sub { both(fourth => 200) }, 3), 'a new key';
$t->kill_worker for 1 .. 2;
ok both(fourth => 200), 'respawned workers know it at once';


# requests in flight during many changes

$mock->script({ delay_ms => 30 });

$seen = length $t->log;
my %count;
my $changes = 0;
my $next = time;
my @live;

while ($changes < 50 || @live) {

    if ($changes < 50 && time >= $next) {
        $changes++;
        $next = time + 0.06;
        $t->key("extra$changes", requests_per_minute => 1000 + $changes);
        delete $t->{tenants}{keys}{'extra' . ($changes - 3)};
        $t->key('user', metadata => { change => "n$changes" });
    }

    @live = grep { !$_->{end} || !++$count{$_->status // $_->error} } @live;
    push @live, $t->start_chat('busy') while $changes < 50 && @live < 8;

    Test::LLM::HTTP->idle(0.005);
}

is join(' ', keys %count), '200', "50 changes during $count{200} requests";
$mock->script();
ok $t->until(sub { both(extra50 => 200) }, 3), 'the last one is in force';
unlike substr($t->log, $seen), qr/\[error\]/, 'none was half a file';


# what refuses the start

my $config = <<'EOT';
%%GLOBALS%%
http {
    %%GLOBALS_HTTP%%
    llm_zone llm 1m;
    llm_tenants %%FILE%%;
    %%PRICES%%
    llm_provider mock uri=/llm/mock/;
    llm_route * mock;
    server {
        listen 127.0.0.1:%%PORT_TEST%%;
        location / { llm_gateway; }
        location /llm/mock/ {
            internal; proxy_pass http://127.0.0.1:1/v1/; %%PROXY%%
        }
    }
}
EOT

$t->token(PRICES => '');

sub start_with {
    my ($text, $mode) = @_;

    $t->write('other.json', $text) if defined $text;
    chmod $mode, $t->path('other.json') if defined $mode;
    $t->token(FILE => $t->path('other.json'));

    return $t->test_config($config);
}

my ($ok, $said) = start_with('{"teams":{"a":{}},"keys":{}}', 0644);
ok $ok, 'a good file' or diag $said;

for my $broken (
    [ '{"teams":{"team":{}},"keys":{"notebooks":{"team":"team","sha256":"'
        . 'a' x 64 . '","concurrency":"4"}}}',
        qr/keys\.notebooks\.concurrency: expected a positive integer, got/ ],
    [ '{"keys": {}', qr/other\.json": .*\S/ ],
    [ '{"keys":{"a":{"sha256":"' . 'a' x 64 . '"},"a":{}}}',
        qr/other\.json": .*\S/ ],
    [ '[]', qr/other\.json": .*object/ ],
    [ '{"key":{}}', qr/other\.json": key: / ],
) {
    ($ok, $said) = start_with($broken->[0], 0644);
    ok !$ok, 'refused: ' . substr $broken->[0], 0, 40;
    like $said, $broken->[1], 'and why';
    like $said, qr/\[emerg\].*llm_tenants/, 'by its directive';
}

unlink $t->path('other.json');
($ok, $said) = start_with();
ok !$ok, 'a file that is not there';
like $said, qr/other\.json.*No such file/, 'is named';

$t->write('good.json', '{}');
chmod 0644, $t->path('good.json');
$t->token(PRICES => 'llm_prices %%DIR%%/good.json;');
($ok, $said) = start_with('{}', 0644);
ok $ok, 'a prices file' or diag $said;

$t->write('good.json', '{"a": {"input": 1}}');
($ok, $said) = start_with();
ok !$ok, 'prices without one for answers';
like $said, qr/\[emerg\].*llm_prices ".*good\.json": a\.output: expected a/,
    'are refused';

$t->write('good.json', '{}');

SKIP: {
    skip 'only root can start workers as another user', 4 if $>;

    chmod 0600, $t->path('good.json');
    ($ok, $said) = start_with();
    ok !$ok, 'prices that the workers may not read';
    like $said, qr/llm_prices ".*" cannot be read by the workers' user/,
        'are refused';
    $t->token(PRICES => '');

    ($ok, $said) = start_with('{"teams":{},"keys":{}}', 0600);
    ok !$ok, 'a file that the workers may not read';
    like $said, qr/other\.json" cannot be read by the workers' user/,
        'is refused';
}

done_testing;


sub save { $t->write('tenants.json', $t->{tenants}) }


sub in_place {
    my ($text) = @_;

    open my $file, '>', $t->path('tenants.json') or die $!;
    $file->autoflush(1);

    # in pieces, as an editor may write
    while (length(my $piece = substr $text, 0, 100, '')) {
        print $file $piece;
        Test::LLM::HTTP->idle(0.01);
    }

    close $file or die $!;
}


# whether both workers answer with that status: a run of 12 of them, each on
# a connection of its own, would hit one worker alone by chance only

sub both {
    my ($key, $status) = @_;

    my @all = map { $t->start_chat('x', key => $key) } 1 .. 12;
    $_->wait for @all;

    return !grep { $_->status != $status } @all;
}


# 1 if the change is in force in a second, else after how many seconds; the
# file's pace of four looks a second and a busy machine have some slack

sub change {
    my ($change, $holds) = @_;

    $change->();
    my $start = time;
    $t->until($holds, 5) or return 'never';
    my $took = time - $start;

    return $took < 1.5 ? 1 : $took;
}
