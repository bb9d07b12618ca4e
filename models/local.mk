# SPDX-License-Identifier: MIT
# models/: the protocol models. `make check-model` runs them all; it needs spin and takes
# under three minutes. Makefile.am starts EXTRA_DIST as an empty list.

EXTRA_DIST += \
	%D%/README.md \
	%D%/park.pml \
	%D%/remote.pml \
	%D%/magazine.pml \
	%D%/room.pml \
	%D%/run.sh \
	%D%/superslab.pml \
	%D%/weak.pml

check-model:
	CC='$(CC)' bash $(srcdir)/%D%/run.sh

.PHONY: check-model
