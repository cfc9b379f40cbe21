"""The wire contract in Python: its messages as licensing values, its errors, its serving edge."""

import sparekey.runtime  # noqa: F401 - before anything imports gRPC
