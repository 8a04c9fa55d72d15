#!/usr/bin/perl

# Keys and teams of the admin API in one gateway: every operation, with Redis
# and with llm_state; what is refused changes nothing; what was kept is there
# again after a restart, whatever became of the journal.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);
use POSIX qw(strftime);
use Time::HiRes qw(time);

use Test::LLM;


my $admin = 'sk-admin-' . sha256_hex('admin');
my $json = JSON::PP->new->canonical->ascii;

my @mounts;

END { system 'umount', $_ for @mounts }

my %store = (state => 'llm_state %%DIR%%/state;', redis => '');


for my $store (qw(state redis)) {
    my $t = start($store);

    life($t, $store);
    secrets($t, $store);
    terms($t);
    teams($t, $store);
    file($t);
    bad($t, $store);
    crowd($t);
    pages($t) if $store eq 'redis';
    restart($t, $store);
}

journal();
full();
nowhere();

done_testing;


# from its making to its end

sub life {
    my ($t, $store) = @_;

    is join(' ', names($t)), 'filed user', "$store: keys of the file";

    my $r = api($t, POST => '/keys', { name => 'first', team => 'search',
        requests_per_minute => 100,
        metadata => { owner => "O'Neil <o\@x>" } });

    is $r->status, 201, 'a key is made';
    is $r->header('cache-control'), 'no-store', 'nobody keeps the answer';

    my $key = $r->json;
    my $secret = delete $key->{secret};
    like $secret, qr/^sk-llm-[0-9A-Za-z]{40}$/, 'with a secret';
    is "$_", 200, 'which works at once in each worker'
        for map { with($t, $secret, "at once $_", on => $_)->status }
            $t->workers;

    is $key->{hint}, "sk-llm-\x{2026}" . substr($secret, -4), 'a hint';
    is "@$key{qw(object name team source enabled shadowed)}",
        'key first search admin 1 0', 'what it is';
    is_deeply [@$key{qw(expires rotation raises)}], [undef, undef, []],
        'nothing else is on it';
    is_deeply $key->{metadata}, { owner => "O'Neil <o\@x>" }, 'metadata';
    is $key->{effective}{requests_per_minute}, 100, 'its own limit counts';
    is $key->{effective}{concurrency}, 50, 'and one of the defaults';
    like $key->{created}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'when';

    is_deeply api($t, GET => '/keys/first')->json, $key, 'it is shown so';
    is index(api($t, GET => '/keys')->body, $secret), -1,
        'the secret is shown once';
    is_deeply api($t, GET => '/keys/user')->json->{source}, 'file',
        'one of the file is shown, too';
    is api($t, HEAD => '/keys/first')->status, 200, 'HEAD';
    audit($t, 'create key "first" by 127.0.0.1: done');

    # merged

    $r = api($t, PATCH => '/keys/first', { requests_per_minute => 7,
        metadata => { room => 5 x 3 }, queue => { size => 3 } });
    is $r->status, 200, 'a key is changed';
    is $r->json->{requests_per_minute}, 7, 'the limit';
    is_deeply $r->json->{metadata},
        { owner => "O'Neil <o\@x>", room => '555' }, 'an object is merged';
    is with($t, $secret)->header('x-ratelimit-limit-requests'), 7,
        'and in force';
    is index($r->body, 'secret'), -1, 'no secret';

    $r = api($t, PATCH => '/keys/first', { requests_per_minute => undef,
        metadata => { owner => undef }, team => undef });
    is_deeply [@{$r->json}{qw(requests_per_minute team metadata)}],
        [undef, undef, { room => '555' }], 'null takes a member away';
    is $r->json->{effective}{requests_per_minute}, 1000, 'the default counts';
    is $r->json->{created}, $key->{created}, 'when it was made stays';
    audit($t, 'change key "first" by 127.0.0.1: done');

    # off, on, gone

    is api($t, PATCH => '/keys/first', { enabled => JSON::PP::false })
        ->json->{enabled}, JSON::PP::false, 'a key is disabled';
    refused(with($t, $secret, 'off', on => $_), 403, 'key_disabled', undef,
        'in each worker') for $t->workers;
    audit($t, 'change key "first" by 127.0.0.1: done');
    api($t, PATCH => '/keys/first', { enabled => JSON::PP::true });
    is with($t, $secret)->status, 200, 'and enabled';

    $r = api($t, DELETE => '/keys/first');
    is $r->status, 200, 'a key is deleted';
    is_deeply $r->json, { object => 'key.deleted', name => 'first',
        deleted => JSON::PP::true }, 'and says so';
    refused(with($t, $secret, 'gone', on => $_), 401, 'invalid_api_key',
        undef, 'its secret is unknown in each worker') for $t->workers;
    audit($t, 'delete key "first" by 127.0.0.1: done');

    for my $case ([GET => ''], [PATCH => '', {}], [DELETE => ''],
        [POST => '/rotate'], [POST => '/raise', { until => time + 9,
            concurrency => 1 }], [DELETE => '/raise'])
    {
        my ($method, $path, $body) = @$case;
        refused(api($t, $method => "/keys/first$path", $body), 404,
            'key_not_found', undef, "$method$path: it is gone");
    }

    isnt api($t, POST => '/keys', { name => 'first' })->json->{secret},
        $secret, 'made again it has another secret';
    refused(with($t, $secret), 401, 'invalid_api_key', undef,
        'the old one stays unknown');
    api($t, DELETE => '/keys/first');
}


# rotation, raises, an end; secrets that were made elsewhere

