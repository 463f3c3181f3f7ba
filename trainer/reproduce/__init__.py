"""Every figure of the paper, again: `python -m trainer.reproduce FIGURE`.

A figure is described once (`figures`): which runs it needs, what is measured on each, which claims of the paper it
bears on, and how it is drawn. What sets its runs apart is data (`description.Case`), and every name is text made of it.
A scale (`scales`) says on which data, networks and seeds. Runs lie in a cache by the hash of their settings (`cache`),
and so do measurements, which are small and need no run, so that what was interrupted goes on, figures share their runs,
and several processes may work on one cache. Scales that write to one folder stand side by side on its page (`page`).
"""
