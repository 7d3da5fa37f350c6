# Two commands matter: `make run` and `make test`. Neither needs root.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

TARGET ?= $(shell uname -m)-unknown-linux-musl
STATIC := target/$(TARGET)/release
NODE := $(shell command -v node)
NPM := $(shell command -v npm)

# Apps with packages of their own; what they need is installed when their lock file changes.
NODE_APPS := $(patsubst %/package-lock.json,%,$(wildcard apps/*/package-lock.json))
TEST_NODE := $(patsubst %/package-lock.json,%,$(wildcard tests/package-lock.json tests/*/package-lock.json))
NPM_CI := npm ci --omit=dev --no-audit --no-fund --loglevel=error --no-progress --no-update-notifier --ignore-scripts

.PHONY: build run test check static install uninstall bench fuzz clean help apps test-packages musl

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10 | sed 's/^/  make /'
	@echo
	@echo '  make run ARGS="--listen 0.0.0.0:8080 --workers 4"   passes options on to sidekeeper'
	@echo '  tests/run http kill                                 runs some of the tests'

run: static apps ## build, install the sample apps' packages, serve them at http://127.0.0.1:8000
	@exec $(STATIC)/sidekeeper run $(ARGS)

test: static apps test-packages ## run every test; V=1 shows each step, V=2 each command
	@SIDEKEEPER=$(CURDIR)/$(STATIC)/sidekeeper RAW=$(CURDIR)/$(STATIC)/raw ECHO_APP=$(CURDIR)/$(STATIC)/echo tests/run

check: ## formatting, clippy with warnings as errors, the structure of the code
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
	cargo clippy --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz -- -D warnings
	tests/tidy.sh

build: ## a quick build for development
	cargo build --workspace

static: musl ## the static binary for minimal hosts
	cargo build --workspace --release --target $(TARGET)
	@install -D -C $(STATIC)/echo apps/echo/bin/echo

PREFIX ?= /usr/local
UNITDIR ?= $(PREFIX)/lib/systemd/system
PACKAGING := docs/packaging
INSTALLED := $(PREFIX)/bin/sidekeeper $(PREFIX)/share/man/man1/sidekeeper.1 \
    $(PREFIX)/share/bash-completion/completions/sidekeeper $(PREFIX)/share/zsh/site-functions/_sidekeeper \
    $(PREFIX)/share/fish/vendor_completions.d/sidekeeper.fish \
    $(UNITDIR)/sidekeeper.service $(UNITDIR)/sidekeeper.socket

# What is there is installed as it is, so that `make static && sudo make install` builds nothing as root.
install: $(STATIC)/sidekeeper ## binary, man page, completions and units; PREFIX=/usr/local DESTDIR=
	install -D -m 755 $(STATIC)/sidekeeper $(DESTDIR)$(PREFIX)/bin/sidekeeper
	install -D -m 644 $(PACKAGING)/sidekeeper.1 $(DESTDIR)$(PREFIX)/share/man/man1/sidekeeper.1
	install -D -m 644 $(PACKAGING)/sidekeeper.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/sidekeeper
	install -D -m 644 $(PACKAGING)/_sidekeeper $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_sidekeeper
	install -D -m 644 $(PACKAGING)/sidekeeper.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/sidekeeper.fish
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|/usr/local/bin|$(PREFIX)/bin|' $(PACKAGING)/sidekeeper.service >$(DESTDIR)$(UNITDIR)/sidekeeper.service
	install -m 644 $(PACKAGING)/sidekeeper.socket $(DESTDIR)$(UNITDIR)/sidekeeper.socket

uninstall: ## removes what install has installed; the same PREFIX and DESTDIR
	rm -f $(INSTALLED:%=$(DESTDIR)%)

$(STATIC)/sidekeeper:
	$(MAKE) static

FUZZ := cargo run --quiet --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz --
SECONDS := 60

fuzz: static ## every fuzzer for SECONDS=60 in all, with other dice each time; SEED=N repeats
	$(FUZZ) --sidekeeper $(STATIC)/sidekeeper --seconds $(SECONDS) --seed $(or $(SEED),$(shell date +%s)) $(TARGETS)

clean: ## remove everything that was built or installed
	cargo clean
	rm -rf tests/bench/node/node_modules apps/echo/bin apps/*/node_modules tests/node_modules tests/fixtures/*/node_modules run

bench: static apps ## compare with nginx, HAProxy and others; SCENARIOS="small64 ws100" ROUNDS=3 KEEP=1
	cargo build --release --manifest-path tests/bench/rig/Cargo.toml --target-dir target/bench
	@python3 tests/bench/bench.py --sidekeeper $(STATIC)/sidekeeper --rounds $(or $(ROUNDS),5) $(if $(KEEP),--keep) $(SCENARIOS)

musl:
	@if ! [ -d "$$(rustc --print sysroot)/lib/rustlib/$(TARGET)/lib" ]; then \
	    if command -v rustup >/dev/null; then rustup target add $(TARGET); \
	    else echo 'Rust has no $(TARGET) target here and there is no rustup to add it.' >&2; exit 1; fi; fi

ifeq ($(and $(NODE),$(NPM)),)
apps:
	@echo 'Node.js and npm are not installed: the sample apps that need them are left out.'

test-packages: apps
else
apps: $(NODE_APPS:%=%/node_modules/.installed)

test-packages: $(TEST_NODE:%=%/node_modules/.installed)
endif

# npm leaves a half-written folder when it is interrupted; the stamp is what says that it is whole.
# The tests compare it with the lock file, and would install again beside each other.
%/node_modules/.installed: %/package-lock.json %/package.json
	@echo 'Installing the packages of $*'
	@cd $* && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 $(NPM_CI)
	@cp $< $@
