"""Trainings by Lightning in the trials of a study."""
