#!/usr/bin/perl

# The example site of the package is config/nginx.conf as a site: what is said
# there is said here, but for paths, ports and what Debian's nginx.conf says
# already.

use warnings;
use strict;

use FindBin;
use Test::More;


my $top = "$FindBin::Bin/..";

my %other = map { $_ => 1 } 'llm_state state;', 'llm_admin file:admin-secret;',
    'alias pages/dashboard/;', 'access_log logs/access.log llm;',
    'default_type application/octet-stream;', 'resolver_timeout 5s;',
    map { "${_}_temp_path tmp/" . s/client_//r . ';' }
        qw(client_body proxy fastcgi uwsgi scgi);

my @whole = directives('nginx.conf');
my @site = directives('site.conf');

# from "http {" on, what "make run" does not fill in
shift @whole while @whole && $whole[0] ne 'http {';
shift @whole;
@whole = grep { !/\@[A-Z_]+\@/ && !$other{$_} } @whole;
pop @whole if $whole[-1] eq '}';

my %there = map { $_ => 1 } @site;

cmp_ok scalar(@whole), '>', 90, 'the whole configuration was read';
is_deeply [grep { !$there{$_} } @whole], [], 'is in the site as well';
ok !grep(/\@[A-Z_]+\@/, @site), 'nothing is left to be filled in';

done_testing;


sub directives {
    my ($name) = @_;

    open my $in, '<', "$top/config/$name" or die "$name: $!\n";

    return grep { length && !/^#/ } map { s/^\s+|\s+$//gr } <$in>;
}
