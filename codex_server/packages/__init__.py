"""The packages that programs can import in addition to their standard library: which, where, how they are installed."""
