"""The playground in a real browser, against a real server; numpy knows every number that it must show."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bundle_factory
import numpy as np
import onnx
import pytest
import service_client
from bundle_factory import LABELS, expected_logits, input_of, linear_graph, make_bundle, point_weights, random_images
from image_files import png
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Mount
from threaded_server import listening
from untrained import exported

from service.playground import page as playground_page
from subspace_serve.answers import entropy_of, softmax
from subspace_serve.bundle import Bundle, Onnx, Parity, Source, write_bundle
from subspace_serve.bundle.predict import Predictor
from subspace_serve.files import sha256_of
from subspace_serve.space.geometry import Geometry

pytestmark = pytest.mark.slow

try:
    from playwright import sync_api as playwright
except ImportError:
    playwright = None

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
IMAGES = random_images(2, seed=7)
EVIL = "<img src=x onerror=\"document.title='owned'\">"


@contextlib.contextmanager
def served(bundle: Path, prefix: str = "", **settings) -> Iterator[str]:
    """Serve a bundle on a port of its own; yields the playground's address."""
    with service_client.served(bundle, **settings) as client:
        assert client.get("/readyz").status_code == 200
        app = Starlette(routes=[Mount(prefix, client.app)]) if prefix else client.app
        with listening(app) as url:
            yield f"{url}{prefix}/playground"


@dataclass
class Watched:
    """A page, and what it must not do: errors in its console, and requests outside its origin."""

    page: playwright.Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser():
    if playwright is None:
        pytest.skip("the package playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}")
    playwright.expect.set_options(timeout=10_000)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Return a function that opens the playground and waits until it knows the models."""
    with contextlib.ExitStack() as stack:

        def open_page(address: str, ready: bool = True, before=lambda page: None, **options) -> Watched:
            context = stack.enter_context(browser.new_context(**options))
            context.set_default_timeout(10_000)
            watched = Watched(context.new_page())
            watched.page.on("console", lambda message: message.type == "error" and watched.errors.append(message.text))
            watched.page.on("pageerror", lambda error: watched.errors.append(str(error)))
            watched.page.on("request", lambda request: watched.requests.append(request.url))
            before(watched.page)
            watched.page.goto(address)
            if ready:
                watched.page.wait_for_selector("#main:not([hidden])")
            return watched

        yield open_page


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    bundle = make_bundle(
        tmp_path_factory.mktemp("playground") / "bundle", temperatures={"endpoint-1": 2.0, "endpoints": 0.5}
    )
    with served(bundle) as address:
        yield address


def upload(page, pixels: np.ndarray = IMAGES[0]) -> None:
    page.set_input_files("#file", {"name": "image.png", "mimeType": "image/png", "buffer": png(pixels)})


def own(name: str, pixels: np.ndarray = IMAGES[0], temperature: float = 1.0) -> np.ndarray:
    """Return (classes,) what a point answers."""
    return softmax(expected_logits(name, pixels[None])[0] / temperature)


def expect_probabilities(page, probabilities: np.ndarray, atol: float = 1e-6) -> None:
    """Wait until the bars show these probabilities (classes,), in this order."""
    values = page.locator("#bars .value")
    playwright.expect(values).to_have_text([f"{value * 100:.1f} %" for value in probabilities])
    shown = [float(text) for text in values.evaluate_all("all => all.map(one => one.title)")]
    np.testing.assert_allclose(shown, probabilities, atol=atol)


def expect_measure(page, name: str, value: float) -> None:
    playwright.expect(page.locator(f"#{name} .number")).to_have_text(f"{value:.3f}")


def expect_answered_by(page, text: str) -> None:
    playwright.expect(page.locator("#answered-by")).to_have_text(text)


def test_the_page_is_whole_and_its_policy_names_what_is_in_it():
    body, headers = playground_page()
    text = body.decode()
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    for element, directive in ((style, "style-src"), (script, "script-src")):
        digest = base64.b64encode(hashlib.sha256(element.encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "innerHTML" not in script
    assert not re.search(r"""(src|href)=["'](https?:)?//""", text)


