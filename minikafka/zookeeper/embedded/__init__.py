"""An embedded single-node server of the ZooKeeper protocol, durable, for one machine.

model      vocabulary: znodes, ACLs, requests, results, transactions
tree       PURE state machine: `Tree` ties the parts below together
  sessions, watches, acl, draft   its parts, each pure
jute       the primitive encoding; wire (client protocol) and records (journal) are written in it
words      the four-letter words
journal    the write-ahead log and the snapshots in one directory
server     the asyncio shell; `python -m minikafka.zookeeper.embedded` starts it

Imports run downward: server -> journal, wire, words -> records -> tree -> its parts -> model.
"""
