-- Half-message side, version 1: goes into the database of a source, beside its outbox, because a verdict and the outbox rows it
-- makes are one transaction. See docs/half-messages.md for the statements an application may use itself.
-- Safe to run by hand and safe to run again.

-- Which migrations this database has. Producer and consumer side may live in one database and share this table.
CREATE TABLE IF NOT EXISTS rowpost_schema (
    side       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version    INT UNSIGNED NOT NULL,
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    applied_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (side, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- One half-message: what a producer prepared, waiting for its verdict. Rows that are decided stay for the retention, so that
-- a repeated request gets the same answer and an opposite one is refused.
CREATE TABLE IF NOT EXISTS half_message (
    gid             VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- the caller's own id
    producer        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,  -- a [producer NAME] of the relay's configuration
    state           ENUM('prepared', 'committed', 'rolled_back', 'parked') NOT NULL DEFAULT 'prepared',
    digest          BINARY(32) NULL, -- SHA-256 of the content as given; NULL: prepared by plain SQL
    prepared_at     DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    next_check_at   DATETIME(6) NULL DEFAULT (UTC_TIMESTAMP(6) + INTERVAL 60 SECOND), -- NULL: no check is due, decided or parked
    checks_asked    INT UNSIGNED NOT NULL DEFAULT 0, -- times the producer was asked, whatever came of it
    checks_answered INT UNSIGNED NOT NULL DEFAULT 0, -- answers received that decided nothing; only these count as tries
    decided_at      DATETIME(6) NULL,
    decided_by      VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, -- producer, check, barrier, operator:NAME
    note            VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, -- why parked, or why an operator decided
    PRIMARY KEY (gid),
    -- One index for the checks that are due (one producer's are found without passing over another's), for lists and for counts.
    KEY due (state, producer, next_check_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- The messages to send on one verdict or the other; moved to the outbox or dropped when it is given.
CREATE TABLE IF NOT EXISTS half_part (
    gid          VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    verdict      ENUM('commit', 'rollback') NOT NULL DEFAULT 'commit',
    seq          SMALLINT UNSIGNED NOT NULL DEFAULT 0,
    -- As in outbox: given here, so that the message keeps it whenever the verdict comes.
    message_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT (
        LOWER(INSERT(INSERT(INSERT(CONCAT(
            LPAD(HEX((UNIX_TIMESTAMP() * 1000 + MICROSECOND(UTC_TIMESTAMP(6)) DIV 1000) * 65536 + 28672
                + MICROSECOND(UTC_TIMESTAMP(6)) MOD 1000 * 4 + (RAND() < 0)), 16, '0'),
            '-a',
            RIGHT(HEX(UUID_SHORT()), 8),
            RIGHT(HEX(268435456 + FLOOR(RAND() * 268435456)), 7)),
            22, 0, '-'), 13, 0, '-'), 9, 0, '-'))),
    topic        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    ordering_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- As in outbox.
    headers      LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL CHECK (JSON_VALID(headers)),
    content_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT 'application/json',
    payload      LONGBLOB NOT NULL,
    -- As in outbox.
    receipt_from VARCHAR(512) CHARACTER SET ascii COLLATE ascii_bin NULL,
    on_rejected  VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    PRIMARY KEY (gid, verdict, seq)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- What was asked and answered, and what operators did. Not written by prepare and by the producer's own verdict.
CREATE TABLE IF NOT EXISTS half_history (
    id     BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    gid    VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    at     DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    event  VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- asked, verdict, conflict, parked, resumed
    actor  VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    detail VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    PRIMARY KEY (id),
    KEY by_gid (gid, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO rowpost_schema (side, version, name)
SELECT 'half', 1, 'half_0001_half' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM rowpost_schema WHERE side = 'half' AND version = 1);
