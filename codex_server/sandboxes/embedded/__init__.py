"""Sandboxes made of Linux namespaces, seccomp and cgroups; no daemon, no root, no image.

``room/`` runs on the far side (launcher, zygote, init, worker); everything beside it runs in the server.
"""
