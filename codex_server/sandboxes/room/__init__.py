"""The far side: trusted code that builds sandboxes and watches over guests. Standard library only.

launcher (on the host) -> zygote (PID 1 of the room) -> init (PID 1 of a slot) -> worker (becomes the user's program).
This folder is bound read-only into the room as the package ``room``: it imports nothing of ``codex_server``.
"""
