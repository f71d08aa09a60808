# User C module for CMake ports: -DUSER_C_MODULES=<...>/native_modules/micropython.cmake
add_library(usermod_tinyprof INTERFACE)
set(TINYPROF_CORE
    ${CMAKE_CURRENT_LIST_DIR}/counters/counters.c
    ${CMAKE_CURRENT_LIST_DIR}/executor/executor.c
    ${CMAKE_CURRENT_LIST_DIR}/gguf/strings.c
    ${CMAKE_CURRENT_LIST_DIR}/text/unicode_class.c
)
# All variants: kernels/isa.h chooses, the files of the others compile to nothing.
file(GLOB_RECURSE TINYPROF_KERNELS ${CMAKE_CURRENT_LIST_DIR}/kernels/*.c)
list(APPEND TINYPROF_CORE ${TINYPROF_KERNELS})
target_sources(usermod_tinyprof INTERFACE ${CMAKE_CURRENT_LIST_DIR}/module.c ${TINYPROF_CORE})
# Fused multiply-adds would round differently from core to core. The module knows its flags, so that
# each record can tell them.
set_source_files_properties(${TINYPROF_CORE} PROPERTIES COMPILE_OPTIONS "-O3;-ffp-contract=off")
# Types that the build does without, of LEGACY K TQ OWN, by the environment as in micropython.mk.
separate_arguments(TINYPROF_WITHOUT UNIX_COMMAND "$ENV{TINYPROF_WITHOUT}")
list(TRANSFORM TINYPROF_WITHOUT PREPEND "TP_WITHOUT_")
set_property(SOURCE ${TINYPROF_CORE} APPEND PROPERTY COMPILE_DEFINITIONS ${TINYPROF_WITHOUT})
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/module.c PROPERTIES
    COMPILE_DEFINITIONS "TP_CFLAGS=\"-O3 -ffp-contract=off\"")
target_link_libraries(usermod INTERFACE usermod_tinyprof)
