# What people type. Nothing here is needed at run time: the image brings its own.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
IMAGE ?= avatar-setup
SBOM ?= build/$(IMAGE).cdx.json
OUTPUT ?= avatar

.DEFAULT_GOAL := help
.PHONY: help configure test test-slow test-torture test-engine test-kubernetes test-all kubernetes check hygiene image sbom bench torture reference lock clean

help:
	@echo "make configure   configure a deployment into ./$(OUTPUT) with Python alone (ARGS=... for flags)"
	@echo "make test        run the tests that need neither a Docker engine nor minutes"
	@echo "make test-all    run every test; says which ones were left out if there is no Docker engine"
	@echo "make kubernetes  run the base for Kubernetes on a cluster (KUBECONFIG=FILE says which)"
	@echo "make check       lint, types and formatting"
	@echo "make hygiene     lint Dockerfiles and shell scripts, look for weak code and for known advisories"
	@echo "make image       build the image $(IMAGE)"
	@echo "make sbom        build it, and write its bill of materials (CycloneDX) to $(SBOM)"
	@echo "make bench       measure size, speed and memory, as ratios of one run"
	@echo "make torture     try the promises at every point (an hour; LAYERS='kills races' for some, LAYERS=--sample)"
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

# Every test belongs to one of these five parts; .ci/run runs each of them.
test: PART = not docker and not torture and not terminal and not slow and not kubernetes
test-slow: PART = (terminal or slow) and not docker and not torture and not kubernetes
test-torture: PART = torture and not docker and not kubernetes
test-engine: PART = docker and not kubernetes
test-kubernetes: PART = kubernetes

test test-slow test-torture test-engine test-kubernetes: $(VENV)-dev/dev.stamp
	$(VENV)-dev/bin/python -m pytest -m "$(PART)" $(ARGS)

# Any cluster that you have; a namespace is made in it, and removed. docs/internals/proof.md names what may be set.
kubernetes: test-kubernetes

test-all: $(VENV)-dev/dev.stamp
	$(VENV)-dev/bin/python -m pytest $(ARGS)

check: $(VENV)-dev/dev.stamp
	$(VENV)-dev/bin/ruff check .
	$(VENV)-dev/bin/ruff format --check .
	$(VENV)-dev/bin/mypy

# Wants shellcheck (Debian has it); the other tools come with the development environment.
hygiene: $(VENV)-dev/dev.stamp
	$(VENV)-dev/bin/hadolint Dockerfile tests/standins/Dockerfile
	shellcheck $$(git grep -lE '^#!/.*sh$$' -- ':!*.py' ':!*.md')
	$(VENV)-dev/bin/bandit --quiet -c pyproject.toml -r setup
	$(VENV)-dev/bin/python .ci/audit.py

image:
	docker build -t $(IMAGE) .

sbom: image $(VENV)-dev/dev.stamp
	@mkdir -p $(dir $(SBOM))
	$(VENV)-dev/bin/python .ci/sbom.py $(IMAGE) > $(SBOM)

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
