"""Where bundles go: Bento, container, Triton."""
