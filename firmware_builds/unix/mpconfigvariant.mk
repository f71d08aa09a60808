# The unix port without what needs other libraries or submodules.

FROZEN_MANIFEST =
MICROPY_PY_SSL = 0
MICROPY_SSL_MBEDTLS = 0
MICROPY_PY_BTREE = 0
MICROPY_PY_FFI = 0
MICROPY_PY_BLUETOOTH = 0

ifeq ($(SANITIZE),1)
# The garbage collector scans the whole stack, so locals must stay on it; and MicroPython
# hands null pointers with zero lengths to memcpy and its like.
TP_SANITIZE = -fsanitize=address,undefined -fno-sanitize=nonnull-attribute \
	-fno-sanitize-recover=undefined --param asan-use-after-return=0
CFLAGS += $(TP_SANITIZE) -fno-omit-frame-pointer
LDFLAGS += $(TP_SANITIZE)
STRIP =
endif

# It runs where it is built: the kernels may use all that this processor has.
TP_MARCH ?= native
TINYPROF_KERNEL_CFLAGS = -O3 -ffp-contract=off -march=$(TP_MARCH)

# The fixed-point path of cores without FPU: the bits that they must give.
ifeq ($(TP_PATH),fixed)
TINYPROF_KERNEL_CFLAGS += -DTP_PATH_FIXED
endif
