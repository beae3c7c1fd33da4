#!/usr/bin/env bash
#SBATCH --job-name=tercet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=tercet-%j.log
#
# One run over the GPUs of several nodes:
#
#     sbatch examples/slurm.sh RECIPE [--section.key VALUE ...]
#
# The run's folder must be one that all nodes mount. A job that is requeued goes on where it was.
# Tercet is found in .venv of the folder of submission, or on the PATH.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: sbatch examples/slurm.sh RECIPE [--section.key VALUE ...]" >&2; exit 2; }
if [ -f .venv/bin/activate ]; then source .venv/bin/activate; fi

processes=${PROCESSES_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
# All of them are read: a pipe into head would end scontrol by a signal.
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export FIRST_NODE=${nodes%%$'\n'*}
export PORT=$((20000 + SLURM_JOB_ID % 20000))
export PROCESSES=$((processes * SLURM_NNODES))

# shellcheck disable=SC2016  # the node's own number is known there alone
srun --kill-on-bad-exit=1 bash -c '
    exec accelerate launch --multi_gpu \
        --num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" \
        --num_processes "$PROCESSES" --mixed_precision no --dynamo_backend no \
        --main_process_ip "$FIRST_NODE" --main_process_port "$PORT" \
        -m tercet adapt "$@"' launch "$@"
