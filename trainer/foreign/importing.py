"""From foreign weights to a run: members are fitted, compared, proven, measured, and written as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.data import DataSet, Images, Preprocessing
from subspace_serve.errors import CheckpointError
from subspace_serve.files import atomic_folder, check_replaceable, sha256_of
from subspace_serve.measure.barrier import Barrier, measure_barrier
from subspace_serve.measure.evaluation import evaluate
from subspace_serve.network.calibration_data import draw_calibration_data
from subspace_serve.network.network import Network
from subspace_serve.network.skeleton import FILE_NAME as SKELETON_FILE
from subspace_serve.network.statistics_set import KnownStatistics, StatisticsSet
from subspace_serve.packages import versions
from subspace_serve.run.statistics import SOURCES, SOURCES_FILE
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.checkpoint import FILE_NAME, save_subspace
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace, Weights
from subspace_serve.space.use import USUAL
from trainer.foreign.fitting import Fitted, Fitter
from trainer.foreign.reading import read_state_dicts
from trainer.golden import golden_images, leave_golden_answers
from trainer.proof import proven_skeleton
from trainer.run_folder import RunFolder, point_latest_at
from trainer.state import build_seeded, constants_of, kept_state

MEASURED = 2048
"""Images, at most, on which imported weights are measured."""
NOISE = 4
"""Images of noise on which torch's answers are left where there is no data set."""


@dataclass(frozen=True)
class Description:
    """What foreign weights do not say of themselves.

    Attributes:
        architecture: of the networks.
        labels: the classes' names.
        preprocessing: the normalisation that they were trained with.
        data: the data set to recalibrate and to test with; None where only labels are known.
        drawn: how it was divided, as `load_data` takes it, for the record.
        note: what somebody should know of where the normalisation is from.
    """

    architecture: Architecture
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    data: DataSet | None = None
    drawn: dict[str, Any] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Imported:
    """What an import found.

    Attributes:
        subspace: as it was written.
        members: the sources.
        others: by file, places that hold further state dicts and were not taken.
        barrier: between the sources; None where it was not measured.
        statistics: metrics of each end with its own BatchNorm statistics (`own`) and with new ones (`recomputed`);
            None where they were not compared.
    """

    subspace: Subspace
    members: Sequence[Fitted]
    others: dict[str, tuple[str, ...]]
    barrier: Barrier | None
    statistics: dict[str, list[dict[str, float]]] | None


