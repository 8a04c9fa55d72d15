#!/usr/bin/env perl

# Holds docs/ against the sources: each directive has its section and each of
# its parameters a word there with the default that it has, each variable,
# metric and error code is told somewhere, nothing is told that does not exist
# (commands of make and tests neither), and every link has an end that the
# README leads to.

use warnings;
use strict;

use Cwd qw(abs_path);
use File::Basename qw(dirname basename);


chdir abs_path(dirname(__FILE__) . '/..') or die;

my $errors = 0;
my %text;            # file => text
my %source;
my %macro;           # name => what it stands for

$text{$_} = slurp($_) for 'README.md', 'SECURITY.md', glob 'docs/*.md';
$source{$_} = slurp($_)
    for grep { chomp; /\.c$/ } `find ngx_module -name '*.c'`;

my $docs = join "\n", map { $text{$_} } sort keys %text;
my $code = join "\n", map { $source{$_} } sort keys %source;

for my $file (split /\n/, `find ngx_module -name '*.[ch]'`) {
    my $lines = $source{$file} // slurp($file);

    $macro{$1} = $2
        while $lines =~ m{^#define (NGX_\w+) +(\S.*?)\s*(?:/\*|$)}mg;
}

directives();
defaults();
variables();
metrics();
codes();
targets();
tests();
links();

print 'docs: ', scalar keys %text, " files, $errors errors\n";
exit($errors != 0);


sub slurp {
    my ($file) = @_;

    open my $in, '<:utf8', $file or die "$file: $!\n";
    local $/;
    return <$in>;
}


sub complain {
    print "$_[0]\n";
    $errors++;
}


# what stands once in the left and not in the right hash

sub without {
    my ($left, $right, $what) = @_;
    complain("$_: $what") for grep { !$right->{$_} } sort keys %$left;
}


sub directives {
    my ($file) = ('docs/directives.md');
    my %known = map { $_ => 1 }
        $code =~ /\{ ngx_string\("(llm_\w+)"\),\s+NGX_(?:HTTP|MAIN|ANY|CONF)/g;
    my %section = $text{$file} =~ /^## (llm_\w+)\n(.*?)(?=^## |\z)/msg;

    die "no directives found\n" if keys %known < 20;

    without(\%known, \%section, "has no section in $file");
    without(\%section, \%known, "of $file is no directive");

    # the tables of parameters bear their directive's name

    while ($code =~ /ngx_http_llm_arg_t\s+ngx_http_llm_(\w+)_args\[\]
                     \s=\s\{(.*?)^\};/msgx)
    {
        my ($name, $table) = ("llm_$1", $2);

        if (!$section{$name}) {
            complain("$name: parameters of no directive");
            next;
        }

        for my $parameter ($table =~ /\{ ngx_string\("([^"]+)"\)/g) {
            complain("$name: \"$parameter\" is not told in $file")
                if $section{$name} !~ /(?<![\w-])\Q$parameter\E/
                && $section{$name} !~ /`\Q@{[$parameter =~ s{=$}{}r]}\E`/;
        }
    }
}


# defaults are numbers in what merges or makes a configuration; they are told
# behind "Default:" or in the second column of a table

sub defaults {
    my ($file) = ('docs/directives.md');
    my %value = $code =~ /ngx_conf_merge_(?:uint|msec|sec|size)_value\(
                          \s*conf->(\w+),\s*prev->\w+,\s*([^;]+)\);/gx;
    my $compared = 0;

    $value{$1} //= $2 while $code =~ /^    tcf->(\w+) = ([^;]+);/mg;

    while ($code =~ /ngx_http_llm_arg_t\s+ngx_http_llm_(\w+?)_(?:args|table)
                     \[\]\s=\s\{(.*?)^\};/msgx)
    {
        my ($name, $table, %told) = ("llm_$1", $2);
        my ($section) = $text{$file} =~ /^## $name\n(.*?)(?=^## |\z)/ms
            or next;

        %told = $1 =~ /(\w+)=(\w+)/g
            if $section =~ /^    Default: $name (.*)/m;

        for ($section =~ /^(\| `\w+`[^|]* \| `\w+`[^|]* \|)/mg) {
            my ($names, $values) = /^\| ([^|]+) \| ([^|]+) \|/;
            my @values = $values =~ /`(\w+)`/g;

            $told{$_} //= shift @values for $names =~ /`(\w+)`/g;
        }

        while ($table =~ /"(\w+)="\)?,\s*(?:NGX_\w+,\s*\w+\()?
                          (?:conf\.)?(\w+)/gx)
        {
            my ($parameter, $is) = ($1, number($value{$2}) // next);
            my @said = amounts($told{$parameter} // next) or next;

            $compared++;
            complain("$name: the default of \"$parameter\" is not "
                     . $told{$parameter}) if !grep { $_ == $is } @said;
        }
    }

    die "few defaults found\n" if $compared < 40;
}


# of an expression in C; undef if it is none of numbers

sub number {
    my ($c) = @_;

    return if !defined $c;

    for (1 .. 4) {
        $c =~ s/\b(NGX_\w+)/$macro{$1} \/\/ $1/ge;
    }

    $c =~ s/\(\w+_t\)//g;

    return $c =~ /^[\d\s*+()]+$/ ? eval $c : undef;
}


# what "8s" or "64k" may come to, in any unit

sub amounts {
    my ($n, $unit) = $_[0] =~ /^(\d+)(ms|[smhdkg]?)$/ or return;
    my %of = ('' => [1], ms => [1], s => [1, 1000], h => [3600, 3600000],
        m => [60, 60000, 1 << 20, 1000000], d => [86400, 86400000],
        k => [1 << 10, 1000], g => [1 << 30]);

    return map { $n * $_ } @{$of{$unit}};
}


sub variables {
    my %known = map { $_ => 1 }
        $code =~ /\{ ngx_string\("(llm_\w+)"\), (?:NULL|ngx_http)/g;
    my %told = map { $_ => 1 } $docs =~ /\$(llm_\w+)/g;

    die "no variables found\n" if keys %known < 20;

    without(\%known, \%told, 'a variable that is not told');
    without(\%told, \%known, 'is no variable');
}


sub metrics {
    my ($file) = ('docs/metrics.md');
    my $page = join "\n", map { $source{$_} }
        grep { m{operate/ngx_http_llm_metrics} } keys %source;
    my %known = map { $_ => 1 } $page =~ /"(llm_\w+)"/g;
    my %told = map { $_ => 1 }
        map { /`(llm_\w+)`/g } $text{$file} =~ /^\| (`llm_[^|]+)\|/mg;

    die "no metrics found\n" if keys %known < 50;

    without(\%known, \%told, "a metric that is not in $file");
    without(\%told, \%known, "of $file is no metric");
}


# error codes: the words of two parts that are handed to what refuses

sub codes {
    my %known;

    while ($code =~ /\w(?:_error|_refuse|_wrong|_fail|_bad|_own)
                     \(((?:[^;"]|"(?:[^"\\]|\\.)*")*?)\);/gx)
    {
        my $arguments = $1;

        $known{$_}++
            for grep { !/_(?:error|unit)$/ || /^upstream_/ }
                grep { !/^(?:on_crash|task_ids|group_by|grace_s)$/ }
                grep { !/^(?:input_file_id|output_expires_after)$/ }
                $arguments =~ /"([a-z]+(?:_[a-z]+)+)"/g;
    }

    $known{$_}++ for $code =~ /"(\w+_(?:exceeded|busy|unavailable))"/g;

    die "no error codes found\n" if keys %known < 40;

    for (sort keys %known) {
        complain("$_: an error code that is not told") if $docs !~ /`$_`/;
    }

    for my $file ('docs/errors.md', 'docs/tasks.md', 'docs/admin.md') {
        for my $cell ($text{$file} =~ /^\| [45]\d\d \| ([^|]+) \|/mg) {
            for ($cell =~ /`(\w+)`/g) {
                complain("$_: no error code ($file)") if $code !~ /"$_"/;
            }
        }
    }
}


sub targets {
    my $makefile = slurp('Makefile');

    for my $file (sort keys %text) {
        while ($text{$file} =~ /(?:`|^\ {4})(?:[A-Z_]+=\S+\ )*
                                make\ ([a-z-]+)/mgx)
        {
            my $target = $1;

            complain("$file: no make $target") if $makefile !~ /^$target:/m;
        }
    }
}


# `t/NN`, and the words in italics behind it, which stand in that test

sub tests {
    for my $file (sort keys %text) {
        while ($text{$file} =~ m{`(t/\d\w+)(-[\w-]+\.t)?`
                                 ((?:(?!`t/)[^;.\n(])*)}gx)
        {
            my ($name, $words) = (defined $2 ? "$1$2" : "$1-*.t", $3);
            my ($test) = glob $name;

            if (!defined $test || !-e $test) {
                complain("$file: no $name");
                next;
            }

            for ($words =~ /(?<!\*)\*([^*]+)\*(?!\*)/g) {
                next if /^(?:Yours|Tests)$/;

                my $word = s/ ….*//r;
                complain("$file: no \"$word\" in $test")
                    if index(slurp($test), $word) < 0;
            }
        }
    }
}


sub links {
    my %led = ('README.md' => 1);
    my @next = ('README.md');

    while (my $file = shift @next) {
        my $dir = dirname($file) eq '.' ? '' : dirname($file) . '/';

        for ($text{$file} =~ /\]\(([^)\s]+)\)/g) {
            next if /^\w+:/;

            my ($path, $anchor) = /^([^#]*)(?:#(.*))?$/;

            $path = $path eq '' ? $file : "$dir$path";
            1 while $path =~ s{[^/]+/\.\./}{};

            if (!-e $path) {
                complain("$file: no $_");
                next;
            }

            if (defined $anchor && !anchors($path)->{$anchor}) {
                complain("$file: no heading for $_");
            }

            if (exists $text{$path} && !$led{$path}++) {
                push @next, $path;
            }
        }
    }

    without(\%text, \%led, 'no link from the README leads to it');
}


sub anchors {
    my ($file) = @_;
    my %is;

    for (($text{$file} // slurp($file)) =~ /^#+ (.*)$/mg) {
        my $anchor = lc;
        $anchor =~ s/[^\w\- ]//g;
        $anchor =~ tr/ /-/;
        $is{$anchor} = 1;
    }

    return \%is;
}
