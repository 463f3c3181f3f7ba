"""Settings from flags, variables and a file: who goes first, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, load_settings


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SUBSPACE_SERVE_WROKERS", "2", "did you mean SUBSPACE_SERVE_WORKERS?"),
        ("SUBSPACE_SERVE_WORKERS", "0", "greater than or equal to 1"),
        ("SUBSPACE_SERVE_WORKERS", "two", "valid integer"),
        ("SUBSPACE_SERVE_DEADLINE", "nan", "finite number"),
        ("SUBSPACE_SERVE_DEADLINE", "inf", "finite number"),
        ("SUBSPACE_SERVE_DEVICE", "tpu", "'auto', 'cpu' or 'cuda'"),
        ("SUBSPACE_SERVE_PORT", "70000", "less than or equal to 65535"),
        ("SUBSPACE_SERVE_TOKEN", "", "at least 1 character"),
        ("SUBSPACE_SERVE_TOKEN_FILE", "/nowhere", "cannot be read"),
        ("SUBSPACE_SERVE_ENSEMBLES", "{", "give a table like"),
        ("SUBSPACE_SERVE_ENSEMBLES", '{"pair": {"members": []}}', "pair.members"),
        ("SUBSPACE_SERVE_ENSEMBLES", '{"pair": {"members": ["a"], "weigths": [1]}}', "did you mean weights?"),
        ("SUBSPACE_SERVE_ENSEMBLES", '{"pair": {"members": ["a"], "weights": [-1]}}', "weights.0"),
    ],
)
def test_wrong_variables_are_refused_by_name(variable, value, message):
    with pytest.raises(SettingsError, match=re.escape(message)) as error:
        Settings.from_environment({variable: value})
    assert variable in str(error.value) or "token" in str(error.value)


def test_variables_that_kubernetes_sets_are_none_of_ours():
    kubernetes = {
        "SUBSPACE_SERVE_SERVICE_HOST": "10.0.0.1",
        "SUBSPACE_SERVE_SERVICE_PORT_HTTP": "3000",
        "SUBSPACE_SERVE_PORT": "tcp://10.0.0.1:3000",
        "SUBSPACE_SERVE_PORT_3000_TCP_ADDR": "10.0.0.1",
    }
    own = {"SUBSPACE_SERVE_BUNDLE": "/bundle", "SUBSPACE_SERVE_THREADS": "3", "SUBSPACE_SERVE_DATA": "/data"}
    settings = Settings.from_environment(kubernetes | own | {"HOME": "/root"})
    assert settings == Settings(bundle=Path("/bundle"), threads=3)
    assert settings.port == 3000


def test_threads_are_shared_out():
    assert Settings(threads=3).threads_per_worker == 3
    assert Settings(workers=10**6).threads_per_worker == 1


TOML = """
bundle = "/bundle"
port = 4000
workers = 2
max_body = 1_000_000
default = "pair"
cors_origins = ["https://example.org"]

[ensembles.pair]
members = ["endpoint-0", "endpoint-1"]
weights = [3, 1]
aggregate = "logits"
"""


def test_flags_go_before_variables_and_those_before_the_file(tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text(TOML)
    environment = {"SUBSPACE_SERVE_CONFIG": str(file), "SUBSPACE_SERVE_PORT": "5000", "SUBSPACE_SERVE_QUEUE": "3"}
    settings = load_settings({"queue": 7}, environment)
    assert (settings.queue, settings.port, settings.workers, settings.max_body) == (7, 5000, 2, 1_000_000)
    assert settings.concurrency == Settings().concurrency
    ensemble = settings.ensembles["pair"].as_ensemble()
    assert (ensemble.members, ensemble.weights, ensemble.aggregate) == (("endpoint-0", "endpoint-1"), (3, 1), "logits")
    other = tmp_path / "other.toml"
    other.write_text("port = 4001")
    assert load_settings({}, environment, other).workers == 1


TOKEN, TOKEN_FILE = "SUBSPACE_SERVE_TOKEN", "SUBSPACE_SERVE_TOKEN_FILE"


@pytest.mark.parametrize(
    ("flags", "variables", "text", "token"),
    [
        ({"token_file": "new"}, {TOKEN: "old"}, "", "new"),
        ({"token_file": "new"}, {TOKEN_FILE: "old"}, "token = 'older'", "new"),
        ({}, {TOKEN_FILE: "new"}, "token = 'old'", "new"),
        ({}, {TOKEN: "new"}, "token_file = '/nowhere'", "new"),  # which is not even read
        ({}, {TOKEN_FILE: ""}, "token = 'new'", "new"),
        ({}, {}, "", None),
    ],
)
def test_a_token_and_a_file_with_one_go_before_each_other_as_all_settings_do(
    tmp_path, monkeypatch, flags, variables, text, token
):
    monkeypatch.chdir(tmp_path)
    for name in ("old", "new"):
        (tmp_path / name).write_text(name)
    (tmp_path / "serve.toml").write_text(text)
    settings = load_settings(flags, variables, Path("serve.toml"))
    assert settings.token == token
    # A worker has its parent's variables too.
    assert Settings.from_environment(variables | settings.to_environment()).token == token


@pytest.mark.parametrize(
    ("flags", "variables", "text", "origin"),
    [
        ({"token": "a", "token_file": "b"}, {}, "", "the flags"),
        ({}, {TOKEN: "a", TOKEN_FILE: "b"}, "", "the variables"),
        ({}, {}, "token = 'a'\ntoken_file = 'b'", "serve.toml"),
    ],
)
def test_a_token_and_a_file_with_one_side_by_side_are_refused(tmp_path, flags, variables, text, origin):
    (tmp_path / "serve.toml").write_text(text)
    with pytest.raises(SettingsError, match=f"{origin}: token and token_file are both given"):
        load_settings(flags, variables, tmp_path / "serve.toml")


def test_a_token_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"token is not text in UTF-8"):
        load_settings({"token_file": tmp_path / "token"}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrokers = 2", "wrokers is not a setting; did you mean workers?"),
        ("[ensemble.pair]\nmembers = ['a']", "ensemble is not a setting; did you mean ensembles?"),
        ("workers = 'two'", "workers is 'two': Input should be a valid integer"),
        ("workers = ", "is not TOML"),
        ("[ensembles.pair]\nmember = ['a']", "did you mean members?"),
        ("tls_key = 'key.pem'", "tls_certificate and tls_key belong together"),
        ("drain = 40", "grace (30 s) is shorter than drain (40 s)"),
        ("token = 7", "token is not shown"),
    ],
)
def test_wrong_files_are_refused(tmp_path, text, message):
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(message)):
        load_settings({}, {}, file)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings({}, {}, tmp_path / "absent.toml")


def test_a_child_process_gets_the_same_settings(tmp_path):
    (tmp_path / "token").write_text(" secret\n")
    (tmp_path / "serve.toml").write_text(TOML)
    flags = {"token_file": tmp_path / "token", "models": ("a", "b"), "access_log": False, "batch_delay": 0.25}
    settings = load_settings(flags, {}, tmp_path / "serve.toml")
    assert settings.token == "secret"
    assert "secret" not in repr(settings)
    (tmp_path / "token").write_text("changed")  # not read again
    again = Settings.from_environment(settings.to_environment())
    assert again == settings.model_copy(update={"token_file": None})
    assert Settings().to_environment() == {}
