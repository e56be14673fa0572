"""Engine of a Slurm cluster: sbatch, squeue and scancel, without an accounting database."""
