-- Journal side, version 1: what a source has published, for `outboxctl reconcile`. Beside the outbox, where it is wanted.
-- Safe to run by hand and safe to run again.

-- Which migrations this database has. Several sides may live in one database and share this table.
CREATE TABLE IF NOT EXISTS rowpost_schema (
    side       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version    INT UNSIGNED NOT NULL,
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    applied_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (side, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- One row per message that the broker has confirmed, written by the relay in the transaction that removes it from the outbox.
CREATE TABLE IF NOT EXISTS outbox_journal (
    -- 0: the id begins with the time of created_at, as those that the outbox gives do, so that a range of time is a range of
    -- ids. 1: any other id.
    is_custom  BOOLEAN NOT NULL,
    -- Bytes, as in the consumers' inbox_applied, so that both are in the same order.
    message_id VARBINARY(255) NOT NULL,
    outbox     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    topic      VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    created_at DATETIME(6) NOT NULL,
    settled_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (is_custom, message_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO rowpost_schema (side, version, name)
SELECT 'journal', 1, 'journal_0001_journal' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM rowpost_schema WHERE side = 'journal' AND version = 1);