def test_an_upload_shows_what_numpy_expects_and_nothing_leaves_the_origin(opened, address):
    watched = opened(address)
    upload(watched.page)
    expect_probabilities(watched.page, own("midpoint"))
    expect_measure(watched.page, "entropy", entropy_of(own("midpoint")))
    expect_answered_by(watched.page, "midpoint · α 0.5 · temperature 1")
    playwright.expect(watched.page.locator("#best")).to_have_text(LABELS[own("midpoint").argmax()])
    playwright.expect(watched.page.locator("#disagreement")).to_have_text("needs several members")
    playwright.expect(watched.page.locator("#live")).to_contain_text("midpoint · α 0.5 · temperature 1")
    assert watched.errors == []
    origin = address.removesuffix("playground")
    paths = {request.removeprefix(origin) for request in watched.requests if not request.startswith("data:")}
    assert paths == {"playground", "models", "predict_image", "models/midpoint/drift"}
    response = watched.page.request.get(address)
    assert response.headers["content-security-policy"] == playground_page()[1]["content-security-policy"]


def test_the_slider_goes_from_point_to_point_at_the_points_own_temperatures(opened, address):
    watched = opened(address)
    page = watched.page
    upload(page)
    slider = page.get_by_label("Place in the subspace, alpha")
    slider.focus()
    for key, name, alpha, temperature in [
        ("ArrowRight", "endpoint-1", "1", 2.0),
        ("ArrowRight", "endpoint-1", "1", 2.0),
        ("ArrowLeft", "midpoint", "0.5", 1.0),
        ("Home", "endpoint-0", "0", 1.0),
        ("End", "endpoint-1", "1", 2.0),
    ]:
        slider.press(key)
        assert slider.get_attribute("aria-valuetext") == f"alpha {alpha}, {name}"
        expect_probabilities(page, own(name, temperature=temperature))
        playwright.expect(page.locator("#answered-by")).to_contain_text(f"{name} · α {alpha} · temperature")
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 0.55 * box["width"], box["y"] + box["height"] / 2)
    expect_probabilities(page, own("midpoint"))
    chart = page.locator("#chart svg")
    best = np.stack([own("endpoint-0"), own("midpoint"), own("endpoint-1", temperature=2.0)])
    likeliest = best.max(axis=0).argmax()
    said = ", ".join(
        f"{row[likeliest] * 100:.1f} % at {alpha}" for row, alpha in zip(best, ("0", "0.5", "1"), strict=True)
    )
    assert chart.get_attribute("aria-label") == f"Probability of {LABELS[likeliest]} along alpha: {said}"
    assert watched.errors == []


def test_sliding_asks_for_one_answer_and_the_members_only_once(opened, address):
    watched = opened(address)
    page = watched.page
    upload(page)
    page.wait_for_selector("#chart svg")
    expect_probabilities(page, own("midpoint"))
    asked = lambda: sum(request.endswith("/predict_image") for request in watched.requests)  # noqa: E731
    before = asked()
    with page.expect_response("**/predict_image"):
        page.focus("#slider")
        page.keyboard.press("Home")
    expect_probabilities(page, own("endpoint-0"))
    assert asked() == before + 1


