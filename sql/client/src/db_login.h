/*
 * The login: the client library's options, and what a line may carry.
 *
 * A password goes out in a form that somebody on the line could read only where nobody can listen
 * or step between. The client libraries judge that too late or not at all, so a method of our own
 * stands before theirs: it is the one that is tried first, says nothing of the password, waits for
 * the method that the server asks for, and hands over to it only when the line may carry it. Used
 * by db_open.c; tests/unit/db_hostile_test.c plays the server.
 */
#ifndef SQL_DB_LOGIN_H
#define SQL_DB_LOGIN_H

#include "db_private.h"

/** Once per process, after mysql_library_init: make our method known to the client library. */
void db_login_register(void);
/** Connect and log in. Error codes as db_open. */
OBX_NODISCARD enum obx_code db_login(struct db *db, const struct db_opts *opts,
                                     struct obx_err *err);
/** What a statement's error means while a connection is being made: a missing table is a wrong
 * option, and so on. */
enum obx_code db_connect_code(enum obx_code code);

#endif
