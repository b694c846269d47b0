"""What a caller can ask for, once for all doors: the catalogue of operations."""
