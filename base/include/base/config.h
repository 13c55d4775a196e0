/*
 * Configuration from one table.
 *
 * A program describes its configuration as sections of keys; each row names the field of the option
 * struct that it fills, in the form that the struct wants. From the table come the parser, the
 * checks, the dump of what is in force, the reference text, and for a reload what differs and which
 * parts of the program it restarts. Precedence: default < file < environment.
 *
 * The file is INI: `[section]`, `[kind name]`, `key = value`, comments with # or ; at the start of
 * a line or with ; after a blank. A list is separated by commas or by giving its key on several
 * lines. Every key has an environment variable, OBX_<SECTION>_<KEY> or OBX_<KIND>_<NAME>_<KEY>,
 * upper case with _ for what is neither letter nor digit; OBX_<KIND>S="a,b" makes named sections
 * without a file. A secret may also be named by the file that holds it:
 * `<key>_file`, OBX_..._<KEY>_FILE.
 *
 * A loaded configuration is immutable; any thread may read it. Proved by
 * tests/unit/config_*_test.c, tests/fuzz/config_fuzz.c.
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "obx/err.h"

/** The type of a key, and in brackets that of its field. min and max of the row bound what is in
 * braces. A number's field is an unsigned integer of 2, 4 or 8 bytes, and bounds it too. */
enum cfg_type {
    CFG_STRING,   /**< text (const char *) {bytes} */
    CFG_OPTIONAL, /**< the same; the field is NULL when it is empty */
    CFG_SECRET,   /**< text that is never shown, or <key>_file (const char *) {bytes} */
    CFG_BOOL,     /**< true/false, yes/no, on/off, 1/0 (bool) */
    CFG_NOT,      /**< the same; the field is the opposite */
    CFG_COUNT,    /**< a number (an integer) {the number} */
    CFG_DURATION, /**< 250ms, 5s, 2m, 1h (an integer, milliseconds) {milliseconds} */
    CFG_SECONDS,  /**< the same (an integer, seconds, rounded up) {milliseconds} */
    CFG_SIZE,     /**< 4096, 64KiB, 16MiB, 1GiB (an integer, bytes) {bytes} */
    CFG_ENUM,     /**< one of choices (an enum or unsigned: the index of the choice) */
    CFG_LIST      /**< texts separated by commas (struct cfg_list, or CFG_ITEMS) {items} */
};

struct cfg_list {
    const char *const *items;
    size_t count;
};

/** In cfg_key.restarts: the whole program has to be started again. The other bits are the
 * program's own. */
enum { CFG_PROCESS = 1 };

/** One key. */
struct cfg_key {
    const char *name; /**< lower case, digits and _ */
    enum cfg_type type;
    unsigned restarts; /**< the parts that start again when it changes, see cfg_same_part; 0: none,
                          the program takes it as it is */
    size_t offset;     /**< CFG_FIELD and CFG_ITEMS fill these three */
    size_t size;
    size_t count_offset; /**< CFG_LIST: of the number of items; 0: the field is a struct cfg_list */
    /** A number of a named section: 0 stands for the value of the key of the same name in this
     * plain section, which comes before; that is what the field gets. NULL: 0 is a number. */
    const char *like;
    /** The default of a number without def, in the unit of min and max: so that the part which owns the
     * option can name it once, for those too who use it without a configuration. */
    uint64_t number;
    const char
        *def; /**< as it would stand in the file; NULL without a number: the key must be given */
    uint64_t min, max;          /**< inclusive; max 0: no limit but that of the field */
    const char *const *choices; /**< CFG_ENUM only, ends with NULL */
    const char *help;           /**< one or two sentences for the reference */
};

/** One section, or one kind of named section. */
struct cfg_section {
    const char *name; /**< lower case, digits and _ */
    bool is_named;    /**< `[name something]`, any number of times; else `[name]`, once at most, and
                         always present */
    unsigned restarts; /**< named only: the parts that start again when one comes, goes or changes
                          its place */
    size_t item_size;  /**< CFG_PLAIN and CFG_NAMED fill this and the next three */
    size_t offset;
    size_t count_offset;
    size_t name_offset;
    const struct cfg_key *keys;
    size_t key_count;
    const char *help;
};

