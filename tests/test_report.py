"""The page for people: what is on it, what is not, and that it needs nothing else."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from command_line import completed, fails, run
from evaluation_documents import (
    by_calibration,
    changed,
    corruption,
    evaluation,
    measured,
    metrics,
    plane,
    records,
    selections,
)

from subspace_serve.errors import SubspaceServeError
from subspace_serve.measure.results import Evaluation
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.selections import store_selections
from subspace_serve.show.report import Documents, write_report
from subspace_serve.show.report.summary import choices, findings, standard_error

pytestmark = pytest.mark.slow

RUN = {
    "name": "digits-line",
    "checkpoint": "runs/digits-line/subspace.safetensors",
    "sha256": "cd" * 32,
    "geometry": {"name": "line", "endpoints": 2},
    "architecture": {"name": "cresnet8-4", "classes": 10},
    "parameters": 1234,
    "provenance": {
        "data": {"spec": "digits", "fingerprint": "ef" * 32},
        "training": {"data": "digits", "epochs": 3, "seed": 7, "beta": 1.0},
        "versions": {"torch": "2.7"},
    },
    "versions": {"torch": "2.8"},
}
FILES = [
    "accuracy",
    "changed",
    "corruptions",
    "distances",
    "heatmap",
    "plane",
    "relative-change",
    "reliability",
    "selections",
]


class Page(HTMLParser):
    """A page taken apart: tags with attributes, headings, tables, text."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, *tags: str) -> str:
        return " ".join(" ".join(data for tag, data in self.texts if not tags or tag in tags).split())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of everything that there is to report."""
    folder = tmp_path_factory.mktemp("reports") / "report"
    documents = Documents(RUN, measured(), selections(), records(), plane(), changed())
    return write_report(folder, documents)


def page_of(tmp_path: Path, **parts: Any) -> Page:
    documents = Documents(**({"run": RUN, "evaluation": measured(corruptions=False, reliability=False)} | parts))
    return Page(write_report(tmp_path / "report", documents).read_text(encoding="utf-8"))


def test_the_page_and_its_pictures_lie_in_one_folder(full: Path) -> None:
    assert full.name == "report.html"
    assert sorted(path.name for path in full.parent.iterdir()) == sorted(["report.html", *(f"{n}.png" for n in FILES)])


def test_the_page_needs_nothing_else(full: Path) -> None:
    text = full.read_text(encoding="utf-8")
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert re.match(r"data:image/png;base64,|#|$", attributes.get(name) or "")
    assert not re.findall(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_pictures_in_the_page_are_those_beside_it_and_are_described(full: Path) -> None:
    images = Page(full.read_text(encoding="utf-8")).all("img")
    assert len(images) == len(FILES)
    inlined = {base64.b64decode((image["src"] or "").partition(",")[2]) for image in images}
    assert inlined == {(full.parent / f"{name}.png").read_bytes() for name in FILES}
    alternatives = [image["alt"] or "" for image in images]
    assert all(len(alternative) > 30 for alternative in alternatives)
    assert "from 50.00 to 87.50 percent, the highest at 0.5" in alternatives[0]
    assert images[0]["style"] == "--width: 900px"


def test_every_section_has_a_heading_that_the_contents_lead_to(full: Path) -> None:
    page = Page(full.read_text(encoding="utf-8"))
    sections = [section["id"] for section in page.all("section")]
    assert sections == [
        "what", "summary", "along", "reliability", "changed", "corruptions", "selections", "plane", "distances",
        "provenance",
    ]  # fmt: skip
    assert [link["href"] for link in page.all("a")] == [f"#{key}" for key in sections]
    assert len(page.all("h1")) == 1
    assert len(page.all("h2")) == len(sections)
    assert page.text("title") == "digits-line: a line of networks"
    assert page.all("html")[0]["lang"] == "en"
    assert "width=device-width" in next(
        meta["content"] or "" for meta in page.all("meta") if meta.get("name") == "viewport"
    )


def test_every_picture_has_its_numbers_in_a_table(full: Path) -> None:
    page = Page(full.read_text(encoding="utf-8"))
    assert len(page.all("caption")) == len(page.all("table")) >= len(FILES)
    cells = [data for tag, data in page.texts if tag in ("td", "th")]

    def row(name: str, length: int) -> list[str]:
        start = cells.index(name)
        return cells[start : start + length]

    assert row("midpoint (α = 0.5)", 6) == ["midpoint (α = 0.5)", "87.50 ± 3.31", "0.1250", "3.12", "0.1875", "1"]
    assert row("ensemble of the ends", 2) == ["ensemble of the ends", "81.25 ± 3.90"]
    assert row("motion blur 3", 5) == ["motion blur 3", "37.50", "21.88", "12.50", "37.50"]
    assert row("fog", 9) == ["fog", "0.25", "accuracy", "+5.00", "+2.50 to +7.50", "0.001", "81.25", "76.25", "50 + 50"]
    assert row("night", 6) == ["night", "0.5 (midpoint kept)", "NLL", "(+0.0625)", "(−0.0625 to +0.1250)", "(0.25)"]
    assert row("0 and 1", 3) == ["0 and 1", "12.500", "0.06250"]
    assert row("checkpoint's SHA-256", 2)[1] == "cd" * 32
    assert row("data's fingerprint (SHA-256)", 2)[1] == "ef" * 32
    assert row("training", 2)[1] == "epochs 3, beta 1.0, seed 7"
    assert row("versions of this report", 2)[1] == "torch 2.8"


def test_reliability_and_corruption_tables_hold_what_was_computed(full: Path) -> None:
    text = Page(full.read_text(encoding="utf-8")).text("td", "th")
    assert "standard network 68.75 71.88 −3.12 15.62" in text  # mean confidence, accuracy, gap, ECE
    assert "0.5 56.25 90.00" in text  # mean corruption error, and in percent of the standard network's
    assert "fog 3 −50.00 +25.00 +25.00" in text
    assert "motion blur 3 −50.00 −25.00 +0.00" in text


def test_corruptions_without_severities_have_their_name_alone(tmp_path: Path) -> None:
    document = evaluation(reliability=False)
    document["corruptions"] = [corruption(name, None, 0.25) for name in ("fog", "motion_blur")]
    page = page_of(tmp_path, evaluation=Evaluation.from_json(document))
    assert "None" not in page.text("td", "th")
    assert "clean 75.00 87.50 50.00 75.00 fog 37.50 65.62 37.50 37.50" in page.text("td", "th")
    alternatives = " ".join(image["alt"] or "" for image in page.all("img"))
    assert "The best of each row: fog 65.62 percent at 0.5; motion blur 65.62 percent at 0.5." in alternatives
    assert "on clean images and on 2 corruptions." in alternatives


def test_statistics_that_imported_weights_brought_are_called_their_own(tmp_path: Path) -> None:
    own = {"data": "sources", "count": None, "batch_size": None, "seed": None}
    page = page_of(tmp_path, evaluation=Evaluation.from_json(evaluation() | {"calibration": own}))
    assert "BatchNorm from the sources' own statistics" in page.text("td", "th")


def test_recalibration_on_the_domain_stands_beside_the_usual_one(tmp_path: Path) -> None:
    both = {
        "default": {"midpoint": metrics(0.5), "chosen": metrics(0.625)},
        "domain": {"midpoint": metrics(0.75), "chosen": metrics(0.875)},
    }
    page = page_of(tmp_path, selections={"fog": selections()["fog"] | {"recalibration": both}})
    assert "fog 50.00 75.00 62.50 87.50" in page.text("td", "th")


def test_gains_by_calibration_error_say_what_they_are_of(tmp_path: Path) -> None:
    page = page_of(tmp_path, selections={"new": by_calibration()})
    assert "new 0.25 ECE +0.0025 −0.0025 to +0.0050" in page.text("td", "th")
    assert "those by ECE are of the debiased squared calibration error. In brackets" in page.text("span")
    assert "95 of 100 cases" not in page.text("li")
    assert "no promise of how often it holds the true one" in page.text("li")
    page = page_of(tmp_path, selections={"old": by_calibration(None), "fog": selections()["fog"]})
    assert "old 0.25 ECE +0.25 −0.25 to +0.50" in page.text("td", "th")
    assert "those by ECE are percentage points. In brackets" in page.text("span")
    assert "It holds the true one in 95 of 100 cases. By ECE it is" in page.text("li")


def test_the_images_that_are_judged_differently_are_counted_and_shown(full: Path, tmp_path: Path) -> None:
    page = Page(full.read_text(encoding="utf-8"))
    assert "3 of 200 images (1.50 %) get different answers" in page.text("p").replace("\u00a0", " ")
    assert "7 cat cat 87.50 dog 75.00 3 cat cat 50.00 dog 75.00" in page.text("td", "th")
    page = page_of(tmp_path, changed=replace(changed(), count=0, shown=()))
    assert "There are none: all 200 get the same answers" in page.text("p")


def test_the_words_are_explained(full: Path) -> None:
    page = Page(full.read_text(encoding="utf-8"))
    assert page.text("dt") == (
        "α (alpha) Endpoint Midpoint Ensemble Standard network Accuracy ECE NLL, Brier Recalibration"
    )
    assert page.text("h3").count("How to read this") == 7


def test_findings_claim_no_more_than_the_images_show() -> None:
    assert standard_error(0.875, 100) == pytest.approx(0.0330719)
    documents = Documents(RUN, measured(), selections())
    midpoint, standard, ensemble, selected = findings(documents)
    assert "right on 87.50 % of the images and its confidence is off by 3.12 points" in midpoint
    # 12.5 points on 100 images: 2.3 standard errors of the difference. 6.25 points: 1.2.
    assert standard == "It is 12.50 points more accurate than the standard network."
    assert ensemble == (
        "The ensemble of the ends differs from the midpoint by 6.25 points in accuracy, which may be chance on 100 "
        "images."
    )
    assert selected == "Of 2 stored selection(s), 1 moved away from the midpoint and 1 kept it."
    worse = evaluation() | {"baseline": metrics(0.98), "count": 10_000}
    assert findings(Documents(RUN, Evaluation.from_json(worse)))[1:] == [
        "It is 10.50 points less accurate than the standard network.",
        "The ensemble of the ends is 6.25 points less accurate than the midpoint.",
    ]


def test_what_a_run_is_recommended_for_is_said_and_shown() -> None:
    recommended = {
        "midpoint": {"alpha": 0.5, "metrics": metrics(0.875)},
        "random-2": {"members": [0.2, 0.9], "metrics": metrics(0.75)},
    }
    document = Evaluation.from_json(evaluation() | {"use": ["midpoint", "random:2"], "recommended": recommended})
    assert findings(Documents(RUN, document))[-1] == "The run was trained to be used as: midpoint, random:2."
    rows = choices(document)
    assert [name for name, _, _ in rows].count("midpoint (α = 0.5)") == 1
    assert rows[-1][0] == "random-2 (recommended)"
    assert (rows[-1][1]["accuracy"], rows[-1][2]) == (0.75, "2")


def test_what_is_missing_says_how_to_get_it(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["accuracy.png", "report.html"]
    notes = page.text("p")
    for hint in (
        "run `report` without --evaluation",
        "report --corruption fog,motion_blur",
        "subspace-serve select --val-data",
        "report --baseline RUN",
        "keeps no records of its training",
    ):
        assert hint in notes


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        ({"name": "curve", "endpoints": 3}, "the control point, only pulls"),
        ({"name": "simplex", "endpoints": 3}, "a field with 3 corners"),
        ({"name": "simplex", "endpoints": 1}, "one ordinary network"),
    ],
)
def test_other_geometries_are_explained(tmp_path: Path, geometry: dict[str, Any], words: str) -> None:
    document = evaluation(corruptions=False, reliability=False, baseline=False)
    if geometry["name"] == "simplex":
        count = geometry["endpoints"]
        ends = [[float(i == j) for j in range(count)] for i in range(count)]
        places = ends if count == 1 else [*ends, [1 / count] * count]
        document["points"] = [{"alpha": place, "metrics": metrics(0.5)} for place in places]
        del document["endpoints_ensemble"]
    page = page_of(tmp_path, run=RUN | {"geometry": geometry}, evaluation=Evaluation.from_json(document))
    assert words in page.text("p")
    if geometry["endpoints"] == 1:
        assert "endpoint-0" not in page.text()  # it is the midpoint, throughout


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    hostile = '<script>alert("x")</script><img src=https://example.org/a.png onerror=alert(1)>'
    chosen = {hostile: selections()["fog"] | {"reason": hostile, "domain": {"data": hostile}}}
    document = evaluation() | {"data": hostile, "aggregate": hostile}
    run = RUN | {"name": hostile, "provenance": {"training": {"data": hostile, "initialisation": hostile}}}
    page = page_of(tmp_path, run=run, evaluation=Evaluation.from_json(document), selections=chosen)
    assert page.all("script") == []
    assert all((image["src"] or "").startswith("data:image/png") for image in page.all("img"))
    assert hostile in page.text("h1")
    assert page.text().count("<script>") >= 6


def test_a_path_that_is_no_text_in_utf_8_is_shown_escaped(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    measured = Evaluation.from_json(evaluation() | {"data": f"folder:/data/{name}"})
    page = page_of(tmp_path, run=RUN | {"name": name}, evaluation=measured)
    assert r"caf\udce9" in page.text("h1")
    assert r"folder:/data/caf\udce9" in page.text()


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    documents = Documents(RUN, measured(corruptions=False), {}, records())
    first, second = (write_report(tmp_path / name, documents).read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_report_replaces_a_report_and_nothing_else(tmp_path: Path) -> None:
    page_of(tmp_path, training=records())
    assert (tmp_path / "report/distances.png").exists()
    page_of(tmp_path)
    assert not (tmp_path / "report/distances.png").exists()  # of the older report
    (tmp_path / "report/notes.txt").write_text("mine")
    with pytest.raises(SubspaceServeError, match=r"not a report's folder: found notes.txt .* \(--out\)"):
        page_of(tmp_path)
    assert (tmp_path / "report/notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SubspaceServeError, match="found a file at"):
        write_report(tmp_path / "file", Documents(RUN, measured()))


def test_nothing_is_left_behind_when_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(SubspaceServeError, match="no points"):
        page_of(tmp_path, evaluation=replace(measured(corruptions=False, reliability=False), points=()))
    assert list(tmp_path.iterdir()) == []


# The command


def test_the_command_measures_and_writes_beside_the_run(own_run: Path, standard_run: Path) -> None:
    quick = ("--points", "3", "--calibration-count", "128", "--plane-resolution", "2", "--plane-images", "60")
    words = ("--baseline", standard_run, "--corruption", "contrast", "--json", "-", *quick)
    documents = json.loads(run("report", own_run, *words))
    names = {path.stem for path in (own_run / "report").glob("*.png")}
    assert names == set(FILES) - {"selections"}
    assert documents["run"]["name"] == "copy"
    assert documents["evaluation"]["data"] == "test"
    assert [point["alpha"] for point in documents["evaluation"]["points"]] == [0, 0.5, 1]
    assert documents["plane"]["count"] == 60
    assert documents["plane"]["calibration"]["count"] == 60
    assert documents["plane"]["path"][0] == [0, 0]
    assert [record["epoch"] for record in documents["training"]] == [1, 2, 3, 4]
    assert documents["changed"]["models"] == ["midpoint", "ends together"]
    assert documents["changed"]["images"] == documents["evaluation"]["count"]
    page = Page((own_run / "report/report.html").read_text(encoding="utf-8"))
    accuracy = documents["evaluation"]["points"][1]["metrics"]["accuracy"]
    assert f"right on {100 * accuracy:.2f} % of the images" in page.text("p")


def test_a_choice_whose_images_have_gone_costs_itself_only(own_run: Path, tmp_path: Path) -> None:
    gone = selections()["fog"] | {"calibration": {"on": f"{tmp_path}/gone.npz"}}
    stored = {"gone": gone, "there": selections()["fog"]}
    store_selections(own_run, stored, OpenRun(own_run).checkpoint_sha256)
    words = ("--points", 3, "--calibration-count", 128, "--no-plane", "--json", "-")
    result = completed("report", own_run, *words)
    assert json.loads(result.stdout)["changed"]["models"] == ["midpoint", "ends together", "best:there"]
    assert "note: best:gone is not compared with the other models image by image" in result.stderr
    assert "gone.npz" in result.stderr


def test_an_evaluation_that_is_there_is_not_measured_again(own_run: Path, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation()))
    said = run("report", own_run, "--evaluation", tmp_path / "evaluation.json", "--out", tmp_path / "elsewhere")
    assert said.splitlines()[-1] == f"report: {tmp_path / 'elsewhere' / 'report.html'}"
    assert "87.50 ± 3.31" in (tmp_path / "elsewhere/report.html").read_text(encoding="utf-8")
    assert not (own_run / "report").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no evaluation"),
        ("[]", "is no evaluation"),
        (json.dumps(evaluation() | {"points": [{"alpha": 0.5, "metrics": {}}]}), "points without metrics"),
        (json.dumps(evaluation() | {"geometry": "curve"}), "evaluates a curve and"),
        (json.dumps(evaluation() | {"checkpoint_sha256": "00"}), "evaluates another checkpoint"),
    ],
)
def test_files_that_are_no_evaluation_of_this_run_are_refused(
    own_run: Path, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    status, said = fails("report", own_run, "--evaluation", tmp_path / "evaluation.json")
    assert status == 1
    assert message in said


def test_wrong_requests_are_refused_before_any_work(own_run: Path, tmp_path: Path) -> None:
    status, said = fails("report", own_run, "--out", own_run)
    assert (status, "is not a report's folder" in said) == (1, True)
    status, said = fails("report", own_run, "--evaluation", "a.json", "--corruption", "fog")
    assert (status, "brings its own corruptions" in said) == (2, True)
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation()))
    status, said = fails("report", own_run, "--evaluation", tmp_path / "evaluation.json", "--plane")
    assert (status, "name a standard network" in said) == (1, True)
