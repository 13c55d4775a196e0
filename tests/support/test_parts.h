/*
 * A program with cases that others would feel (a server is stopped, or changed for all) beside cases
 * that disturb nobody: CTest runs it twice, with "shared" beside other programs and with "alone" by
 * itself (obx_add_test(... ALONE)). Without an argument all of it runs.
 */
#ifndef SUPPORT_TEST_PARTS_H
#define SUPPORT_TEST_PARTS_H

#include <string.h>

#include <cmocka.h>

/** shared and alone are arrays of struct CMUnitTest. The result is for main to return. */
#define TEST_RUN_PARTS(argc, argv, shared, alone)                                                  \
    ((((argc) > 1 && strcmp((argv)[1], "alone") == 0)                                              \
          ? 0                                                                                      \
          : cmocka_run_group_tests_name("shared", shared, NULL, NULL)) +                           \
     (((argc) > 1 && strcmp((argv)[1], "shared") == 0)                                             \
          ? 0                                                                                      \
          : cmocka_run_group_tests_name("alone", alone, NULL, NULL)))

#endif
