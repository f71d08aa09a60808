# User C module for Make ports: make USER_C_MODULES=<folder that holds native_modules>
TINYPROF_DIR := $(USERMOD_DIR)

SRC_USERMOD_C += $(TINYPROF_DIR)/module.c
SRC_USERMOD_LIB_C += $(addprefix $(TINYPROF_DIR)/, \
	counters/counters.c executor/executor.c gguf/strings.c text/unicode_class.c)
# All variants: kernels/isa.h chooses, the files of the others compile to nothing.
SRC_USERMOD_LIB_C += $(sort $(wildcard $(TINYPROF_DIR)/kernels/*.c $(TINYPROF_DIR)/kernels/*/*.c))

# Fused multiply-adds would round differently from core to core; -O3 where the time goes. The
# module knows its flags, so that each record can tell them.
# TINYPROF_WITHOUT: types that the build does without, of LEGACY K TQ OWN.
TINYPROF_KERNEL_CFLAGS ?= -O3 -ffp-contract=off
$(BUILD)/native_modules/%.o: CFLAGS += -ffp-contract=off $(addprefix -DTP_WITHOUT_,$(TINYPROF_WITHOUT))
$(BUILD)/native_modules/kernels/%.o: CFLAGS += $(TINYPROF_KERNEL_CFLAGS)
$(BUILD)/native_modules/module.o: CFLAGS += -DTP_CFLAGS='"$(TINYPROF_KERNEL_CFLAGS)"'
