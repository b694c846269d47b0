"""What travels between the server and a sandbox: frames, messages, the program and its report.

The guest side imports frames and stream without the rest of ``codex_server``: they use the standard library only.
"""
