"""Measures a running service under load that does not wait for its answers. It takes the client's packages."""
