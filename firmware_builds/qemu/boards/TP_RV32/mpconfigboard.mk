include $(BOARD_DIR)/../../qemu.mk

QEMU_ARCH = riscv32
QEMU_MACHINE = virt
CFLAGS += -DQEMU_SOC_VIRT -DMICROPY_HW_MCU_NAME='"$(RV32_ARCH)"'
MPY_CROSS_FLAGS += -march=rv32imc
# RAM that the linker script leaves alone.
CFLAGS += -DTP_ROMFS_BASE=0x81000000
MICROPY_HEAP_SIZE = 1800000

# The C library comes built for rv32imac, without _zicsr in the name; the older ISA
# specification has those instructions in its base.
RV32_ARCH = rv32imac
override RV32_ABI = ilp32 -misa-spec=2.2

LDSCRIPT = mcu/rv32/virt.ld
SRC_BOARD_O += shared/runtime/gchelper_native.o shared/runtime/gchelper_rv32i.o
