"""Sandboxes made of Linux namespaces, seccomp and cgroups; no daemon, no root, no image.

``sandboxes/guest/`` runs on the guest side (launcher, zygote, init, worker); everything here runs in the server.
"""
