#!/usr/bin/perl

# llmctl: what it asks for, what it prints, how it ends; answers that no
# gateway gives; the live view on a terminal; and a gateway.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../tests/admin";

use JSON::PP;
use POSIX ();

use Test::LLM;
use screen;


my $t = Test::LLM->new(workers => 2);
my $program = "$t->{build}/llmctl";
my $checked = "$t->{build}/llmctl-san";
my $json = JSON::PP->new->utf8->canonical;
my $secret = 'sk-admin-0123456789abcdef';
my %sums = (requests => 1234567, errors => 12, cache_hits => 300,
    prompt_tokens => 5000000, cached_tokens => 1000, completion_tokens => 999,
    reasoning_tokens => 0, usd => 1234.5, saved_usd => 0.004, unpriced => 0);
my $pid;

delete @ENV{grep { /^LLMCTL_|_proxy$/i } keys %ENV};
delete $ENV{NO_COLOR};
$ENV{LLMCTL_SECRET} = $secret;

is `mandoc -T lint -W warning $FindBin::Bin/../llmctl/llmctl.1 2>&1`, '',
    'the manual page';

fake();
arguments();
secrets();
keys_();
teams();
usage();
live();
tasks();
lists();
bad_answers();
terminal();
gateway();

done_testing;


# what is said before anything is asked

