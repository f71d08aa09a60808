// QEMU's sim machine starts an lx106 at 0x50000000; literals lie before the code that reads them.
    .section .reset, "ax"
    .global _reset
_reset:
    j _start
    .section .init, "ax"
    .literal_position
    .align 4
_start:
    movi a1, 0x60ff0000
    call0 main
1:  j 1b
