"""Trainings and studies as jobs of Slurm: configuration, script, submission, status."""
