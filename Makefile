# `make help` lists what can be done here; CI runs only these.

PYTHON ?= python3
BIN := .venv/bin

# `make lock LOCK_FLAGS=--upgrade` moves every pin to its newest release; without, pins move only if they must.
LOCK_FLAGS ?=
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --quiet --universal --generate-hashes \
	--python-version 3.11 $(LOCK_FLAGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two targets of one `make -j` must not install into .venv at the same time.
.NOTPARALLEL:
.PHONY: help run test check containers bench screenshots lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/.installed ## Run everything on this machine: http://localhost:8080, Ctrl-C ends it
	@$(BIN)/python -m demo.run

test: .venv/.installed-dev ## Run all tests that need no container
	@$(BIN)/pytest --ignore tests/containers

check: .venv/.installed-dev ## Lint, types, imports and unit tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict services shared demo
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit

containers: .venv/.installed-dev ## Build and run everything in containers, and test it there (needs Docker)
	@$(BIN)/pytest tests/containers
	@$(BIN)/pytest tests/integration --store redis:8.0

bench: .venv/.installed-bench ## Measure beside the design that Ekiden takes the place of (about 5 minutes)
	@$(BIN)/python -m bench

screenshots: .venv/.installed-dev ## Take the pictures in docs/images anew (needs Chromium)
	@$(BIN)/python -m tests.browser.screenshots

lock: ## Recompile requirements/*.txt from the *.in files (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	cd requirements && $(COMPILE) all.in -o all.txt
	@# all.txt holds the releases that work together; the others are pieces of it.
	cd requirements && for name in api sse_gateway llm_worker feedback_worker demo dev bench; do \
		$(COMPILE) -c all.txt $$name.in -o $$name.txt || exit 1; \
	done

clean: ## Remove .venv, logs, caches and what the embedded store holds (.run)
	rm -rf .venv .run logs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than the locks once these are installed, so that later starts need no network.
.venv/.installed: requirements/all.txt
	@$(PYTHON) demo/install.py $^
	@touch $@

.venv/.installed-dev: requirements/all.txt requirements/dev.txt
	@$(PYTHON) demo/install.py $^
	@touch .venv/.installed $@

.venv/.installed-bench: requirements/all.txt requirements/dev.txt requirements/bench.txt
	@$(PYTHON) demo/install.py $^
	@touch .venv/.installed .venv/.installed-dev $@
