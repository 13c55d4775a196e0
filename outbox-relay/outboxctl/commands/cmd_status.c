/*
 * outboxctl status: each outbox as its database has it, and the relay as it says itself where it
 * can be reached. Everything is collected as JSON; the tables for people are made from that.
 */
#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "ops/human.h"
#include "ops/outbox_state.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/print/table.h"
#include "outboxctl/target.h"
#include "service/http_get.h"

enum {
    ASK_TIMEOUT_MS = 2000,
    HTTP_OK = 200,
    US_PER_MS = 1000,
    LEASE_MAX = 192,
    NAME_MAX_LEN = 128
};

struct status {
    const struct ctl_args *args;
    json_t *outboxes;
    json_t *strays; /* delayed messages for an outbox that no relay drains */
    enum ctl_exit rc;
};

/* ---- what the databases have ---- */

static json_t *state_json(const char *source, const char *outbox, const struct outbox_state *state)
{
    json_t *lease =
        json_pack("{s:b, s:s, s:s, s:I, s:I}", "owned", state->is_owned, "owner", state->owner,
                  "address", state->address, "epoch", (json_int_t)state->epoch, "left_ms",
                  (json_int_t)(state->lease_left_us / US_PER_MS));

    return json_pack(
        "{s:s, s:s, s:I, s:b, s:I, s:I, s:b, s:I, s:I, s:o}", "source", source, "outbox", outbox,
        "waiting", (json_int_t)state->waiting, "waiting_capped", state->waiting_capped,
        "oldest_age_ms", (json_int_t)(state->oldest_us / US_PER_MS), "parked",
        (json_int_t)state->parked, "parked_capped", state->parked_capped, "frozen_keys",
        (json_int_t)state->frozen, "requests", (json_int_t)state->requested, "lease", lease);
}

/* One database that is away does not hide the others: it has a line of its own on stderr, an entry
 * in the JSON, and the exit status. */
static void add_failure(struct status *status, const char *source, const char *outbox,
                        const struct obx_err *err)
{
    status->rc = CTL_FAILED;
    fprintf(stderr, "outboxctl: %s%s%s: ", source, outbox[0] == '\0' ? "" : "/", outbox);
    text_print_clean(stderr, err->text);
    fputc('\n', stderr);
    json_array_append_new(status->outboxes, json_pack("{s:s, s:s, s:s}", "source", source, "outbox",
                                                      outbox, "error", err->text));
}

/* --outbox, which holds for strays, too. */
static bool is_wanted(const struct status *status, const char *outbox)
{
    const char *wanted = status->args->text[CTL_OUTBOX];

    return wanted == NULL || strcmp(wanted, outbox) == 0;
}

static void read_outbox(struct status *status, struct db *db, const char *source,
                        const char *outbox)
{
    struct outbox_state state;
    struct obx_err err = {0};

    if (!is_wanted(status, outbox))
        return;
    if (outbox_state_read(db, outbox, &state, &err) != OBX_OK)
        add_failure(status, source, outbox, &err);
    else
        json_array_append_new(status->outboxes, state_json(source, outbox, &state));
}

/* Of all outboxes that the database knows. */
static void read_known(struct status *status, struct db *db, const char *source)
{
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    char outbox[NAME_MAX_LEN];

    if (outbox_names_read(db, &rows, &err) != OBX_OK)
        add_failure(status, source, "", &err);
    while (rows != NULL && db_rows_next(rows)) {
        bytes_to_text(db_rows_bytes(rows, 0), outbox, sizeof(outbox));
        read_outbox(status, db, source, outbox);
    }
    db_rows_free(rows);
}

/* A misspelt name, or a table without a lane. One that was read as an outbox has a lease to show
 * whose it is. */
static void read_strays(struct status *status, struct db *db, const struct target *target)
{
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    char outbox[NAME_MAX_LEN];

    if (outbox_strays_read(db, target->outbox_count == 0, &rows, &err) != OBX_OK)
        add_failure(status, target->source, "outbox_delayed", &err);
    while (rows != NULL && db_rows_next(rows)) {
        struct outbox_state state = {0};
        bool is_read = false;

        bytes_to_text(db_rows_bytes(rows, 0), outbox, sizeof(outbox));
        for (size_t i = 0; i < target->outbox_count; i++)
            is_read = is_read || strcmp(target->outboxes[i], outbox) == 0;
        if (is_read || !is_wanted(status, outbox))
            continue;
        if (outbox_stray_count(db, outbox, &state, &err) != OBX_OK)
            add_failure(status, target->source, outbox, &err);
        json_array_append_new(status->strays,
                              json_pack("{s:s, s:s, s:I, s:b}", "source", target->source, "outbox",
                                        outbox, "delayed", (json_int_t)state.waiting,
                                        "delayed_capped", state.waiting_capped));
    }
    db_rows_free(rows);
}

