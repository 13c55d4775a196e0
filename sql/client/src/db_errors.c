/*
 * The map from MySQL's and MariaDB's error numbers to enum obx_code, and the few questions whose
 * answer depends on the number and not on the code. Everything that knows such a number is in this
 * file, as a table in order of number; called by the other files of sql/client.
 * tests/unit/db_errors_test.c walks the table.
 */
#include "db_errors.h"

#include <string.h>

enum {
    CLIENT_MIN = 2000, /* errors of the client library itself, common to both libraries */
    CLIENT_MAX = 2999,
    MARIADB_CLIENT_MIN = 5000, /* those that only MariaDB Connector/C has */
    MARIADB_CLIENT_MAX = 5027,
    ER_OPTION_PREVENTS = 1290,
    ER_DOES_NOT_EXIST = 1305,
    MAP_END = 0,
};

static const struct db_error error_table[] = {
    /* The server's own file errors keep their small numbers. */
    {1, OBX_E_DB_FULL},        /* cannot create file */
    {2, OBX_E_DB_FULL},        /* error reading file */
    {3, OBX_E_DB_FULL},        /* error writing file */
    {5, OBX_E_DB_FULL},        /* out of memory */
    {20, OBX_E_DB_FULL},       /* disk full */
    {28, OBX_E_DB_FULL},       /* ENOSPC, passed through as it is */
    {1020, OBX_E_DB_DEADLOCK}, /* record changed since last read (innodb_snapshot_isolation) */
    {1021, OBX_E_DB_FULL},
    {1022, OBX_E_DB_DUPLICATE},
    {1026, OBX_E_DB_FULL}, /* error writing file */
    {1030, OBX_E_DB_FULL}, /* error from the storage engine, most often errno 28 */
    {1036, OBX_E_DB_READ_ONLY},
    {1037, OBX_E_DB_FULL},
    {1038, OBX_E_DB_FULL},
    {1040, OBX_E_DB_CONNECT}, /* too many connections */
    {1041, OBX_E_DB_FULL},
    {1042, OBX_E_DB_CONNECT}, /* cannot get the host name of our address */
    {1043, OBX_E_DB_CONNECT}, /* bad handshake */
    {1044, OBX_E_DB_DENIED},
    {1045, OBX_E_DB_AUTH},
    {1046, OBX_E_DB_NO_TABLE}, /* no database selected */
    {1047, OBX_E_DB_GONE},     /* unknown command: a Galera node that has left its cluster */
    {1048, OBX_E_DB_DATA},
    {1049, OBX_E_DB_NO_TABLE}, /* unknown database */
    {1053, OBX_E_DB_GONE},     /* shutdown */
    {1054, OBX_E_DB_NO_TABLE},
    {1062, OBX_E_DB_DUPLICATE},
    {1077, OBX_E_DB_GONE},
    {1078, OBX_E_DB_GONE},
    {1079, OBX_E_DB_GONE},
    {1080, OBX_E_DB_GONE},     /* forcing close of thread */
    {1094, OBX_E_NOT_FOUND},   /* KILL of a connection that is not there */
    {1105, OBX_E_DB_QUERY},    /* unknown error */
    {1109, OBX_E_DB_NO_TABLE}, /* unknown table */
    {1114, OBX_E_DB_FULL},
    {1118, OBX_E_DB_DATA},
    {1129, OBX_E_DB_CONNECT}, /* host blocked */
    {1130, OBX_E_DB_AUTH},    /* host not allowed */
    {1131, OBX_E_DB_AUTH},
    {1132, OBX_E_DB_DENIED},
    {1133, OBX_E_DB_AUTH},
    {1135, OBX_E_DB_CONNECT},  /* cannot create a thread */
    {1136, OBX_E_DB_NO_TABLE}, /* column count does not match: an older or newer table */
    {1142, OBX_E_DB_DENIED},
    {1143, OBX_E_DB_DENIED},
    {1146, OBX_E_DB_NO_TABLE},
    {1152, OBX_E_DB_GONE},   /* aborted connection */
    {1153, OBX_E_TOO_LARGE}, /* packet larger than max_allowed_packet */
    {1154, OBX_E_DB_GONE},
    {1155, OBX_E_DB_GONE},
    {1156, OBX_E_DB_GONE},
    {1157, OBX_E_DB_GONE},
    {1158, OBX_E_DB_GONE},
    {1159, OBX_E_DB_GONE},
    {1160, OBX_E_DB_GONE},
    {1161, OBX_E_DB_GONE},
    {1162, OBX_E_TOO_LARGE},
    {1169, OBX_E_DB_DUPLICATE},
    {1180, OBX_E_DB_QUERY}, /* error during COMMIT */
    {1184, OBX_E_DB_GONE},
    {1197, OBX_E_TOO_LARGE},  /* transaction larger than max_binlog_cache_size */
    {1203, OBX_E_DB_CONNECT}, /* the user has too many connections */
    {1205, OBX_E_DB_LOCK_WAIT},
    {1206, OBX_E_DB_FULL}, /* more locks than the lock table holds */
    {1207, OBX_E_DB_READ_ONLY},
    {1211, OBX_E_DB_DENIED},
    {1213, OBX_E_DB_DEADLOCK},
    {1216, OBX_E_DB_DATA},
    {1217, OBX_E_DB_DATA},
    {1223, OBX_E_DB_READ_ONLY}, /* FLUSH TABLES WITH READ LOCK */
    {1226, OBX_E_DB_CONNECT},   /* a limit of the user is used up */
    {1227, OBX_E_DB_DENIED},
    {1251, OBX_E_DB_AUTH},
    {1263, OBX_E_DB_DATA},
    {1264, OBX_E_DB_DATA},
    {1265, OBX_E_DB_DATA},
    {ER_OPTION_PREVENTS, OBX_E_DB_READ_ONLY}, /* --read-only, or another option: see db_code_of */
    {1292, OBX_E_DB_DATA},
    {1300, OBX_E_DB_DATA},
    {1301, OBX_E_TOO_LARGE},
    {ER_DOES_NOT_EXIST, OBX_E_DB_NO_SAVEPOINT}, /* or a procedure or function: see db_code_of */
    {1317, OBX_E_TIMEOUT},                      /* KILL QUERY */
    {1356, OBX_E_DB_DENIED},                    /* view without the rights of its definer */
    {1364, OBX_E_DB_DATA},
    {1365, OBX_E_DB_DATA},
    {1366, OBX_E_DB_DATA},
    {1367, OBX_E_DB_DATA},
    {1370, OBX_E_DB_DENIED},
    {1402, OBX_E_DB_DEADLOCK}, /* XA: rolled back */
    {1406, OBX_E_DB_DATA},
    {1410, OBX_E_DB_DENIED},
    {1411, OBX_E_DB_DATA},
    {1419, OBX_E_DB_DENIED},
    {1441, OBX_E_DB_DATA},
    {1449, OBX_E_DB_DENIED},
    {1451, OBX_E_DB_DATA},
    {1452, OBX_E_DB_DATA},
    {1461, OBX_E_DB_FULL}, /* max_prepared_stmt_count */
    {1524, OBX_E_DB_AUTH}, /* authentication plugin not loaded */
    {1525, OBX_E_DB_DATA},
    {1526, OBX_E_DB_DATA}, /* no partition for the value */
    {1557, OBX_E_DB_DUPLICATE},
    {1586, OBX_E_DB_DUPLICATE},
    {1613, OBX_E_DB_DEADLOCK}, /* XA: rolled back, took too long */
    {1614, OBX_E_DB_DEADLOCK}, /* XA: rolled back, deadlock */
    {1644, OBX_E_DB_DATA},     /* SIGNAL in a trigger */
    {1690, OBX_E_DB_DATA},
    {1698, OBX_E_DB_AUTH},
    {1761, OBX_E_DB_DUPLICATE},
    {1762, OBX_E_DB_DUPLICATE},
    {1792, OBX_E_DB_READ_ONLY},
    {1820, OBX_E_DB_AUTH}, /* password must be changed */
    {1835, OBX_E_DB_GONE}, /* malformed packet */
    {1836, OBX_E_DB_READ_ONLY},
    {1859, OBX_E_DB_DUPLICATE},
    {1862, OBX_E_DB_AUTH}, /* password expired */
    {1874, OBX_E_DB_READ_ONLY},
    {1927, OBX_E_DB_GONE}, /* MariaDB: connection killed */
    {1969, OBX_E_TIMEOUT}, /* MariaDB: max_statement_time */
    {2000, OBX_E_DB_GONE},
    {2001, OBX_E_DB_CONNECT},
    {2002, OBX_E_DB_CONNECT},
    {2003, OBX_E_DB_CONNECT},
    {2004, OBX_E_DB_CONNECT},
    {2005, OBX_E_DB_CONNECT},
    {2006, OBX_E_DB_GONE},
    {2007, OBX_E_DB_CONNECT},
    {2008, OBX_E_NOMEM},
    {2009, OBX_E_DB_CONNECT},
    {2010, OBX_E_DB_CONNECT},
    {2011, OBX_E_DB_CONNECT},
    {2012, OBX_E_DB_CONNECT},
    {2013, OBX_E_DB_GONE},
    {2014, OBX_E_DB_GONE}, /* commands out of sync: the protocol state is not known */
    {2019, OBX_E_DB_CONNECT},
    {2020, OBX_E_TOO_LARGE},
    {2026, OBX_E_DB_TLS},
    {2027, OBX_E_DB_GONE},
    {2030, OBX_E_INVALID},
    {2031, OBX_E_INVALID},
    {2034, OBX_E_INVALID},
    {2035, OBX_E_INVALID},
    {2036, OBX_E_INVALID},
    {2047, OBX_E_DB_CONNECT},
    {2048, OBX_E_DB_GONE},
    {2049, OBX_E_DB_AUTH},
    {2051, OBX_E_INVALID},
    {2052, OBX_E_INVALID},
    {2053, OBX_E_INVALID},
    {2054, OBX_E_INVALID},
    {2055, OBX_E_DB_GONE},
    {2056, OBX_E_DB_GONE},
    {2057, OBX_E_DB_QUERY},
    {2058, OBX_E_INVALID},
    {2059, OBX_E_DB_AUTH}, /* authentication plugin cannot be loaded */
    {2061, OBX_E_DB_AUTH},
    {3024, OBX_E_TIMEOUT},      /* MySQL: max_execution_time */
    {3058, OBX_E_DB_LOCK_WAIT}, /* MySQL: deadlock of user-level locks */
    {3100, OBX_E_DB_DEADLOCK},  /* MySQL: a plugin's hook refused the transaction */
    {3101, OBX_E_DB_DEADLOCK},  /* MySQL: group replication undid the transaction at COMMIT */
    {3118, OBX_E_DB_AUTH},      /* account locked */
    {3140, OBX_E_DB_DATA},      /* malformed JSON */
    {3141, OBX_E_DB_DATA},
    {3144, OBX_E_DB_DATA},
    {3146, OBX_E_DB_DATA},
    {3156, OBX_E_DB_DATA},
    {3157, OBX_E_DB_DATA},
    {3159, OBX_E_DB_TLS},       /* require_secure_transport */
    {3572, OBX_E_DB_LOCK_WAIT}, /* MySQL: NOWAIT */
    {3819, OBX_E_DB_DATA},      /* MySQL: CHECK constraint */
    {3903, OBX_E_DB_DATA},
    {4025, OBX_E_DB_DATA}, /* MariaDB: CHECK constraint */
    {4031, OBX_E_DB_GONE}, /* MySQL: closed by the server, idle too long */
    {4151, OBX_E_DB_AUTH}, /* MariaDB: account locked */
    {5001, OBX_E_DB_CONNECT},
    {5010, OBX_E_DB_AUTH},
    {5012, OBX_E_DB_AUTH},
};

