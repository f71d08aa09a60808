// What MicroPython's QEMU port lacks for tinyprof: the FPU switched on, a ROMFS window
// that stands for flash, Ctrl-C while a script runs, and an idle prompt that sleeps.
// The linker's --wrap puts these functions in front of the port's own (see qemu.mk).

#include <string.h>

#include "py/mperrno.h"
#include "py/mphal.h"
#include "py/obj.h"
#include "py/objarray.h"
#include "py/runtime.h"
#include "extmod/vfs.h"
#include "shared/runtime/interrupt_char.h"
#include "ports/qemu/uart.h"

#define REG32(address) (*(volatile uint32_t *)(address))
#define REG8(address) (*(volatile uint8_t *)(address))

void __real_uart_init(void);
int __real_uart_rx_chr(void);
void __wrap_uart_init(void);
int __wrap_uart_rx_chr(void);

/******************************************************************************/
// What differs between the machines.

#if defined(QEMU_SOC_MPS2)

// The port's own UART functions know one address; these take the board's.
typedef struct {
    volatile uint32_t data;
    volatile uint32_t state;
    volatile uint32_t ctrl;
    volatile uint32_t intstatus;
    volatile uint32_t bauddiv;
} uart_t;

#define UART ((uart_t *)TP_UART)
#define UART_TX_FULL (1)
#define UART_RX_FULL (2)
#define UART_ENABLE (3)
#define UART_RX_INT_ENABLE (8)
#define UART_RX_INT (2)

#define CPACR REG32(0xe000ed88)
#define CCR REG32(0xe000ed14)
#define CCR_UNALIGN_TRP (8)
#define NVIC(base) REG32((base) + TP_UART_IRQ / 32 * 4)
#define NVIC_ISER NVIC(0xe000e100)
#define NVIC_ICER NVIC(0xe000e180)
#define NVIC_ICPR NVIC(0xe000e280)
#define UART_RX_IRQ (1u << TP_UART_IRQ % 32)

void __wrap_uart_tx_strn(const char *buf, size_t len);

static void start_cpu(void) {
    #if defined(__ARM_FP)
    // Full access to the FPU; without it the first float is a HardFault.
    CPACR |= 0xf << 20;
    __asm volatile("dsb\nisb" ::: "memory");
    #elif defined(__ARM_ARCH_6M__)
    // The core is an M3: so that it does not read words where an M0 cannot.
    CCR |= CCR_UNALIGN_TRP;
    #endif
}

static void init_uart(void) {
    UART->bauddiv = 16;
    UART->ctrl = UART_ENABLE;
}

static int receive(void) {
    return UART->state & UART_RX_FULL ? (int)UART->data : UART_RX_NO_CHAR;
}

void __wrap_uart_tx_strn(const char *buf, size_t len) {
    for (size_t i = 0; i < len; ++i) {
        while (UART->state & UART_TX_FULL) {
        }
        UART->data = (uint8_t)buf[i];
    }
}

// Sleeps until the UART has a character. A pending interrupt wakes the CPU even while
// PRIMASK holds it back, so no handler is needed.
static void wait_for_input(void) {
    __asm volatile("cpsid i" ::: "memory");
    UART->ctrl |= UART_RX_INT_ENABLE;
    NVIC_ISER = UART_RX_IRQ;
    if (!(UART->state & UART_RX_FULL)) {
        __asm volatile("wfi" ::: "memory");
    }
    UART->ctrl &= ~UART_RX_INT_ENABLE;
    UART->intstatus = UART_RX_INT;
    NVIC_ICER = UART_RX_IRQ;
    NVIC_ICPR = UART_RX_IRQ;
    __asm volatile("cpsie i" ::: "memory");
}

#elif defined(QEMU_SOC_VIRT)

#define UART_IRQ (10)
#define UART_IER REG8(0x10000001)
#define UART_LSR REG8(0x10000005)
#define UART_DATA_READY (1)
#define PLIC_PRIORITY REG32(0x0c000000 + 4 * UART_IRQ)
#define PLIC_ENABLE REG32(0x0c002000)
#define PLIC_THRESHOLD REG32(0x0c200000)
#define PLIC_CLAIM REG32(0x0c200004)
#define MIE_MEIE (1 << 11)

#define init_uart __real_uart_init
#define receive __real_uart_rx_chr

static void start_cpu(void) {
    PLIC_PRIORITY = 1;
    PLIC_ENABLE = 1 << UART_IRQ;
    PLIC_THRESHOLD = 0;
}