sub arguments {
    for my $case (
        [[], qr/which command/], [['nonsense'], qr/no such command: nonsense/],
        [['key'], qr/which command/], [['key', 'x'], qr/no such command: key x/],
        [['key', 'create'], qr/KEY is missing/],
        [['key', 'show', 'a', 'b'], qr/too many arguments: b/],
        [['key', 'show', ''], qr/no name/], [['key', 'show', '..'], qr/no name/],
        [['key', 'list', '--nonsense'], qr/no such option/],
        [['key', 'list', '--rpm', '1'], qr/no option of this command/],
        [['key', 'create', 'a', '--rpm'], qr/needs a value/],
        [['key', 'create', 'a', '--rpm', '-1'], qr/--rpm: a number/],
        [['key', 'create', 'a', '--rpm', '1x'], qr/--rpm: a number/],
        [['key', 'create', 'a', '--rpm', '99999999999999999999'],
            qr/--rpm: a number/],
        [['key', 'create', 'a', '--rpm', '1', '--rpm', '2'], qr/given twice/],
        [['key', 'create', 'a', '--budget', '1e3'], qr/--budget: dollars/],
        [['key', 'create', 'a', '--budget', '.'], qr/--budget: dollars/],
        [['key', 'create', 'a', '--period', 'day'], qr/without --budget/],
        [['key', 'create', 'a', '--budget', '1', '--period', 'week'],
            qr/day or month/],
        [['key', 'create', 'a', '--models', 'a,,b'], qr/--models/],
        [['key', 'create', 'a', '--expires', '2026-02-30'], qr/no date/],
        [['key', 'create', 'a', '--expires', 'soon'], qr/no date/],
        [['key', 'create', 'a', '--metadata', '[1]'], qr/a JSON object/],
        [['key', 'create', 'a', '--set', 'x'], qr/MEMBER=JSON/],
        [['key', 'create', "a\xff"], qr/UTF-8/],
        [['key', 'set', 'a'], qr/nothing to set/],
        [['key', 'rotate', 'a', '--grace', '1y'], qr/--grace/],
        [['key', 'raise', 'a', '--rpm', '1'], qr/--until when/],
        [['key', 'raise', 'a', '--none', '--rpm', '1'], qr/--none is all/],
        [['usage', '--day', '--month'], qr/one of --minute/],
        [['usage', '--from', '+x'], qr/no date/],
        [['cache', 'purge'], qr/one of --all/],
        [['cache', 'purge', '--all', '--team', 'x'], qr/one of --all/],
        [['tasks', 'cancel'], qr/TASK is missing/],
        [['tasks', 'purge'], qr/TEAM is missing/],
        [['tasks', 'dead', 'x'], qr/too many arguments: x/],
        [['tasks', 'nonsense'], qr/too many arguments: nonsense/],
        [['tasks', 'purge', "a\xff"], qr/UTF-8/],
        [['breakers', 'reset'], qr/a TARGET or --all/],
        [['breakers', 'reset', 'x', '--all'], qr/a TARGET or --all/],
        [['completion', 'fish'], qr/bash or zsh/],
        [['status', '--url', 'file:///etc/passwd'], qr/expected http/],
        [['status', '--timeout', '0'], qr/--timeout/],
        [['top', '--json'], qr/no --json/],
    ) {
        my ($arguments, $said) = @$case;
        my ($status, $out, $error) = run($checked, @$arguments);

        is $status, 2, "refused: @$arguments";
        like $error, $said, '  it says why';
        is $out, '', '  and nothing else';
    }

    is requests(), 0, 'nothing was asked';

    for my $arguments (['--help'], ['help'], ['key', '--help'],
        ['help', 'key', 'raise'], ['--version'], ['completion', 'bash'],
        ['completion', 'zsh'])
    {
        my ($status, $out, $error) = run($checked, @$arguments);
        is "$status $error", '0 ', "@$arguments";
        ok length $out, '  there it is';
    }

    my $script = $t->write('complete', (run($program, 'completion', 'bash'))[1]
        . 'COMP_WORDS=(llmctl key ro); COMP_CWORD=2; _llmctl;
           echo "${COMPREPLY[@]}"
           COMP_WORDS=(llmctl key rotate x --gr); COMP_CWORD=4; _llmctl;
           echo "${COMPREPLY[@]}"');
    is `bash $script`, "rotate\n--grace\n", 'bash completes';
}


sub secrets {
    answer('GET /status' => [200, { object => 'status' }]);

    my $file = $t->write('secret', "from-a-file-000\n");
    my $other = $t->write('other-secret', 'from-another-000');

    run($program, 'status');
    is requests(1)->[0]{authorization}, "Bearer $secret", 'LLMCTL_SECRET';

    run($program, 'status', '--secret-file', $file);
    is requests(1)->[0]{authorization}, 'Bearer from-a-file-000',
        'a file comes first';

    {
        local $ENV{LLMCTL_SECRET_FILE} = $other;
        local $ENV{LLMCTL_SECRET};
        delete $ENV{LLMCTL_SECRET};
        run($program, 'status');
        is requests(1)->[0]{authorization}, 'Bearer from-another-000',
            'LLMCTL_SECRET_FILE';
    }

    mkdir $t->path('run');
    $t->write('run/admin-secret', "of-make-run-000\n");

    {
        local $ENV{LLMCTL_SECRET};
        delete $ENV{LLMCTL_SECRET};
        run("cd $t->{dir} && $program", 'status');
        is requests(1)->[0]{authorization}, 'Bearer of-make-run-000',
            'that of "make run"';

        local $ENV{LLMCTL_URL} = $ENV{LLMCTL_URL} =~ s/127/user\@127/r;
        run("cd $t->{dir} && $program", 'status');
        unlike requests(1)->[0]{authorization} // '', qr/of-make-run/,
            'not for just any URL';
    }

    {
        local $ENV{http_proxy} = 'http://127.0.0.1:1';
        is((run($program, 'status'))[0], 0, 'no proxy learns it');
        requests();
    }

    for my $bad ("a b", "a\r\nX: y", "a\0b", "\xe2\x82\xac", '') {
        $t->write('secret', $bad);
        is((run($checked, 'status', '--secret-file', $file))[0], 2,
            'no secret: ' . $json->allow_nonref->encode($bad));
    }

    is((run($checked, 'status', '--secret-file', "$file.not"))[0], 2,
        'a file that is not there');
    is requests(), 0, 'nothing was asked';

    answer('GET /status' => [401, error('invalid_api_key', 'Give it.')]);
    my ($status, $out, $error) = run($checked, 'status');
    is "$status $out", '4 ', 'a wrong secret';
    is $error, "llmctl: Give it. (401 invalid_api_key)\n", '  what was said';

    my $port = $t->port('NOBODY');
    ($status, $out, $error) = run($checked, 'status', '--url',
        "http://127.0.0.1:$port");
    is "$status $out", '3 ', 'nobody is there';
    like $error, qr/^llmctl: http:.*connect/i, '  it says so';

    answer('GET /status' => [200, '', 'silent'],
        'DELETE /keys/x' => [200, '', 'silent']);
    ($status, $out, $error) = run($checked, 'status', '--timeout', '1s');
    is "$status $out", '3 ', 'no answer';
    like $error, qr/timed? ?out/i, '  it says so';
    ($status, $out, $error) = run($checked, 'key', 'delete', 'x', '--timeout',
        '1s');
    is $status, 3, 'no answer to a change';
    like $error, qr/not known whether this was done/, '  which may be done';
    requests();
}


sub keys_ {
    my %key = (object => 'key', name => 'notebooks', team => 'search',
        enabled => JSON::PP::true, expires => '2027-01-01T00:00:00Z',
        created => '2026-11-21T20:00:00Z', source => 'admin',
        shadowed => JSON::PP::false, hint => "sk-llm-\xe2\x80\xa6x7Qa",
        rotation => undef, raises => [], requests_per_minute => 60,
        metadata => { owner => "a\e[31mb" },
        effective => { requests_per_minute => 60, tokens_per_minute => 2000000,
            concurrency => undef, budget => { usd => 12.5,
            period => 'month' } });
    utf8::decode($key{hint});

    answer('POST /keys' => [201, { %key, secret => 'sk-llm-abc' }]);
    my ($status, $out, $error) = run($checked, qw(key create notebooks --team
        search --rpm 60 --tpm 20k --rpd 2M --tpd none --concurrency 4 --budget
        12.5 --models), 'gpt-4o*,o3', '--expires', '2027-01-01', '--metadata',
        '{"owner": "me"}', '--set', 'queue={"size": 3}', '--set',
        'on_exceed=cut', '--priority', '-5');
    is $status, 0, 'a key is made';
    is $out, "sk-llm-abc\n", 'its secret alone goes to stdout';
    like $error, qr/^key notebooks is made$/m, 'the rest to stderr';

    my $r = requests(1)->[0];
    is "$r->{method} $r->{target}", 'POST /keys', 'the request';
    is_deeply $r->{body}, { name => 'notebooks', team => 'search',
        requests_per_minute => 60, tokens_per_minute => 20000,
        requests_per_day => 2000000, concurrency => 4,
        budget => { usd => 12.5, period => 'month' },
        models => ['gpt-4o*', 'o3'], expires => '2027-01-01T00:00:00Z',
        metadata => { owner => 'me' }, queue => { size => 3 },
        on_exceed => 'cut', priority => -5 }, '  its body';

    ($status, $out) = run($checked, qw(key create x --json));
    is $json->decode($out)->{secret}, 'sk-llm-abc', '--json';
    ok $status == 0 && $out !~ /is made/, '  and nothing else';
    ($status, $out, $error) = run("$checked", qw(key create x --budget 0.1
        --sha256), 'ab' x 32, '>/dev/full');
    is $status, 0, 'a secret of somebody else is not shown';
    is requests(2)->[1]{body}{budget}{usd}, 0.1, 'a dime is a dime';
    ($status, $out, $error) = run($checked, qw(key create x), '>/dev/full');
    is $status, 1, 'a secret that nobody saw is no success';

    answer('POST /keys' => [409, error('key_exists', "There is \"x\e[2J\x{9b}\".",
        'name')]);
    ($status, $out, $error) = run($checked, qw(key create x));
    is $status, 1, 'it is there already';
    is $error, 'llmctl: There is "x\x1b[2J\x9b". (409 key_exists, name)' . "\n",
        '  with no escape of somebody else';
    ($status, $out, $error) = run($checked, qw(key create x --json));
    is $status, 1, '  with --json';
    is $json->decode($out)->{error}{code}, 'key_exists', '  the answer';
    requests();

    answer('GET /keys' => [200, { object => 'list', has_more => JSON::PP::false,
        next => undef, data => [\%key, { %key, name => "evil\x{202e}\e]0;x\a",
        team => undef, enabled => JSON::PP::false, expires => undef,
        hint => undef, source => 'file', effective => {} },
        { %key, name => 'old', expires => '2020-01-01T00:00:00Z' }] }]);
    ($status, $out) = run($checked, qw(key list --team a/b&c --source admin));
    is requests(1)->[0]{target}, '/keys?team=a%2Fb%26c&source=admin',
        'a list of keys';
    is squeezed($out), <<'END', '  printed';
NAME TEAM STATE RPM TPM CONC BUDGET EXPIRES SECRET SOURCE
evil\u{202e}\x1b]0;x\x07 - disabled - - - - - - file
notebooks search active 60 2.0 M - $12.50/month 2027-01-01 00:00 sk-llm-…x7Qa admin
old search expired 60 2.0 M - $12.50/month 2020-01-01 00:00 sk-llm-…x7Qa admin
END
    is join(',', map { utf8::decode($_); index $_, '.50/month' }
        (split /\n/, $out)[2, 3]), '65,65', '  in columns';

    answer("GET /keys/a%2Fb%C3%A4" => [200, \%key]);
    ($status, $out) = run($checked, qw(key show), "a/b\xc3\xa4");
    is $status, 0, 'a name with a slash';
    like $out, qr/^requests_per_minute +60$/m, '  a member';
    like $out, qr/^metadata +\{"owner": "a\\u001B\[31mb"\}$/m, '  another';
    requests();

    my $path = '/keys/notebooks';
    answer(map { $_ => [200, { %key, secret => 'sk-llm-new' }] }
        "PATCH $path", "DELETE $path", "POST $path/rotate", "POST $path/raise",
        "DELETE $path/raise");

    for my $case (
        [[qw(set notebooks --rpm none --budget 3 --team none)], "PATCH $path",
            { requests_per_minute => undef, team => undef,
              budget => { usd => 3 } }],
        [[qw(disable notebooks)], "PATCH $path",
            { enabled => JSON::PP::false }],
        [[qw(disable notebooks --cut)], "PATCH $path?streams=cut",
            { enabled => JSON::PP::false }],
        [[qw(enable notebooks)], "PATCH $path", { enabled => JSON::PP::true }],
        [[qw(delete notebooks --cut)], "DELETE $path?streams=cut", undef],
        [[qw(rotate notebooks)], "POST $path/rotate", { grace_s => 0 }],
        [[qw(rotate notebooks --grace 1d)], "POST $path/rotate",
            { grace_s => 86400 }],
        [[qw(raise notebooks --rpm 600 --until 2026-12-01)],
            "POST $path/raise", { requests_per_minute => 600,
            until => '2026-12-01T00:00:00Z' }],
        [[qw(raise notebooks --budget 12.5 --until 2026-12-01T01:02:03Z)],
            "POST $path/raise", { budget => 12.5,
            until => '2026-12-01T01:02:03Z' }],
        [[qw(raise notebooks --none)], "DELETE $path/raise", undef],
    ) {
        my ($arguments, $target, $body) = @$case;

        ($status, $out, $error) = run($checked, 'key', @$arguments);
        is $status, 0, "key @$arguments";
        is $out, $arguments->[0] eq 'rotate' ? "sk-llm-new\n" : '', '  stdout';
        like $error, qr/^key notebooks /, '  stderr';

        $r = requests(1)->[0];
        is "$r->{method} $r->{target}", $target, '  asked for';
        is_deeply $r->{body}, $body, '  body';
    }

    my $before = time;
    run($checked, qw(key raise notebooks --rpm 1 --until +2d));
    my $until = requests(1)->[0]{body}{until};
    like $until, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'in two days';
    my @part = $until =~ /(\d+)/g;
    local $ENV{TZ} = 'UTC0';
    POSIX::tzset();
    my $at = POSIX::mktime($part[5], $part[4], $part[3], $part[2],
        $part[1] - 1, $part[0] - 1900);
    ok $at >= $before + 172800 && $at <= time + 172800, '  from now';
}


