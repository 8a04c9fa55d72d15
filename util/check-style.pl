#!/usr/bin/env perl

# The style that a machine can check, of all C, Perl, shell and make files:
# 79 columns, no tabs, no blanks at line ends, one newline at the end of a
# file; in C also: files of at most 700 lines, functions of at most 90.

use warnings;
use strict;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Find;


chdir abs_path(dirname(__FILE__) . '/..') or die;

my %skip = map { $_ => 1 } qw(.git build run node_modules results);
my $errors = 0;
my $files = 0;

find({ no_chdir => 1, wanted => sub {
    my ($name) = m{([^/]*)$};

    if (-d && $skip{$name}) {
        $File::Find::prune = 1;
        return;
    }

    return if !-f || -l;

    s{^\./}{};
    check($_) if m{\.([chlt]|pl|pm|sh|lua)$} || $name eq 'Makefile'
        || m{^ngx_module/config$} || first_line($_) =~ /^#!.*(?:perl|sh)\b/;
} }, '.');

print "style: $files files, $errors errors\n";
exit($errors != 0);


sub first_line {
    open my $in, '<', $_[0] or return '';
    return <$in> // '';
}


sub check {
    my ($file) = @_;

    open my $in, '<:utf8', $file or die "$file: $!\n";
    my @lines = <$in>;

    my $c = $file =~ /\.[ch]$/;
    my $limit = $file =~ /\.sh$/ || !$c ? 100 : 79;
    my $start;

    $files++;

    for my $n (1 .. @lines) {
        my $line = $lines[$n - 1];

        if ($line !~ s/\n\z//) {
            complain($file, $n, 'no newline at the end');
        }

        complain($file, $n, 'longer than ' . $limit . ' columns')
            if length $line > $limit;
        complain($file, $n, 'blanks at the end') if $line =~ /\s$/;
        complain($file, $n, 'a tab')
            if $line =~ /\t/ && !($file eq 'Makefile' && $line =~ /^\t[^\t]*$/);

        next if $file !~ /\.c$/;

        if ($line =~ /^\{/) {
            $start = $n;

        } elsif ($line =~ /^\}/ && defined $start) {
            complain($file, $start, 'a function of ' . ($n - $start)
                . ' lines') if $n - $start > 90;
            undef $start;
        }
    }

    complain($file, scalar @lines, 'more than 700 lines')
        if $c && @lines > 700;
    complain($file, scalar @lines, 'empty lines at the end')
        if @lines && $lines[-1] =~ /^\s*$/;
}


sub complain {
    my ($file, $line, $what) = @_;

    print "$file:$line: $what\n";
    $errors++;
}
