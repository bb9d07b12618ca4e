# SPDX-License-Identifier: MIT
# Hashes, sorts, strings that grow, regular expressions and, where perl has them,
# threads that clone the interpreter; prints a digest of each.
use strict;
use warnings;
use Config;
use Digest::MD5 qw(md5_hex);

my $seed = 12345;

sub number {
	$seed = ($seed * 1103515245 + 12345) & 0x7fffffff;
	return $seed >> 8;
}

sub words {
	my ($count) = @_;
	return map { join '', map { chr(97 + number() % 26) } 1 .. 3 + number() % 12 } 1 .. $count;
}

my %seen;
my @words = words(150_000);
$seen{substr $_, 0, 6} .= "$_," for @words;
for my $key (keys %seen) {
	delete $seen{$key} if length($seen{$key}) % 3 == 0;
}
my $text = join ';', map { "$_=$seen{$_}" } sort keys %seen;
printf "hash %s\n", md5_hex($text);

printf "sort %s\n", md5_hex(join ',', sort { length $a <=> length $b or $b cmp $a } @words);

my $changed = ($text =~ s/([a-z])([a-z]{2,4})([aeiou])/$3$2-$1/g);
printf "regex %d %s\n", $changed, md5_hex($text);

my $grown = '';
$grown .= chr(32 + $_ % 90) x ($_ % 97) for 1 .. 60_000;
printf "grown %d %s\n", length $grown, md5_hex($grown);

my @tree = map { { id => $_, children => [ map { { leaf => "x" x $_ } } 1 .. $_ % 20 ] } } 1 .. 20_000;
my $leaves = 0;
$leaves += scalar @{ $_->{children} } for @tree;
printf "tree %d\n", $leaves;

sub thread_work {
	my ($number) = @_;
	my %own;
	$own{ $_ % 5000 } .= $number x ($_ % 50) for 1 .. 60_000;
	return md5_hex(join '|', map { "$_:$own{$_}" } sort { $a <=> $b } keys %own);
}

my @digests;
if ($Config{useithreads}) {
	require threads;
	# Each clones the whole of the above and frees its copy.
	my @threads = map { my $n = $_; threads->create(sub { thread_work($n) }) } 1 .. 4;
	@digests = map { $_->join } @threads;
} else {
	@digests = map { thread_work($_) } 1 .. 4;
}
printf "threads %s\n", md5_hex("@digests");
