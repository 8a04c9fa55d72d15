#!/usr/bin/env perl

# keep.pl CONTROL SEED: of the inputs of a merge of libFuzzer (its control file
# says what each reached) the few that reach most between them become the files
# of the folder SEED.  Those that are there already come first, so that seeds
# change little.

use warnings;
use strict;

use Digest::SHA qw(sha1_hex);
use File::Basename qw(dirname);


my $FILES = 16;
my $BYTES = 24 * 1024;

my ($control, $seed) = @ARGV;
my (@file, @reach, %text);

open my $in, '<', $control or die "$control: $!\n";

chomp(my $n = <$in>);
<$in>;

for (1 .. $n) {
    chomp(my $name = <$in>);
    push @file, $name;
}

while (my $line = <$in>) {
    my ($what, $i, @edges) = split ' ', $line;
    $reach[$i] = \@edges if $what eq 'COV';
}

for my $i (0 .. $#file) {
    open my $f, '<:raw', $file[$i] or next;
    local $/;
    $text{$i} = <$f> // '';
}

my (%seen, @kept);
my $bytes = 0;
my @left = sort { length $text{$a} <=> length $text{$b} || $text{$a} cmp
    $text{$b} } grep { $reach[$_] && @{$reach[$_]} } keys %text;

while (@left && @kept < $FILES) {
    my ($best, $most) = (undef, 0);

    for my $i (@left) {
        next if $bytes + length $text{$i} > $BYTES;

        my $new = grep { !$seen{$_} } @{$reach[$i]};

        # a seed that stays is worth two edges
        $new += 2 if $new && $file[$i] =~ m{^\Q$seed\E/};

        ($best, $most) = ($i, $new) if $new > $most;
    }

    last if !defined $best;

    $seen{$_} = 1 for @{$reach[$best]};
    $bytes += length $text{$best};
    push @kept, $best;
    @left = grep { $_ != $best } @left;
}

my %name = map { substr(sha1_hex($text{$_}), 0, 12) => $_ } @kept;

for my $old (glob "$seed/*") {
    my ($base) = $old =~ m{([^/]*)$};
    unlink $old if !exists $name{$base};
}

for my $base (keys %name) {
    open my $out, '>:raw', "$seed/$base" or die "$seed/$base: $!\n";
    print $out $text{$name{$base}};
    close $out or die "$seed/$base: $!\n";
}

printf "%s: %d of %d files, %d bytes, %d edges\n", $seed =~ m{([^/]*)$},
    scalar @kept, scalar keys %text, $bytes, scalar keys %seen;
