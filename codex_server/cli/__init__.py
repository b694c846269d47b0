"""Commands for people: each file is one command, and imports what is heavy only when it runs."""
