// Port options of our QEMU boards: MicroPython's own, with a few changed. It takes the
// place of mpconfigport.h through MP_CONFIGFILE, so that MicroPython needs no patch.
#ifndef TINYPROF_QEMU_CONFIG_H
#define TINYPROF_QEMU_CONFIG_H

#include <mpconfigport.h>

// ROMFS in a memory window that stands for flash; support.c has the ioctl.
#undef MICROPY_VFS_ROM_IOCTL
#define MICROPY_VFS_ROM_IOCTL (1)

// The port looks at the UART only when a script reads stdin, so Ctrl-C could not stop a
// running one. The virtual machine counts its jumps and looks there once in a while.
extern int tp_polls_left;
void tp_poll_uart(void);

#define TP_HOOKS_PER_POLL (64)
// clang-format off
#define MICROPY_VM_HOOK_LOOP { if (--tp_polls_left <= 0) { tp_poll_uart(); } }
// clang-format on

// For C modules: mp_event_handle_nowait() in a long loop sees Ctrl-C as well.
#define MICROPY_INTERNAL_EVENT_HOOK tp_poll_uart()

#endif // TINYPROF_QEMU_CONFIG_H