#define CFG_FIELD(type, member)                                                                    \
    .offset = offsetof(type, member), .size = sizeof(((type *)0)->member)
/** A list as a pointer to its items and their number. */
#define CFG_ITEMS(type, items, count) CFG_FIELD(type, items), .count_offset = offsetof(type, count)
/** One row: `key` fills T.field. */
#define CFG_ROW(T, field, key, cfg_kind, value, lo, hi, parts, text)                               \
    {                                                                                              \
        .name = (key), .type = (cfg_kind), CFG_FIELD(T, field), .def = (value), .min = (lo),       \
        .max = (hi), .restarts = (parts), .help = (text)                                           \
    }
/** A number whose default is one. */
#define CFG_NUMBER(T, field, key, cfg_kind, default_number, lo, hi, parts, text)                   \
    {                                                                                              \
        .name = (key), .type = (cfg_kind), CFG_FIELD(T, field), .number = (default_number),        \
        .min = (lo), .max = (hi), .restarts = (parts), .help = (text)                              \
    }
#define CFG_LIST_ROW(T, field, count, key, value, lo, hi, parts, text)                             \
    {                                                                                              \
        .name = (key), .type = CFG_LIST, CFG_ITEMS(T, field, count), .def = (value), .min = (lo),  \
        .max = (hi), .restarts = (parts), .help = (text)                                           \
    }
#define CFG_CHOICE(T, field, key, value, list, parts, text)                                        \
    {                                                                                              \
        .name = (key), .type = CFG_ENUM, CFG_FIELD(T, field), .def = (value), .choices = (list),   \
        .restarts = (parts), .help = (text)                                                        \
    }
/** The limits of rows: as wide as cfg_key.min, so that no product is worked out in int. */
#define CFG_KIB         UINT64_C(1024)
#define CFG_MIB         (1024 * CFG_KIB)
#define CFG_SECOND      UINT64_C(1000) /* in ms */
#define CFG_MINUTE      (60 * CFG_SECOND)
#define CFG_HOUR        (60 * CFG_MINUTE)
#define CFG_KEYS(array) .keys = (array), .key_count = sizeof(array) / sizeof((array)[0])
/** The section fills the struct `member` of the root. */
#define CFG_PLAIN(root, member)                                                                    \
    .offset = offsetof(root, member), .item_size = sizeof(((root *)0)->member)
/** Each section fills one item of the array `member` (a pointer to item) of the root, its name goes
 * to item.name_member. */
#define CFG_NAMED(root, member, count_member, item, name_member)                                   \
    .is_named = true, .offset = offsetof(root, member),                                            \
    .count_offset = offsetof(root, count_member), .item_size = sizeof(item),                       \
    .name_offset = offsetof(item, name_member)

struct cfg;
struct cfg_report;

/** What stands in the example file where a default says too little. */
struct cfg_sample {
    const char *section;
    const char *key;  /**< NULL: text is the name of the example's section of this kind */
    const char *text; /**< for a secret: the path for <key>_file */
};

struct cfg_schema {
    const struct cfg_section *sections;
    size_t section_count;
    size_t root_size;
    const struct cfg_sample *samples; /**< may be NULL */
    size_t sample_count;
    /**
     * What one row cannot say (may be NULL): called once, when every value is right by itself, to
     * complain about values that do not go together.
     */
    void (*check)(const void *root, struct cfg_report *report);
    /** Complete the root with what follows from several keys (may be NULL), after check. Memory by
     * cfg_take. OBX_E_NOMEM. */
    enum obx_code (*finish)(void *root, struct cfg *cfg);
};

