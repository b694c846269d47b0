"""What an operator sees of the server: log lines and metrics. Neither ever carries code, output or a token."""
