PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
# What the environment was made from; it is made anew only when this changes
NEEDS  := cat pyproject.toml constraints.txt

.PHONY: demo test install clean

demo: install   ## train, export and benchmark a small net on the built-in pictures
	@PATH="$(CURDIR)/$(BIN):$$PATH" ./demo.sh

test: install   ## the whole test suite
	$(BIN)/python -m pytest

install:        ## a virtual environment with everything the project needs
	@if $(NEEDS) | cmp -s - $(VENV)/made-from; then echo "Using the environment in $(VENV)"; else \
		echo "Making an environment in $(VENV) (a few minutes)" && \
		$(PYTHON) -m venv --clear $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off -c constraints.txt -e ".[test]" && \
		$(NEEDS) > $(VENV)/made-from; \
	fi

clean:          ## remove the environment and what runs left here
	rm -rf $(VENV) runs exported results cells build *.egg-info
