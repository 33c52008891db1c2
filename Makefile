# Every target does its own set-up. It takes Python 3.11 or newer with pip, and make.

VENV ?= .venv
WORKERS ?= 2

# Without the cache of compiled modules, every test process compiles all its imports, which takes half of its start.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := $(VENV)/bin/python
CODE := $(wildcard backend migrations tests bench scripts)
FAST := not slow and not browser and not node and not long

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-long check bench-retrieval fmt migrate lock secrets clean environment

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' Makefile

run: environment ## Start DocuTalk; it says where to go. Ctrl-C stops it.
	@$(PYTHON) -m backend.cli serve

test: environment ## Run the tests that take seconds: under five minutes on two cores.
	$(PYTHON) -m pytest -n $(WORKERS) -m "$(FAST)"

test-all: environment ## Run the tests `make test` leaves out: slow, Chromium, Node, other PostgreSQL versions.
	@sh scripts/test_all.sh "$(PYTHON)" "$(WORKERS)" "$(FAST)"

test-long: environment ## Run the endurance tests, and every fast test on the other databases: over half an hour.
	@failed=; \
	$(PYTHON) -m pytest -m long || failed=yes; \
	sh scripts/test_databases.sh "$(PYTHON)" "$(FAST)" || failed=yes; \
	[ -z "$$failed" ]

check: environment ## Check formatting, lint and types; where there is Node, of the page too.
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy $(CODE)
	@sh scripts/check_page.sh

bench-retrieval: environment ## Measure the quality and cost of search; CRANFIELD=DIR adds that collection.
	$(PYTHON) -m bench.retrieval --result bench/retrieval.md

fmt: environment ## Format the code and fix what the linter can.
	$(PYTHON) -m ruff check --fix-only --quiet .
	$(PYTHON) -m ruff format .

migrate: environment ## Bring the database's schema up to date.
	@$(PYTHON) -m backend.cli migrate

lock: ## Compile requirements.txt (needs uv); UPGRADE=--upgrade takes the newest versions that fit together.
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --quiet $(UPGRADE) --output-file requirements.txt

secrets: ## Make the files in secrets/ that docker-compose.yml reads; existing ones are kept.
	@sh scripts/secrets.sh

clean: ## Remove the environment and the tools' caches; data is kept.
	rm -rf .venv node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis docutalk.egg-info
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

environment:
	@sh scripts/setup.sh "$(VENV)"
