"""The commands as a user types them: what they write and print, and how they fail."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from command_line import completed, fails, invoke, refusal, run
from PIL import Image
from safetensors.torch import load_file

from subspace_serve.answers import softmax
from subspace_serve.cli import cli
from subspace_serve.errors import CalibrationError
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.run import selections
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.selections import store_selections
from subspace_serve.space.subspace import Subspace
from trainer.architectures import build
from trainer.modules import as_module, predict_logits
from trainer.run_folder import RunFolder

TRAIN = "train --data digits --arch cresnet8-4 --epochs 2 --batch-size 256"


def test_the_whole_road_without_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "validation accuracy" in run(TRAIN)
    assert (tmp_path / "runs/latest/subspace.safetensors").exists()
    assert "line, 2 endpoint(s)" in run("inspect")
    assert "ensemble of the ends" in run("evaluate --points 3 --plot line.png")
    assert Image.open("line.png").size[0] >= 800
    assert "line-seed0/selections.json" in run("select --points 3")
    assert "best" in run("export --alpha best --no-evaluate")
    assert "files unchanged" in run("verify --device cpu")
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save("black.png")
    answer = json.loads(run("predict --image black.png --device cpu --top-k 10 --json -"))
    assert answer["model"] == "best"
    assert sum(label["probability"] for label in answer["predictions"][0]["labels"]) == pytest.approx(1)


def test_json_reports_are_all_that_standard_output_gets(line_run: Path) -> None:
    inspected = json.loads(run("inspect", line_run, "--json", "-"))
    assert inspected["geometry"] == {"name": "line", "endpoints": 2}
    assert inspected["sha256"] == OpenRun(line_run).checkpoint_sha256
    evaluated = json.loads(run("evaluate", line_run, "--alpha", "midpoint", "--json", "-"))
    assert [point["alpha"] for point in evaluated["points"]] == [0.5]


def test_collapse_writes_an_ordinary_state_dict(own_run: Path) -> None:
    run("collapse", own_run, "--alpha", "endpoint:0")
    opened = OpenRun(own_run)
    state = load_file(own_run / "endpoint-0.safetensors")
    model = build(opened.subspace.architecture)
    model.load_state_dict(state)
    assert state["bn.running_var"].ne(1).any()
    answers = predict_logits(model.eval(), opened.data.test, opened.preprocessing).argmax(1)
    assert (answers == opened.data.test.labels).mean() > 0.3


def test_select_uses_the_images_that_it_is_given_and_export_the_place(own_run: Path, tmp_path: Path) -> None:
    opened = OpenRun(own_run)
    pixels, labels = next(opened.data.validation.batches(60))
    np.savez(tmp_path / "camera.npz", images=pixels, labels=labels, label_names=opened.labels)
    run("select", own_run, "--val-data", f"{tmp_path}/camera.npz", "--name", "camera", "--points", "2")
    selection = json.loads((own_run / "selections.json").read_text())["camera"]
    assert selection["chosen_on"] == selection["reported_on"] == 30
    run("export", own_run, "--alpha", "best:camera", "--no-evaluate")
    manifest = json.loads((own_run / "bundle/manifest.json").read_text())
    assert manifest["points"]["camera"]["alpha"] == selection["alpha"]


def test_several_domains_end_in_one_table_and_each_is_exported(own_run: Path, tmp_path: Path) -> None:
    output = run(
        f"select {own_run} --corruption contrast,brightness --severity 2 --points 3 --refine 0 --greedy "
        f"--json {tmp_path}/s.json"
    )
    header, *rows = output.splitlines()
    assert header.split()[:2] == ["domain", "alpha"]
    assert [row.split()[0] for row in rows[:2]] == ["contrast:2", "brightness:2"]
    stored = json.loads((own_run / "selections.json").read_text())
    written = json.loads((tmp_path / "s.json").read_text())
    assert {name: stored[name]["alpha"] for name in written} == {n: entry["alpha"] for n, entry in written.items()}
    run(f"export {own_run} --alpha best:contrast --alpha best:brightness:2 --no-evaluate")
    points = json.loads((own_run / "bundle/manifest.json").read_text())["points"]
    assert [point["alpha"] for point in points.values()] == [entry["alpha"] for entry in written.values()]


def test_test_images_under_another_name_are_refused(own_run: Path, tmp_path: Path) -> None:
    opened = OpenRun(own_run)
    pixels, labels = opened.data.test.take(np.arange(len(opened.data.test)))
    np.savez(tmp_path / "mine.npz", images=pixels, labels=labels, label_names=opened.labels)
    status, text = fails("select", own_run, "--val-data", f"{tmp_path}/mine.npz")
    assert status == 1
    assert "360 of the 360 images are test images of this run" in text
    for option in ("--corruption fog --val-data", "--calibrate-on"):
        status, text = fails("select", own_run, *option.split(), f"{tmp_path}/mine.npz")
        assert status == 1
        assert "are test images of this run" in text
    run(f"corrupt --data digits --corruption contrast --severity 2 --out {tmp_path}/digits-c")
    copy = f"corrupted:{tmp_path}/digits-c:contrast:2"
    status, text = fails("select", own_run, "--val-data", copy)
    assert status == 1
    assert "holds corrupted test images" in text
    assert "contrast:2" in run(f"evaluate {own_run} --data corrupted:{tmp_path}/digits-c --corruption all --severity 2")


def test_the_clean_images_beside_a_corrupted_copy_are_those_that_it_was_made_of(own_run: Path, tmp_path: Path) -> None:
    run(f"corrupt --data digits --split validation --corruption contrast --severity 1 --out {tmp_path}/digits-c")
    document = json.loads(
        run(f"evaluate {own_run} --data corrupted:{tmp_path}/digits-c --corruption contrast --severity 1 --json -")
    )
    assert document["data"] == "validation"
    assert document["count"] == len(OpenRun(own_run).data.validation)


def test_a_copy_of_images_that_the_run_resized_or_repeated_is_of_its_own_images(tmp_path: Path) -> None:
    bigger = f"--image-size 12 --channels 3 --out {tmp_path}/bigger"
    run(f"train --data digits --arch cresnet8-4 --epochs 1 --batch-size 256 --subspace standard {bigger}")
    made = f"corrupt --data digits --corruption contrast --severity 1 --out {tmp_path}"
    compare = f"evaluate {tmp_path}/bigger --corruption contrast --severity 1 --json - --data corrupted:{tmp_path}"
    for name, more in (("own", ""), ("resized", " --image-size 12"), ("other", " --image-size 10")):
        run(f"{made}/{name}{more}")
        assert json.loads(run(f"{compare}/{name}"))["data"] == "test"
    run(f"{made}/wrong --split validation --data-seed 1")
    message = refusal(f"{compare}/wrong")
    assert "is a copy of other images than this run's validation images" in message


def test_images_that_changed_after_the_choice_are_not_calibrated_on(own_run: Path, tmp_path: Path) -> None:
    opened = OpenRun(own_run)
    pixels, labels = opened.data.validation.take(np.arange(len(opened.data.validation)))
    camera = tmp_path / "camera.npz"
    np.savez(camera, images=pixels, labels=labels, label_names=opened.labels)
    run(f"select {own_run} --val-data {camera} --points 2 --refine 0 --calibrate-on domain --calibration-count 40")
    run(f"export {own_run} --alpha best --no-evaluate")
    points = json.loads((own_run / "bundle/manifest.json").read_text())["points"]
    assert points["best"]["calibration"]["count"] == 40
    np.savez(camera, images=255 - pixels, labels=labels, label_names=opened.labels)
    status, text = fails("export", own_run, "--alpha", "best")
    assert status == 1
    assert "has changed since a place was chosen on it" in text


@pytest.mark.parametrize(("count", "on", "images"), [(50, "domain", "best:choosing half"), (28, "FILE", "FILE")])
def test_select_stores_no_choice_that_export_could_not_check(
    own_run: Path, tmp_path: Path, count: int, on: str, images: str
) -> None:
    opened, file = OpenRun(own_run), f"{tmp_path}/few.npz"
    few = np.concatenate([np.flatnonzero(opened.data.validation.labels == label)[:5] for label in range(10)])[:count]
    pixels, labels = opened.data.validation.take(few)
    np.savez(file, images=pixels, labels=labels, label_names=opened.labels)
    data = file if on == "domain" else "validation"
    words = ["--points", "2", "--refine", "0", "--calibrate-on", on.replace("FILE", file)]
    message = refusal("select", own_run, "--val-data", data, *words, error=CalibrationError)
    left, least = (12, 64) if on == "domain" else (14, 32)
    assert "best: its BatchNorm statistics are checked on 16 images that they were not" in message
    assert f"of the images of {images.replace('FILE', file)} only {left} are left" in message
    assert f"give {least} or more, or leave --calibrate-on out" in message
    assert not (own_run / "selections.json").exists()


def test_export_names_the_point_and_the_images_that_are_too_few_to_check_it(own_run: Path, tmp_path: Path) -> None:
    pixels, labels = OpenRun(own_run).data.validation.take(np.arange(32))
    words = ["export", str(own_run), "--alpha", "left=0.25", "--calibrate-on", f"{tmp_path}/few.npz"]
    words += ["--points-only", "--no-evaluate", "--no-sets"]
    np.savez(tmp_path / "few.npz", images=pixels[:31], labels=labels[:31])
    message = refusal(*words, error=CalibrationError)
    assert message.startswith("left: its BatchNorm statistics are checked on 16 images")
    assert f"of the images of {tmp_path}/few.npz only 15 are left" in message
    assert "give 32 or more, or leave --calibrate-on out" in message
    np.savez(tmp_path / "few.npz", images=pixels, labels=labels)
    run(*words)


@pytest.mark.parametrize("stored_corrupted", [False, True])
def test_images_that_changed_after_a_corruption_of_them_was_chosen_on_are_refused(
    own_run: Path, tmp_path: Path, stored_corrupted: bool
) -> None:
    opened = OpenRun(own_run)
    pixels, labels = opened.data.validation.take(np.arange(len(opened.data.validation)))
    if stored_corrupted:
        run(f"corrupt --data digits --split validation --corruption contrast --severity 3 --out {tmp_path}/dull")
        spec, file = f"corrupted:{tmp_path}/dull", tmp_path / "dull/contrast.npy"
        pixels = np.load(file)
    else:
        spec = file = tmp_path / "camera.npz"

    def write(images: np.ndarray) -> None:
        if stored_corrupted:
            np.save(file, images)
        else:
            np.savez(file, images=images, labels=labels, label_names=opened.labels)

    write(pixels)
    run(f"select {own_run} --val-data {spec} --corruption contrast --severity 3 --points 2 --refine 0")
    export = ["export", str(own_run), "--alpha", "best:contrast:3", "--temperature", "--points-only", "--no-evaluate"]
    run(*export)
    write(255 - pixels)
    assert "has changed since a place was chosen on it" in refusal(*export)
    # Earlier selections recorded no fingerprint of corrupted images.
    stored = json.loads((own_run / "selections.json").read_text())
    assert len(stored["contrast:3"]["domain"].pop("fingerprint")) == 64
    (own_run / "selections.json").write_text(json.dumps(stored))
    run(*export)


def test_on_a_run_that_is_trained_nothing_is_chosen(own_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selections, "_PATIENCE_SECONDS", 0.0)
    with RunFolder(own_run).held():
        status, message = fails(f"select {own_run}")
    assert (status, message) == (1, f"Error: another process trains or changes {own_run}; try again when it is done\n")


def test_a_selected_ensemble_is_evaluated_with_its_weights(own_run: Path) -> None:
    store_selections(
        own_run,
        {"both": {"members": [0.0, 1.0], "weights": [0.9, 0.1], "aggregate": "logits"}},
        OpenRun(own_run).checkpoint_sha256,
    )
    document = json.loads(run(f"evaluate {own_run} --alpha best:both --json -"))
    opened = OpenRun(own_run)
    first, second = (
        predict_logits(as_module(opened.subspace, alpha, opened.calibration), opened.data.test, opened.preprocessing)
        for alpha in (0.0, 1.0)
    )
    expected = classification_metrics(softmax(0.9 * first + 0.1 * second), opened.data.test.labels)
    assert document["ensembles"]["both"]["metrics"] == pytest.approx(expected, abs=1e-5)


def test_a_point_calibrated_on_its_domain_is_exported_so(own_run: Path) -> None:
    run(f"select {own_run} --corruption brightness --points 2 --refine 0 --calibrate-on domain --name bright")
    run(f"export {own_run} --alpha midpoint --alpha best:bright --no-evaluate")
    points = json.loads((own_run / "bundle/manifest.json").read_text())["points"]
    assert points["midpoint"]["calibration"]["data"] == "digits:train"
    assert "choosing half" in points["bright"]["calibration"]["data"]


@pytest.mark.parametrize(("name", "spec"), [("best", "best"), ("fog:3", "best:fog"), ("fog:3", "point=best:fog-3")])
def test_evaluate_says_where_a_place_was_chosen_with_other_statistics(own_run: Path, name: str, spec: str) -> None:
    chosen = {"members": [0.2, 0.8], "domain": {"data": "validation"}, "seed": 0, "calibration": {"on": "domain"}}
    store_selections(own_run, {name: chosen}, OpenRun(own_run).checkpoint_sha256)
    result = completed("evaluate", own_run, "--alpha", spec, "--calibration-count", 64)
    assert result.stderr.count("was chosen with BatchNorm from") == 1
    assert f"{name} was chosen with BatchNorm from domain, as export writes it" in result.stderr
    assert "here it is evaluated with training images" in result.stderr


def test_corruptions_are_evaluated_beside_a_baseline_and_drawn(
    line_run: Path, standard_run: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    output = run(
        f"evaluate {line_run} --points 2 --corruption contrast --severity 1 --severity 5 --baseline {standard_run} "
        f"--plot {tmp_path}/line.png --json {report}"
    )
    document = json.loads(report.read_text())
    assert [entry["severity"] for entry in document["corruptions"]] == [1, 5]
    clean, worst = document["baseline"]["accuracy"], document["corruptions"][1]["baseline"]
    assert worst["relative_change"] == pytest.approx((worst["metrics"]["accuracy"] - clean) / clean)
    assert "Mean corruption error" in output
    assert "contrast:5" in output
    pictures = {"line.png", "line-corruptions.png", "line-relative-change.png", "report.json"}
    assert {file.name for file in tmp_path.iterdir()} == pictures


def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    run(f"{TRAIN} --out {tmp_path}/run")
    (tmp_path / "run/resume.pt").unlink()
    assert "epoch   2" in run(f"train --resume {tmp_path}/run")


@pytest.mark.parametrize("command", list(cli.list_commands(click.Context(cli))))
def test_every_command_explains_itself(command: str) -> None:
    assert len(run(f"{command} --help").splitlines()) > 5
    assert command in run("--help")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("evaluate absent", "no checkpoint at absent.*subspace-serve train"),
        ("export RUN --alpha 1.5", r"alpha 1.5 lies outside \[0, 1\].*--extrapolate"),
        ("export RUN --alpha 0.2,0.8", "one number"),
        ("export RUN --alpha best:fog", "no selection named 'fog'"),
        ("export RUN --ensemble pair=midpoint,absent", "members midpoint, absent.*the points: midpoint, endpoint-0"),
        ("export RUN --ensemble midpoint=endpoint-0", "given to an ensemble and to something else"),
        ("export RUN --default absent", "'absent' is not in this bundle; choose one of midpoint"),
        ("select RUN --val-data test", "nothing is chosen or fitted on test images"),
        ("select RUN --val-data digits:test", "nothing is chosen or fitted on test images"),
        ("select RUN --val-data train", "were trained on train"),
        ("select absent", "no checkpoint at absent.*subspace-serve train"),
        ("evaluate RUN --calibrate-on test", "nothing is chosen or fitted on test images"),
        ("select RUN --corruption fogg", "no corruption 'fogg'; did you mean fog"),
        ("select RUN --corruption fog,snow --name x", "names one choice and there are 2"),
        ("select RUN --val-data a=validation --val-data a=validation", "two domains have one name"),
        ("select RUN --name a/b", "cannot name a selection"),
        ("evaluate RUN --corruption fog --preset imagnet", "imagenet"),
        ("evaluate RUN --corruption fog --severity 6", "integer from 1 to 5; found 6"),
        ("evaluate RUN --plot x.jpeg", "must end in .png or .svg"),
        ("evaluate RUN --data nowhere", "there is no data set 'nowhere'"),
        ("evaluate RUN --data EMPTY", "EMPTY"),
        ("evaluate RUN --device cuda", "finds no CUDA device"),
        ("evaluate RUN --device xla", "unknown device 'xla'"),
        ("evaluate RUN --device meta", "unknown device 'meta'"),
        ("train --data digitz", "did you mean digits"),
        ("train --arch cresnet21 --out NEW", "cresnet21"),
        ("train --label-noise 2 --out NEW", "label_noise is 2"),
        ("train --out RUN", "already holds a run"),
        ("train --resume NEW", "holds no run to resume"),
        ("verify NEW", "NEW"),
    ],
)
def test_a_users_mistake_is_one_message_and_status_1(
    own_run: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    (tmp_path / "EMPTY").mkdir()
    words = [
        {"RUN": str(own_run), "NEW": f"{tmp_path}/NEW", "EMPTY": f"{tmp_path}/EMPTY"}.get(word, word)
        for word in arguments.split()
    ]
    status, text = fails(*words)
    assert status == 1
    assert "Error: " in text
    assert re.search(message, text), text


@pytest.mark.parametrize(
    "arguments",
    [
        "inspect LOOP",
        "corrupt --corruption fog --out LOOP",
        pytest.param(
            "corrupt --corruption fog --json LOOP",
            marks=pytest.mark.skipif(sys.version_info >= (3, 13), reason="the report takes the link's place there"),
        ),
    ],
)
def test_a_link_to_itself_is_one_message(tmp_path: Path, arguments: str) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    status, text = fails(arguments.replace("LOOP", str(loop)))
    assert status == 1
    assert len(re.findall("^Error: ", text, re.MULTILINE)) == 1
    assert loop.is_symlink()


@pytest.mark.parametrize(
    "arguments",
    ["train --epochs none", "export RUN --input int8", "nothing", "train --preset papers", "train --resume X --beta 2"],
)
def test_wrong_usage_is_status_2(arguments: str) -> None:
    assert fails(arguments)[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train --epochs ten", "--epochs takes a whole number of at least 1; found 'ten'"),
        ("train --epochs 1.5", "--epochs takes a whole number of at least 1; found '1.5'"),
        ("train --epochs 0", "--epochs takes a whole number of at least 1; found '0'"),
        ("train --endpoints 11", "--endpoints takes a whole number from 2 to 10; found '11'"),
        ("train --beta much", "--beta takes a number; found 'much'"),
        ("train --beta nan", "--beta takes a number; found 'nan'"),
        ("train --spread wide", "--spread takes a number; found 'wide'"),
        ("evaluate --severity five", "--severity takes a whole number; found 'five'"),
        ("bench URL --rate 0", "--rate takes a number greater than 0; found '0'"),
        ("bench URL --rate nan", "--rate takes a number greater than 0; found 'nan'"),
    ],
)
def test_an_option_that_takes_a_number_says_so_in_plain_words(words: str, message: str) -> None:
    status, text = fails(words)
    assert (status, text.splitlines()[-1]) == (2, f"Error: {message}")


@pytest.mark.parametrize("command", list(cli.list_commands(click.Context(cli))))
def test_no_option_of_any_command_speaks_of_integer_ranges(command: str) -> None:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    numeric = (click.types.IntParamType, click.types.FloatParamType)
    for option in (part for part in found.params if isinstance(part.type, numeric)):
        with pytest.raises(click.BadParameter) as error:
            option.type_cast_value(click.Context(found), ["x"] if option.multiple else "x")
        assert error.value.format_message().startswith(f"{option.opts[-1]} takes a ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian", "No such command 'trian'. Did you mean train?"),
        ("Export --help", "No such command 'Export'. Did you mean export?"),
        ("fly", "No such command 'fly'."),
    ],
)
def test_a_mistyped_command_is_told_the_nearest(words: str, message: str) -> None:
    status, text = fails(words)
    assert (status, text.splitlines()[-1]) == (2, f"Error: {message}")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "labels"])
def test_damaged_input_is_refused(own_run: Path, tmp_path: Path, damage: str) -> None:
    file = own_run / "subspace.safetensors"
    whole = bytearray(file.read_bytes())
    data = "test"
    if damage == "truncated":
        file.write_bytes(whole[:-100])
    elif damage == "flipped":
        whole[-50] ^= 4
        file.write_bytes(whole)
    else:
        data = f"{tmp_path}/labels.npz"
        np.savez(data, images=np.zeros((20, 8, 8, 1), np.uint8), labels=np.full(20, 12))
    status, text = fails("evaluate", own_run, "--data", data)
    assert status == 1
    expected = {"truncated": "truncated or damaged", "flipped": "was altered", "labels": "classes"}
    assert expected[damage] in text


def test_data_that_changed_since_training_is_refused(own_run: Path) -> None:
    from subspace_serve.space.checkpoint import load_subspace, save_subspace

    trained = load_subspace(own_run)
    data = trained.provenance["data"] | {"fingerprint": "0" * 64}
    changed = Subspace(trained.geometry, trained.architecture, trained.endpoints, trained.provenance | {"data": data})
    save_subspace(changed, own_run)
    status, text = fails("evaluate", own_run)
    assert status == 1
    assert "has changed since" in text


@pytest.mark.parametrize(
    ("command", "target", "message"),
    [
        (
            "inspect",
            "RUN/config.json/report",
            r"cannot be written \(Not a directory: .*config.json\); name a file elsewhere",
        ),
        ("inspect", "/proc/absent/report.json", "cannot be written .*: /proc"),
        ("inspect", "RUN/" + "x" * 300, "File name too long"),
        ("inspect", "RUN", "is a folder; name a file, such as RUN/report.json"),
        ("evaluate", "RUN", "is a folder; name a file, such as RUN/report.json"),
        ("select", "RUN", "is a folder; name a file, such as RUN/report.json"),
    ],
)
def test_a_report_that_could_not_be_written_is_refused_before_the_work(
    own_run: Path, command: str, target: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [command, str(own_run), "--json", target.replace("RUN", str(own_run))]
    before = sorted(own_run.iterdir())
    monkeypatch.setattr(OpenRun, "network", property(lambda run: pytest.fail("the work began")))
    status, text = fails(*words)
    assert status == 1
    assert re.search(message.replace("RUN", re.escape(str(own_run))), text), text
    assert sorted(own_run.iterdir()) == before


def test_a_report_is_written_into_a_folder_that_is_not_there_yet(line_run: Path, tmp_path: Path) -> None:
    run("inspect", line_run, "--json", f"{tmp_path}/new/folder/report.json")
    assert json.loads((tmp_path / "new/folder/report.json").read_text())["geometry"]["name"] == "line"


@pytest.mark.parametrize("command", ["evaluate", "select", "report"])
@pytest.mark.parametrize("option", ["--severity 2", "--preset tiny"])
def test_how_to_corrupt_without_what_to_corrupt_is_wrong_usage(command: str, option: str) -> None:
    result = invoke(command, *option.split())
    assert result.exit_code == 2
    assert f"{option.split()[0]} says how --corruption corrupts; give both" in result.output


def test_a_run_without_a_skeleton_gets_its_own_where_torch_is_installed(line_run: Path, own_run: Path) -> None:
    (own_run / "skeleton.onnx").unlink()
    before = run(f"evaluate {line_run} --points 2 --json -")
    assert run(f"evaluate {own_run} --points 2 --json -") == before
    assert (own_run / "skeleton.onnx").read_bytes() == (line_run / "skeleton.onnx").read_bytes()
