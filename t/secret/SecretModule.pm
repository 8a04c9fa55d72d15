package SecretModule;

# nginx with names, seals and parcels and a caller for them instead of the
# gateway (see t/secret).

use warnings;
use strict;

# how a sanitized module comes into an nginx that is not
use RedisClient;
use parent -norequire, 'RedisClient';


sub part { 'secret' }


# the configuration with secrets: [name, source, id, old source, id, ...]

sub with {
    my ($self, @secrets) = @_;

    my $lines = join '', map { 'llm_test_secret ' . join(' ', @$_) . ";\n" }
        @secrets;

    return <<"EOT";
%%GLOBALS%%

http {
    %%GLOBALS_HTTP%%
    $lines

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 8m;
        client_body_buffer_size 8m;
        location / { llm_test_secret_run; }
    }
}
EOT
}


# run('mac', $body, secret => 'a', ...): the answer's body

sub run {
    my ($self, $what, $body, %arguments) = @_;

    my $query = join '&', map { "$_=$arguments{$_}" } sort keys %arguments;
    my $r = $self->post("/$what?$query", $body, timeout => 120);

    return $r->status == 200 ? $r->body : 'status ' . $r->status;
}


# (why, what was in it)

sub unpacked {
    my ($self, $parcel, %arguments) = @_;

    my $text = $self->run('unpack', $parcel, %arguments);

    return $text =~ /\Awhy=(\d+)\n(.*)\z/s ? ($1, $2) : ($text, '');
}


1;
