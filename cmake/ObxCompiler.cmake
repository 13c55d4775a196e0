# Compiler settings for every target of the tree: language level, warnings, sanitizers, hardening.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
# The static parts end up in a shared library, so all code is position independent.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Type of build" FORCE)
endif()

find_program(OBX_CCACHE ccache)
mark_as_advanced(OBX_CCACHE)
if(OBX_CCACHE AND NOT DEFINED CMAKE_C_COMPILER_LAUNCHER)
    set(CMAKE_C_COMPILER_LAUNCHER "${OBX_CCACHE}")
endif()

# The strict C11 mode hides POSIX. _DEFAULT_SOURCE adds the BSD names; _GNU_SOURCE stays with the
# single files that need it, because it changes the meaning of strerror_r().
add_compile_definitions(_POSIX_C_SOURCE=200809L _DEFAULT_SOURCE)

add_compile_options(
    "$<$<COMPILE_LANGUAGE:C>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wstrict-prototypes>"
    "$<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes;-Wformat=2;-Wundef;-Wvla;-Wswitch-enum>"
    "$<$<COMPILE_LANGUAGE:C>:-Wcast-qual;-Wwrite-strings>")
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-std=c++11>")
if(OBX_WERROR)
    add_compile_options(-Werror)
endif()

if(OBX_CRASH_POINTS)
    add_compile_definitions(OBX_CRASH_POINTS=1)
endif()

if(OBX_SANITIZE)
    add_compile_options(-fsanitize=${OBX_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${OBX_SANITIZE})
endif()

if(OBX_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "OBX_FUZZ needs clang; configure with: cmake --preset fuzz")
    endif()
    # Instrument the parts; only the fuzz programs themselves link libFuzzer's main().
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()

if(OBX_COVERAGE)
    add_compile_options(--coverage)
    add_link_options(--coverage)
endif()

if(OBX_HARDEN)
    # As the distributions build: what the compiler and the C library know of it. Level 3 of fortify needs gcc 12 or
    # clang 15; with an older one, or an older glibc, it would be taken for 2, with a warning.
    include(CheckCCompilerFlag)
    include(CheckCSourceCompiles)
    set(CMAKE_REQUIRED_FLAGS "-O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -Werror")
    check_c_source_compiles("#include <string.h>\nint main(void) { return (int)strlen(\"\"); }" OBX_HAS_FORTIFY_3)
    unset(CMAKE_REQUIRED_FLAGS)
    add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=$<IF:$<BOOL:${OBX_HAS_FORTIFY_3}>,3,2> -fstack-protector-strong)
    check_c_compiler_flag(-fstack-clash-protection OBX_HAS_STACK_CLASH)
    if(OBX_HAS_STACK_CLASH)
        add_compile_options(-fstack-clash-protection)
    endif()
    # Control-flow protection: an option of the processor's family.
    check_c_compiler_flag(-fcf-protection=full OBX_HAS_CF_PROTECTION)
    check_c_compiler_flag(-mbranch-protection=standard OBX_HAS_BRANCH_PROTECTION)
    if(OBX_HAS_CF_PROTECTION)
        add_compile_options(-fcf-protection=full)
    elseif(OBX_HAS_BRANCH_PROTECTION)
        add_compile_options(-mbranch-protection=standard)
    endif()
    add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
    include(CheckPIESupported)
    check_pie_supported(LANGUAGES C)
endif()
