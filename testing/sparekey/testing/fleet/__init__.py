"""Starts the real programs and many real agents: for tests, benchmarks and demonstrations."""
