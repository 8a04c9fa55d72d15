#!/usr/bin/perl

# What is made from the fleet's secret, on its own: names, seals, parcels, and
# where the secret comes from.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/redis", "$FindBin::Bin/secret";

use Digest::SHA qw(hmac_sha256 hmac_sha256_hex sha256_hex);

use Test::LLM;
use SecretModule;


use constant { OK => 0, ALIEN => 1, SEALED => 2, DAMAGED => 3, OPEN => 4 };
use constant { HEAD => 8, SUM => 8, NONCE => 12, TAG => 16 };

my $first = 'c4' x 32;
my $second = "second\0secret of bytes\xff" . 'x' x 40;

my $t = SecretModule->new(workers => 2);
$t->write(first => "$first\r\n");
$t->write(second => $second);
local $ENV{LLM_TEST_SECRET} = $first;

my $file = 'file:%%DIR%%/first';
my $other = 'file:%%DIR%%/second';
my $env = 'env:LLM_TEST_SECRET';

$t->nginx($t->with(
    [ 'a', $file, 'first' ],
    [ 'b', $other, 'second' ],
    [ 'new', $other, 'second', $env, 'first' ],
    [ 'liar', $other, 'first' ],
    [ 'long', $env, '0123456789abcdeF' ],
));


# names

my $text = 'a prompt that nobody should guess';
for my $body ('', 'x', $text, $text x 1000) {
    my $length = length $body;
    is $t->run('mac', $body, secret => 'none'), sha256_hex($body),
        "$length bytes: SHA-256 without a secret";
    is $t->run('mac', $body, secret => 'a'), hmac_sha256_hex($body, hkdf($first)),
        "$length bytes: HMAC-SHA256 with one";
}
is $t->run('mac', $text, secret => 'new'), hmac_sha256_hex($text, hkdf($second)),
    'the first secret names';
is $t->run('mac', $text, secret => 'long'), $t->run('mac', $text, secret => 'a'),
    'the same from a file with a line end and from the environment';


# there and back

my $largest = $t->sanitized ? 200_000 : 1_048_576;
for my $case ([ 'none', 1 ], [ 'none', 3 ], [ 'a', 1 ], [ 'long', 16 ]) {
    my ($secret, $pieces) = @$case;
    like $t->run('rounds', '', secret => $secret, pieces => $pieces,
        about => 'key', max => $largest), qr/^rounds=3\d{3} wrong=0$/,
        "0 to $largest bytes in $pieces pieces, secret: $secret";
}


# what it looks like

my $long = join '', map { "$text, number $_\n" } 1 .. 100;
my $open = pack_it('none', $long);
my $shut = pack_it('a', $long);
my $small = pack_it('none', $text);
my $sealed = pack_it('a', $text);

is length $small, HEAD + SUM + length $text, 'a small one, open';
is length $sealed, HEAD + 1 + length('first') + NONCE + TAG + length $text,
    'and sealed';
is substr($sealed, 0, HEAD), pack('a2CCV', 'LP', 2, 2, length $text), 'its head';
is substr($sealed, HEAD, 6), pack('C/a', 'first'), 'its key id';
is substr($open, 0, HEAD), pack('a2CCV', 'LP', 2, 1, length $long),
    'a long one is compressed';
cmp_ok length $open, '<', length($long) / 4, 'to less';
is length($shut) - length($open), 1 + length('first') + NONCE + TAG - SUM,
    'before it is sealed';

my $noise = join '', map { chr int rand 256 } 1 .. 5000;
is length pack_it('none', $noise), HEAD + SUM + 5000, 'noise stays as it is';
is length pack_it('none', 'x' x 1024), HEAD + SUM + 1024, '1 KB does, too';
cmp_ok length pack_it('none', 'x' x 1025), '<', 100, 'a byte more does not';

is scalar(grep { index($sealed, substr $text, $_, 4) >= 0 } 0 .. length($text) - 4),
    0, 'no four bytes of the text are to be seen';
is index($shut, substr $open, HEAD + SUM), -1, 'nor of what was compressed';

my %nonces;
$nonces{substr pack_it('a', $text), HEAD + 6, NONCE}++ for 1 .. 300;
$t->kill_worker('KILL', $_) for $t->workers;
$nonces{substr pack_it('a', $text), HEAD + 6, NONCE}++ for 1 .. 300;
is scalar(keys %nonces), 600, '600 seals, 600 nonces, whoever made them';
isnt pack_it('a', $text), $sealed, 'the same is never the same';


# what is refused

is_deeply [ $t->unpacked($shut, secret => 'a', about => 'key') ], [ OK, $long ],
    'opened';
refused($shut, DAMAGED, 'moved to another place', secret => 'a', about => 'kez');
refused($shut, DAMAGED, '… to none', secret => 'a', about => '');
refused($open, DAMAGED, '… when it was not sealed', secret => 'none', about => 'keys');
refused($shut, SEALED, 'by a secret of another id', secret => 'b');
refused($shut, SEALED, 'without a secret', secret => 'none');
refused($shut, DAMAGED, 'by another secret of the same id', secret => 'liar');
refused($shut, DAMAGED, 'more than may be', secret => 'a', max => length($long) - 1);
refused($open, OPEN, 'an open one where all are sealed', secret => 'a', sealed => 1);
refused('', ALIEN, 'nothing', secret => 'a');
refused($long, ALIEN, 'something else', secret => 'a');
refused("LP\x01" . substr($open, 3), ALIEN, 'an older version', secret => 'none');
refused("LP\x03" . substr($open, 3), ALIEN, 'a later version', secret => 'none');
refused("LP\x02\x05" . substr($open, 4), ALIEN, 'an unknown flag', secret => 'none');

