"""Everything that speaks gRPC; the only importer of grpc.

tuning.py           options of channels and servers, in one place
malloc.py           what the C library keeps of freed memory, and when it gives it back
generated/          what protoc makes of protos/minikafka/v1
mirror.py           protobuf messages <-> the typed requests of api/, field by field
convert*.py         the same for what does not mirror them
hot.py              the same for the three messages that carry records, without needless copies
server.py           a broker's server: health, reflection, the four services
unary.py streams.py the handlers of those services, over one BrokerService
calls.py            the client's side of one call: statuses become NetworkError
pipeline.py         many requests in flight on one stream, by correlation id
peers.py            the port Peers: what brokers ask of each other
channel.py          one client's connection to one broker
"""

import os

# grpc's C core writes to stderr what callers learn from statuses anyway. It reads this once, when
# it is imported. Who sets it (GRPC_VERBOSITY=debug) gets it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# Processes that we start are started by exec: the C core need not be ready to live on after a fork,
# and its handlers for that have crashed children before they began.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
