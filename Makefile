PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
# What the environment was made from; it is made again only when this changes
NEEDS  := cat pyproject.toml constraints.txt

# The same of the environment with a Triton server, which exists for Linux on x86-64 up to Python 3.13
SERVER := .server
SERVES := cat .ci/server .ci/server.txt
HAS_SERVER := [ "$$(uname -sm)" = "Linux x86_64" ] && $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 14))'

.PHONY: demo check lint test nightly coverage bench install server clean

demo: install   ## train, export and benchmark a small net on the built-in images
	@PATH="$(CURDIR)/$(BIN):$$PATH" ./demo.sh

check: lint     ## lint, types and the fast tests: before every commit
	$(BIN)/python -m pytest -n 2 -m "not slow and not browser and not gpu"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install server  ## the test suite, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile

nightly: install  ## the long tests that the nightly job runs besides
	$(BIN)/python -m pytest -n 2 --dist loadfile -m nightly

coverage: install server  ## the same, and which lines no test runs; takes longer
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report term:skip-covered

bench: install  ## the short set of benchmarks; tables and plots go to results/bench
	$(BIN)/python benchmarks/train_step.py --archs A --rounds 3 --out results/bench
	$(BIN)/python benchmarks/against_peers.py --short --out results/bench
	$(BIN)/python benchmarks/scaling.py --short --out results/bench
	$(BIN)/python benchmarks/cpu_fp32.py --sizes 224x224 --batches 1 --rounds 5 --out results/bench

install:        ## a virtual environment with everything the project needs
	@if $(NEEDS) | cmp -s - $(VENV)/made-from; then echo "Using the environment in $(VENV)"; else \
		echo "Making an environment in $(VENV) (a few minutes)" && \
		$(PYTHON) -m venv --clear $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off -c constraints.txt -e ".[test]" && \
		$(NEEDS) > $(VENV)/made-from; \
	fi

server: install ## a Triton server without GPU or Docker, for its tests; elsewhere they are skipped
	@if $(SERVES) | cmp -s - $(SERVER)/made-from; then echo "Using the server in $(SERVER)"; \
	elif $(HAS_SERVER); then \
		echo "Making a Triton server in $(SERVER) (half a minute)"; \
		PYTHON=$(BIN)/python .ci/server $(SERVER) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off -c constraints.txt "tritonclient[grpc,http]" && \
		$(SERVES) > $(SERVER)/made-from || echo "No Triton server could be made: its tests are skipped" >&2; \
	else echo "Triton's server has no wheel for this machine: its tests are skipped" >&2; fi

clean:          ## remove the environment and what runs left here
	rm -rf $(VENV) $(SERVER) runs exported results cells build *.egg-info