def import_weights(
    files: Sequence[Path],
    description: Description,
    out: Path,
    *,
    geometry: str | None = None,
    key: str | None = None,
    cast: bool = False,
    measured: bool = True,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Imported:
    """Make a run of two or more networks that were trained elsewhere, or of a subspace of the paper's published code.

    Args:
        files: of weights; the endpoints in their order (a curve's two ends, then its bend).
        description: what the files do not say.
        out: the run's folder, written as a whole when everything is well.
        geometry: `line`, `curve` or `simplex`; None for a line of two networks and a simplex of more.
        key: where the files have the state dict.
        cast: bring other floating-point types to float32.
        measured: measure the barrier, and the sources' own statistics against new ones, on validation images.
        overwrite: replace a run that is in the folder.
        progress: called with a line for each part.

    Raises:
        CheckpointError: a file is damaged, would run code, or is not of the architecture; two hold the same weights;
            or the folder is taken.
        ArchitectureError, ExportError: the network cannot be built, or could not be deployed.
        GeometryError: there are too few or too many networks for the geometry.
        DataError: the data does not fit.
        TrainingError: another process trains in the folder.
    """
    with RunFolder(out).held():
        _check_free(out, overwrite=overwrite)
        sources = [{"file": str(file), "sha256": sha256_of(file)} for file in files if file.is_file()]
        fitter = Fitter(description.architecture, cast=cast)
        members: list[Fitted] = []
        others: dict[str, tuple[str, ...]] = {}
        for file in files:  # one at a time: a file that was fitted takes no memory any more
            for entry in read_state_dicts(file, key):
                members += fitter.fit(entry)
                others |= {str(file): entry.others} if entry.others else {}
        shape = _geometry(members, geometry, single_file=len(files) == 1)
        _check_different(members)
        kept = _kept(description.architecture, members)
        skeleton = proven_skeleton(description.architecture, kept)
        progress(f"{len(members)} networks of {description.architecture.name}, and their graph")
        endpoints = tuple(member.weights for member in members)
        subspace = Subspace(shape, description.architecture, endpoints, {}, kept)
        network = Network.of(subspace, skeleton, description.preprocessing)
        own = _own_statistics(network, members)
        barrier, compared = None, None
        if measured and description.data is not None:
            barrier, compared = _measured(network, description, own, progress)
        record = {
            "sources": sources,
            "members": [{"name": member.name, "notes": list(member.notes)} for member in members],
            "barrier": None if barrier is None else barrier.to_json(),
            "statistics": compared,
        }
        subspace = Subspace(shape, subspace.architecture, endpoints, _provenance(description, record, barrier), kept)
        with atomic_folder(out) as folder:
            (folder / SKELETON_FILE).write_bytes(skeleton.data)
            leave_golden_answers(folder, subspace, network, description.preprocessing, **_examples(description, own))
            del network  # writing copies the endpoints once more
            file = save_subspace(subspace, folder)
            if own is not None:
                own.save(folder / SOURCES_FILE, sha256_of(file))
    point_latest_at(out)
    return Imported(subspace, members, others, barrier, compared)


def _check_free(out: Path, *, overwrite: bool) -> None:
    if (out / FILE_NAME).exists() and not overwrite:
        raise CheckpointError(f"{out} already holds a run; replace it (--overwrite) or choose another folder (--out)")

    def foreign(names: list[str]) -> list[str]:
        return [] if FILE_NAME in names else names

    message = "{target} exists and is not a run: it holds {found}; choose another folder (--out)"
    check_replaceable(out, foreign, message, CheckpointError)


def _geometry(members: Sequence[Fitted], name: str | None, *, single_file: bool) -> Geometry:
    """Return the shape that the networks span."""
    count = len(members)
    if count < 2:
        raise CheckpointError(
            f"{members[0].name} holds one network, and one alone spans nothing; give two or more files"
        )
    if name is None and count == 3 and single_file:
        raise CheckpointError(
            f"{members[0].name.partition(',')[0]} holds three endpoints, of a curve or of a simplex; say which with "
            "--subspace"
        )
    return Geometry(name or ("line" if count == 2 else "simplex"), count)


def _check_different(members: Sequence[Fitted]) -> None:
    for first, second in combinations(members, 2):
        if all(np.array_equal(values, second.weights[name]) for name, values in first.weights.items()):
            raise CheckpointError(
                f"{first.name} and {second.name} hold the same weights, so nothing lies between them; give different "
                "networks"
            )


def _kept(architecture: Architecture, members: Sequence[Fitted]) -> Weights:
    """Return the state that is neither trained nor BatchNorm's, where building the network anew does not give it."""
    built = constants_of(build_seeded(architecture, 0))
    # What a file lacks every building gives, and its network has it from there.
    states = [{name: member.constants.get(name, values) for name, values in built.items()} for member in members]
    first, state = members[0], states[0]
    for other, other_state in zip(members[1:], states[1:], strict=True):
        for name, values in state.items():
            if not np.array_equal(values, other_state[name]):
                lacking = [each.name for each in (first, other) if name not in each.constants]
                remark = f" ({lacking[0]} lacks it, so that it is a new network's)" if lacking else ""
                raise CheckpointError(
                    f"{first.name} and {other.name} differ in {name}{remark}, which is no parameter that is trained: "
                    "networks between them would have neither; give networks that share it"
                )
    drawn = kept_state(architecture, 0)
    return {name: values for name, values in state.items() if name in drawn or not np.array_equal(values, built[name])}


def _own_statistics(network: Network, members: Sequence[Fitted]) -> StatisticsSet | None:
    """Return the sources' BatchNorm statistics; None where there are none, or an endpoint is no network (a bend)."""
    if network.geometry.name == "curve" or not all(member.statistics for member in members):
        return None
    return StatisticsSet.of_ends(network.geometry, network.skeleton, [member.statistics for member in members])


def _measured(
    network: Network, description: Description, own: StatisticsSet | None, progress: Callable[[str], None]
) -> tuple[Barrier, dict[str, list[dict[str, float]]] | None]:
    """Return the barrier, and the metrics of the ends with their own statistics and with new ones."""
    data = description.data
    assert data is not None
    # What is recommended follows from it, and nothing is chosen on test images.
    part = "validation" if len(data.validation) else "train"
    images = _some(getattr(data, part))
    calibration = draw_calibration_data(data.train, description.preprocessing, name=f"{data.spec}:train")
    barrier = measure_barrier(network, images, calibration, data=f"{data.spec}:{part}", progress=progress)
    if own is None:
        return barrier, None
    known = KnownStatistics(own, {"data": SOURCES})
    ends = network.geometry.ends
    found = evaluate(network, images, calibration=known, alphas=ends, ensembles=False, progress=progress)
    recomputed = dict(barrier.points)
    return barrier, {
        "own": [dict(point.metrics) for point in found.points],
        "recomputed": [dict(recomputed[end]) for end in ends],
    }


def _some(images: Images) -> Images:
    """Return at most `MEASURED` images, spread evenly over the set."""
    if len(images) <= MEASURED:
        return images
    return images.subset(np.linspace(0, len(images) - 1, MEASURED).astype(np.int64))


def _examples(description: Description, own: StatisticsSet | None) -> dict[str, Any]:
    """Return what torch's answers are left on; noise where there is no data set."""
    if description.data is not None:
        return golden_images(description.data)
    size = (description.architecture.height, description.architecture.width, description.architecture.channels)
    noise = np.random.default_rng(0).integers(0, 256, (NOISE, *size), np.uint8)
    return {"calibration": noise if own is None else own, "images": noise}


def _provenance(description: Description, record: dict[str, Any], barrier: Barrier | None) -> dict[str, Any]:
    """Return what the checkpoint says of how it came to be."""
    data = description.data
    document: dict[str, Any] = {
        "import": record,
        "preprocessing": description.preprocessing.to_json(),
        "labels": list(description.labels),
        # Between networks that cannot be mixed lies nothing worth deploying.
        "use": list(USUAL if barrier is None or barrier.connected else ("endpoints",)),
        "versions": versions(),
    }
    if data is not None:
        document["data"] = {"spec": data.spec, "name": data.name, "fingerprint": data.fingerprint}
        document["training"] = {"data": data.spec, **(description.drawn or {})}
    return document
