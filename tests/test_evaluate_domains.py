"""One evaluation on several domains: the same networks on each, as values, as a table and as a picture."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import completed, invoke, run
from drawn_axes import noted
from evaluation_documents import evaluation
from PIL import Image

from subspace_serve.cli.domains import named_spec
from subspace_serve.data.domains import Domain, corrupted_domains
from subspace_serve.errors import DataError, SubspaceServeError
from subspace_serve.measure.evaluation import evaluate
from subspace_serve.measure.image_sets import DomainSet
from subspace_serve.measure.metrics import METRICS
from subspace_serve.measure.networks import Candidate, Networks
from subspace_serve.measure.results import Evaluation
from subspace_serve.run.opened import OpenRun
from subspace_serve.show.plot import plot_domains


@pytest.mark.parametrize(
    ("text", "name", "spec"),
    [
        ("old=validation", "old", "validation"),
        ("validation", "", "validation"),
        ("new=/data/a=b.npz", "new", "/data/a=b.npz"),
        ("/data/a=b.npz", "", "/data/a=b.npz"),
        ("new=corrupted:x:fog:3", "new", "corrupted:x:fog:3"),
    ],
)
def test_a_name_is_what_stands_before_the_first_equals_sign_of_no_path(text: str, name: str, spec: str) -> None:
    assert named_spec(text) == (name, spec)


def domains_of(run: OpenRun) -> list[Domain]:
    (dim,) = corrupted_domains(run.data.validation, "validation", ["contrast"], [2])
    return [Domain("test", run.data.test, {"data": "test"}), Domain("dim", dim.images, dim.record)]


def test_all_domains_are_measured_on_the_same_networks_each_made_once(line_run: Path) -> None:
    run = OpenRun(line_run)
    domains = domains_of(run)
    said: list[str] = []
    ends = {"pair": Candidate((0.0, 1.0), aggregate="logits")}
    found = evaluate(
        run.network, domains[0].images, calibration=run.calibration, alphas=[0.0, 0.5], named=ends, domains=domains,
        progress=said.append,
    )  # fmt: skip
    assert sorted(line for line in said if line.startswith("alpha")) == ["alpha 0", "alpha 0.5", "alpha 1"]
    first, second = found.domains
    assert (first.name, first.data, first.count) == ("test", "test", len(run.data.test))
    assert (second.name, second.data, second.count) == ("dim", "validation", len(run.data.validation))
    assert first.points == found.points
    assert first.endpoints_ensemble == found.endpoints_ensemble
    networks = Networks(run.network, run.calibration)
    candidates = [Candidate.point(0.0), Candidate.point(0.5), Candidate((0.0, 1.0)), ends["pair"]]
    scores = networks.score(candidates, domains[1].images)
    assert [dict(point.metrics) for point in second.points] == [pytest.approx(s.metrics()) for s in scores[:2]]
    assert second.points[0].ensemble == pytest.approx(scores[2].metrics())
    assert second.ensembles["pair"].metrics == pytest.approx(scores[3].metrics())
    assert second.points[1].accuracy != first.points[1].accuracy


def test_domains_survive_the_document(line_run: Path) -> None:
    run = OpenRun(line_run)
    domains = domains_of(run)
    found = evaluate(run.network, domains[0].images, calibration=run.calibration, alphas=[0.5], domains=domains)
    document = json.loads(json.dumps(found.to_json()))
    assert [list(entry)[:4] for entry in document["domains"]] == [["name", "data", "count", "points"]] * 2
    assert set(document["domains"][1]["points"][0]["metrics"]) == set(METRICS)
    assert Evaluation.from_json(document).to_json() == document
    assert "domains" not in Evaluation.from_json(evaluation()).to_json()


def test_a_domain_of_other_classes_is_refused_before_any_network_is_made(line_run: Path) -> None:
    run = OpenRun(line_run)
    wrong = Domain("new", run.data.test.with_labels(np.full(len(run.data.test), 10)), {"data": "new"})
    said: list[str] = []
    with pytest.raises(DataError, match="a label is 10"):
        evaluate(run.network, run.data.test, calibration=run.calibration, domains=[wrong], progress=said.append)
    assert said == []


def domain(name: str, values: dict[Any, float]) -> DomainSet:
    points = [{"alpha": alpha, "metrics": {"accuracy": value}} for alpha, value in values.items()]
    return DomainSet.from_json({"name": name, "data": name, "count": 8, "points": points})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What was drawn: curves, dots and their colours' alphas, and names of places."""
    return noted(
        monkeypatch,
        plot=lambda arguments, options: (list(arguments[0]), list(arguments[1])),
        scatter=lambda arguments, options: (list(arguments[0]), list(arguments[1]), options.get("c")),
        annotate=lambda arguments, options: (arguments[0], arguments[1]),
    )


