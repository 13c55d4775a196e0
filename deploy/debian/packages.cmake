# Debian packages, one for each component of the installation. `cmake --preset deb && cmake --build --preset deb --target package`
# leaves them in build/deb; tests/compat/packages tries them.
#
#   rowpost-relay           outbox-relay, inbox-relay, their units and the places of their configuration
#   rowpost-tools           outboxctl
#   librowpost1             rings the relay's doorbell
#   librowpost-consumer1    the library that consumers link      (the number is the soname's, docs/abi.md)
#   librowpost-half1        the client for half-messages
#   librowpost-dev          headers, pkg-config and CMake files of the three
set(OBX_DEB_VERSION "${PROJECT_VERSION}~dev" CACHE STRING "Upstream part of the packages' version; a release gives its own number")
set(OBX_DEB_REVISION "1" CACHE STRING "Revision of the packages")
set(OBX_DEB_MAINTAINER "Rowpost maintainers <maintainers@rowpost.example>" CACHE STRING "Who answers for these packages")
set(OBX_DEB_DATE "" CACHE STRING "Date of the packages' changelog, as date -R prints it; empty: that of the last commit")

set(CPACK_GENERATOR DEB)
# Each package has its own.
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "")
set(CPACK_PACKAGE_CONTACT "${OBX_DEB_MAINTAINER}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL relay tools rowpost consumer half dev)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
# Whatever the umask of the one who builds.
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_VERSION "${OBX_DEB_VERSION}")
set(CPACK_DEBIAN_PACKAGE_RELEASE "${OBX_DEB_REVISION}")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(obx_deb_full "${OBX_DEB_VERSION}-${OBX_DEB_REVISION}")

# obx_deb(<component> PACKAGE <name> SECTION <section> SUMMARY <line> TEXT <lines>): what a package says of itself.
macro(obx_deb component)
    cmake_parse_arguments(DEB "" "PACKAGE;SECTION;SUMMARY;TEXT" "" ${ARGN})
    string(TOUPPER ${component} upper)
    set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${DEB_PACKAGE})
    set(CPACK_DEBIAN_${upper}_PACKAGE_SECTION ${DEB_SECTION})
    set(CPACK_DEBIAN_${upper}_DESCRIPTION "${DEB_SUMMARY}\n${DEB_TEXT}")
    install(FILES "${PROJECT_BINARY_DIR}/deb/copyright" "${PROJECT_BINARY_DIR}/deb/${DEB_PACKAGE}/changelog.Debian.gz"
            DESTINATION share/doc/${DEB_PACKAGE} COMPONENT ${component})
    list(APPEND obx_deb_packages ${DEB_PACKAGE})
endmacro()

obx_deb(relay PACKAGE rowpost-relay SECTION net
        SUMMARY "transactional outbox for MySQL, MariaDB and RabbitMQ: daemons"
        TEXT "outbox-relay publishes the rows of outbox tables to RabbitMQ, inbox-relay\nputs messages into the inbox tables of services, or calls HTTP endpoints.\nNothing is lost, doubled or out of order, whatever is killed or cut off.\n.\nNeither is started before it is configured in /etc/rowpost.")
obx_deb(tools PACKAGE rowpost-tools SECTION net
        SUMMARY "transactional outbox for MySQL, MariaDB and RabbitMQ: operator's tool"
        TEXT "outboxctl makes the tables, shows what waits, is parked or dead, and lets\nan operator resume, replay or discard it.")
obx_deb(rowpost PACKAGE librowpost1 SECTION libs
        SUMMARY "rings the doorbell of the Rowpost relay"
        TEXT "An application that rings after its COMMIT has its message published at\nonce, not with the next poll.")
obx_deb(consumer PACKAGE librowpost-consumer1 SECTION libs
        SUMMARY "applies each RabbitMQ message exactly once in a database"
        TEXT "The library that a consumer in C links: a message's writes and its dedup\nrow commit in one transaction of MySQL or MariaDB.")