def test_ticking_members_changes_the_mixture_and_its_disagreement(opened, address):
    page = opened(address).page
    upload(page)
    page.get_by_label("A mixture").check()
    ends = np.stack([own("endpoint-0"), own("endpoint-1")])
    expect_mixture(page, ends, np.array([0.5, 0.5]))
    expect_answered_by(page, "a mixture of endpoint-0, endpoint-1 · averaging probabilities · temperature 1")
    page.get_by_role("checkbox", name="midpoint").check()
    three = np.stack([own("endpoint-0"), own("midpoint"), own("endpoint-1")])
    expect_mixture(page, three, np.full(3, 1 / 3))
    page.get_by_label("Weight of midpoint").fill("0.5")
    expect_mixture(page, three, np.array([0.4, 0.2, 0.4]))
    rows = page.locator("#member-rows li .says")
    playwright.expect(rows).to_have_count(4)
    for row, member in zip(rows.all()[1:], three, strict=True):
        best = member.argmax()
        playwright.expect(row).to_contain_text(f"{LABELS[best]} {member[best] * 100:.1f} %")
        playwright.expect(row).to_contain_text(f"entropy {entropy_of(member):.3f}")
    page.get_by_label("logits").check()
    logits = np.stack([expected_logits(name, IMAGES[:1])[0] for name in ("endpoint-0", "midpoint", "endpoint-1")])
    expect_probabilities(page, softmax(np.array([0.4, 0.2, 0.4]) @ logits))
    for name in ("endpoint-0", "midpoint", "endpoint-1"):
        page.get_by_role("checkbox", name=name).uncheck()
    playwright.expect(page.locator("#empty")).to_have_text("Tick at least one member, with a weight above 0.")
    assert not page.locator("#answer").is_visible()


def expect_mixture(page, members: np.ndarray, weights: np.ndarray) -> None:
    """Wait for the mixture of members (members, classes) and its two measures."""
    mixture = weights @ members
    expect_probabilities(page, mixture)
    expect_measure(page, "mutual_information", entropy_of(mixture) - weights @ entropy_of(members))
    expect_measure(page, "disagreement", weights @ np.abs(members - mixture).sum(axis=1) / 2)


def test_a_named_ensemble_answers_at_its_own_temperature(opened, address):
    page = opened(address).page
    upload(page)
    page.get_by_label("A model").check()
    mixture = (own("endpoint-0") + own("endpoint-1")) / 2
    expect_probabilities(page, mixture**2 / (mixture**2).sum())
    expect_answered_by(page, "endpoints · averaging probabilities · temperature 0.500")
    page.get_by_label("Model", exact=True).select_option("leaning")
    logits = 0.75 * expected_logits("endpoint-0", IMAGES[:1]) + 0.25 * expected_logits("endpoint-1", IMAGES[:1])
    expect_probabilities(page, softmax(logits)[0])


def test_a_badge_says_whether_the_model_that_answered_has_drifted(opened, tmp_path):
    with served(make_bundle(tmp_path / "bundle"), max_images=200) as address:
        watched = opened(address)
        page, badge = watched.page, watched.page.locator("#drift")
        upload(page)
        playwright.expect(badge).to_have_text(re.compile(r"No sign of drift in \d+ images?"))
        assert "keeps no calibration images" in badge.get_attribute("title")
        address = address.removesuffix("playground")
        images = random_images(90, seed=3)
        for pixels in (*[images] * 4, images // 3, images // 3):
            page.request.post(address + "predict", data={"images": pixels.tolist()})
            # Asked each time, since at most 100 images a second are watched.
            since = page.request.get(address + "models/midpoint/drift").json()["since"]
        upload(page, IMAGES[1])
        playwright.expect(badge).to_contain_text(f"(image {since['image']} of ")
        playwright.expect(badge).to_have_class("badge drifted")
        shown = page.evaluate("time => new Date(time).toLocaleString()", since["time"])
        playwright.expect(badge).to_contain_text(f"Drifted since {shown}")
        page.get_by_label("A mixture").check()
        playwright.expect(page.locator("#answered-by")).to_contain_text("a mixture of")
        playwright.expect(badge).to_be_hidden()
        page.get_by_label("A model").check()
        playwright.expect(badge).to_have_class("badge")
        assert watched.errors == []
    with served(make_bundle(tmp_path / "without"), drift=False) as address:
        page = opened(address).page
        with page.expect_response("**/drift"):
            upload(page)
        expect_answered_by(page, "midpoint · α 0.5 · temperature 1")
        playwright.expect(page.locator("#drift")).to_be_hidden()


def test_everything_can_be_done_by_keyboard(opened, address):
    file = {"name": "image.png", "mimeType": "image/png", "buffer": png(IMAGES[0])}
    watched = opened(address, before=lambda page: page.on("filechooser", lambda chooser: chooser.set_files(file)))
    page = watched.page

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"Tab never comes to {selector}")

    tab_to("#file")
    page.keyboard.press("Enter")
    expect_probabilities(page, own("midpoint"))
    tab_to("[name=mode]")
    tab_to("#slider")
    page.keyboard.press("ArrowLeft")
    expect_probabilities(page, own("endpoint-0"))
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")
    tab_to("#model")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")
    tab_to("#members-list input[value=midpoint]")
    page.keyboard.press("Space")
    tab_to("#members-list [aria-label='Weight of midpoint']")
    page.keyboard.press("Home")
    members = np.stack([own("endpoint-0"), own("midpoint"), own("endpoint-1")])
    expect_mixture(page, members, np.array([0.5, 0, 0.5]))
    tab_to("[name=aggregate]")
    page.keyboard.press("ArrowRight")
    expect_answered_by(page, "a mixture of endpoint-0, midpoint, endpoint-1 · averaging logits · temperature 1")
    page.focus("body")
    tab_to("#samples button")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#caption")).to_contain_text("Example:")
    assert watched.errors == []


