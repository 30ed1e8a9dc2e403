# SPDX-License-Identifier: Apache-2.0
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# PYTHON=/path/to/python3 picks the interpreter; without it a working one is searched on the PATH.
PYTHON ?=
WORKERS ?= 2
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 60
MINUTES ?= 30
export UV_PYTHON_DOWNLOADS := never
export PYTHONDONTWRITEBYTECODE :=
# What is built says the time of the last commit, so that building it again gives the same bytes.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --pretty=%ct 2>/dev/null || echo 1580601600)

VENV := .venv
VENV_211 := .venv-2.11
VENV_31 := .venv-3.1
VENV_DISTRIBUTED := .venv-distributed
VENV_BROWSER := .venv-browser
BIN := $(VENV)/bin
EXTRAS := --extra amazon --extra openlineage --extra simulator --extra preview --extra dev
# uv does not read pip's configuration; where only that names a package index, hand it on.
INDEX = UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$(.tools/bin/pip config get global.index-url 2>/dev/null || true)}}"
UV = $(INDEX) .tools/bin/uv
COMPILE = $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url

.PHONY: help setup test lint format demo demo-stop live matrix browser screenshots distributed soak faults bench bench-smoke check-2.11 fuzz catalogue docs build audit lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Make .venv with the locked requirements and this project (the others do it when needed)

.tools/.installed: requirements/uv.txt .ci/find_python
	@python="$$(.ci/find_python 14 "$(PYTHON)")"
	"$$python" -m venv --clear .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/uv.txt
	touch $@

# $(call make_venv,folder,newest Python minor,lock files)
define make_venv
	python="$$(.ci/find_python $(2) "$(PYTHON)")"
	echo "Installing $(firstword $(3)) into $(1)"
	[ -x $(1)/bin/python ] || $(UV) venv --quiet --python "$$python" $(1)
	$(UV) pip sync --quiet --python $(1)/bin/python $(3)
	$(UV) pip install --quiet --python $(1)/bin/python --no-deps --no-build-isolation --editable .
	touch $(1)/.installed
endef
.ONESHELL:

$(VENV)/.installed: .tools/.installed pyproject.toml requirements/airflow-3.3.txt requirements/google-provider-3.3.txt
	@$(call make_venv,$(VENV),14,requirements/airflow-3.3.txt requirements/google-provider-3.3.txt)

$(VENV_211)/.installed: .tools/.installed pyproject.toml requirements/airflow-2.11.txt requirements/google-provider-2.11.txt
	@$(call make_venv,$(VENV_211),12,requirements/airflow-2.11.txt requirements/google-provider-2.11.txt)

$(VENV_31)/.installed: .tools/.installed pyproject.toml requirements/airflow-3.1.txt requirements/google-provider-3.3.txt
	@$(call make_venv,$(VENV_31),13,requirements/airflow-3.1.txt requirements/google-provider-3.3.txt)

$(VENV_DISTRIBUTED)/.installed: .tools/.installed pyproject.toml requirements/airflow-3.3.txt requirements/distributed.txt
	@$(call make_venv,$(VENV_DISTRIBUTED),14,requirements/airflow-3.3.txt requirements/distributed.txt)

$(VENV_BROWSER)/.installed: .tools/.installed pyproject.toml requirements/airflow-3.3.txt requirements/browser.txt
	@$(call make_venv,$(VENV_BROWSER),14,requirements/airflow-3.3.txt requirements/google-provider-3.3.txt requirements/browser.txt)

$(VENV)/.fuzz-installed: $(VENV)/.installed requirements/fuzz.txt
	@mkdir -p .tools/fuzz
	$(UV) pip install --quiet --python $(BIN)/python --target .tools/fuzz --only-binary :all: -r requirements/fuzz.txt
	touch $@

.tools/docs/.installed: $(VENV)/.installed requirements/docs.txt
	@rm -rf .tools/docs
	$(UV) pip install --quiet --python $(BIN)/python --target .tools/docs -r requirements/docs.txt
	touch $@

.tools/security/.installed: $(VENV)/.installed requirements/security.txt
	@[ -x .tools/security/bin/python ] || $(UV) venv --quiet --python $(BIN)/python .tools/security
	$(UV) pip sync --quiet --python .tools/security/bin/python requirements/security.txt
	touch $@

test: lint ## Linters, types, import rules, then the whole fast test suite
	$(BIN)/pytest -n $(WORKERS) -m "not live and not matrix and not browser and not distributed and not bench" $(PYTEST_ARGS)

lint: setup ## ruff, mypy --strict and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	PYTHONPATH=. $(BIN)/lint-imports --no-cache

format: setup ## Let ruff fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

live: setup ## Tests against a real Airflow 3 with scheduler and triggerer as processes
	$(BIN)/pytest -m live $(PYTEST_ARGS)

matrix: setup ## The built wheel on every supported Airflow; print the table and write docs/matrix.inc (ONLY=3.0,3.2: some)
	$(INDEX) $(BIN)/python -m tests.matrix --workers $(WORKERS) $(if $(ONLY),--only $(ONLY))

browser: $(VENV_BROWSER)/.installed ## Connection form, gallery and task panel in a real browser on a real Airflow (root: gets Chromium by apt)
	$(VENV_BROWSER)/bin/python -m tests.browser.chromium
	$(VENV_BROWSER)/bin/pytest -m browser tests/browser $(PYTEST_ARGS)

