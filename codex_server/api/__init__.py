"""The HTTP door: it translates between HTTP and the executor, and knows nothing of how a sandbox is made."""
