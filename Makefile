# Two commands on a fresh machine: `make demo` and `make test`. Both need only
# Python 3.11 to 3.13 and make; each sets up .venv from requirements.lock first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find model pipelines schemas tokenizers -name '*.py')

.PHONY: demo play test test-long lint types lock clean setup help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(VENV)/.installed  ## .venv with the locked requirements and this project

demo: $(VENV)/.installed  ## the main job on real input: record, build, verify, look, train
	$(BIN)/python -m gato.pipelines.demo --folder runs/demo

play: $(VENV)/.installed  ## a trained agent acts live, one episode is shown
	$(BIN)/python -m gato.model.play --temperature 0.7

test: $(VENV)/.installed  ## every test that fits CI
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not long"

test-long: $(VENV)/.installed  ## full kill series, large inputs, long training
	$(BIN)/pytest -q -m long

lint: $(VENV)/.locked  ## ruff: format and rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed  ## pyright over the installed package and the tests
	$(BIN)/pyright

lock: $(VENV)/.locked  ## resolve requirements.lock again from setup.py
	$(BIN)/uv pip compile setup.py --extra all --universal --python-version 3.11 \
	    -c constraints.txt --no-annotate --no-header -o requirements.lock --upgrade

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist runs *.egg-info

$(VENV)/.locked: requirements.lock
	@begin=$$(date +%s); \
	$(PYTHON) -m venv $(VENV) && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv && \
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock && \
	echo "installed the locked requirements in $$(( $$(date +%s) - begin )) s"
	@touch $@

# Not editable: tests and checkers then see what a worker would get. `build/` is removed
# first, since setuptools would reuse deleted modules from it.
$(VENV)/.installed: $(VENV)/.locked setup.py pyproject.toml README.md $(SOURCES)
	@rm -rf build
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --reinstall .
	@touch $@
