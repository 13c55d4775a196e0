-- Producer side, version 1: outbox, parked, lease.
-- Safe to run by hand (mysql DATABASE < producer_0001_outbox.sql) and safe to run again.
-- Needs MariaDB 10.6+ or MySQL 8.0.13+, and binlog_format ROW or MIXED if the binary log is on.

-- Messages not yet confirmed by the broker. A row's presence means "to be delivered".
-- An application names topic and payload; everything else has a default.
CREATE TABLE IF NOT EXISTS outbox (
    id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    -- UUID version 7: milliseconds since 1970, microseconds within it, 60 bits from a hash of UUID() and RAND().
    -- Time-ordered, so that the consumers' dedup inserts append; never given twice, not even after a restore or a truncate.
    message_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT (
        INSERT(INSERT(INSERT(INSERT(LOWER(CONCAT(
            LPAD(HEX(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000), 12, '0'),
            '7',
            LPAD(HEX((MICROSECOND(UTC_TIMESTAMP(6)) MOD 1000) * 4), 3, '0'),
            'a',
            LEFT(SHA2(CONCAT(UUID(), RAND()), 256), 15))),
            21, 0, '-'), 17, 0, '-'), 13, 0, '-'), 9, 0, '-')),
    topic        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    -- Messages of one key keep their order; NULL: no order asked for.
    ordering_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- A JSON object of application headers; traceparent goes here too.
    headers      JSON NULL,
    content_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT 'application/json',
    payload      LONGBLOB NOT NULL,
    created_at   DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