sub teams {
    my %team = (object => 'team', name => 'search', source => 'admin',
        shadowed => JSON::PP::false, keys => 2, day => { %sums },
        month => { %sums }, requests_per_minute => 600, models => undef,
        budget => { usd => 500, period => 'day' }, spend => {
        period => 'day', budget_usd => 500, usd => 450, ratio => 0.9,
        resets => '2026-12-01T00:00:00Z', forecast_usd => 510.2,
        exhausted => undef });

    answer('GET /teams' => [200, { object => 'list', data => [\%team],
        has_more => JSON::PP::false, next => undef }],
        'GET /teams/search' => [200, \%team],
        'PUT /teams/search' => [200, \%team],
        'PUT /teams/new' => [201, \%team],
        'DELETE /teams/search' => [409, error('team_in_use', 'Keys are.')]);

    my ($status, $out, $error) = run($checked, qw(team list));
    is $out, <<'END', 'a list of teams';
NAME    SOURCE  KEYS  REQUESTS  TOKENS      TODAY      MONTH       BUDGET   SPENT  FORECAST
search  admin      2     1.2 M   5.0 M  $1,234.50  $1,234.50  $500.00/day  90.0 %   $510.20
END

    ($status, $out) = run($checked, qw(team show search));
    like $out, qr/^requests_per_minute +600$/m, 'a team';
    requests();

    ($status, $out, $error) = run($checked, qw(team set search --tpm 1000
        --rpm none --budget 700));
    is "$status $error", "0 team search is changed\n", 'a team is changed';
    is_deeply requests(2)->[1]{body}, { tokens_per_minute => 1000,
        budget => { usd => 700, period => 'day' } }, '  the rest is kept';

    ($status, $out, $error) = run($checked, qw(team set search --replace --budget
        1));
    is_deeply requests(1)->[0]{body}, { budget => { usd => 1,
        period => 'month' } }, '  or not';

    answer_more('GET /teams/new' => [404, error('team_not_found', 'No.')]);
    ($status, $out, $error) = run($checked, qw(team set new --rpm 5));
    is "$status $error", "0 team new is made\n", 'a team is made';
    is_deeply requests(2)->[1]{body}, { requests_per_minute => 5 }, '  so';

    answer_more('GET /teams/new' => [503, error('redis_unavailable', 'No.')]);
    ($status, $out, $error) = run($checked, qw(team set new --rpm 5));
    is $status, 1, 'it cannot be read';
    is scalar @{requests(1)}, 1, '  so it is not written';

    ($status, $out, $error) = run($checked, qw(team delete search));
    is "$status $error", "1 llmctl: Keys are. (409 team_in_use)\n",
        'a team in use';
    requests();
}


