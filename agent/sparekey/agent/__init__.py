"""The SVM's side: its inventory, its keyring on disk, its link to the server."""

import sparekey.runtime  # noqa: F401 - before anything imports gRPC
