"""Every figure of the paper, again: `python -m trainer.reproduce FIGURE`.

A figure is described once (`figures`): which runs it needs, what is measured on each, how it is drawn, and which
claims of the paper it bears on. A scale (`scales`) says on which data, networks and seeds. Runs and measurements lie
in a cache by the hash of their settings (`cache`), so that what was interrupted goes on, figures share their runs, and
several processes may work on one cache.
"""
