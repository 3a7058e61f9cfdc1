# egret: the few commands that everyone uses, and CI too (.ci/run). Needs Go and a shell.

SHELL   := /bin/sh
GO      ?= go
MODULE  := github.com/egret-proxy/egret
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
CACHE   := $(CURDIR)/.cache

# The same bytes for the same source, wherever it is built: `make reproducible` proves it.
LDFLAGS   = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
GOBUILD   = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false
PLATFORMS = linux/amd64 linux/arm64 darwin/arm64

# The race detector needs cgo, and so a C compiler.
HAVE_CC := $(shell command -v $$($(GO) env CC) >/dev/null 2>&1 && echo yes)

# Tests that measure time fail where others share the machine, and under the race detector:
# of bench/ a short form is run, and what measures nothing.
PACKAGES   = $(shell $(GO) list ./... | grep -v '/bench')
BENCHTESTS = ./bench ./bench/peers $(addprefix ./bench/internal/,compare hist plot report stats steps)

FUZZTIME  ?= 10s
BENCHTIME ?= 1s
BENCH     ?= .

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.DEFAULT_GOAL := build

.PHONY: build
build: ## bin/egret and bin/egret-dashboard: static, stripped, reproducible
	@mkdir -p bin
	$(GOBUILD) -ldflags "$(LDFLAGS)" -o bin/egret ./cmd/egret
	$(GOBUILD) -ldflags "-s -w" -o bin/egret-dashboard ./examples/local/dashboard

.PHONY: demo
demo: build ## the whole story on this machine, nothing to configure
	@bin/egret demo

# The race detector allocates too: the ceilings of allocations and memory are tested without it.
.PHONY: test
test: ## vet and all tests, a few minutes, nothing but Go; of bench/ a short form, all of it with go test ./bench/...
	$(GO) vet ./...
ifeq ($(HAVE_CC),yes)
	CGO_ENABLED=1 $(GO) test -race -timeout 10m $(PACKAGES)
	CGO_ENABLED=0 $(GO) test -run '^(TestAllocations|TestCountingDoesNotAllocate|TestMemoryOf)' ./proxy
	CGO_ENABLED=0 $(GO) test -short $(BENCHTESTS)
else
	@echo "no C compiler ($$($(GO) env CC)): testing without the race detector"
	CGO_ENABLED=0 $(GO) test -timeout 10m $(PACKAGES)
	CGO_ENABLED=0 $(GO) test -short $(BENCHTESTS)
endif

.PHONY: integration
integration: build ## tests against real SPIRE, kernels and clients (Linux, root; slow when its cache is cold)
	@if [ -f integration/run ]; then bash integration/run; else echo "integration: there is no integration/run"; fi

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s)
	@set -e; grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "== $$(dirname "$$file") $$target"; \
			$(GO) test "$$(dirname "$$file")" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) </dev/null; \
		done; \
	done

.PHONY: bench
bench: ## egret against direct requests, nginx and goproxy, under 5 minutes (Linux); writes bench/results/tmp
	$(GO) run ./bench run -window 1s $(BENCHFLAGS)

.PHONY: bench-packages
bench-packages: ## install the peers that bench-full is made against (Debian, root)
	sh bench/install.sh

.PHONY: bench-full
bench-full: ## all of it, an hour and a half: every load, peers that are installed, growth, steps; one report in bench/results (Linux, a quiet machine)
	$(GO) run ./bench run -full -rounds 7 -window 2s -name run -out bench/results/tmp $(BENCHFLAGS)
	$(GO) run ./bench growth -name growth -out bench/results/tmp
	$(GO) run ./bench steps -name steps -out bench/results/tmp
	$(GO) run ./bench report -name $$(date -u +%F) -out bench/results bench/results/tmp/run.json bench/results/tmp/growth.json bench/results/tmp/steps.json

.PHONY: microbench
microbench: ## Go benchmarks with allocations, BENCH (a pattern) for BENCHTIME (1s)
	$(GO) test ./... -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem

# Tools have a module of their own, so that egret's go.mod lists only what egret is made of.
LINT := $(CACHE)/bin/golangci-lint
$(LINT): tools/go.mod tools/go.sum
	cd tools && CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-s -w" -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

.PHONY: lint
lint: $(LINT) ## golangci-lint (.golangci.yml), on Linux and on macOS code
	GOLANGCI_LINT_CACHE=$(CACHE)/golangci-lint $(LINT) run ./...
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./...

.PHONY: docs
docs: ## write the generated reference, docs/reference
	@mkdir -p docs/reference
	$(GO) run ./cmd/egret docs docs/reference

.PHONY: check
check: fmt-check docs-check mod-check lint ## nothing is left to generate, format, tidy or lint; import arrows hold
	$(GO) test -count=1 ./internal/deps

.PHONY: fmt-check
fmt-check:
	@unformatted=$$(git ls-files -z -- '*.go' | xargs -0 gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; fi

.PHONY: docs-check
docs-check:
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && $(GO) run ./cmd/egret docs "$$dir" && \
	diff -ru docs/reference "$$dir" || { echo "docs/reference is not up to date: run make docs"; exit 1; }

.PHONY: mod-check
mod-check:
	@$(GO) mod verify
	@cd tools && $(GO) mod verify
	@cd tools/vuln && $(GO) mod verify

.PHONY: vuln
vuln: ## govulncheck; needs the Go vulnerability database, vuln.go.dev
	@cd tools/vuln && CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o $(CACHE)/bin/govulncheck golang.org/x/vuln/cmd/govulncheck
	@$(CACHE)/bin/govulncheck ./... || { code=$$?; \
		if [ $$code -ne 3 ]; then echo "vuln: nothing was checked: govulncheck could not read its database (https://vuln.go.dev)"; fi; exit $$code; }

.PHONY: cross
cross: ## dist/egret-OS-ARCH for every platform, and dist/SHA256SUMS
	@rm -rf dist && mkdir -p dist
	@set -e; for p in $(PLATFORMS); do \
		echo "dist/egret-$${p%/*}-$${p#*/}"; \
		GOOS=$${p%/*} GOARCH=$${p#*/} $(GOBUILD) -ldflags "$(LDFLAGS)" -o "dist/egret-$${p%/*}-$${p#*/}" ./cmd/egret; \
	done
	@cd dist && $$(command -v sha256sum || echo shasum -a 256) egret-* > SHA256SUMS && cat SHA256SUMS

.PHONY: reproducible
reproducible: ## build this commit twice in different folders and compare the bytes
	@sh tools/reproducible.sh "$(GO)"

.PHONY: clean
clean: ## remove what was built, except for the tools in .cache
	rm -rf bin dist coverage.out
