"""The wire contract in Python: its messages as licensing values, its errors, its serving edge."""
