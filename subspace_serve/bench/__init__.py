"""Measures a running service under open-loop load. It needs the packages of the extra `client`."""
