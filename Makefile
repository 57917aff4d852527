# What people type. Nothing here is needed at run time: the image brings its own.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
IMAGE ?= avatar-setup
OUTPUT ?= avatar

.DEFAULT_GOAL := help
.PHONY: help configure test check image bench torture reference lock clean

help:
	@echo "make configure   configure a deployment into ./$(OUTPUT) with Python alone (ARGS=... for flags)"
	@echo "make test        run the tests; says which ones wanted Docker where there is none"
	@echo "make check       lint, types and formatting"
	@echo "make image       build the image $(IMAGE)"
	@echo "make bench       measure size, speed and memory, as ratios of one run"
	@echo "make torture     try the promises at every point (an hour; LAYERS=... for some, --sample for few)"
	@echo "make reference   regenerate what derives from the catalogue"
	@echo "make lock        refresh the lock files"

# One environment for running, a second for development: an operator never installs a test tool. The lock files
# are whole, so nothing is resolved: a newer release of what they pin must not make pip look further (--no-deps).
$(VENV)/run.stamp: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.txt
	@touch $@

$(VENV)-dev/dev.stamp: requirements-dev.txt
	$(PYTHON) -m venv $(VENV)-dev
	$(VENV)-dev/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.txt
	@touch $@

configure: $(VENV)/run.stamp
	@mkdir -p $(OUTPUT)
	$(RUN)/python -m setup --output-dir $(OUTPUT) $(ARGS)

test: $(VENV)-dev/dev.stamp
	$(VENV)-dev/bin/python -m pytest $(ARGS)

check: $(VENV)-dev/dev.stamp
	$(VENV)-dev/bin/ruff check .
	$(VENV)-dev/bin/ruff format --check .
	$(VENV)-dev/bin/mypy
	@if command -v shellcheck >/dev/null; then shellcheck entrypoint.sh .ci/run .ci/engine; \
	 else echo "shellcheck is not installed: the shell scripts were not checked"; fi

image:
	docker build -t $(IMAGE) .

bench: $(VENV)-dev/dev.stamp
	$(VENV)-dev/bin/python -m tests.bench $(IMAGE)

torture: $(VENV)-dev/dev.stamp
	$(VENV)-dev/bin/python -m tests.torture $(LAYERS)

reference: $(VENV)-dev/dev.stamp
	$(VENV)-dev/bin/python docs/generate.py

# The index's address stays out of the lock files: each machine has its own.
lock: $(VENV)-dev/dev.stamp
	$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install --quiet pip-tools 'pip<26'
	$(VENV)-lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-header --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --output-file requirements.txt pyproject.toml
	$(VENV)-lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-header --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --allow-unsafe --extra dev --output-file requirements-dev.txt pyproject.toml

clean:
	rm -rf $(VENV) $(VENV)-dev $(VENV)-lock .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