sub secrets {
    my ($t, $store) = @_;

    my $old = make($t, 'turn');
    my $r = api($t, POST => '/keys/turn/rotate', { grace_s => 2 });
    my $new = $r->json->{secret};

    is $r->status, 200, 'a secret is rotated';
    like $r->json->{rotation}{until} // '', qr/^\d{4}-.*Z$/, 'until when';
    isnt $new, $old, 'another one';
    is with($t, $_)->status, 200, 'both work' for $old, $new;
    ok $t->until(sub { with($t, $old)->status == 401 }, 5),
        'the old one ends by itself';
    is with($t, $new)->status, 200, 'the new one does not';
    is api($t, GET => '/keys/turn')->json->{rotation}, undef, 'no rotation';

    my $third = api($t, POST => '/keys/turn/rotate')->json->{secret};
    is with($t, $new)->status, 401, 'without grace the old one ends at once';
    my $fourth = api($t, POST => '/keys/turn/rotate', { grace_s => 99 })
        ->json->{secret};
    my $fifth = api($t, POST => '/keys/turn/rotate', { grace_s => 99 })
        ->json->{secret};
    is join(' ', map { with($t, $_)->status } $third, $fourth, $fifth),
        '401 200 200', 'there is one old secret at a time';
    audit($t, 'rotate key "turn" by 127.0.0.1: done');

    # raised until

    my $secret = make($t, 'low', requests_per_minute => 2, concurrency => 3);
    my $limit = sub { with($t, $secret)
        ->header('x-ratelimit-limit-requests') // 0 };
    is $limit->(), 2, 'a limit of two';
    $r = api($t, POST => '/keys/low/raise', { requests_per_minute => 600,
        until => iso(time + 2) });
    is $r->status, 200, 'is raised';
    is "@{[map { @$_{qw(limit value)} } @{$r->json->{raises}}]}",
        'requests_per_minute 600', 'and shown';
    is $r->json->{requests_per_minute}, 2, 'beside what it has';
    is $r->json->{effective}{requests_per_minute}, 600, 'which counts';
    is with($t, $secret, 'more', on => $_)
        ->header('x-ratelimit-limit-requests'), 600, 'in each worker'
        for $t->workers;
    ok $t->until(sub { $limit->() == 2 }, 5), 'it ends by itself';
    is_deeply api($t, GET => '/keys/low')->json->{raises}, [], 'and is gone';

    $r = api($t, POST => '/keys/low/raise', { concurrency => 9,
        budget => 2.5, until => int(time) + 600 });
    $r = api($t, POST => '/keys/low/raise', { concurrency => 7,
        tokens_per_day => 5, until => int(time) + 900 });
    is_deeply { map { @$_{qw(limit value)} } @{$r->json->{raises}} },
        { concurrency => 7, budget => 2.5, tokens_per_day => 5 },
        'another raise replaces that of its limit';
    $r = api($t, DELETE => '/keys/low/raise');
    is_deeply $r->json->{raises}, [], 'raises are taken back';
    is $r->json->{effective}{concurrency}, 3, 'at once';

    # its end

    $r = api($t, POST => '/keys', { name => 'short',
        expires => iso(time + 2) });
    $secret = $r->json->{secret};
    is with($t, $secret)->status, 200, 'a key with an end';
    ok $t->until(sub { with($t, $secret)->status == 403 }, 5), 'ends';
    refused(with($t, $secret), 403, 'key_expired', undef, 'and says so');
    api($t, PATCH => '/keys/short', { expires => undef });
    is with($t, $secret)->status, 200, 'or is given more time';

    # a secret from elsewhere

    my $own = 'sk-mine-' . sha256_hex('own');
    $r = api($t, POST => '/keys', { name => 'own',
        sha256 => sha256_hex($own) });
    is $r->status, 201, 'a key by its SHA-256';
    ok !exists $r->json->{secret}, 'has no secret to show';
    is $r->json->{hint}, undef, 'and no hint';
    ok !exists $r->json->{sha256}, 'nor its SHA-256';
    is with($t, $own)->status, 200, 'and works';

    my $before = everything($t, $store);
    refused(api($t, POST => '/keys', { name => 'twin',
        sha256 => sha256_hex($own) }), 409, 'secret_exists', 'sha256',
        'a secret that another key has');
    refused(api($t, PATCH => '/keys/low', { sha256 => sha256_hex($own) }),
        409, 'secret_exists', 'sha256', 'nor by a change');
    is everything($t, $store), $before, 'is kept nowhere';

    api($t, DELETE => "/keys/$_") for qw(turn low short own twin);
}


# what stands on a key is in force

sub terms {
    my ($t) = @_;

    my $secret = make($t, 'terms', models => ['gpt-4.1']);
    is with($t, $secret)->status, 404, 'a model that is not its';
    api($t, PATCH => '/keys/terms', { models => ['gpt-4o*'],
        requests_per_minute => 2 });
    is join(' ', map { with($t, $secret)->status } 1 .. 3), '200 200 429',
        'two requests a minute';
    api($t, PATCH => '/keys/terms', { requests_per_minute => 100,
        tokens_per_minute => 100000, requests_per_day => 50,
        tokens_per_day => 1000000, burst_requests => 90,
        burst_tokens => 90000, concurrency => 4, priority => -3,
        budget => { usd => 0.000001, period => 'month' },
        queue => { size => 5, timeout_ms => 900, rates => JSON::PP::true },
        cache => { scope => 'key', ttl_s => 60 }, weight => 3,
        on_exceed => 'cut', clamp_max_tokens => JSON::PP::true });

    my $key = api($t, GET => '/keys/terms')->json;
    delete @$key{qw(created hint)};
    is_deeply $key, { object => 'key', name => 'terms', team => undef,
        source => 'admin', shadowed => JSON::PP::false,
        enabled => JSON::PP::true, expires => undef, rotation => undef,
        raises => [], models => ['gpt-4o*'], requests_per_minute => 100,
        tokens_per_minute => 100000, requests_per_day => 50,
        tokens_per_day => 1000000, burst_requests => 90,
        burst_tokens => 90000, concurrency => 4, priority => -3,
        budget => { usd => 0.000001, period => 'month' },
        queue => { size => 5, timeout_ms => 900, rates => JSON::PP::true },
        cache => { scope => 'key', ttl_s => 60 }, weight => 3,
        on_exceed => 'cut', clamp_max_tokens => JSON::PP::true,
        effective => { requests_per_minute => 100, tokens_per_minute => 100000,
            requests_per_day => 50, tokens_per_day => 1000000,
            burst_requests => 90, burst_tokens => 90000, concurrency => 4,
            priority => -3, budget => { usd => 0.000001, period => 'month' },
            queue => { size => 5, timeout_ms => 900,
                rates => JSON::PP::true } } }, 'every member';

    api($t, DELETE => '/keys/terms');
}


sub teams {
    my ($t, $store) = @_;

    my $r = api($t, PUT => '/teams/lab', { requests_per_minute => 60,
        budget => { usd => 5, period => 'month' } });
    is $r->status, 201, 'a team is made';
    is "@{$r->json}{qw(object name source shadowed keys)}",
        'team lab admin 0 0', 'what it is';
    is $r->json->{spend}{budget_usd}, 5, 'what it may spend';
    is $r->json->{day}{requests}, 0, 'what it used';

    my $secret = make($t, 'mouse', team => 'lab');
    make($t, 'rat', team => 'lab');
    is with($t, $secret)->header('x-ratelimit-limit-requests'), 60,
        'its limit is in force';
    is api($t, GET => '/teams/lab')->json->{keys}, 2, 'keys are counted';
    is join(' ', map { "$_->{name}:$_->{source}:$_->{keys}" }
        sort { $a->{name} cmp $b->{name} }
            @{api($t, GET => '/teams')->json->{data}}),
        'lab:admin:2 search:file:0 team:file:2', 'and listed';
    is join(' ', sort map { $_->{name} }
        @{api($t, GET => '/keys?team=lab')->json->{data}}), 'mouse rat',
        'keys by team';

    $r = api($t, PUT => '/teams/lab', { concurrency => 4 });
    is $r->status, 200, 'it is replaced';
    is_deeply [@{$r->json}{qw(requests_per_minute concurrency spend)}],
        [undef, 4, undef], 'as a whole';

    refused(api($t, DELETE => '/teams/lab'), 409, 'team_in_use', undef,
        'a team that keys are of');
    api($t, DELETE => '/keys/mouse');
    api($t, PATCH => '/keys/rat', { team => 'search' });
    is_deeply api($t, DELETE => '/teams/lab')->json, { name => 'lab',
        object => 'team.deleted', deleted => JSON::PP::true },
        'is deleted when none is';
    refused(api($t, $_ => '/teams/lab'), 404, 'team_not_found', undef,
        "$_: it is gone") for qw(GET DELETE);

    refused(api($t, PUT => '/teams/search', {}), 409, 'team_in_file', undef,
        'a team of the file');
    refused(api($t, DELETE => '/teams/search'), 409, 'team_in_file', undef,
        'is not deleted');
    audit($t, $_) for 'put team "lab" by 127.0.0.1: done',
        'delete team "lab" by 127.0.0.1: done';
    api($t, DELETE => '/keys/rat');
}


# the tenants file wins

sub file {
    my ($t) = @_;

    for my $case ([PATCH => '', { enabled => JSON::PP::false }],
        [DELETE => ''], [POST => '/rotate'], [DELETE => '/raise'],
        [POST => '/raise', { until => time + 9, concurrency => 1 }])
    {
        my ($method, $path, $body) = @$case;
        refused(api($t, $method => "/keys/user$path", $body), 409,
            'key_in_file', undef, "$method$path: a key of the file");
    }

    refused(api($t, POST => '/keys', { name => 'user' }), 409, 'key_exists',
        'name', 'a name of the file');

    my $both = make($t, 'both', requests_per_minute => 33);
    my $same = $t->secret('thief');
    is api($t, POST => '/keys', { name => 'lender', requests_per_minute => 44,
        sha256 => sha256_hex($same) })->status, 201, 'a key';
    my $limit = sub { with($t, shift)->header('x-ratelimit-limit-requests') };
    is $limit->($same), 44, 'with its limit';

    # another name for one's secret, another secret for the other's name

    $t->key('both', requests_per_minute => 55);
    $t->key('thief', requests_per_minute => 66);

    ok $t->until(sub { of($t, 'both') eq 'file' }), 'the file has a key of '
        . 'that name';
    is with($t, $both)->status, 401, 'the other is refused';
    is $limit->($t->secret('both')), 55, "the file's is not";
    is $limit->($same), 66, 'whose secret the file has is its key there';

    my %seen = map { ("$_->{name}:$_->{source}" => $_->{shadowed} ? 1 : 0) }
        @{api($t, GET => '/keys')->json->{data}};
    is_deeply \%seen, { 'both:admin' => 1, 'both:file' => 0,
        'lender:admin' => 1, 'thief:file' => 0, 'user:file' => 0,
        'filed:file' => 0 }, 'both are listed';
    is api($t, GET => '/keys/both')->json->{source}, 'file',
        "shown is the file's";
    is_deeply [map { $_->{effective} } grep { $_->{source} eq 'admin' }
        @{api($t, GET => '/keys')->json->{data}}], [undef, undef],
        'nothing counts of what is hidden';

    delete @{$t->{tenants}{keys}}{qw(both thief)};
    $t->write('tenants.json', $t->{tenants});

    ok $t->until(sub { of($t, 'both') eq 'admin' }), "when the file's is gone";
    is with($t, $both)->status, 200, 'it is back';
    is $limit->($same), 44, 'both';

    # a hidden one is cleared away, and what runs for the file's goes on

    $t->key('both');
    $t->until(sub { of($t, 'both') eq 'file' });
    my $stream = $t->start_chat('file', key => 'both', stream => 1,
        headers => { 'x-mock-pace-ms' => 100 });
    $stream->wait_events(1);
    is api($t, DELETE => '/keys/both?streams=cut')->status, 200,
        'a hidden key is deleted';
    $stream->wait;
    like $stream->body, qr/\[DONE\]/, "a stream of the file's goes on";
    delete $t->{tenants}{keys}{both};
    $t->write('tenants.json', $t->{tenants});

    # a team of the file that goes away

    $t->team('brief');
    $t->until(sub { api($t, GET => '/teams/brief')->status == 200 });
    my $orphan = make($t, 'orphan', team => 'brief');
    is with($t, $orphan)->status, 200, 'a key of a team of the file';
    delete $t->{tenants}{teams}{brief};
    $t->write('tenants.json', $t->{tenants});
    ok $t->until(sub { api($t, GET => '/teams/brief')->status == 404 }),
        'when the team goes';
    is with($t, $orphan)->status, 403, 'it is refused';

    api($t, DELETE => "/keys/$_") for qw(lender orphan);
}


# whatever is wrong has its status and changes nothing

sub bad {
    my ($t, $store) = @_;

    make($t, 'kept', requests_per_minute => 50);
    my $before = everything($t, $store);
    my $long = 'n' x 65;

    for my $name ('a/b', 'a b', ' a', 'a"b', "a'b", '<b>x</b>', '', $long,
        'x' x 5000, "a\nb", "\x{fc}ber", '-a', '.a', '_a', '@a',
        'a%2Fb', '..', 'a;b', 'a\\b', 'a?b', "a\x{202e}b")
    {
        my $shown = length $name > 20 ? length $name : $json->encode([$name]);
        refused(api($t, POST => '/keys', { name => $name }), 400,
            'invalid_value', 'name', "a key of the name $shown");
    }

    refused(api($t, POST => '/keys', { name => $_ }), 400, 'invalid_value',
        'name', 'a name that is no text') for 5, undef, [], {},
        JSON::PP::true;

    for my $raw ('a%2Fb', 'a%20b', '%22', '%3Cb%3E', '%C3%BC', '%FF%FE',
        '%C3' x 70, "%E2%82%AC" x 40, $long, 'x' x 3000, 'a+b', '%0a%0dx',
        '%2e%2e', '%7F')
    {
        my $r = api($t, GET => "/keys/$raw");
        refused($r, 404, 'key_not_found', undef, 'a name in the path: '
            . substr $raw, 0, 30);
        refused(api($t, PUT => "/teams/$raw", {}), 400, 'invalid_value',
            'name', 'and of a team');
    }

    refused(api($t, POST => '/keys', { name => 'kept' }), 409, 'key_exists',
        'name', 'a second create');
    refused(api($t, POST => '/keys', {}), 400, 'missing_required_parameter',
        'name', 'no name');
    refused(api($t, POST => '/keys', { name => 'x', team => 'nobody' }), 400,
        'unknown_team', 'team', 'a team that is not there');
    refused(api($t, PATCH => '/keys/kept', { team => 'nobody' }), 400,
        'unknown_team', 'team', 'by a change');

    # bodies

    for my $case (['', 'invalid_json'], ['{', 'invalid_json'],
        ['{"name":"x"', 'invalid_json'], ['[]', 'invalid_json'],
        ['"x"', 'invalid_json'], ['null', 'invalid_json'],
        ['{"name":"x"} {}', 'invalid_json'], ["{\"name\":\"\xff\"}",
            'invalid_json'], ['[' x 3000, 'invalid_json'],
        ['{"name":"x","name":"y"}', 'duplicate_key'],
        ['{"name":"x","priority":1e999}', 'invalid_json'],
        ['{"name":"a\\u0000b"}', 'invalid_json'])
    {
        my ($body, $code) = @$case;
        refused(api($t, POST => '/keys', $body), 400, $code, undef,
            'a body: ' . substr $body =~ s/[^ -~]/?/gr, 0, 30);
    }

    my $pad = 64 * 1024 - length '{"name":"big","x":""}';
    refused(api($t, POST => '/keys', qq({"name":"big","x":")
        . 'x' x $pad . '"}'), 400, 'unknown_parameter', 'x', '64 KB are read');
    refused(api($t, POST => '/keys', qq({"name":"big","x":")
        . 'x' x ($pad + 1) . '"}'), 413, 'request_too_large', undef,
        'and not one byte more');
    refused(api($t, POST => '/keys', ' ' x 700_000), 413,
        'request_too_large', undef, 'nor many');
    my $chunk = sprintf "%x\r\n%s\r\n0\r\n\r\n", 70000, ' ' x 70000;
    refused(api($t, POST => '/keys', undef, raw =>
        "POST /admin/v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        . "$admin\r\nTransfer-Encoding: chunked\r\n\r\n$chunk"), 413,
        'request_too_large', undef, 'nor in chunks');

    # members

    my @wrong = map { { member => $_->[0], value => $_->[1],
        param => $_->[2] // $_->[0] } }
        ['requests_per_minute', '5'], ['requests_per_minute', 0],
        ['requests_per_minute', -1], ['requests_per_minute', 1.5],
        ['tokens_per_minute', [1]], ['requests_per_day', {}],
        ['tokens_per_day', JSON::PP::true], ['concurrency', 2 ** 40],
        ['enabled', 1], ['enabled', 'false'], ['expires', 'soon'],
        ['expires', 'x' x 100], ['team', 5], ['models', 'gpt'],
        ['models', [5], 'models[0]'], ['metadata', 3],
        ['metadata', { a => 'x' x 2000 }], ['metadata', { a => 5 },
            'metadata.a'], ['budget', 5],
        ['budget', { usd => 1 }, 'budget.period'],
        ['budget', { usd => -1, period => 'day' }, 'budget.usd'],
        ['budget', { usd => 0.0000001, period => 'day' }, 'budget.usd'],
        ['queue', { size => -1 }, 'queue.size'], ['queue', 'x'],
        ['cache', { scope => 'all' }, 'cache.scope'], ['priority', 101],
        ['on_exceed', 'x'], ['clamp_max_tokens', 0], ['weight', 1001],
        ['sha256', 'xyz'], ['sha256', 'g' x 64];

    for my $case (@wrong) {
        my ($member, $value, $param) = @$case{qw(member value param)};
        my $what = substr $json->encode({ $member => $value }), 0, 50;

        refused(api($t, POST => '/keys', { name => 'x', $member => $value }),
            400, 'invalid_value', $param, "create $what");
        refused(api($t, PATCH => '/keys/kept', { $member => $value }), 400,
            'invalid_value', $param, "change $what");
    }

    for my $member ('color', 'Name', 'secret', 'created', 'raises', 'rotation',
        'hint', 'version', 'source', 'x' x 300, 'a"<b>', "\x{fc}" x 60)
    {
        refused(api($t, POST => '/keys', { name => 'x', $member => 1 }), 400,
            'unknown_parameter', any(), 'unknown: ' . substr $member
                =~ s/[^ -~]/?/gr, 0, 20);
        refused(api($t, PATCH => '/keys/kept', { $member => 1 }), 400,
            'unknown_parameter', any(), '… by a change');
    }

    refused(api($t, PATCH => '/keys/kept', { name => 'new' }), 400,
        'unknown_parameter', 'name', 'a key has its name for ever');
    refused(api($t, PATCH => '/keys/kept', { queue => { x => 1 } }), 400,
        'unknown_parameter', 'queue.x', 'inside of a member');
    refused(api($t, PUT => '/teams/x', { enabled => JSON::PP::true }), 400,
        'unknown_parameter', 'enabled', 'what a team has not');

    for my $grace (-1, 2592001, 1.5, '5', undef) {
        refused(api($t, POST => '/keys/kept/rotate', { grace_s => $grace }),
            400, 'invalid_value', 'grace_s', 'grace ' . ($grace // 'null'));
    }

    refused(api($t, POST => '/keys/kept/rotate', { grace => 1 }), 400,
        'unknown_parameter', any(), 'rotate with something else');

    my $later = int(time) + 60;

    for my $case ([{ concurrency => 5 }, 'missing_required_parameter',
            'until'], [{ until => $later }, 'missing_required_parameter',
            undef], [{ until => $later, concurrency => 0 }, 'invalid_value',
            'concurrency'], [{ until => $later, concurrency => '5' },
            'invalid_value', 'concurrency'], [{ until => $later,
            requests_per_minute => 10 ** 16 }, 'invalid_value',
            'requests_per_minute'], [{ until => $later, concurrency =>
            10 ** 10 }, 'invalid_value', 'concurrency'],
        [{ until => $later, budget => -1 }, 'invalid_value', 'budget'],
        [{ until => $later, weight => 5 }, 'unknown_parameter', any()],
        map { [{ until => $_, concurrency => 5 }, 'invalid_value',
            'until'] } 5, 'soon', '2020-01-01T00:00:00Z', undef, 1.5,
            '2030-02-30T00:00:00Z', '2030- 1- 1', '2030-13-01T00:00:00Z',
            9e18)
    {
        my ($body, $code, $param) = @$case;
        refused(api($t, POST => '/keys/kept/raise', $body), 400, $code,
            $param, 'raise ' . $json->encode($body));
    }

    # queries

    for my $case (['limit=0', 'limit'], ['limit=1001', 'limit'],
        ['limit=x', 'limit'], ['limit=-1', 'limit'], ['limit=', 'limit'],
        ['source=x', 'source'], ['after=x', 'after'], ['after=', 'after'],
        ['limit=1&limit=2', any()])
    {
        my ($query, $param) = @$case;
        refused(api($t, GET => "/keys?$query"), 400, 'invalid_value', $param,
            "?$query");
    }

    refused(api($t, GET => "/keys?$_"), 400, 'unknown_parameter', any(),
        "?$_") for 'x=1', 'x', 'Limit=1', '%3Cb%3E=1', 'limit%00=1',
        'streams=cut';
    refused(api($t, DELETE => '/keys/kept?streams=x'), 400, 'invalid_value',
        'streams', '?streams=x');
    refused(api($t, DELETE => '/keys/kept?stream=cut'), 400,
        'unknown_parameter', any(), '?stream=cut');

    for my $after ('99999999999999999999:', '18446744073709551615:x',
        '1:' . 'x' x 500, '0:', '4294967296:a')
    {
        my $r = api($t, GET => "/keys?after=$after");
        ok $r->status == 200 || $r->status == 400,
            'a mark that nobody gave: ' . substr $after, 0, 20;
    }

    # the way in

    for my $header (undef, 'Bearer', 'Bearer ', "Bearer $admin" . 'x',
        'Bearer ' . substr($admin, 0, -1), "Basic $admin", $admin,
        'Bearer ' . $t->secret('user'))
    {
        my $shown = substr $header // 'none', 0, 20;
        for my $case ([GET => '/keys'], [POST => '/keys', { name => 'x' }],
            [DELETE => '/keys/kept'], [GET => '/nothing'])
        {
            my ($method, $path, $body) = @$case;
            refused(api($t, $method => $path, $body, headers => [$header
                ? (Authorization => $header) : ()]), 401, 'invalid_api_key',
                undef, "$method $path with $shown");
        }
    }

    my $r = api($t, POST => '/keys', { name => 'x' }, headers => []);
    $r = $r->again(method => 'GET', path => '/admin/v1/keys',
        headers => [Authorization => "Bearer $admin"]);
    $r->wait;
    is $r->status, 200, 'the same connection serves who has the secret';

    for my $case (['/keys', 'PUT PATCH DELETE', 'GET, HEAD, POST'],
        ['/keys/kept', 'POST PUT', 'GET, HEAD, PATCH, DELETE'],
        ['/keys/kept/rotate', 'GET DELETE', 'POST'],
        ['/keys/kept/raise', 'GET PUT', 'POST, DELETE'],
        ['/teams', 'POST DELETE', 'GET, HEAD'],
        ['/teams/search', 'POST PATCH', 'GET, HEAD, PUT, DELETE'])
    {
        my ($path, $methods, $allow) = @$case;

        for my $method (split ' ', $methods) {
            my $r = api($t, $method => $path, {});
            refused($r, 405, 'method_not_supported', undef,
                "$method $path");
            is $r->header('allow'), $allow, 'Allow';
        }
    }

    refused(api($t, GET => $_), 404, 'unknown_url', undef, $_) for '/',
        '/key', '/keys/', '/keys/a/b', '/keys/kept/rotate/x', '/teams/',
        '/keys//rotate';

    # on the public port it is like any other URL

    for my $key (undef, 'user') {
        my @r = map { Test::LLM::HTTP->start(%{$t->spec(POST => $_,
            key => $key, body => { name => 'x' })}) } '/admin/v1/keys',
            '/no/such/keys';
        $_->wait for @r;
        is $r[0]->status, 404, 'the public port';
        is $r[0]->body =~ s/admin.v1/no\/such/r, $r[1]->body,
            'says what it always says';
    }

    is api($t, POST => '/keys', { name => 'x' }, port => $t->port)->status,
        404, 'also with the admin secret';

    is everything($t, $store), $before, 'nothing has changed';
    audit($t, $_) for 'create key "kept" by 127.0.0.1: 409 key_exists',
        'create key "x" by 127.0.0.1: 400 unknown_team';
    cmp_ok $t->said(qr/a request without the admin secret is refused/), '>',
        10, 'who has no secret is in the log';
    is $t->said(qr/\Q$admin\E/), 0, 'the secret is not';

    api($t, DELETE => '/keys/kept');
}


# many at once: no change is lost, none is made twice

sub crowd {
    my ($t) = @_;

    my @r = map { start_api($t, POST => '/keys', { name => 'one' }) } 1 .. 16;
    $_->wait for @r;
    is +(grep { $_->status == 201 } @r), 1, 'one of many makes the key';
    is join(' ', grep { !/^(201|409 key_exists)/ } map { $_->status . ' '
        . ($_->json->{error}{code} // '') } @r), '', 'the others hear of it';
    my ($made) = grep { $_->status == 201 } @r;
    is with($t, $made->json->{secret})->status, 200, 'whose secret works';

    my @names = map { "m$_" } 1 .. 20;
    my %todo = map { $_ => 1 } @names;

    for my $try (1 .. 40) {
        last if !%todo;
        my %r = map { ($_ => start_api($t, PATCH => '/keys/one',
            { metadata => { $_ => 'x' } })) } sort keys %todo;
        $_->wait for values %r;

        for my $name (keys %r) {
            my $status = $r{$name}->status;
            delete $todo{$name} if $status == 200;
            is $r{$name}->json->{error}{code}, 'conflict', 'a change meets '
                . 'another one' if $status != 200;
        }
    }

    is_deeply api($t, GET => '/keys/one')->json->{metadata},
        { map { $_ => 'x' } @names }, 'what was said to be done is there';

    api($t, DELETE => '/keys/one');
}


sub pages {
    my ($t) = @_;

    my (%all, @running);
    my $team = 0;

    for my $n (1 .. 1500) {
        my $name = sprintf '%s-%d@x.y', sha256_hex($n) =~ s/^(.{9}).*/$1/r, $n;
        $all{$name} = 1;
        push @running, start_api($t, POST => '/keys', { name => $name,
            $n % 10 ? () : (team => 'search') });
        shift(@running)->wait while @running >= 16;
    }

    $_->wait for splice @running;

    for my $case (['limit=7', 1502], ['limit=1000', 1502], ['', 1502],
        ['limit=50&source=admin', 1500], ['limit=7&source=file', 2],
        ['limit=7&team=search', 150], ['team=search&source=file', 0])
    {
        my ($query, $want) = @$case;
        my (%seen, $sorted, $pages, $most);
        my $begin = time;

        list($t, '/keys', $query, sub {
            my ($page, $took) = @_;
            my @names = map { $_->{name} } @$page;

            $seen{$_}++ for @names;
            $sorted++ if "@names" ne "@{[sort @names]}";
            $most = $took if $took > ($most // 0);
            $pages++;
        });

        is keys %seen, $want, "?$query: all of them, in $pages pages of "
            . sprintf '%.0f ms at most', 1000 * $most;
        is +(grep { $_ > 1 } values %seen), 0, 'each once';
        is $sorted, undef, 'a page is sorted';
    }

    # what is there from the first page to the last is seen, whatever goes

    my (%seen, %gone);

    list($t, '/keys', 'limit=7&source=admin', sub {
        my ($page) = @_;
        $seen{$_->{name}}++ for @$page;

        for my $key (@$page[0, 1]) {
            next if !$key;
            $gone{$key->{name}} = 1;
            api($t, DELETE => "/keys/$key->{name}");
        }
    });

    is join(' ', grep { !$seen{$_} } sort keys %all), '',
        'deletions meanwhile hide none of the others';
    is +(grep { $_ > 1 } values %seen), 0, 'each once';

    # one answer, and who waits behind it in the same worker

    my @left = grep { !$gone{$_} } keys %all;
    my ($pid) = $t->workers;
    my $spec = $t->spec(GET => '/admin/v1/keys?limit=1000',
        port => $t->port('PORT_BOTH_ADMIN'), headers =>
            [Authorization => "Bearer $admin"]);
    my $r;
    for my $try (1 .. 100) {
        $r = Test::LLM::HTTP->start(%$spec, path => '/admin/v1/keys?limit=1');
        $r->wait;
        last if ($r->header('x-pid') // '') eq $pid;
    }
    is $r->header('x-pid'), $pid, 'a connection to a worker';
    my $c = $t->get('/healthz', port => $t->port('PORT_BOTH'));
    for my $try (1 .. 100) {
        last if $c->header('x-pid') eq $pid;
        $c = $t->get('/healthz', port => $t->port('PORT_BOTH'));
    }
    my @took;
    for my $try (1 .. 9) {
        my $list = $r->again(%$spec);
        $list->wait(sub { $_[0]->sent });
        my $health = $c->again(path => '/healthz', method => 'GET');
        $_->wait for $health, $list;
        push @took, $health->end;
        ($r, $c) = ($list, $health);
    }
    my $took = (sort { $a <=> $b } @took)[4];
    cmp_ok $took, '<', $t->sanitized ? 1 : 0.05, 'who asks meanwhile waits '
        . sprintf '%.1f ms', 1000 * $took;

    for my $name (@left) {
        push @running, start_api($t, DELETE => "/keys/$name");
        shift(@running)->wait while @running >= 16;
    }

    $_->wait for @running;
    is join(' ', names($t)), 'filed user', 'all are gone again';
}


sub restart {
    my ($t, $store) = @_;

    api($t, PUT => '/teams/lasting', { concurrency => 6 });
    my $old = make($t, 'lasts', team => 'lasting', requests_per_minute => 77,
        metadata => { who => "\x{e4}\x{20ac}\"\\" });
    my $new = api($t, POST => '/keys/lasts/rotate', { grace_s => 600 })
        ->json->{secret};
    api($t, POST => '/keys/lasts/raise', { requests_per_minute => 88,
        until => int(time) + 600 });
    my $off = make($t, 'off');
    api($t, PATCH => '/keys/off', { enabled => JSON::PP::false });
    my $gone = make($t, 'gone');
    api($t, DELETE => '/keys/gone');

    my $before = shown($t);

    for my $how ('reload', 'a restart', 'a death of all') {
        $how eq 'reload' ? $t->reload
            : $how eq 'a restart' ? ($t->quit, $t->start)
            : ($t->kill_all, $t->start);

        ok $t->until(sub { with($t, $new)->status == 200 }),
            "$how: the key works";
        is with($t, $old)->header('x-ratelimit-limit-requests'), 88,
            'by its older secret, too, and raised';
        is join(' ', map { with($t, $_)->status } $off, $gone), '403 401',
            'others do not';
        is shown($t), $before, 'everything is as it was';
    }

    # the policy's memory is made anew by a reload, the other is not

    $t->token(ZONE => 'keys=6m');
    $t->reload($t->{template});
    ok $t->until(sub { with($t, $new)->status == 200 }),
        'a reload with another keys=';
    is shown($t), $before, 'everything is as it was';

    my $pid = $t->kill_worker;
    is with($t, $new)->status, 200, 'a worker is killed';
    is shown($t), $before, 'nothing is forgotten';
    is make($t, 'more') ? 1 : 0, 1, 'and more is made';

    api($t, DELETE => "/keys/$_") for qw(lasts off more);
    api($t, DELETE => '/teams/lasting');
}


# the journal after damage

sub journal {
    my $t = start('state');
    my %secret = map { ($_ => make($t, $_)) } qw(a b c d);
    my $file = 'state/keys';

    api($t, DELETE => '/keys/d');
    is((stat $t->path($file))[2] & 0777, 0600, 'the journal is its own');
    is index($t->read($file), $secret{$_}), -1, 'and has no secret'
        for sort keys %secret;

    # a power failure in the last line

    $t->quit;
    my @lines = split /^/, $t->read($file);
    append($t, $file, substr $lines[0], 0, 40);
    $t->start;
    is join(' ', names($t)), 'a b c filed user', 'a torn last line';
    ok $t->said(qr/1 of \d+ lines of .*keys" are damaged/), 'is told';
    $secret{e} = make($t, 'e');
    $t->quit;
    $t->start;
    is join(' ', names($t)), 'a b c e filed user', 'harms no line behind it';
    is with($t, $secret{e})->status, 200, 'the key works';

    # damage in the middle

    $t->quit;
    my $text = $t->read($file);
    $text =~ s/(k:b \{"created":)1/${1}2/ or fail 'a line of b';
    rewrite($t, $file, $text);
    $t->start;
    is join(' ', names($t)), 'a c e filed user', 'a damaged line';
    is with($t, $secret{$_})->status, $_ eq 'b' ? 401 : 200, "key $_"
        for qw(a b c e);
    is api($t, POST => '/keys', { name => 'b' })->status, 201,
        'it can be made again';

    # bytes of nobody

    $t->quit;
    rewrite($t, $file, "\0" x 100 . "\n" . 'x' x 300_000 . "\n\n\n"
        . $t->read($file));
    $t->start;
    is join(' ', names($t)), 'a b c e filed user', 'garbage before it';

    # most of it is old: written anew, by the same rules

    $t->kill_all;
    $text = $t->read($file);
    my ($line) = $text =~ /^([0-9a-f]{8} \d+ k:a .*\n)/m;
    append($t, $file, $line x 1200);
    my $size = -s $t->path($file);
    $t->start;
    cmp_ok -s $t->path($file), '<', $size / 10, 'an old journal is cleaned';
    is join(' ', names($t)), 'a b c e filed user', 'nothing is lost';
    is((stat $t->path($file))[2] & 0777, 0600, 'it is its own still');
    is make($t, 'f') ? 1 : 0, 1, 'and is gone on with';
    $t->quit;
    $t->start;
    is join(' ', names($t)), 'a b c e f filed user', 'after a restart, too';

    # the file is taken away while nginx runs

    unlink $t->path($file);
    my $r = api($t, POST => '/keys', { name => 'g' });
    is $r->status, 201, 'a journal that was removed is made again';
    is with($t, $secret{a})->status, 200, 'what is known stays in force';
}


# a disk that is full

sub full {
    my $t = start('state');
    my $dir = $t->path('state');
    my $secret = make($t, 'before');
    my $mounted = $> == 0;

    # a small disk of its own if that may be, else a file that takes nothing

    if ($mounted) {
        $t->quit;
        system "cp -a $dir $dir.away";
        $mounted = system("mount -t tmpfs -o size=64k tmpfs $dir"
            . ' 2>/dev/null') == 0;
        system "cp -a $dir.away/. $dir/" if $mounted;
        push @mounts, $dir if $mounted;
        $t->start;
    }

    my @made = ('before');
    my $r;

    if ($mounted) {
        for my $n (1 .. 500) {
            $r = api($t, POST => '/keys', { name => "k$n",
                metadata => { x => 'x' x 900 } });
            last if $r->status != 201;
            push @made, "k$n";
        }
    } else {
        rename "$dir/keys", "$dir/keys.away";
        symlink '/dev/full', "$dir/keys";
        $r = api($t, POST => '/keys', { name => 'k1' });
    }

    refused($r, 503, 'state_unavailable', undef, 'a full disk'
        . ($mounted ? '' : ' (a file)'));
    is join(' ', sort grep { !/^(filed|user)$/ } names($t)),
        join(' ', sort @made), 'nothing has changed';
    is with($t, $secret)->status, 200, 'requests go on';
    refused(api($t, PATCH => '/keys/before', { metadata => { x =>
        'y' x 900 } }), 503, 'state_unavailable', undef, 'a change');
    is api($t, GET => '/keys/before')->json->{metadata}, undef,
        'is not made either';
    ok $t->said(qr/keys" cannot be written, a change of keys is refused/),
        'the error log says why';
    audit($t, 'change key "before" by 127.0.0.1: 503 state_unavailable');

    if ($mounted) {
        is $t->read('state/keys') =~ /\n\z/ ? 1 : 0, 1, 'no line is torn';
        $t->quit;
        system "cp -a $dir/keys $dir.away/keys";
        system 'umount', pop @mounts;
        system "cp -a $dir.away/keys $dir/keys";
        $t->start;
    } else {
        rename "$dir/keys.away", "$dir/keys";
    }

    is join(' ', sort grep { !/^(filed|user)$/ } names($t)),
        join(' ', sort @made), 'with room again all is there';
    is api($t, PATCH => '/keys/before', { metadata => { x => 'z' } })
        ->status, 200, 'and can be changed';

    $t->allow(qr/No space left on device|llm_state/);
}


# neither Redis nor llm_state

sub nowhere {
    my $t = start('none');

    is join(' ', names($t)), 'filed user', 'keys of the file are shown';
    refused(api($t, POST => '/keys', { name => 'x' }), 409, 'no_store',
        undef, 'without a store nothing is made');
    refused(api($t, PUT => '/teams/x', {}), 409, 'no_store', undef,
        'no team either');
    is join(' ', names($t)), 'filed user', 'nothing is';
}


# helpers

sub start {
    my ($store) = @_;

    my $t = Test::LLM->new(workers => 2);

    rmdir $t->path('state');
    $t->write('admin.secret', "$admin\n");
    $t->{tenants}{defaults} = { requests_per_minute => 1000,
        concurrency => 50 };
    $t->team('search');
    $t->key('user');
    $t->key('filed');

    # a machine that is busy is no Redis that is down

    if ($store eq 'redis') {
        $t->{redis} = $t->redis;
        $t->token(REDIS => $t->{redis}->url . ' timeout=2s');
    }

    $t->gateway(redis => 0, http => $store{$store} // '',
        server => '%%BOTH%%',
        admin => 'listen 127.0.0.1:%%PORT_BOTH_ADMIN%% reuseport;
            keepalive_requests 100000; add_header X-Pid $pid always;
            location /admin/v1/ {
            llm_admin file:%%DIR%%/admin.secret; }');
    $t->until(sub { $t->chat('x')->status == 200
        && $t->chat('x', key => undef)->status == 401 });

    return $t;
}


sub start_api {
    my ($t, $method, $path, $body, %spec) = @_;

    return Test::LLM::HTTP->start(%{$t->spec($method => "/admin/v1$path",
        port => $t->port('PORT_ADMIN'),
        headers => [Authorization => "Bearer $admin"],
        defined $body ? (body => $body) : (), %spec)});
}


sub api {
    my $r = start_api(@_);
    $r->wait;
    return $r;
}


sub make {
    my ($t, $name, %members) = @_;

    my $r = api($t, POST => '/keys', { name => $name, %members });
    is $r->status, 201, "key $name" or diag $r->body;

    return $r->json->{secret};
}


sub of { return api($_[0], GET => "/keys/$_[1]")->json->{source} // '' }


# a chat by its secret; on => pid of a worker

sub with {
    my ($t, $secret, $text, %spec) = @_;

    my $pid = delete $spec{on};
    my @spec = ($text // 'hello', key => undef,
        headers => { Authorization => "Bearer $secret" }, %spec);

    my $r = $pid ? $t->on($pid, @spec) : $t->start_chat(@spec);
    $r->wait;

    return $r;
}


sub any { return \'any' }


sub refused {
    my ($r, $status, $code, $param, $what) = @_;

    my $body = eval { $r->json } // {};
    my $e = ref $body eq 'HASH' && ref $body->{error} eq 'HASH'
        ? $body->{error} : {};
    my $any = ref $param;

    my @got = ($r->status // $r->error, $e->{code},
        $any ? () : $e->{param}, join ' ', sort keys %$e);
    my @want = ($status, $code, $any ? () : $param,
        'code message param type');

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is join(', ', map { $_ // '-' } @got),
        join(', ', map { $_ // '-' } @want), $what
        or diag substr $r->body // '', 0, 300;
}


sub audit {
    my ($t, $line) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    cmp_ok $t->said(qr/\[notice\] .*llm admin: \Q$line\E/), '>=', 1,
        "the log says: $line";
}


# all pages

sub list {
    my ($t, $path, $query, $sub) = @_;

    my $after = '';
    my $n = 0;

    do {
        my $r = api($t, GET => "$path?$query$after");
        my $page = $r->json;
        die 'list: ' . $r->body if $page->{object} ne 'list' || $n++ > 2000;

        $sub->($page->{data}, $r->end);
        $after = '&after=' . ($page->{next} // '')
            =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
        die 'has_more' if !$page->{has_more} != !defined $page->{next};
    } while ($after ne '&after=');
}


sub names {
    my ($t) = @_;

    my @names;
    list($t, '/keys', 'limit=1000', sub {
        push @names, map { $_->{name} } @{$_[0]} });

    return sort @names;
}


# what the API shows

sub shown {
    my ($t) = @_;

    my @rows;

    for my $path ('/keys', '/teams') {
        list($t, $path, 'limit=1000', sub {
            delete @$_{qw(day month)} for @{$_[0]};
            push @rows, map { $json->encode($_) } @{$_[0]};
        });
    }

    return join "\n", sort @rows;
}


# … and what the store has

sub everything {
    my ($t, $store) = @_;

    return shown($t) . "\n" . $json->encode([$store eq 'state'
        ? $t->read('state/keys')
        : sort(@{$t->{redis}->command(HGETALL => '{llm}:keys')},
            @{$t->{redis}->command(HGETALL => '{llm}:keys:meta')})]);
}


sub iso { return strftime '%Y-%m-%dT%H:%M:%SZ', gmtime $_[0] }


sub append {
    my ($t, $name, $text) = @_;

    open my $out, '>>', $t->path($name) or die "$name: $!";
    print $out $text;
    close $out;
}


# in its place: owner and mode stay

sub rewrite {
    my ($t, $name, $text) = @_;

    open my $out, '>', $t->path($name) or die "$name: $!";
    print $out $text;
    close $out;
}
