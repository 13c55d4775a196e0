# Writes the SQL files named in FILES (a ;-list of paths) into the C file OUT, as the tables that src/schema_files.h declares.
# Run at build time:  cmake -DOUT=... -DFILES="a.sql;b.sql" -P embed_sql.cmake
# A file is named <side>_<version, four digits>_<word>.sql, and FILES has each side's in order of version.
# Bytes go in as character constants: a string literal may be too long for C11's guarantees.

function(read_as_constants path result)
    file(READ "${path}" hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," constants "${hex}")
    # A line break after every 16 bytes or so.
    string(REGEX REPLACE "(('.x..',)('.x..',)('.x..',)('.x..',)('.x..',)('.x..',)('.x..',)('.x..',))"
                         "\\1\n    " constants "${constants}")
    set(${result} "${constants}" PARENT_SCOPE)
endfunction()

set(sides producer consumer half barrier notify journal inbox)
list(JOIN sides "|" any_side)
set(arrays "")
foreach(side IN LISTS sides)
    set(${side}_steps "")
    set(${side}_count 0)
endforeach()
foreach(path IN LISTS FILES)
    get_filename_component(name "${path}" NAME_WE)
    if(NOT name MATCHES "^(${any_side})_([0-9][0-9][0-9][0-9])_[a-z0-9_]+$")
        message(FATAL_ERROR "embed_sql: ${path} is not named <side>_<version>_<word>.sql")
    endif()
    set(side ${CMAKE_MATCH_1})
    math(EXPR ${side}_count "${${side}_count} + 1")
    string(REGEX REPLACE "^0+" "" version "${CMAKE_MATCH_2}")
    if(NOT version EQUAL ${side}_count)
        message(FATAL_ERROR "embed_sql: ${path} is not the next version of its side")
    endif()
    string(TOUPPER ${side} side_name)
    read_as_constants("${path}" constants)
    string(APPEND arrays "static const char ${name}[] = {\n    ${constants}'\\0'};\n\n")
    string(APPEND ${side}_steps
           "    {SCHEMA_${side_name}, ${version}, \"${name}\", ${name}},\n")
endforeach()

set(tables "")
set(index "")
foreach(side IN LISTS sides)
    string(TOUPPER ${side} side_name)
    string(APPEND tables "static const struct schema_step ${side}_steps[] = {\n${${side}_steps}};\n\n")
    string(APPEND index "    [SCHEMA_${side_name}] = {\"${side}\", ${side}_steps, ${${side}_count}},\n")
endforeach()
file(WRITE "${OUT}"
     "/* Made by embed_sql.cmake from the files of sql/schema. */\n#include \"schema_files.h\"\n\n"
     "${arrays}${tables}const struct schema_side_files schema_files[] = {\n${index}};\n")
