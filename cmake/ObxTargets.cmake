# Helpers that declare the parts, the tests and the header check, so that each costs a line or two.

set_property(GLOBAL PROPERTY OBX_HEADER_TARGETS "")

# The imported targets among LIBS that belong to obx_need().
function(_obx_need_from_libs)
    foreach(lib IN LISTS ARGN)
        if(lib MATCHES "^obx::(mysql|rabbitmq|openssl|curl|event|event_http|event_openssl|event_pthreads|jansson|cmocka)$")
            obx_need(${CMAKE_MATCH_1})
        endif()
    endforeach()
endfunction()

# obx_add_part(<target> [STATIC|SHARED|EXECUTABLE] [ALIAS <obx::alias>]
#              SOURCES <file>... [HEADERS <public header>...]
#              [PUBLIC_LIBS <target>...] [PRIVATE_LIBS <target>...])
#
# One part of the tree. Its include/ folder (where there is one) is public, its src/ folder private.
# HEADERS are compiled alone by the target check-headers. obx::mysql and its like may be named in the
# LIBS without more ado.
function(obx_add_part target)
    cmake_parse_arguments(
        PART "STATIC;SHARED;EXECUTABLE" "ALIAS" "SOURCES;HEADERS;PUBLIC_LIBS;PRIVATE_LIBS" ${ARGN})
    if(PART_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "obx_add_part(${target}): unknown words ${PART_UNPARSED_ARGUMENTS}")
    endif()
    _obx_need_from_libs(${PART_PUBLIC_LIBS} ${PART_PRIVATE_LIBS})
    if(PART_EXECUTABLE)
        add_executable(${target} ${PART_SOURCES})
    elseif(PART_SHARED)
        add_library(${target} SHARED ${PART_SOURCES})
    else()
        add_library(${target} STATIC ${PART_SOURCES})
    endif()
    if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/include" AND NOT PART_EXECUTABLE)
        target_include_directories(
            ${target} PUBLIC "$<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>")
    endif()
    if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/src")
        target_include_directories(${target} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}/src")
    endif()
    target_link_libraries(${target} PUBLIC ${PART_PUBLIC_LIBS} PRIVATE ${PART_PRIVATE_LIBS})
    if(PART_ALIAS)
        add_library(${PART_ALIAS} ALIAS ${target})
    endif()
    if(PART_HEADERS)
        obx_check_headers(${target} ${PART_HEADERS})
    endif()
endfunction()

# obx_check_headers(<target> <header>...): compiles each header alone, twice (it must stand a second
# inclusion), with the include path of the target; a public one (include/obx/) as C++ too. Part of the
# default build.
function(obx_check_headers target)
    set(sources "")
    foreach(header IN LISTS ARGN)
        get_filename_component(path "${header}" ABSOLUTE)
        string(MAKE_C_IDENTIFIER "${header}" stem)
        set(languages c)
        if(path MATCHES "/include/obx/" AND CMAKE_CXX_COMPILER)
            list(APPEND languages cpp)
        endif()
        foreach(language IN LISTS languages)
            set(source "${CMAKE_CURRENT_BINARY_DIR}/headers/${target}/${stem}.${language}")
            set(content "#include \"${path}\"\n#include \"${path}\"\nextern int obx_header_${stem};\n")
            file(CONFIGURE OUTPUT "${source}" CONTENT "${content}" @ONLY)
            list(APPEND sources "${source}")
        endforeach()
    endforeach()
    add_library(${target}_headers OBJECT ${sources})
    target_include_directories(
        ${target}_headers PRIVATE "$<TARGET_PROPERTY:${target},INCLUDE_DIRECTORIES>")
    get_target_property(type ${target} TYPE)
    if(NOT type STREQUAL "EXECUTABLE")
        target_link_libraries(${target}_headers PRIVATE ${target})
    endif()
    set_property(GLOBAL APPEND PROPERTY OBX_HEADER_TARGETS ${target}_headers)
endfunction()

# The target check-headers: every header that was named to obx_check_headers().
function(obx_add_header_target)
    get_property(targets GLOBAL PROPERTY OBX_HEADER_TARGETS)
    add_custom_target(check-headers)
    if(targets)
        add_dependencies(check-headers ${targets})
    endif()
endfunction()