def test_the_picture_has_accuracy_along_alpha_and_the_first_domain_against_the_others(
    tmp_path: Path, drawn: dict[str, list[Any]]
) -> None:
    old = domain("old", {1.0: 0.5, 0.0: 1.0, 0.5: 0.75})
    new = domain("new", {1.0: 0.875, 0.0: 0.25, 0.5: 0.75})
    far = domain("far", {1.0: 0.25, 0.0: 0.125, 0.5: 0.125})
    plot_domains([old, new, far], tmp_path / "domains.png")
    alphas = [0.0, 0.5, 1.0]
    assert drawn["plot"] == [
        (alphas, [100, 75, 50]),
        (alphas, [25, 75, 87.5]),
        (alphas, [12.5, 12.5, 25]),
        ([100, 75, 50], [25, 75, 87.5]),
        ([100, 75, 50], [12.5, 12.5, 25]),
    ]
    assert drawn["scatter"] == [
        ([100, 75, 50], [25, 75, 87.5], alphas),
        ([100, 75, 50], [12.5, 12.5, 25], alphas),
    ]
    assert drawn["annotate"][:3] == [("0", (100, 25)), ("0.5", (75, 75)), ("1", (50, 87.5))]
    assert Image.open(tmp_path / "domains.png").size == (960, 420)


def test_a_simplex_has_names_for_its_places_and_no_path(tmp_path: Path, drawn: dict[str, list[Any]]) -> None:
    values = {(1.0, 0.0): 0.5, (0.0, 1.0): 0.75, (0.5, 0.5): 1.0}
    plot_domains([domain("old", values), domain("new", values)], tmp_path / "domains.svg")
    assert drawn["plot"] == []
    assert drawn["scatter"] == [([50, 75, 100], [50, 75, 100], None)]
    assert [name for name, _ in drawn["annotate"]] == ["endpoint-0", "endpoint-1", "midpoint"]
    before = (tmp_path / "domains.svg").read_bytes()
    plot_domains([domain("old", values), domain("new", values)], tmp_path / "domains.svg")
    assert (tmp_path / "domains.svg").read_bytes() == before


@pytest.mark.parametrize("alphas", [(0.0, 0.5, 1.0), ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5))])
def test_any_name_is_drawn_as_it_is(tmp_path: Path, alphas: tuple[Any, ...]) -> None:
    names = [r"a$\foo$", "_old", r"c\$d", "$5"]
    values = dict.fromkeys(alphas, 0.5)

    def texts(*drawn: str) -> list[str]:
        plot_domains([domain(name, values) for name in drawn], tmp_path / "picture.svg")
        return re.findall("<!-- (.*) -->", (tmp_path / "picture.svg").read_text())

    assert texts(*names)[-4:] == names  # the legend
    assert r"Accuracy on a$\foo$ (%)" in texts(*names)
    assert "Accuracy on $5 (%)" in texts("new", "$5")


