# SPDX-License-Identifier: MIT
# The perl row: a hash of lists of strings that come and go, joined in the order of their keys. job.pl STRINGS
use strict;
use warnings;

my ($count) = @ARGV;
my ($seed, $length, %lists) = (1, 0);
for my $i (1 .. $count) {
    $seed = ($seed * 1103515245 + 12345) & 0x7fffffff;
    my $key = "key-" . ($seed >> 8) % 50000;
    push @{$lists{$key}}, "value $i " x (1 + ($seed >> 4) % 7);
    delete $lists{$key} if @{$lists{$key}} > 12;
}
for my $key (sort keys %lists) {
    my $line = join ",", map { ucfirst } @{$lists{$key}};
    $length += length $line if $line =~ /value \d+7 /i;
}
print scalar(keys %lists), " $length\n";
