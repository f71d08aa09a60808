# Common to the Cortex-M boards: Arm's MPS2, with 4 MB of SRAM and 16 MB of PSRAM.

include $(BOARD_DIR)/../../qemu.mk

QEMU_ARCH = arm
CFLAGS += -mthumb -DQEMU_SOC_MPS2
MICROPY_HEAP_SIZE = 2000000

LDSCRIPT = $(TP_QEMU_DIR)/mps2.ld
SRC_BOARD_O = shared/runtime/gchelper_native.o shared/runtime/gchelper_thumb2.o
