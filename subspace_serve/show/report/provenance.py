"""The report's section on where the numbers came from."""

from __future__ import annotations

from subspace_serve.measure.point_results import Document
from subspace_serve.show.report.content import Documents, Section, Table, in_one_line

_SETTINGS = (
    "epochs", "finished_epochs", "batch_size", "learning_rate", "weight_decay", "beta", "layerwise", "samples",
    "label_noise", "initialisation", "seed", "data_seed",
)  # fmt: skip


def provenance(documents: Documents) -> Section:
    """Return the section on where the numbers came from."""
    run, evaluation = documents.run, documents.evaluation
    recorded = run.get("provenance") or {}
    training, data = recorded.get("training") or {}, recorded.get("data") or {}
    calibration = evaluation.calibration
    rows: list[tuple[str, object]] = [
        ("run", run.get("name")),
        ("checkpoint", run.get("checkpoint")),
        ("checkpoint's SHA-256", run.get("sha256")),
        ("geometry", f"{run['geometry']['name']}, {run['geometry']['endpoints']} endpoint(s)"),
        ("architecture", in_one_line(run.get("architecture"))),
        ("weights an endpoint", f"{run['parameters']:,}" if "parameters" in run else None),
        ("imported from", ", ".join(member["name"] for member in (recorded.get("import") or {}).get("members", ()))),
        ("data" if "import" in recorded else "trained on", data.get("spec") or training.get("data")),
        ("data's fingerprint (SHA-256)", data.get("fingerprint")),
        ("training", ", ".join(f"{key} {training[key]}" for key in _SETTINGS if training.get(key) is not None)),
        ("measured on", f"{evaluation.count:,} images of {evaluation.data or 'not recorded'}"),
        ("ensembles average", evaluation.aggregate),
        ("BatchNorm from", calibration and _calibrated_with(calibration)),
        ("versions at training", _versions(recorded.get("versions"))),
        ("versions of this report", _versions(run.get("versions"))),
    ]
    table = Table("Provenance.", ["what", "value"], [[name, str(value)] for name, value in rows if value])
    return Section(
        "provenance", "Where do these numbers come from?", "Enough to measure all of it again.", tables=[table]
    )


def _calibrated_with(calibration: Document) -> str:
    if calibration["count"] is None:
        return "the sources' own statistics"
    return (
        f"{calibration['count']:,} images of {calibration['data']}, batches of {calibration.get('batch_size', '?')}, "
        f"seed {calibration.get('seed', '?')}"
    )


def _versions(versions: Document | None) -> str:
    return ", ".join(f"{name} {version}" for name, version in (versions or {}).items())
