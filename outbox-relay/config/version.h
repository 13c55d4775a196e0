/* The version of the programs, from the one place that has it: project() in CMakeLists.txt. */
#ifndef DAEMON_VERSION_H
#define DAEMON_VERSION_H

#ifndef OBX_VERSION
#error "OBX_VERSION is defined by outbox-relay/CMakeLists.txt"
#endif

#endif
