PYTHON ?= python3
UV := .venv/bin/uv
READY := .venv/.ready
UV_VERSION := 0.13.9
COMPILE := $(UV) pip compile -q --universal --python-version 3.11 --no-header --no-annotate
PYTEST := .venv/bin/python -m pytest -q
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile
FFCV_SYSTEM := libopencv-dev libturbojpeg0-dev pkg-config g++

export UV_HTTP_TIMEOUT ?= 300
# every process imports torch: 2 s of CPU with bytecode kept, 4 without
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup services demo test test-all test-rest chaos soak check docs bench bench-cluster reproduce kernels mutants lock clean

help:  ## list the targets (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## create .venv with every package at its locked version

SERVICES := slurm-wlm munge prometheus debootstrap
services:  ## install Slurm, Prometheus and debootstrap for their tests: packages of Debian, as root
	@if dpkg-query -W -f '$${Status}\n' $(SERVICES) 2> /dev/null | grep -c 'ok installed' | grep -qx $(words $(SERVICES)); then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
	  echo "Install these packages of Debian: $(SERVICES)"; exit 0; \
	fi; \
	echo "apt-get install $(SERVICES)"; apt-get -qq update; \
	DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq install -y --no-install-recommends $(SERVICES) < /dev/null > /dev/null \
	  || echo "They could not be installed; their tests are skipped."

demo: $(READY)  ## run the recipe digits from data to report: a few minutes on two cores
	.venv/bin/ungan-dist run digits

test: $(READY)  ## run the tests that need one process each
	$(PYTEST) $(SIDE_BY_SIDE) -m "not (process or ray or bench or chaos)"

test-all: test test-rest  ## run those, then the tests with Ray, several processes, storage, faults and forecasts

# two at once: each Ray cluster has a dozen processes
test-rest: $(READY)
	$(PYTEST) -rs -n auto --maxprocesses 2 --dist loadfile -m "(process or ray or bench) and not chaos"

chaos: $(READY)  ## run faults at full size, half an hour; as root on Linux
	$(PYTEST) -m chaos

DURATION ?= 2h
SEED ?= 0
soak: $(READY)  ## run audits of 2,000 units on four hosts under random faults for DURATION; as root on Linux
	.venv/bin/python benchmarks/soak.py --duration $(DURATION) --seed $(SEED); code=$$?; \
	  [ $$code = 2 ] || .venv/bin/python benchmarks/publish.py && exit $$code

check: $(READY) docs  ## run ruff, basedpyright and import contracts, build the documentation, compile every kernel for sm_80, sm_90 and sm_100
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/basedpyright
	.venv/bin/lint-imports
	.venv/bin/python -m ungan_dist.kernels.compile_check

bench: $(READY)  ## measure this version on an idle machine, and refresh the published tables
	.venv/bin/ungan-dist bench
	.venv/bin/python benchmarks/publish.py

bench-cluster: $(READY)  ## measure the scheduling on the Ray cluster of RAY_ADDRESS
	.venv/bin/ungan-dist bench cluster
	.venv/bin/python benchmarks/publish.py

BUDGET ?= 2h
reproduce: $(READY)  ## run what fits of the paper's Table 1 into BUDGET, such as 2h, and write benchmarks/results/table1.md
	.venv/bin/python benchmarks/reproduce.py --budget $(BUDGET)

docs: $(READY)  ## build the documentation into site/; a broken link, anchor, reference or stale figure is an error
	.venv/bin/python benchmarks/publish.py --check
	.venv/bin/python benchmarks/notebook.py --check
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build

kernels: $(READY)  ## compile the kernels without a GPU, and run their tests in Triton's interpreter
	.venv/bin/python -m ungan_dist.kernels.compile_check
	$(PYTEST) tests/unit/kernels

mutants: $(READY)  ## break each fused kernel in three ways: a test must fail each time, about ten minutes
	.venv/bin/python tests/unit/kernels/run_mutants.py

OLDEST := .venv/oldest
# Their interpreter fails with NumPy 2.4, and with older ones it warns.
check-old-triton: $(READY)  ## compile and test the kernels with the oldest torch and Triton, in a virtual environment of their own: about six minutes
	$(UV) venv -q --allow-existing --python .venv/bin/python $(OLDEST)
	$(UV) pip install -q --python $(OLDEST)/bin/python torch==2.11.0 triton==3.6.0 'numpy<2.4' beartype filelock hypothesis \
	  jaxtyping matplotlib pillow pooch pyarrow pytest pytest-timeout pyyaml rich safetensors scikit-learn scipy typeguard tyro
	PYTHONPATH=. $(OLDEST)/bin/python -m ungan_dist.kernels.compile_check
	PYTHONPATH=. $(OLDEST)/bin/python -m pytest -q -m "not (process or ray or bench or chaos)" \
	  -W "ignore:Conversion of an array with ndim:DeprecationWarning" tests/unit/kernels

lock: $(UV)  ## update the lock files from pyproject.toml, keeping the pins that still fit
	$(COMPILE) --extra dev pyproject.toml -o requirements.lock
	$(COMPILE) --extra ffcv -c requirements.lock pyproject.toml | grep -vxFf requirements.lock > .venv/ffcv.lock
	mv .venv/ffcv.lock requirements-ffcv.lock

clean:  ## remove .venv, site and caches; keep runs
	rm -rf .venv build site *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find cluster kernels tests ungan_dist benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	  echo "ungan_dist needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2> /dev/null || echo missing)."; \
	  echo "Name one with: make setup PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)

$(READY): requirements.lock requirements-ffcv.lock pyproject.toml | $(UV)
	@echo "Installing the locked packages. The first time takes several gigabytes, and prints nothing until it ends."
	$(UV) pip install -q --python .venv/bin/python -r requirements.lock
	$(UV) pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
	@$(MAKE) --no-print-directory .ffcv
	@touch $@

# FFCV is built from source against two system libraries. Nothing needs it: without it data is read from memory.
.PHONY: .ffcv
.ffcv:
	@libraries() { pkg-config --exists opencv4 libturbojpeg 2> /dev/null && command -v g++ > /dev/null; }; \
	if ! libraries && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  echo "apt-get install $(FFCV_SYSTEM)"; \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y $(FFCV_SYSTEM); } \
	    < /dev/null > .venv/apt.log 2>&1 || echo "apt-get failed (.venv/apt.log says why)."; \
	fi; \
	if ! libraries; then \
	  echo "FFCV needs the system packages $(FFCV_SYSTEM) (Debian's names); the run goes on without it."; \
	  echo "To add it later: install them, remove $(READY), and call make setup again."; \
	elif ! $(UV) pip install -q --python .venv/bin/python -r requirements-ffcv.lock > .venv/ffcv.log 2>&1; then \
	  echo "FFCV could not be built (.venv/ffcv.log says why); the run goes on without it."; \
	fi
