# Common to the Cortex-M boards of Arm's MPS2 and MPS3. A board may set, before it includes this,
# TP_LDSCRIPT, TP_GCHELPER (what finds the registers: the assembly is of one architecture), and TP_UART and TP_UART_IRQ, of UART0's receiver.

include $(BOARD_DIR)/../../qemu.mk

TP_LDSCRIPT ?= mps2.ld
TP_GCHELPER ?= native thumb2
TP_UART ?= 0x40004000
TP_UART_IRQ ?= 0

QEMU_ARCH = arm
CFLAGS += -mthumb -DQEMU_SOC_MPS2 -DTP_UART=$(TP_UART) -DTP_UART_IRQ=$(TP_UART_IRQ)
LDFLAGS += -L$(TP_QEMU_DIR) -Wl,--wrap=uart_tx_strn
MICROPY_HEAP_SIZE = 2000000

LDSCRIPT = $(TP_QEMU_DIR)/$(TP_LDSCRIPT)
SRC_BOARD_O = $(TP_GCHELPER:%=shared/runtime/gchelper_%.o)