const struct db_error *db_error_table(size_t *count)
{
    *count = sizeof(error_table) / sizeof(error_table[0]);
    return error_table;
}

enum obx_code db_code_of(unsigned number, const char *text)
{
    const size_t count = sizeof(error_table) / sizeof(error_table[0]);

    if (number == 0)
        return OBX_OK;
    if (number == ER_DOES_NOT_EXIST && text != NULL && strstr(text, "SAVEPOINT") == NULL)
        return OBX_E_DB_NO_TABLE;
    if (number == ER_OPTION_PREVENTS && text != NULL && strstr(text, "read-only") == NULL &&
        strstr(text, "read_only") == NULL)
        return OBX_E_DB_QUERY;
    for (size_t i = 0; i < count; i++) {
        if (error_table[i].number == number)
            return error_table[i].code;
    }
    if ((number >= CLIENT_MIN && number <= CLIENT_MAX) ||
        (number >= MARIADB_CLIENT_MIN && number <= MARIADB_CLIENT_MAX))
        return OBX_E_DB_GONE; /* the client library's own */
    return OBX_E_DB_QUERY;
}

static bool is_listed(unsigned number, const unsigned *list)
{
    for (; *list != MAP_END; list++) {
        if (*list == number)
            return true;
    }
    return false;
}

