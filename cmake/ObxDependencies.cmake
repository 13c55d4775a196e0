# The libraries of others, each under one obx:: name, found through pkg-config.
#
#   obx::mysql        MariaDB Connector/C or Oracle's libmysqlclient   (<mysql.h>)
#   obx::rabbitmq     librabbitmq; OBX_RABBITMQ_C_HEADERS=1 when its headers are <rabbitmq-c/amqp.h>
#                     and 0 when they are <amqp.h> (before 0.13)
#   obx::openssl      OpenSSL, for what librabbitmq does not offer of TLS
#   obx::event        libevent's loop, obx::event_http its HTTP (tests only),
#                     obx::event_openssl TLS on it, obx::event_pthreads
#   obx::curl         libcurl, for calls to other programs over HTTP
#   obx::jansson      obx::cmocka (tests only)
#
# Only what a part asks for with obx_need() is looked for, so a tree of few parts needs few packages.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

set(OBX_MYSQL_CLIENT "auto" CACHE STRING "MySQL client library: auto, libmariadb or mysqlclient")
set_property(CACHE OBX_MYSQL_CLIENT PROPERTY STRINGS auto libmariadb mysqlclient)

# Makes the target obx::<name> from the first pkg-config module that is there.
function(_obx_pkg name debian)
    foreach(module IN LISTS ARGN)
        string(MAKE_C_IDENTIFIER "OBX_PKG_${module}" prefix)
        pkg_check_modules(${prefix} QUIET IMPORTED_TARGET GLOBAL ${module})
        if(${prefix}_FOUND)
            add_library(obx::${name} ALIAS PkgConfig::${prefix})
            message(STATUS "obx::${name}: ${module} ${${prefix}_VERSION}")
            set(_obx_pkg_prefix ${prefix} PARENT_SCOPE)
            return()
        endif()
    endforeach()
    string(JOIN " or " wanted ${ARGN})
    message(FATAL_ERROR "${wanted} is missing (pkg-config does not know it). "
                        "On Debian: apt-get install ${debian}, or run tests/support/packages")
endfunction()

function(_obx_need_mysql)
    if(OBX_MYSQL_CLIENT STREQUAL "auto")
        set(modules libmariadb mysqlclient)
    else()
        set(modules ${OBX_MYSQL_CLIENT})
    endif()
    _obx_pkg(mysql libmariadb-dev ${modules})
endfunction()

# cmocka 2 calls the names deprecated that are the only ones of cmocka 1.
function(_obx_need_cmocka)
    _obx_pkg(cmocka libcmocka-dev cmocka)
    if(${_obx_pkg_prefix}_VERSION VERSION_GREATER_EQUAL 2)
        target_compile_options(
            PkgConfig::${_obx_pkg_prefix} INTERFACE -Wno-error=deprecated-declarations)
    endif()
endfunction()

function(_obx_need_rabbitmq)
    _obx_pkg(rabbitmq librabbitmq-dev "librabbitmq>=0.11.0")
    find_path(
        OBX_RABBITMQ_C_DIR rabbitmq-c/amqp.h
        HINTS ${${_obx_pkg_prefix}_INCLUDE_DIRS} "${${_obx_pkg_prefix}_INCLUDEDIR}")
    mark_as_advanced(OBX_RABBITMQ_C_DIR)
    if(OBX_RABBITMQ_C_DIR)
        set(layout 1)
    else()
        set(layout 0)
    endif()
    target_compile_definitions(
        PkgConfig::${_obx_pkg_prefix} INTERFACE OBX_RABBITMQ_C_HEADERS=${layout})
endfunction()

# Not by pkg-config, which would bring libevent whole: a second copy of what obx::event is.
function(_obx_need_event_openssl)
    obx_need(event openssl)
    find_library(OBX_EVENT_OPENSSL event_openssl HINTS ${OBX_PKG_LIBEVENT_CORE_LIBRARY_DIRS})
    if(NOT OBX_EVENT_OPENSSL)
        message(FATAL_ERROR "libevent_openssl is missing. On Debian: apt-get install libevent-dev, "
                            "or run tests/support/packages")
    endif()
    add_library(obx_event_openssl INTERFACE)
    target_link_libraries(obx_event_openssl INTERFACE ${OBX_EVENT_OPENSSL} obx::event obx::openssl)
    add_library(obx::event_openssl ALIAS obx_event_openssl)
endfunction()

# obx_need(<name>...): makes obx::<name> for each of the names above, once.
function(obx_need)
    foreach(name IN LISTS ARGN)
        if(TARGET obx::${name})
            continue()
        endif()
        if(name STREQUAL "mysql")
            _obx_need_mysql()
        elseif(name STREQUAL "rabbitmq")
            _obx_need_rabbitmq()
        elseif(name STREQUAL "openssl")
            _obx_pkg(openssl libssl-dev openssl)
        elseif(name STREQUAL "curl")
            _obx_pkg(curl libcurl4-openssl-dev libcurl)
        elseif(name STREQUAL "event")
            _obx_pkg(event libevent-dev libevent_core)
        elseif(name STREQUAL "event_http")
            _obx_pkg(event_http libevent-dev libevent_extra)
        elseif(name STREQUAL "event_openssl")
            _obx_need_event_openssl()
        elseif(name STREQUAL "event_pthreads")
            _obx_pkg(event_pthreads libevent-dev libevent_pthreads)
        elseif(name STREQUAL "jansson")
            _obx_pkg(jansson libjansson-dev jansson)
        elseif(name STREQUAL "cmocka")
            _obx_need_cmocka()
        else()
            message(FATAL_ERROR "obx_need: no such dependency: ${name}")
        endif()
    endforeach()
endfunction()
