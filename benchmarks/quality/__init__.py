"""Benchmarks of quality: scores and detection rates, not times."""