def test_a_drawing_is_sent_as_it_stands_on_the_canvas(opened, address):
    page = opened(address).page
    box = page.locator("#canvas").bounding_box()
    with page.expect_request("**/predict_image"):
        page.mouse.move(box["x"] + 20, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 20, box["y"] + box["height"] - 20, steps=4)
        page.mouse.up()
    page.wait_for_selector("#chart svg")
    drawn = page.evaluate("document.getElementById('canvas').toDataURL('image/png').split(',')[1]")
    image = Image.open(io.BytesIO(base64.b64decode(drawn))).convert("RGB")
    pixels = np.asarray(image)
    assert 0 < (pixels != 255).any(axis=2).mean() < 0.5
    small = np.asarray(image.resize((bundle_factory.WIDTH, bundle_factory.HEIGHT), Image.Resampling.BILINEAR))
    expect_probabilities(page, own("midpoint", small))
    page.get_by_role("button", name="Clear").click()
    playwright.expect(page.locator("#empty")).to_be_visible()
    playwright.expect(page.locator("#along")).to_be_hidden()


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_an_image_can_be_pasted_and_dropped(opened, address, kind):
    page = opened(address).page
    page.evaluate(
        """([kind, data]) => {
            const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "some.png", { type: "image/png" }));
            const options = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(kind === "paste"
                ? new ClipboardEvent("paste", { ...options, clipboardData: transfer })
                : new DragEvent("drop", { ...options, dataTransfer: transfer }));
        }""",
        [kind, base64.b64encode(png(IMAGES[1])).decode()],
    )
    expect_probabilities(page, own("midpoint", IMAGES[1]))


def test_an_answer_that_comes_late_is_never_shown(opened, address):
    page = opened(address).page
    held = []
    page.route("**/predict_image", lambda route: held.append(route) if not held else route.continue_())
    upload(page)
    with page.expect_request("**/predict_image"):
        pass
    page.focus("#slider")
    page.keyboard.press("End")
    expect_probabilities(page, own("endpoint-1", temperature=2.0))
    (late,) = held
    with contextlib.suppress(playwright.Error):  # the page has given this request up
        late.continue_()
    upload(page, IMAGES[1])
    expect_probabilities(page, own("endpoint-1", IMAGES[1], temperature=2.0))


