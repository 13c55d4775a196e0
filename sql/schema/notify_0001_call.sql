-- Notify side, version 1: calls to HTTP endpoints, in the database in which inbox-relay consumes (beside the consumer side).
-- Safe to run by hand and safe to run again.

-- Which migrations this database has. Several sides may live in one database and share this table.
CREATE TABLE IF NOT EXISTS rowpost_schema (
    side       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version    INT UNSIGNED NOT NULL,
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    applied_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (side, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- One row per message and endpoint, written in the transaction in which the message is applied.
CREATE TABLE IF NOT EXISTS inbox_call (
    id             BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    endpoint       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state          ENUM('waiting', 'delivered', 'given_up') CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'waiting',
    -- When the row is next of interest: waiting: the next call; otherwise its removal, NULL: never.
    due_at         DATETIME(6) NULL,
    message_id     VARBINARY(255) NOT NULL,
    topic          VARBINARY(255) NOT NULL,
    ordering_key   VARBINARY(1020) NULL,
    content_type   VARBINARY(255) NULL,
    source         VARBINARY(1020) NULL,
    traceparent    VARBINARY(255) NULL,
    -- When the producer's database took the message, and when this row was made.
    created_at     DATETIME(6) NULL,
    recorded_at    DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    -- Calls made since the row was made or sent again, and what came of the last one.
    attempts       INT UNSIGNED NOT NULL DEFAULT 0,
    last_at        DATETIME(6) NULL,
    last_status    SMALLINT UNSIGNED NULL,
    last_error     VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    body           LONGBLOB NOT NULL,
    PRIMARY KEY (id),
    KEY due (consumer_group, endpoint, state, due_at),
    KEY message (message_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Endpoints that are or were paused. One that is not here is active.
CREATE TABLE IF NOT EXISTS inbox_endpoint (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    endpoint       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    is_paused      BOOLEAN NOT NULL DEFAULT 1,
    reason         VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
    changed_at     DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    changed_by     VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
    PRIMARY KEY (consumer_group, endpoint)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Which process of a group calls. Judged by the database's clock, UTC_TIMESTAMP(6), only.
CREATE TABLE IF NOT EXISTS inbox_lease (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    owner          VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
    -- Grows by one with each new owner; every write of an owner is made under its epoch.
    epoch          BIGINT UNSIGNED NOT NULL DEFAULT 0,
    acquired_at    DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    expires_at     DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    -- Where the owner's own HTTP pages are, host:port; NULL: nowhere.
    address        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- The owner's session. One that stands still inside its transaction holds this row; the next owner ends it.
    connection_id  BIGINT UNSIGNED NOT NULL DEFAULT 0,
    PRIMARY KEY (consumer_group)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO rowpost_schema (side, version, name)
SELECT 'notify', 1, 'notify_0001_call' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM rowpost_schema WHERE side = 'notify' AND version = 1);
