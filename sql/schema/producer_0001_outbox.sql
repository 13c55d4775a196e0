-- Producer side, version 1: outbox, parked messages, leases; receipts and delayed messages (docs/receipts.md).
-- Safe to run by hand (mysql DATABASE < producer_0001_outbox.sql) and safe to run again.
-- Needs MariaDB 10.6+ or MySQL 8.0.13+, and binlog_format ROW or MIXED if the binary log is on.

-- Which migrations this database has. Producer and consumer side may live in one database and share this table.
CREATE TABLE IF NOT EXISTS rowpost_schema (
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
    -- Text that is checked, and no JSON: MySQL's type would print its numbers and members in its own way.
    headers      LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL CHECK (JSON_VALID(headers)),
    content_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT 'application/json',
    payload      LONGBLOB NOT NULL,
    created_at   DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    -- Which consumer groups have to report that they have applied the message, comma-separated; and the topic of the message
    -- that makes up for one that a group has rejected. Both NULL: the broker's confirm is the end of it. docs/receipts.md
    receipt_from VARCHAR(512) CHARACTER SET ascii COLLATE ascii_bin NULL,
    on_rejected  VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
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
    attempts     INT UNSIGNED NOT NULL DEFAULT 0,
    -- 1: the row's ordering key is frozen, and later rows of the key are parked after this one.
    holds_key    BOOLEAN NOT NULL DEFAULT 0,
    -- The id of the parked row that this one waits for; NULL: it was parked for its own sake.
    blocked_by    BIGINT UNSIGNED NULL,
    -- What an operator asks for. Only the owner of the outbox's lease runs it.
    request      ENUM('resume', 'discard') CHARACTER SET ascii COLLATE ascii_bin NULL,
    requested_at DATETIME(6) NULL,
    requested_by VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    request_note VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- As in outbox.
    receipt_from VARCHAR(512) CHARACTER SET ascii COLLATE ascii_bin NULL,
    on_rejected  VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    PRIMARY KEY (parked_id),
    UNIQUE KEY outbox_id (outbox, id),
    -- The head of a frozen key is found beside any number of followers, and heads are read alone.
    KEY outbox_key (outbox, holds_key, ordering_key),
    -- What a person knows of a message is its id.
    KEY parked_message (message_id),
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
    -- The owner's session. One that stands still inside its transaction holds this row; the next owner ends it.
    connection_id BIGINT UNSIGNED NOT NULL DEFAULT 0,
    PRIMARY KEY (outbox)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Relays that share the lanes of this database among themselves ([relay] share). Decides nothing: only a lease makes an owner.
CREATE TABLE IF NOT EXISTS outbox_relay (
    -- As owner in outbox_lease.
    relay       VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    -- The outbox tables that it drains, in order, comma-separated. Relays with the same list share.
    outboxes    MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version     VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    address     VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    weight      INT UNSIGNED NOT NULL,
    started_at  DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    -- Gone, if not renewed until then.
    expires_at  DATETIME(6) NOT NULL,
    PRIMARY KEY (relay)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Messages that the broker has confirmed and that have not been applied yet, as far as their producer knows. Sent again when
-- next_send_at is over.
CREATE TABLE IF NOT EXISTS outbox_awaiting (
    message_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- The outbox table the row came from, and its id there.
    outbox       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    id           BIGINT UNSIGNED NOT NULL,
    topic        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    ordering_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    headers      LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    content_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    payload      LONGBLOB NOT NULL,
    created_at   DATETIME(6) NOT NULL,
    receipt_from VARCHAR(512) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    on_rejected  VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- How often the broker has confirmed it, and when last.
    sends        INT UNSIGNED NOT NULL DEFAULT 1,
    sent_at      DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    next_send_at DATETIME(6) NOT NULL,
    PRIMARY KEY (message_id),
    KEY due (outbox, next_send_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- What consumer groups have reported; the first report of a group counts. Kept for the relay's receipt_retention; an application
-- may read it. The row with consumer_group = '' says that the message was rejected and that its compensation was set off.
CREATE TABLE IF NOT EXISTS outbox_receipt (
    message_id     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    outcome        ENUM('applied', 'rejected') CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    reason         VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    received_at    DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (message_id, consumer_group)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Messages for later: a row of an outbox that is moved there when deliver_at is over by the database's clock. Until then
-- deleting it cancels it.
CREATE TABLE IF NOT EXISTS outbox_delayed (
    id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    message_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT (
        LOWER(INSERT(INSERT(INSERT(CONCAT(
            LPAD(HEX((UNIX_TIMESTAMP() * 1000 + MICROSECOND(UTC_TIMESTAMP(6)) DIV 1000) * 65536 + 28672
                + MICROSECOND(UTC_TIMESTAMP(6)) MOD 1000 * 4 + (RAND() < 0)), 16, '0'),
            '-a',
            RIGHT(HEX(UUID_SHORT()), 8),
            RIGHT(HEX(268435456 + FLOOR(RAND() * 268435456)), 7)),
            22, 0, '-'), 13, 0, '-'), 9, 0, '-'))),
    -- The outbox table it goes to.
    outbox       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'outbox',
    topic        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    ordering_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- As in outbox.
    headers      LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL CHECK (JSON_VALID(headers)),
    content_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT 'application/json',
    payload      LONGBLOB NOT NULL,
    created_at   DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    receipt_from VARCHAR(512) CHARACTER SET ascii COLLATE ascii_bin NULL,
    on_rejected  VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- UTC.
    deliver_at   DATETIME(6) NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY message_id (message_id),
    KEY due (outbox, deliver_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- What the tokens of receipts are made with. The relay makes the first row; a further one with a higher version takes over for
-- new messages, and tokens of the earlier ones stay good for as long as their rows are there.
CREATE TABLE IF NOT EXISTS outbox_secret (
    version    INT UNSIGNED NOT NULL,
    secret     VARBINARY(64) NOT NULL,
    created_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- What operators have ended: one row for each message that was discarded, written in the transaction that removes it. Kept for a
-- year; the relay removes older rows when it writes new ones.
CREATE TABLE IF NOT EXISTS outbox_audit (
    audit_id     BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    done_at      DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    action       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Who asked for it, and why.
    actor        VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    note         VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    outbox       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    id           BIGINT UNSIGNED NOT NULL,
    message_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    topic        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    ordering_key VARBINARY(1020) NULL,
    -- Why it had been parked.
    reason_code  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    PRIMARY KEY (audit_id),
    KEY audit_message (message_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- What was done with the relay's console: one row for each action, written before it is done; what came of it is added
-- afterwards. Kept for a year; older rows are removed when new ones are written.
CREATE TABLE IF NOT EXISTS outbox_action (
    audit_id     BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    done_at      DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    actor        VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    role         VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    action       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- The source or consumer whose rows it is about, and which rows: ids, or the filters and the last id.
    place        VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    what         VARCHAR(2048) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    note         VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    -- Rows that were meant; what came of them, NULL: the console does not know (it was cut off).
    found        BIGINT UNSIGNED NOT NULL,
    done         BIGINT UNSIGNED NULL,
    requested    BIGINT UNSIGNED NULL,
    refused      BIGINT UNSIGNED NULL,
    ended_at     DATETIME(6) NULL,
    PRIMARY KEY (audit_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO rowpost_schema (side, version, name)
SELECT 'producer', 1, 'producer_0001_outbox' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM rowpost_schema WHERE side = 'producer' AND version = 1);
