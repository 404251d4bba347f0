"""Evaluation: benchmarks, reports, listening tests."""
