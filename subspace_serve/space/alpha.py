"""What `--alpha` takes: places in a subspace, by number, by name, or as selected before."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from subspace_serve.errors import GeometryError
from subspace_serve.space.ensemble import Aggregate, Ensemble
from subspace_serve.space.place import Alpha, place_from_json

if TYPE_CHECKING:  # numpy would make every --help wait
    from subspace_serve.space.geometry import Geometry

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IN_NAMES = str.maketrans({",": "_", " ": None, "+": None})
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_RANDOM = re.compile(r"random:([0-9]{1,9})(?::([0-9]{1,9}))?")
RANDOM_MEMBERS = (2, 64)
"""The fewest and the most members of a random ensemble."""

SYNTAX = (
    "0.5, 0.2,0.3,0.5 (simplex), midpoint, endpoints, endpoint:0, best, best:NAME, random:N or random:N:SEED (an "
    "ensemble of N places drawn as in training), or NAME=one of these"
)


@dataclass
class Request:
    """The points and ensembles that a list of specifications asks for.

    Attributes:
        points: places by name.
        ensembles: names of points that are averaged, by the ensemble's name.
        selected: the selection's name for points and ensembles that were selected; the selection records which images
            calibrated them and which they were selected on.
        models: the point or ensemble that each specification means, in the order of the specifications.
        aggregate: what its ensembles average, except selected ones.
    """

    points: dict[str, Alpha] = field(default_factory=dict)
    ensembles: dict[str, Ensemble[str]] = field(default_factory=dict)
    selected: dict[str, str] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    aggregate: Aggregate = "probabilities"

    def placed(self, name: str) -> Ensemble[Alpha]:
        """Return a point or an ensemble of this request by places instead of names."""
        if name in self.points:
            return Ensemble.point(self.points[name])
        ensemble = self.ensembles[name]
        places = tuple(self.points[member] for member in ensemble.members)
        return Ensemble(places, ensemble.weights, ensemble.aggregate)

    def add_point(self, name: str, alpha: Alpha, *, selected: str | None = None) -> None:
        """Add a point; `selected` names the selection that it comes from.

        Raises:
            GeometryError: the name is malformed, or another place or an ensemble has it already.
        """
        check_name(name)
        new = name not in self.points
        same = new or (self.points[name] == alpha and self.selected.get(name) == selected)
        if not same or name in self.ensembles:
            raise GeometryError(f"the name {name} is given to two different places; name one of them (NAME=SPEC)")
        self.points[name] = alpha
        if selected is not None:
            self.selected[name] = selected

    def add_ensemble(self, name: str, ensemble: Ensemble[str], *, selected: str | None = None) -> None:
        """Add an ensemble of points that were added before; `selected` names the selection that it comes from.

        Raises:
            GeometryError: the name is malformed, a point or another ensemble has it already, the members are not
                different points of the request, the weights do not fit them, or the aggregate is unknown.
        """
        check_name(name)
        members = ensemble.members
        if not members or len(set(members)) < len(members) or not self.points.keys() >= set(members):
            raise GeometryError(
                f"the ensemble {name} has the members {', '.join(members) or '(none)'}; they must be different ones "
                f"of the points: {', '.join(self.points)}"
            )
        if ensemble.weights is not None:
            check_weights(name, members, ensemble.weights)
        if ensemble.aggregate not in get_args(Aggregate):
            raise GeometryError(f"the ensemble {name} averages {ensemble.aggregate!r}; choose probabilities or logits")
        if self.ensembles.get(name, ensemble) != ensemble or name in self.points:
            raise GeometryError(f"the name {name} is given to an ensemble and to something else; choose another")
        self.ensembles[name] = ensemble
        if selected is not None:
            self.selected[name] = selected


def check_name(name: str) -> None:
    """Raise `GeometryError` when a point or an ensemble cannot have this name."""
    if not NAME.fullmatch(name):
        raise GeometryError(f"{name!r} cannot name a point; use letters, digits, '.', '_' and '-'")


def check_weights(ensemble: str, members: Sequence[str], weights: Sequence[float]) -> None:
    """Raise `GeometryError` unless there is one weight per member, none is negative, and their sum is positive."""
    if len(weights) != len(members) or not min(weights) >= 0 or not 0 < sum(weights) < math.inf:
        raise GeometryError(
            f"the ensemble {ensemble} has the weights {', '.join(f'{weight:g}' for weight in weights) or '(none)'}; "
            f"its {len(members)} members need one each, finite, none negative and not all 0"
        )


def parse_alphas(
    specifications: list[str] | tuple[str, ...],
    geometry: Geometry,
    selections: Mapping[str, Mapping[str, Any]],
    *,
    extrapolate: bool = False,
    aggregate: Aggregate = "probabilities",
) -> Request:
    """Read specifications as `--alpha` takes them (`SYNTAX`).

    A selected ensemble NAME becomes the points NAME-0, NAME-1, … and an ensemble of them. A selection is found by its
    exact name (`best:fog:3`; ':' and '-' count as the same), or by its name without the severity where only one is
    stored (`best:fog`). A random ensemble (section 4.5, figure 11) likewise becomes points and an ensemble of them:
    `random:6` is `random-6` with the seed 0, and `random:6:1` is `random-6-seed-1`. For a standard network `midpoint`,
    `endpoint:0` and `endpoints` are one point, under the first name given; NAME=SPEC gives it another.

    Args:
        specifications: one or more.
        geometry: of the subspace that they are places in.
        selections: what `select` stored, by name; each has an `alpha`, or is an ensemble and has `members` (a list of
            alphas), `weights` and `aggregate`.
        extrapolate: allow places a little outside a line.
        aggregate: what ensembles average; a selected one keeps its own.

    Raises:
        GeometryError: one is malformed, lies outside the domain, names an endpoint or a selection that does not
            exist, or is a random ensemble of too few or too many members.
    """
    request = Request(aggregate=aggregate)
    for text in specifications:
        name, equals, specification = text.partition("=")
        if not equals:
            name, specification = "", text
        else:
            check_name(name)
        request.models.append(_add(request, name, specification.strip(), geometry, selections, extrapolate))
    return request


def _add(
    request: Request,
    name: str,
    text: str,
    geometry: Geometry,
    selections: Mapping[str, Mapping[str, Any]],
    extrapolate: bool,
) -> str:
    """Add what a specification asks for; return the name of its point or ensemble."""
    if geometry.endpoints == 1 and not name and text in ("midpoint", "endpoint:0", "endpoints"):
        name = next((known for known in request.points if known not in request.selected), "")
        text = "endpoint:0" if text == "endpoints" else text
    kind, _, argument = text.partition(":")
    if kind == "random":
        return _add_random(request, name, text, geometry)
    if kind == "best":
        key = _stored_name(argument or "best", selections)
        return _add_selection(request, name or _NOT_IN_NAMES.sub("-", key), key, geometry, selections[key])
    if text == "endpoints":
        name = name or text
        members = tuple(f"endpoint-{i}" for i in range(len(geometry.ends)))
        for member, alpha in zip(members, geometry.ends, strict=True):
            request.add_point(member, alpha)
        request.add_ensemble(name, Ensemble(members, aggregate=request.aggregate))
        return name
    if text == "midpoint":
        name, alpha = name or text, geometry.midpoint
    elif kind == "endpoint":
        if not argument.isdecimal() or int(argument) >= len(geometry.ends):
            bend = " (a curve's bend lies off the curve)" if geometry.name == "curve" else ""
            raise GeometryError(f"{text!r}: this {geometry.name} has the ends 0 to {len(geometry.ends) - 1}{bend}")
        name, alpha = name or f"endpoint-{argument}", geometry.ends[int(argument)]
    else:
        alpha = geometry.check(_numbers(text), extrapolate=extrapolate)
        name = name or f"alpha-{text.translate(_IN_NAMES)}"
    request.add_point(name, alpha)
    return name


def _stored_name(wanted: str, selections: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the name of the selection that is meant."""
    if wanted in selections:
        return wanted
    plain = re.escape(wanted.replace(":", "-"))
    for pattern in (plain, plain + "-[0-9]+"):
        found = [name for name in selections if re.fullmatch(pattern, name.replace(":", "-"))]
        if len(found) == 1:
            return found[0]
        if found:
            raise GeometryError(
                f"{wanted!r} may be one of several selections: {', '.join(sorted(found))}; give one, as in "
                f"best:{sorted(found)[0]}"
            )
    known = ", ".join(sorted(selections)) or "none yet"
    raise GeometryError(
        f"no selection named {wanted!r} for this run (stored: {known}); "
        f"make it with `subspace-serve select --name {wanted}`"
    )


