/*
 * mysql.h as MariaDB Connector/C and as Oracle's libmysqlclient have it, and the few names in which
 * they differ. Included by the .c files of sql/client only.
 */
#ifndef SQL_DB_MYSQL_H
#define SQL_DB_MYSQL_H

#include <mysql.h>

#ifdef MARIADB_PACKAGE_VERSION_ID
#define DB_CLIENT_IS_MARIADB 1
#else
#define DB_CLIENT_IS_MARIADB 0
#endif

/* Oracle's library dropped my_bool in 8.0; MariaDB's keeps it as a char. The name is after theirs.
 * NOLINTBEGIN(readability-identifier-naming) */
#if DB_CLIENT_IS_MARIADB
typedef my_bool db_bool;
#else
#include <stdbool.h>
typedef bool db_bool;
#endif
/* NOLINTEND(readability-identifier-naming) */

#endif
