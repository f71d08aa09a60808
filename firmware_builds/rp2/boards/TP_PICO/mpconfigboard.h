#define MICROPY_HW_BOARD_NAME "Raspberry Pi Pico, tinyprof"
// Of 2 MB the last 256 KB are files, before them lies ROMFS; 512 KB are the firmware's.
#define MICROPY_HW_FLASH_STORAGE_BYTES (256 * 1024)
#define MICROPY_HW_ROMFS_BYTES (1280 * 1024)