static void read_target(struct status *status, const struct target *target)
{
    struct obx_err err = {0};
    struct db *db = NULL;

    if (db_open(&target->db, &db, &err) != OBX_OK) {
        add_failure(status, target->source, "", &err);
        return;
    }
    for (size_t i = 0; i < target->outbox_count; i++)
        read_outbox(status, db, target->source, target->outboxes[i]);
    if (target->outbox_count == 0)
        read_known(status, db, target->source);
    read_strays(status, db, target);
    db_close(db);
}

/* What the relay says of itself; NULL with the reason in err. */
static json_t *ask_relay(const struct relay_config *config, struct obx_err *err)
{
    struct http_get_opts opts = {.path = "/status", .timeout_ms = ASK_TIMEOUT_MS};
    struct obx_buf body = {0};
    json_t *root = NULL;
    int status = 0;

    if (config == NULL || config->http.port == 0) {
        (void)obx_fail(err, OBX_E_CONFIG,
                       config == NULL ? "with --db the relay's address is not known"
                                      : "http_port is 0");
        return NULL;
    }
    opts.address = config->http.address;
    opts.port = config->http.port;
    opts.is_tls = *config->http.tls_cert_file != '\0';
    opts.token = config->http_token;
    if (http_get(&opts, &status, &body, err) == OBX_OK) {
        root = json_loadb(body.data, body.len, 0, NULL);
        if (status != HTTP_OK || root == NULL)
            (void)obx_fail(err, OBX_E_FORMAT, "something else than a relay answers there");
    }
    buf_fini(&body);
    return root;
}

/* ---- for people ---- */

static const char *text_at(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text == NULL ? "" : text;
}

static uint64_t number_at(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

/* capped: the name of what says that there are more; NULL: nothing does. */
static void add_count(struct table *table, const json_t *object, const char *name,
                      const char *capped)
{
    char number[HUMAN_MAX];
    bool is_capped = capped != NULL && json_is_true(json_object_get(object, capped));

    table_add(table, bytes_of(human_count(number_at(object, name), is_capped, number)));
}

static void add_lease(struct table *table, const json_t *lease)
{
    const char *owner = text_at(lease, "owner");
    int64_t left_us = json_integer_value(json_object_get(lease, "left_ms")) * US_PER_MS;
    char age[HUMAN_MAX];

    if (owner[0] == '\0')
        table_addf(table, "nobody's");
    else if (json_is_true(json_object_get(lease, "owned")))
        table_addf(table, "%s, epoch %" PRIu64 ", for %s", owner, number_at(lease, "epoch"),
                   human_age((uint64_t)left_us, age));
    else
        table_addf(table, "nobody's; %s until %s ago", owner, human_age((uint64_t)-left_us, age));
}

static enum obx_code print_outboxes(const struct status *status)
{
    static const char *const heads[] = {"SOURCE",  "OUTBOX",       ">WAITING",  ">OLDEST",
                                        ">PARKED", ">FROZEN KEYS", ">REQUESTS", "LEASE"};
    struct table table;
    char text[HUMAN_MAX];
    const json_t *outbox;
    size_t i;
    enum obx_code rc;

    table_init(&table, heads, sizeof(heads) / sizeof(heads[0]));
    json_array_foreach(status->outboxes, i, outbox)
    {
        if (json_object_get(outbox, "error") != NULL)
            continue;
        table_add(&table, bytes_of(text_at(outbox, "source")));
        table_add(&table, bytes_of(text_at(outbox, "outbox")));
        add_count(&table, outbox, "waiting", "waiting_capped");
        table_add(&table,
                  bytes_of(human_age(number_at(outbox, "oldest_age_ms") * US_PER_MS, text)));
        add_count(&table, outbox, "parked", "parked_capped");
        add_count(&table, outbox, "frozen_keys", "parked_capped");
        add_count(&table, outbox, "requests", "parked_capped");
        add_lease(&table, json_object_get(outbox, "lease"));
    }
    rc = table_print(&table, stdout);
    table_fini(&table);
    json_array_foreach(status->strays, i, outbox)
    {
        bool is_capped = json_is_true(json_object_get(outbox, "delayed_capped"));

        printf("%s: outbox_delayed has %s messages for outbox '", text_at(outbox, "source"),
               human_count(number_at(outbox, "delayed"), is_capped, text));
        text_print_clean(stdout, text_at(outbox, "outbox"));
        printf("', which no relay drains\n");
    }
    putchar('\n');
    return rc;
}

static enum obx_code print_lanes(const json_t *lanes)
{
    static const char *const heads[] = {"LANE",      "STATE",      "BROKER",  ">IN FLIGHT",
                                        ">RETRYING", ">CONFIRMED", ">PARKED", "CONDITION"};
    static const char *const counts[] = {"inflight", "retrying", "confirmed", "parked"};
    struct table table;
    const json_t *lane;
    size_t i;
    enum obx_code rc;

    table_init(&table, heads, sizeof(heads) / sizeof(heads[0]));
    json_array_foreach(lanes, i, lane)
    {
        table_addf(&table, "%s/%s", text_at(lane, "source"), text_at(lane, "outbox"));
        table_add(&table, bytes_of(text_at(lane, "state")));
        table_add(&table, bytes_of(text_at(lane, "broker")));
        for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++)
            add_count(&table, lane, counts[k], NULL);
        table_add(&table, bytes_of(text_at(lane, "reason")));
    }
    rc = table_print(&table, stdout);
    table_fini(&table);
    return rc;
}