# obx_add_test(NAME <name> LABEL unit|system|crash SOURCES <file>... [LIBS <target>...]
#              [TIMEOUT <seconds>] [THREADS] [SERIAL] [ALONE] [SLOW] [ENV <name=value>...])
#
# One cmocka program, registered with CTest. THREADS adds the label "threads" (run under the thread
# sanitizer too). SERIAL runs alone. A crash test kills servers that others would use: it gets a pair for itself,
# see tests/support/on_free_servers.
# ALONE: some of its cases do (see test_parts.h); NAME runs the others beside other programs, NAME_alone these.
# SLOW, of half a minute and more: begins before the others, so that nobody waits for it at the end.
# TIMEOUT is 60 seconds for unit, 180 for system and 300 for crash tests if not given; it is for an ordinary
# build, under a sanitizer it is four times as long.
function(obx_add_test)
    cmake_parse_arguments(TEST "THREADS;SERIAL;ALONE;SLOW" "NAME;LABEL;TIMEOUT" "SOURCES;LIBS;ENV" ${ARGN})
    if(TEST_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "obx_add_test(${TEST_NAME}): unknown words ${TEST_UNPARSED_ARGUMENTS}")
    endif()
    set(unit_timeout 60)
    set(system_timeout 180)
    set(crash_timeout 300)
    if(NOT DEFINED ${TEST_LABEL}_timeout)
        message(FATAL_ERROR "obx_add_test(${TEST_NAME}): LABEL is unit, system or crash")
    endif()
    if(NOT TEST_TIMEOUT)
        set(TEST_TIMEOUT ${${TEST_LABEL}_timeout})
    endif()
    if(OBX_SANITIZE)
        math(EXPR TEST_TIMEOUT "4 * ${TEST_TIMEOUT}")
    endif()
    _obx_need_from_libs(obx::cmocka ${TEST_LIBS})
    add_executable(${TEST_NAME} ${TEST_SOURCES})
    target_link_libraries(${TEST_NAME} PRIVATE ${TEST_LIBS} obx_test_support obx::cmocka)
    set(runs ${TEST_NAME})
    set(launcher "")
    if(TEST_LABEL STREQUAL "crash")
        set(launcher "${PROJECT_SOURCE_DIR}/tests/support/on_free_servers")
    endif()
    if(TEST_ALONE)
        list(APPEND runs ${TEST_NAME}_alone)
        add_test(NAME ${TEST_NAME} COMMAND ${TEST_NAME} shared)
        add_test(NAME ${TEST_NAME}_alone COMMAND ${TEST_NAME} alone)
        set_tests_properties(${TEST_NAME}_alone PROPERTIES RUN_SERIAL TRUE)
    else()
        add_test(NAME ${TEST_NAME} COMMAND ${launcher} $<TARGET_FILE:${TEST_NAME}>)
    endif()
    set(labels ${TEST_LABEL})
    if(TEST_THREADS)
        list(APPEND labels threads)
    endif()
    set_tests_properties(
        ${runs} PROPERTIES LABELS "${labels}" TIMEOUT ${TEST_TIMEOUT} ENVIRONMENT "${TEST_ENV}")
    if(TEST_SLOW)
        set_tests_properties(${TEST_NAME} PROPERTIES COST 100)
    endif()
    # Under a sanitizer they may run among the system tests, whose servers they would kill.
    if(TEST_SERIAL OR (TEST_LABEL STREQUAL "crash" AND OBX_SANITIZE))
        set_tests_properties(${TEST_NAME} PROPERTIES RUN_SERIAL TRUE)
    endif()
endfunction()

# obx_add_script_test(NAME <name> LABEL unit|system|crash SCRIPT <file.bash> [ARGS <arg>...]
#                     [TIMEOUT <seconds>] [SERIAL] [LOCK <name>])
#
# A test written in bash; counted as one case. Those with the same LOCK do not run at the same time.
function(obx_add_script_test)
    cmake_parse_arguments(TEST "SERIAL" "NAME;LABEL;SCRIPT;TIMEOUT;LOCK" "ARGS" ${ARGN})
    if(NOT TEST_TIMEOUT)
        set(TEST_TIMEOUT 60)
    endif()
    add_test(NAME ${TEST_NAME} COMMAND bash "${CMAKE_CURRENT_SOURCE_DIR}/${TEST_SCRIPT}" ${TEST_ARGS})
    set_tests_properties(
        ${TEST_NAME} PROPERTIES LABELS ${TEST_LABEL} TIMEOUT ${TEST_TIMEOUT} RUN_SERIAL
                                                                         "${TEST_SERIAL}")
    if(TEST_LOCK)
        set_tests_properties(${TEST_NAME} PROPERTIES RESOURCE_LOCK ${TEST_LOCK})
    endif()
endfunction()
