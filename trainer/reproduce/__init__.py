"""Every figure of the paper, reproduced: `python -m trainer.reproduce FIGURE`.

Each figure is described once (`figures`): which runs it needs, what is measured on each, which claims of the paper it
tests, and how it is drawn. What sets its runs apart is data (`description.Case`), from which their names are made. A
scale (`scales`) sets the data, networks and seeds. Runs lie in a cache by the hash of their settings (`cache`), and so
do measurements, which are small and can be read without the run. So interrupted work goes on, figures share runs, and
several processes can work on one cache. Scales that write to one folder stand side by side on its page (`page`).
"""
