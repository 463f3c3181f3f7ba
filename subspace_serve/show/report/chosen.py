"""The report's section on what was chosen for which domain."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from subspace_serve.show import plot
from subspace_serve.show.plot.selections import candidate_name, gain_in_units, gain_unit, shown_gain
from subspace_serve.show.report.content import (
    DOTS_PER_INCH,
    Document,
    Documents,
    Figure,
    Section,
    Table,
    in_one_line,
    percent,
)

_WHICH, _CALIBRATED_ON = ("midpoint", "chosen"), ("default", "domain")
_METRICS = {"nll": "NLL", "ece": "ECE", "brier": "Brier score"}


def selections(documents: Documents) -> Section:
    """Return the section on what was chosen for which domain, with gains and intervals."""
    title = "Which place suits which domain?"
    introduction = (
        "A place is chosen on one half of labelled images from where the model will run and reported on the other "
        "half, which took no part in the choice."
    )
    found = documents.selections
    if not found:
        missing = "None is stored. Choose one with `subspace-serve select --val-data SPEC --name NAME`."
        return Section("selections", title, introduction, missing=missing)
    rows = [
        [
            name,
            f"{candidate_name(selection)}{' (midpoint kept)' if selection.get('kept_midpoint') else ''}",
            str(_METRICS.get(selection["metric"], selection["metric"])),
            *_gain_cells(selection),
            percent(selection["reported"]["accuracy"]),
            percent(selection["midpoint"]["accuracy"]),
            f"{selection.get('chosen_on', '?')} + {selection.get('reported_on', '?')}",
        ]
        for name, selection in found.items()
    ]
    described = "; ".join(f"{row[0]}: {row[1]}, gain in {row[2]} {row[3]}, interval {row[4]}" for row in rows)
    reasons = [
        [name, _domain(entry), _calibration(entry), str(entry.get("reason", ""))] for name, entry in found.items()
    ]
    return Section(
        "selections",
        title,
        introduction,
        [
            "Above: the gain over the midpoint, positive for better, with its interval. "
            f"{_intervals(found)} An interval that crosses 0 is no evidence of a gain. Where nothing beat the midpoint "
            "beyond chance it was kept, and the hollow mark is the gain that the best other candidate would have had.",
            "Below: every candidate on the half that was chosen on, with one standard error; the choice is ringed, the "
            "dotted line is the midpoint. Candidates that fell behind early were measured on fewer images.",
        ],
        [
            Figure(
                "selections.png",
                f"Gains over the midpoint. {described}.",
                partial(plot.plot_selections, found, dots_per_inch=DOTS_PER_INCH),
            )
        ],
        [
            Table(
                f"Selections and their gains on the reporting half; {_units(found)}. In brackets: the best candidate "
                "that was not taken. Images: those chosen on + those reported on.",
                [
                    "name", "place or members", "chosen by", "gain", "95 % interval", "p", "accuracy %",
                    "midpoint's %", "images",
                ],
                rows,
            ),
            Table("Why.", ["name", "domain", "BatchNorm from", "reason"], reasons),
            *_recalibration(found),
        ],
    )  # fmt: skip


def _intervals(selections: Mapping[str, Document]) -> str:
    """Say what the intervals promise; for a calibration error, which is not a mean over images, it is less."""
    metrics = {selection["metric"] for selection in selections.values()}
    sentences = []
    if metrics != {"ece"}:
        sentences.append("It holds the true one in 95 of 100 cases.")
    if "ece" in metrics:
        sentences.append(
            "By ECE it is the range of 95 % of the gains on resampled images: how much chance moves the gain, with no "
            "promise of how often it holds the true one."
        )
    return " ".join(sentences)


def _units(selections: Mapping[str, Document]) -> str:
    """Say what the units of gains are; older selections by ECE have gains in the plain ECE."""
    text = "gains in accuracy are percentage points"
    for unit in dict.fromkeys(gain_unit(entry) for entry in selections.values() if entry["metric"] == "ece"):
        text += f", those by ECE are {unit}" if unit == "percentage points" else f", those by ECE are of the {unit}"
    return text


def _gain_cells(selection: Document) -> list[str]:
    """Return gain, interval and p-value; where the midpoint was kept, the best candidate's in brackets."""
    gain = shown_gain(selection)
    if not gain:
        return ["", "", ""]
    digits = 2 if gain_unit(selection) == "percentage points" else 4
    numbers = (gain_in_units(selection, number) for number in (gain["value"], *gain["interval"]))
    value, low, high = (f"{number:+.{digits}f}".replace("-", "−") for number in numbers)
    cells = [value, f"{low} to {high}", f"{gain['p_value']:.3g}" if gain.get("p_value") is not None else ""]
    return [f"({cell})" if cell else "" for cell in cells] if selection.get("kept_midpoint") else cells


def _recalibration(selections: Mapping[str, Document]) -> list[Table]:
    """Return a table of what BatchNorm statistics from the domain's own images changed, where that was tried."""
    rows = [
        [name, *(percent(entry["recalibration"][on][which]["accuracy"]) for which in _WHICH for on in _CALIBRATED_ON)]
        for name, entry in selections.items()
        if entry.get("recalibration")
    ]
    header = ["name", "midpoint, usual", "midpoint, domain", "choice, usual", "choice, domain"]
    caption = (
        "Accuracy in percent with BatchNorm from the usual images and from unlabelled images of the domain: which of "
        "the two helped, recalibrating there or choosing."
    )
    return [Table(caption, header, rows)] if rows else []


def _domain(selection: Document) -> str:
    """Return on which data a choice was made; of a mixture each domain's name, weight and data."""
    parts = (selection.get("domains") or {}).items()
    mixed = [f"{name} (weight {part['weight']:.3g}): {in_one_line(part['domain'])}" for name, part in parts]
    return "; ".join(mixed) if mixed else in_one_line(selection.get("domain", ""))


def _calibration(selection: Document) -> str:
    calibration = selection.get("calibration") or {}
    return f"{calibration.get('count', '?')} images of {calibration.get('data', '?')}"
