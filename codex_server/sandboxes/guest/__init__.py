"""The guest side: trusted code that builds sandboxes and watches over guests. Standard library only.

launcher (on the host) -> zygote (PID 1 of the outer namespaces) -> init (PID 1 of a slot) -> worker (becomes the
user's program).
This folder and ``protocol`` are bound read-only into the guest root as the package ``sandboxes``: they import nothing
else of ``codex_server``.
"""
