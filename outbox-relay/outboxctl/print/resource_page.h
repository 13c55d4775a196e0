/*
 * The commands that every resource has: list and show, and what they and requests ask of a command
 * line. subject is the resource.
 */
#ifndef CTL_RESOURCE_PAGE_H
#define CTL_RESOURCE_PAGE_H

#include "ops/resource.h"
#include "outboxctl/target.h"

/** session_open for the commands of a resource. */
enum ctl_exit resource_open(const struct ctl_args *args, const struct resource *resource,
                            struct session *out);
/** As resource_state and resource_key_is_valid, with a word on stderr when it is false. */
bool takes_state(const struct ctl_args *args, const struct resource *resource, const char **state);
bool takes_key(const struct ctl_args *args, const struct resource *resource, const char *text);

enum ctl_exit resource_list(const struct ctl_args *args);
enum ctl_exit resource_show(const struct ctl_args *args);

#endif
