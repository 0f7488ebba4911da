"""The door for everybody else's clients: Kafka's wire protocol over TCP.

    acceptor.py    takes the connections of one listener, over TLS where that is spoken
    lobby.py, authenticating.py, sasl_messages.py   those without a name, and how they get one
    server.py      all listeners and their connections: limits, idle ones
    connection.py  one connection: frames in, requests started in order, answers out in order
    apis.py        which APIs and versions are served
    api_versions.py   telling clients so, and which features the cluster has
    wire.py        what the hand-written messages are read and written with
    produce.py, fetch.py   the hot paths, by hand and without copying records
    fetch_sessions.py      incremental fetches (KIP-227)
    messages.py    every other message, by the definitions of the kio library
    definitions.py, decoding.py, encoding.py   those definitions, and what reads and writes by them
    reach.py       the addresses that a client is told: of its own listener
    handlers/      what each API does: a translation onto the typed requests of broker/
    partitions.py   what handlers have in common that ask something of partitions

Nothing here decides anything about logs, replicas or groups: that is in broker/ and core/.
"""
