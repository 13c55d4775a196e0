# Writes the files named in FILES (a ;-list of paths) into the C file OUT, as the table that assets.h declares.
# Run at build time:  cmake -DOUT=... -DFILES="a.css;b.js" -P embed_assets.cmake
# Bytes go in as character constants: a string literal may be too long for C11's guarantees.
set(arrays "")
set(table "")
foreach(path IN LISTS FILES)
    get_filename_component(name "${path}" NAME)
    string(MAKE_C_IDENTIFIER "${name}" id)
    file(READ "${path}" hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," constants "${hex}")
    string(REGEX REPLACE "(('.x..',)('.x..',)('.x..',)('.x..',)('.x..',)('.x..',)('.x..',)('.x..',))"
                         "\\1\n    " constants "${constants}")
    if(name MATCHES "\\.css$")
        set(type "text/css; charset=utf-8")
    else()
        set(type "text/javascript; charset=utf-8")
    endif()
    string(APPEND arrays "static const char ${id}[] = {\n    ${constants}'\\0'};\n\n")
    string(APPEND table "    {\"${name}\", \"${type}\", ${id}, sizeof(${id}) - 1},\n")
endforeach()
file(WRITE "${OUT}"
     "/* Made by embed_assets.cmake from the files of outbox-relay/console. */\n#include \"console/assets.h\"\n\n"
     "${arrays}const struct asset assets[] = {\n${table}};\n"
     "const size_t asset_count = sizeof(assets) / sizeof(assets[0]);\n")
