"""Reading and watching the tree for people: zk, nodes, the dashboard."""
