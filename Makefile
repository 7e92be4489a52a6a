# On a bare machine: `make serve` sets everything up and opens the chat page; `make test` sets everything up and tests.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
PYTEST_OPTIONS ?= -n auto --maxprocesses 4 --dist worksteal
PIP = $(VENV)/bin/pip --disable-pip-version-check --quiet
THOUSAND = $(VENV)/bin/thousand

.PHONY: help serve chat train test lint format browser wheel

help: ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "Installing (a few minutes the first time)"
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

serve: $(VENV)/.installed ## Open the chat page and the endpoint on this machine
	$(THOUSAND) serve --port $(PORT)

chat: $(VENV)/.installed ## Chat in the terminal
	$(THOUSAND) chat

train: $(VENV)/.installed ## Train a release from the data that comes along (about twenty minutes on two cores); NAME=... names it
	$(THOUSAND) train $(if $(NAME),--name $(NAME))

test: $(VENV)/.installed-dev browser ## Run the tests
	@if command -v chromium >/dev/null; then \
		$(VENV)/bin/python -m pytest $(PYTEST_OPTIONS); \
	else \
		echo "No Chromium here: the tests of the page are left out"; \
		$(VENV)/bin/python -m pytest -m "not browser" $(PYTEST_OPTIONS); \
	fi

browser:
	@command -v chromium >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium >/dev/null; \
	} || true

lint: $(VENV)/.installed-dev ## Check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed-dev ## Put the code into the common form
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

wheel: $(VENV)/.installed-dev ## Build the wheel into dist/
	$(VENV)/bin/pip wheel --quiet --no-deps --wheel-dir dist .
