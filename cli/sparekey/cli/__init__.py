"""The operator's command line: a client of the public RPCs and nothing more."""
