# The front door; meson builds (meson.build), tests/run tests.
#
#	make            build/tlsfd, the library, the examples; installs nothing
#	make demo       what kernel TLS gives with OpenSSL alone and with tlsfd, and real transfers
#	make check      all tests, in kernels that have TLS
#	make bench      tlsfd serve beside nginx, hitch, HAProxy and stunnel (bench/README.md)
#	make soak       connections for half an hour (SOAK=seconds), with rekeys and moves
#	make browser    Chromium loads a page through tlsfd serve; screenshots in build/browser
#	make deps       installs the Debian packages for all of these but bench and browser
#	make install    DESTDIR, PREFIX (/usr/local)

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
SOAK    ?= 1800

# Debian's own tools before others of the same name
export PATH := /usr/sbin:/usr/bin:/sbin:/bin:$(PATH)

.PHONY: all demo check soak bench browser deps build-deps demo-deps install clean

all: build-deps $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@meson setup $(BUILD) --prefix $(PREFIX)

build-deps:
	@tools/deps --check build

deps:
	@tools/deps

demo: demo-deps
	@$(MAKE) --no-print-directory all >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@demo/run $(BUILD)

demo-deps:
	@tools/deps build lab test

check: deps
	@$(MAKE) --no-print-directory all
	@tests/run --build $(BUILD) $(CHECK)

bench:
	@tools/deps build lab bench
	@$(MAKE) --no-print-directory all
	@bench/run --build $(BUILD) $(BENCH)

soak: deps
	@$(MAKE) --no-print-directory all
	@TLSFD_SOAK_SECONDS=$(SOAK) TLSFD_TEST_SECONDS=$$((2 * $(SOAK) + 60)) \
		lab/run --timeout $$((2 * $(SOAK) + 90)) -- $(BUILD)/tests/kernel/soak

browser:
	@tools/deps build lab test browser
	@$(MAKE) --no-print-directory all
	@TLSFD_BIN=$(BUILD)/tlsfd TLSFD_BUILD=$(BUILD) TLSFD_NO_SKIP=1 \
		lab/run --timeout 300 -- tests/programs tests/browser

install: build-deps $(BUILD)/build.ninja
	@meson configure $(BUILD) --prefix $(PREFIX)
	@ninja -C $(BUILD)
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild --quiet
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

clean:
	rm -rf $(BUILD) $(BUILD).log
