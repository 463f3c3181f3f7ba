"""The files in `deploy/` and the Dockerfile: valid by the published schemas, and at one with the service's settings."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate
import promql_parser
import pytest
import yaml
from bundle_factory import make_bundle
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.app import create_app
from service.endpoints import OPERATIONS
from service.engine import Engine
from service.grpc.health import Health
from service.grpc.methods import Methods
from service.metrics import Metrics
from service.settings import PREFIX, Settings, load_settings

ROOT = Path(__file__).parent.parent
KUBERNETES = ROOT / "deploy" / "kubernetes"
# The oldest that knows every field, and what is new.
VERSIONS = ("1.27", kubernetes_validate.latest_version())
MANIFESTS = ["deployment", "service", "autoscaler", "disruption-budget", "options/autoscaler-held"]
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def read(path: Path | str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / path).read_text())


def check(document: dict[str, Any]) -> None:
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.fixture
def deployment() -> dict[str, Any]:
    return read("kubernetes/deployment.yaml")


@pytest.fixture
def pod(deployment) -> dict[str, Any]:
    return deployment["spec"]["template"]["spec"]


@pytest.fixture
def settings() -> Settings:
    """Return what the pods' file sets, but the token, which is not at hand here."""
    return load_settings({"token": "secret"}, {}, config=KUBERNETES / "config.toml")


