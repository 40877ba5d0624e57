"""Benchmarks of the project, started from its root: ``python -m benchmarks.speed.features``; see README.md."""