def test_what_the_server_refuses_is_said_and_the_answer_goes(opened, address):
    page = opened(address).page
    upload(page)
    expect_probabilities(page, own("midpoint"))
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"})
    notice = page.get_by_role("alert")
    playwright.expect(notice).to_contain_text("images[0]: an image cannot be decoded")
    playwright.expect(page.locator("#empty")).to_have_text("There is no answer.")
    assert not page.locator("#answer").is_visible()
    upload(page)
    expect_probabilities(page, own("midpoint"))
    assert not notice.is_visible()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(opened, address, status):
    page = opened(address).page
    refusals = []

    def refuse_twice(route):
        if len(refusals) < 2:
            refusals.append(status)
            route.fulfill(status=status, headers={"retry-after": "0"}, json={"error": "too many requests are waiting"})
        else:
            route.continue_()

    page.route("**/predict_image", refuse_twice)
    upload(page)
    expect_probabilities(page, own("midpoint"))
    assert len(refusals) == 2
    assert not page.locator("#notice").is_visible()


def test_a_server_that_is_away_can_be_asked_again(opened, address):
    page = opened(address).page
    page.route("**/predict_image", lambda route: route.abort())
    upload(page)
    notice = page.get_by_role("alert")
    playwright.expect(notice).to_contain_text("The server cannot be reached.")
    page.unroute("**/predict_image")
    page.get_by_role("button", name="Try again").click()
    expect_probabilities(page, own("midpoint"))
    assert not notice.is_visible()


def test_a_token_is_asked_for_and_stays_in_memory(opened, tmp_path):
    with served(make_bundle(tmp_path / "bundle"), token="open-sesame") as address:
        page = opened(address, ready=False).page
        field = page.get_by_label("Access token")
        field.fill("wrong")
        field.press("Enter")
        playwright.expect(page.get_by_role("alert")).to_contain_text("token is wrong")
        field.fill("open-sesame")
        field.press("Enter")
        page.wait_for_selector("#main:not([hidden])")
        upload(page)
        expect_probabilities(page, own("midpoint"))
        assert not field.is_visible()
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        page.reload()
        playwright.expect(field).to_be_visible()


def test_behind_a_path_prefix(opened, tmp_path):
    with served(make_bundle(tmp_path / "bundle"), prefix="/models/fashion") as address:
        watched = opened(address)
        upload(watched.page)
        expect_probabilities(watched.page, own("midpoint"))
        assert all("/models/fashion/" in request for request in watched.requests if request.startswith("http"))


def test_labels_stay_text(opened, tmp_path, monkeypatch):
    labels = (EVIL, *LABELS[1:])
    monkeypatch.setattr(bundle_factory, "LABELS", labels)
    with served(make_bundle(tmp_path / "bundle")) as address:
        watched = opened(address)
        page = watched.page
        upload(page)
        page.get_by_label("A mixture").check()
        playwright.expect(page.locator("#bars .name").first).to_have_text(EVIL)
        page.wait_for_selector("#chart svg")
        assert page.locator("main img").count() == 0
        assert page.title() == "Playground · subspace-serve"
        assert watched.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_horizontal_scrolling(opened, address, scheme):
    page = opened(address, viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True).page
    upload(page)
    page.wait_for_selector("#chart svg")
    expect_probabilities(page, own("midpoint"))
    for mode in ("One point", "A model", "A mixture"):
        page.get_by_label(mode).check()
        playwright.expect(page.locator("#answer-card")).to_have_attribute("aria-busy", "false")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        wide = "all => all.filter(one => one.getBoundingClientRect().right > 360).map(one => one.outerHTML)"
        assert page.locator("main *:visible").evaluate_all(wide) == []
    red, green, blue = map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert (red + green + blue > 3 * 128) == (scheme == "light")


def test_motion_is_spared_those_who_do_not_want_it(opened, address):
    duration = "getComputedStyle(document.querySelector('#bars .fill')).transitionDuration"
    for motion, moves in (("reduce", False), ("no-preference", True)):
        page = opened(address, reduced_motion=motion).page
        upload(page)
        expect_probabilities(page, own("midpoint"))
        assert (page.evaluate(duration) != "0s") == moves


@pytest.fixture(scope="module")
def anywhere(whole_bundle):
    """Serve a bundle that holds a line, with the domain `inverted`."""
    with served(whole_bundle) as address:
        yield address