static enum obx_code print_relay(const struct relay_config *config, const json_t *root,
                                 const struct obx_err *err)
{
    const json_t *relay = json_object_get(root, "relay");
    char age[HUMAN_MAX];

    if (root == NULL) {
        printf("relay on http://%s:%u: ", config->http.address, (unsigned)config->http.port);
        text_print_clean(stdout, err->text);
        putchar('\n');
        return OBX_OK;
    }
    /* Something else may answer there: nothing of it goes to a terminal as it is. */
    fputs("relay ", stdout);
    text_print_clean(stdout, text_at(relay, "owner"));
    fputs(", version ", stdout);
    text_print_clean(stdout, text_at(relay, "version"));
    printf(", up %s: ", human_age(number_at(relay, "uptime_ms") * US_PER_MS, age));
    text_print_clean(stdout, text_at(root, "reason"));
    putchar('\n');
    return print_lanes(json_object_get(root, "lanes"));
}

static void print_all(struct status *status, const struct relay_config *config)
{
    struct obx_err err = {0};
    json_t *relay = ask_relay(config, &err);
    json_t *root = NULL;

    if (status->args->json) {
        root = json_pack("{s:O, s:O, s:O?}", "outboxes", status->outboxes, "strays", status->strays,
                         "relay", relay);
        if (relay == NULL)
            json_object_set_new(root, "relay_error", json_string(err.text));
        json_print(root);
        json_decref(root);
    } else if (print_outboxes(status) != OBX_OK ||
               (config != NULL && print_relay(config, relay, &err) != OBX_OK)) {
        status->rc = CTL_FAILED;
    }
    json_decref(relay);
}

static enum ctl_exit run_status(const struct ctl_args *args)
{
    struct status status = {.args = args, .rc = CTL_OK};
    struct targets targets;
    enum ctl_exit rc = targets_open(args, &targets);

    if (rc != CTL_OK)
        return rc;
    status.outboxes = json_array();
    status.strays = json_array();
    for (size_t i = 0; i < targets.count; i++)
        read_target(&status, &targets.items[i]);
    print_all(&status, targets.config);
    json_decref(status.outboxes);
    json_decref(status.strays);
    targets_close(&targets);
    return status.rc;
}

const struct ctl_command status_commands[] = {
    {.name = "status",
     .options = CTL_TARGET | CTL_BIT(OUTBOX),
     .summary = "show the state of outboxes and relay",
     .synopsis = "[--source NAME] [--outbox NAME]",
     .help = "Shows for each outbox, from the database: rows waiting (counted up to a limit),\n"
             "the age of the oldest, parked messages, frozen keys, who owns the lease and for\n"
             "how long; and delayed messages for an outbox that no relay drains. And, where the\n"
             "relay of this configuration runs on this machine, what it says of itself.\n",
     .run = run_status},
    {0}};
