"""Sandboxes made of Linux namespaces, seccomp and cgroups; no daemon, no root, no image.

``sandboxes/room/`` runs on the far side (launcher, zygote, init, worker); everything in this folder runs in the server.
"""
