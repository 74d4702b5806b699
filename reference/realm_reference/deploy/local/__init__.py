"""Replicas as processes of this machine, under supervisord.

All replicas take connections from one listening socket. supervisord makes it (its fcgi-program is a group of
processes that share one socket) and hands it to each replica as file descriptor 0; a process that only holds
it keeps it open for as long as the deployment lasts. So a connection waits in one queue that no replica's end
empties, and a rolling update or a crash loses none.

A replica runs in a *slot* of supervisord's. Which *revision* of the deployment a slot runs is a file of the
slot, so that a replica that crashes in the middle of an update comes back as what it was.
"""
