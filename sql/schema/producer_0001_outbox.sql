-- Producer side, version 1: outbox, parked messages, leases.
-- Safe to run by hand (mysql DATABASE < producer_0001_outbox.sql) and safe to run again.
-- Needs MariaDB 10.6+ or MySQL 8.0.13+, and binlog_format ROW or MIXED if the binary log is on.

-- Which migrations this database has. Producer and consumer side may live in one database and share this table.
CREATE TABLE IF NOT EXISTS oncebox_schema (
    side       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version    INT UNSIGNED NOT NULL,
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    applied_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (side, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Messages not yet confirmed by the broker. A row's presence means "to be delivered".
-- An application names topic and payload; everything else has a default.
CREATE TABLE IF NOT EXISTS outbox (
    id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    -- UUID version 7: milliseconds since 1970, four times the microseconds within, 32 bits of the server's UUID_SHORT()
    -- counter, 28 random bits. The counter makes it unique within a server, and rows of one statement ordered; the time
    -- makes it never come again after a restore or a truncate, and keeps the consumers' dedup inserts appending.
    -- (RAND() < 0) is 0: without it MariaDB takes the time for a constant and keeps that of the table's first use.
    message_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT (
        LOWER(INSERT(INSERT(INSERT(CONCAT(
            LPAD(HEX((UNIX_TIMESTAMP() * 1000 + MICROSECOND(UTC_TIMESTAMP(6)) DIV 1000) * 65536 + 28672
                + MICROSECOND(UTC_TIMESTAMP(6)) MOD 1000 * 4 + (RAND() < 0)), 16, '0'),
            '-a',
            RIGHT(HEX(UUID_SHORT()), 8),
            RIGHT(HEX(268435456 + FLOOR(RAND() * 268435456)), 7)),
            22, 0, '-'), 13, 0, '-'), 9, 0, '-'))),
    topic        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    -- Messages of one key keep their order; NULL: no order asked for.
    ordering_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- A JSON object of application headers; traceparent goes here too.
    -- Text that is looked at, and no JSON: MySQL's type would print its numbers and members in its own way.
    headers      LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL CHECK (JSON_VALID(headers)),
    content_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT 'application/json',
    payload      LONGBLOB NOT NULL,
    created_at   DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Messages given up for now, with the reason: rows of outbox tables that the relay moved here. Never deleted by itself.
CREATE TABLE IF NOT EXISTS outbox_parked (
    parked_id    BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    -- The outbox table the row came from, and its id there.
    outbox       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    id           BIGINT UNSIGNED NOT NULL,
    message_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    topic        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    ordering_key VARBINARY(1020) NULL,
    -- As text, because they may be malformed.
    headers      LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    content_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    payload      LONGBLOB NOT NULL,
    created_at   DATETIME(6) NOT NULL,
    parked_at    DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    reason_code  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    reason       VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
    tries        INT UNSIGNED NOT NULL DEFAULT 0,
    -- 1: the row's ordering key is frozen, and later rows of the key are parked behind this one.
    holds_key    BOOLEAN NOT NULL DEFAULT 0,
    -- The id of the parked row that this one waits behind; NULL: it was parked for its own sake.
    behind_id    BIGINT UNSIGNED NULL,
    -- What an operator wants done. Only the owner of the outbox's lease carries it out.
    request      ENUM('resume', 'discard') CHARACTER SET ascii COLLATE ascii_bin NULL,
    requested_at DATETIME(6) NULL,
    requested_by VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    request_note VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    PRIMARY KEY (parked_id),
    UNIQUE KEY outbox_id (outbox, id),
    KEY outbox_key (outbox, ordering_key),
    KEY outbox_request (outbox, request)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Which relay drains an outbox table. Judged by the database's clock, UTC_TIMESTAMP(6), only.
CREATE TABLE IF NOT EXISTS outbox_lease (
    outbox      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    owner       VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
    -- Grows by one with each new owner; every write of an owner is made under its epoch.
    epoch       BIGINT UNSIGNED NOT NULL DEFAULT 0,
    acquired_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    expires_at  DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    -- Where the owner hears doorbells, host:port; NULL: nowhere but on its own host.
    address     VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    PRIMARY KEY (outbox)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO oncebox_schema (side, version, name)
SELECT 'producer', 1, 'producer_0001_outbox' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM oncebox_schema WHERE side = 'producer' AND version = 1);
