"""What `--alpha` takes: places in a subspace, by number, by name, or as selected before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from subspace_serve.errors import GeometryError
from subspace_serve.geometry import Alpha, Geometry

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IN_NAMES = str.maketrans({",": "_", " ": None, "+": None})
SYNTAX = "0.5, 0.2,0.3,0.5 (simplex), midpoint, endpoints, endpoint:0, best, best:NAME, or NAME=one of these"


@dataclass
class Request:
    """The points and ensembles that a list of specifications asks for.

    Attributes:
        points: places by name.
        ensembles: members by name.
    """

    points: dict[str, Alpha] = field(default_factory=dict)
    ensembles: dict[str, list[str]] = field(default_factory=dict)

    def add_point(self, name: str, alpha: Alpha) -> None:
        """Add a point.

        Raises:
            GeometryError: the name is malformed, or another place or an ensemble has it already.
        """
        check_name(name)
        if self.points.get(name, alpha) != alpha or name in self.ensembles:
            raise GeometryError(f"the name {name} is given to two different places; name one of them (NAME=SPEC)")
        self.points[name] = alpha

    def add_ensemble(self, name: str, members: list[str]) -> None:
        """Add an ensemble.

        Raises:
            GeometryError: the name is malformed, a point or another ensemble has it already, or the members are not
                different points.
        """
        check_name(name)
        if not members or len(set(members)) < len(members) or not self.points.keys() >= set(members):
            raise GeometryError(
                f"the ensemble {name} has the members {', '.join(members) or '(none)'}; they must be different ones "
                f"of the points: {', '.join(self.points)}"
            )
        if self.ensembles.get(name, members) != members or name in self.points:
            raise GeometryError(f"the name {name} is given to an ensemble and to something else; choose another")
        self.ensembles[name] = members


def check_name(name: str) -> None:
    """Raise `GeometryError` when a point or an ensemble cannot have this name."""
    if not NAME.fullmatch(name):
        raise GeometryError(f"{name!r} cannot name a point; use letters, digits, '.', '_' and '-'")


def parse_alphas(
    specifications: list[str] | tuple[str, ...],
    geometry: Geometry,
    selections: Mapping[str, Mapping[str, Any]],
    *,
    extrapolate: bool = False,
) -> Request:
    """Read specifications as `--alpha` takes them (`SYNTAX`).

    Args:
        specifications: one or more.
        geometry: of the subspace that they are places in.
        selections: what `select` stored, by name; each has an `alpha`.
        extrapolate: allow places a little outside a line.

    Raises:
        GeometryError: one is malformed, lies outside the domain, or names an endpoint or a selection that does not
            exist.
    """
    request = Request()
    for text in specifications:
        name, equals, specification = text.partition("=")
        if not equals:
            name, specification = "", text
        else:
            check_name(name)
        _add(request, name, specification.strip(), geometry, selections, extrapolate)
    return request


def _add(
    request: Request,
    name: str,
    text: str,
    geometry: Geometry,
    selections: Mapping[str, Mapping[str, Any]],
    extrapolate: bool,
) -> None:
    kind, _, argument = text.partition(":")
    if text == "midpoint":
        request.add_point(name or "midpoint", geometry.midpoint)
    elif text == "endpoints":
        members = [f"endpoint-{i}" for i in range(len(geometry.ends))]
        for member, alpha in zip(members, geometry.ends, strict=True):
            request.add_point(member, alpha)
        request.add_ensemble(name or "endpoints", members)
    elif kind == "endpoint":
        if not argument.isdecimal() or int(argument) >= len(geometry.ends):
            bend = " (a curve's bend lies off the curve)" if geometry.name == "curve" else ""
            raise GeometryError(f"{text!r}: this {geometry.name} has the ends 0 to {len(geometry.ends) - 1}{bend}")
        request.add_point(name or f"endpoint-{argument}", geometry.ends[int(argument)])
    elif kind == "best":
        key = argument or "best"
        if key not in selections:
            known = ", ".join(sorted(selections)) or "none yet"
            raise GeometryError(
                f"no selection named {key!r} for this run (stored: {known}); "
                f"make it with `subspace-serve select --name {key}`"
            )
        alpha = selections[key]["alpha"]
        alpha = tuple(alpha) if isinstance(alpha, list) else alpha
        request.add_point(name or key.replace(":", "-"), geometry.check(alpha, extrapolate=True))
    else:
        alpha = geometry.check(_numbers(text), extrapolate=extrapolate)
        request.add_point(name or f"alpha-{text.translate(_IN_NAMES)}", alpha)


def _numbers(text: str) -> Alpha:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise GeometryError(f"{text!r} is no place in a subspace; give {SYNTAX}") from None
    return values if "," in text else values[0]
