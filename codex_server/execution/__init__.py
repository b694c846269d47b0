"""Runs executions: admission, pools of armed sandboxes, captured output. Start reading at ``executor``."""
