# Common to all our QEMU boards; each board's mpconfigboard.mk includes it.

TP_QEMU_DIR := $(abspath $(dir $(lastword $(MAKEFILE_LIST))))

# No frozen Python code: the manifests of the port need submodules.
FROZEN_MANIFEST =
MICROPY_VFS_LFS2 = 1

CFLAGS += -I$(TP_QEMU_DIR) -DMP_CONFIGFILE='"tinyprof_config.h"'
QSTR_GLOBAL_DEPENDENCIES += $(TP_QEMU_DIR)/tinyprof_config.h

# Found from the top of the repository, which is USER_C_MODULES.
SRC_C += firmware_builds/qemu/support.c
$(BUILD)/firmware_builds/qemu/support.o: CFLAGS += -Wextra

LDFLAGS += -Wl,--wrap=uart_init -Wl,--wrap=uart_rx_chr
