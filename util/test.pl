#!/usr/bin/env perl

# Runs the suites named as arguments (unit, t, faults, clients, dashboard) and
# adds them up.  Every program prints TAP; each runs in a process group of its own,
# with a time limit, so that neither a hang nor a stray daemon outlives it.
#
# T          a list of files instead of all of a suite
# V          1: shows all output; else only that of programs that failed
# TEST_JOBS  programs at a time (unit: number of processors, t: 3, since they
#            mostly wait, others 1);
#            those of t that say "# Alone: WHY" run by themselves at the end
# TEST_TIMEOUT  seconds for one program (unit 120, t and faults 240, others 420)

use warnings;
use strict;

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use File::Path qw(make_path);
use POSIX qw(:sys_wait_h setpgid);
use Time::HiRes qw(time sleep);


my $top = abs_path(dirname(__FILE__) . '/..');
chdir $top or die "$top: $!\n";

my $build = $ENV{BUILD} ? abs_path($ENV{BUILD}) : "$top/build";
my $started = time;
my %total = (passed => 0, failed => 0, skipped => 0);
my %running;

$ENV{CMOCKA_MESSAGE_OUTPUT} = 'TAP';
$ENV{TEST_NGINX_MODULE} //= "$build/ngx_http_llm_module.so";
$ENV{TEST_BUILD} = $build;

my $unit = $ENV{TEST_UNIT_DIR} || "$build/unit";

my %suites = (
    unit    => { timeout => 120, jobs => processors(), list => sub {
        map { "$unit/" . basename($_, '.c') } glob 'tests/unit/test_*.c' } },
    t       => { timeout => 240, jobs => 3, list => sub { glob 't/*.t' } },
    faults  => { timeout => 240, jobs => 1,
                 list => sub { glob 'tests/faults/*.t' } },
    clients => { timeout => 420, jobs => 1,
                 list => sub { 'tests/clients/run' } },
    dashboard => { timeout => 420, jobs => 1,
                   list => sub { 'tests/dashboard/run' } },
);

for my $signal (qw(INT TERM HUP)) {
    $SIG{$signal} = sub {
        kill 'KILL', map { -$_ } keys %running;
        print "interrupted\n";
        exit 130;
    };
}

$| = 1;

for my $name (@ARGV) {
    die "unknown suite \"$name\"\n" if !$suites{$name};
    run_suite($name, $suites{$name});
}

printf "%d skipped\n", $total{skipped} if $total{skipped};
printf "%.0f s\n", time - $started;
print "$total{passed} passed, $total{failed} failed\n";

exit($total{failed} || !$total{passed} ? 1 : 0);


sub processors {
    open my $cpu, '<', '/proc/cpuinfo' or return 1;
    return scalar(grep { /^processor\b/ } <$cpu>) || 1;
}


sub run_suite {
    my ($name, $suite) = @_;

    my @files = $ENV{T} ? split(' ', $ENV{T}) : $suite->{list}->();
    my $jobs = $ENV{TEST_JOBS} || $suite->{jobs};

    make_path("$build/test/$name");
    print "$name:\n";

    my @alone = grep { alone($_) } @files;
    @files = grep { !alone($_) } @files;

    for my $lane ([$jobs, @files], [1, @alone]) {
        my ($most, @list) = @$lane;

        while (@list || %running) {
            while (@list && keys %running < $most) {
                start($name, shift @list, $suite);
            }

            reap();
        }
    }
}


# its times are held against a clock

sub alone {
    my ($file) = @_;

    return 0 if $file !~ /\.t$/;

    open my $text, '<', $file or return 0;
    return scalar grep { defined && /^# Alone:/ } map { scalar <$text> } 1 .. 12;
}


sub start {
    my ($name, $file, $suite) = @_;

    my $log = "$build/test/$name/" . basename($file) . '.log';
    my @command = $file =~ /\.t$/ ? ($^X, '-It/lib', $file) : ("./$file");
    $command[0] = $file if $file =~ m{^/};

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        setpgid(0, 0);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', $log or die "$log: $!\n";
        open STDERR, '>&', \*STDOUT;
        exec { $command[0] } @command or die "$command[0]: $!\n";
    }

    setpgid($pid, $pid);
    $running{$pid} = { file => $file, log => $log, time => time,
        limit => $ENV{TEST_TIMEOUT} || $suite->{timeout} };
}


sub reap {
    while (1) {
        my $pid = waitpid(-1, WNOHANG);

        if ($pid > 0 && $running{$pid}) {
            my $test = delete $running{$pid};
            $test->{status} = $?;
            kill 'KILL', -$pid;               # what it should have stopped
            finish($test);
            return;
        }

        for $pid (keys %running) {
            next if time - $running{$pid}{time} < $running{$pid}{limit};
            $running{$pid}{late} = 1;
            kill 'KILL', -$pid;
        }

        sleep 0.01;
    }
}


sub finish {
    my ($test) = @_;

    my $result = read_tap($test->{log});
    my @wrong;

    if ($test->{late}) {
        push @wrong, "not ended after $test->{limit} s";

    } elsif ($test->{status} & 127) {
        push @wrong, 'killed by signal ' . ($test->{status} & 127);

    } elsif ($test->{status} && !$result->{failed}) {
        push @wrong, 'exit code ' . ($test->{status} >> 8);
    }

    if (!defined $result->{planned}) {
        push @wrong, 'no plan' if !@wrong;

    } elsif ($result->{planned} != $result->{run}) {
        push @wrong, "planned $result->{planned}, ran $result->{run}";
    }

    # an accident is one failure more, whatever the lines said
    $result->{failed}++ if @wrong;

    $total{$_} += $result->{$_} for keys %total;

    printf "  %-34s %s%4d passed%s%s %6.1f s%s\n", basename($test->{file}),
        $result->{failed} ? 'FAILED ' : 'ok     ', $result->{passed},
        $result->{failed} ? ", $result->{failed} failed" : '',
        $result->{skipped} ? ", $result->{skipped} skipped" : '',
        time - $test->{time}, @wrong ? ': ' . join(', ', @wrong) : '';

    if ($ENV{V} || $result->{failed}) {
        open my $log, '<', $test->{log} or return;
        my @lines = <$log>;

        if (!$ENV{V} && @lines > 200) {
            my @bad = grep { /^not ok/ } splice @lines, 0, -150;
            print "    ($test->{log} has all of it)\n";
            unshift @lines, @bad;
        }

        print map { "    $_" } @lines;
    }
}


sub read_tap {
    my ($file) = @_;

    my %result = (passed => 0, failed => 0, skipped => 0, run => 0,
        planned => undef);

    open my $log, '<', $file or return \%result;

    while (<$log>) {
        if (/^1\.\.(\d+)/) {
            # an executable may run several groups, each with its plan
            $result{planned} = ($result{planned} // 0) + $1;
            $result{skipped}++ if $1 == 0;

        } elsif (/^(not )?ok\b/) {
            my $bad = $1;

            $result{run}++;

            if (/#\s*skip/i) {
                $result{skipped}++;

            } elsif ($bad && !/#\s*todo/i) {
                $result{failed}++;

            } else {
                $result{passed}++;
            }
        }
    }

    return \%result;
}