def test_one_domain_has_one_panel_and_domains_of_other_places_no_picture(tmp_path: Path) -> None:
    old = domain("old", {0.0: 0.5, 1.0: 0.75})
    plot_domains([old], tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").size == (480, 420)
    with pytest.raises(SubspaceServeError, match="same alphas"):
        plot_domains([old, domain("new", {0.0: 0.5, 0.5: 0.75})], tmp_path / "two.png")


def test_the_command_prints_a_row_a_place_and_draws(line_run: Path, new: Path, tmp_path: Path) -> None:
    words = ("--val-data", "old=test", "--val-data", new, "--points", 3)
    result = completed("evaluate", line_run, *words, "--plot", tmp_path / "d.png", "--json", tmp_path / "d.json")
    document = json.loads((tmp_path / "d.json").read_text())
    old, dark = document["domains"]
    assert (old["name"], old["data"], dark["name"], dark["data"]) == ("old", "test", str(new), str(new))
    assert document["data"] == "test"
    assert document["points"] == old["points"]
    alone = json.loads(run("evaluate", line_run, "--data", new, "--points", 3, "--json", "-"))
    assert dark["points"] == alone["points"]
    lines = result.output.splitlines()
    for row, (first, second) in enumerate(zip(old["points"], dark["points"], strict=True)):
        cells = lines[2 + row].replace(" *", "").split()
        assert cells == [
            f"{first['alpha']:g}", f"{100 * first['metrics']['accuracy']:.2f}",
            f"{100 * second['metrics']['accuracy']:.2f}",
        ]  # fmt: skip
    (ends,) = (line.split()[-2:] for line in lines if line.startswith("ensemble of the ends"))
    assert ends == [f"{100 * part['endpoints_ensemble']['metrics']['accuracy']:.2f}" for part in (old, dark)]
    assert f"360 images of old, 144 images of {new}" in result.output
    assert Image.open(tmp_path / "d.png").size == (960, 420)


def test_ensembles_that_were_asked_for_have_a_row_too(line_run: Path, new: Path) -> None:
    words = ("--val-data", "old=test", "--val-data", f"new={new}", "--alpha", "random:2")
    document = json.loads(run("evaluate", line_run, *words, "--json", "-"))
    (row,) = (
        line.split()[-2:]
        for line in invoke("evaluate", line_run, *words).output.splitlines()
        if line.startswith("ensemble random-2")
    )
    found = [entry["ensembles"]["random-2"]["metrics"]["accuracy"] for entry in document["domains"]]
    assert row == [f"{100 * accuracy:.2f}" for accuracy in found]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data test", "--data is for one set of images"),
        ("--corruption fog", "--corruption is for one set"),
        ("--baseline RUN", "--baseline is for one set"),
        ("--data test --corruption fog", "--data, --corruption is for"),
        ("--val-data old=test", "two domains have the name old"),
    ],
)
def test_domains_beside_one_set_of_images_are_wrong_usage(line_run: Path, options: str, message: str) -> None:
    words = [str(line_run) if word == "RUN" else word for word in options.split()]
    result = invoke("evaluate", line_run, "--val-data", "old=validation", *words)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_an_unknown_domain_is_one_message(line_run: Path) -> None:
    result = invoke("evaluate", line_run, "--val-data", "old=nowhere")
    assert result.exit_code == 1
    assert "there is no data set 'nowhere'" in str(result.exception)


def test_a_bundle_is_evaluated_on_several_domains_with_its_own_statistics(
    whole_bundle: Path, new: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(whole_bundle, tmp_path / "bundle"))
    words = ("--val-data", f"a={new}", "--val-data", f"b={new}", "--points", 3, "--json", "-")
    usual = json.loads(run("evaluate", folder, *words))
    assert [entry["name"] for entry in usual["domains"]] == ["a", "b"]
    assert usual["domains"][0]["points"] == usual["domains"][1]["points"]
    inverted = json.loads(run("evaluate", folder, *words, "--calibrate-on", "inverted"))
    assert inverted["domains"][0]["points"] != usual["domains"][0]["points"]
