"""Deployment targets of bundles: Bento, container, Triton."""