# Kubernetes


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_valid(name):
    document = read(f"kubernetes/{name}.yaml")
    check(document)
    document["spec"]["unknown"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        check(document)


def test_the_kustomization_names_what_is_there(pod):
    kustomization = read("kubernetes/kustomization.yaml")
    assert {f"{name}.yaml" for name in MANIFESTS if "/" not in name} == set(kustomization["resources"])
    assert set(kustomization["resources"]) | {"kustomization.yaml", "config.toml", "options"} == {
        entry.name for entry in KUBERNETES.iterdir()
    }
    (generated,) = kustomization["configMapGenerator"]
    assert generated == {"name": pod["volumes"][0]["configMap"]["name"], "files": ["config.toml"]}
    (image,) = kustomization["images"]
    assert image["name"] == pod["containers"][0]["image"]


def test_everything_selects_the_pods(deployment):
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        read("kubernetes/service.yaml")["spec"]["selector"],
        read("kubernetes/disruption-budget.yaml")["spec"]["selector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod_of(deployment)["topologySpreadConstraints"]),
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
    for name in ("autoscaler", "options/autoscaler-held"):
        scaler = read(f"kubernetes/{name}.yaml")
        assert scaler["spec"]["scaleTargetRef"] == target
        assert scaler["spec"]["minReplicas"] > read("kubernetes/disruption-budget.yaml")["spec"]["maxUnavailable"]
    # The autoscaler's number would be overwritten by every `kubectl apply`.
    assert "replicas" not in deployment["spec"]


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    return deployment["spec"]["template"]["spec"]


def test_ports_lead_to_the_server(pod, settings):
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert port == {"name": "http", "containerPort": settings.port}
    (service_port,) = read("kubernetes/service.yaml")["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]
    assert {container[probe]["httpGet"]["port"] for probe in PROBES} == {port["name"]}
    monitor = read("kubernetes/options/service-monitor.yaml")
    assert monitor["spec"]["endpoints"][0]["port"] == service_port["name"]
    labels = read("kubernetes/service.yaml")["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_pods_have_time_to_drain(pod, settings):
    allowed = pod["terminationGracePeriodSeconds"]
    assert allowed > settings.drain + settings.deadline
    assert allowed > settings.grace
    assert settings.grace >= settings.drain + settings.deadline


def test_the_configuration_and_the_token_are_where_the_server_looks(pod):
    (container,) = pod["containers"]
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert container["args"] == ["--config", str(mounts["config"] / "config.toml")]
    file = Path(re.search(r'^token_file = "(.*)"', (KUBERNETES / "config.toml").read_text(), re.M)[1])
    assert file == mounts["token"] / "token"
    # The key of the Secret, in the command that makes it and where Prometheus reads it.
    secret = next(volume["secret"]["secretName"] for volume in pod["volumes"] if volume["name"] == "token")
    assert f"secret generic {secret} --from-literal=token=" in (KUBERNETES / "kustomization.yaml").read_text()
    credentials = read("kubernetes/options/service-monitor.yaml")["spec"]["endpoints"][0]["authorization"][
        "credentials"
    ]
    assert credentials == {"name": secret, "key": file.name}


def test_threads_are_no_more_than_the_pods_cores(pod, settings):
    resources = pod["containers"][0]["resources"]
    assert settings.workers * settings.concurrency * settings.threads == int(resources["limits"]["cpu"])
    assert resources["requests"] == resources["limits"]


def test_the_pods_have_no_rights(pod):
    user = re.search(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert user
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == int(user[1])
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]


def test_the_bundle_may_come_from_a_volume(deployment, settings):
    for operation in read("kubernetes/options/bundle-from-claim.yaml"):
        assert operation["op"] == "add"
        *steps, last = operation["path"].strip("/").split("/")
        place: Any = deployment
        for step in steps:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if last == "-":
            place.append(operation["value"])
        else:
            assert last not in place  # nothing is lost
            place[last] = operation["value"]
    check(deployment)
    (container,) = pod_of(deployment)["containers"]
    (variable,) = container["env"]
    bundle = load_settings({}, {variable["name"]: variable["value"]}).bundle
    mount = container["volumeMounts"][-1]
    assert bundle.parent == Path(mount["mountPath"])
    assert mount["name"] == pod_of(deployment)["volumes"][-1]["name"]


# KServe


@pytest.fixture(scope="module")
def kserve_types() -> dict[str, dict[str, str]]:
    """Return the fields of KServe's published models, with their types, as its own package has them.

    They are read, not imported: the package would import much that has nothing to do with them.
    """
    try:
        distribution = importlib.metadata.distribution("kserve")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package kserve is not installed: pip install --no-deps kserve")
    types = {}
    for file in distribution.files or []:
        if file.parent.name != "models" or not re.match(r"(v1|v1beta1|v1alpha1|knative)_", file.name):
            continue
        for node in ast.parse(Path(str(file.locate())).read_text()).body:
            if isinstance(node, ast.ClassDef):
                tables = {
                    statement.targets[0].id: ast.literal_eval(statement.value)
                    for statement in node.body
                    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
                    and isinstance(statement.value, ast.Dict)
                }  # fmt: skip
                names = tables["attribute_map"]
                types[node.name] = {names[key]: type for key, type in tables["openapi_types"].items()}
    return types


def complaints(value: Any, type: str, types: dict[str, dict[str, str]], place: str) -> Iterator[str]:
    """Compare a value with a type of KServe's; those that are Kubernetes' own are checked elsewhere."""
    simple = {"str": str, "int": int, "bool": bool, "dict(str, str)": dict}
    if type in simple:
        if not isinstance(value, simple[type]):
            yield f"{place} is {value!r}, expected {type}"
    elif match := re.fullmatch(r"list\[(\w+)\]", type):
        for index, item in enumerate(value):
            yield from complaints(item, match[1], types, f"{place}[{index}]")
    elif type in types:
        for key, item in value.items():
            if key not in types[type]:
                yield f"{place}.{key} is no field of {type}"
            else:
                yield from complaints(item, types[type][key], types, f"{place}.{key}")


@pytest.fixture
def inference_services() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((ROOT / "deploy" / "kserve" / "inference-service.yaml").read_text())
    return {document["metadata"]["name"]: document for document in documents}


def test_inference_services_are_as_kserve_has_them(inference_services, kserve_types):
    assert len(inference_services) == 2
    for name, document in inference_services.items():
        assert (document["apiVersion"], document["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
        assert list(complaints(document, "V1beta1InferenceService", kserve_types, name)) == []
        # The rest of the predictor is an ordinary pod's.
        predictor = dict(document["spec"]["predictor"])
        for own in ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "model"):
            predictor.pop(own, None)
        container = {"name": "kserve-container", "image": "triton"}
        if model := document["spec"]["predictor"].get("model"):
            container["resources"] = model["resources"]
        check({
            "apiVersion": "v1", "kind": "Pod", "metadata": document["metadata"],
            "spec": {"containers": [container]} | predictor,
        })  # fmt: skip
        document["spec"]["predictor"]["minReplica"] = 1
        assert list(complaints(document, "V1beta1InferenceService", kserve_types, name)) != []


def test_the_inference_service_is_set_as_the_service_has_it(inference_services):
    predictor = inference_services["subspace-serve"]["spec"]["predictor"]
    (container,) = predictor["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    settings = load_settings({}, environment)
    # Where KServe's storage initializer puts what STORAGE_URI names.
    assert settings.bundle == Path("/mnt/models")
    assert "STORAGE_URI" in environment
    assert settings.concurrency * settings.threads == int(container["resources"]["limits"]["cpu"])
    assert predictor["terminationGracePeriodSeconds"] > max(settings.grace, settings.drain + settings.deadline)
    assert [port["containerPort"] for port in container["ports"]] == [settings.port]
    assert {container[probe]["httpGet"]["port"] for probe in PROBES} == {settings.port}
    annotations = inference_services["subspace-serve"]["metadata"]["annotations"]
    assert int(annotations["prometheus.io/port"]) == settings.port


# What the manifests ask of the service


def test_probes_are_answered_without_the_token(tmp_path, pod, inference_services):
    containers = [*pod["containers"], *inference_services["subspace-serve"]["spec"]["predictor"]["containers"]]
    engine = Engine(Settings(bundle=make_bundle(tmp_path / "bundle"), token="secret"), Metrics())
    client = TestClient(create_app(engine, engine.metrics))
    asked = {probe: {container[probe]["httpGet"]["path"] for container in containers} for probe in PROBES}
    try:
        # While the bundle is loading, only liveness holds.
        assert {client.get(path).status_code for path in asked["livenessProbe"]} == {200}
        assert {client.get(path).status_code for path in asked["readinessProbe"] | asked["startupProbe"]} == {503}
        engine.start().join()
        assert {client.get(path).status_code for path in set().union(*asked.values())} == {200}
        # Scrapes need it.
        path = read("kubernetes/options/service-monitor.yaml")["spec"]["endpoints"][0]["path"]
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200
    finally:
        engine.close()


# The Dockerfile


@pytest.fixture
def dockerfile() -> str:
    """Return its instructions, one a line."""
    return re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text().replace("\\\n", ""), flags=re.M)


def test_the_image_is_set_as_the_service_has_it(dockerfile):
    environment = dict(re.findall(r"(\w+)=(\S+)", re.search(r"^ENV (.*)", dockerfile, re.M)[1]))
    settings = load_settings({}, environment)
    assert re.search(r"^COPY \S+ (\S+)$", dockerfile.partition("AS with-bundle")[2], re.M)[1] == str(settings.bundle)
    assert re.search(r"^EXPOSE (\d+)", dockerfile, re.M)[1] == str(settings.port)
    assert environment["BENTOML_DO_NOT_TRACK"] == "true"  # no other word will do
    assert {Path(environment[name]).parts[1] for name in ("HOME", "BENTOML_HOME")} == {"tmp"}
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)", dockerfile, re.M)[1])
    assert entry == ["subspace-serve", "serve", "--host", "0.0.0.0"]
    assert "STOPSIGNAL SIGTERM" in dockerfile


def test_what_the_image_copies_reaches_the_builder(dockerfile):
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for line in re.findall(r"^COPY (.*)", dockerfile.partition("AS with-bundle")[0], re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            ignored = False
            for rule in rules:
                if fnmatch(source, rule.lstrip("!")):
                    ignored = not rule.startswith("!")
            assert not ignored, f"{source} is not let through by .dockerignore"


def test_every_setting_works_in_the_image(dockerfile):
    """A setting whose refusal asks for one of the package's extras finds it there: nothing can be installed later."""
    asked = set()
    for file in (ROOT / "service").rglob("*.py"):
        asked |= set(re.findall(r"pip install 'subspace-serve\[(\w+)\]'", file.read_text()))
    assert asked == {"grpc", "tracing"}
    assert asked == set(re.search(r"pip install \S+ '/source\[([\w,]+)\]'", dockerfile)[1].split(","))


def test_the_health_check_asks_for_readiness(dockerfile):
    statuses = [200, 503]
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(statuses[len(asked) - 1])
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    _, *arguments = json.loads(re.search(r"^HEALTHCHECK .*CMD (.*)", dockerfile, re.M)[1])
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        environment = os.environ | {PREFIX + "PORT": str(server.server_port)}
        ends = [
            subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False).returncode
            for _ in statuses
        ]
        server.shutdown()
    assert ends == [0, 1]
    assert asked == ["/readyz", "/readyz"]


# Metrics


@pytest.fixture(scope="module")
def samples() -> dict[str, set[str]]:
    """Return the names under which Prometheus stores the service's metrics, and their labels."""
    metrics = Metrics()
    for child in (
        metrics.requests("/predict", "POST", "200"),
        metrics.images("m"),
        metrics.rejections("r"),
        metrics.member_failures("p", "r"),
        metrics.reloads("done"),
    ):
        child.inc()
    for gauge in (metrics.drift_wealth("m"), metrics.drift_alarm("m"), metrics.drift_images("m")):
        gauge.set(1)
    for histogram in (
        metrics.seconds("/predict"), metrics.inference_seconds("p"), metrics.members("m"), metrics.disagreement("m"),
    ):  # fmt: skip
        histogram.observe(1)
    text = metrics.render()[0].decode()
    return {
        sample.name: {*sample.labels, "job", "instance", "namespace", "pod"}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def check_expression(expression: str, samples: dict[str, set[str]]) -> None:
    """Parse a PromQL expression and look up its metrics and their labels in what the service has."""
    parsed = promql_parser.parse(expression)
    selectors, groupings = [], []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.MatrixSelector):
            selectors.append(node.vector_selector)
        elif isinstance(node, promql_parser.VectorSelector):
            selectors.append(node)
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            groupings.append(set(node.modifier.labels))
        return True

    promql_parser.walk(parsed, visit)
    assert selectors, expression
    known: set[str] = set()
    for selector in selectors:
        assert selector.name in samples, f"{selector.name} is not the service's: {expression}"
        assert {matcher.name for matcher in selector.matchers.matchers} <= samples[selector.name], expression
        known |= samples[selector.name]
    for labels in groupings:
        assert labels <= known, expression


def test_a_wrong_expression_is_found(samples):
    check_expression('sum by (route) (rate(subspace_serve_requests_total{status="200"}[5m]))', samples)
    for wrong in (
        "rate(subspace_serve_request_total[5m])",
        'sum(rate(subspace_serve_requests_total{code="200"}[5m]))',
        "sum by (code) (rate(subspace_serve_requests_total[5m]))",
    ):
        with pytest.raises(AssertionError):
            check_expression(wrong, samples)
    with pytest.raises(ValueError, match="paren"):
        check_expression("sum(rate(subspace_serve_requests_total[5m])", samples)


def test_alerts_ask_for_what_there_is(samples):
    names = set()
    for group in read("prometheus/rules.yaml")["groups"]:
        assert group.keys() == {"name", "rules"}
        for rule in group["rules"]:
            assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert rule["annotations"].keys() == {"summary", "description"}
            assert re.fullmatch(r"\d+m", rule.get("for", "0m"))
            check_expression(rule["expr"], samples)
            shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
            by = set(re.split(r",\s*", re.search(r"by \(([^)]*)\)", rule["expr"])[1]))
            assert shown <= by, rule["alert"]
            names.add(rule["alert"])
    assert names == {
        "SubspaceServeErrors", "SubspaceServeSlow", "SubspaceServeQueueFull", "SubspaceServeMemberFailures",
        "SubspaceServeDrift", "SubspaceServeReloadFailed",
    }  # fmt: skip


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())


def test_the_dashboard_asks_for_what_there_is(dashboard, samples):
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    asked = set()
    for panel in dashboard["panels"]:
        assert panel["targets"]
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5m")
            assert set(re.findall(r"\$\{?(\w+)", expression)) <= variables
            check_expression(expression, samples)
            asked |= set(re.findall(r"subspace_serve_\w+", expression))
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in samples}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    # Nothing that is measured is left out.
    assert {name.removesuffix("_total") for name in shown} == {name.removesuffix("_total") for name in families}


def test_alerts_and_the_dashboard_know_probes_and_inference_over_http_and_grpc(dashboard):
    methods = Methods(Engine(Settings(), Metrics()), Health()).by_path()
    over_grpc = {f"grpc:{path.rpartition('/')[2]}": method for path, method in methods.items()}
    over_http = {operation.path: operation for operation in OPERATIONS}
    probes = {route for route, one in {**over_http, **over_grpc}.items() if one.is_probe} | {"/metrics"}
    inference = {route for route, method in over_grpc.items() if method.is_inference}
    inference |= {route for route in over_http if route.startswith("/predict") or route.endswith("/infer")}

    expressions = [rule["expr"] for group in read("prometheus/rules.yaml")["groups"] for rule in group["rules"]]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    patterns = {found for text in expressions for found in re.findall(r'route(=~|!~)"([^"]*)"', text)}
    assert {operator for operator, _ in patterns} == {"=~", "!~"}
    for operator, pattern in patterns:
        matched = {route for route in over_http | over_grpc if re.fullmatch(pattern, route)}
        assert matched == (inference if operator == "=~" else probes), pattern


def test_the_dashboard_is_one_that_grafana_takes(dashboard):
    assert dashboard["schemaVersion"] >= 39
    assert dashboard["uid"] == "subspace-serve"
    assert "id" not in dashboard  # Grafana gives one
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert len({panel["title"] for panel in dashboard["panels"]}) == len(ids)
    taken = set()
    for panel in dashboard["panels"]:
        assert panel["type"] in ("timeseries", "stat", "heatmap")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
        assert all((target["format"] == "heatmap") == (panel["type"] == "heatmap") for target in panel["targets"])
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, f"{panel['title']} lies on another panel"
        taken |= cells
    source, *others = dashboard["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert all(variable["datasource"]["uid"] == "${datasource}" for variable in others)
