/*
 * outboxctl migrate: apply the numbered migrations, make the outbox tables, or print the SQL of
 * both.
 */
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "outboxctl/print/json_print.h"
#include "outboxctl/target.h"
#include "sql/schema.h"

#define SIDE_BIT(side) (1U << (side))
enum { SIDE_COUNT = SCHEMA_INBOX + 1 };

/* "producer,half" as bits. They are applied in the order of the enum, in which a side comes after
 * those that it needs. */
static bool parse_sides(const struct ctl_args *args, unsigned *out)
{
    const char *text = args->text[CTL_SIDE] == NULL ? "producer" : args->text[CTL_SIDE];

    *out = 0;
    for (;; text++) {
        const struct obx_bytes name = {.p = text, .len = strcspn(text, ",")};
        unsigned found =
            bytes_is(name, "both") ? SIDE_BIT(SCHEMA_PRODUCER) | SIDE_BIT(SCHEMA_CONSUMER) : 0;

        for (unsigned side = 0; side < SIDE_COUNT; side++)
            if (bytes_is(name, schema_side_name((enum schema_side)side)))
                found = SIDE_BIT(side);
        if (found == 0) {
            ctl_usage(args,
                      "there is no side %.*s; it is producer, consumer, half, barrier, notify, "
                      "journal or inbox",
                      (int)name.len, text);
            return false;
        }
        *out |= found;
        text += name.len;
        if (*text == '\0')
            return true;
    }
}

static enum ctl_exit print_sql(unsigned sides, const char *outbox)
{
    for (unsigned side = 0; side < SIDE_COUNT; side++) {
        size_t count = 0;
        const struct schema_step *steps = schema_steps((enum schema_side)side, &count);

        for (size_t k = 0; k < count && (sides & SIDE_BIT(side)) != 0; k++)
            printf("-- %s\n%s\n", steps[k].name, steps[k].sql);
    }
    if (outbox != NULL)
        printf("CREATE TABLE IF NOT EXISTS `%s` LIKE `outbox`;\n", outbox);
    return CTL_OK;
}

/* One database on its way. */
struct migration {
    const struct ctl_args *args;
    const struct target *target;
    struct db *db;
    json_t *applied;  /* names of steps */
    json_t *outboxes; /* names of tables made */
};

static void on_step(const struct schema_step *step, void *ctx)
{
    struct migration *migration = ctx;

    json_array_append_new(migration->applied, json_string(step->name));
    if (!migration->args->json)
        printf("%s: applying %s version %u (%s)\n", migration->target->source,
               schema_side_name(step->side), (unsigned)step->version, step->name);
    fflush(stdout); /* what comes next may take long */
}

static enum obx_code make_outbox(struct migration *migration, const char *name, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    bool is_there;
    enum obx_code rc = db_query(migration->db,
                                "SELECT 1 FROM information_schema.tables"
                                " WHERE table_schema = DATABASE() AND table_name = ?",
                                DB_ARGS(DB_TEXT(name)), &rows, err);

    if (rc != OBX_OK)
        return rc;
    is_there = db_rows_count(rows) > 0;
    db_rows_free(rows);
    /* One that is there under this name may be something else. */
    rc = is_there ? schema_check_outbox(migration->db, name, err)
                  : schema_add_outbox(migration->db, name, err);
    if (rc != OBX_OK)
        return rc;
    if (!is_there)
        json_array_append_new(migration->outboxes, json_string(name));
    if (!migration->args->json)
        printf("%s: outbox %s %s\n", migration->target->source, name,
               is_there ? "is there" : "is made");
    return OBX_OK;
}

static enum obx_code migrate_target(struct migration *migration, unsigned sides,
                                    struct obx_err *err)
{
    const struct target *target = migration->target;
    const char *extra = migration->args->text[CTL_OUTBOX];
    enum obx_code rc = OBX_OK;

    for (unsigned side = 0; side < SIDE_COUNT && rc == OBX_OK; side++) {
        if ((sides & SIDE_BIT(side)) == 0)
            continue;
        rc = schema_migrate(migration->db, (enum schema_side)side, on_step, migration, err);
        if (rc == OBX_OK && !migration->args->json)
            printf("%s: %s is at version %u\n", target->source,
                   schema_side_name((enum schema_side)side),
                   (unsigned)schema_latest((enum schema_side)side));
    }
    if ((sides & SIDE_BIT(SCHEMA_PRODUCER)) == 0)
        return rc;
    for (size_t i = 0; i < target->outbox_count && rc == OBX_OK; i++)
        rc = make_outbox(migration, target->outboxes[i], err);
    return rc == OBX_OK && extra != NULL ? make_outbox(migration, extra, err) : rc;
}

/* Every database is tried, so that one that is away does not keep the others old. */
static enum ctl_exit migrate_all(const struct ctl_args *args, const struct targets *targets,
                                 unsigned sides)
{
    json_t *report = json_array();
    enum ctl_exit status = CTL_OK;

    for (size_t i = 0; i < targets->count; i++) {
        struct migration migration = {.args = args,
                                      .target = &targets->items[i],
                                      .applied = json_array(),
                                      .outboxes = json_array()};
        struct obx_err err = {0};
        bool is_done = false;

        migration.db = target_connect(migration.target);
        if (migration.db != NULL) {
            is_done = migrate_target(&migration, sides, &err) == OBX_OK;
            if (!is_done)
                target_complain(migration.target, &err);
        }
        db_close(migration.db);
        if (!is_done)
            status = CTL_FAILED;
        json_array_append_new(report,
                              json_pack("{s:s, s:b, s:o, s:o}", "source", targets->items[i].source,
                                        "done", is_done, "applied", migration.applied, "outboxes",
                                        migration.outboxes));
    }
    if (args->json)
        json_print(report);
    json_decref(report);
    return status;
}

static enum ctl_exit run_migrate(const struct ctl_args *args)
{
    struct targets targets;
    enum ctl_exit status;
    unsigned sides = 0;

    if (!parse_sides(args, &sides))
        return CTL_USAGE;
    if (args->text[CTL_OUTBOX] != NULL && (sides & SIDE_BIT(SCHEMA_PRODUCER)) == 0)
        return ctl_usage(args, "--outbox makes a table of the side producer");
    if (args->text[CTL_PRINT] != NULL)
        return args->json ? ctl_usage(args, "--print prints SQL, and no JSON")
                          : print_sql(sides, args->text[CTL_OUTBOX]);
    status = targets_open(args, &targets);
    if (status == CTL_OK)
        status = migrate_all(args, &targets, sides);
    targets_close(&targets);
    return status;
}

const struct ctl_command migrate_commands[] = {
    {.name = "migrate",
     .options = CTL_TARGET | CTL_BIT(SIDE) | CTL_BIT(OUTBOX) | CTL_BIT(PRINT),
     .summary = "make or update the tables",
     .synopsis = "[--side SIDES] [--outbox NAME] [--print]",
     .help =
         "Applies the missing migrations, one after the other, and makes the outbox tables\n"
         "that the configuration names. Doing it again does nothing. The user needs the\n"
         "right to create tables.\n"
         "\n"
         "  --side SIDES          producer (default), consumer, half, barrier, notify, journal,\n"
         "                        inbox; several with commas; both: producer,consumer. A "
         "consumer's\n"
         "                        database is named with --db\n"
         "  --outbox NAME         make this outbox table too, with the definition of `outbox`\n"
         "  --print               print the SQL to apply by hand, and do nothing\n",
     .run = run_migrate},
    {0}};
