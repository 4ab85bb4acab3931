# Every target sets `.venv` up when it is missing or older than what it is made from.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.set-up

# `make faults` in its short form; `make faults MINUTES=100 EVENTS=1000000 FAULTS=200 SEED=7 USERS=1000000 OVERLOAD=300`
MINUTES ?= 2
EVENTS ?= 15000
FAULTS ?= 24
SEED ?= 1
USERS ?= 20000
OVERLOAD ?= 8
REPORT ?= build/faults.json

.PHONY: setup demo test field faults bench lint format docs fuzz audit clean

setup: $(STAMP)

# Python's version is checked first: pip would fail at a pinned version before it reads `requires-python`.
$(STAMP): pyproject.toml deploy/constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 10) <= v[:2] <= (3, 13) or sys.exit("$(PYTHON): got Python " \
		"%d.%d, expected 3.10 to 3.13; install one of them and name it: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c deploy/constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/afterclick demo

# One process runs all tests of a file, so that a server that they share is started once. Coverage counts what runs in
# these processes, not what runs in the workers that the integration tests start.
test: lint
	$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

# What ordinary deployments, producers and Redis servers do, and other slow tests: too slow for `make test`. Three
# processes, because most of these tests wait.
field: $(STAMP)
	$(BIN)/pytest -n 3 --dist loadfile -m field tests/field

faults: $(STAMP)
	$(BIN)/pytest -m faults tests/faults --minutes $(MINUTES) --events $(EVENTS) --faults $(FAULTS) --seed $(SEED) \
		--users $(USERS) --overload $(OVERLOAD) --report $(REPORT)

bench: $(STAMP)
	$(BIN)/afterclick bench

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pip check

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Writes the generated tables of deploy/README.md anew: settings and metrics.
docs: $(STAMP)
	$(BIN)/python -m tests.documents

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.run $(RUNS)

# Asks the package index for advisories, so it is no part of lint. It has an environment of its own, and does not audit itself.
audit: $(STAMP)
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/pip install --disable-pip-version-check -q pip-audit==2.10.1
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip -r deploy/constraints.txt

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find streams encoders ranker tests -name __pycache__ -type d -prune -exec rm -rf {} +
