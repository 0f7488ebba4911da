"""The composition root: the one place where ports get their real parts."""

import os

# A record takes two exchanges between brokers. With grpc's newer way to wait for sockets, in which
# threads hand on to each other what one of them has seen, each costs a third more of CPU than with
# the one before it (docs/decisions: how gRPC waits for sockets). grpc reads this once, when it is
# imported; so it stands before all else here. Who sets it gets that.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
