# ngx-llm: an LLM API gateway as an nginx module.  "make help" lists targets.

export BUILD := $(abspath $(or $(BUILD),build))

NGINX_SRC =
SUITES    = unit t clients dashboard

# sanitized twins of the unit tests; one flag list for both kinds
CFLAGS_C  = -std=c11 -O2 -g -Wall -Wextra -Wpointer-arith -Werror
SANITIZE  = -fsanitize=address,undefined -fno-sanitize-recover=all \
            -fno-omit-frame-pointer

# cmocka 2 wants names that cmocka 1 does not have
CFLAGS_UNIT = $(CFLAGS_C) -Wno-deprecated-declarations

CORE      = $(wildcard ngx_module/core/*.c)
CORE_H    = $(wildcard ngx_module/core/*.h)
UNIT      = $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
UNIT_H    = $(wildcard tests/unit/*.h)
FUZZ      = $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_TIME = 600
FUZZ_RUNS = 20000
TOOL_H    = $(wildcard tests/tools/*.h)
TOOL_LIB  = $(wildcard tests/tools/lib_*.c)
TOOLS     = $(BUILD)/mock $(BUILD)/load $(BUILD)/faultproxy \
            $(BUILD)/llmctl $(BUILD)/llmctl-san $(BUILD)/scale/turn.so \
            $(BUILD)/alloc/fail.so

# what is built, not with which forty options; V=1 shows these
Q         = $(if $(V),,@)

CORE_O    = $(CORE:ngx_module/core/%.c=$(BUILD)/core/%.o)
CORE_SAN  = $(CORE:ngx_module/core/%.c=$(BUILD)/core-san/%.o)
CORE_FUZZ = $(CORE:ngx_module/core/%.c=$(BUILD)/core-fuzz/%.o)

.DELETE_ON_ERROR:
.SUFFIXES:

.PHONY: all help module release llmctl tools run sim test test-unit test-t \
        test-clients test-dashboard scale faults soak check \
        check-style check-analyze check-clang check-tidy check-nodebug \
        check-unit check-fuzz check-valgrind coverage fuzz fuzz-keep \
        check-t bench bench-peers matrix \
        install uninstall deb deb-test clean need-build need-train need-run \
        need-test need-check need-bench

all: module llmctl

help:
	@sed -n 's/^#: //p' Makefile


#: make               builds build/ngx_http_llm_module.so against the
#:                    installed nginx; NGINX_SRC=DIR: another source tree
module: need-build
	@util/build-module.sh $(BUILD) $(NGINX_SRC)

#: make release       the same as it is installed, optimised across files and by
#:                    a profile of half a minute's load (PROFILE=off: without):
#:                    build/release/ngx_http_llm_module.so
release: need-build $(if $(filter off,$(PROFILE)),,need-train $(BUILD)/mock \
                      $(BUILD)/load)
	@PROFILE=$(PROFILE) util/release.sh $(BUILD)/release $(NGINX_SRC)

need-train:
	@util/need.sh train

need-build:
	@util/need.sh build

#: make llmctl        builds build/llmctl, the command line of the admin API
llmctl: $(BUILD)/llmctl

$(BUILD)/llmctl: $(wildcard llmctl/*.[ch]) | need-build
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_C) -o $@ $(filter %.c,$^) -lcurl -ljansson -lm

$(BUILD)/llmctl-san: $(wildcard llmctl/*.[ch]) | need-build
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_C) -O1 $(SANITIZE) -o $@ $(filter %.c,$^) \
	    -lcurl -ljansson -lm


# the mock provider, the load generator and the fault proxy

tools: $(TOOLS)

$(BUILD)/mock: $(wildcard tests/mock/*.c tests/mock/*.h) $(TOOL_LIB) \
               $(TOOL_H) | need-build
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_C) -Itests/tools -o $@ $(filter %.c,$^) -lssl -lcrypto

$(BUILD)/load: $(wildcard tests/tools/load*.c) $(TOOL_LIB) $(TOOL_H) \
               | need-build
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_C) -o $@ $(filter %.c,$^) -lm

$(BUILD)/faultproxy: $(wildcard tests/tools/faultproxy*.c) $(TOOL_LIB) \
                     $(TOOL_H) | need-build
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_C) -o $@ $(filter %.c,$^)


#: make run           starts the gateway in the foreground (see util/run.sh)
run: need-run module $(BUILD)/mock
	@util/run.sh

need-run:
	@util/need.sh run


#: make test          every test; alone: test-unit, test-t, test-clients,
#:                    test-dashboard; T=t/01-x.t chooses files, V=1 shows
#:                    all output
test: need-test module $(TOOLS) $(UNIT:%=$(BUILD)/unit/%)
	@util/test.pl $(SUITES)

test-unit: need-test $(UNIT:%=$(BUILD)/unit/%)
	@util/test.pl unit

test-t: need-test module $(TOOLS)
	@util/test.pl t

test-clients: need-test module $(TOOLS)
	@util/test.pl clients

test-dashboard: need-test module $(TOOLS)
	@util/test.pl dashboard

#: make scale         a million keys: memory, look-ups, changes, deaths of
#:                    workers (3 GB; SCALE_KEYS=N: fewer); and what a request
#:                    costs beside more and more keys, waiting requests, open
#:                    streams, gateways, for docs/scaling.md (SCALE_PARTS of
#:                    file redis journal keys waiting streams length gateways
#:                    known; SCALE_MOST=N: no point above it)
scale: need-test need-bench module $(BUILD)/mock $(BUILD)/load \
       $(BUILD)/scale/turn.so
	@TEST_BUILD=$(BUILD) \
	    TEST_NGINX_MODULE=$(BUILD)/ngx_http_llm_module.so \
	    tests/scale/keys.pl
	@tests/scale/curves.py

# without allocations of its own that the compiler would make into others
$(BUILD)/alloc/fail.so: tests/alloc/fail.c | need-build
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_C) -fno-builtin -shared -fPIC -o $@ $< -ldl

$(BUILD)/scale/turn.so: tests/scale/turn.c | need-build
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_C) -shared -fPIC -o $@ $< -ldl

#: make faults        the faults of tests/faults/README.md under load, some ten
#:                    minutes; make soak: an hour of them, drawn by lot
#:                    (SOAK=600: ten minutes)
faults: need-test module $(TOOLS)
	@util/test.pl faults

soak: need-test module $(TOOLS)
	@TEST_BUILD=$(BUILD) \
	    TEST_NGINX_MODULE=$${TEST_NGINX_MODULE-$(BUILD)/ngx_http_llm_module.so} \
	    tests/faults/soak.pl

#: make sim           plays a day of several gateways, about a minute a scene
#:                    (docs/limits.md shows its pictures)
sim: need-test $(BUILD)/sim/sim
	@$(BUILD)/sim/sim ngx_module/policy/quota.lua $(BUILD)/sim

$(BUILD)/sim/sim: $(wildcard tests/sim/*.[ch]) $(BUILD)/core/libcore.a \
                  | need-test
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_C) -std=gnu11 -Ingx_module -Itests/sim -o $@ \
	    $(filter %.c,$^) $(BUILD)/core/libcore.a -llua5.1 -lm

need-test:
	@util/need.sh build test

$(BUILD)/core/%.o: ngx_module/core/%.c $(CORE_H) | need-build
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_C) -Ingx_module -c -o $@ $<

$(BUILD)/core/libcore.a: $(CORE_O)
	@rm -f $@
	@echo '  AR ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)ar rcs $@ $^

$(BUILD)/unit/%: tests/unit/%.c $(BUILD)/core/libcore.a $(UNIT_H) \
                 | need-test
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_UNIT) -Ingx_module -Itests/unit -o $@ $< \
	    $(BUILD)/core/libcore.a -lcmocka -ljansson -lhiredis -llua5.1 -lcrypto -lm


#: make check         style, static analysis, builds by clang and without debug
#:                    logs, the tests under sanitizers and valgrind, short fuzz
#:                    runs; alone: check-style, check-analyze, check-clang,
#:                    check-tidy, check-nodebug, check-unit, check-fuzz,
#:                    check-t, check-valgrind
check: check-style check-analyze check-clang check-tidy check-nodebug check-unit \
       check-fuzz check-t check-valgrind

need-check:
	@util/need.sh build test check

check-style:
	@util/check-style.pl
	@util/check-includes.pl
	@util/check-docs.pl

check-analyze: need-check
	@util/check-analyze.sh $(BUILD)/analyze

# its warnings are others than gcc's, with which all of this is built
check-clang: need-check
	@CC=clang util/build-module.sh $(BUILD)/clang
	@clang $(CFLAGS_UNIT) -std=gnu11 -fsyntax-only -Ingx_module -Illmctl \
	    -Itests/tools -Itests/unit -Itests/sim -Itests/fuzz \
	    $(CORE) $(wildcard llmctl/*.c tests/*/*.c)

