TP_GCHELPER = native thumb1
include $(BOARD_DIR)/../../mps2.mk

# Armv6-M code on a Cortex-M3, since QEMU has no M0+ with memory enough; support.c makes the core
# trap on the unaligned words that an M0+ traps on.
QEMU_MACHINE = mps2-an385
CFLAGS += -mcpu=cortex-m0plus -mfloat-abi=soft -DMICROPY_HW_MCU_NAME='"Cortex-M0+"'
# The PSRAM.
CFLAGS += -DTP_ROMFS_BASE=0x21000000
MPY_CROSS_FLAGS += -march=armv6m
