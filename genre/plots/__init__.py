"""Figures from tables: of evaluations, trainings, spectrograms, and comparisons."""
