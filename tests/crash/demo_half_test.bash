#!/usr/bin/env bash
# Runs the short demo of half-messages as a user would, with servers of its own; it audits itself.
# usage: demo_half_test.bash SOURCE_FOLDER
set -u
unset OBX_SERVERS_DIR
exec bash "$1/examples/demo-half" --fast </dev/null
