"""Codex Server: run the code that a model or a person sends, safely and at once."""

__version__ = "0.1.0"
