"""`collapse` and `export` as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import invoke, run
from folder_contents import contents
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from subspace_serve import files
from subspace_serve.answers import apply_temperature, softmax
from subspace_serve.bundle import Bundle
from subspace_serve.bundle.replacing import check_outside_bundles
from subspace_serve.cli import exporting
from subspace_serve.data import Images
from subspace_serve.errors import BundleError
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.measure.temperature import fit_and_report
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.selections import store_selections
from subspace_serve.space.alpha import SYNTAX
from trainer.modules import as_module, predict_logits


def test_temperatures_are_fitted_recorded_and_shown(own_run: Path) -> None:
    output = run("export", own_run, "--temperature")
    bundle = Bundle.open(own_run / "bundle")
    opened = OpenRun(own_run)
    for entry in (bundle.points | bundle.ensembles).values():
        fit = entry.temperature_fit
        assert fit is not None
        assert fit.data == "digits:validation"
        assert fit.count + fit.reported_on == len(opened.data.validation)
    entry = bundle.ensembles["endpoints"]
    row, *_ = (
        line.replace(" (open)", "").split()
        for line in output.splitlines()
        if line.startswith("endpoints") and "+" not in line
    )
    assert row[1] == f"{entry.temperature:.3f}"
    assert row[2:6] == [
        f"{entry.temperature_fit.before.nll:.4f}",
        f"{entry.temperature_fit.after.nll:.4f}",
        f"{100 * entry.temperature_fit.before.ece:.2f}",
        f"{100 * entry.temperature_fit.after.ece:.2f}",
    ]


def test_what_was_selected_for_a_domain_has_the_temperature_of_the_domain(own_run: Path) -> None:
    domain = {"data": "validation", "corruption": "contrast", "severity": 5, "preset": "cifar", "seed": 0}
    pair = {"members": [0.0, 0.6], "weights": [0.5, 0.5], "aggregate": "probabilities", "domain": domain}
    store_selections(own_run, {"dim": pair}, OpenRun(own_run).checkpoint_sha256)
    run("export", own_run, "--alpha", "best:dim", "--alpha", "midpoint", "--temperature", "--no-evaluate")
    bundle = Bundle.open(own_run / "bundle")
    fits = {name: entry.temperature_fit for name, entry in (bundle.points | bundle.ensembles).items()}
    assert {name: fit.data for name, fit in fits.items()} == {
        "dim-0": "digits:validation, contrast:5",
        "dim-1": "digits:validation, contrast:5",
        "midpoint": "digits:validation",
        "dim": "digits:validation, contrast:5",
    }
    assert fits["dim"].before.nll > fits["midpoint"].before.nll
    run("export", own_run, "--alpha", "best:dim", "--temperature", "--temperature-data", "validation", "--no-evaluate")
    assert Bundle.open(own_run / "bundle").ensembles["dim"].temperature_fit.data == "digits:validation"


def test_without_being_asked_for_no_temperature_is_fitted(line_bundle: Path) -> None:
    bundle = Bundle.open(line_bundle)
    assert all(entry.temperature == 1 for entry in (bundle.points | bundle.ensembles).values())
    assert "temperature_fit" not in (line_bundle / "manifest.json").read_text()


@pytest.mark.parametrize("spec", ["test", "digits:test"])
def test_no_temperature_is_fitted_on_test_images(own_run: Path, spec: str) -> None:
    result = invoke("export", own_run, "--temperature", "--temperature-data", spec)
    assert result.exit_code == 1
    assert "nothing is chosen or fitted on test images" in str(result.exception)
    assert not (own_run / "bundle").exists()


def test_images_for_a_temperature_that_is_not_asked_for_are_wrong_usage(own_run: Path) -> None:
    assert invoke("export", own_run, "--temperature-data", "validation").exit_code == 2


def test_batchnorm_is_recomputed_on_the_images_given(own_run: Path) -> None:
    run("export", own_run, "--calibrate-on", "validation", "--no-evaluate")
    bundle = Bundle.open(own_run / "bundle")
    assert all("validation" in point.calibration.data for point in bundle.points.values())
    states, recorded = [], []
    for options in ([], ["--calibrate-on", "validation"]):
        run("collapse", own_run, *options, "--out", own_run / "point.safetensors")
        states.append(load_file(own_run / "point.safetensors"))
        with safe_open(own_run / "point.safetensors", "pt") as file:
            recorded.append(file.metadata()["calibration"])
    assert recorded[0] == "digits:train"
    assert "validation" in recorded[1]
    usual, other = states
    differing = {name.rpartition(".")[2] for name in usual if not torch.equal(usual[name], other[name])}
    assert differing - {"num_batches_tracked"} == {"running_mean", "running_var"}


def test_selected_models_are_exported_as_they_were_selected(own_run: Path) -> None:
    selections = {
        "night": {"alpha": 0.6, "calibration": {"on": "validation"}},
        "both": {"members": [0.0, 0.6], "weights": [1, 3], "aggregate": "logits", "calibration": {"on": "default"}},
    }
    store_selections(own_run, selections, OpenRun(own_run).checkpoint_sha256)
    run("export", own_run, "--alpha", "best:night", "--alpha", "best:both", "--alpha", "best:both", "--no-evaluate")
    bundle = Bundle.open(own_run / "bundle")
    calibrations = {name: point.calibration.data for name, point in bundle.points.items()}
    assert "validation" in calibrations.pop("night")
    assert calibrations == {"both-0": "digits:train", "both-1": "digits:train"}
    ensemble = bundle.ensembles["both"]
    assert (ensemble.members, ensemble.weights, ensemble.aggregate) == (("both-0", "both-1"), (1.0, 3.0), "logits")
    result = invoke("collapse", own_run, "--alpha", "best:both")
    assert result.exit_code == 2
    assert "is the places 0; 0.6: collapse each" in result.output


@pytest.mark.parametrize("name", ["subspace", "golden", "statistics-sources"])
def test_collapse_never_overwrites_a_file_of_a_run(own_run: Path, name: str) -> None:
    before = contents(own_run)
    for options in (("--alpha", f"{name}=midpoint"), ("--out", own_run / f"{name}.safetensors")):
        result = invoke("collapse", own_run, *options)
        assert result.exit_code == 2
        assert f"{name}.safetensors is a file of the run itself; choose another with --out" in result.output
    assert contents(own_run) == before


@pytest.mark.parametrize("name", ["skeleton.onnx", "config.json", "photo.jpg", "folder", "midpoint.safetensors"])
def test_collapse_overwrites_nothing_but_what_it_wrote(own_run: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    if name == "folder":
        target.mkdir()
    elif name == "midpoint.safetensors":  # another run's checkpoint under the name that a point would have
        shutil.copyfile(own_run / "subspace.safetensors", target)
    else:
        target.write_bytes(b"{}")
    before = None if target.is_dir() else target.read_bytes()
    result = invoke("collapse", own_run, "--out", target)
    assert result.exit_code == 1
    assert f"{target} exists and collapse did not write it; move it away, or choose" in str(result.exception)
    assert (None if target.is_dir() else target.read_bytes()) == before


def test_collapse_never_overwrites_the_checkpoint_that_it_reads(own_run: Path) -> None:
    renamed = (own_run / "subspace.safetensors").rename(own_run / "midpoint.safetensors")
    before = renamed.read_bytes()
    result = invoke("collapse", renamed)
    assert result.exit_code == 1
    assert "midpoint.safetensors exists and collapse did not write it" in str(result.exception)
    assert renamed.read_bytes() == before


def test_collapse_writes_again_what_it_wrote(own_run: Path, tmp_path: Path) -> None:
    target = tmp_path / "point.safetensors"
    for alpha in ("endpoint:0", "endpoint:1"):
        run("collapse", own_run, "--alpha", alpha, "--out", target)
    last = OpenRun(own_run).subspace.endpoints[1]
    np.testing.assert_array_equal(load_file(target)["conv.weight"], last["conv.weight"])


@pytest.mark.parametrize("inside", [False, True])
def test_collapse_of_a_bundle_leaves_it_as_it_is(
    whole_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    bundle = Path(shutil.copytree(whole_bundle, tmp_path / "run" / "bundle"))
    if inside:
        monkeypatch.chdir(bundle)
    run("collapse", "." if inside else bundle)
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["bundle", "midpoint.safetensors"]
    Bundle.open(bundle)


@pytest.mark.parametrize("words", ["export", "export --layout triton", "report --out BUNDLE/report"])
def test_nothing_is_written_into_a_bundle(whole_bundle: Path, tmp_path: Path, words: str) -> None:
    bundle = Path(shutil.copytree(whole_bundle, tmp_path / "bundle"))
    command, *options = words.replace("BUNDLE", str(bundle)).split()
    result = invoke(command, bundle, *options)
    assert result.exit_code == 1
    assert f"lies in the bundle {bundle}, which holds its own files alone" in str(result.exception)
    Bundle.open(bundle)


def test_nothing_is_written_into_a_bundle_of_another_version(whole_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(whole_bundle, tmp_path / "bundle"))
    manifest = bundle / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 99}))
    with pytest.raises(BundleError, match="lies in the bundle"):
        check_outside_bundles(bundle / "x.safetensors")
    (bundle / "golden.npz").unlink()  # a manifest alone, as `export --json` writes it
    check_outside_bundles(bundle / "x.safetensors")


@pytest.mark.parametrize("name", ["point.safetensors", "deeper/point.safetensors"])
def test_collapse_writes_nothing_into_a_bundle(line_run: Path, line_bundle: Path, tmp_path: Path, name: str) -> None:
    bundle = Path(shutil.copytree(line_bundle, tmp_path / "bundle"))
    (tmp_path / "link").symlink_to(bundle)
    result = invoke("collapse", line_run, "--out", tmp_path / "link" / name)
    assert result.exit_code == 1
    assert f"point.safetensors lies in the bundle {bundle}, which holds its own files alone" in str(result.exception)
    Bundle.open(bundle)


def test_an_ensemble_with_weights_is_measured_and_answers_with_them(own_run: Path, tmp_path: Path) -> None:
    output = run("export", own_run, "--ensemble", "tilted=endpoint-0:3, endpoint-1:1", "--temperature")
    assert "tilted endpoint-0:3+endpoint-1:1" in " ".join(output.split())
    bundle = Bundle.open(own_run / "bundle")
    ensemble = bundle.ensembles["tilted"]
    assert (ensemble.members, ensemble.weights) == (("endpoint-0", "endpoint-1"), (3.0, 1.0))
    assert bundle.ensembles["endpoints"].weights == (0.5, 0.5)
    opened = OpenRun(own_run)

    def averaged(images: Images) -> np.ndarray:
        first, second = (
            predict_logits(as_module(opened.subspace, alpha, opened.calibration), images, opened.preprocessing)
            for alpha in (0.0, 1.0)
        )
        return 0.75 * softmax(first) + 0.25 * softmax(second)

    fitted = fit_and_report(
        averaged(opened.data.validation), torch.from_numpy(opened.data.validation.labels), seed=opened.seed
    )
    assert ensemble.temperature == pytest.approx(fitted.temperature, rel=1e-4)
    assert ensemble.temperature_fit.before.nll == pytest.approx(fitted.before["nll"], rel=1e-5)
    test = opened.data.test
    answers = apply_temperature(averaged(test), ensemble.temperature)
    assert ensemble.metrics == pytest.approx(classification_metrics(answers, torch.from_numpy(test.labels)), rel=1e-4)
    assert ensemble.metrics["nll"] != pytest.approx(bundle.ensembles["endpoints"].metrics["nll"], rel=1e-4)

    Image.fromarray(test.take(np.arange(1))[0][0, ..., 0]).save(tmp_path / "digit.png")
    words = [own_run / "bundle", "--image", tmp_path / "digit.png", "--model", "tilted", "--top-k", 10]
    answer = json.loads(run("predict", *words, "--device", "cpu", "--json", "-"))
    assert (answer["weights"], answer["temperature"]) == ([0.75, 0.25], ensemble.temperature)
    found = {label["index"]: label["probability"] for label in answer["predictions"][0]["labels"]}
    assert [found[index] for index in range(10)] == pytest.approx(answers[0].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("ensemble", "message"),
    [
        ("midpoint,endpoint-0", "'midpoint,endpoint-0' is not NAME=POINT,POINT…"),
        ("p=endpoint-0:0.7,endpoint-1", "'p=endpoint-0:0.7,endpoint-1': endpoint-1 has no weight; give every member"),
        ("p=endpoint-0,endpoint-1:0.3", "'p=endpoint-0,endpoint-1:0.3': endpoint-0 has no weight; give every member"),
        ("p=endpoint-0:much,endpoint-1:1", "the weight of endpoint-0 is 'much'; give a number, as in endpoint-0:0.7"),
        ("p=endpoint-0:1:2,endpoint-1:1", "the weight of endpoint-0 is '1:2'; give a number"),
        ("p=endpoint-0:,endpoint-1:1", "the weight of endpoint-0 is ''; give a number"),
        ("p=endpoint-0:2,endpoint-1:-1", "the ensemble p has the weights 2, -1; its 2 members need one each, finite"),
    ],
)
def test_weights_that_cannot_be_are_wrong_usage(line_run: Path, tmp_path: Path, ensemble: str, message: str) -> None:
    result = invoke("export", line_run, "--ensemble", ensemble, "--out", tmp_path / "bundle")
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].startswith("Error: Invalid value for '--ensemble': ")
    assert message in result.output
    assert not (tmp_path / "bundle").exists()


def test_no_name_of_a_point_has_the_colon_that_begins_a_weight(own_run: Path) -> None:
    result = invoke("export", own_run, "--alpha", "a:1=0.5")
    assert (result.exit_code, str(result.exception)) == (
        1,
        "'a:1' cannot name a point; use letters, digits, '.', '_' and '-'",
    )
    store_selections(own_run, {"fog:3": {"alpha": 0.4}}, OpenRun(own_run).checkpoint_sha256)
    run(
        "export",
        own_run,
        "--alpha",
        "best:fog:3",
        "--alpha",
        "0.5",
        "--ensemble",
        "p=fog-3:2,alpha-0.5:6",
        "--no-evaluate",
    )
    assert Bundle.open(own_run / "bundle").ensembles["p"].weights == (2.0, 6.0)


@pytest.mark.parametrize("layout", ["bundle", "triton"])
def test_a_mount_point_is_refused_before_any_work(
    line_run: Path, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "is_mount_point", lambda folder: folder == tmp_path)
    monkeypatch.delattr(exporting, "calibrations_of")
    result = invoke("export", line_run, "--layout", layout, "--out", tmp_path)
    assert result.exit_code == 1
    message = f"{tmp_path} is a mount point (as a container's volume is), and no other folder can be put in its place"
    assert str(result.exception).startswith(message)
    assert str(result.exception).endswith(f"choose a folder inside it, such as {tmp_path / tmp_path.name}")


@pytest.mark.parametrize("command", ["collapse", "export"])
def test_help_says_what_alpha_takes(command: str) -> None:
    assert SYNTAX.split("(")[0] in " ".join(run(command, "--help").split())


def test_a_target_stays_where_its_link_pointed_at_the_beginning(
    line_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from subspace_serve import export

    write, link = export.export_bundle, tmp_path / "latest"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    link.symlink_to("first")

    def overtaken(*arguments, **settings):
        link.unlink()
        link.symlink_to("second")  # as another training does
        return write(*arguments, **settings)

    monkeypatch.setattr(export, "export_bundle", overtaken)
    run("export", line_run, "--alpha", "midpoint", "--points-only", "--no-evaluate", "--no-sets", "--out", link / "own")
    assert [(tmp_path / name / "own").exists() for name in ("first", "second")] == [True, False]
