/*
 * outboxctl status: each outbox as its database has it, and the relay as it says itself where it
 * can be reached.
 */
#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "outbox_state.h"
#include "outboxctl/print/human.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/print/table.h"
#include "service/http_get.h"
#include "target.h"

enum { ASK_TIMEOUT_MS = 2000, HTTP_OK = 200, US_PER_MS = 1000, LEASE_MAX = 192 };

static const char *const heads[] = {"SOURCE",  "OUTBOX",       ">WAITING",  ">OLDEST",
                                    ">PARKED", ">FROZEN KEYS", ">REQUESTS", "LEASE"};
static const char *const lane_heads[] = {"LANE",      "STATE",      "BROKER",  ">IN FLIGHT",
                                         ">RETRYING", ">CONFIRMED", ">PARKED", "TROUBLE"};
enum {
    HEAD_COUNT = sizeof(heads) / sizeof(heads[0]),
    LANE_HEAD_COUNT = sizeof(lane_heads) / sizeof(lane_heads[0])
};

struct status {
    const struct ctl_args *args;
    struct table table;
    json_t *databases;
    json_t *strays; /* of all sources */
    enum ctl_exit rc;
};

static void describe_lease(const struct outbox_state *state, char *dst)
{
    char age[HUMAN_MAX];

    if (!state->has_lease || state->owner[0] == '\0')
        snprintf(dst, LEASE_MAX, "nobody's");
    else if (state->is_owned)
        snprintf(dst, LEASE_MAX, "%s, epoch %" PRIu64 ", for %s", state->owner, state->epoch,
                 human_age((uint64_t)state->lease_left_us, age));
    else
        snprintf(dst, LEASE_MAX, "nobody's; %s until %s ago", state->owner,
                 human_age((uint64_t)-state->lease_left_us, age));
}

static void add_row(struct status *status, const char *source, const char *outbox,
                    const struct outbox_state *state)
{
    char number[HUMAN_MAX], lease[LEASE_MAX];

    table_add(&status->table, bytes_of(source));
    table_add(&status->table, bytes_of(outbox));
    table_add(&status->table, bytes_of(human_count(state->waiting, state->waiting_capped, number)));
    table_add(&status->table, bytes_of(human_age(state->oldest_us, number)));
    table_add(&status->table, bytes_of(human_count(state->parked, state->parked_capped, number)));
    table_add(&status->table, bytes_of(human_count(state->frozen, state->parked_capped, number)));
    table_add(&status->table,
              bytes_of(human_count(state->requested, state->parked_capped, number)));
    describe_lease(state, lease);
    table_add(&status->table, bytes_of(lease));
}

static void add_json(struct status *status, const char *source, const char *outbox,
                     const struct outbox_state *state)
{
    json_t *lease =
        json_pack("{s:b, s:s, s:s, s:I, s:I}", "owned", state->is_owned, "owner", state->owner,
                  "address", state->address, "epoch", (json_int_t)state->epoch, "left_ms",
                  (json_int_t)(state->lease_left_us / US_PER_MS));

    json_array_append_new(status->databases,
                          json_pack("{s:s, s:s, s:I, s:b, s:I, s:I, s:b, s:I, s:I, s:o}", "source",
                                    source, "outbox", outbox, "waiting", (json_int_t)state->waiting,
                                    "waiting_capped", state->waiting_capped, "oldest_age_ms",
                                    (json_int_t)(state->oldest_us / US_PER_MS), "parked",
                                    (json_int_t)state->parked, "parked_capped",
                                    state->parked_capped, "frozen_keys", (json_int_t)state->frozen,
                                    "requests", (json_int_t)state->requested, "lease", lease));
}

static void add_failure(struct status *status, const char *source, const char *outbox,
                        const struct obx_err *err)
{
    status->rc = CTL_FAILED;
    fprintf(stderr, "outboxctl: %s%s%s: ", source, outbox[0] == '\0' ? "" : "/", outbox);
    text_print_clean(stderr, err->text);
    fputc('\n', stderr);
    json_array_append_new(status->databases, json_pack("{s:s, s:s, s:s}", "source", source,
                                                       "outbox", outbox, "error", err->text));
}

