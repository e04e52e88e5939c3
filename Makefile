# Every command of the project. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON3 ?= python3
PYTHON := .venv/bin/python
CI ?= false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.venv/requirements.stamp: requirements.txt
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Roundtable needs Python 3.11 or newer. Say which: make PYTHON3=python3.12 ..."; exit 1; }
	@$(PYTHON3) -c 'import ensurepip, venv' || { echo "Python's venv is missing. Type: apt-get install python3-venv"; exit 1; }
	@test -x $(PYTHON) || $(PYTHON3) -m venv .venv
	@echo "Installing the requirements into .venv ..."
	@$(PYTHON) -m pip install -q -r requirements.txt
	@touch $@

.venv/requirements-dev.stamp: requirements-dev.txt .venv/requirements.stamp
	@echo "Installing what the tests need into .venv ..."
	@$(PYTHON) -m pip install -q -r requirements-dev.txt
	@touch $@

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: demo
demo: .venv/requirements.stamp ## set all up and start a run on four local devices (ONCE=1: end with it; BACKEND=docker, swarm)
	@deploy/local/install-debian.sh mosquitto=mosquitto redis-server=redis-server
	@exec $(PYTHON) -m deploy.local.demo $(if $(filter-out 0 false,$(ONCE)),--once) $(if $(BACKEND),--backend $(BACKEND))

.PHONY: base-image
base-image: ## make a base image for packages on a machine that can pull none
	@deploy/local/install-debian.sh debootstrap=debootstrap dockerd=docker.io
	@deploy/base-image/make.sh $(TAG)

.PHONY: serve
serve: .venv/requirements.stamp ## run the platform on this machine, with data in var/
	@deploy/local/install-debian.sh mosquitto=mosquitto redis-server=redis-server
	@exec $(PYTHON) -m deploy.local.serve

.PHONY: test
test: install-test lint ## install what the tests need, then check and test everything
	@$(PYTHON) -m pytest $(ARGS)

.PHONY: bench
bench: install-test ## measure everything against its peers and renew benchmarks/RESULTS.md (ONLY="ingest charts" for some)
	@failed=; for script in $(if $(ONLY),$(ONLY:%=benchmarks/%.py),$$(grep -lE '^TITLE = ' benchmarks/*.py)); do \
		echo "--- $$script"; $(PYTHON) $$script $(ARGS) || failed="$$failed $$script"; \
	done; test -z "$$failed" || { echo "Failed:$$failed"; exit 1; }

.PHONY: install-test
install-test: .venv/requirements-dev.stamp
	@deploy/local/install-debian.sh mosquitto=mosquitto redis-server=redis-server chromium=chromium pg_ctlcluster=postgresql \
		nginx=nginx-core
	@deploy/local/install-debian.sh dockerd=docker.io docker-registry=docker-registry debootstrap=debootstrap \
		iptables=iptables ip=iproute2 || { test "$(CI)" != true && echo "Containers will not be tested."; }

.PHONY: lint
lint: .venv/requirements-dev.stamp ## style, types, templates, import directions, migrations
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@git ls-files 'templates/*.html' 'templates/**/*.html' | xargs .venv/bin/djade --target-version 5.2 --check
	@PYTHONPATH=edge:cli:build-mlops-package .venv/bin/lint-imports --no-cache
	@$(PYTHON) -m mypy
	@cd edge && ../$(PYTHON) -m mypy
	@cd build-mlops-package && ../$(PYTHON) -m mypy
	@$(PYTHON) manage.py makemigrations --check --dry-run
	@ROUNDTABLE_URL=https://roundtable.example $(PYTHON) manage.py check --deploy --fail-level WARNING

.PHONY: screenshots
screenshots: install-test ## renew the pictures of the README and the guide from the running product
	@$(PYTHON) -m deploy.local.screenshots

.PHONY: format
format: .venv/requirements-dev.stamp ## put code and templates into the project's form
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .
	@git ls-files 'templates/*.html' 'templates/**/*.html' | xargs .venv/bin/djade --target-version 5.2

.PHONY: clean
clean: ## remove the virtual environment, caches and everything that runs and demos wrote
	rm -rf .venv var build-mlops-package/dist-package .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