@pytest.fixture(scope="module")
def digit(images):
    """Return one digit's pixels (8, 8)."""
    return images[0, :, :, 0]


def answered(bundle: Path, digit: np.ndarray, alpha, statistics: str = "training") -> np.ndarray:
    """Return (classes,) what the network at a place answers."""
    return service_client.at_place(bundle, digit[None, :, :, None], alpha, statistics)[0]


def test_the_slider_stands_at_any_place(opened, anywhere, whole_bundle, digit):
    watched = opened(anywhere)
    page = watched.page
    upload(page, digit)
    slider = page.get_by_label("Place in the subspace, alpha")
    expect_answered_by(page, "midpoint · α 0.5 · training statistics · temperature 1")
    for key, alpha, said in [
        ("ArrowRight", 0.51, "alpha 0.51"),
        ("End", 1, "alpha 1, endpoint-1"),
        ("ArrowLeft", 0.99, "alpha 0.99"),
    ]:
        slider.press(key)
        assert slider.get_attribute("aria-valuetext") == said
        expect_probabilities(page, answered(whole_bundle, digit, alpha), atol=1e-5)
    expect_answered_by(page, "α 0.99 · training statistics · temperature 1")
    box = page.locator("#chart").bounding_box()
    page.mouse.click(box["x"] + 11 + 0.3 * (box["width"] - 22), box["y"] + 20)
    expect_probabilities(page, answered(whole_bundle, digit, 0.3), atol=1e-5)
    assert watched.errors == []


def test_the_curve_fills_in_from_coarse_to_fine_and_ends(opened, anywhere, whole_bundle, digit):
    watched = opened(anywhere)
    page = watched.page
    asked = []

    def note(route):
        if places := re.findall(rb'name="members"\r\n\r\n(.*)\r\n', route.request.post_data_buffer):
            asked.append(places)
        route.continue_()

    page.route("**/predict_image", note)
    upload(page, digit)
    dots = page.locator("#chart circle.c0")
    playwright.expect(dots).to_have_count(37)
    assert asked[0] == [b"midpoint", b"endpoint-0", b"endpoint-1"]
    assert asked[1] == [b"0.12", b"0.25", b"0.75", b"0.37"]
    assert len(asked) == 10
    before = len(watched.requests)
    page.wait_for_timeout(1000)
    assert len(watched.requests) == before
    said = page.locator("#chart svg").get_attribute("aria-label")
    index, at = re.match(r"Probability of (\d) along alpha: .* % at 0, .* % at ([0-9.]+),", said).groups()
    probability = answered(whole_bundle, digit, float(at))[int(index)]
    assert f", {probability * 100:.1f} % at {at}, " in said
    assert watched.errors == []


def test_sliding_has_one_request_under_way_and_the_last_place_wins(opened, anywhere, whole_bundle, digit):
    page = opened(anywhere).page
    upload(page, digit)
    expect_probabilities(page, answered(whole_bundle, digit, 0.5), atol=1e-5)
    asked, held = [], []

    def hold(route):
        alpha = re.findall(rb'name="alpha"\r\n\r\n(.*)\r\n', route.request.post_data_buffer)
        asked.extend(alpha)
        if held or not alpha:
            route.continue_()
        else:
            held.append(route)

    page.route("**/predict_image", hold)
    # What fills in the curve asks the same address, for members and no alpha.
    with page.expect_request(lambda request: b'name="alpha"' in (request.post_data_buffer or b"")):
        page.press("#slider", "ArrowRight")
    for _ in range(19):
        page.press("#slider", "ArrowRight")
    assert asked == [b"0.51"]
    held[0].fulfill(status=429, headers={"retry-after": "0"}, json={"error": "too many places are asked for"})
    expect_probabilities(page, answered(whole_bundle, digit, 0.7), atol=1e-5)
    assert not page.locator("#notice").is_visible()
    assert set(asked) == {b"0.51", b"0.7"}


