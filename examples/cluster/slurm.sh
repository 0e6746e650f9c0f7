#!/bin/bash
# Search scenes by an array of tasks that share a job folder; the task that comes last writes the output.
#
#   sbatch examples/cluster/slurm.sh '/shared/scenes/**/*.tif' /shared/boxes.gpkg --weights legnet-small-dota10
#   legnet predict --status /shared/boxes.gpkg
#
# Tasks may be lost, requeued or started again in any order; submit the same once more to go on with what is missing.
#SBATCH --job-name=legnet
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
# on GPUs: #SBATCH --gres=gpu:1
set -euo pipefail

scenes=$1 out=$2
shift 2
share=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1))
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
exec legnet predict "$scenes" --out "$out" --job "$(dirname "$out")/.$(basename "$out").legnet-job" \
    --shard "$share/$SLURM_ARRAY_TASK_COUNT" "$@"