sub usage {
    answer('GET /usage' => [200, { object => 'usage', period => 'month',
        from => '2026-01-01T00:00:00Z', to => '2026-12-01T00:00:00Z',
        group_by => ['team', 'model'], fleet => JSON::PP::true,
        truncated => JSON::PP::false,
        data => [{ %sums, start => '2026-11-01T00:00:00Z', team => undef,
            model => "gpt-4o\n" }, { %sums, usd => 0,
            start => '2026-11-01T00:00:00Z', team => 'search',
            model => 'o3' }], total => { %sums, unpriced => 3 } }]);

    my ($status, $out, $error) = run($checked, qw(usage --month --team search --by),
        'team,model', qw(--from 2026-01-01 --to), '2026-12-01 10:30');
    is requests(1)->[0]{target}, '/usage?period=month&from=2026-01-01T00%3A00'
        . '%3A00Z&to=2026-12-01T10%3A30%3A00Z&group_by=team%2Cmodel'
        . '&team=search', 'usage is asked for';
    is squeezed($out), <<'END', '  printed';
START (UTC) TEAM MODEL REQUESTS ERRORS HITS PROMPT CACHED ANSWER REASONING USD SAVED
2026-11 - gpt-4o\x0a 1.2 M 12 300 5.0 M 1000 999 0 $1,234.50 <$0.01
2026-11 search o3 1.2 M 12 300 5.0 M 1000 999 0 $0.00 <$0.01
total 1.2 M 12 300 5.0 M 1000 999 0 $1,234.50 <$0.01
END
    is $error, "3 requests were of models without a price\n", '  unpriced';

    ($status, $out) = run($checked, qw(usage --sum --json));
    is requests(1)->[0]{target}, '/usage?buckets=false', 'summed up';
    is $out, $json->encode(answers()->{'GET /usage'}[1]) . "\n",
        '--json is the answer as it is';
}


sub live {
    status_answers();

    my ($status, $out, $error) = run($checked, 'status');
    like $out, qr/^gateway   0\.1\.0, nginx 1\.22\.1, workers 2$/m, 'status';
    like $out, qr/^cache     10 answers, 1\.5 MB of 64\.0 MB, hit ratio 75\.0 %$/m,
        '  the cache';
    like $out, qr/^today     1\.2 M requests, 12 errors, 5\.0 M \+ 999 tokens, \$1,234\.50$/m,
        '  today';

    ($status, $out) = run($checked, 'slots');
    is $out, <<'END', 'slots';
KIND      NAME    IN USE  OF  WAITING
team      search       3   8        2
provider  openai       1   -        0
END

    ($status, $out) = run($checked, 'breakers');
    is $out, <<'END', 'breakers';
TARGET         STATE      UNTIL  RUNNING     P50    P95  LEFT  RETRIES  EJECTED
openai:gpt-4o  closed         -      3/8  120 ms  2.5 s   499        1        0
azure          open    20:00:30        0       -      -     -        0        4
END

    answer_more('POST /breakers/reset' => [200,
        { object => 'breakers.reset', reset => 2 }],
        'POST /cache/purge' => [200, { purged => { class => 'team',
        name => 'a' }, generation => 1, fleet => JSON::PP::true }]);
    requests();

    for my $case (
        [[qw(breakers reset openai:gpt-4o)], { name => 'openai:gpt-4o' },
            "targets reset: 2\n"],
        [[qw(breakers reset --all)], { all => JSON::PP::true },
            "targets reset: 2\n"],
        [[qw(cache purge --all)], { all => JSON::PP::true },
            "purged, on all gateways\n"],
        [[qw(cache purge --namespace x)], { namespace => 'x' },
            "purged, on all gateways\n"],
    ) {
        my ($arguments, $body, $said) = @$case;

        ($status, $out, $error) = run($checked, @$arguments);
        is "$status $error", "0 $said", "@$arguments";
        is_deeply requests(1)->[0]{body}, $body, '  asked for';
    }

    ($status, $out, $error) = run($checked, 'tasks');
    is $status, 1, 'no tasks';
    is $error, "llmctl: There is no such URL. (404 unknown_url)\n",
        '  as the API says';

    ($status, $out, $error) = run($checked, 'top');
    is "$status $error", '0 ', 'a picture without a terminal';
    like $out, qr/^search +1\.2 M +5\.0 M +\$1,234\.50 +12 +3 +2$/m,
        '  its teams';
    ok index($out, "azure") < index($out, 'openai:'), '  what is ill is first';
    unlike $out, qr/\e/, '  no escapes';
    unlike $out, qr/^Tasks/m, '  no queue, no line of it';
    requests();
}