def _add_selection(request: Request, name: str, key: str, geometry: Geometry, selection: Mapping[str, Any]) -> str:
    if "members" not in selection:
        request.add_point(name, _stored_alpha(selection["alpha"], geometry), selected=key)
        return name
    members = _member_names(name, len(selection["members"]))
    for member, alpha in zip(members, selection["members"], strict=True):
        request.add_point(member, _stored_alpha(alpha, geometry), selected=key)
    weights, aggregate = selection.get("weights"), selection.get("aggregate") or request.aggregate
    ensemble = Ensemble(members, None if weights is None else tuple(map(float, weights)), aggregate)
    request.add_ensemble(name, ensemble, selected=key)
    return name


def _member_names(ensemble: str, count: int) -> tuple[str, ...]:
    return tuple(f"{ensemble}-{index}" for index in range(count))


def _add_random(request: Request, name: str, text: str, geometry: Geometry) -> str:
    """Add an ensemble of places drawn uniformly from the domain, as training draws them (section 4.5)."""
    import numpy as np

    found = _RANDOM.fullmatch(text)
    if found is None:
        raise GeometryError(f"{text!r} is no random ensemble; give random:N or random:N:SEED, such as random:6")
    count, seed = int(found[1]), int(found[2] or 0)
    fewest, most = RANDOM_MEMBERS
    if not fewest <= count <= most:
        raise GeometryError(f"{text!r} asks for {count} members; a random ensemble has {fewest} to {most}")
    if geometry.endpoints == 1:
        raise GeometryError(f"{text!r}: a single network has one place only, so nothing can be drawn; give midpoint")
    # Not random-6-1, which is a member of random-6.
    name = name or f"random-{count}" + (f"-seed-{seed}" if seed else "")
    members = _member_names(name, count)
    for member, alpha in zip(members, geometry.sample(np.random.default_rng(seed), count).tolist(), strict=True):
        request.add_point(member, geometry.check(alpha))
    request.add_ensemble(name, Ensemble(members, aggregate=request.aggregate))
    return name


def _stored_alpha(alpha: Any, geometry: Geometry) -> Alpha:
    return geometry.check(place_from_json(alpha), extrapolate=True)


def _numbers(text: str) -> Alpha:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise GeometryError(f"{text!r} is no place in a subspace; give {SYNTAX}") from None
    return values if "," in text else values[0]
