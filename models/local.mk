# SPDX-License-Identifier: MIT
EXTRA_DIST += %D%/run.sh %D%/remote.pml %D%/park.pml %D%/superslab.pml
