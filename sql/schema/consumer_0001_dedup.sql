-- Consumer side, version 1: the messages already applied.
-- Safe to run by hand (mysql DATABASE < consumer_0001_dedup.sql) and safe to run again.
-- Needs MariaDB 10.6+ or MySQL 8.0.13+, and binlog_format ROW or MIXED if the binary log is on.

-- Which migrations this database has. Producer and consumer side may live in one database and share this table.
CREATE TABLE IF NOT EXISTS oncebox_schema (
    side       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version    INT UNSIGNED NOT NULL,
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    applied_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (side, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- One row per message that a consumer group has applied, written in the transaction of the handler's own writes.
-- Bytes, so that no collation can take two ids for one. No secondary index: retention walks the primary key.
CREATE TABLE IF NOT EXISTS obx_dedup (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    message_id     VARBINARY(255) NOT NULL,
    applied_at     DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (consumer_group, message_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO oncebox_schema (side, version, name)
SELECT 'consumer', 1, 'consumer_0001_dedup' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM oncebox_schema WHERE side = 'consumer' AND version = 1);
