/*
 * What the files of the configuration share: the loaded configuration and the report of problems.
 *
 * Life of a value: file.c and env.c put texts with their origin into instances (assign.c); load.c
 * gives every instance its place in the root struct and has value.c convert the texts. print.c,
 * reference.c and compare.c only read.
 */
#ifndef CONFIG_INTERNAL_H
#define CONFIG_INTERNAL_H

#include <sys/queue.h>

#include "base/config.h"

enum { CFG_PROBLEMS_MAX = 20, CFG_INSTANCES_MAX = 1000, CFG_NAME_MAX = 200 };

enum cfg_origin_kind { CFG_FROM_DEFAULT, CFG_FROM_FILE, CFG_FROM_ENV };

struct cfg_origin {
    enum cfg_origin_kind kind;
    unsigned line;        /* CFG_FROM_FILE */
    const char *variable; /* CFG_FROM_ENV */
};

/* The text of one key, before it is converted. */
struct cfg_value {
    const char *text; /* NULL: not given and without a default */
    const char *path; /* of a secret given by its file; text is then read from it */
    char *list;       /* a list in several lines: text, to be lengthened, in room bytes */
    size_t len, room; /* len: of a text that was given */
    struct cfg_origin origin;
};

/* One section that is there. */
struct cfg_instance {
    STAILQ_ENTRY(cfg_instance) entry;
    const struct cfg_section *section;
    const char *name; /* NULL unless named */
    struct cfg_origin origin;
    struct cfg_value *values; /* one for each key of the section, in its order */
    unsigned char *item;      /* the struct to fill; set when all instances are known */
};

struct cfg_block;

struct cfg {
    const struct cfg_schema *schema; /* borrowed: outlives the configuration */
    SLIST_HEAD(, cfg_block) blocks;  /* all the memory below */
    const char *path;                /* the file's name in messages; "environment" without a file */
    unsigned char *root;
    /* Plain sections, then the named ones as they were given. */
    STAILQ_HEAD(, cfg_instance) instances;
    size_t instance_count;
};

/* Problems are data; memory that ran out is not: it is kept in rc, and then every step ends early.
 */
struct cfg_report {
    const struct cfg *cfg;
    struct obx_buf *lines; /* NULL: only the first one is kept */
    char first[OBX_ERR_TEXT_MAX];
    unsigned count;
    enum obx_code rc;
};

/* ---- report.c ---- */

/* Room for a text from outside as it may be shown: shortened, without control characters. */
struct cfg_shown {
    char text[96];
};
/* Fills shown and returns its text. */
const char *cfg_show(struct cfg_shown *shown, struct obx_bytes text);

/* Add "<origin>: <section>.<key>: <fmt>" to the report; instance and key may be NULL. */
void cfg_problem(struct cfg_report *report, const struct cfg_origin *origin,
                 const struct cfg_instance *instance, const struct cfg_key *key, const char *fmt,
                 ...) OBX_PRINTF(5, 6);
void cfg_out_origin(struct obx_buf *out, const struct cfg *cfg, const struct cfg_origin *origin);
/* "relay" or "lane.shop.outbox". */
void cfg_out_section(struct obx_buf *out, const struct cfg_instance *instance);
/* A value as it may be shown: "***" for a secret that is not empty, no password in a URL. */
void cfg_out_shown(struct obx_buf *out, const struct cfg_key *key, const char *text);
/* What the report comes to: OBX_OK, OBX_E_CONFIG with the first problem in err, OBX_E_NOMEM. */
enum obx_code cfg_judge(struct cfg_report *report, struct obx_err *err);

/* ---- assign.c ---- */

/* Memory that is freed with cfg, zeroed. NULL when there is none left, which the report then knows.
 */
void *cfg_alloc(struct cfg *cfg, struct cfg_report *report, size_t size);
char *cfg_copy(struct cfg *cfg, struct cfg_report *report, struct obx_bytes text);

const struct cfg_section *cfg_find_section(const struct cfg_schema *schema, struct obx_bytes name);
/* NULL when the section has no such key. */
const struct cfg_key *cfg_find_key(const struct cfg_section *section, const char *name);
struct cfg_instance *cfg_find_instance(const struct cfg *cfg, const struct cfg_section *section,
                                       struct obx_bytes name);
/* name is absent for a plain section. NULL after a problem. */
struct cfg_instance *cfg_add_instance(struct cfg *cfg, struct cfg_report *report,
                                      const struct cfg_section *section, struct obx_bytes name,
                                      const struct cfg_origin *origin);
/* Set the text of a key, or with is_path the file of a secret. A later origin replaces an earlier
 * one. */
void cfg_assign(struct cfg *cfg, struct cfg_report *report, struct cfg_instance *instance,
                const struct cfg_key *key, bool is_path, struct obx_bytes text,
                const struct cfg_origin *origin);

/* ---- file.c, env.c ---- */

void cfg_read_file(struct cfg *cfg, struct cfg_report *report, const struct cfg_input *input);
void cfg_read_env(struct cfg *cfg, struct cfg_report *report, char *const *env);
/* "OBX_LANE_SHOP_OUTBOX_BATCH"; name NULL for a plain section. */
void cfg_out_variable(struct obx_buf *out, const struct cfg_section *section, const char *name,
                      const struct cfg_key *key);
/* "OBX_LANES", which lists the names of the named sections of a kind. */
void cfg_out_names_variable(struct obx_buf *out, const struct cfg_section *section);
/* Append all of a file; OBX_E_SYSTEM, OBX_E_TOO_LARGE above max bytes, OBX_E_NOMEM. */
enum obx_code cfg_slurp(const char *path, size_t max, struct obx_buf *out, struct obx_err *err);

/* ---- value.c ---- */

/* Whether the field has a size that the type can fill. */
bool cfg_field_fits(const struct cfg_key *key);
bool cfg_is_number(const struct cfg_key *key);
/* The greatest number that the field holds; of what is no number: without a limit. */
uint64_t cfg_field_max(const struct cfg_key *key);
/* Convert text into the key's field of the section's item; false when it is not what the key
 * allows, or memory ended (report->rc). */
bool cfg_convert(struct cfg *cfg, struct cfg_report *report, const struct cfg_key *key,
                 const char *text, unsigned char *item);
/* Whether text is the 0 of a key that has the value of another one then. */
bool cfg_is_left_to_like(const struct cfg_key *key, const char *text);
struct cfg_list cfg_get_list(const struct cfg_key *key, const unsigned char *item);
/* Whether the key's field of both items is the same. */
bool cfg_same_value(const struct cfg_key *key, const unsigned char *a, const unsigned char *b);
/* The default as it would stand in the file; "" when there is none. Fills room where it has to. */
struct cfg_default {
    char text[32];
};
const char *cfg_default_of(const struct cfg_key *key, struct cfg_default *room);
bool cfg_is_required(const struct cfg_key *key);
/* Whether two texts of a number's key are the same number. */
bool cfg_same_number(const struct cfg_key *key, const char *a, const char *b);
/* "a number from 1 to 1000", to stand after "expected" or "allowed:". */
void cfg_out_allowed(struct obx_buf *out, const struct cfg_key *key);

/* ---- reference.c ---- */

/* "default 5s", "required" */
void cfg_out_default(struct obx_buf *out, const struct cfg_key *key);
/* Words of text in lines of at most 78 characters, each after `before`. */
void cfg_out_wrapped(struct obx_buf *out, const char *before, const char *text);

#endif
