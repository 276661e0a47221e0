# Everything a newcomer needs: `make demo`, `make test`. The environment lives in .venv and is made once.
PYTHON ?= python3
# A plain torch from PyPI brings gigabytes of CUDA on Linux: TORCH_INDEX may name PyTorch's index of CPU wheels.
TORCH_INDEX ?=
# Processes that share the tests out among them; each has a PostgreSQL and a broker of its own. Two more than there are cores, since
# many tests wait for servers.
WORKERS ?= 4
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-long lint docs install lock audit image clean

demo: install
	@$(BIN)/tango demo

# Tests that measure times on a whole stack run alone, one after another, after all others have shared the cores by files, the longest
# first (tests/conftest.py); only their folder is looked through for them.
# `pytest` without options runs the same tests in one process.
test: install
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m 'not alone'
	$(BIN)/pytest -m alone tests/integration

# All of that with ten times as many examples of every property, and the digests of whole runs, and pages in a browser (Chromium).
test-long: export LONG_TESTS = 1
test-long: test

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff check --preview --select PLW1514 models tango tasks workers
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(STAMP)

# The documentation as a site, which needs no server: open build/docs/index.html.
docs: install
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

# Nothing is installed without a hash but torch, whose builds differ by index: what torch needs is in requirements.txt, so that
# the second line brings torch alone (and, from an index of CUDA builds, its CUDA libraries).
$(STAMP): setup.cfg requirements.txt requirements-torch.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Tango needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.txt
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) --requirement requirements-torch.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Writes requirements.txt anew from setup.cfg. Releases stay as they are where setup.cfg still allows them; UPGRADE=1 takes the newest.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet uv==0.13.9
	build/lock/bin/uv pip compile --quiet setup.cfg --extra test --extra docs --universal --python-version 3.11 --generate-hashes \
		--constraint requirements-torch.txt --no-emit-package torch $(if $(UPGRADE),--upgrade) \
		--custom-compile-command "make lock" --output-file requirements.txt
	build/lock/bin/uv pip compile --quiet deploy/image/tools.in --universal --python-version 3.11 --generate-hashes --no-header \
		$(if $(UPGRADE),--upgrade) --output-file deploy/image/tools.txt

# Asks the Python Packaging Advisory Database, over the network, of every release that is locked.
audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit
	build/audit/bin/pip-audit --require-hashes --requirement requirements.txt

# Both images, with their bills of materials, in build/image; deploy/image/README.md says what it needs.
image:
	deploy/image/build.sh build/image

clean:
	rm -rf $(VENV) build dist *.egg-info
