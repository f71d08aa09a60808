include $(BOARD_DIR)/../../mps2.mk

QEMU_MACHINE = mps2-an386
CFLAGS += -mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard
CFLAGS += -DMICROPY_HW_MCU_NAME='"Cortex-M4F"'
# The PSRAM.
CFLAGS += -DTP_ROMFS_BASE=0x21000000
MPY_CROSS_FLAGS += -march=armv7emsp