/** Where a configuration comes from. Everything is borrowed for the call. */
struct cfg_input {
    const char *path; /**< the file; NULL: none */
    struct obx_bytes
        text;         /**< not absent: the file's content, path is then only its name in messages */
    char *const *env; /**< environ; NULL: none */
};

/**
 * Load, check and convert a configuration.
 *
 * Nothing in the process is changed, so a program in service calls this for a reload and keeps what
 * it has on failure.
 * @param problems  gets all problems (20 at most), one line each: `file:line: section.key: what is
 * wrong, what is allowed`; may be NULL. Secrets never appear in it.
 * @return OBX_OK and *out for cfg_destroy; OBX_E_CONFIG with the first problem in err (file
 * unreadable, unknown or bad section, key or OBX_ variable, value missing or out of range, refused
 * by schema->check); OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code cfg_load(const struct cfg_schema *schema, const struct cfg_input *input,
                                     struct cfg **out, struct obx_buf *problems,
                                     struct obx_err *err);
/** NULL is fine. */
void cfg_destroy(struct cfg *cfg);
/** The filled struct of schema->root_size bytes; lives as long as cfg. Who loaded it may write to what
 * no row fills. */
void *cfg_root(const struct cfg *cfg);
/** Zeroed memory that lives as long as cfg; for schema->finish. NULL when there is none left. */
void *cfg_take(struct cfg *cfg, size_t size);

/** For schema->check: key of section (name NULL if not a named one) is wrong because of fmt, said
 * where it was given. key NULL: the section itself is wrong; name NULL too: a kind of which there
 * is none. */
void cfg_complain(struct cfg_report *report, const char *section, const char *name, const char *key,
                  const char *fmt, ...) OBX_PRINTF(5, 6);

/** Append a line for each secret that stands in a file which everybody on this machine may read; it
 * says what to do. OBX_E_NOMEM. */
enum obx_code cfg_exposed(const struct cfg *cfg, struct obx_buf *buf);
/** Append the configuration in force as INI, each value with its origin (`; default`, `;
 * file:line`, `; OBX_X`), secrets as ***. */
enum obx_code cfg_dump(const struct cfg *cfg, struct obx_buf *out);

/** What a reload would do. Zero-initialise; lines belongs to the caller (buf_fini). */
struct cfg_changes {
    unsigned count; /**< keys and named sections that differ in effect (5s and 5000ms do not) */
    unsigned fixed_count; /**< of these, how many need a restart */
    struct obx_buf lines; /**< one line each: `lane.shop.batch: 100 -> 200 (needs a restart)`,
                             secrets as *** */
};
/** Compare two configurations of the same schema: all that differs, for people. */
OBX_NODISCARD enum obx_code cfg_compare(const struct cfg *before, const struct cfg *after,
                                        struct cfg_changes *changes);
/**
 * Whether everything that restarts one of `parts` (bits of cfg_key.restarts) has the same effect in
 * both, values from files of secrets and the order of sections included.
 * @param kind, name  of this kind of named section, only this one counts; NULL: all of them
 */
bool cfg_same_part(const struct cfg *a, const struct cfg *b, unsigned parts, const char *kind,
                   const char *name);

/**
 * Append a configuration file with every key, its help and its default after a '#'. As it stands
 * it can be loaded: what is required has its sample.
 */
enum obx_code cfg_reference_example(const struct cfg_schema *schema, struct obx_buf *out);

/** Append the reference as plain text (--help-config) or as Markdown with a list for each
 * section, under a heading of level 3. */
enum obx_code cfg_reference_text(const struct cfg_schema *schema, struct obx_buf *out);
enum obx_code cfg_reference_markdown(const struct cfg_schema *schema, struct obx_buf *out);

/**
 * Check the table itself, for a unit test of each program: names, help texts, field sizes, defaults
 * within their limits, no two keys with one environment variable, samples for what is there.
 * Problems as with cfg_load.
 */
OBX_NODISCARD enum obx_code cfg_verify(const struct cfg_schema *schema, struct obx_buf *problems,
                                       struct obx_err *err);

#endif
