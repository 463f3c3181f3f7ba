"""The bundle's format: what is written, and every way in which a reader refuses it."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundle_factory import LABELS, POINTS, expected_logits, linear_graph, make_bundle, point_weights, random_images
from folder_contents import contents

from subspace_serve.bundle import Bundle, Ensemble, Onnx, Parity, Reliability, TemperatureFit, locking, write_bundle
from subspace_serve.bundle.locking import locked
from subspace_serve.bundle.verify import verify_bundle
from subspace_serve.bundle.writer import extend_bundle
from subspace_serve.errors import BundleError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def edit_manifest(folder: Path, change) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def rewrite(folder: Path) -> None:
    """Give every file the hash that it has now, as somebody would who knows the format."""

    def change(document):
        for record in [*document["points"].values(), document["golden"]]:
            record["sha256"] = hashlib.sha256((folder / record["file"]).read_bytes()).hexdigest()

    edit_manifest(folder, change)


def start_writing(target: Path):
    manifest = Bundle.open(make_bundle(target.parent / "model")).manifest
    return write_bundle(
        target, source=manifest.source, input=manifest.input, labels=LABELS, onnx=Onnx(opset=20, exporter="test")
    )


PARITY = Parity(provider="CPUExecutionProvider", max_abs_diff=0, top1_flips=0, tolerance=1e-4)
SETS = {"method": "lac", "data": "x", "count": 3, "seed": 0, "scores": [0.1, 0.2, 0.3]}
ABSTENTION = {
    "data": "x", "count": 10, "delta": 0.05, "levels": [{"threshold": -1.0, "answered": 10, "wrong": 1}],
}  # fmt: skip
FIT = TemperatureFit(
    data="digits:validation",
    count=60,
    seed=3,
    reported_on=61,
    before=Reliability(nll=0.8, ece=0.11),
    after=Reliability(nll=0.6, ece=0.02),
)


def test_what_is_written_is_read(folder):
    bundle = Bundle.open(folder)
    assert bundle.labels == LABELS
    assert bundle.default == "midpoint"
    assert list(bundle.points) == ["midpoint", "endpoint-0", "endpoint-1"]
    assert bundle.points["endpoint-1"].coefficients == (0.0, 1.0)
    assert bundle.ensembles["leaning"] == Ensemble(
        members=("endpoint-0", "endpoint-1"), weights=(3.0, 1.0), aggregate="logits"
    )
    assert bundle.ensembles["endpoints"].weights == (0.5, 0.5)
    assert bundle.manifest.input.shape == (4, 5, 3)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["manifest.json", "golden.npz", "midpoint.onnx", "endpoint-0.onnx", "endpoint-1.onnx"]
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "midpoint.onnx").unlink(), "lacks midpoint.onnx"),
        (lambda folder: (folder / "golden.npz").unlink(), "lacks golden.npz"),
        (lambda folder: (folder / "notes.txt").write_text("x"), "holds notes.txt"),
        (lambda folder: (folder / "more").mkdir(), "holds more"),
        (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"{"), "is not JSON"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"[" * 100_000), "is not JSON"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"[]"), "not a bundle's manifest"),
    ],
)
def test_folder_that_is_not_as_written_is_refused(folder, damage, message):
    damage(folder)
    with pytest.raises(BundleError, match=re.escape(message)):
        Bundle.open(folder)


def test_one_flipped_bit_is_found_unless_hashes_are_not_asked_for(folder):
    data = bytearray((folder / "endpoint-0.onnx").read_bytes())
    data[100] ^= 1
    (folder / "endpoint-0.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"endpoint-0\.onnx was changed"):
        Bundle.open(folder)
    assert Bundle.open(folder, check_hashes=False).labels == LABELS


def update_point(**fields):
    return lambda document: document["points"]["midpoint"].update(fields)


def update_ensemble(**fields):
    return lambda document: document["ensembles"]["endpoints"].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.update(version=3), "has version 3 and this program reads versions 1 and 2"),
        (lambda document: document.update(version=True), "has version True"),
        (lambda document: document.update(format="zip"), "format is not"),
        (lambda document: document.update(colour="red"), "colour: Extra inputs"),
        (update_point(colour="red"), "points.midpoint.colour: Extra inputs"),
        (lambda document: document.pop("labels"), "labels: Field required"),
        (update_point(file="../midpoint.onnx"), "points.midpoint.file"),
        (update_point(file="/etc/passwd"), "points.midpoint.file"),
        (update_point(file="manifest.json"), "each file may be named once"),
        (update_point(file="endpoint-0.onnx"), "each file may be named once"),
        (update_point(sha256="00"), "points.midpoint.sha256"),
        (update_point(temperature=0), "points.midpoint.temperature"),
        (update_point(temperature="1"), "points.midpoint.temperature"),
        (update_point(temperature_fit={"data": "x"}), "points.midpoint.temperature_fit.count"),
        (
            update_point(temperature_fit=FIT.model_dump() | {"after": {"nll": -1, "ece": 0}}),
            "points.midpoint.temperature_fit.after.nll",
        ),
        (update_point(sets=SETS | {"scores": [0.2, 0.1, 0.3]}), "scores must be sorted"),
        (update_point(sets=SETS | {"count": 4}), "of 4 images 4 scores are kept; got 3"),
        (update_point(sets=SETS | {"method": "best"}), "points.midpoint.sets.method"),
        (update_point(sets=SETS | {"method": "raps"}), "raps, and no other method, has k_reg and penalty"),
        (update_point(sets=SETS | {"k_reg": 1, "penalty": 0.1}), "raps, and no other method, has k_reg and penalty"),
        (update_ensemble(sets=SETS | {"scores": []}), "ensembles.endpoints.sets.scores"),
        (update_point(abstention=ABSTENTION | {"count": 9}), "the last level must answer all 9 images; got 10"),
        (
            update_ensemble(abstention=ABSTENTION | {"levels": [{"threshold": -1.0, "answered": 10, "wrong": 11}]}),
            "a level answers no more wrongly than it answers",
        ),
        (update_point(abstention=ABSTENTION | {"levels": []}), "points.midpoint.abstention.levels"),
        (update_point(abstention=ABSTENTION | {"score": "mood"}), "points.midpoint.abstention.score"),
        (update_point(abstention=ABSTENTION | {"delta": 1.0}), "points.midpoint.abstention.delta"),
        (update_point(metrics={"accuracy": float("nan")}), "points.midpoint.metrics.accuracy"),
        (lambda document: document["points"].update({"../x": document["points"]["midpoint"]}), "points"),
        (lambda document: document["ensembles"].update(midpoint=document["ensembles"]["endpoints"]), "both a point"),
        (update_ensemble(members=["endpoint-0", "nobody"]), "has the member nobody"),
        (update_ensemble(members=["endpoint-0", "endpoint-0"]), "members must differ"),
        (update_ensemble(weights=[1.0]), "1 weights for 2 members"),
        (update_ensemble(weights=[1.0, -1.0]), "ensembles.endpoints.weights.1"),
        (update_ensemble(weights=[0, 0]), "at least one weight"),
        (lambda document: document.update(default="nobody"), "the default nobody"),
        (lambda document: document["input"].update(layout="NCHW"), "uint8 NCHW is not served"),
        (lambda document: document["input"]["preprocessing"].update(mean=[0.5]), "must have 3 means"),
    ],
)
def test_manifest_that_is_not_valid_is_refused_by_field(folder, change, message):
    edit_manifest(folder, change)
    with pytest.raises(BundleError, match=re.escape(message)):
        Bundle.open(folder)


def test_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="there is no bundle at"):
        Bundle.open(tmp_path / "nothing")


def test_writer_replaces_a_bundle_and_leaves_nothing_beside_it(folder):
    before = (folder / "manifest.json").read_bytes()
    make_bundle(folder, dtype="float32")
    assert (folder / "manifest.json").read_bytes() != before
    assert Bundle.open(folder).manifest.input.dtype == "float32"
    assert list(folder.parent.iterdir()) == [folder]


def fill_the_disk(bundle) -> None:
    bundle.file("midpoint").write_bytes(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_writer_that_fails_leaves_the_old_bundle(folder):
    before = contents(folder)
    with pytest.raises(OSError, match="No space left"), start_writing(folder) as bundle:
        fill_the_disk(bundle)
    assert contents(folder) == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["bundle", "model"]


@pytest.mark.parametrize(
    ("content", "message"), [("file", "found a file at .* is no folder"), ("folder", "exists and is not a bundle")]
)
def test_writer_replaces_nothing_but_a_bundle(tmp_path, content, message):
    target = tmp_path / "precious"
    if content == "file":
        target.write_text("data")
    else:
        target.mkdir()
        (target / "thesis.txt").write_text("data")
    with pytest.raises(BundleError, match=message), start_writing(target):
        pass
    assert target.exists()


def test_a_bundle_that_is_written_while_another_is_extended_waits_and_stays(folder):
    export = threading.Thread(target=make_bundle, args=[folder], kwargs={"dtype": "float32"})
    with extend_bundle(Bundle.open(folder), folder):
        export.start()
        export.join(0.5)
        assert export.is_alive()
        assert Bundle.open(folder).manifest.input.dtype == "uint8"
    export.join()
    assert Bundle.open(folder).manifest.input.dtype == "float32"
    assert list(folder.parent.iterdir()) == [folder]


def test_what_came_to_the_place_of_a_bundle_meanwhile_is_kept(tmp_path, monkeypatch):
    target = tmp_path / "bundle"

    def locked_late(folder):
        folder.mkdir()
        (folder / "thesis.tex").write_text("years of work")
        return locked(folder)

    monkeypatch.setattr("subspace_serve.bundle.writer.locked", locked_late)
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        make_bundle(target)
    assert (target / "thesis.tex").read_text() == "years of work"


def test_a_bundle_that_another_holds_is_waited_for_a_while(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "_PATIENCE_SECONDS", 0.2)
    source = make_bundle(tmp_path / "source")
    before = (folder / "manifest.json").read_bytes()
    held = pytest.raises(BundleError, match=f"another process trains or changes {folder}; try again when it is done")
    with locked(folder):
        with held:
            make_bundle(folder, dtype="float32")
        for base, target in ((folder, folder), (source, folder), (folder, source)):
            with held, extend_bundle(Bundle.open(base), target):
                pass
    assert (folder / "manifest.json").read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [folder, source]


def test_folders_are_locked_once_and_in_one_order(folder, tmp_path):
    other = make_bundle(tmp_path / "other")
    (tmp_path / "link").symlink_to(folder)
    with locked(folder, tmp_path / "link", tmp_path / "absent"):
        pass

    def hold(*folders: Path) -> None:
        for _ in range(100):
            with locked(*folders):
                pass

    threads = [threading.Thread(target=hold, args=pair) for pair in ((folder, other), (other, folder))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def fill(bundle) -> None:
    onnx.save(linear_graph(point_weights("midpoint")), bundle.file("midpoint"))
    bundle.add_point("midpoint", alpha=np.float32(0.5), coefficients=[0.5, 0.5], calibration=None, parity=PARITY)
    images = random_images(2)
    bundle.set_golden(images, {"midpoint": expected_logits("midpoint", images)})


def without_graph(bundle):
    fill(bundle)
    bundle.add_point("other", alpha=None, coefficients=[1], calibration=None, parity=PARITY)


def with_external_data(bundle):
    fill(bundle)
    (bundle.folder / "midpoint.onnx.data").write_bytes(b"weights")


def with_one_name_twice(bundle):
    fill(bundle)
    bundle.add_ensemble("midpoint", members=["midpoint"])


def with_a_bad_name(bundle):
    fill(bundle)
    bundle.add_ensemble("my ensemble", members=["midpoint"])


def without_golden(bundle):
    fill(bundle)
    bundle._golden = None


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda bundle: None, "needs at least one point"),
        (without_golden, "needs golden images"),
        (without_graph, "point other has no ONNX file"),
        (with_external_data, "holds midpoint.onnx.data"),
        (with_one_name_twice, "midpoint is used twice"),
        (with_a_bad_name, "my ensemble"),
    ],
)
def test_writer_refuses_what_a_reader_would(tmp_path, write, message):
    target = tmp_path / "bundle"
    with pytest.raises(BundleError, match=re.escape(message)), start_writing(target) as bundle:
        write(bundle)
    assert not target.exists()


def test_alpha_of_a_simplex(tmp_path):
    with start_writing(tmp_path / "bundle") as bundle:
        fill(bundle)
        onnx.save(linear_graph(point_weights("midpoint")), bundle.file("mean"))
        bundle.add_point("mean", alpha=(0.2, 0.3, 0.5), coefficients=[0.2, 0.3, 0.5], calibration=None, parity=PARITY)
        images = random_images(2)
        logits = expected_logits("midpoint", images)
        bundle.set_golden(images, {"midpoint": logits, "mean": logits})
        bundle.default = "mean"
    opened = Bundle.open(tmp_path / "bundle")
    assert opened.default == "mean"
    assert opened.points["mean"].alpha == (0.2, 0.3, 0.5)
    assert opened.points["midpoint"].alpha == 0.5


def test_temperatures_and_how_they_were_fitted_are_read_as_written(tmp_path):
    with start_writing(tmp_path / "bundle") as bundle:
        fill(bundle)
        onnx.save(linear_graph(point_weights("midpoint")), bundle.file("fitted"))
        bundle.add_point(
            "fitted", alpha=0.3, coefficients=[0.7, 0.3], calibration=None, parity=PARITY, temperature=1.5,
            temperature_fit=FIT,
        )  # fmt: skip
        bundle.add_ensemble("pair", members=["midpoint", "fitted"], temperature=0.7, temperature_fit=FIT)
        images = random_images(2)
        logits = expected_logits("midpoint", images)
        bundle.set_golden(images, {"midpoint": logits, "fitted": logits})
    opened = Bundle.open(tmp_path / "bundle")
    assert (opened.points["fitted"].temperature, opened.points["fitted"].temperature_fit) == (1.5, FIT)
    assert (opened.ensembles["pair"].temperature, opened.ensembles["pair"].temperature_fit) == (0.7, FIT)
    assert opened.points["midpoint"].temperature_fit is None
    document = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert document["points"]["fitted"]["temperature_fit"]["after"] == {"nll": 0.6, "ece": 0.02}


def test_a_manifest_without_fitted_temperatures_is_the_one_that_was_always_written(folder):
    document = json.loads((folder / "manifest.json").read_text())
    assert document["points"]["midpoint"].keys() == {
        "alpha", "statistics", "coefficients", "file", "sha256", "calibration", "parity", "metrics", "temperature",
    }  # fmt: skip
    assert document["ensembles"]["endpoints"].keys() == {"members", "weights", "aggregate", "temperature", "metrics"}
    assert document["points"]["midpoint"]["calibration"] is None
    edit_manifest(folder, lambda document: document["points"]["midpoint"].pop("temperature"))
    assert Bundle.open(folder).points["midpoint"].temperature == 1


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_verify_reports_every_point(tmp_path, dtype):
    report = verify_bundle(make_bundle(tmp_path / "bundle", dtype=dtype), device="cpu", threads=1)
    assert list(report.points) == list(POINTS)
    assert report.files == 4
    assert report.onnx_checked
    for point in report.points.values():
        assert point.provider == "CPUExecutionProvider"
        assert point.batches == (1, 6, 12)
        assert point.max_abs_diff < 1e-5
        assert point.top1_flips == 0
    assert json.loads(json.dumps(report.to_json()))["points"]["midpoint"]["tolerance"] == 1e-4


def test_verify_refuses_logits_that_are_off(tmp_path):
    folder = make_bundle(tmp_path / "bundle", golden_error=0.01)
    with pytest.raises(BundleError, match=r"midpoint differs from the golden logits of its export by 0\.01"):
        verify_bundle(folder, device="cpu", threads=1)


def truncate(folder):
    path = folder / "midpoint.onnx"
    path.write_bytes(path.read_bytes()[:-50])


def swap_classes(folder):
    onnx.save(linear_graph(point_weights("midpoint")[:, :2]), folder / "midpoint.onnx")


def swap_type(folder):
    onnx.save(linear_graph(point_weights("midpoint"), dtype="float32"), folder / "midpoint.onnx")


def empty_golden(folder):
    np.savez(folder / "golden.npz", images=random_images(2))


def pickled_golden(folder):
    np.savez(folder / "golden.npz", images=np.array([{}], dtype=object))


def broken_golden(folder):
    (folder / "golden.npz").write_bytes(b"PK\x03\x04 broken")


def golden_of_nan(folder):
    images = random_images(2)
    logits = {f"logits.{name}": np.full((2, 4), np.nan, dtype=np.float32) for name in POINTS}
    np.savez(folder / "golden.npz", images=images, **logits)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "midpoint.onnx"),
        (swap_classes, "is not the graph of its manifest"),
        (swap_type, "is not the graph of its manifest"),
        (empty_golden, "golden.npz holds {}"),
        (pickled_golden, "cannot be read"),
        (broken_golden, "cannot be read"),
        (golden_of_nan, "differs from the golden logits of its export"),
    ],
)
def test_verify_looks_beyond_hashes(folder, damage, message):
    damage(folder)
    rewrite(folder)
    with pytest.raises(BundleError, match=re.escape(message)):
        verify_bundle(folder, device="cpu", threads=1)


def test_required_cuda_that_is_not_there_is_refused(folder, monkeypatch):
    from subspace_serve.network import sessions

    monkeypatch.setattr(sessions, "_NVIDIA_DEVICES", ())
    with pytest.raises(BundleError, match="CUDA was asked for and ONNX Runtime gave CPUExecutionProvider"):
        verify_bundle(folder, device="cuda", threads=1)


def test_a_bundle_of_version_1_is_still_read(folder):
    def older(document):
        document["version"] = 1
        del document["subspace"], document["domains"]
        for point in document["points"].values():
            del point["statistics"]

    edit_manifest(folder, older)
    manifest = Bundle.open(folder).manifest
    assert (manifest.version, manifest.subspace, manifest.domains) == (1, None, {})
    assert verify_bundle(folder, device="cpu", threads=1).statistics is None
    edit_manifest(folder, lambda document: document.update(domains={"fog": {}}))
    with pytest.raises(BundleError, match="fog"):
        Bundle.open(folder)
