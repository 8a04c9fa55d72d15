package Test::LLM::Cert;

# Certificates for a mock that speaks TLS: a good one and bad ones of each
# kind, made with the command "openssl".

use warnings;
use strict;

use Carp;
use POSIX qw(strftime);


my %config = (
    ca => "basicConstraints = critical,CA:TRUE\n"
        . "keyUsage = critical,keyCertSign,cRLSign\n",
    leaf => "basicConstraints = CA:FALSE\nsubjectAltName = DNS:%s\n",
);


# new($t, 'provider.test'): all of them for this name but "other"

sub new {
    my ($class, $t, $name) = @_;

    my $self = bless { t => $t, dir => $t->path('cert'), name => $name },
        $class;

    mkdir $self->{dir};
    $self->write('index', '');
    $self->write('index.attr', "unique_subject = no\n");

    $self->make('ca', $name, 'ca');
    $self->make('middle', $name, 'ca', 'ca');
    $self->make('good', $name, 'leaf', 'ca');
    $self->make('chained', $name, 'leaf', 'middle');
    $self->make('other', "other.$name", 'leaf', 'ca');
    $self->make('expired', $name, 'leaf', 'ca', -3 * 86400, -86400);
    $self->make('unknown', $name, 'leaf');

    $self->write('chained.pem', $self->read('chained.pem')
        . $self->read('middle.pem'));

    $t->token(CA => $self->ca);

    return $self;
}


# the file to trust, and the arguments of a mock

sub ca      { $_[0]->file('ca.pem') }
sub good    { $_[0]->mock('good') }
sub chained { $_[0]->mock('chained') }
sub other   { $_[0]->mock('other') }
sub expired { $_[0]->mock('expired') }
sub unknown { $_[0]->mock('unknown') }


sub mock {
    my ($self, $which) = @_;
    return ('--tls', $self->file("$which.pem"), $self->file("$which.key"));
}


# a key and a certificate that is signed by another, or by itself

sub make {
    my ($self, $which, $name, $type, $issuer, $from, $to) = @_;

    my ($pem, $key, $request) = map { $self->file("$which.$_") }
        qw(pem key csr);
    my $sign = $self->file(($issuer // $which) . '.key');

    $self->run('req', '-new', '-newkey', 'ec', '-pkeyopt',
        'ec_paramgen_curve:P-256', '-nodes', '-keyout', $key,
        '-out', $request, '-subj', "/CN=$which.$name");

    my $config = $self->write("$which.conf", "[ca]\ndefault_ca = x\n[x]\n"
        . "database = $self->{dir}/index\nnew_certs_dir = $self->{dir}\n"
        . "rand_serial = yes\ndefault_md = sha256\npolicy = p\n"
        . "x509_extensions = e\n[p]\ncommonName = supplied\n[e]\n"
        . ($config{$type} =~ s/%s/$name/r));

    $self->run('ca', '-batch', '-notext', '-config', $config,
        '-in', $request, '-out', $pem, '-keyfile', $sign,
        $issuer ? ('-cert', $self->file("$issuer.pem")) : '-selfsign',
        '-startdate', date($from // -3600),
        '-enddate', date($to // 86400));
}


sub date {
    my ($seconds) = @_;
    return strftime '%Y%m%d%H%M%SZ', gmtime time + $seconds;
}


sub run {
    my ($self, @command) = @_;

    my $said = $self->file('openssl.out');
    my $pid = fork() // croak "fork: $!";

    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', $said;
        open STDERR, '>&', \*STDOUT;
        no warnings 'exec';
        exec 'openssl', @command or print "openssl: $!\n";
        POSIX::_exit(127);
    }

    waitpid $pid, 0;
    croak "openssl @command: " . $self->read('openssl.out') if $?;
}


sub file  { "$_[0]{dir}/$_[1]" }
sub read  { $_[0]{t}->read("cert/$_[1]") }
sub write { $_[0]{t}->write("cert/$_[1]", $_[2]) }


1;
