# `make demo` and `make test` set up .venv on a fresh machine with Python 3.10 or newer; nothing else is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Test files run beside each other, each in one worker.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: messages demo test test-fast stress check setup clean

setup: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	# Frost's photographs, and what the corruptions are tested against (it names an OpenCV that wants a display);
	# and the models of KServe's resources, without the servers that come with them.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps imagecorruptions-imaug kserve
	touch $@

demo: $(READY)
	$(BIN)/subspace-serve demo

test: $(READY) check
	$(PYTEST) -m "not alone" --durations 10
	$(BIN)/python -m pytest -m alone

# What a change most likely breaks, while writing it.
test-fast: $(READY)
	$(PYTEST) -m "not slow"

# The service under everything that it must withstand, for some minutes; `make test` runs a short form.
stress: $(READY)
	STRESS=long $(BIN)/python -m pytest tests/stress -q -s
	FUZZ_EXAMPLES=100 $(BIN)/python -m pytest tests/test_openapi_fuzz.py -q

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The compiled form of the protocol's messages, after a change of their definition.
messages: $(READY)
	$(BIN)/python -m grpc_tools.protoc -I service/grpc --descriptor_set_out=service/grpc/open_inference.binpb open_inference.proto

clean:
	rm -rf $(VENV) runs .mypy_cache .pytest_cache .ruff_cache