is_deeply [ $t->unpacked($open, secret => 'a', about => 'key') ], [ OK, $long ],
    'an open one where they need not be sealed';
is_deeply [ $t->unpacked($shut, secret => 'new', about => 'key', sealed => 1) ],
    [ OK, $long ], 'an old secret opens';
refused(pack_it('new', $long), SEALED, 'and does not seal', secret => 'a');

for my $case ([ none => $small ], [ none => $open ], [ a => $sealed ],
    [ a => $shut ], [ new => $shut ], [ a => pack_it('a', '') ])
{
    my ($secret, $parcel) = @$case;
    my $tries = 9 * length($parcel) + 1;
    is $t->run('spoil', $parcel, secret => $secret, about => 'key'),
        "tried=$tries taken=0 whole=0",
        'each bit of ' . length($parcel) . ', cut anywhere, a byte more';
}


# those who lie about what is in it

my $bomb = pack_it('none', "\0" x 4_000_000);
cmp_ok length $bomb, '<', 1000, 'a bomb';
refused($bomb, DAMAGED, 'for its size', secret => 'none', max => 1_000_000);
my $frame = substr $bomb, HEAD + SUM;

for my $secret ('none', 'a') {
    my $flag = $secret eq 'a' ? 2 : 0;

    for my $case ([ 1, $frame, 100, 'much less' ], [ 1, $frame, 0, 'nothing' ],
        [ 1, $frame, 3_999_999, 'a byte less' ], [ 1, $frame, 4_000_001, 'a byte more' ],
        [ 1, $frame, 0xffff_ffff, 'all there may be' ],
        [ 1, $frame . $frame, 4_000_000, 'half of two frames' ],
        [ 1, "$frame\0", 4_000_000, 'all but a byte behind the frame' ],
        [ 1, $long, length $long, 'what is no frame' ], [ 1, '', 10, 'an empty frame' ],
        [ 0, $text, 10, 'less than there is' ],
        [ 0, $text, 1000, 'more than there is' ],
        [ 0, '', 1, 'a byte of none' ])
    {
        my ($flags, $content, $n, $what) = @$case;
        my $forged = $t->run('forge', $content, secret => $secret, about => 'key',
            flags => $flags | $flag, n => $n);

        refused($forged, DAMAGED, "says $what, secret: $secret", secret => $secret);
    }

    is_deeply [ $t->unpacked($t->run('forge', $text, secret => $secret,
        about => 'key', flags => $flag, n => length $text), secret => $secret,
        about => 'key') ], [ OK, $text ], "the truth is taken, secret: $secret";
}


# the configuration

my $dir = $t->path('');
$t->write(short => ('0123456789' x 3) . "\n");
$t->write(hex => '0123456789abcdefABCDEF0123456789' . '0' x 30);
$t->write(base64 => 'QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZQ==');
$t->write(empty => "\n");
$t->write(large => 'x' x 4096);

my $weak = qr/expected at least 32 random bytes/;
for my $case (
    [ qr/"s": expected env:VARIABLE or file:PATH/, 'keep-this-to-yourself', 's' ],
    [ qr/"s": expected env:VARIABLE or file:PATH/, 'env:', 's' ],
    [ qr/no environment variable "NO_SUCH_1"/, 'env:NO_SUCH_1', 's' ],
    [ qr{"/no/file" failed}, 'file:/no/file', 's' ],
    [ qr/expected a file with one key/, 'file:%%DIR%%/large', 's' ],
    (map { [ $weak, "file:%%DIR%%/$_", 's' ] } qw(short hex base64 empty)),
    (map { [ qr/key id "$_": expected 1 to 16/, $file, $_ || '""' ] }
        '', 'a.b', 'a' x 17),
    [ qr/"s" is there twice/, $file, 's', $other, 's' ],
    [ qr/"o9": more than 8 old secrets/, $file, 's',
        map { ($other, "o$_") } 1 .. 9 ])
{
    my ($pattern, @secret) = @$case;
    my ($success, $output) = $t->test_config($t->with([ 'a', @secret ]));

    ok !$success, "refused: @secret";
    like $output, $pattern, 'with a reason';
    unlike $output, qr/keep-this|0123456789|QUJD|second.secret|x{30}|(?:c4){4}/i,
        'and without a secret';
}

my ($success) = $t->test_config($t->with([ 'a', $file, 's',
    map { ($other, "o$_") } 1 .. 8 ]));
ok $success, 'eight old ones';


# a reload brings another one

$t->reload($t->with([ 'a', $other, 'second', $file, 'first' ]));
is_deeply [ $t->unpacked($shut, secret => 'a', about => 'key') ], [ OK, $long ],
    'what was sealed before a reload';
is substr(pack_it('a', $text), HEAD, 7), pack('C/a', 'second'), 'another seals now';

is $t->quit, 0, 'ends';
unlike $t->log, qr/(?:c4){4}|second.secret|nobody should guess/,
    'no secret and no text in the log';

done_testing;


# RFC 5869 of one block

sub hkdf {
    my ($secret) = @_;
    return hmac_sha256("ngx-llm name\x01", hmac_sha256($secret, "\0" x 32));
}


sub pack_it {
    my ($secret, $body) = @_;
    return $t->run('pack', $body, secret => $secret, about => 'key');
}


sub refused {
    my ($parcel, $why, $what, %arguments) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply [ $t->unpacked($parcel, about => 'key', %arguments) ], [ $why, '' ],
        "refused: $what";
}
