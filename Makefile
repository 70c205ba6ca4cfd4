# The project's habits: `make run` and `make test` do all of their own set-up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help run model doctor test check format lint types wire bench clean

help:
	@echo "make run     start the bot; without a token: a first sound, and how to connect Discord"
	@echo "make model   install AudioLDM2's packages and fetch its weights (says sizes and license first)"
	@echo "make doctor  check the installation, from the packages to Discord"
	@echo "make test    run the tests"
	@echo "make check   format, lint, types, tests, wire tests"
	@echo "make bench   run the benchmarks"
	@echo "make clean   remove the virtual environment and caches"

run: $(VENV)/base.stamp
	@$(BIN)/python -m bot

model: $(VENV)/base.stamp
	@$(BIN)/python -m bot.model describe
	@echo "Packages: torch, diffusers and transformers, about 1 GB (5 GB where torch brings CUDA)"
	@$(MAKE) --no-print-directory $(VENV)/model.stamp
	@$(BIN)/python -m bot.model download

doctor: $(VENV)/base.stamp
	@$(BIN)/python -m ambientgen doctor

test: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest -m "not wire" --numprocesses auto --dist loadfile

check: format lint types test wire

format: $(VENV)/dev.stamp
	@$(BIN)/ruff format --check .

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check .

types: $(VENV)/dev.stamp
	@$(BIN)/mypy

# Needs a stand-in for Discord on loopback, in the folder that AMBIENT_DISCORD_STANDIN names.
wire: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest -m wire

bench: $(VENV)/dev.stamp
	@for script in benchmarks/[!_]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "AmbientGen needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11"; exit 1; }
	@echo "making the virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python's venv is missing. On Debian and Ubuntu: apt install python3-venv"; exit 1; }

# The editable install keeps the clone's own code in use, so only a change of the pins runs pip again.
$(VENV)/base.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing the bot's packages ..."
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/model.stamp: $(VENV)/base.stamp
	@echo "installing the model's packages ..."
	@$(PIP) install -c constraints.txt -e '.[audioldm2]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/base.stamp
	@echo "installing the test packages (with torch for the tests' tiny model) ..."
	@$(PIP) install -c constraints.txt -e '.[audioldm2,dev]'
	@touch $@ $(VENV)/model.stamp
