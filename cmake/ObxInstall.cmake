# Packaging of a shared library: shared object with SOVERSION, headers, pkg-config file, CMake package.
include(CMakePackageConfigHelpers)

# obx_package_library(<target> NAME <rowpost-consumer> EXPORT <consumer> SOVERSION <n>
#                     DESCRIPTION <text> HEADERS <file>...)
#
# Installs the shared library <target> as lib<NAME>.so.<SOVERSION>, each header below include/ from its
# place after the last "include/" of its path, <NAME>.pc, and a CMake package found by
# find_package(<NAME>) that defines obx::<EXPORT>. In the build tree the alias obx::<EXPORT> is the same.
function(obx_package_library target)
    cmake_parse_arguments(PKG "" "NAME;EXPORT;SOVERSION;DESCRIPTION" "HEADERS" ${ARGN})
    foreach(word IN ITEMS NAME EXPORT SOVERSION DESCRIPTION HEADERS)
        if(NOT DEFINED PKG_${word})
            message(FATAL_ERROR "obx_package_library(${target}): ${word} is missing")
        endif()
    endforeach()

    set_target_properties(
        ${target}
        PROPERTIES OUTPUT_NAME ${PKG_NAME}
                   EXPORT_NAME ${PKG_EXPORT}
                   VERSION ${PROJECT_VERSION}
                   SOVERSION ${PKG_SOVERSION})
    target_include_directories(
        ${target} INTERFACE "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
    if(NOT TARGET obx::${PKG_EXPORT})
        add_library(obx::${PKG_EXPORT} ALIAS ${target})
    endif()

    install(
        TARGETS ${target}
        EXPORT ${PKG_NAME}-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
                COMPONENT ${PKG_EXPORT}
                NAMELINK_COMPONENT dev)
    foreach(header IN LISTS PKG_HEADERS)
        get_filename_component(path "${header}" ABSOLUTE)
        string(REGEX REPLACE "^.*/include/" "" below "${path}")
        get_filename_component(folder "${below}" DIRECTORY)
        install(FILES "${path}" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/${folder} COMPONENT dev)
    endforeach()
    _obx_package_cmake(${target})
    _obx_package_pkgconfig(${target})
endfunction()

# The config, version and targets files. A macro, so as to see the PKG_ variables of its caller.
macro(_obx_package_cmake target)
    set(cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/${PKG_NAME})
    configure_package_config_file(
        "${PROJECT_SOURCE_DIR}/cmake/package-config.cmake.in"
        "${CMAKE_CURRENT_BINARY_DIR}/${PKG_NAME}-config.cmake" INSTALL_DESTINATION ${cmake_dir})
    write_basic_package_version_file(
        "${CMAKE_CURRENT_BINARY_DIR}/${PKG_NAME}-config-version.cmake"
        VERSION ${PROJECT_VERSION}
        COMPATIBILITY SameMajorVersion)
    install(FILES "${CMAKE_CURRENT_BINARY_DIR}/${PKG_NAME}-config.cmake"
                  "${CMAKE_CURRENT_BINARY_DIR}/${PKG_NAME}-config-version.cmake"
            DESTINATION ${cmake_dir}
            COMPONENT dev)
    install(EXPORT ${PKG_NAME}-targets NAMESPACE obx:: DESTINATION ${cmake_dir} COMPONENT dev)
endmacro()

macro(_obx_package_pkgconfig target)
    # Relative to the .pc file, so that an installed tree may be moved. With an absolute libdir the
    # way back to the prefix is not known, and the prefix of the configuration is used.
    if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
        set(PKG_PREFIX "${CMAKE_INSTALL_PREFIX}")
    else()
        file(RELATIVE_PATH back "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
        string(REGEX REPLACE "/$" "" back "${back}")
        set(PKG_PREFIX "\${pcfiledir}/${back}")
    endif()
    configure_file("${PROJECT_SOURCE_DIR}/cmake/package.pc.in"
                   "${CMAKE_CURRENT_BINARY_DIR}/${PKG_NAME}.pc" @ONLY)
    install(FILES "${CMAKE_CURRENT_BINARY_DIR}/${PKG_NAME}.pc"
            DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
            COMPONENT dev)
endmacro()