sub tasks {
    my %all = (object => 'tasks', queued => 12, processing => 3,
        delayed => 1, dead => 4, oldest_ms => 125000, submitted => 2100,
        completed => 2000, error => 40, cancelled => 45, retries => 7,
        deaths => 1, running_here => 2, max => 100000, team_max => 60000,
        classes => [], teams => [{ team => "se\narch", live => 11 },
        { team => '~lone', live => 4 }]);

    status_answers();
    answer_more('GET /tasks' => [200, \%all]);

    my ($status, $out, $error) = run($checked, 'tasks');
    is "$status $error", '0 ', 'tasks';
    is $out, <<'END', '  printed';
tasks     12 queued, 3 processing, 1 delayed, 4 dead, the next one waits for 2 min
room      15 of 100 k, a team 60.0 k; here run 2
ever      2100 submitted, 2000 completed, 40 error, 45 cancelled, 7 retries

TEAM        TASKS
se\x0aarch     11
~lone           4
END

    ($status, $out) = run($checked, 'tasks', '--json');
    is $out, $json->encode(\%all) . "\n", '  --json';

    ($status, $out) = run($checked, 'top');
    like $out, qr/^Tasks     12 queued, 3 processing, .* for 2 min$/m,
        '  top has a line';

    answer_more('GET /tasks' => [200, { %all, teams => [], oldest_ms => 0 }]);
    ($status, $out) = run($checked, 'tasks');
    unlike $out, qr/TEAM|waits/, '  nobody has any';

    requests();
    answer('GET /tasks/dead' => [200, { object => 'list', data => [
        { object => 'task.dead', id => 'task-1', team => 'search',
          reason => 'poison', attempts => 3, deaths => 4,
          time => '2026-11-21T20:00:00Z' }], has_more => JSON::PP::false,
        next => undef }],
        'GET /tasks/dead?limit=5' => [200, { data => [] }],
        'DELETE /tasks/task-1' => [200, { object => 'task.cancelled',
        id => 'task-1', status => 'cancelled' }],
        'DELETE /tasks/a%2Fb' => [200, { status => 'cancelling' }],
        'DELETE /tasks/task-2' => [409, error('task_ended', 'It is over.')],
        'POST /tasks/purge' => [200, { object => 'tasks.purged',
        team => 'search', removed => 7, cancelling => 1 }]);

    ($status, $out) = run($checked, qw(tasks dead));
    is squeezed($out), <<'END', 'dead ones';
TASK TEAM REASON ATTEMPTS DEATHS WHEN
task-1 search poison 3 4 2026-11-21 20:00
END
    is requests(1)->[0]{target}, '/tasks/dead', '  asked for';
    is((run($checked, qw(tasks dead --limit 5)))[0], 0, 'some of them');
    is requests(1)->[0]{target}, '/tasks/dead?limit=5', '  asked for';

    for my $case (
        [['cancel', 'task-1'], 0, "task task-1 is cancelled\n"],
        [['cancel', 'a/b'], 0, "task a/b is running, and will be stopped\n"],
        [['cancel', 'task-2'], 1, "llmctl: It is over. (409 task_ended)\n"],
        [['purge', 'search'], 0,
            "removed: 7, running and to be stopped: 1\n"],
    ) {
        my ($arguments, $code, $said) = @$case;

        ($status, $out, $error) = run($checked, 'tasks', @$arguments);
        is "$status $error", "$code $said", "tasks @$arguments";
        is $out, '', '  nothing on stdout';
    }

    is_deeply requests(4)->[3]{body}, { team => 'search' }, 'whose';
}


sub status_answers {
    answer('GET /status' => [200, { object => 'status', version => '0.1.0',
        nginx => '1.22.1', started => '2026-11-21T20:00:00Z', workers => 2,
        redis => 'up', policy => { file_keys => 3, admin_keys => 5,
        teams => 2 }, requests => { running => 3, waiting => 2 },
        cache => { entries => 10, bytes => 1572864, size_bytes => 67108864,
        hits => 30, misses => 10 }, day => { %sums }, month => { %sums },
        minute => { %sums, requests => 90 } }],
        'GET /slots' => [200, { object => 'list', data => [
            { object => 'slots', kind => 'team', name => 'search',
              in_use => 3, concurrency => 8, waiting => 2 },
            { object => 'slots', kind => 'provider', name => 'openai',
              in_use => 1, concurrency => undef, waiting => 0 }],
            has_more => JSON::PP::false, next => undef }],
        'GET /breakers' => [200, { object => 'list', data => [
            { object => 'target', name => 'openai:gpt-4o', state => 'closed',
              until => undef, cooling_until => undef, running => 3, most => 8,
              first_ms => { p50 => 120, p95 => 2500 }, requests => {
              limit => 500, remaining => 499, reset_ms => 10 },
              tokens => undef, ejections => 0, cooled => 0, retries => 1,
              denied => 0, paced => 0 },
            { object => 'target', name => 'azure', state => 'open',
              until => '2026-11-21T20:00:30Z', cooling_until => undef,
              running => 0, most => undef, first_ms => { p50 => undef,
              p95 => undef }, requests => undef, tokens => undef,
              ejections => 4, cooled => 0, retries => 0, denied => 0,
              paced => 0 }], has_more => JSON::PP::false, next => undef }],
        'GET /usage' => [200, { object => 'usage', period => 'day',
            group_by => ['team'], fleet => JSON::PP::true, data => [
            { %sums, team => undef, usd => 1 }, { %sums, team => 'search' }],
            total => { %sums } }]);
}


