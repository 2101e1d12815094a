# Every command of the project. CI, pre-commit and the pages for contributors call these and no others.
PYTHON ?= python
DIST ?= dist

.PHONY: help setup test lint types contracts pages check-pages build benchmarks rule all

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile

setup:  ## install initlint from this checkout, with all that tests and checks need
	$(PYTHON) -m pip install -e '.[dev]'

test:  ## run the tests
	$(PYTHON) -m pytest

lint:  ## check style and format
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:  ## check types
	$(PYTHON) -m mypy

contracts:  ## check who imports whom
	$(PYTHON) -c "from importlinter.cli import lint_imports_command; lint_imports_command()" --no-cache

pages:  ## write the pages and tables that come from code: rules, evidence, rooms
	$(PYTHON) -m initlint.report.pages docs/rules README.md
	$(PYTHON) docs/handbook.py docs

check-pages:  ## check that those pages, and what other pages say of the code, are up to date
	$(PYTHON) -m pytest tests/report/test_pages.py tests/test_documents.py

build:  ## build the source distribution and the wheel into DIST
	$(PYTHON) -m build --outdir $(DIST) .

benchmarks:  ## list the benchmarks
	@sed -n 's/^| `\(python -m benchmarks[^`]*\)` | \(.*\) |$$/\1\n    \2/p' benchmarks/README.md

rule:  ## start a rule: make rule CODE=IL112 NAME=bias-before-norm
	$(PYTHON) -m initlint.scaffold $(CODE) $(NAME) rules
	$(MAKE) pages

all: lint types contracts test build  ## what CI runs, in your own environment
