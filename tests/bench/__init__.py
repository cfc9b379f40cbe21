"""Benchmarks beside bare gRPC: what durability and rules cost on top of the transport."""
