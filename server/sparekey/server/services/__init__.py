"""The gRPC servicers: decode, call, encode."""