check-tidy: need-check module
	@util/check-tidy.sh $(BUILD)

# what is installed, as it is; some minutes
check-valgrind: need-check need-test module $(TOOLS)
	@util/check-valgrind.sh $(BUILD)/valgrind

# what only a debug log uses is a warning in an nginx without --with-debug
check-nodebug: need-build
	@CC="$(CC) -DNGX_DEBUG=0" util/build-module.sh $(BUILD)/nodebug

check-unit: need-check $(UNIT:%=$(BUILD)/unit-san/%)
	@TEST_UNIT_DIR=$(BUILD)/unit-san util/test.pl unit

# from the seeds alone and the same each time
check-fuzz: need-check $(FUZZ:%=$(BUILD)/fuzz/%)
	@util/fuzz.sh $(BUILD)/fuzz runs $(FUZZ_RUNS)

#: make fuzz          every fuzz target for FUZZ_TIME seconds (600), going on
#:                    from build/fuzz/corpus; FUZZ_ONLY="json sse": only these;
#:                    make fuzz-keep takes the best of it into tests/fuzz/seed
fuzz: need-check $(FUZZ:%=$(BUILD)/fuzz/%)
	@util/fuzz.sh $(BUILD)/fuzz time $(FUZZ_TIME)

fuzz-keep: need-check $(FUZZ:%=$(BUILD)/fuzz/%)
	@util/fuzz.sh $(BUILD)/fuzz keep

