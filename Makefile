# `make` lists what there is. Everything runs in .venv, which the first command that
# needs it makes: Python 3.11 or 3.12 is all that must be there.

VENV := .venv/bin/python

export PYTHON

.DEFAULT_GOAL := help
.PHONY: help up test build check format bench clean runtime dev

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

up: runtime ## Open WebUI with the suite and the demo agent; Ctrl-C ends it
	@exec $(VENV) -m devkit up

test: dev ## the build check, then unit, contract and end-to-end tests
	@$(VENV) -m devkit build --check
	@$(VENV) -m devkit programs
	@exec $(VENV) -m pytest tests/unit tests/contract tests/e2e

build: dev ## build the functions into dist/
	@exec $(VENV) -m devkit build

check: dev ## ruff, black, mypy and the build check
	@$(VENV) -m ruff check .
	@$(VENV) -m black --quiet --check .
	@$(VENV) -m mypy
	@exec $(VENV) -m devkit check

format: dev ## let ruff and black rewrite what they can
	@$(VENV) -m ruff check --fix .
	@exec $(VENV) -m black --quiet .

bench: dev ## measure speed and memory; ONLY=toolcalls chooses by name
	@exec $(VENV) -m benchmarks $(ONLY)

clean: ## remove .venv, .agents and caches; .data/ with its chats stays
	rm -rf .venv .agents .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Any Python may run the bootstrap: it finds one that fits, or says what is missing.
runtime dev:
	@any=$$(command -v python3 || command -v python3.12 || command -v python3.11 \
		|| command -v "$$PYTHON") \
		|| { echo "error: Python 3.11 or 3.12 is needed; there is no python3." >&2; exit 1; }; \
	exec $$any -m devkit.bootstrap $(if $(filter dev,$@),--dev)
