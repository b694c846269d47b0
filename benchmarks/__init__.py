"""What an execution costs beside a bare interpreter on the same machine (``make bench``). Begin at ``suite``."""
