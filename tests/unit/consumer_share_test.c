/*
 * Unit test of who owns which partition: everybody computes the same, shares are even, and little
 * moves when a member comes or goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/partition.h"
#include "core/share.h"

enum { MEMBERS = 20, NAME = 17 };

static char names[MEMBERS][NAME];

static void fill(struct share_member *members, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "%016zx", i * 7919);
        members[i] = (struct share_member){.name = bytes_of(names[i])};
    }
}

static void shares_are_even(void **state)
{
    struct share_member members[MEMBERS];
    size_t owner[PARTITIONS_MAX];

    (void)state;
    for (size_t count = 1; count <= MEMBERS; count++) {
        for (unsigned partitions = 1; partitions <= PARTITIONS_MAX; partitions += 5) {
            unsigned loads[MEMBERS] = {0};

            fill(members, count);
            share_out(members, count, partitions, owner);
            for (unsigned p = 0; p < partitions; p++) {
                assert_true(owner[p] < count);
                loads[owner[p]]++;
            }
            for (size_t i = 0; i < count; i++) {
                assert_int_equal(loads[i], members[i].load);
                assert_in_range(loads[i], partitions / count, (partitions + count - 1) / count);
            }
        }
    }
}

/* Rows may come in another order from another server. */
static void the_order_of_members_does_not_matter(void **state)
{
    struct share_member forth[MEMBERS], back[MEMBERS];
    size_t a[PARTITIONS_MAX], b[PARTITIONS_MAX];

    (void)state;
    fill(forth, MEMBERS);
    for (size_t i = 0; i < MEMBERS; i++)
        back[i] = forth[MEMBERS - 1 - i];
    share_out(forth, MEMBERS, 64, a);
    share_out(back, MEMBERS, 64, b);
    for (unsigned p = 0; p < 64; p++)
        assert_true(bytes_equal(forth[a[p]].name, back[b[p]].name));
}

static unsigned moved(size_t before, size_t after, unsigned partitions)
{
    struct share_member members[MEMBERS];
    size_t a[PARTITIONS_MAX], b[PARTITIONS_MAX];
    unsigned count = 0;

    fill(members, MEMBERS);
    share_out(members, before, partitions, a);
    share_out(members, after, partitions, b);
    for (unsigned p = 0; p < partitions; p++)
        count += a[p] != b[p];
    return count;
}

/* The least is the share of the one that came; dealing out by number would move nearly all. */
static void little_moves(void **state)
{
    (void)state;
    for (size_t count = 1; count < MEMBERS; count++) {
        const unsigned share = (unsigned)(64 / (count + 1)) + 1;

        assert_in_range(moved(count, count + 1, 64), 1, 3 * share + 4);
    }
    assert_in_range(moved(1, 2, 8), 4, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_even),
        cmocka_unit_test(the_order_of_members_does_not_matter),
        cmocka_unit_test(little_moves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
