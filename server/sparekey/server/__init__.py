"""The license server: key storage, activation tasks, the agents' link, history."""

import sparekey.runtime  # noqa: F401 - before anything imports gRPC
