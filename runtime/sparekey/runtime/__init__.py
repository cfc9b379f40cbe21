"""What every Sparekey program needs to run: time, logs, a start that refuses in one sentence."""

import os

# The core of gRPC writes its own notes to standard error, such as one for each connection that
# a server closes; what matters of them reaches us as errors. It reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
