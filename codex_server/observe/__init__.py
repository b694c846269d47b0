"""Logs and metrics. Neither ever contains code, output or a token."""
