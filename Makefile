# Two commands are enough: `make bench` runs the main job, `make test` runs the tests.
# `make gate` measures a small sweep and holds it to results/baseline.json.
# `make speed` compares the speed of scoring with lm-eval's, on the task's rows.
# `make gpu` measures on a GPU what only a GPU can settle, and writes docs/gpu.md.
# `make docs` writes the reference pages anew, and the site into build/site.
# PYTHON picks the interpreter of the environment, RESULTS the results directory, ARGS adds flags.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RESULTS ?= results
ARGS ?=

.PHONY: bench test gate speed gpu docs check format languages clean

bench: $(VENV)/installed
	$(BIN)/python -m pytest suites/ --strategy=zeroshot,fewshot,qlora --k=1,3,5 \
		--select=random,bidirectional --seeds=0,1,2 --results-dir=$(RESULTS) $(ARGS)
	@echo "Report: $(abspath $(RESULTS))/report.html"

test: $(VENV)/installed
# In the order of tests/__init__.py, the slow files first: by the number of tests, a worker would
# wait for them.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

gate: $(VENV)/installed
	$(BIN)/python -m pytest suites/ --strategy=zeroshot,fewshot,qlora --k=1,3 --seeds=0,1 --limit=32 \
		--set qlora.max_steps=6 --baseline=results/baseline.json --results-dir=build/gate $(ARGS)

speed: $(VENV)/peers
	$(BIN)/python -m pytest suites/test_speed.py --results-dir=$(RESULTS) $(ARGS)

# What only a GPU can settle, into docs/gpu.md.
gpu: $(VENV)/peers
	$(BIN)/python -m tools.gpu docs/gpu.md

docs: $(VENV)/docs
	$(BIN)/python -m tools.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir build/site
	@echo "Site: $(abspath build/site)/index.html"

check: $(VENV)/installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
# The walls between the rooms: who may import whom.
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: $(VENV)/installed
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# Brings templates/languages/ up to what reports say now; new entries are empty, which is English.
languages: $(VENV)/installed
	mkdir -p build
	$(BIN)/pybabel -q extract -F pyproject.toml -k say -k say_number:2,3 -k sayNumber:2,3 -k listed:2 --add-location=file -o build/reports.pot .
	for po in templates/languages/*.po; do \
		$(BIN)/pybabel -q update --ignore-obsolete --no-fuzzy-matching --ignore-pot-creation-date \
			-w 100 -i build/reports.pot -o $$po -l $$(basename $$po .po | tr - _); done

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/installed: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "adaptbench needs Python 3.10 or later, found " + sys.version.split()[0] + "; name one with: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

$(VENV)/docs: $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[dev,docs]"
	@touch $@

$(VENV)/peers: $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[dev,peers]"
	@touch $@
