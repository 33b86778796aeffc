# Each target sets up what it needs. `make demo` and `make test` are enough on a fresh Debian 12 machine with Python 3.11 and root.
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Containers set it, and then each of the many processes compiles Airflow and the tests anew: a collection takes 21 s of the
# processor for 7, `import airflow` 5 s for 2.4
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test unit mutants truth fuzz lint docs pictures bench faults chaos cluster cluster-down test-docs test-ui test-upgrade test-versions clean

$(READY): pyproject.toml requirements.txt tests/setup.sh
	sh tests/setup.sh $(VENV)

demo: $(READY)
	sh tests/demo.sh

# Within a minute; those that run a real keeper, service or movie for seconds come with `make test`
unit: $(READY)
	$(PY) -m pytest tests/unit -q -n 4 --dist worksteal -m "not slow"

# Small faults put into cluster, services, rendering, movie and triggers, each held against the unit tests that reach it; ends
# with `N of M mutants caught`. About a quarter of an hour on two cores; MUTANTS="--seed 2 --only cluster/ssh" for others
mutants: $(READY)
	nice $(PY) -m tests.mutants $(MUTANTS)

# The emulator held against four recorded conversations with braynsService 3.10.1 and the 36 pictures that were kept of one of
# them: each picture's likeness in numbers; the last line says `N of M alike`
truth: $(READY)
	$(PY) -m tests.truth

# Hostile input at scale: FUZZ_SECONDS=600 for each fuzzer, HOSTILE_INPUTS=100000, FUZZ_JOBS=(processors)
fuzz: $(READY)
	$(PY) -m tests.fuzz

test: $(READY)
	tests/cluster/cluster.sh packages
	$(PY) -m pytest tests/unit -q -n 4 --dist worksteal
	$(PY) -m pytest tests/system -q --ignore tests/system/test_upgrade.py --ignore tests/system/test_docs.py --ignore tests/system/test_demo.py

# A run of 0.2.0 that waits while Airflow is upgraded, on the test cluster: three minutes, which CI does not have
test-upgrade: $(READY)
	tests/cluster/cluster.sh packages
	$(PY) -m pytest tests/system/test_upgrade.py -q

# `make demo` on a terminal, and every page's commands typed in as a reader would: ten minutes, which CI does not have either; that
# each block is right by Airflow's own parser, and each step of the demo told of, the unit tests see
test-docs: $(READY)
	tests/cluster/cluster.sh packages
	$(PY) -m pytest tests/system/test_demo.py tests/system/test_docs.py -q

# The page in Debian's Chromium, before Airflow's API server, before a whole Airflow with the embedded cluster and before one with
# Slurm, and its routes under the FAB auth manager: a quarter of an hour, which CI does not have. Its pictures go to build/ui
test-ui: $(READY)
	tests/cluster/cluster.sh packages
	sh tests/ui/setup.sh $(VENV)
	$(PY) -m pytest tests/ui -q

lint: $(READY)
	ruff check . && ruff format --check .
	mypy airflow_brayns
	sh tests/lint-shell.sh

docs: $(READY)
	AIRFLOW_HOME=$(CURDIR)/build/airflow $(PY) -m sphinx -q -W -b html docs build/docs
	@echo build/docs/index.html

# The pictures in README.md and docs/
pictures: demo
	sh docs/images/make.sh

bench: $(READY)
	tests/cluster/cluster.sh packages
	$(PY) -m tests.benchmarks

faults: $(READY)
	tests/cluster/cluster.sh packages
	$(PY) -m tests.system.faults

# Kills at random moments of every process while DAG runs go on; part by part, up to 500 of them: CHAOS="--seconds 450 --seed 7"
chaos: $(READY)
	tests/cluster/cluster.sh packages
	$(PY) -m tests.system.chaos $(CHAOS)

cluster: $(READY)
	tests/cluster/cluster.sh up

cluster-down:
	tests/cluster/cluster.sh down

test-versions: $(READY)
	tests/cluster/versions.sh

clean:
	rm -rf $(VENV) build out .mypy_cache .ruff_cache .pytest_cache .hypothesis