def test_a_domains_statistics_answer_everywhere_and_stand_beside_the_trainings(opened, anywhere, whole_bundle, digit):
    watched = opened(anywhere)
    page = watched.page
    upload(page, digit)
    page.press("#slider", "ArrowLeft")
    page.get_by_label("Statistics", exact=True).select_option("inverted")
    both = [answered(whole_bundle, digit, 0.49, statistics) for statistics in ("training", "inverted")]
    expect_probabilities(page, both[1], atol=1e-5)
    expect_answered_by(page, "α 0.49 · inverted statistics · temperature 1")
    columns = page.get_by_role("list", name="With each set of statistics, at α = 0.49 and temperature 1")
    playwright.expect(columns.locator("> li > b")).to_have_text(["training", "inverted"])
    playwright.expect(columns.locator("> li > .hint")).to_have_text([f"entropy {entropy_of(row):.3f}" for row in both])
    playwright.expect(columns.locator(".chosen > b")).to_have_text("inverted")
    likeliest = sorted(range(10), key=lambda index: -max(row[index] for row in both))[:4]
    values = [f"{row[index] * 100:.1f} %" for row in both for index in likeliest]
    playwright.expect(columns.locator(".value")).to_have_text(values)
    page.get_by_label("A model").check()
    ends = [answered(whole_bundle, digit, alpha, "inverted") for alpha in (0.0, 1.0)]
    expect_probabilities(page, np.mean(ends, axis=0), atol=1e-5)
    expect_answered_by(page, "endpoints · inverted statistics · averaging probabilities · temperature 1")
    playwright.expect(page.locator("#member-rows .member-name").nth(1)).to_have_text("α 0 50 %")
    playwright.expect(page.locator("#sets")).to_be_hidden()
    page.get_by_label("A mixture").check()
    playwright.expect(page.locator("#members-list input[type=checkbox]")).to_have_count(3)
    expect_answered_by(page, "a mixture of α 0, α 1 · inverted statistics · averaging probabilities · temperature 1")
    assert watched.errors == []


def with_points(bundle: Path, folder: Path) -> Path:
    """Return a copy of a bundle with points that cannot all have a domain's statistics in one request."""
    copy = Path(shutil.copytree(bundle, folder / "bundle"))
    manifest = json.loads((copy / "manifest.json").read_text())
    points = manifest["points"]
    quality = {"accuracy": 1.0, "ece": 0.0, "nll": 0.0}
    gate = {"data": "digits", "seed": 0, "float32": quality, "reduced": quality, "flips": 0.0, "max_drop": 0.0}
    gate |= {"images": 1, "repeated": 1, "repeated_drop": 0.0}
    reduction = {"of": "midpoint", "left_in_float": {}, "instructions": [], "gate": gate}
    others = {f"tenth-{part}": {"alpha": part / 10} for part in (1, 2, 3, 4, 6, 7, 8, 9)}
    others |= {"twin": {}, "beyond": {"alpha": 1.05}, "half": {"precision": "fp16", "reduction": reduction}}
    for name, other in others.items():
        shutil.copy(copy / "midpoint.onnx", copy / f"{name}.onnx")
        points[name] = points["midpoint"] | {"file": f"{name}.onnx"} | other
    with np.load(copy / "golden.npz") as golden:
        arrays = dict(golden)
    np.savez(copy / "golden.npz", **arrays | {f"logits.{name}": arrays["logits.midpoint"] for name in others})
    manifest["golden"]["sha256"] = sha256_of(copy / "golden.npz")
    (copy / "gate.npz").touch()
    manifest["gate"] = {"file": "gate.npz", "sha256": hashlib.sha256().hexdigest()}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def test_points_of_any_number_place_and_precision_leave_a_domain_its_chart(opened, whole_bundle, digit, tmp_path):
    with served(with_points(whole_bundle, tmp_path), precision_gate="off") as address:
        watched = opened(address)
        page = watched.page
        upload(page, digit)
        page.get_by_label("Statistics", exact=True).select_option("inverted")
        expect_answered_by(page, "inverted · α 0.5 · inverted statistics · temperature 1")
        # Eleven points lie on the line at different places, and three places fill each gap between them.
        playwright.expect(page.locator("#chart circle.c0")).to_have_count(41)
        assert not page.locator("#notice").is_visible()
        assert watched.errors == []


