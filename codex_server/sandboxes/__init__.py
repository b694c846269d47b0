"""Builders of sandboxes; they share the contract in ``base`` and do not know one another."""