static void read_outbox(struct status *status, struct db *db, const char *source,
                        const char *outbox)
{
    struct outbox_state state;
    struct obx_err err = {0};

    if (status->args->text[CTL_OUTBOX] != NULL &&
        strcmp(status->args->text[CTL_OUTBOX], outbox) != 0)
        return;
    if (outbox_state_read(db, outbox, &state, &err) != OBX_OK) {
        add_failure(status, source, outbox, &err);
        return;
    }
    add_row(status, source, outbox, &state);
    add_json(status, source, outbox, &state);
}

static void read_known(struct status *status, struct db *db, const char *source)
{
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    char outbox[128];

    if (outbox_names_read(db, &rows, &err) != OBX_OK) {
        add_failure(status, source, "", &err);
        return;
    }
    while (db_rows_next(rows)) {
        bytes_to_text(db_rows_bytes(rows, 0), outbox, sizeof(outbox));
        read_outbox(status, db, source, outbox);
    }
    db_rows_free(rows);
}

/* Whether the table has a row for it, which says whose it is. */
static bool is_shown(const struct target *target, const char *outbox)
{
    for (size_t i = 0; i < target->outbox_count; i++)
        if (strcmp(target->outboxes[i], outbox) == 0)
            return true;
    return false;
}

/* Delayed messages for an outbox that no relay drains: a misspelt name, or a table without a lane. */
static void read_strays(struct status *status, struct db *db, const struct target *target)
{
    const char *wanted = status->args->text[CTL_OUTBOX];
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    char outbox[128];

    if (outbox_strays_read(db, target->outbox_count == 0, &rows, &err) != OBX_OK) {
        add_failure(status, target->source, "outbox_delayed", &err);
        return;
    }
    while (db_rows_next(rows)) {
        struct outbox_state state = {0};

        bytes_to_text(db_rows_bytes(rows, 0), outbox, sizeof(outbox));
        if (is_shown(target, outbox) || (wanted != NULL && strcmp(wanted, outbox) != 0))
            continue;
        if (outbox_stray_count(db, outbox, &state, &err) != OBX_OK) {
            add_failure(status, target->source, outbox, &err);
            break;
        }
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
    const struct http_get_opts opts = {.address = config->http.address,
                                       .port = config->http.port,
                                       .path = "/status",
                                       .is_tls = *config->http.tls_cert_file != '\0',
                                       .timeout_ms = ASK_TIMEOUT_MS};
    struct obx_buf body = {0};
    json_t *root = NULL;
    int status = 0;

    if (opts.port == 0) {
        (void)obx_fail(err, OBX_E_CONFIG, "http_port is 0");
        return NULL;
    }
    if (http_get(&opts, &status, &body, err) == OBX_OK) {
        root = json_loadb(body.data, body.len, 0, NULL);
        if (status != HTTP_OK || root == NULL)
            (void)obx_fail(err, OBX_E_FORMAT, "something else than a relay answers there");
    }
    buf_fini(&body);
    return root;
}

static const char *text_at(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text == NULL ? "" : text;
}

static void add_number(struct table *table, const json_t *lane, const char *name)
{
    char number[HUMAN_MAX];
    json_int_t value = json_integer_value(json_object_get(lane, name));

    table_add(table, bytes_of(human_count((uint64_t)value, false, number)));
}

static void print_lanes(const json_t *lanes)
{
    struct table table;

    table_init(&table, lane_heads, LANE_HEAD_COUNT);
    for (size_t i = 0; i < json_array_size(lanes); i++) {
        const json_t *lane = json_array_get(lanes, i);

        table_addf(&table, "%s/%s", text_at(lane, "source"), text_at(lane, "outbox"));
        table_add(&table, bytes_of(text_at(lane, "state")));
        table_add(&table, bytes_of(text_at(lane, "broker")));
        add_number(&table, lane, "inflight");
        add_number(&table, lane, "retrying");
        add_number(&table, lane, "confirmed");
        add_number(&table, lane, "parked");
        table_add(&table, bytes_of(text_at(lane, "reason")));
    }
    if (table_print(&table, stdout) != OBX_OK)
        fprintf(stderr, "outboxctl: out of memory\n");
    table_fini(&table);
}

static void print_relay(const struct relay_config *config, const json_t *root,
                        const struct obx_err *err)
{
    const json_t *relay = json_object_get(root, "relay");
    char age[HUMAN_MAX];
    uint64_t up_ms = (uint64_t)json_integer_value(json_object_get(relay, "uptime_ms"));

    if (root == NULL) {
        printf("relay on http://%s:%u: ", config->http.address, (unsigned)config->http.port);
        text_print_clean(stdout, err->text);
        putchar('\n');
        return;
    }
    fputs("relay ", stdout);
    text_print_clean(stdout, text_at(relay, "owner"));
    fputs(", version ", stdout);
    text_print_clean(stdout, text_at(relay, "version"));
    printf(", up %s: ", human_age(up_ms * US_PER_MS, age));
    text_print_clean(stdout, text_at(root, "reason"));
    putchar('\n');
    print_lanes(json_object_get(root, "lanes"));
}

static void print_json(struct status *status, json_t *relay, const struct obx_err *err)
{
    json_t *root = json_object();

    json_object_set(root, "outboxes", status->databases);
    json_object_set(root, "strays", status->strays);
    json_object_set_new(root, "relay", relay == NULL ? json_null() : json_incref(relay));
    if (relay == NULL)
        json_object_set_new(root, "relay_error", json_string(err->text));
    json_print(root);
    json_decref(root);
}

static void print_strays(const struct status *status)
{
    char number[HUMAN_MAX];

    for (size_t i = 0; i < json_array_size(status->strays); i++) {
        const json_t *stray = json_array_get(status->strays, i);
        uint64_t count = (uint64_t)json_integer_value(json_object_get(stray, "delayed"));

        printf("%s: outbox_delayed has %s messages for outbox '", text_at(stray, "source"),
               human_count(count, json_is_true(json_object_get(stray, "delayed_capped")), number));
        text_print_clean(stdout, text_at(stray, "outbox"));
        printf("', which no relay drains\n");
    }
}

static void print_all(struct status *status, const struct targets *targets)
{
    struct obx_err err = {0};
    json_t *relay = NULL;

    if (targets->config == NULL)
        (void)obx_fail(&err, OBX_E_CONFIG, "with --db the relay's address is not known");
    else
        relay = ask_relay(targets->config, &err);
    if (status->args->json) {
        print_json(status, relay, &err);
    } else {
        if (table_print(&status->table, stdout) != OBX_OK)
            status->rc = CTL_FAILED;
        print_strays(status);
        putchar('\n');
        if (targets->config != NULL)
            print_relay(targets->config, relay, &err);
    }
    json_decref(relay);
}

static enum ctl_exit run_status(const struct ctl_args *args)
{
    struct status status = {
        .args = args, .databases = json_array(), .strays = json_array(), .rc = CTL_OK};
    struct targets targets;
    enum ctl_exit rc = targets_open(args, &targets);

    if (rc != CTL_OK) {
        json_decref(status.databases);
        json_decref(status.strays);
        return rc;
    }
    table_init(&status.table, heads, HEAD_COUNT);
    for (size_t i = 0; i < targets.count; i++)
        read_target(&status, &targets.items[i]);
    print_all(&status, &targets);
    table_fini(&status.table);
    json_decref(status.databases);
    json_decref(status.strays);
    targets_close(&targets);
    return status.rc;
}

const struct ctl_command status_commands[] = {
    {.name = "status",
     .options = CTL_TARGET | CTL_BIT(OUTBOX),
     .summary = "show how outboxes and relay are",
     .synopsis = "[--source NAME] [--outbox NAME]",
     .help = "Shows for each outbox, from the database: rows waiting (counted up to a limit),\n"
             "the age of the oldest, parked messages, frozen keys, who owns the lease and for\n"
             "how long; and delayed messages for an outbox that no relay drains. And, where the\n"
             "relay of this configuration runs on this machine, what it says of itself.\n",
     .run = run_status},
    {0}};