@pytest.fixture(scope="module")
def corners(line_run, tmp_path_factory):
    """Return a bundle that holds a triangle, of which its centre is the one point."""
    return exported(Geometry("simplex", 3), line_run, tmp_path_factory.mktemp("triangle"))[0]


def test_in_a_simplex_the_endpoints_have_weights_that_sum_to_1(opened, corners, digit):
    # A point has statistics of its own place, where the subspace has those between its knots.
    centre = softmax(
        Predictor(Bundle.open(corners), device="cpu", threads=1).logits("midpoint", digit[None, :, :, None])
    )
    with served(corners) as address:
        watched = opened(address)
        page = watched.page
        upload(page, digit)
        expect_probabilities(page, centre[0], atol=1e-5)
        assert not page.locator("#slider").is_visible()
        parts = page.locator("#endpoint-weights .part")
        playwright.expect(parts).to_have_text(["33 %", "33 %", "33 %"])
        page.get_by_label("Endpoint 0").fill("0.5")
        playwright.expect(parts).to_have_text(["50 %", "25 %", "25 %"])
        expect_probabilities(page, answered(corners, digit, (0.5, 0.25, 0.25)), atol=1e-5)
        expect_answered_by(page, "α (0.5, 0.25, 0.25) · training statistics · temperature 1")
        page.get_by_label("Endpoint 1").press("End")
        playwright.expect(parts).to_have_text(["0 %", "100 %", "0 %"])
        page.get_by_label("Endpoint 1").press("ArrowLeft")
        expect_answered_by(page, "α (0.01, 0.99, 0) · training statistics · temperature 1")
        assert not page.get_by_role("radio", name="midpoint").is_checked()
        page.get_by_role("radio", name="midpoint").check()
        expect_probabilities(page, centre[0], atol=1e-5)
        playwright.expect(page.locator("#point-list .stack")).to_have_count(1)
        assert watched.errors == []


def test_points_of_a_simplex_are_chosen_from_a_list(opened, tmp_path):
    names = {"corner": (1.0, 0.0, 0.0), "middle": (0.3, 0.3, 0.4)}
    weights = {"corner": point_weights("endpoint-0"), "middle": point_weights("endpoint-1")}
    with write_bundle(
        tmp_path / "bundle",
        source=Source(checkpoint_sha256="0" * 64, geometry="simplex", architecture={"name": "linear"}),
        input=input_of(),
        labels=LABELS,
        onnx=Onnx(opset=20, exporter="onnx.helper"),
    ) as bundle:
        for name, alpha in names.items():
            onnx.save(linear_graph(weights[name]), bundle.file(name))
            parity = Parity(provider="CPUExecutionProvider", max_abs_diff=0.0, top1_flips=0, tolerance=1e-4)
            bundle.add_point(name, alpha=alpha, coefficients=alpha, calibration=None, parity=parity)
        images = random_images(2)
        bundle.set_golden(
            images,
            {
                "corner": images.reshape(2, -1) / 255 @ weights["corner"],
                "middle": images.reshape(2, -1) / 255 @ weights["middle"],
            },
        )
    with served(tmp_path / "bundle") as address:
        watched = opened(address)
        page = watched.page
        upload(page)
        expect_probabilities(page, own("endpoint-0"))
        assert not page.locator("#slider").is_visible()
        page.get_by_role("radio", name="middle (0.3, 0.3, 0.4)").check()
        expect_probabilities(page, own("endpoint-1"))
        playwright.expect(page.locator("#point-list .stack")).to_have_count(2)
        assert watched.errors == []
