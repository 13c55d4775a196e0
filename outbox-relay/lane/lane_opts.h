/* The defaults and limits of struct lane_opts: see lane.h. */
#ifndef LANE_OPTS_H
#define LANE_OPTS_H

#include "lane.h"

/** Zero becomes the default, and the database session gets the limits that the lease sets. */
void lane_opts_fill(struct lane_opts *opts);
/** OBX_E_INVALID, OBX_E_CONFIG. */
OBX_NODISCARD enum obx_code lane_opts_check(const struct lane_opts *opts, struct obx_err *err);

#endif
