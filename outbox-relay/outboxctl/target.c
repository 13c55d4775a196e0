/*
 * Targets. Called by every command but check.
 */
#include "target.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "config/config_or_say.h"
#include "outboxctl/db_url.h"

enum { PASSWORD_MAX = 1024 + 2, HOST_MAX = 64 }; /* with the end of its line */

extern char **environ;

static enum ctl_exit usage(const char *what, const char *word)
{
    fprintf(stderr, "outboxctl: %s%s\n", what, word);
    return CTL_USAGE;
}

enum ctl_exit target_read_password(const char *option, const char *path, char *dst, size_t size)
{
    FILE *file = fopen(path, "re");

    if (file == NULL) {
        fprintf(stderr, "outboxctl: --%s %s: %s\n", option, path, strerror(errno));
        return CTL_USAGE;
    }
    if (fgets(dst, (int)size, file) == NULL)
        dst[0] = '\0';
    fclose(file);
    dst[strcspn(dst, "\r\n")] = '\0';
    return CTL_OK;
}

/* One database, whatever it has. Its name stands for that of a source in all that is said. */
static enum ctl_exit from_url(const char *text, struct targets *targets)
{
    struct obx_err err = {0};

    targets->url = obx_calloc(1, sizeof(*targets->url));
    targets->items = obx_calloc(1, sizeof(*targets->items));
    if (targets->url == NULL || targets->items == NULL)
        return CTL_FAILED;
    if (db_url_parse(text, targets->url, &err) != OBX_OK)
        return usage(err.text, "");
    targets->count = 1;
    targets->items[0].db = targets->url->opts;
    targets->items[0].source = targets->url->opts.database;
    return CTL_OK;
}

/* Every source of the configuration, or the one of --source. */
static enum ctl_exit from_config(const struct ctl_args *args, struct targets *targets)
{
    const char *wanted = args->text[CTL_SOURCE];
    enum obx_code rc = OBX_OK;

    targets->config = config_or_say("outboxctl", args->config, environ, &rc);
    if (targets->config == NULL)
        return rc == OBX_E_CONFIG ? CTL_USAGE : CTL_FAILED;
    targets->items = obx_calloc(targets->config->source_count, sizeof(*targets->items));
    if (targets->items == NULL)
        return CTL_FAILED;
    for (size_t i = 0; i < targets->config->source_count; i++) {
        const struct source_config *source = &targets->config->sources[i];

        if (wanted != NULL && strcmp(wanted, source->name) != 0)
            continue;
        targets->items[targets->count++] = (struct target){.source = source->name,
                                                           .db = source->lane.db,
                                                           .outboxes = source->outboxes,
                                                           .outbox_count = source->outbox_count};
    }
    return targets->count > 0 ? CTL_OK : usage("there is no source named ", wanted);
}

static enum ctl_exit set_login(const struct ctl_args *args, struct targets *targets)
{
    const char *path = args->text[CTL_PASSWORD_FILE];
    char password[PASSWORD_MAX];
    enum ctl_exit rc = CTL_OK;

    if (path != NULL) {
        rc = target_read_password("password-file", path, password, sizeof(password));
        targets->password = rc == CTL_OK ? obx_strdup(password) : NULL;
        memset(password, 0, sizeof(password));
        if (rc == CTL_OK && targets->password == NULL)
            rc = CTL_FAILED;
    }

    for (size_t i = 0; i < targets->count && rc == CTL_OK; i++) {
        targets->items[i].db.program_name = "outboxctl";
        if (args->text[CTL_USER] != NULL) {
            /* Another user's password is not the configured one. */
            targets->items[i].db.user = args->text[CTL_USER];
            targets->items[i].db.password = NULL;
        }
        if (targets->password != NULL)
            targets->items[i].db.password = targets->password;
    }
    return rc;
}

enum ctl_exit targets_open(const struct ctl_args *args, struct targets *out)
{
    enum ctl_exit rc;

    memset(out, 0, sizeof(*out));
    if (args->text[CTL_DB] != NULL)
        rc = from_url(args->text[CTL_DB], out);
    else
        rc = from_config(args, out);
    if (rc == CTL_OK)
        rc = set_login(args, out);
    if (rc != CTL_OK)
        targets_close(out);
    return rc;
}

void targets_close(struct targets *targets)
{
    relay_config_unref(targets->config);
    if (targets->url != NULL)
        db_url_fini(targets->url);
    obx_free(targets->url);
    obx_free(targets->password);
    obx_free(targets->items);
    memset(targets, 0, sizeof(*targets));
}

const struct target *targets_single(const struct targets *targets)
{
    if (targets->count == 1)
        return &targets->items[0];
    usage("there are several sources; choose one with --source NAME", "");
    return NULL;
}

void target_complain(const struct target *target, const struct obx_err *err)
{
    fprintf(stderr, "outboxctl: %s: %s\n", target->source, err->text);
}

struct db *target_connect(const struct target *target)
{
    struct obx_err err = {0};
    struct db *db = NULL;

    if (db_open(&target->db, &db, &err) != OBX_OK)
        target_complain(target, &err);
    return db;
}

void who_am_i(char *dst)
{
    const struct passwd *user = getpwuid(geteuid());
    char host[HOST_MAX + 1] = "unknown";

    if (gethostname(host, sizeof(host) - 1) == 0)
        host[HOST_MAX] = '\0';
    if (user != NULL)
        snprintf(dst, WHO_MAX, "%.60s@%.60s", user->pw_name, host);
    else
        snprintf(dst, WHO_MAX, "uid %ld@%.60s", (long)geteuid(), host);
}

/* ---- sessions ---- */

enum ctl_exit session_fail(const struct session *session, const struct obx_err *err)
{
    target_complain(session->target, err);
    return CTL_FAILED;
}

enum ctl_exit session_open(const struct ctl_args *args, enum schema_side side,
                           const struct target *(*choose)(const struct targets *targets),
                           struct session *out)
{
    struct obx_err err = {0};
    enum ctl_exit status;

    *out = (struct session){.args = args};
    status = targets_open(args, &out->targets);
    if (status != CTL_OK)
        return status;
    out->target = choose == NULL ? targets_single(&out->targets) : choose(&out->targets);
    if (out->target == NULL && choose != NULL)
        (void)targets_single(&out->targets); /* says why there is none */
    if (out->target == NULL)
        status = CTL_USAGE;
    else if ((out->db = target_connect(out->target)) == NULL)
        status = CTL_FAILED;
    else if (schema_check(out->db, side, &err) != OBX_OK)
        status = session_fail(out, &err);
    if (status != CTL_OK)
        session_close(out);
    return status;
}

void session_close(struct session *session)
{
    db_close(session->db);
    targets_close(&session->targets);
}