obx_deb(half PACKAGE librowpost-half1 SECTION libs
        SUMMARY "client for the half-messages of Rowpost"
        TEXT "Prepares, commits and rolls back messages that stay invisible until they\nare committed, at the API of outbox-relay.")
obx_deb(dev PACKAGE librowpost-dev SECTION libdevel
        SUMMARY "headers of the Rowpost libraries"
        TEXT "Headers, pkg-config and CMake files of librowpost, librowpost-consumer and\nlibrowpost-half.")

set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "librowpost1 (= ${obx_deb_full}), librowpost-consumer1 (= ${obx_deb_full}), librowpost-half1 (= ${obx_deb_full})")
set(CPACK_DEBIAN_RELAY_PACKAGE_RECOMMENDS "ca-certificates, rowpost-tools")
set(CPACK_DEBIAN_RELAY_PACKAGE_CONTROL_EXTRA
    "${PROJECT_SOURCE_DIR}/deploy/debian/postinst;${PROJECT_SOURCE_DIR}/deploy/debian/prerm;${PROJECT_SOURCE_DIR}/deploy/debian/postrm"
    "${PROJECT_SOURCE_DIR}/deploy/debian/conffiles")

foreach(upper IN ITEMS ROWPOST CONSUMER HALF)
    set(CPACK_DEBIAN_${upper}_PACKAGE_CONTROL_EXTRA "${PROJECT_SOURCE_DIR}/deploy/debian/triggers")
endforeach()

# Configuration without a source or a queue: the daemons refuse to start, and say what is missing.
install(FILES deploy/debian/relay.conf deploy/debian/inbox-relay.conf DESTINATION /etc/rowpost COMPONENT relay)
install(DIRECTORY DESTINATION /etc/rowpost/inbox-relay.d COMPONENT relay
        DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
install(DIRECTORY deploy/prometheus deploy/grafana DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT relay
        FILES_MATCHING PATTERN "*.yml" PATTERN "*.json")
install(FILES deploy/debian/lintian-overrides DESTINATION share/lintian/overrides RENAME rowpost-relay COMPONENT relay)

# The changelog of the packages points to the one of the product, and is the same however often it is made.
if(OBX_DEB_DATE STREQUAL "")
    execute_process(COMMAND git -C "${PROJECT_SOURCE_DIR}" log -1 --format=%cD OUTPUT_VARIABLE OBX_DEB_DATE
                    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(OBX_DEB_DATE STREQUAL "")
    set(OBX_DEB_DATE "Thu, 01 Jan 1970 00:00:00 +0000")
endif()
set(component_of_outbox-relay.8 relay)
set(component_of_inbox-relay.8 relay)
set(component_of_outboxctl.1 tools)
foreach(page IN ITEMS outbox-relay.8 inbox-relay.8 outboxctl.1)
    configure_file(deploy/debian/man/${page} "${PROJECT_BINARY_DIR}/deb/${page}" COPYONLY)
    execute_process(COMMAND gzip -9nf "${PROJECT_BINARY_DIR}/deb/${page}" COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX REPLACE ".*[.]" "" section ${page})
    install(FILES "${PROJECT_BINARY_DIR}/deb/${page}.gz" DESTINATION share/man/man${section}
            COMPONENT ${component_of_${page}})
endforeach()
foreach(OBX_DEB_PACKAGE IN LISTS obx_deb_packages)
    configure_file(deploy/debian/changelog.in "${PROJECT_BINARY_DIR}/deb/${OBX_DEB_PACKAGE}/changelog.Debian" @ONLY)
    execute_process(COMMAND gzip -9nf "${PROJECT_BINARY_DIR}/deb/${OBX_DEB_PACKAGE}/changelog.Debian" COMMAND_ERROR_IS_FATAL ANY)
endforeach()
configure_file(deploy/debian/copyright "${PROJECT_BINARY_DIR}/deb/copyright" COPYONLY)
include(CPack)
