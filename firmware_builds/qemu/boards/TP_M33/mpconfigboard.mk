# All in the Secure state, in which the core starts: so the Secure addresses.
TP_LDSCRIPT = an505.ld
TP_UART = 0x50200000
TP_GCHELPER = generic
TP_UART_IRQ = 32
include $(BOARD_DIR)/../../mps2.mk

QEMU_MACHINE = mps2-an505
CFLAGS += -mcpu=cortex-m33 -mfpu=fpv5-sp-d16 -mfloat-abi=hard
CFLAGS += -DMICROPY_HW_MCU_NAME='"Cortex-M33F"'
# The PSRAM.
CFLAGS += -DTP_ROMFS_BASE=0x80000000
MPY_CROSS_FLAGS += -march=armv7emsp
