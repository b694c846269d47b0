"""The command line: each file is one command, and imports heavy modules only when it runs."""
