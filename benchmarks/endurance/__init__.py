"""Benchmarks of endurance: bad files, hostile requests, killed processes."""