/* Besides the lost ones: after 1153 and 2020 the rest of the request is still on its way, after
 * 2008 part of an answer. */
bool db_error_is_fatal(unsigned number)
{
    static const unsigned fatal[] = {1153, 2008, 2020, 2026, MAP_END};

    return db_code_of(number, NULL) == OBX_E_DB_GONE || is_listed(number, fatal);
}

/* 1223 is not among them: FLUSH TABLES WITH READ LOCK is a backup, and passes. Nor is 1792, which is
 * about the transaction. */
bool db_error_is_of_replica(unsigned number, const char *text)
{
    static const unsigned replica[] = {ER_OPTION_PREVENTS, 1836, 1874, MAP_END};

    return is_listed(number, replica) && db_code_of(number, text) == OBX_E_DB_READ_ONLY;
}

/*
 * A server that answers COMMIT with one of these has rolled the transaction back. About all others
 * (killed while waiting for the log or for a replica, shutting down, error during COMMIT) we do not
 * know.
 */
bool db_error_undoes_commit(unsigned number)
{
    static const unsigned undone[] = {
        1020, 1197, 1205, 1213, 1290, 1402, 1451, 1452, 1613, 1614, 1792, 1836, 3100, 3101, MAP_END,
    };

    return is_listed(number, undone);
}

/*
 * 1243 unknown statement (the session was reset), 1615 the table changed, 2030 and 2056 the library
 * has dropped it, 2057 the result has other columns than before. In each case no row was written:
 * 2057 is about a result set.
 */
bool db_error_wants_prepare(unsigned number)
{
    static const unsigned again[] = {1243, 1615, 2030, 2056, 2057, MAP_END};

    return is_listed(number, again);
}

/* CR_STMT_NO_RESULT, which only newer versions of MariaDB's library have. */
bool db_error_is_no_result(unsigned number)
{
    return number == 5025;
}
