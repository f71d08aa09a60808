include $(BOARD_DIR)/../../mps2.mk

# Built for the single-precision FPU that most Cortex-M7 parts share with the M4F, so that
# one native module serves both. QEMU's model has the double-precision one.
QEMU_MACHINE = mps2-an500
CFLAGS += -mcpu=cortex-m7 -mfpu=fpv5-sp-d16 -mfloat-abi=hard
CFLAGS += -DMICROPY_HW_MCU_NAME='"Cortex-M7F"'
# The PSRAM.
CFLAGS += -DTP_ROMFS_BASE=0x60000000
MPY_CROSS_FLAGS += -march=armv7emsp
