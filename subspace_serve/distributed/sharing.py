"""Which rank does what, when some works need the same costly thing."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


class Homes:
    """Where each thing (a network, say) is made and kept: each on one rank, wherever that can be.

    Ranks that are asked the same questions in the same order give the same answers, so nothing needs to be told.
    """

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self._home: dict[Hashable, int] = {}

    def settle(self, works: Sequence[Sequence[Hashable]]) -> list[int]:
        """Return the rank that does each of the works, given the things that each one needs.

        Works that share things go together: to where most of their things are, else to the rank with least to do. A
        thing is on two ranks only when an earlier call settled apart what a later one needs together.
        """
        loads = [0] * self.world_size
        ranks = [0] * len(works)
        groups = sorted(_connected(works), key=lambda group: -len(group[0]))
        # First those that have a home, so that the others are spread around them.
        groups.sort(key=lambda group: self._home.keys().isdisjoint(group[0]))
        for things, indices in groups:
            known = [self._home[thing] for thing in things if thing in self._home]
            home = max(known, key=known.count) if known else loads.index(min(loads))
            loads[home] += len(things)
            for index in indices:
                ranks[index] = home
            for thing in things:
                self._home.setdefault(thing, home)
        return ranks


def _connected(works: Sequence[Sequence[Hashable]]) -> list[tuple[list[Hashable], list[int]]]:
    """Group works that share things, and those that share with these: each group's things and the works' indices."""
    groups: list[tuple[list[Hashable], list[int]]] = []
    for index, needed in enumerate(works):
        things, indices = list(dict.fromkeys(needed)), [index]
        for group in [group for group in groups if not set(things).isdisjoint(group[0])]:
            groups.remove(group)
            things, indices = list(dict.fromkeys(group[0] + things)), group[1] + indices
        groups.append((things, indices))
    return groups
