"""What travels between the server and a sandbox: frames, messages, the program and its report.

``codec`` decodes every message. The guest side imports frames, stream, codec, launch, slot and run without the rest of
``codex_server``: they use the standard library only.
"""
