"""The packages that programs may import beside their own language: which, where, and how they come there."""
