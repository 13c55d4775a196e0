-- Producer side, version 2: receipts, delayed messages. docs/receipts.md tells what they are for.
-- Safe to run by hand (mysql DATABASE < producer_0002_receipts.sql) and safe to run again. The changes of outbox and outbox_parked are
-- instant, whatever is in them; each waits for the transactions that use the table at that moment.

-- Outbox: which consumer groups have to report that they have applied the message, comma-separated; and the topic of the
-- message that makes up for one that a group has rejected. Both NULL: the broker's confirm is the end of it.
-- Neither server's ADD COLUMN can be repeated on both, hence the look. It needs a right on the columns, if only REFERENCES.
SET @obx_step = IF((SELECT COUNT(*) FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'outbox' AND column_name = 'receipt_from') > 0, 'DO 0',
    'ALTER TABLE outbox ADD COLUMN receipt_from VARCHAR(512) CHARACTER SET ascii COLLATE ascii_bin NULL, ADD COLUMN on_rejected VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, ALGORITHM = INSTANT');
PREPARE obx_step FROM @obx_step;
EXECUTE obx_step;
DEALLOCATE PREPARE obx_step;

SET @obx_step = IF((SELECT COUNT(*) FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'outbox_parked' AND column_name = 'receipt_from') > 0, 'DO 0',
    'ALTER TABLE outbox_parked ADD COLUMN receipt_from VARCHAR(512) CHARACTER SET ascii COLLATE ascii_bin NULL, ADD COLUMN on_rejected VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, ALGORITHM = INSTANT');
PREPARE obx_step FROM @obx_step;
EXECUTE obx_step;
DEALLOCATE PREPARE obx_step;

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

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO oncebox_schema (side, version, name)
SELECT 'producer', 2, 'producer_0002_receipts' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM oncebox_schema WHERE side = 'producer' AND version = 2);
