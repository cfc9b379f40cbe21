"""The operator's command line: a client of the public RPCs and nothing more."""

import sparekey.runtime  # noqa: F401 - before anything imports gRPC
