/*
 * The two servers of tests/support/db_pair, for a test. What goes wrong fails the running test.
 */
#ifndef OBX_TEST_DB_PAIR_H
#define OBX_TEST_DB_PAIR_H

/** tests/support/db_pair COMMAND NODE; node 0: none. */
void db_pair(const char *command, unsigned node);
/** From now on OBX_TEST_DB_... in the environment are those of the pair, OBX_TEST_DB_HOST both. */
void db_pair_take_env(void);

#endif
