"""The license server: key storage, activation tasks, the agents' link, history."""

import os

import sparekey.runtime  # noqa: F401 - before anything imports gRPC

# gRPC offers no way to ask for TLS 1.3 only. These suites of TLS 1.2 need an RSA certificate, and
# this server has ECDSA ones only, so TLS 1.2 finds no suite in common; those of TLS 1.3 are always
# there. gRPC reads the variable when it is first imported. At its start the server tries whether
# it holds (encryption.py).
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"
