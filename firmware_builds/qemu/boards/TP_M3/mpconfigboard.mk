include $(BOARD_DIR)/../../mps2.mk

QEMU_MACHINE = mps2-an385
CFLAGS += -mcpu=cortex-m3 -mfloat-abi=soft -DMICROPY_HW_MCU_NAME='"Cortex-M3"'
# The PSRAM.
CFLAGS += -DTP_ROMFS_BASE=0x21000000
MPY_CROSS_FLAGS += -march=armv7m
