#!/usr/bin/perl

# The journal of keys under llm_state is written anew at a reload when most of
# it is old; nobody's change is lost by that, also of those made meanwhile.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

$t->key('user');
$t->gateway(redis => 0, http => 'llm_state %%DIR%%/state;',
    admin => $t->admin_api);

my %key = map { $_ => make($_) } map { "first$_" } 1 .. 5;

my $line = (split /\n/, $t->read('state/keys'))[0];
my $file = $t->path('state/keys');

open my $out, '>>', $file or die "$file: $!\n";
print $out "$line\n" x 20_000;
close $out or die "$file: $!\n";

my $inode = (stat $file)[1];

$t->reload($t->{template});
$key{$_} = make($_) for map { "second$_" } 1 .. 5;

cmp_ok -s $file, '<', 10_000, 'the journal is short again';
isnt +(stat $file)[1], $inode, 'it is another file';
works('after the reload');

$t->kill_all;
$t->start;
works('after a start');

done_testing;


sub make {
    my ($name) = @_;

    return $t->admin(POST => '/keys', { name => $name })->json->{secret};
}


sub works {
    my ($what) = @_;

    for my $name (sort keys %key) {
        is $t->chat('hi', key => undef, headers => {
            Authorization => "Bearer $key{$name}" })->status, 200,
            "$what: $name";
    }
}
