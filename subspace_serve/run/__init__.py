"""A trained run: its files, its data, its selections, and what must not leak from one to another."""