check-t: need-check $(TOOLS)
	@tree=$${NGINX_SRC:-$$(util/nginx-source.sh $(BUILD)/src)} \
	    && util/build-static.sh $(BUILD)/asan "$$tree" \
	    && TEST_NGINX_BINARY=$(BUILD)/asan/nginx \
	       TEST_NGINX_MODULE= util/test.pl t

$(BUILD)/core-san/%.o: ngx_module/core/%.c $(CORE_H) | need-build
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_C) -O1 $(SANITIZE) -Ingx_module -c -o $@ $<

$(BUILD)/core-san/libcore.a: $(CORE_SAN)
	@rm -f $@
	@echo '  AR ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)ar rcs $@ $^

$(BUILD)/unit-san/%: tests/unit/%.c $(BUILD)/core-san/libcore.a $(UNIT_H) \
                     | need-test
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_UNIT) -O1 $(SANITIZE) -Ingx_module -Itests/unit -o $@ $< \
	    $(BUILD)/core-san/libcore.a -lcmocka -ljansson -lhiredis -llua5.1 -lcrypto -lm

$(BUILD)/core-fuzz/%.o: ngx_module/core/%.c $(CORE_H) | need-check
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)clang $(CFLAGS_C) -O1 $(SANITIZE) -fsanitize=fuzzer-no-link \
	    -Ingx_module -c -o $@ $<

$(BUILD)/core-fuzz/libcore.a: $(CORE_FUZZ)
	@rm -f $@
	@echo '  AR ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)ar rcs $@ $^

$(BUILD)/fuzz/%: tests/fuzz/%.c $(BUILD)/core-fuzz/libcore.a \
                 $(wildcard tests/fuzz/*.h) | need-check
	@mkdir -p $(@D)
	@echo '  CC ' $(patsubst $(BUILD)/%,%,$@)
	$(Q)clang $(CFLAGS_C) -O1 $(SANITIZE) -fsanitize=fuzzer -Ingx_module \
	    -Itests/fuzz -o $@ $< $(BUILD)/core-fuzz/libcore.a \
	    -ljansson -lcrypto -lm


#: make coverage      lines and branches that the tests reach, per file: the
#:                    core by the unit tests, the module by t/ (half an hour);
#:                    PARTS=core: that alone
coverage: need-test $(TOOLS)
	@util/need.sh coverage
	@util/coverage.sh $(BUILD)/coverage $(or $(PARTS),core module)


#: make bench         measures against plain nginx and peers, writes
#:                    bench/results/ (PEERS=off: without the peers, which
#:                    take 1 GB below build/peers)
bench: need-bench release $(TOOLS) $(if $(filter off,$(PEERS)),,bench-peers)
	@MODULE=$(BUILD)/release/ngx_http_llm_module.so bench/run

bench-peers: need-bench
	@bench/peers/setup.sh $(BUILD)/peers

need-bench:
	@util/need.sh build bench


#: make matrix        builds, tests and installs the package in Debian 12, 13
#:                    and sid, made by debootstrap (as root; DEBIANS="trixie
#:                    sid": fewer)
matrix:
	@util/need.sh matrix
	@util/matrix.sh $(BUILD)/matrix $(DEBIANS)


#: make install       into the installed nginx, make uninstall removes it;
#:                    DESTDIR is respected (docs/install.md)
install: release llmctl
	@util/install.sh "$(DESTDIR)"

uninstall:
	@util/install.sh --remove "$(DESTDIR)"

#: make deb           build/deb/libnginx-mod-http-llm_VERSION_ARCH.deb
deb:
	@util/need.sh deb
	@PROFILE=$(PROFILE) util/deb.sh $(BUILD)/deb

#: make deb-test      installs that package in a bare Debian and takes the
#:                    README's tour (as root; DEBIANS=trixie: another Debian)
deb-test:
	@util/deb-test.sh $(BUILD)/matrix $(DEBIANS)


#: make clean         removes build/
clean:
	rm -rf $(BUILD)
