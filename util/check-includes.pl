#!/usr/bin/env perl

# Includes go only downwards (docs/architecture.md): the ground (core, http),
# then state, policy and tasks, upstream and operate, the line, the module.
# And a few things have one place only.

use warnings;
use strict;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Find;


chdir abs_path(dirname(__FILE__) . '/../ngx_module') or die;

my %floor = (core => 0, http => 1, state => 2, policy => 3, tasks => 3,
    upstream => 4, operate => 4, line => 5, module => 6);

# what may be named, and in which files

my @places = (
    [qr/#\s*include\s+<hiredis\//, 'hiredis', qr{^state/\w*redis\w*\.[ch]$}],
    [qr/#\s*include\s+(?:<jansson\.h>|"core\/llm_tree\.h")/, 'jansson',
        qr{^(?:core/llm_(?:policy\w*|tree)|upstream/\w*models\w*|http/\w+_json
            |operate/\w+|tasks/\w+)\.[ch]$}x],
    [qr/\bnginx_version\b/, 'nginx_version',
        qr{^http/ngx_http_llm_compat\.h$}],
);

# what the core may not reach for

my $impure = qr/\#\s*include\s+(?:[<"]ngx_|"http\/)|\bngx_\w+\s*\(
    |\#\s*include\s+<(?:sys\/time|unistd)\.h>
    |\b(?:time|clock_gettime|gettimeofday|getenv|printf|fprintf|malloc
    |calloc|realloc|free|random|rand)\s*\(/x;

# jansson allocates; its one place in the core may free what it was given
my $allocates = qr{^core/llm_(?:policy|price)\w*\.c$};

my $errors = 0;
my %includes;

find({ no_chdir => 1, wanted => sub {
    return if !/\.[ch]$/;
    s{^\./}{};
    check($_);
} }, '.');

cycles();

print 'includes: ' . keys(%includes) . " files, $errors errors\n";
exit($errors != 0);


sub floor_of {
    my ($file) = @_;

    return $floor{$1} if $file =~ m{^(\w+)/};
    return $floor{line} if $file =~ /_llm_(line|parse)/;
    return $floor{module};
}


sub check {
    my ($file) = @_;

    open my $in, '<', $file or die "$file: $!\n";
    local $/;
    my $text = <$in>;

    # comments may speak of anything; line numbers stay
    $text =~ s{/\*(.*?)\*/}{ "\n" x ($1 =~ tr/\n//) }gse;

    my $n = 0;
    $includes{$file} = [];

    for my $line (split /\n/, $text) {
        $n++;

        for my $place (@places) {
            my ($pattern, $name, $where) = @$place;
            complain($file, $n, "$name has no place here")
                if $line =~ $pattern && $file !~ $where;
        }

        complain($file, $n, 'the core is pure: no nginx, clock, environment, '
            . 'log or allocation') if $file =~ m{^core/} && $line =~ $impure
            && !($file =~ $allocates && $line =~ /\bfree\s*\(/);

        next if $line !~ /^#\s*include\s+"([^"]+)"/;

        my $target = $1;

        if (!-f $target) {
            complain($file, $n, "\"$target\" is not a path from ngx_module");
            next;
        }

        push @{$includes{$file}}, $target;

        complain($file, $n, "\"$target\" is on a higher floor")
            if floor_of($target) > floor_of($file);
    }
}


# on the same floor neighbours may know each other, but not in a circle

sub cycles {
    my %state;

    my $visit;
    $visit = sub {
        my ($file, @path) = @_;

        return if ($state{$file} // '') eq 'done';

        if (($state{$file} // '') eq 'open') {
            complain($file, 1, 'includes itself: ' . join ' > ', @path, $file);
            return;
        }

        $state{$file} = 'open';
        $visit->($_, @path, $file) for @{$includes{$file} // []};
        $state{$file} = 'done';
    };

    $visit->($_) for sort keys %includes;
}


sub complain {
    my ($file, $line, $what) = @_;

    print "ngx_module/$file:$line: $what\n";
    $errors++;
}
