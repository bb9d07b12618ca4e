#!/bin/bash
# SPDX-License-Identifier: MIT
# A hybrid job, MPI and OpenMP, under Slurm: sbatch examples/slurm.sh
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=16
#SBATCH --mem=0
# Threads stay on their cores, so that what they touch first stays theirs.
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-16} OMP_PROC_BIND=close OMP_PLACES=cores
# No --mem-bind: it would set a memory policy, which wins over hakmem's placement.
# hakmem runs in each task and not around srun, which is no part of the computation. Process ids
# are not unique across nodes, ranks are.
# shellcheck disable=SC2016
srun --cpu-bind=cores bash -c \
	'exec hakmem run --stats="jsonl:stats-$SLURM_PROCID.jsonl:10000" -- ./program "$@"' rank "$@"
