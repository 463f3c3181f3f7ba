"""What is drawn on matplotlib's axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.axes import Axes


def noted(monkeypatch: pytest.MonkeyPatch, **keep: Callable[[tuple, dict[str, Any]], Any]) -> dict[str, list[Any]]:
    """Return lists, by methods of axes, of what `keep` makes of the arguments of each call that is still to come."""
    calls: dict[str, list[Any]] = {method: [] for method in keep}

    def spy(method: str) -> None:
        original = getattr(Axes, method)

        def record(self: Axes, *arguments: Any, **options: Any) -> Any:
            calls[method].append(keep[method](arguments, options))
            return original(self, *arguments, **options)

        monkeypatch.setattr(Axes, method, record)

    for method in keep:
        spy(method)
    return calls