screenshots: $(VENV_BROWSER)/.installed $(VENV_31)/.installed $(VENV_211)/.installed ## Take the pictures of docs/images again
	$(VENV_BROWSER)/bin/python -m tests.browser.chromium
	$(VENV_BROWSER)/bin/python -m docs.screenshots

distributed: $(VENV_DISTRIBUTED)/.installed ## Celery, Redis, PostgreSQL: mapped tasks and a batch on one account, two kills (SMALL=1: fewer)
	@$(VENV_DISTRIBUTED)/bin/python -m tests.distributed.services
	$(if $(SMALL),DISTRIBUTED_MAPPED=60 DISTRIBUTED_BATCH=120) $(VENV_DISTRIBUTED)/bin/pytest -s -m distributed tests/distributed $(PYTEST_ARGS)

soak: $(VENV_DISTRIBUTED)/.installed ## Everything at once with random faults and kills, then a ledger: make soak MINUTES=30 SEED=7
	@$(VENV_DISTRIBUTED)/bin/python -m tests.distributed.services
	$(VENV_DISTRIBUTED)/bin/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(FOLDER),--folder $(FOLDER))

faults: setup ## Kill, cut and refuse at every step; print the grid and write docs/faults.rst
	$(BIN)/pytest -q -n $(WORKERS) --grid --deselect tests/faults/test_grid.py::TestThePage tests/faults $(PYTEST_ARGS)

bench: setup ## Measure every number of docs/performance.rst against its baseline, in an hour and a half: make bench ROWS=landing
	$(BIN)/python -m benchmarks $(ROWS)

bench-smoke: setup ## See that every benchmark runs, in the small; nothing is written
	$(BIN)/pytest -m bench tests/benchmarks $(PYTEST_ARGS)

check-2.11: $(VENV_211)/.installed ## The test suite on Airflow 2.11
	$(VENV_211)/bin/pytest -n $(WORKERS) -m "not live and not matrix and not browser and not distributed and not bench and not airflow3" $(PYTEST_ARGS)

demo: setup ## Run Airflow and two example Dags (ONCE=1: stop again at the end; BFL_API_KEY set: the real API)
	@$(BIN)/python -m demo $(if $(ONCE),--once)

demo-stop: ## Stop what `make demo` left running
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m demo --stop; else echo "Nothing to stop."; fi

# atheris is published as wheels for Linux on x86-64, up to Python 3.14.
fuzz: setup ## Fuzz the readers of answers, URLs, records and results: make fuzz FUZZ_SECONDS=600
	@if ! $(BIN)/python -c "import platform, sys; sys.exit((sys.platform, platform.machine()) != ('linux', 'x86_64'))"; then
		echo "SKIPPED: atheris, the fuzzer, has no wheel for this machine; its targets run on their seeds in make test"
		exit 0
	fi
	$(MAKE) --no-print-directory $(VENV)/.fuzz-installed
	PYTHONPATH=.tools/fuzz $(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

catalogue: setup ## Rebuild the model catalogue: make catalogue OPENAPI=openapi.json
	@[ -n "$(OPENAPI)" ] || { echo "Name BFL's OpenAPI file: make catalogue OPENAPI=openapi.json" >&2; exit 2; }
	$(BIN)/python -m airflow_provider_bfl.api.catalogue_build "$(OPENAPI)"

docs: .tools/docs/.installed ## Build the docs site into build/docs, from these files alone; a warning is an error
	PYTHONPATH=.tools/docs $(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet \
		-b html -d build/doctrees docs build/docs

build: setup .tools/security/.installed ## Build sdist, wheel and SBOM into dist/, build again and compare, try the wheel
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(INDEX) $(BIN)/python .ci/check_wheel.py dist/*.whl

audit: .tools/security/.installed ## Look the locked requirements up in an advisory database, where one can be reached
	@$(BIN)/python .ci/audit.py requirements/airflow-3.3.txt requirements/airflow-2.11.txt

lock: .tools/.installed ## Recreate the locked requirements
	for tool in uv fuzz security; do $(COMPILE) "requirements/$$tool.in" -o "requirements/$$tool.txt"; done
	for airflow in 3.3 3.2 3.1 3.0 2.11; do
		$(COMPILE) $(EXTRAS) pyproject.toml "requirements/airflow-$$airflow.in" -o "requirements/airflow-$$airflow.txt"
	done
	$(COMPILE) requirements/distributed.in -o requirements/distributed.txt
	$(COMPILE) --constraint requirements/airflow-3.3.txt requirements/docs.in -o requirements/docs.txt
	$(COMPILE) --constraint requirements/airflow-3.3.txt requirements/browser.in -o requirements/browser.txt
	$(COMPILE) --no-deps requirements/google-provider-3.3.in -o requirements/google-provider-3.3.txt
	$(COMPILE) --no-deps requirements/google-provider-2.11.in -o requirements/google-provider-2.11.txt

clean: demo-stop ## Remove everything that the other targets made
	rm -rf .fuzz .tools $(VENV) $(VENV_211) $(VENV_31) $(VENV_DISTRIBUTED) $(VENV_BROWSER) .venv-matrix .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build demo-home dist
