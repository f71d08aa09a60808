# All in the Secure state, in which the core starts: so the Secure addresses.
TP_LDSCRIPT = an547.ld
TP_UART = 0x59303000
TP_GCHELPER = generic
TP_UART_IRQ = 33
include $(BOARD_DIR)/../../mps2.mk

QEMU_MACHINE = mps3-an547
CFLAGS += -mcpu=cortex-m55 -mfloat-abi=hard
CFLAGS += -DMICROPY_HW_MCU_NAME='"Cortex-M55"'
# The DDR memory.
CFLAGS += -DTP_ROMFS_BASE=0x70000000
MPY_CROSS_FLAGS += -march=armv7emsp
