"""A backend without a kernel, for tests."""
