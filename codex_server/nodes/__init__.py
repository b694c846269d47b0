"""Places that run executions, behind one contract: this process, and later other machines."""