// Sleeps until the UART has a character. With interrupts held back in mstatus a pending
// one still ends wfi.
static void wait_for_input(void) {
    __asm volatile("csrci mstatus, 8\ncsrs mie, %0" ::"r"(MIE_MEIE) : "memory");
    UART_IER = 1;
    if (!(UART_LSR & UART_DATA_READY)) {
        __asm volatile("wfi" ::: "memory");
    }
    UART_IER = 0;
    PLIC_CLAIM = PLIC_CLAIM;
    __asm volatile("csrc mie, %0\ncsrsi mstatus, 8" ::"r"(MIE_MEIE) : "memory");
}

#else
#error "no support for this machine"
#endif

void __wrap_uart_init(void) {
    start_cpu();
    init_uart();
}

/******************************************************************************/
// Input: what arrives while a script runs waits in a ring until somebody reads stdin.

#define RING_SIZE (512) // a power of two

static uint8_t ring[RING_SIZE];
static size_t ring_in; // counts bytes ever put in; the difference is the fill
static size_t ring_out;

int tp_polls_left = TP_HOOKS_PER_POLL;

// A full ring stops the polling: then the UART holds the sender back and nothing is lost.
void tp_poll_uart(void) {
    tp_polls_left = TP_HOOKS_PER_POLL;
    while (ring_in - ring_out < RING_SIZE) {
        int c = receive();
        if (c < 0) {
            return;
        }
        if (c == mp_interrupt_char) {
            mp_sched_keyboard_interrupt();
        } else {
            ring[ring_in++ % RING_SIZE] = c;
        }
    }
}

// Called in a loop by a read of stdin, and by nothing else.
int __wrap_uart_rx_chr(void) {
    // So that a script always begins at the same place between two polls, whatever the prompt
    // did before it: else two runs of it would differ by the instructions of a poll.
    tp_polls_left = TP_HOOKS_PER_POLL;
    if (ring_in != ring_out) {
        return ring[ring_out++ % RING_SIZE];
    }
    int c = receive();
    if (c < 0) {
        wait_for_input();
    } else if (c == mp_interrupt_char) {
        mp_sched_keyboard_interrupt();
        mp_handle_pending(true); // raises
        return UART_RX_NO_CHAR;
    }
    return c;
}

// LittleFS asks for the time of a file; these boards have no clock.
uint64_t mp_hal_time_ns(void) {
    return 0;
}

/******************************************************************************/
// ROMFS: one segment of plain memory, whose address the board's makefile gives. QEMU's loader device can fill it before the start,
// and the commands below write it as they would a flash.

#define ROMFS_SIZE (12 * 1024 * 1024)
#define ROMFS_WRITE_ALIGN (4)

static const MP_DEFINE_MEMORYVIEW_OBJ(romfs_segment, 'B', 0, ROMFS_SIZE, (void *)TP_ROMFS_BASE);

mp_obj_t mp_vfs_rom_ioctl(size_t n_args, const mp_obj_t *args) {
    const mp_obj_t error = MP_OBJ_NEW_SMALL_INT(-MP_EINVAL);
    mp_int_t command = mp_obj_get_int(args[0]);

    if (command == MP_VFS_ROM_IOCTL_GET_NUMBER_OF_SEGMENTS) {
        return MP_OBJ_NEW_SMALL_INT(1);
    }
    if (n_args < 2 || mp_obj_get_int(args[1]) != 0) {
        return error;
    }
    switch (command) {
        case MP_VFS_ROM_IOCTL_GET_SEGMENT:
            return MP_OBJ_FROM_PTR(&romfs_segment);

        case MP_VFS_ROM_IOCTL_WRITE_PREPARE: {
            // Erase, as flash is erased: an old image must not outlive a torn write.
            mp_uint_t len = n_args > 2 ? (mp_uint_t)mp_obj_get_int(args[2]) : (mp_uint_t)-1;
            if (len > ROMFS_SIZE) {
                return error;
            }
            memset((void *)TP_ROMFS_BASE, 0xff, len);
            return MP_OBJ_NEW_SMALL_INT(ROMFS_WRITE_ALIGN);
        }

        case MP_VFS_ROM_IOCTL_WRITE: {
            if (n_args < 4) {
                return error;
            }
            mp_uint_t offset = mp_obj_get_int(args[2]);
            mp_buffer_info_t data;
            mp_get_buffer_raise(args[3], &data, MP_BUFFER_READ);
            if (offset > ROMFS_SIZE || data.len > ROMFS_SIZE - offset) {
                return error;
            }
            memcpy((uint8_t *)TP_ROMFS_BASE + offset, data.buf, data.len);
            return MP_OBJ_NEW_SMALL_INT(0);
        }

        case MP_VFS_ROM_IOCTL_WRITE_COMPLETE:
            return MP_OBJ_NEW_SMALL_INT(0);

        default:
            return error;
    }
}
