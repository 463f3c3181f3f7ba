"""The report's sections on the subspace in weight space: the plane around it, and its endpoints' distances."""

from __future__ import annotations

from functools import partial

from subspace_serve.show import plot
from subspace_serve.show.report.content import DOTS_PER_INCH, Documents, Figure, Section, Table, percent


def plane(documents: Documents) -> Section:
    """Return the section on the error on the plane through three networks (figure 2)."""
    title = "What does the landscape around it look like?"
    introduction = (
        "All weights of a network are one point in a space of as many dimensions as it has weights. Three networks "
        "span a plane in it; on a grid over that plane every network was recalibrated and its error measured."
    )
    document = documents.plane
    if document is None:
        missing = (
            "Not drawn. A curve and a simplex of three or more have a plane of their own; a line needs a third "
            "network, a standard one of the same architecture: run `subspace-serve report --baseline RUN`."
        )
        return Section("plane", title, introduction, missing=missing)
    rows = [
        [vector["name"], f"{vector['x']:.2f}, {vector['y']:.2f}", percent(vector["error"])]
        for vector in document["vectors"]
    ]
    described = "; ".join(f"{row[0]}: {row[2]} percent" for row in rows)
    grid = Table(
        "Error in percent at every place of the grid; columns are x, rows y.",
        ["y \\ x", *(f"{x:.1f}" for x in document["x"])],
        [
            [f"{y:.1f}", *map(percent, errors)]
            for y, errors in reversed(list(zip(document["y"], document["error"], strict=True)))
        ],
        folded=True,
    )
    return Section(
        "plane",
        title,
        introduction,
        [
            "Light is a small error, dark a large one; each step is the same factor. Crosses are where a network was "
            "measured; the colours between them are interpolated, so narrow ridges between two crosses do not show.",
            "The white line is the subspace. It should lie in one light valley. A dark wall between it and a standard "
            "network is to be expected: separately trained networks cannot be mixed.",
            "A curve does not pass through its control point, which may lie at a large error.",
        ],
        [
            Figure(
                "plane.png",
                f"Error on the plane through three networks, on {document['count']} images. {described}.",
                partial(plot.plot_plane, document, dots_per_inch=DOTS_PER_INCH),
            )
        ],
        [
            Table(
                f"The three networks that span the plane, on {document['count']:,} images; BatchNorm from "
                f"{document['calibration']['count']:,} images of {document['calibration']['data']}.",
                ["network", "place in the plane", "error %"],
                rows,
            ),
            grid,
        ],
    )


def distances(documents: Documents) -> Section:
    """Return the section on the distances of the endpoints through training (figure 3)."""
    title = "Did the endpoints stay apart?"
    introduction = (
        "The endpoints must not become one network, or there is no subspace. Training pushes their directions apart: "
        "cos² is 0 for directions at a right angle and 1 for equal ones."
    )
    final = Table(
        "After training, over the weights of convolutions and linear layers.",
        ["endpoints", "L2 distance", "cos²"],
        [
            [" and ".join(map(str, entry["pair"])), f"{entry['l2']:.3f}", f"{entry['cosine_squared']:.5f}"]
            for entry in documents.evaluation.endpoint_distances
        ],
    )
    tables = [final] if final.rows else []
    records = [record for record in documents.training if record.get("endpoint_l2") is not None]
    if not records:
        missing = (
            "The run keeps no records of its training (metrics.jsonl), so only the end is known."
            if tables
            else "This is a single network: it has no endpoints to compare."
        )
        return Section("distances", title, introduction, tables=tables, missing=missing)
    rows = [
        [
            str(record["epoch"]),
            f"{record['endpoint_l2']:.3f}",
            f"{record['endpoint_cosine_squared']:.5f}",
            percent(record["accuracy"]),
        ]
        for record in records
    ]
    first, last = rows[0], rows[-1]
    return Section(
        "distances",
        title,
        introduction,
        [
            "A distance that stays up and a cos² near 0 say that the ends are different networks. With more than two "
            "endpoints the values are means over pairs. Training accuracy is that of networks drawn at random from the "
            "subspace."
        ],
        [
            Figure(
                "distances.png",
                f"Through training. L2 distance from {first[1]} to {last[1]}, squared cosine from {first[2]} to "
                f"{last[2]}, training accuracy from {first[3]} to {last[3]} percent.",
                partial(plot.plot_distances, records, dots_per_inch=DOTS_PER_INCH),
            )
        ],
        [
            *tables,
            Table("After each epoch.", ["epoch", "L2 distance", "cos²", "training accuracy %"], rows, folded=True),
        ],
    )
