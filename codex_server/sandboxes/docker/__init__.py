"""The docker backend: each sandbox is a container of its runner's image, armed beforehand, used once."""
