#!/bin/bash
# Four nodes with eight GPUs each, as one cluster for one run: sbatch slurm.sh
# The folder and the Python environment have to be on a disk that all nodes share.
#SBATCH --job-name=adaptbench
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --exclusive
# A node that fails ends its own processes, and not the job.
#SBATCH --no-kill
#SBATCH --requeue

set -eu
# Whoever reaches Ray's ports may run code: nobody without this token does.
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
  python -m adaptbench run --engine=ray --device=cuda "$@"
