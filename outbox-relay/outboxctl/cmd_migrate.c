/*
 * outboxctl migrate: apply the numbered migrations, make the outbox tables, or print the SQL of
 * both.
 */
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "outboxctl/print/json_print.h"
#include "sql/schema.h"
#include "target.h"

enum { SIDES_MAX = SCHEMA_SIDE_COUNT };

struct sides {
    enum schema_side items[SIDES_MAX];
    size_t count;
};

static void add_side(struct sides *sides, enum schema_side side)
{
    for (size_t i = 0; i < sides->count; i++) {
        if (sides->items[i] == side)
            return;
    }
    sides->items[sides->count++] = side;
}

static bool add_named(struct sides *sides, struct obx_bytes name)
{
    static const enum schema_side all[] = {SCHEMA_PRODUCER, SCHEMA_CONSUMER, SCHEMA_HALF,
                                           SCHEMA_BARRIER,  SCHEMA_NOTIFY,   SCHEMA_JOURNAL,
                                           SCHEMA_INBOX};

    if (bytes_is(name, "both")) {
        add_side(sides, SCHEMA_PRODUCER);
        add_side(sides, SCHEMA_CONSUMER);
        return true;
    }
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (bytes_is(name, schema_side_name(all[i]))) {
            add_side(sides, all[i]);
            return true;
        }
    }
    fprintf(stderr,
            "outboxctl: there is no side %.*s; it is producer, consumer, half, barrier, notify, "
            "journal or inbox\n",
            (int)name.len, (const char *)name.p);
    return false;
}

static bool parse_sides(const char *text, struct sides *out)
{
    memset(out, 0, sizeof(*out));
    for (const char *at = text == NULL ? "producer" : text;; at++) {
        size_t len = strcspn(at, ",");

        if (!add_named(out, (struct obx_bytes){.p = at, .len = len}))
            return false;
        at += len;
        if (*at == '\0')
            return true;
    }
}

static bool has_side(const struct sides *sides, enum schema_side side)
{
    for (size_t i = 0; i < sides->count; i++) {
        if (sides->items[i] == side)
            return true;
    }
    return false;
}

static enum ctl_exit print_sql(const struct sides *sides, const char *outbox)
{
    for (size_t i = 0; i < sides->count; i++) {
        size_t count = 0;
        const struct schema_step *steps = schema_steps(sides->items[i], &count);

        for (size_t k = 0; k < count; k++)
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
    fflush(stdout);
}

static enum obx_code migrate_side(struct migration *migration, enum schema_side side,
                                  struct obx_err *err)
{
    enum obx_code rc = schema_migrate(migration->db, side, on_step, migration, err);

    if (rc == OBX_OK && !migration->args->json)
        printf("%s: %s is at version %u\n", migration->target->source, schema_side_name(side),
               (unsigned)schema_latest(side));
    return rc;
}

static enum obx_code table_exists(struct db *db, const char *name, bool *out, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db,
                                "SELECT 1 FROM information_schema.tables"
                                " WHERE table_schema = DATABASE() AND table_name = ?",
                                DB_ARGS(DB_TEXT(name)), &rows, err);

    *out = rc == OBX_OK && db_rows_count(rows) > 0;
    db_rows_free(rows);
    return rc;
}

static enum obx_code make_outbox(struct migration *migration, const char *name, struct obx_err *err)
{
    bool is_there = false;
    enum obx_code rc = table_exists(migration->db, name, &is_there, err);

    if (rc == OBX_OK)
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

static enum obx_code make_outboxes(struct migration *migration, struct obx_err *err)
{
    const char *extra = migration->args->text[CTL_OUTBOX];
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < migration->target->outbox_count && rc == OBX_OK; i++)
        rc = make_outbox(migration, migration->target->outboxes[i], err);
    if (rc == OBX_OK && extra != NULL)
        rc = make_outbox(migration, extra, err);
    return rc;
}

static enum ctl_exit migrate_target(struct migration *migration, const struct sides *sides)
{
    struct obx_err err = {0};
    enum obx_code rc = OBX_OK;

    migration->db = target_connect(migration->target);
    if (migration->db == NULL)
        return CTL_FAILED;
    for (size_t i = 0; i < sides->count && rc == OBX_OK; i++)
        rc = migrate_side(migration, sides->items[i], &err);
    if (rc == OBX_OK && has_side(sides, SCHEMA_PRODUCER))
        rc = make_outboxes(migration, &err);
    if (rc != OBX_OK)
        target_complain(migration->target, &err);
    db_close(migration->db);
    return rc == OBX_OK ? CTL_OK : CTL_FAILED;
}

/* Every database is tried, so that one that is away does not keep the others old. */
static enum ctl_exit migrate_all(const struct ctl_args *args, const struct targets *targets,
                                 const struct sides *sides)
{
    json_t *report = json_array();
    enum ctl_exit rc = CTL_OK;

    for (size_t i = 0; i < targets->count; i++) {
        struct migration migration = {.args = args,
                                      .target = &targets->items[i],
                                      .applied = json_array(),
                                      .outboxes = json_array()};
        bool is_done = migrate_target(&migration, sides) == CTL_OK;

        if (!is_done)
            rc = CTL_FAILED;
        json_array_append_new(report,
                              json_pack("{s:s, s:b, s:o, s:o}", "source", targets->items[i].source,
                                        "done", is_done, "applied", migration.applied, "outboxes",
                                        migration.outboxes));
    }
    if (args->json) {
        json_print(report);
    }
    json_decref(report);
    return rc;
}

static enum ctl_exit run_migrate(const struct ctl_args *args)
{
    struct targets targets;
    struct sides sides;
    enum ctl_exit rc;

    if (!parse_sides(args->text[CTL_SIDE], &sides))
        return CTL_USAGE;
    if (args->text[CTL_OUTBOX] != NULL && !has_side(&sides, SCHEMA_PRODUCER))
        return ctl_usage(args, "--outbox makes a table of the side producer");
    if (args->text[CTL_PRINT] != NULL)
        return print_sql(&sides, args->text[CTL_OUTBOX]);
    rc = targets_open(args, &targets);
    if (rc == CTL_OK)
        rc = migrate_all(args, &targets, &sides);
    targets_close(&targets);
    return rc;
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
