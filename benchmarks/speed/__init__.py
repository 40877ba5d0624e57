"""Benchmarks of speed: a claim, and a script that measures it."""
