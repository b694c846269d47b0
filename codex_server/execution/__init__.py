"""From an execution to its outcome: admission, pools of armed sandboxes, captured output. Begin at ``executor``."""
