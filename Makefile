# Every target sets `.venv` up when it is missing or older than what it is made from.
PYTHON ?= python3
BIN := .venv/bin
STAMP_DEMO := .venv/.set-up-demo
STAMP := .venv/.set-up
PIP := $(BIN)/pip install -qq --disable-pip-version-check

# PyTorch for CPUs. PyPI's for Linux on x86 brings CUDA's libraries, several GB. With a GPU:
# `make setup TORCH_INDEX=https://pypi.org/simple`, or the index of a CUDA version at pytorch.org.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# `make field FIELD=tests/field/test_http.py` runs the tests of one file.
FIELD ?= tests/field

# `make faults` in its short form; `make faults MINUTES=100 EVENTS=1000000 FAULTS=200 SEED=7 USERS=1000000 OVERLOAD=300`
MINUTES ?= 2
EVENTS ?= 15000
FAULTS ?= 24
SEED ?= 1
USERS ?= 20000
OVERLOAD ?= 8
REPORT ?= build/faults.json

.PHONY: setup demo test coverage field faults bench lint format docs picture fuzz audit image-check clean

setup: $(STAMP)

# What the demo needs. Python's version is checked first: pip would fail at a pinned version before it reads
# `requires-python`.
$(STAMP_DEMO): pyproject.toml deploy/constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 10) <= v[:2] <= (3, 13) or sys.exit("$(PYTHON): got Python " \
		"%d.%d, expected 3.10 to 3.13; install one of them and name it: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" % v[:2])'
	@echo "set-up: what the demo needs goes into .venv: 1.6 GB, half of it PyTorch for CPUs; this takes minutes"
	@$(PYTHON) -m venv .venv
	@$(PIP) --no-deps --retries 1 --timeout 20 --index-url $(TORCH_INDEX) -c deploy/constraints.txt torch 2>/dev/null || \
		echo "set-up: got no PyTorch from $(TORCH_INDEX), so it comes from your package index: several GB more if it is CUDA's"
	@$(PIP) -c deploy/constraints.txt -e '.[demo]'
	@touch $@
	@echo "set-up: done, $$(du -sm .venv | cut -f1) MB in .venv"

# What the linters and the tests need beside it.
$(STAMP): $(STAMP_DEMO)
	@echo "set-up: what the linters and tests need goes into .venv: 0.8 GB more"
	@$(PIP) -c deploy/constraints.txt -e '.[dev]'
	@touch $@
	@echo "set-up: done, $$(du -sm .venv | cut -f1) MB in .venv"

# On the live page where there is a desktop to open it, else in the terminal.
demo: $(STAMP_DEMO)
	@$(BIN)/afterclick demo $(if $(DISPLAY)$(WAYLAND_DISPLAY),--web)

# One process runs all tests of a file, so that a server that they share is started once.
test: lint
	$(BIN)/pytest -n 2 --dist loadfile

# The same tests, half as long again: Python's code takes twice its time. Coverage counts what runs in these processes,
# not what runs in the workers that the integration tests start.
coverage: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

# What ordinary deployments, producers and Redis servers do, and other slow tests: too slow for `make test`. Three
# processes, because most of these tests wait.
field: $(STAMP)
	$(BIN)/pytest -n 3 --dist loadfile -m field $(FIELD)

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

# Writes anew what is generated from the code: the tables of sizing, settings and metrics in deploy/README.md, deploy/schemas/.
docs: $(STAMP)
	$(BIN)/python -m tests.documents

# Takes the picture of the live page for README.md anew. Needs chromium, and a machine with nothing else to do.
picture: $(STAMP)
	$(BIN)/python -m tests.live_page

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.run $(RUNS)

# Asks the package index for advisories, so it is no part of lint. It has an environment of its own, and does not audit itself.
audit: $(STAMP)
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/pip install --disable-pip-version-check -q pip-audit==2.10.1
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip -r deploy/constraints.txt

# Runs the commands of deploy/Dockerfile in a folder, without a container engine, and a worker from what they install.
image-check: $(STAMP)
	$(BIN)/python -m tests.image_check $(FOLDER)

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find streams encoders ranker tests -name __pycache__ -type d -prune -exec rm -rf {} +
