"""Who calls, what they may do, and how they prove who they are. Pure: no sockets, no clock."""