sub lists {
    my $page = sub { [200, { object => 'list', data => [map +{ kind => 'key',
        name => $_ }, @{$_[0]}], has_more => $_[1] ? JSON::PP::true
        : JSON::PP::false, next => $_[1] }] };

    answer('GET /slots' => $page->(['a'], 'n&1'),
        'GET /slots?after=n%261' => $page->(['b'], 'n2'),
        'GET /slots?after=n2' => $page->(['c'], undef));

    my ($status, $out) = run($checked, 'slots');
    is join(' ', $out =~ /^key +(\w)/mg), 'a b c', 'all pages of a list';
    ($status, $out) = run($checked, 'slots', '--json');
    is join(' ', map { $_->{data}[0]{name} } map { $json->decode($_) }
        split /\n/, $out), 'a b c', '  with --json, too';
    requests();
    ($status, $out) = run($checked, 'slots', '--limit', '1');
    is requests(1)->[0]{target}, '/slots?limit=1', 'one page';
}


# under sanitizers: whatever comes, it ends with a word and a code

sub bad_answers {
    my @commands = (['status'], ['slots'], ['breakers'], ['top'], ['usage'],
        ['key', 'list'], ['key', 'show', 'x'], ['key', 'create', 'x'],
        ['key', 'rotate', 'x'], ['team', 'list'],
        ['team', 'set', 'x', '--rpm', 1], ['cache', 'purge', '--all'],
        ['breakers', 'reset', '--all'], ['tasks'], ['tasks', 'dead'],
        ['tasks', 'cancel', 'x'], ['tasks', 'purge', 'x']);

    my @shapes = map { $json->allow_nonref->encode($_) } (
        { data => [1, 'x', undef, [], {}], total => 3, group_by => 'x',
          day => [], name => 7 },
        { data => [{ name => {}, team => [], start => 4, usd => 'x',
          requests => 1e300, prompt_tokens => -1e300, state => 1, until => [],
          effective => 3, budget => 3, expires => '2026', spend => [],
          first_ms => 'x', raises => 'x' }], has_more => JSON::PP::true,
          group_by => [1, {}, 'team', "\n"], total => { usd => 1e300 },
          secret => 5, status => 1, cache => 5, started => 'TTTTTTTTTTZ' },
        { data => {}, group_by => [('team') x 20] },
        { data => [{ map { $_ => '' } qw(name team source hint expires state
          until cooling_until kind start) }], group_by => ['team'],
          period => '', secret => '', version => '', redis => '',
          started => '', total => {} },
        { data => [{ period => '', spend => { period => '', budget_usd => 1 },
          budget => { period => '', usd => 1 } }], group_by => [] },
        { error => { message => 5, code => [], param => {} } },
        { error => 'x' },
    );

    # jansson makes nothing of it, or it is no object
    my @none = ('', '{', 'null', '[]', '"x"', '1', "\xff\xfe", '[' x 5000,
        '{"a": "\u0000"}', '<html>502</html>', '{} {}');

    for my $command (@commands) {
        my %paths = map { $_ => 1 } qw(/status /slots /breakers /usage /keys
            /keys/x /keys/x/rotate /teams /teams/x /cache/purge
            /breakers/reset /tasks /tasks/dead /tasks/x /tasks/purge);
        my @bad;

        for my $case ((map { [200, $_] } @shapes, @none),
            (map { [500, $_] } @shapes[-2, -1], @none), [404, '{}'],
            [200, '{}', 'cut'], [200, '', 'huge'])
        {
            my ($status, $text, $how) = @$case;

            answer(map { my $path = $_;
                map { ("$_ $path", [$status, $text, $how]) }
                    qw(GET POST PUT PATCH DELETE) } keys %paths);

            my ($code, $out, $error) = run($checked, @$command);
            my $wanted = ($how // '') eq 'cut' ? '3' : ($how // '') eq 'huge'
                || $status != 200 || grep({ $_ eq $text } @none) ? '1'
                : '[01]';

            push @bad, "$status " . substr($text, 0, 40) . ($how // '')
                . ": $code $error" if $code !~ /^$wanted$/
                || $error =~ /sanitizer|runtime error|\e/i
                || ($code && $error !~ /^llmctl: ./m);
        }

        is "@bad", '', "@$command: answers of all kinds";
    }

    requests();
}


sub terminal {
    status_answers();

    my $screen = screen->start(80, 24, $program, 'top', '--interval', '1s');

    ok $screen->shows(qr/^search .*\n.*\(no team\)/m), 'top on a terminal'
        or diag $screen->text;
    ok $screen->other && !$screen->shown, 'on a screen of its own';
    ok !$screen->cooked, 'without echo';
    like $screen->text, qr/^Requests +1\.5\/s +running 3 +waiting 2/m,
        'what goes on';

    my @lines = split /\n/, $screen->text;
    ok @lines <= 24 && !grep({ length > 80 } @lines) && !$screen->scrolled,
        'it has room';
    unlike substr($screen->out, index($screen->out, 'search')), qr/\e\[2J/,
        'nothing is cleared between two pictures';

    my %later = %sums;
    $later{requests} += 1000;
    answers(sub { $_[0]{'GET /status'}[1]{day}{requests} += 1000;
        $_[0]{'GET /usage'}[1]{data} = [map +{ %later, team => "team$_",
        usd => $_ }, 1 .. 300] });
    ok $screen->shows(qr/^team300 .*\$300\.00/m), 'the next picture';
    unlike $screen->text, qr/\(no team\)/, '  without the last one';

    $screen->resize(40, 10);
    kill 'WINCH', $screen->pid;
    $screen->{screen} = [];
    ok $screen->shows(qr/^llmctl top/m), 'a smaller window';
    $screen->until(sub { 0 }, 0.3);
    @lines = split /\n/, $screen->text;
    ok @lines <= 10 && !grep({ length > 40 } @lines) && !$screen->scrolled,
        '  it has room';
    $screen->resize(80, 24);

    answers(sub { $_[0]{'GET /status'} = [503, error('redis_unavailable',
        "Gone.\e[2J")] });
    ok $screen->shows(qr/^Gone\.\\x1b\[2J \(503/m), 'trouble is told';
    ok $screen->shows(qr/^team300 /m), '  and the last picture stays';

    $screen->type('q');
    is $screen->ended, 0, 'q ends it';
    back($screen, 'q');

    for my $signal (qw(INT TERM HUP QUIT SEGV)) {
        status_answers();
        $screen = screen->start(80, 24, $program, 'top');
        $screen->shows(qr/^search /m);
        kill $signal, $screen->pid;
        my $status = $screen->ended // -1;
        is $status & 127, POSIX->can("SIG$signal")->(), "SIG$signal ends it";
        back($screen, "SIG$signal");
    }

    # a shell, since what has no parent in its session cannot be stopped
    $screen = screen->start(80, 24, 'bash', '-mc', "$program top --interval 1s"
        . '; read -r; fg; exit $?');
    $screen->shows(qr/^search /m);
    $screen->type("\cZ");
    ok $screen->until(sub { $screen->cooked && !$screen->other }),
        'stopped, it gives the terminal back';
    $screen->type("\n");
    ok $screen->until(sub { $screen->other && !$screen->cooked }),
        '  and takes it again';

    answers(sub { $_[0]{'GET /status'} = [401, error('invalid_api_key',
        'Not any more.')] });
    is(($screen->ended // -1) >> 8, 4, 'a secret that is void ends it');
    back($screen, '401');
    like $screen->out, qr/Not any more\. \(401[^\n]*\n\z/, '  it says why';

    status_answers();
    answers(sub { $_[0]{'GET /usage'} = [200, '', 'silent'] });
    $screen = screen->start(80, 24, $program, 'top', '--timeout', '1s');
    is(($screen->ended // -1) >> 8, 3, 'a gateway that is silent');

    local $ENV{NO_COLOR} = 1;
    answers(sub { $_[0]{'GET /status'} = [200, { redis => 'down' }] });
    $screen = screen->start(80, 24, $program, 'status');
    is $screen->ended, 0, 'NO_COLOR';
    unlike $screen->out, qr/\e/, '  no escapes';
    delete local $ENV{NO_COLOR};
    $screen = screen->start(80, 24, $program, 'status');
    $screen->ended;
    like $screen->out, qr/\e\[31mdown\e\[0m/, 'else there is colour';

    answers(sub { $_[0]{'GET /status'} = [200, "{\"a\": \"\x7f\xc2\x9b\"}"] });
    $screen = screen->start(80, 24, $program, 'status', '--json');
    $screen->ended;
    is $screen->out, "{\"a\": \"\\u007f\\u009b\"}\r\n",
        '--json on a terminal: the same, harmless';
    requests();
}


sub back {
    my ($screen, $why) = @_;

    ok !$screen->other && $screen->shown && $screen->cooked,
        "$why: the terminal is as it was";
}


# two gateways, and what a key that is made at one may do at both

sub gateway {
    my $admin = 'sk-admin-of-the-gateway-0001';
    my $other = Test::LLM->new(workers => 2);

    $t->key('user');

    for my $g ($t, $other) {
        $g->{tenants} = $t->{tenants};
        $g->write('tenants.json', $t->{tenants});
        $g->write('admin-secret', "$admin\n");
        $g->token($_ => $t->token($_)) for grep { $t->token($_) } qw(MOCK
            REDIS);
        $g->gateway(location => 'llm_cache on;', admin => '
            location /admin/v1/ { llm_admin file:%%DIR%%/admin-secret; }');
    }

    local $ENV{LLMCTL_URL} = 'http://127.0.0.1:' . $t->port('PORT_ADMIN');
    local $ENV{LLMCTL_SECRET_FILE} = $t->path('admin-secret');
    local $ENV{LLMCTL_SECRET};
    delete $ENV{LLMCTL_SECRET};

    is $t->chat('hello', key => 'user')->status, 200, 'a gateway';

    my ($status, $out, $error) = run($program, qw(cache purge --team team));
    is "$status $error", "0 purged, on all gateways\n", 'purged';

    ($status, $out, $error) = run($program, qw(cache purge --team), '');
    is $status, 1, 'an empty name';
    like $error, qr/\(400 invalid_value, team\)$/, '  the API says why';

    ($status, $out, $error) = run($program, 'tasks');
    like $error, qr/\(404 no_tasks\)$/, 'no tasks without llm_tasks';

    {
        local $ENV{LLMCTL_SECRET} = 'another';
        is((run($program, qw(cache purge --all)))[0], 4, 'another secret');
    }

    ($status, $out, $error) = run($program, qw(team set search --rpm 600
        --budget 5 --period day));
    is "$status $error", "0 team search is made\n", 'a team';
    ($status, $out, $error) = run($program, qw(team set search --tpm 100k));
    is "$status $error", "0 team search is changed\n", '  is changed';
    ($status, $out) = run($program, qw(team show search --json));
    my $team = eval { $json->decode($out) } // {};
    is_deeply [@$team{qw(requests_per_minute tokens_per_minute budget)}],
        [600, 100000, { usd => 5, period => 'day' }], '  the rest is kept';

    ($status, my $key, $error) = run($program, qw(key create notebooks --team
        search --rpm 60 --metadata), '{"owner": "me"}');
    is $status, 0, 'a key' or diag $error;
    like $key, qr/^sk-llm-[0-9A-Za-z]{40}\n\z/, '  its secret';
    chomp $key;

    used($_, $key, 200, 'it works') for $t, $other;

    ($status, $out) = run($program, qw(key list --source admin));
    like squeezed($out), qr/^notebooks search active 60 /m,
        '  it is listed';

    ($status, my $new) = run($program, qw(key rotate notebooks --grace 1h));
    chomp $new;
    isnt $new, $key, 'another secret';
    used($_, $new, 200, 'the new one') for $t, $other;
    used($_, $key, 200, 'the old one') for $t, $other;
    ($status, $new) = run($program, qw(key rotate notebooks));
    chomp $new;
    used($_, $new, 200, 'the third') for $t, $other;
    used($_, $key, 401, 'the first is void') for $t, $other;

    is((run($program, qw(key raise notebooks --rpm 600 --until +2d)))[0], 0,
        'raised');
    ($status, $out) = run($program, qw(key list --source admin));
    like squeezed($out), qr/^notebooks search raised 600 /m, '  it is listed';

    is((run($program, qw(key disable notebooks)))[0], 0, 'disabled');
    used($_, $new, 403, 'it is refused') for $t, $other;
    is((run($program, qw(key enable notebooks)))[0], 0, 'enabled');
    used($_, $new, 200, 'it works') for $t, $other;
    is((run($program, qw(key delete notebooks)))[0], 0, 'deleted');
    used($_, $new, 401, 'it is refused') for $t, $other;

    for my $arguments ([qw(key show user)], [qw(team list)], [qw(team show
        team)], ['usage'], [qw(usage --minute --by team)], [qw(usage --sum
        --by), 'team,model,provider'], ['status'], ['slots'], ['breakers'],
        [qw(breakers reset --all)], ['top'], [qw(team delete search)])
    {
        ($status, $out, $error) = run($checked, @$arguments);
        is $status, 0, "@$arguments" or diag $error;
    }

    for my $arguments ([qw(key set user --rpm 1)], [qw(team set team --rpm 1)],
        [qw(key show nobody)])
    {
        ($status, $out, $error) = run($program, @$arguments);
        is $status, 1, "@$arguments";
        like $error, qr/\((409|404) \w+_(in_file|not_found)/, '  it says why';
    }
}


# within a second a gateway answers the secret of a key so

sub used {
    my ($g, $key, $status, $what) = @_;

    my $got = '';
    $g->until(sub {
        $got = $g->post('/v1/chat/completions', { model => 'gpt-4o',
            messages => [{ role => 'user', content => "x $what" }] },
            headers => [Authorization => "Bearer $key"])->status;
        return $got == $status;
    }, 1);

    is $got, $status, "  $what, " . ($g == $t ? 'here' : 'at the other');
}


# (exit code, stdout, stderr)

sub run {
    my ($command, @arguments) = @_;

    my $redirect = @arguments && $arguments[-1] =~ /^>/ ? pop @arguments
        : '>' . $t->path('out');
    my $line = join ' ', map { my $s = $_; $s =~ s/'/'\\''/g; "'$s'" }
        @arguments;

    unlink $t->path('out');
    system 'sh', '-c', "$command $line $redirect 2>" . $t->path('err')
        . ' </dev/null';

    return ($? & 127 ? 'signal ' . ($? & 127) : $? >> 8, $t->read('out'),
        $t->read('err'));
}


# without the columns

sub squeezed {
    return $_[0] =~ s/ +/ /gr;
}


sub fake {
    $t->spawn('fake', $^X, "$FindBin::Bin/../tests/admin/fake.pl", $t->dir);
    $t->until(sub { $t->read('fake.out') =~ /port (\d+)/ }, 10)
        or BAIL_OUT('the fake does not start');
    $t->read('fake.out') =~ /port (\d+)/;
    $ENV{LLMCTL_URL} = "http://127.0.0.1:$1";
}


sub answer {
    my (%answers) = @_;
    $t->write('answers.json', \%answers);
}


sub answer_more {
    my (%more) = @_;
    answers(sub { %{$_[0]} = (%{$_[0]}, %more) });
}


sub answers {
    my ($change) = @_;

    my $answers = $json->decode($t->read('answers.json'));

    if ($change) {
        $change->($answers);
        $t->write('answers.json', $answers);
    }

    return $answers;
}


sub error {
    my ($code, $message, $param) = @_;

    return { error => { message => $message, type => 'invalid_request_error',
        param => $param, code => $code } };
}


# what was asked since the last call: how many, or exactly n of them

sub requests {
    my ($n) = @_;

    my @requests = map { $json->decode($_) } split /\n/, $t->read('requests');
    unlink $t->path('requests');

    return scalar @requests if !defined $n;

    is scalar @requests, $n, 'requests' if @requests != $n;

    return \@requests;
}
