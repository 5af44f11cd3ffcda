# One command each. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
CODE := operator dev bench tests images

.DEFAULT_GOAL := help
.PHONY: help setup lock fmt lint type test test-unit generate verify images cluster-up cluster-down kubeconfig demo demo-down repo repo-url bench

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; set PYTHON=/path/to/python3" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv" >&2; exit 1; }
	$(VENV)/bin/pip install --quiet --require-hashes -r requirements/dev.txt
	$(VENV)/bin/pip install --quiet --no-deps --editable .
	@touch $@

setup: $(VENV)/.installed ## Make the virtual environment from the lock file

lock: setup ## Pin the dependencies of pyproject.toml anew
	$(PY) dev/lock.py

fmt: setup ## Format the code
	$(VENV)/bin/ruff format $(CODE)
	$(VENV)/bin/ruff check --fix --quiet $(CODE) || true

lint: setup ## Lint, formatting and import contracts
	$(VENV)/bin/ruff check $(CODE)
	$(VENV)/bin/ruff format --check $(CODE)
	$(VENV)/bin/lint-imports --no-cache

type: setup ## Check the types
	$(VENV)/bin/mypy $(CODE)

test-unit: setup ## Unit and property tests: no cluster
	$(VENV)/bin/pytest tests/unit tests/property

test: setup lint type verify ## Everything: unit, property, chart, real cluster (brought up and taken down)
	$(PY) dev/run_tests.py

generate: setup ## Write the generated files: CRDs, their copy in the chart
	$(PY) dev/generate.py

verify: setup ## Fail when a generated file is not what the code generates
	$(PY) dev/generate.py --check

images: ## Build the container images (Docker, else buildah)
	$(PYTHON) dev/images/cli.py build

cluster-up: ## A Kubernetes: the given one, kind, or the local one
	$(PYTHON) dev/cluster/cli.py up

cluster-down: ## Take the local cluster down, nothing left behind
	$(PYTHON) dev/cluster/cli.py down

kubeconfig: ## Print the path of the cluster's kubeconfig
	@$(PYTHON) dev/cluster/cli.py kubeconfig

demo: setup ## From a plain-language request to merged commits
	$(PY) dev/demo/cli.py run

demo-down: ## Remove what the demo installed in the cluster
	$(PYTHON) dev/demo/cli.py down

repo: ## Make a repository on the demo's git server: NAME=x [FROM=dir]
	@$(PYTHON) dev/demo/cli.py repo $(NAME) $(if $(FROM),--from $(FROM))

repo-url: ## Print the URL this machine clones from: NAME=x
	@$(PYTHON) dev/demo/cli.py repo-url $(NAME)

bench: setup ## Measure against peers and limits; one `name = value` line a figure
	$(PY) -m bench
